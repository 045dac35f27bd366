"""Engines: in order, on a cluster of this process, and on one that is there already, with real processes."""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import psutil
import pytest
from distributed import Client
from small_tasks import adds, asks, dies, holds, is_overtaken, raises, waits_for_its_end

from harness.engine import cluster, engines, opening
from harness.engine.engines import Engine
from harness.engine.tasks import Ending, Task
from harness.engine.workers import WorkerSettings
from harness.errors import InputError
from harness.tracking import stores

NOBODY = 65534
AT_WORK = ("--nthreads", "2", "--no-nanny", "--memory-limit", "0", "--death-timeout", "60")
Open = Callable[..., contextlib.AbstractContextManager[Engine]]


@pytest.fixture(autouse=True, scope="module")
def _nothing_of_other_files() -> None:
    """The collections below go through what this file makes, and not through all that is imported."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _clients_of_refused_clusters() -> Iterator[None]:
    """Python takes them apart now, not while the next test's client begins: Dask's lock of loops is not reentrant."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler's file: a cluster of one worker with two slots, in processes of their own and a folder of theirs."""
    with started(tmp_path_factory.mktemp("cluster")) as file:
        yield file


@contextlib.contextmanager
def started(folder: Path, *both: str, worker: tuple[str, ...] = ()) -> Iterator[str]:
    """With flags for scheduler and worker, and for the worker alone."""
    file = folder / "scheduler.json"
    both = ("--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1", *both)
    (scheduler,) = processes.start(folder, "dask", "scheduler", *both, "--port", "0")
    workers = folder / "worker"
    workers.mkdir()
    try:
        processes.until(lambda: file.exists() and file.read_text().endswith("}"))
        (working,) = processes.start(workers, "dask", "worker", *both, *AT_WORK, *worker)
        try:
            yield str(file)
        finally:
            processes.kill(working, signal.SIGTERM)
            processes.wait([working])
    finally:
        processes.kill(scheduler, signal.SIGTERM)
        processes.wait([scheduler])


@pytest.fixture(params=["in order", "of this process", "elsewhere"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens an engine for a settings with these retries and so on."""
    processes.server()  # which has all imports already: tasks come from it
    if request.param == "elsewhere":
        monkeypatch.setenv(stores.VARIABLE, "http://127.0.0.1:1")  # a worker does not see a file's store
        own: dict[str, Any] = {"cluster": request.getfixturevalue("elsewhere")}
    else:
        own = {"workers": 1 if request.param == "in order" else 2}
    return lambda **more: opening.open_engine(WorkerSettings(**own | more))


def endings(workers: Engine, hear: engines.Hear = lambda *_: False) -> dict[str, Ending]:
    return dict(workers.endings(hear))


# --- What is submitted -----------------------------------------------------------------------------------


def tries(folder: Path) -> int:
    return len((folder / "tries").read_text())


def test_a_task_gets_what_it_needs_and_each_is_done_once(opened: Open) -> None:
    with opened() as workers:
        workers.submit("one", Task(adds, (1,)))
        workers.submit("two", Task(adds, (2,)))
        workers.submit("three", Task(adds, (2,)), needs="one")
        found = [(name, ending.state, ending.value) for name, ending in workers.endings(lambda *_: False)]
    assert sorted(found) == [("one", "done", 1), ("three", "done", 3), ("two", "done", 2)]


def test_others_are_submitted_as_tasks_end(opened: Open) -> None:
    with opened() as workers:
        workers.submit("0", Task(adds, (0,)))
        names = []
        for name, _ in workers.endings(lambda *_: False):
            names.append(name)
            if len(names) < 4:
                workers.submit(str(len(names)), Task(adds))
    assert names == ["0", "1", "2", "3"]


def test_what_fails_is_not_tried_again_and_what_needs_it_fails_too(opened: Open, tmp_path: Path) -> None:
    with opened(retries=2) as workers:
        workers.submit("first", Task(raises, (tmp_path,)))
        workers.submit("second", Task(adds, (1,)), needs="first")
        found = endings(workers)
    assert (found["first"].state, found["first"].reason) == ("failed", "ValueError: no such thing")
    assert found["second"].state == "failed"
    assert found["second"].reason == "what it needs has no result: ValueError: no such thing"
    assert tries(tmp_path) == 1


@pytest.mark.parametrize(("times", "state", "tried"), [(1, "done", 2), (9, "died", 3)])
def test_what_dies_is_tried_again(
    times: int, state: str, tried: int, opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(retries=2) as workers:
        workers.submit("only", Task(dies, (tmp_path, times)))
        (ending,) = endings(workers).values()
    assert ending.state == state
    assert tries(tmp_path) == tried
    reason = "its process ended with SIGKILL and gave no reason"
    assert state == "done" or ending.reason == reason
    assert capsys.readouterr().err.count(f"only: {reason}\n") == min(times, tried)


def test_the_driver_hears_each_task_and_answers_it(opened: Open) -> None:
    heard: list[Any] = []

    def hear(name: str, words: tuple[Any, ...]) -> bool:
        heard.append((name, words))
        return name == "a"

    with opened() as workers:
        for name in "ab":
            workers.submit(name, Task(asks, (name,)))
        found = endings(workers, hear)
    for name in "ab":
        own = [words for of, words in heard if of == name]
        assert own == [("run", f"run of {name}"), ("report", 1, 0.5), ("ask",)]
    assert {name: (ending.value, ending.run) for name, ending in found.items()} == {
        "a": (True, "run of a"), "b": (False, "run of b"),
    }  # fmt: skip


def test_tasks_end_with_the_block_after_their_step(opened: Open, tmp_path: Path) -> None:
    def hear(name: str, words: tuple[Any, ...]) -> bool:
        raise KeyboardInterrupt

    def drive() -> None:
        with opened() as workers:
            workers.submit("only", Task(waits_for_its_end, (tmp_path,)))
            endings(workers, hear)

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert (tmp_path / "ended").exists()


# --- Where it runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "number", "devices"),
    [
        ({"workers": 2}, 2, ["4", "7"]),
        ({"workers": 4, "slots_per_device": 2}, 4, ["4", "4", "7", "7"]),
        pytest.param({"workers": 1, "processes_per_trial": 2}, 1, ["4,7"], marks=pytest.mark.long),
    ],
)
def test_a_slot_has_its_device(
    how: dict[str, int], number: int, devices: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("PYTHONPATH", f"{processes.ROOT}:{Path(__file__).parent}")
    settings = WorkerSettings(**how)  # type: ignore[arg-type]
    settings.check()
    held = tmp_path / "held"
    held.mkdir()
    with opening.open_engine(settings) as workers:
        for name in range(number):
            workers.submit(str(name), Task(holds, (held, number), settings.processes_per_trial))
        found = endings(workers)
    assert sorted(ending.value for ending in found.values()) == devices


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"workers": 3}, "--workers 3 with --processes-per-trial 1 need more than the 2 GPUs that are here"),
        ({"processes_per_trial": 3, "slots_per_device": 2}, "--processes-per-trial 3 must be at most the number of"),
    ],
)
def test_more_than_the_devices_that_are_here_is_refused(
    how: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pytest.raises(InputError, match=message):
        WorkerSettings(**how).check()  # type: ignore[arg-type]


def test_another_user_of_this_machine_finds_no_door() -> None:
    """But one on the loopback, where Dask would show its pages, and nothing is behind it."""
    assert os.getuid() == 0, "another user can be tried by root alone"
    before = doors()
    with opening.open_engine(WorkerSettings(workers=2)) as workers:
        workers.submit("only", Task(adds))
        endings(workers)
        opened = doors() - before
        for page in ("/", "/status", "/json/identity.json", "/health", "/metrics", "/info/main/workers.html"):
            for host, port in (place for kind, place in opened if kind == "inet"):
                assert host == "127.0.0.1"
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(f"http://{host}:{port}{page}")
        # The fork server's, which an earlier test may have started, and whatever was opened now.
        paths = {place for kind, place in doors() if kind == "unix" and "/listener-" in place}
        assert paths
        for path in paths | {place for kind, place in opened if kind == "unix"}:
            assert not opens(path, NOBODY), path
    with socket.socket(socket.AF_UNIX) as door:  # which has no file, so that whoever knows its name may come
        door.bind(f"\0open to all {os.getpid()}")
        door.listen()
        assert opens(door.getsockname().decode(), NOBODY)


def opens(path: str, user: int) -> bool:
    """Whether a user may connect to a socket: tried by a fork, since the interpreter may be closed to others."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(path)
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def doors() -> set[tuple[str, Any]]:
    """The doors of this process and of those it has started."""
    own = psutil.Process()
    found = set()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {("inet", each.laddr) for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
            found |= {("unix", each.laddr) for each in process.net_connections("unix") if each.laddr}
    return found


def test_one_process_of_a_folder_drives_a_study() -> None:
    with engines.hold_driver_lock("study of tests"):
        with (
            pytest.raises(InputError, match="the study of tests is being carried out by another process"),
            engines.hold_driver_lock("study of tests"),
        ):
            pass
        with engines.hold_driver_lock("another study"):
            pass
    with engines.hold_driver_lock("study of tests"):
        pass


# --- Clusters that cannot be used ------------------------------------------------------------------------


def refused(settings: WorkerSettings) -> str:
    with pytest.raises(InputError) as error, opening.open_engine(settings):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:1", "nowhere.json", "http://127.0.0.1:1", "tcp://no.such.host:1"])
def test_a_cluster_that_does_not_answer_is_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_S", 1)
    assert f"--cluster {place} does not answer" in refused(WorkerSettings(cluster=place))


def test_a_cluster_that_is_lost_is_said_and_its_tasks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stores.VARIABLE, "http://127.0.0.1:1")

    def hear(name: str, words: tuple[Any, ...]) -> bool:
        own = psutil.Process().children(recursive=True)
        scheduler = [each for each in own if str(tmp_path / "rank0.out") in [file.path for file in each.open_files()]]
        scheduler[0].kill()
        return False

    with started(tmp_path) as file, opening.open_engine(WorkerSettings(cluster=file)) as workers:
        workers.submit("only", Task(waits_for_its_end, (tmp_path,)))
        with pytest.raises(InputError, match=f"--cluster {file} is gone"):
            endings(workers, hear)
        processes.until(lambda: (tmp_path / "ended").exists())


def test_a_worker_that_was_overtaken_ends_its_task_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped so long that the scheduler took it for dead, and had its task done by another one."""
    monkeypatch.setenv(stores.VARIABLE, "http://127.0.0.1:1")
    stopped: list[psutil.Process] = []

    def hear(name: str, words: tuple[Any, ...]) -> bool:
        if not stopped:
            with Client(scheduler_file=file) as client:
                (busy,) = (address for address, keys in client.processing().items() if keys)
                worker = psutil.Process(client.run(os.getpid, workers=[busy])[busy])
                stopped.extend([worker, *worker.children(recursive=True)])
                for process in stopped:
                    process.suspend()
                client.run_on_scheduler(take_for_dead, address=busy)
        return False

    with started(tmp_path) as file:
        (second,) = processes.start(tmp_path, "dask", "worker", "--scheduler-file", file, *AT_WORK)
        with opening.open_engine(WorkerSettings(cluster=file)) as workers:
            workers.submit("cell", Task(is_overtaken, (tmp_path,)))
            try:
                assert endings(workers, hear)["cell"].value == "done elsewhere"
            finally:
                for process in stopped:
                    process.resume()
            processes.until((tmp_path / "ended").exists)
        processes.kill(second, signal.SIGTERM)
        processes.wait([second])


async def take_for_dead(dask_scheduler: Any, address: str) -> None:
    await dask_scheduler.remove_worker(address, stimulus_id="test", close=False)


def test_workers_that_see_no_file_store_are_refused(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not see" in refused(WorkerSettings(cluster=elsewhere))


def test_workers_of_another_version_are_refused(tmp_path: Path) -> None:
    """As importlib finds them: another distribution of the same name comes first."""
    known = tmp_path / "other" / "synthetic_gain-99.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: synthetic-gain\nVersion: 99\n")
    (tmp_path / "path.py").write_text(f"import sys\nsys.path.insert(0, {str(known.parent)!r})")
    with started(tmp_path, worker=("--preload", str(tmp_path / "path.py"))) as file:
        assert "has version 99" in refused(WorkerSettings(cluster=file))


def test_a_cluster_without_workers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "ANSWER_S", 1)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, scheduler_port=0) as empty:
        assert "has no workers yet" in refused(WorkerSettings(cluster=empty.scheduler_address))


def test_certificates_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for name in ("ca", "cert"):
        (tmp_path / f"{name}.pem").touch()
    assert f"--tls {tmp_path}: there is no key.pem" in refused(
        WorkerSettings(cluster="tls://127.0.0.1:1", tls=str(tmp_path))
    )


# --- Recipes ---------------------------------------------------------------------------------------------


def key(folder: Path) -> tuple[str, ...]:
    """A key as harness/studies/README.md has it made, and Dask's flags for it."""
    folder.mkdir()
    readme = (processes.ROOT / "harness/studies/README.md").read_text()
    commands = [line for line in readme.splitlines() if line.startswith(("openssl req -x509", "cp cert.pem"))]
    assert len(commands) == 2
    subprocess.run("\n".join(commands), shell=True, check=True, cwd=folder, stderr=subprocess.DEVNULL)
    return ("--protocol", "tls", *files_of(folder))


def files_of(folder: Path) -> list[str]:
    files = {"ca-file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    return [word for name in files for word in (f"--tls-{name}", str(folder / files[name]))]


def test_who_has_the_key_and_nobody_else_may_use_a_cluster_at_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.VARIABLE, "http://127.0.0.1:1")
    flags = key(tmp_path / "tls")
    key(tmp_path / "other")
    with started(tmp_path, *flags) as file:
        with opening.open_engine(WorkerSettings(cluster=file, tls=str(tmp_path / "tls"))) as workers:
            workers.submit("only", Task(adds, (1, 2)))
            assert endings(workers)["only"].value == 3
        monkeypatch.setattr(cluster, "ANSWER_S", 2)
        for other in (str(tmp_path / "other"), None):
            assert "does not answer" in refused(WorkerSettings(cluster=file, tls=other))


SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
for task in 1 2; do "$@" & done
wait
"""
PYTHON = """#!/bin/sh
echo "$*" >> said
case "$3" in
    scheduler) echo $$ > pid; echo {} > "$5"; exec sleep 60;;
    worker) tail --pid "$(cat pid)" -f /dev/null;;
esac
"""
DRIVER = """
import sys
from harness.engine import opening
from harness.engine.tasks import Task
from harness.engine.workers import WorkerSettings
from small_tasks import adds
assert sys.argv[1::2] == ["--cluster", "--tls"]
with opening.open_engine(WorkerSettings(cluster=sys.argv[2], tls=sys.argv[4])) as workers:
    workers.submit("only", Task(adds, (workers.slots,)))
    print([ending.value for _, ending in workers.endings(lambda *_: False)])
sys.exit(5)
"""


def batch_job(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """As far as a machine without SLURM can: `srun` starts two tasks here. `tests/slurm.py` has the real one."""
    (folder / "srun").write_text(SRUN)
    (folder / "srun").chmod(0o755)
    path = os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ["PATH"]))
    script = str(processes.ROOT / "experiments" / "cluster.sbatch")
    return subprocess.run(
        ["bash", script, *command], cwd=folder, capture_output=True, text=True, check=False,
        env=processes.environment(PATH=path, SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="1"),
    )  # fmt: skip


def test_the_batch_script_starts_what_dasks_flags_say(tmp_path: Path) -> None:
    """By what it would have Python do, which only says so."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    done = batch_job(tmp_path, "sh", "-c", 'echo "the command $*" >> said; exit 5', "sh", "--trials", "4")
    own = tmp_path / "outputs" / "slurm" / "7"
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert {path.stat().st_mode & 0o77 for path in (own, *own.iterdir())} == {0}
    where = f"--scheduler-file {own}/scheduler.json --protocol tls --no-dashboard --dashboard-address 127.0.0.1:0"
    cluster = " ".join((where, *files_of(own)))
    scheduler, *workers, command = sorted((tmp_path / "said").read_text().splitlines())
    assert scheduler == f"-m dask scheduler {cluster} --port 0"
    assert len(workers) == 2
    assert all(said.startswith(f"-m dask worker {cluster} --nthreads 1 ") for said in workers)
    assert command == f"the command --trials 4 --cluster {own}/scheduler.json --tls {own}"


@pytest.mark.long
def test_the_batch_script_gives_its_command_a_cluster_and_ends_as_it_does(tmp_path: Path) -> None:
    done = batch_job(tmp_path, "python", "-c", DRIVER)
    assert (done.returncode, done.stdout) == (5, "[2]\n"), done.stderr  # and no page, since there is none
    assert (tmp_path / "outputs" / "slurm" / "7").stat().st_mode & 0o77 == 0
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(each.info["cmdline"] or [])
    ]
