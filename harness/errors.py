"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """What was asked for cannot be done: one line that says what is wrong and what would be right.

    `harness.cli.main` prints it and exits with code 2, without a traceback.
    """
