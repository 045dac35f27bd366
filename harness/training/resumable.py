"""A training that can end at any moment, on purpose or not, and be gone on with.

Every BOUNDARY steps the processes meet: their metrics are averaged and read from the device, a loss that is
not finite is seen, and a signal that any of them has got becomes everybody's.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from harness import signals
from harness.errors import Diverged, InputError
from harness.signals import Killed
from harness.training import checkpoint, launch
from harness.training.checkpoint import Checkpoint
from harness.training.loop import Batches, train, with_progress_bar

if TYPE_CHECKING:
    from accelerate import Accelerator

BOUNDARY = 10
POINTS = 2000
"""of a metric's curve at most, with the last; a longer training logs the first of every so many steps"""


class Log(Protocol):
    """What a training needs of its run."""

    def metrics(self, values: Mapping[str, float], step: int = 0, timestamp_ms: int | None = None) -> None: ...

    def last_logged_step(self, key: str) -> int:
        """The last step of a metric before this process; -1 where there is none."""
        ...

    def sync(self) -> int:
        """Have all that was said on the disk; returns how many bytes that is."""
        ...


Row = tuple[int, int, Mapping[str, Tensor]]
"""A step, its time in ms, its metrics."""


@dataclass
class Progress:
    """Where a training stands, and its way to the disk, which only the main process touches.

    Without a folder nothing is kept: for trainings of seconds.
    """

    model: Any
    accelerator: Accelerator
    folder: Path | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: int = 0
    device_seconds: float = 0.0

    def save(self, run: Log) -> None:
        """Write a checkpoint of this moment, and of what the run has said until then.

        Raises Diverged where a weight is not finite.
        """
        weights = self.model.state_dict()
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise Diverged(f"a weight is not finite after step {self.step}; {self.last()}")
        if not self.accelerator.is_main_process or self.folder is None:
            return
        scaler = self.accelerator.scaler
        optimizers = {
            "optimizers": [optimizer.state_dict() for optimizer in self.model.optimizers],
            "scaler": scaler.state_dict() if scaler else None,
        }
        notes = {"device_seconds": self.device_seconds, "journal_position": run.sync()}
        checkpoint.save(self.folder, Checkpoint(self.step, self.identity, notes, weights, optimizers))

    def restore(self, run: Log) -> None:
        """Go on with the newest whole checkpoint, if there is one: the main process reads it for all."""
        found: list[Any] = [None]
        if self.accelerator.is_main_process and self.folder:
            try:
                found = [checkpoint.restore(self.folder, self.identity)]
            except InputError as error:
                found = [error]  # everybody's
        found = [launch.broadcast_from_main(found[0], self.accelerator)]
        if isinstance(found[0], InputError):
            raise found[0]
        if found[0] is not None:
            self._load(found[0])
            lost = found[0].notes["journal_position"] - run.sync() if self.accelerator.is_main_process else 0
            if lost > 0:
                print(f"{lost} bytes of the run's journal are lost, and their metrics with them", file=sys.stderr)

    def _load(self, found: Checkpoint) -> None:
        self.model.load_state_dict(found.weights)
        states = found.optimizers["optimizers"]
        for optimizer, state in zip(self.model.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        if self.accelerator.scaler and found.optimizers["scaler"]:
            self.accelerator.scaler.load_state_dict(found.optimizers["scaler"])
        self.step, self.device_seconds = found.step, found.notes["device_seconds"]

    def last(self) -> str:
        step = checkpoint.last_step(self.folder) if self.folder else None
        return f"the last good checkpoint is of step {step}" if step else "there is no checkpoint yet"


def train_resumably(progress: Progress, batches: Batches, steps: int, checkpoint_every: int, run: Log) -> Iterator[int]:
    """Run the steps that are left, with metrics to the run, a bar, and checkpoints; the last step has one too.

    What the caller does between two steps is not counted in `device_seconds`.

    Raises Diverged for metrics or weights that are not finite, and Killed, after a checkpoint, for a signal
    that any process has got.
    """
    accelerator, model = progress.accelerator, progress.model
    waiting: list[Row] = []
    curves = Curves(run, steps)
    with signals.defer_signals() as signalled:
        training = train(model, batches, steps, progress.step)
        start = time.perf_counter()
        for step, metrics in with_progress_bar(
            training, "training", steps, batches.size, accelerator.is_main_process, progress.step
        ):
            waiting.append((step, time.time_ns() // 1_000_000, metrics))
            began = time.perf_counter()
            yield step
            start += time.perf_counter() - began
            last, due = step + 1 == steps, (step + 1) % checkpoint_every == 0
            if last or due or (step + 1) % BOUNDARY == 0:
                ending = sync_and_log(waiting, signalled(), curves, progress)
                progress.step = step + 1
                progress.device_seconds += (time.perf_counter() - start) * accelerator.num_processes
                start = time.perf_counter()
                if last or due or ending:
                    progress.save(run)
                if ending:
                    raise Killed(ending)
        if signalled():  # since the processes last met
            raise Killed(signalled())


class Curves:
    """A training's metrics on their way to its run: of a curve that would be longer, about POINTS points.

    A run that goes on after a kill has the points that it would have had.
    """

    def __init__(self, run: Log, steps: int) -> None:
        self._run, self._steps, self._every = run, steps, -(-steps // POINTS)
        self._last: dict[str, int] = {}

    def log(self, row: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        due = {name: value for name, value in row.items() if self._is_due(name, step)}
        self._last |= dict.fromkeys(due, step)
        self._run.metrics(due, step, timestamp_ms)

    def _is_due(self, name: str, step: int) -> bool:
        last = self._last.get(name, self._run.last_logged_step(name))
        return step // self._every > last // self._every or step + 1 == self._steps


def sync_and_log(waiting: list[Row], signal: int, curves: Curves, progress: Progress) -> int:
    """Send what waits, averaged over the processes; returns a signal that any of them got, else 0."""
    numbers = [value.float() for *_, metrics in waiting for value in metrics.values()]
    flags = [float(signal == number) for number in signals.DEFERRED]
    shared = torch.cat([torch.stack(numbers), torch.tensor(flags, device=progress.accelerator.device)])
    if progress.accelerator.num_processes > 1:
        shared = cast(Tensor, progress.accelerator.reduce(shared, "mean"))
    values = shared.tolist()
    place = 0
    for step, timestamp_ms, metrics in waiting:
        row = dict(zip(metrics, values[place:], strict=False))
        place += len(row)
        curves.log(row, step, timestamp_ms)
        wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
        if wrong:
            raise Diverged(f"{wrong[0]} at step {step}; {progress.last()}")
    waiting.clear()
    return next((int(number) for number, flag in zip(signals.DEFERRED, values[place:], strict=True) if flag), 0)
