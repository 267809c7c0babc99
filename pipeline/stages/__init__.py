"""One DVC stage a file; each is also a command of ``gait``."""
