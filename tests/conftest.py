"""What the tests share: a project folder of their own with a migrated store, and runs as a user types them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Launch = Callable[..., subprocess.CompletedProcess]


def environment(**more: str) -> dict[str, str]:
    """A clean environment: no settings of the caller's MLflow or launcher reach the processes under test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "ACCELERATE_"))}
    # One thread a process: several run at once, and threads that wait for each other's cores cost minutes.
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to start experiments in; its store is made once, by the first run."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="session")
def launch(place: Path) -> Launch:
    """`launch("experiments/vae.py", "--steps", "5")`: a real process in `place`, its output captured."""

    def start(*command: str, prefix: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess:
        program = [*prefix, str(ROOT / command[0])] if command[0].endswith(".py") else list(command[:1])
        python = [] if prefix else [sys.executable]
        return subprocess.run(
            [*python, *program, *command[1:]],
            cwd=place,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return start
