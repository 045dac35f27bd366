"""A training on a disk that fails at one write, then the same command on a good one: LD_PRELOAD=faults.so faults.py.

    python tests/faults.py FOLDER OUTPUTS NUMBER SEED

Tries NUMBER faults, 2 or more (0: all), of the writes below outputs/ of a training of 20 steps, one after another, in
folders under FOLDER that begin as OUTPUTS, and prints a line of JSON for each: what failed, what was said, and whether
the training that then went on is that which never failed. Ends with 1 where one is not, or where what was journaled is
gone.
"""

import ctypes
import hashlib
import json
import os
import random
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import processes

from harness.tracking import journal, local

KINDS = ("no space", "input/output error", "half a write")
BEGINNING = 2
"""Writes with which a run begins, each of which is tried on a full disk in any case."""
FLAGS = (
    "--n-real", "100", "--steps", "20", "--checkpoint-every", "10", "--num-synthetic", "100", "--no-register",
    "--resume", "auto",
)  # fmt: skip


def on_failing_disk(folder: Path, number: int, kind: int) -> None:
    """In a process of its own."""
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    armed = shim.faults_arm(
        os.fsencode(folder / "outputs"), ctypes.c_long(number), kind, os.fsencode(folder.with_suffix(".count"))
    )
    assert armed == 0
    processes._become(
        folder, 0, [str(processes.ROOT / "experiments" / "vae.py"), *ARGV], {"ACCELERATE_USE_CPU": "true"}
    )


ARGV = processes.quick("vae.py", *FLAGS)


def train(folder: Path, number: int, kind: int) -> tuple[int, str]:
    """The exit code, and what was said on stderr."""
    started = processes.server().Process(target=on_failing_disk, args=(folder, number, kind))
    started.start()
    (code,) = processes.wait([started])
    return int(code or 0), (folder / "rank0.err").read_text()


def records() -> list[dict[str, Any]]:
    """All that runs have journaled."""
    return [record for run in local.folders() for record, _ in journal.read(run / local.JOURNAL)]


def finished() -> list[Path]:
    return [path for path in local.folders() if local.status(path) == "FINISHED"]


def trained() -> tuple[str, dict[str, dict[int, float]]]:
    """The digest of the finished run's weights, and its losses by step."""
    (run,) = finished()
    weights = (run / "files" / "generator" / "weights.safetensors").read_bytes()
    losses: dict[str, dict[int, float]] = {}
    for record, _ in journal.read(run / local.JOURNAL):
        for name, value in record.get("metrics", {}).items():
            if name.startswith("train/"):
                losses.setdefault(name, {})[record["step"]] = value
    return hashlib.sha256(weights).hexdigest(), losses


def count(folder: Path) -> int:
    return struct.unpack("l", folder.with_suffix(".count").read_bytes())[0]


def main(place: Path, outputs: Path, number: int, seed: int) -> int:
    def fresh(name: str) -> Path:
        folder = place / name
        shutil.copytree(outputs, folder / "outputs")
        os.chdir(folder)
        return folder

    whole = fresh("whole")
    with processes.agent(whole):
        code, said = train(whole, sys.maxsize, 1)
    assert code == 0, said
    expected, writes = trained(), count(whole)
    cases = [(at, kind) for kind in range(len(KINDS)) for at in range(1, writes + 1)]
    if number:
        cases = cases[:BEGINNING] + random.Random(seed).sample(cases[BEGINNING:], number - BEGINNING)
    wrong = 0
    for at, kind in cases:
        folder = fresh(f"{at}-{kind}")
        with processes.agent(folder):
            code, said = train(folder, at, kind)
            before = records()
            again, more = (0, "") if finished() else train(folder, sys.maxsize, 1)
            after = records()
            lost = sum(1 for record in before if record not in after)
            equal = again == 0 and trained() == expected
        good = equal and not lost and "Traceback" not in said + more
        wrong += not good
        told = {"write": at, "of": writes, "fault": KINDS[kind], "code": code, "said": said, "again": again}
        print(json.dumps(told | {"more": "" if good else more[-2000:], "lost": lost, "equal": equal}), flush=True)
        if good:
            shutil.rmtree(folder)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
