"""``python -m pipeline`` and ``gait``: the same command."""

import sys


def main() -> None:
    """Runs the command, or says what is not installed."""
    try:
        from pipeline.cli import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("gaitprop", "pipeline"):
            raise
        # The library alone needs torch and nothing else; its wheel brings this command too.
        print(
            f"gait: the package {error.name} is not installed; the experiments need more than the"
            " library: pip install 'gait[pipeline]'",
            file=sys.stderr,
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
