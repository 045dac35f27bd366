"""Four ways to log a metric, side by side: what it costs a training loop, and what is lost when something ends.

    python tests/benchmarks/logged.py

The ways: `mlflow.log_metric` at each step, the same with `synchronous=False`, Accelerate's MLflowTracker, and
this project's journal; MLflow's with its own settings, not those of mlflow.env. The loop multiplies matrices for
some milliseconds a step and logs two metrics; blocks with and without logging alternate. Then the process gets
SIGTERM or SIGKILL in the middle, or the server is away for ten seconds; for the journal, the command that it names
is then called. About ten minutes.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
import paths  # noqa: F401
from processes import ROOT, environment
from servers import TrackingServer
from turns import beside, spread, table, take_turns

from harness.tracking import local

WAYS = ("log_metric", "log_metric, asynchronous", "Accelerate's MLflowTracker", "journal")
ENDS = ("SIGTERM", "SIGKILL", "server away")
BLOCK, BLOCKS = 100, 4
LONG = 1500
AWAY_S = 10.0
Log = Callable[[dict[str, float], int], None]


# --- In the child ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(way: str, uri: str) -> Iterator[Log]:
    """A run of its own, and what logs to it."""
    import mlflow

    if way == "journal":
        from harness import tracking

        with tracking.run("logging", way, tags={}, params={}, tracking_uri=uri) as run:
            Path("run").write_text(run.folder.name)
            yield run.metrics
    elif way == "Accelerate's MLflowTracker":
        from accelerate import Accelerator

        mlflow.set_tracking_uri(uri)
        accelerator = Accelerator(cpu=True, log_with="mlflow")
        accelerator.init_trackers("logging")
        Path("run").write_text(accelerator.get_tracker("mlflow", unwrap=True).info.run_id)
        yield accelerator.log
        accelerator.end_training()
    else:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("logging")
        with mlflow.start_run() as run:
            Path("run").write_text(run.info.run_id)

            def log(values: dict[str, float], step: int) -> None:
                for key, value in values.items():
                    mlflow.log_metric(key, value, step=step, synchronous=way == "log_metric")

            yield log


def child(way: str, uri: str, what: str) -> None:
    """`cost`: print milliseconds per bare and per logged step, and of the end. `loss`: log on until it ends."""
    matrix = np.random.default_rng(0).random((400, 400), dtype=np.float32)

    def block(number: int, log: Log | None) -> float:
        start = time.perf_counter()
        for step in islice(steps, number):
            matrix @ matrix @ matrix
            if log:
                log({"train/loss": step / 7, "train/kl": step / 3}, step)
            if what == "loss":
                os.pwrite(told, b"%10d" % (step + 1), 0)
        return (time.perf_counter() - start) / number * 1e3

    told, steps = os.open("told", os.O_WRONLY | os.O_CREAT, 0o644), count()
    with opened(way, uri) as log:
        if what == "loss":
            block(LONG, log)
            return
        block(BLOCK, None)
        turns = take_turns({"bare": partial(block, BLOCK, None), "logged": partial(block, BLOCK, log)}, BLOCKS)
        ending = time.perf_counter()
    print(json.dumps({"turns": turns.to_dict("list"), "end_s": time.perf_counter() - ending}))


# --- In the parent ---------------------------------------------------------------------------------------


def started(folder: Path, way: str, uri: str, what: str) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, __file__, "--way", way, "--uri", uri, "--what", what],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def cost(folder: Path, way: str, uri: str) -> dict[str, str]:
    """The rest of a row: what a metric takes, the loop with it beside the bare one, and its end."""
    found = json.loads(started(folder, way, uri, "cost").communicate(timeout=600)[0].splitlines()[-1])
    loop = beside(pd.DataFrame(found["turns"]), "logged", "bare")
    each_us = (loop["ours"] - loop["other"]) * 1e3 / 2
    spreads = {"a metric, µs": each_us, "loop, logged / bare": loop["ratio"], "bare, ms": loop["other"]}
    return {name: spread(values) for name, values in spreads.items()} | {"at the end, s": f"{found['end_s']:.1f}"}


def loss(folder: Path, way: str, uri: str, what: str, server: TrackingServer | None) -> str:
    process = started(folder, way, uri, "loss")
    until = time.monotonic() + 120
    while told(folder) < 300 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    if what == "server away" and server:
        server.kill()
        time.sleep(AWAY_S)
        server.start()
    else:
        process.send_signal(signal.SIGTERM if what == "SIGTERM" else signal.SIGKILL)
    try:
        code = process.wait(400)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if way == "journal":
        synced = [sys.executable, "-m", "harness.tracking", "sync", "--tracking-uri", uri]
        subprocess.run(synced, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    with contextlib.chdir(folder):
        run = local.in_the_store(Path("run").read_text())
    said, kept = told(folder) * 2, stored(uri, run)
    unsaid = f", {2 * LONG - said:,} never said (exit code {code})" if what == "server away" and said < 2 * LONG else ""
    return f"{max(0, said - kept):,} of {said:,}{unsaid}"


def told(folder: Path) -> int:
    """The steps whose metrics the loop has handed over."""
    path = folder / "told"
    return int(path.read_text() or 0) if path.exists() else 0


def stored(uri: str, run_id: str) -> int:
    from mlflow import MlflowClient

    return sum(len(MlflowClient(uri).get_metric_history(run_id, key)) for key in ("train/loss", "train/kl"))


def compare(folder: Path) -> None:
    server = TrackingServer(folder)
    server.start()
    stores = {"sqlite": f"sqlite:///{folder}/own.db", "HTTP": server.uri}
    stored_in = environment() | {"PYTHONPATH": str(ROOT)}
    code = f"from mlflow import MlflowClient; MlflowClient({stores['sqlite']!r}).search_experiments()"
    subprocess.run([sys.executable, "-c", code], env=stored_in, check=True)
    costs = [
        {"way": way, "store": store, **cost(folder / f"cost-{store}-{number}", way, uri)}
        for store, uri in stores.items()
        for number, way in enumerate(WAYS)
    ]
    print(table(costs), flush=True)
    losses = [
        {"way": way} | {f"lost: {end}": loss(folder / f"{end}-{number}", way, server.uri, end, server) for end in ENDS}
        for number, way in enumerate(WAYS)
    ]
    print(f"\n{table(losses)}")
    server.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--uri")
    parser.add_argument("--what", choices=("cost", "loss"))
    arguments = parser.parse_args()
    if arguments.way:
        child(arguments.way, arguments.uri, arguments.what)
    else:
        with tempfile.TemporaryDirectory() as place:
            compare(Path(place))
