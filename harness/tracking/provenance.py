"""Where a run comes from: code, command, packages and machine."""

import functools
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path


def tags() -> dict[str, str | bool]:
    """Git state, command and host, under MLflow's own names where it has them."""
    return {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": _git("rev-parse", "HEAD") or "unknown",
        "mlflow.source.git.branch": _git("rev-parse", "--abbrev-ref", "HEAD") or "unknown",
        "git_dirty": bool(diff()),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "host": platform.node(),
    }


def diff() -> str:
    """What the working tree has changed against the commit; empty where it is clean."""
    return _git("diff", "HEAD")


def version() -> str:
    """Of the harness as it is installed; a source folder that is not has none."""
    try:
        return importlib.metadata.version("synthetic-gain")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def packages() -> str:
    """Python and every installed distribution, a line each."""
    every = (
        found.metadata for found in importlib.metadata.distributions()
    )  # each asked for once, as it is parsed anew
    versions = sorted({f"{of['Name']}=={of['Version']}" for of in every})
    return "\n".join([f"python=={platform.python_version()}", *versions])


@functools.cache  # the state at the process's first run: what it has imported, not what is edited meanwhile
def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, check=True,
            text=True, encoding="utf-8", errors="backslashreplace",
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
