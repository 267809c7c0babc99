"""``python -m pipeline`` is ``gait``, with the code of the folder that it is run in."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
