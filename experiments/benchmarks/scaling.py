"""How training scales: images/s with this many processes, and what the gradients of a step cost on a ring of many.

    OMP_NUM_THREADS=1 python experiments/benchmarks/scaling.py --dataset mnist
    OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 \\
        experiments/benchmarks/scaling.py --dataset mnist

About a minute each on two CPU cores. Prints two tables and logs them as a run of the MLflow experiment
`benchmarks`. The global batch is the same for any number of processes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from turns import spread, table, take_turns

from harness import cli, methods, tracking
from harness.bounds import Count, Positive, Seconds
from harness.data import datasets
from harness.runs import generators
from harness.training import launch
from harness.training.loop import Batches, train

if TYPE_CHECKING:
    import pandas as pd
    from accelerate import Accelerator

FOREVER = 1_000_000
WARM_UP = 3
BACKWARD = 2 / 3
"""of a step's time: it computes the gradients of the inputs and of the weights, forward only the outputs"""


@dataclass(frozen=True)
class Plan:
    """What is measured and computed."""

    dataset: str = "digits"
    """digits (embedded), mnist, fashion-mnist or kmnist"""
    data_root: str | None = None
    """folder of the data files; by default the environment's HARNESS_DATA_ROOT"""
    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/"""
    methods: tuple[str, ...] = tuple(methods.names())
    """generators, with their default hyperparameters"""
    batch_size: Count = 64
    """images per step, over all processes"""
    seconds: Seconds = 3.0
    """length of a block, about"""
    repeats: Count = 5
    """blocks per method"""
    worlds: tuple[Count, ...] = (8, 64, 512)
    """numbers of processes on the computed ring"""
    gbits: tuple[Positive, ...] = (10, 25, 100, 400)
    """speeds of its links, Gbit/s"""
    images_per_s: Positive | None = None
    """training speed of one process on the ring; by default what is measured here"""


def main(plan: Plan = Plan()) -> None:
    """Measure every method's training and compute its ring."""
    accelerator = launch.accelerator()
    dataset = datasets.load(plan.dataset, plan.data_root)
    models, blocks = {}, {}
    for name in plan.methods:
        config = methods.find(name).Config(steps=FOREVER, batch_size=plan.batch_size)
        models[name] = generators.build_generator(name, config, dataset.image_shape, seed=0)
        models[name].prepare(accelerator)
        batches = Batches((dataset.train, plan.batch_size), seed=0, accelerator=accelerator)
        blocks[name] = block(models[name], batches, accelerator, plan.seconds)
    rates = take_turns(blocks, plan.repeats, quiet=not accelerator.is_main_process)
    if accelerator.is_main_process:
        report(rates, {name: gradient_bytes(model) for name, model in models.items()}, accelerator, plan)


def block(model: Any, batches: Batches, accelerator: Accelerator, seconds: float) -> Callable[[], float]:
    """What takes about so many seconds and gives its images/s; all processes take the same number of steps."""
    training = train(model, batches, FOREVER)

    def seconds_for(steps: int) -> float:
        accelerator.wait_for_everyone()
        start = time.perf_counter()
        for _ in range(steps):
            next(training)
        accelerator.wait_for_everyone()
        return time.perf_counter() - start

    seconds_for(WARM_UP)
    found = [math.ceil(seconds / (seconds_for(WARM_UP) / WARM_UP))]
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(found)
    return lambda: found[0] * batches.size / seconds_for(found[0])


def gradient_bytes(model: Any) -> int:
    """Bytes of the float32 gradients of all networks that a step may update."""
    groups = [group for optimizer in model.optimizers for group in optimizer.param_groups]
    return sum(weight.numel() * 4 for group in groups for weight in group["params"])


def ring_seconds(num_bytes: float, world: int, gbit: float) -> float:
    """What an all-reduce over a ring takes by bandwidth alone (Patarasuk & Yuan 2009).

    Every process sends, and receives, 2 (world - 1) / world times the bytes.
    """
    return 8 * sent(num_bytes, world) / (gbit * 1e9)


def sent(num_bytes: float, world: int) -> float:
    """Bytes that each process sends."""
    return 2 * (world - 1) / world * num_bytes


def ring_rows(name: str, num_bytes: int, images_per_s: float, plan: Plan) -> list[dict[str, Any]]:
    """In brackets: images per process whose backward pass takes as long as the gradients are under way."""

    def cell(seconds: float) -> str:
        return f"{seconds * 1e3:.3g} ({math.ceil(seconds * images_per_s / BACKWARD)})"

    return [
        {"method": name, "processes": world, "MB sent": f"{sent(num_bytes, world) / 1e6:.2f}"}
        | {f"{gbit:g} Gbit/s, ms (batch)": cell(ring_seconds(num_bytes, world, gbit)) for gbit in plan.gbits}
        for world in plan.worlds
    ]


def report(rates: pd.DataFrame, sizes: dict[str, int], accelerator: Accelerator, plan: Plan) -> None:
    world, threads = accelerator.num_processes, torch.get_num_threads()
    heading = f"images/s, {world} processes of {threads} threads"
    measured = [{"method": name, heading: spread(rates[name])} for name in plan.methods]
    ring = [
        row
        for name in plan.methods
        for row in ring_rows(name, sizes[name], plan.images_per_s or rates[name].median() / world, plan)
    ]
    text = (
        f"{table(measured)}\n\n{table(ring)}\n\n"
        "Median [least, most] of blocks. In brackets: images per process behind whose backward pass the ring hides."
    )
    print(text)
    facts = {"world_size": world, "num_threads": threads, "device": accelerator.device.type}
    with tracking.run(
        "benchmarks",
        f"scaling {plan.dataset}",
        tags={"kind": "benchmark", "dataset": plan.dataset},
        params={**dataclasses.asdict(plan), **facts, "precision": accelerator.mixed_precision},
        tracking_uri=plan.tracking_uri,
    ) as run:
        run.text(text + "\n", "scaling.md")


if __name__ == "__main__":
    cli.main(main)
