"""What the tests share: a project folder of their own with a migrated store, and runs as a user types them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # two workers' threads that wait for each other's cores cost minutes

import processes
import pytest
from processes import ROOT, environment

Launch = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(autouse=True)
def _outputs_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run in the test's own process writes does not land in the caller's folder."""
    monkeypatch.chdir(tmp_path)


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


@pytest.fixture(scope="session")
def forked(place: Path) -> Launch:
    """The same without the seconds of imports, for experiments: see processes.py."""

    def start(script: str, *flags: str) -> subprocess.CompletedProcess:
        (code,) = processes.wait(processes.start(place, script.removeprefix("experiments/"), *flags))
        assert code is not None
        return subprocess.CompletedProcess([script, *flags], code, *processes.said(place))

    return start
