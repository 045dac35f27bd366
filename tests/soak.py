"""Kill trainings at every kind of moment, go on, and compare bit for bit with one that was never killed.

First trainings and agents of one folder are killed at random, then the tracking server under a training: the store must
have everything once, with its time, and no run left open.

    python tests/soak.py --kills 10

Every case is a real process, or two that find each other over loopback, killed with SIGKILL from outside.
Prints a line per case and their count; exit code 1 where any case differs.
"""

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import counted
import processes
import psutil
from processes import ForkServerProcess, wait
from servers import TrackingServer

from harness.tracking import journal, local
from harness.tracking.local import Sent

STEPS, EVERY = 120, 20
OUTAGE_STEPS = 3000
METHODS = {
    "ddpm": ["--num-steps", "50", "--hidden-channels", "16", "--sampler-steps", "4"],
    "vae": [],
    "drifting": [],
    "gan": ["--loss", "wgan-gp", "--critic-steps", "3"],
}
URI = "sqlite:///outputs/mlflow.db"
THERE = "lifecycle_stage = 'active'"


@dataclass(frozen=True)
class Outcome:
    """What must not depend on kills."""

    samples: str
    weights: bytes
    metrics: dict[tuple[str, int], float]
    rows: int


def flags(method: str) -> list[str]:
    common = f"--n-real 200 --batch-size 32 --steps {STEPS} --checkpoint-every {EVERY} --num-synthetic 1200"
    return [*common.split(), "--tracking-uri", URI, "--resume", "auto", *METHODS[method]]


def start(folder: Path, method: str, world: int) -> list[ForkServerProcess]:
    return processes.start(folder, f"{method}.py", *flags(method), world=world)


def sync(folder: Path, uri: str) -> ForkServerProcess:
    (started,) = processes.start(
        folder, str(processes.ROOT / "harness/tracking/__main__.py"), "sync", "--tracking-uri", uri
    )
    return started


# --- Moments ---------------------------------------------------------------------------------------------


def moments(folder: Path, number: int, draw: random.Random) -> tuple[str, Callable[[], bool]]:
    """The name of the number-th kind of moment, and whether it has come."""
    step = draw.randrange(2, STEPS)

    def journaled(wanted: int) -> bool:
        return any(f'"step":{wanted - wanted % 10}' in text for text in _journals(folder))

    kinds: list[tuple[str, Callable[[], bool]]] = [
        ("first steps", lambda: trains(folder)),
        ("checkpoint's write", lambda: any(folder.glob("outputs/runs/*/checkpoints/.writing-*"))),
        (f"step {step}", lambda: journaled(step)),
        ("sampling", lambda: any(folder.glob(f"outputs/runs/*/checkpoints/step-{STEPS:08d}-*"))),
        (f"step {step}", lambda: journaled(step)),
    ]
    return kinds[number % len(kinds)]


def trains(folder: Path) -> bool:
    """Whether a step was journaled."""
    return any('"metrics":' in text for text in _journals(folder))


def _journals(folder: Path) -> list[str]:
    return [path.read_text(errors="replace") for path in folder.glob("outputs/runs/*/journal")]


# --- Cases -----------------------------------------------------------------------------------------------


def outcome(folder: Path) -> Outcome:
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as store:
        runs = store.execute("select run_uuid, status, artifact_uri from runs").fetchall()
        assert len(runs) == 1, f"{len(runs)} runs instead of one"
        ((run, status, artifacts),) = runs
        assert status == "FINISHED", f"the run is {status}"
        timeless = " and ".join(f"key not like '{kind}/%'" for kind in ("cost", "system", "tracking"))
        rows = store.execute(f"select key, step, value from metrics where {timeless}").fetchall()
        query = "select value from tags where run_uuid = ? and key = 'samples_digest'"
        samples = store.execute(query, (run,)).fetchone()[0]
    weights = Path(artifacts.removeprefix("file://")) / "generator" / "weights.safetensors"
    return Outcome(samples, weights.read_bytes(), {(key, step): value for key, step, value in rows}, len(rows))


def closing(folder: Path) -> tuple[str, str]:
    """The status of the folder's run, and the reason it gives."""
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as store:
        (status,) = store.execute("select status from runs").fetchone()
        (reason,) = store.execute("select value from tags where key = 'reason'").fetchone() or ("",)
    return status, reason


def case(template: Path, folder: Path, method: str, world: int, number: int, seed: int) -> str:
    """Kill one training once and go on with it; returns what was done."""
    draw = random.Random(f"{method} {world} {number} {seed}")
    shutil.copytree(template, folder)
    with processes.agent(folder):
        return _case(folder, method, world, number, draw)


def _case(folder: Path, method: str, world: int, number: int, draw: random.Random) -> str:
    name, come = moments(folder, number, draw)
    started = start(folder, method, world)
    victims = started if draw.random() < 0.5 else [draw.choice(started)]
    until = time.monotonic() + processes.PATIENCE_S
    while not come() and all(process.is_alive() for process in started) and time.monotonic() < until:
        time.sleep(0.0005)
    time.sleep(draw.random() * 0.03)  # a step or a part of one
    for process in victims:
        processes.kill(process, signal.SIGKILL)
    codes = wait(started)
    assert -signal.SIGKILL in codes, f"nothing was killed at {name}: {codes}"
    if victims == started[1:]:
        status, reason = closing(folder)
        assert status == "FAILED", f"rank 1 was killed, the run is {status}"
        assert reason.startswith("rank 1 "), reason
    if number % 2:
        assert wait([sync(folder, URI)]) == [0], "sync failed"
    again = wait(start(folder, method, world))
    assert again == [0] * world, f"going on after {name} ended with {again}: {_last_lines(folder)}"
    who = "all" if len(victims) == world else f"rank {started.index(victims[0])}"
    return f"{who} at {name}"


def _last_lines(folder: Path) -> str:
    return " | ".join(path.read_text()[-500:] for path in sorted(folder.glob("rank*.err")))


def template_in(folder: Path) -> Path:
    """A folder with a migrated store and the judge, which no case has to make again."""
    template = folder / "template"
    template.mkdir()
    made = processes.server().Process(target=processes.fill, args=(template / "outputs",))
    made.start()
    assert wait([made]) == [0]
    return template


def cases(methods: list[str], worlds: list[int], kills: int, seed: int) -> Iterator[tuple[str, str]]:
    """(case, what was wrong with it, or nothing)."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        template = template_in(folder)
        for method in methods:
            for world in worlds:
                expected = unbroken(template, folder / f"{method}-{world}", method, world)
                for number in range(kills):
                    killed = folder / f"{method}-{world}-{number}"
                    title = f"{method}, {world} process{'es' * (world > 1)}"
                    try:
                        title += f", kill {number}: {case(template, killed, method, world, number, seed)}"
                        wrong = difference(expected, outcome(killed))
                    except AssertionError as error:
                        title, wrong = f"{title}, kill {number}", str(error)
                    yield title, wrong
                    shutil.rmtree(killed)


def outages(folder: Path, seed: int) -> tuple[str, str]:
    """A server that is killed twice and started again, then killed for the whole second half of a training.

    Returns the case and what was wrong with it: after `sync` the store must have each of the journal's metrics, once,
    with its time, and those of a training whose server stayed.
    """
    folder.mkdir()
    server = TrackingServer(folder)
    server.start()
    wanted = ["--n-real", "400", "--batch-size", "64", "--steps", str(OUTAGE_STEPS), "--epochs", "100000"]
    wanted += ["--tracking-uri", server.uri]
    draw, histories, seconds = random.Random(seed), [], []
    try:
        for name, downs in (("quiet", []), ("outages", [*sorted(draw.uniform(0.05, 0.45) for _ in range(2)), 0.5])):
            place = folder / name
            place.mkdir()
            with processes.agent(place):
                started = processes.start(place, "vae.py", *wanted)
                for down in downs:
                    _at(place, started, int(down * OUTAGE_STEPS))
                    server.kill()
                    if down < 0.5:
                        _at(place, started, int(down * OUTAGE_STEPS) + OUTAGE_STEPS // 50)
                        server.start()
                assert wait(started, 400) == [3 if downs else 0], _last_lines(place)
            if downs:
                assert "are still to be sent" in processes.said(place)[1]
                server.start()
                for _ in range(2):
                    assert wait([sync(place, server.uri)]) == [0], _last_lines(place)
            histories.append(_stored_once(place, folder / "mlflow.db"))
            seconds.append(histories[-1].pop(("cost/training_device_seconds", OUTAGE_STEPS)))
    finally:
        server.kill()
    quiet, broken = ({key: v for key, v in h.items() if not key[0].startswith(("cost/", "system/"))} for h in histories)
    wrong = "" if quiet == broken else f"{len(quiet.items() ^ broken.items())} metrics differ"
    return f"server killed three times; training took {seconds[1] / seconds[0]:.3f} times as long", wrong


def _at(folder: Path, started: list[ForkServerProcess], step: int) -> None:
    until = time.monotonic() + processes.PATIENCE_S
    while f'"step":{step - step % 10}' not in "".join(_journals(folder)):
        assert started[0].is_alive(), _last_lines(folder)
        assert time.monotonic() < until, f"step {step} did not come"
        time.sleep(0.05)


def _stored_once(folder: Path, database: Path) -> dict[tuple[str, int], float]:
    """The metrics of the folder's generator, which are those of its journals, row for row."""
    (path,) = [found for found in folder.glob("outputs/runs/*/journal") if "checkpoints" in os.listdir(found.parent)]
    both = (path, path.with_name("agent.journal"))
    records = [record for each in both for record, _ in journal.read(each) if "metrics" in record]
    said = [(key, r["step"], value, r["time"]) for r in records for key, value in r["metrics"].items()]
    with contextlib.closing(sqlite3.connect(database)) as store:
        query = "select key, step, value, timestamp from metrics where run_uuid = ? and key not like 'tracking/%'"
        rows = store.execute(query, (Sent.read(path.parent).run_id,)).fetchall()
    assert sorted(rows) == sorted(said), f"{len(rows)} rows are stored, {len(said)} were said"
    return {(key, step): value for key, step, value, _ in rows}


def agents(number: int, seed: int) -> Iterator[tuple[str, str]]:
    """Trainings and agents of one folder, killed at random moments, some while their server is away.

    Nobody calls a command: what is left open is closed, and what is unsent is sent, by the agent of the next run.
    """
    if not number:
        return
    with tempfile.TemporaryDirectory() as place:
        folder, draw = Path(place), random.Random(seed)
        server = TrackingServer(folder)
        server.start()
        wanted = ["--n-real", "200", "--batch-size", "32", "--steps", "400", "--epochs", "100000", "--num-synthetic",
                  "300", "--no-register", "--tracking-uri", server.uri]  # fmt: skip
        killed = {"training": 0, "agent": 0, "server": 0}
        try:
            for seed_of_run in range(number):
                (started,) = processes.start(folder, "vae.py", *wanted, "--seed", str(seed_of_run))
                victims = draw.choice([["training"], ["agent"], ["training", "agent"], ["agent", "agent"]])
                time.sleep(draw.uniform(0, 4))
                if away := draw.random() < 0.25:
                    server.kill()
                for victim in victims:
                    time.sleep(draw.uniform(0, 2))
                    process = started if victim == "training" and started.is_alive() else None
                    process = _agent_of(folder) if victim == "agent" else process
                    if process and process.pid:
                        os.kill(process.pid, signal.SIGKILL)
                        killed[victim] += 1
                if away:
                    server.start()
                    killed["server"] += 1
                wait([started], 300)
            assert wait(processes.start(folder, "vae.py", *wanted, "--seed", str(number)), 300) == [0]
            with contextlib.chdir(folder):
                with contextlib.suppress(AssertionError):
                    processes.until(lambda: not _left(folder), 120)
                assert not _left(folder), _left(folder)
            wrong = _differences(folder)
        except AssertionError as error:
            wrong = str(error) or "a check failed"
        finally:
            server.kill()
            if agent := _agent_of(folder):
                agent.kill()
        yield f"{number} trainings in one folder, killed: {killed}", wrong


def _agent_of(folder: Path) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline", "cwd"]):
        with contextlib.suppress(psutil.Error):
            if process.info["cwd"] == str(folder) and process.info["cmdline"][2:4] == ["harness.tracking", "agent"]:
                return process
    return None


def _left(folder: Path) -> list[str]:
    """What is open in the store, and what is unsent."""
    unsent = [f"{path.name} is unsent" for path in local.folders() if not local.is_sent(path)]
    return [*(f"{run} is RUNNING" for run in _open_runs(folder)), *unsent]


def _open_runs(folder: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        return [run for (run,) in store.execute(f"select run_uuid from runs where status = 'RUNNING' and {THERE}")]


def _differences(folder: Path) -> str:
    """What the store has not, or twice, of what the folder's journals say; a run of a journal that was made twice."""
    wrong = []
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        (runs,) = store.execute(f"select count(*) from runs where {THERE}").fetchone()
        paths = list(folder.glob("outputs/runs/*/journal"))
        if runs != len(paths):
            wrong.append(f"{runs} runs of {len(paths)} journals")
        for path in paths:
            both = [each for each in (path, path.with_name("agent.journal")) if each.exists()]
            records = [record for each in both for record, _ in journal.read(each)]
            said = [(key, r["step"], value, r["time"]) for r in records for key, value in r.get("metrics", {}).items()]
            query = "select key, step, value, timestamp from metrics where run_uuid = ? and key not like 'tracking/%'"
            run = Sent.read(path.parent).run_id
            rows = store.execute(query, (run,)).fetchall()
            if sorted(rows) != sorted(said):
                wrong.append(f"{path.parent.name}: {len(rows)} rows are stored, {len(said)} were said")
            shown, pictures = sum("image" in r for r in records), list(folder.glob(f"**/{run}/artifacts/images/*.png"))
            if len(pictures) != shown:
                wrong.append(f"{path.parent.name}: {len(pictures)} stepped images are stored, {shown} were said")
    return "; ".join(wrong)


def unbroken(template: Path, folder: Path, method: str, world: int) -> Outcome:
    """What a training gives that nobody kills."""
    shutil.copytree(template, folder)
    with processes.agent(folder):
        assert wait(start(folder, method, world)) == [0] * world, _last_lines(folder)
    return outcome(folder)


def difference(expected: Outcome, found: Outcome) -> str:
    """What two outcomes do not share, in words; empty where they are equal bit for bit."""
    parts = []
    if found.weights != expected.weights:
        parts.append("weights")
    if found.samples != expected.samples:
        parts.append("samples")
    if found.metrics != expected.metrics:
        keys = [k for k in {*expected.metrics, *found.metrics} if expected.metrics.get(k) != found.metrics.get(k)]
        parts.append(f"{len(keys)} metrics, such as {min(keys)}")
    if found.rows != len(found.metrics):
        parts.append(f"{found.rows - len(found.metrics)} metrics stored twice")
    return ", ".join(parts)


def bad_servers(number: int, seed: int) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as place:
        for index in range(number):
            try:
                yield outages(Path(place) / str(index), seed + index)
            except AssertionError as error:
                yield f"server killed three times, {index}", str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--worlds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--outages", type=int, default=1, help="trainings whose server is killed three times")
    parser.add_argument("--agents", type=int, default=20, help="trainings of which they or their agent are killed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start_s, failed, total = time.monotonic(), 0, 0
    kills = cases(arguments.methods, arguments.worlds, arguments.kills, arguments.seed)
    outages = bad_servers(arguments.outages, arguments.seed)
    for title, wrong in itertools.chain(agents(arguments.agents, arguments.seed), outages, kills):
        print(f"{title}: {wrong or 'equal'}", flush=True)
        failed, total = failed + bool(wrong), total + 1
    seconds = time.monotonic() - start_s
    print(f"{total - failed} of {total} cases equal bit for bit, {seconds:.0f} s")
    if not failed:
        counted.record("soak.py: trainings, agents and servers killed", str(total), arguments.seed, seconds)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
