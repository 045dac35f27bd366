"""Where everything lies that a command makes."""

from pathlib import Path

OUTPUTS = Path("outputs")


def as_part(name: str) -> str:
    """A name that a user has given, as one part of a path: a place inside the folder into which it is put."""
    return name.replace("/", "_").lstrip(".") or "_"
