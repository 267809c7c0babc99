"""The one exception that a user is meant to read."""


class GaitError(Exception):
    """Something the user can put right: one clear sentence, no traceback, exit code 2."""
