"""The exceptions that a user is meant to read: one line each, without a traceback."""


class InputError(ValueError):
    """What was asked for cannot be done: one line that says what is wrong and what would be right.

    `harness.cli.main` prints it and exits with code 2, without a traceback.
    """


class Diverged(ArithmeticError):
    """A training's numbers are no longer finite: the step, and the last good checkpoint. Exit code 1."""


class FailedElsewhere(RuntimeError):
    """A failure in another process, which has said why: the message is the reason, with its rank."""


class Pruned(Exception):
    """A study has stopped a training that is no longer promising. No error: its run is closed as KILLED."""
