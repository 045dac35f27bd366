"""What every run says of itself beside its metrics: tags, params, a description."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from harness import numerics
from harness.data import published
from harness.data.datasets import Dataset
from harness.evaluation import classifier
from harness.runs import judges
from harness.settings import Single

if TYPE_CHECKING:
    from accelerate import Accelerator


def print_notes(dataset: Dataset, training: Any = None) -> None:
    """What a user must know of the images before figures come of them, and what was chosen for a folder of theirs.

    `training` is the configuration of a generator, with the steps that it will take.
    """
    for note in (*dataset.notes, *(() if dataset.name in published.DATASETS else _choices(dataset, training))):
        print(f"note: {note}", file=sys.stderr)


def _choices(dataset: Dataset, training: Any) -> Iterator[str]:
    width = classifier.with_size(classifier.Config(), dataset.image_shape).width
    shift = "reflect and shift" if dataset.moves == "reflect" else "rotate, scale and shift"
    network = f"residual networks, {width} channels wide" if width else "of two convolutions"
    yield f"small moves {shift} these images (--moves); classifiers are {network} (--classifier.width)"
    if training:
        passes = training.steps * training.batch_size / len(dataset.real)
        yield (
            f"the generator trains {training.steps:,} steps of {training.batch_size} images, {passes:.0f} times "
            "through the real ones (--steps, --epochs)"
        )


def tags(kind: str, method: str, dataset: Dataset, seed: int, cell: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": method,
        "dataset": dataset.title,
        "n_real": dataset.n_real,
        "seed": seed,
        "cell": cell,
        "numerics": numerics.VERSION,
        "data_digest": dataset.real.digest[:16],
        **({"data_notes": "; ".join(dataset.notes)} if dataset.notes else {}),
    }


def params(config: Any, settings: Single, dataset: Dataset, accelerator: Accelerator) -> dict[str, Any]:
    compiler = accelerator.state.dynamo_plugin
    return {
        **dataclasses.asdict(config),
        "dataset": dataset.title,
        "classes": ", ".join(dataset.classes),
        "image_shape": "x".join(map(str, dataset.train.shape)),
        "moves": dataset.moves,
        "n_real": dataset.n_real,
        "seed": settings.seed,
        "num_synthetic": settings.num_synthetic,
        "cas_steps": settings.cas_steps,
        "judge_steps": judges.config_of(dataset, settings).steps,
        "judge_width": judges.config_of(dataset, settings).width,
        "world_size": accelerator.num_processes,
        "accumulate": settings.accumulate,
        "device": accelerator.device.type,
        "device_name": _device_name(accelerator),
        "num_threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "compile": compiler.backend.value.lower() if compiler else "no",
    }


def _device_name(accelerator: Accelerator) -> str:
    on_gpu = accelerator.device.type == "cuda"
    return torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {os.cpu_count()} cores"


def headline(title: str, dataset: Dataset, settings: Single, figures: dict[str, float]) -> str:
    """A run's description in markdown: what it is, and its figures."""
    rows = [f"| {name} | {_words(name, value)} |" for name, value in sorted(figures.items(), key=_is_cost)]
    held = f"{len(dataset.real):,} of " if len(dataset.real) < dataset.n_real else ""
    title = f"**{title}**, {held}{dataset.n_real:,} real images, seed {settings.seed}"
    return "\n".join([title, "", "| figure | value |", "|:--|--:|", *rows])


def _is_cost(figure: tuple[str, float]) -> bool:
    return figure[0].startswith("cost/")


def _words(name: str, value: float) -> str:
    if name.startswith("cost/"):
        return f"{value:.1f} s"
    shares = not name.startswith(("test/quality/", "test/floor/")) and not name.endswith("fid")
    return f"{value:.2%}" if shares else f"{value:.4g}"


def gpu_memory() -> dict[str, float]:
    """Bytes that the main process's tensors had at most on its GPU."""
    if not torch.cuda.is_available():
        return {}
    return {"cost/peak_gpu_memory_bytes": torch.cuda.max_memory_allocated()}
