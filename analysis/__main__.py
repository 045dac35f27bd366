"""python -m analysis: the questions, a line each, and the command that answers each."""

import ast
from pathlib import Path

from harness import cli


def main() -> None:
    """List the questions, and the command that answers each."""
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        text = path.read_text(encoding="utf-8")
        if "cli.main(main)" in text:
            print(f"python -m analysis.{path.stem:<16} {str(ast.get_docstring(ast.parse(text))).splitlines()[0]}")


if __name__ == "__main__":
    cli.main(main)
