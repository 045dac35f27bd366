"""How long a command takes to say what its flags are, to read a file, and to make its first step.

    python tests/benchmarks/start.py

Each command beside the import that it cannot do without, all in turn in each round, after one round that warms the
disk's cache; processor seconds, which other work lengthens less than the clock's (which count for the first step, since
more than one process takes it). What counts is the ratio of the least, since only noise makes the same command take
longer; an analysis' own work is left out. About eight minutes on two cores.
"""

import contextlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paths  # noqa: F401
import psutil
from processes import ROOT, environment, until
from turns import beside, spread, table, take_turns

from harness import cli
from harness.bounds import Count

ROWS = ROOT / "analysis/results/mnist/rows.csv"
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py"))
ANALYSES = sorted(path.stem for path in (ROOT / "analysis").glob("*.py") if "cli.main(" in path.read_text())
OPENED = "import mlflow, a store opened"
COMPUTES = "import pandas, scipy.special"
"""What an analysis of rows computes with: Student's t is scipy's. Beside pandas alone it takes 1.44 times as long."""
ENOUGH_S = 0.5
"""Quick enough for a --help whatever the ratio."""
TWICE = """
import contextlib, importlib, sys
from harness import cli
sys.argv = sys.argv[1:]
main = importlib.import_module(sys.argv[0]).main
for _ in range(2):
    with contextlib.suppress(SystemExit):
        cli.main(main)
"""


def children_s() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def took(clock: Callable[[], float], folder: Path, *arguments: str) -> float:
    start = clock()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return clock() - start


def without_own_work(command: Callable[..., float], *arguments: str) -> float:
    """Seconds of an analysis less those of its own work, which are what a second time in the same process takes."""
    return 2 * command("-m", *arguments) - command("-c", TWICE, *arguments)


def first_step(folder: Path) -> float:
    """From the command to the first metrics in its journal, in a new folder; it and its agent are ended then."""
    place = Path(tempfile.mkdtemp(dir=folder))
    start = time.perf_counter()
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "experiments/vae.py"), "--dataset", "digits"],
            cwd=place, env=environment(), stdout=log, stderr=log,
        )  # fmt: skip
    until(lambda: any("train/vae_loss" in path.read_text() for path in place.glob("outputs/runs/*/journal")))
    seconds = time.perf_counter() - start
    process.send_signal(signal.SIGKILL)
    process.wait()
    for other in psutil.process_iter(["cmdline", "cwd"]):
        with contextlib.suppress(psutil.Error):
            if other.info["cwd"] == str(place) and "harness.tracking" in other.info["cmdline"]:
                other.kill()
    return seconds


def store_with_cells(folder: Path) -> str:
    """The address of a store with a comparison of two arms and three seeds."""
    from harness.tracking import client

    store = client(f"sqlite:///{folder}/mlflow.db")
    experiment = store.create_experiment("comparisons", folder.as_uri())
    parent = store.create_run(experiment, tags={"kind": "comparison"}, run_name="small").info.run_id
    for seed in range(3):
        for arm, accuracy in (("none", 0.9 + seed / 100), ("affine", 0.93 + seed / 200)):
            tags = {"kind": "classifier", "method": arm, "dataset": "digits", "n_real": "100", "seed": str(seed),
                    "judge": "a", "mlflow.parentRunId": parent}  # fmt: skip
            run = store.create_run(experiment, tags=tags).info.run_id
            store.log_metric(run, "test/accuracy", accuracy)
            store.log_param(run, "num_synthetic", "10")
            store.set_terminated(run, "FINISHED")
    return f"sqlite:///{folder}/mlflow.db"


def main(rounds: Count = 7) -> None:
    """Measure in turns, print a table."""
    folder = Path(tempfile.mkdtemp())
    store, out = store_with_cells(folder), str(folder / "out")
    command = partial(took, children_s, folder)
    module = partial(command, "-m")
    imports = {each: partial(command, "-c", each) for each in ("import torch", "import pandas", COMPUTES)}
    waited_for = "import torch, accelerate"
    imports[waited_for] = partial(took, time.perf_counter, folder, "-c", waited_for)
    opening = f"from mlflow import MlflowClient; MlflowClient({store!r}).search_experiments()"
    imports[OPENED] = partial(command, "-c", opening)
    rows = {
        **{f"experiments/{name} --help": (partial(command, f"{ROOT}/experiments/{name}", "--help"), "import torch", 1.2)
           for name in SCRIPTS},
        **{f"analysis.{name} --help": (partial(module, f"analysis.{name}", "--help"), "import pandas", 0.5)
           for name in ANALYSES},
        **{f"harness.tracking {flags}": (partial(module, "harness.tracking", *flags.split()), "import pandas", 0.5)
           for flags in ("--help", "sync --help", "reap --help")},
        "analysis.claims --rows": (
            partial(without_own_work, command, "analysis.claims", "--rows", str(ROWS), "--out", out), COMPUTES, 1.3),
        "analysis.significance of a store": (
            partial(without_own_work, command, "analysis.significance", "--tracking-uri", store, "--out", out),
            OPENED, 1.2),
        "vae.py to its first step": (partial(first_step, folder), waited_for, 1.3),
    }  # fmt: skip
    turns = take_turns(imports | {name: measure for name, (measure, *_) in rows.items()}, rounds, warm_up=1)
    found = []
    for name, (_, other, most) in rows.items():
        pair = beside(turns, name, other)
        ours, theirs = pair["ours"].min(), pair["other"].min()
        met = ours <= most * theirs or (most == 0.5 and ours <= ENOUGH_S)
        verdict = {"of the least": f"{ours / theirs:.3g}", "at most": most, "met": "yes" if met else "no"}
        found.append({"command": name, "beside": other, **pair.apply(spread), **verdict})
    print(f"{table(found)}\n\nSeconds: median [least, most] of the rounds.")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    cli.main(main)
