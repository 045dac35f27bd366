"""Jobs as launchers start them: refused, killed, failing on one rank, restarted, gone on with."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import processes
import psutil
import pytest
import soak
import torch
from processes import environment, until
from safetensors.torch import load

ACCELERATE = ("accelerate.commands.launch", "--main_process_port", "0")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LONG = ("--n-real", "200", "--batch-size", "32", "--steps", "100000", "--epochs", "100000", "--num-synthetic", "300")
TIMEOUT_S = 20
RESUMED = ("--resume", "auto", "--process-timeout", str(TIMEOUT_S), "--checkpoint-every", "50")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, empty_outputs: Path) -> Path:
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(empty_outputs, folder / "outputs")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A place with an empty store, the judge and an agent."""
    place = shutil.copytree(template, tmp_path / "place")
    with processes.agent(place):
        yield place


def launched(folder: Path, *command: str, **more: str) -> subprocess.Popen:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment(**more), stdout=log, stderr=log
        )


def script(name: str) -> str:
    return str(processes.ROOT / "experiments" / name)


def stored_params(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as store:
        return [key for (key,) in store.execute("select key from params")]


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("outputs/runs/*/checkpoints/step-*"))


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [(*ACCELERATE, "--cpu", "--num_processes", "2"), (*ACCELERATE, "--multi_gpu", "--num_processes", "2")],
    ids=["with --cpu", "without ACCELERATE_USE_CPU"],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs these commands are right")
def test_a_launch_whose_processes_do_not_find_each_other_is_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    assert launched(tmp_path, *command, script("vae.py"), "--steps", "5").wait(120) != 0
    said = (tmp_path / "log").read_text()
    assert "vae.py: " in said
    assert "the command that works is ACCELERATE_USE_CPU=true accelerate launch --multi_gpu" in said
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_all_processes_with_a_checkpoint(world: int, number: signal.Signals, folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG, world=world)
    until(lambda: soak.trains(folder))
    for process in started:
        processes.kill(process, number)
    assert processes.wait(started) == [128 + number] * world  # killed where they outstay the patience
    assert len(checkpoints(folder)) == 1
    status, reason = soak.closing(folder)
    assert status == "KILLED"
    assert reason == f"stopped by {number.name}"


def test_a_signal_to_one_process_of_two_stops_both(folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG, world=2)
    until(lambda: soak.trains(folder))
    processes.kill(started[1], signal.SIGTERM)
    assert processes.wait(started) == [143, 143]
    assert soak.closing(folder)[0] == "KILLED"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_in_time(victim: int, folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG, *RESUMED, world=2)
    until(lambda: checkpoints(folder) or not all(process.is_alive() for process in started))
    assert checkpoints(folder), processes.said(folder)
    processes.kill(started[victim], signal.SIGKILL)
    codes = processes.wait(started)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, -signal.SIGKILL)  # which it would be, had it outstayed the patience
    if victim == 1:  # the main process is there to say so
        status, reason = soak.closing(folder)
        assert status == "FAILED"
        assert reason.startswith(f"rank 1 (process {started[1].pid} on ")


def test_an_exception_on_one_rank_fails_the_run_with_the_rank_and_the_reason(folder: Path) -> None:
    failing = str(processes.ROOT / "tests" / "failing.py")
    started = processes.start(folder, failing, "1", "25", *LONG, *RESUMED, world=2)
    codes = processes.wait(started)
    assert 0 not in codes
    status, reason = soak.closing(folder)
    assert (status, reason) == ("FAILED", "rank 1: MemoryError: no memory is left for this step")


def test_what_the_main_process_refuses_is_one_line_and_ends_the_others(folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG, "--resume", "no-such-run", world=2)
    assert processes.wait(started) == [2, 1]
    main, other = (processes.said(folder, rank)[1] for rank in range(2))
    assert main.startswith("vae.py: the journal of run no-such-run is not in outputs/runs: ")
    assert main.count("\n") == 1
    assert "rank 1 stops too, after rank 0" in other
    assert "Traceback" not in other


def test_a_run_of_something_else_is_not_gone_on_with(folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG)
    until(lambda: "latent_size" in stored_params(folder))
    processes.kill(started[0], signal.SIGKILL)
    processes.wait(started)
    (run,) = (path.name for path in folder.glob("outputs/runs/*"))
    started = processes.start(folder, "vae.py", *LONG, "--resume", run, "--latent-size", "7")
    assert processes.wait(started) == [2]
    assert f"run {run} is of something else: latent_size is 7, the run's 16" in processes.said(folder)[1]
    (folder / "outputs" / "runs" / run / "journal").unlink()
    assert processes.wait(processes.start(folder, "vae.py", *LONG, "--resume", run)) == [2]
    assert "go on where the run was, or train anew" in processes.said(folder)[1]


def test_a_batch_that_cannot_be_shared_is_refused(folder: Path) -> None:
    started = processes.start(folder, "vae.py", *LONG, "--batch-size", "33", world=2)
    assert processes.wait(started) == [2, 2]
    assert "--batch-size 33 is not divisible by 2 processes" in processes.said(folder)[1]
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as store:
        assert store.execute("select count(*) from runs").fetchone() == (0,)


@pytest.mark.long
def test_another_number_of_processes_goes_on_with_the_same_run(template: Path, tmp_path: Path) -> None:
    whole, moved = (shutil.copytree(template, tmp_path / name) for name in ("whole", "moved"))
    with processes.agent(whole), processes.agent(moved):
        assert processes.wait(soak.start(whole, "vae", 1)) == [0]
        started = soak.start(moved, "vae", 2)
        until(lambda: checkpoints(moved))
        for process in started:
            processes.kill(process, signal.SIGKILL)
        processes.wait(started)
        assert processes.wait(soak.start(moved, "vae", 1)) == [0]
    expected, found = (load(soak.outcome(place).weights) for place in (whole, moved))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "world"),
    [("vae", 1), *(pytest.param(*case, marks=pytest.mark.long) for case in (("ddpm", 1), ("gan", 2)))],
)
def test_a_killed_training_goes_on_bit_for_bit(method: str, world: int, template: Path, tmp_path: Path) -> None:
    """A share of `make soak`."""
    expected = soak.unbroken(template, tmp_path / "unbroken", method, world)
    soak.case(template, tmp_path / "killed", method, world, number=2, seed=0)
    assert soak.difference(expected, soak.outcome(tmp_path / "killed")) == ""


@pytest.mark.long
def test_torchrun_restarts_a_lost_worker_from_the_last_checkpoint(folder: Path) -> None:
    command = [*TORCHRUN, "--max-restarts", "1", script("vae.py"), *soak.flags("vae")]
    command.remove("auto"), command.remove("--resume")  # processes that were restarted resume without being told
    job = launched(folder, *command, "--steps", "600", ACCELERATE_USE_CPU="true")
    until(lambda: checkpoints(folder))
    workers = [p for p in psutil.Process(job.pid).children(recursive=True) if "vae.py" in " ".join(p.cmdline())]
    os.kill(workers[-1].pid, signal.SIGKILL)
    assert job.wait(200) == 0, (folder / "log").read_text()[-3000:]
    outcome = soak.outcome(folder)  # of one run, finished
    assert outcome.rows == len(outcome.metrics)
    assert {step for key, step in outcome.metrics if key == "train/vae_loss"} == set(range(600))
