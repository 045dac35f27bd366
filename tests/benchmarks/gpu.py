"""What a machine with a GPU shows: speed, a kill and a resume, trainings packed on one card, and the time to a CAS.

    python tests/benchmarks/gpu.py OUT

The DDPM on MNIST (HARNESS_DATA_ROOT), each run under `accelerate launch --mixed_precision bf16`. MLflow need not be
there: the runs stay in OUT, and `python -m harness.tracking sync` in a copy of OUT sends them from elsewhere.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from harness.tracking import local

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "bf16", "--num_processes", "1"]
DDPM = [str(ROOT / "experiments/ddpm.py"), "--dataset", "mnist", "--no-register"]
COLUMNS = "training", "images/s", "training, s", "sampling, s", "whole run, s", "conditional", "CAS", "MB", "samples"


class Training:
    def __init__(self, flags: str, name: str = "") -> None:
        self.name, self.log, self.began = name or flags, Path(f"{name or flags}.log"), time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*LAUNCH, *DDPM, *flags.split()], stdout=log, stderr=log)

    def ended(self) -> str:
        """Wait for its end and print its row; the digest of its sample set."""
        code = self.process.wait()
        wall_s, said = time.perf_counter() - self.began, self.log.read_text()
        assert code in (0, 3), f"{self.name}: exit {code}\n{said[-2000:]}"  # 3: no store has it yet
        row = local.row(local.RUNS / re.findall(r"^ddpm: .* run (\w+)$", said, re.MULTILINE)[-1])
        training, sampling = (row[f"metrics.cost/{part}_device_seconds"] for part in ("training", "sampling"))
        images = int(row["params.steps"]) * int(row["params.batch_size"])
        accuracy, cas = row["metrics.samples/conditional_accuracy"], row["metrics.test/cas"]
        memory, samples = row["metrics.cost/peak_gpu_memory_bytes"] / 1e6, row["tags.samples_digest"]
        print(
            f"| {self.name} | {images / training:,.0f} | {training:.1f} | {sampling:.1f} | {wall_s:.1f} | "
            f"{accuracy:.2%} | {cas:.2%} | {memory:.0f} | {samples[:12]} |",
            flush=True,
        )
        return samples

    def killed(self, after: int) -> None:
        """End it and all that it has started by SIGKILL, once there is a checkpoint of step `after`."""
        while not list(Path().glob(f"outputs/runs/*/checkpoints/step-{after:08d}-*")):
            assert self.process.poll() is None, "it ended before its kill"
            time.sleep(0.02)
        for each in [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]:
            each.kill()
        self.process.wait()


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16\n\n| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    whole = Training("--steps 3000").ended()
    again = "--steps 3000 --experiment-name again --checkpoint-every 500"
    Training(again, "killed").killed(after=1500)
    resumed = Training(f"{again} --resume auto", "killed after 1,500 steps, resumed").ended()
    for packed in [Training(f"--steps 3000 --seed {seed}") for seed in (2, 3)]:
        packed.ended()
    sizes = [(12_000, 64), (4_000, 256), (8_000, 256), (4_000, 512)]
    for packed in [Training(f"--seed 5 --steps {steps} --batch-size {size}") for steps, size in sizes]:
        packed.ended()
    equal = "equal to the last bit" if resumed == whole else "DIFFERENT"
    print(f"\nsamples of the resumed and the uninterrupted training: {equal}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
