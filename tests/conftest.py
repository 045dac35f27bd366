"""What the tests share: a project folder of their own with a migrated store, and runs as a user types them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store without a run, to be copied: making one takes seconds."""
    from harness.tracking import client

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> str:
    """The address of a store of its own, in the test's folder."""
    (tmp_path / "outputs").mkdir(exist_ok=True)
    shutil.copy(empty_store, tmp_path / "outputs" / "mlflow.db")
    return f"sqlite:///{tmp_path}/outputs/mlflow.db"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[None]:
    """The agent of the test's folder, forked: a run would start one by itself, in seconds."""
    with processes.agent(tmp_path):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """A folder to start experiments in, with an empty store and an agent."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "outputs").mkdir()
    shutil.copy(empty_store, folder / "outputs" / "mlflow.db")
    with processes.agent(folder):
        yield folder


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def forked(place: Path) -> Launch:
    """The same without the seconds of imports, for experiments: see processes.py."""

    def start(script: str, *flags: str) -> subprocess.CompletedProcess:
        (code,) = processes.wait(processes.start(place, script.removeprefix("experiments/"), *flags))
        assert code is not None
        return subprocess.CompletedProcess([script, *flags], code, *processes.said(place))

    return start
