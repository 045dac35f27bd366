"""What the tests share: a project folder of their own with a migrated store, and runs as a user types them."""

import functools
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers' threads that wait for each other's cores cost minutes
os.environ.setdefault("no_proxy", "127.0.0.1,localhost")  # urllib keeps the proxies that it finds first for ever

import counted
import fuzz
import processes
import pytest
from processes import ROOT, environment

from analysis import pages
from harness import cli, locks

gc.set_threshold(cli.RARELY)
pages.DPI = 30  # pictures that nobody looks at take a fifth of the time

Launch = Callable[..., subprocess.CompletedProcess]


LONGEST = ["experiments", "tuning", "server", "study_workers", "faults", "stores", "doors_bytes",
           "shipping", "methods", "doors_pages", "engine"]  # fmt: skip
LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that no worker waits for another one's at the end."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return [*LONGEST, name].index(name)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is imported by now stays, and no collection needs to go through it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is left at the end would be told as leaked


def pytest_deselected(items: list[pytest.Item]) -> None:
    if long := [item for item in items if item.get_closest_marker("long")]:
        getattr(long[0].config, "workeroutput", {})["left out"] = len(long)


def pytest_testnodedown(node: Any) -> None:
    if output := getattr(node, "workeroutput", None):  # which one that has crashed has not
        node.config.stash[LEFT_OUT] = output.get("left out", 0)  # the same in each worker


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} long tests were left out: make soak runs them")
    for report in terminalreporter.stats.get("passed", ()):
        numbers = [number for name, number in report.user_properties if name == fuzz.TRIED]
        if numbers and "long" in report.keywords:
            seed, test = config.getoption("hypothesis_seed") or 0, report.nodeid.partition("[")[0]
            counted.record(test, f"{sum(numbers):,}", seed, report.duration)


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    """What a test draws with torch is the same on every run: one in a hundred random networks is an odd one."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _outputs_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run in the test's own process writes does not land in the caller's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def empty_outputs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder `outputs` to be copied: a store without a run and the digits' judge, which take seconds to make.

    Made once for all test workers.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "outputs"
    with locks.held(shared.with_suffix(".lock"), 300):
        if not shared.exists():
            made = processes.server().Process(target=processes.fill, args=(shared,))
            made.start()
            assert processes.wait([made]) == [0]
    return shared


LONG = (pytest.mark.long, pytest.mark.timeout(7200))


@pytest.fixture(params=[pytest.param(fuzz.FEW, id="few"), pytest.param(fuzz.MANY, id="many", marks=LONG)])
def fuzzed(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """`fuzzed(samples, check)`: `check` 300 changed samples, 100,000 in `make soak`."""

    def each(samples: Sequence[bytes], check: Callable[[bytes], object]) -> None:
        record_property(fuzz.TRIED, request.param)
        fuzz.each(samples, request.param, check)

    return each


@pytest.fixture
def store(empty_outputs: Path, tmp_path: Path) -> str:
    """The address of a store of its own, in the test's folder."""
    shutil.copytree(empty_outputs, tmp_path / "outputs", dirs_exist_ok=True)
    return f"sqlite:///{tmp_path}/outputs/mlflow.db"


@pytest.fixture(scope="module")
def files_store(empty_outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty store, mlflow.db, for all tests of a file."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_outputs / "mlflow.db", folder)
    return folder


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[None]:
    """The agent of the test's folder, forked: a run would start one by itself, in seconds."""
    with processes.agent(tmp_path):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_outputs: Path) -> Iterator[Path]:
    """A folder to start experiments in, with an empty store, the judge and an agent."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(empty_outputs, folder / "outputs")
    with processes.agent(folder):
        yield folder


@pytest.fixture(scope="module")
def launch(place: Path) -> Launch:
    """`launch("experiments/vae.py", "--steps", "5")`: a real process in `place`, its output captured."""

    def start(*command: str, **more: str) -> subprocess.CompletedProcess:
        program = str(ROOT / command[0]) if command[0].endswith(".py") else command[0]
        return subprocess.run(
            [sys.executable, program, *processes.quick(*command)],
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
    """`forked("vae.py", "--steps", "5")`: the same without the seconds of imports, see processes.py."""
    return functools.partial(processes.run, place)
