"""Where everything lies that a command makes."""

from pathlib import Path

OUTPUTS = Path("outputs")
