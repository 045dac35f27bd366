"""What a study searches, and one trial of it.

A trial trains a generator with the suggested values, for each of `seeds_per_trial` seeds, and scores it on the
validation split; the test split is not read.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial

from harness import experiment, launch, methods, spaces, storages, studies, tracking, workers
from harness.errors import Diverged, Pruned
from harness.experiment import LOOKS, Watch
from harness.plans import StudyPlan as Plan
from harness.settings import load
from harness.spaces import Range
from harness.studies import ATTEMPT, RUN, Queue, Slot
from harness.tracking import local
from harness.tracking.writing import Run


@dataclass(frozen=True)
class Objective:
    """What a study looks for: a figure of a trial, and by what a trial is judged before it has one."""

    figure: str
    direction: Literal["maximize", "minimize"]
    measure: str | None = None  # of the sample set; None where a classifier is trained with it, or nothing
    early: Literal["conditional_accuracy", "fid"] | None = None


OBJECTIVES = {
    "accuracy": Objective("validation/accuracy", "maximize", None, "conditional_accuracy"),
    "cas": Objective("validation/cas", "maximize", "cas", "conditional_accuracy"),
    "conditional_accuracy": Objective(
        "samples/conditional_accuracy", "maximize", "conditional_accuracy", "conditional_accuracy"
    ),
    "fid": Objective("validation/fid", "minimize", "fid", "fid"),
    "train_seconds": Objective("cost/generator_training_device_seconds", "minimize"),
    "sampling_seconds": Objective("cost/generator_sampling_device_seconds", "minimize"),
}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": partial(MedianPruner, n_startup_trials=5),
    "halving": partial(SuccessiveHalvingPruner, min_resource=1, reduction_factor=2),
    "hyperband": partial(HyperbandPruner, min_resource=1, max_resource=LOOKS, reduction_factor=2),
}


# --- One trial -------------------------------------------------------------------------------------------


def suggested(plan: Plan, trial: Any) -> dict[str, Any]:
    """The values that a trial suggests for the searched hyperparameters, those whose condition holds."""
    config, fixed = methods.find(plan.method).Config, plan.fixed
    values = dataclasses.asdict(dataclasses.replace(config(), **fixed))
    found: dict[str, Any] = {}
    for name, among in spaces.narrowed(config, plan.space, fixed).items():
        if not applies(among, values | found):
            continue
        if among.choices:
            found[name] = trial.suggest_categorical(name, among.choices)
        elif isinstance(values[name], int):
            found[name] = trial.suggest_int(name, among.low, among.high, log=among.log)
        else:
            found[name] = trial.suggest_float(name, among.low, among.high, log=among.log)
    return found


def applies(found: Range, values: Mapping[str, Any]) -> bool:
    return all(values[name] == value for name, value in found.when.items())


def run_trial(
    plan: Plan, parent: str, queue: Queue, trial: Trial, slot: Slot, values: Mapping[str, Any], seeds: Sequence[int],
    kind: str,
) -> list[float]:  # fmt: skip
    """One trial in this process, or in several, gone on with where its slot's last worker left it."""
    studies.note_worker(trial)
    resume, attempt = _resumable(queue.attempts()[slot.name]), trial.user_attrs[ATTEMPT]
    task = Task(plan, parent, values, trial.number, attempt, slot.name, resume, seeds, queue.study_name,
                trial._trial_id, kind)  # fmt: skip
    start = time.monotonic()
    if plan.processes_per_trial == 1:
        found = carry_out(task, trial)
    else:
        found = workers.span(plan.processes_per_trial, carry_out, task)
    said = ", ".join(f"{name} {value:.4g}" for name, value in zip(plan.objectives, found, strict=True))
    print(f"{kind} {slot.name}: {said} after {time.monotonic() - start:.0f} s", flush=True)
    return found


def _resumable(past: Sequence[FrozenTrial]) -> str | None:
    """The run of a slot's last attempt, where it can be gone on with from here."""
    runs = [trial.user_attrs[RUN] for trial in past[:-1] if RUN in trial.user_attrs]
    folder = local.find(runs[-1]) if runs else None
    return folder.name if folder and local.is_dead(folder) else None


@dataclass(frozen=True)
class Task:
    """What the processes of a trial must know."""

    plan: Plan
    parent: str
    values: Mapping[str, Any]
    number: int
    attempt: int
    slot: str
    resume: str | None
    seeds: Sequence[int]
    study: str
    trial_id: int
    kind: str


def carry_out(task: Task, trial: Trial | None = None) -> list[float]:
    """Train, sample and score for each seed, on all processes of the trial: the means of the objectives.

    Raises Pruned on all processes alike, and Diverged for a value that is not finite.
    """
    plan, accelerator = task.plan, launch.accelerator(task.plan.process_timeout)
    if trial is None and accelerator.is_main_process:  # of several that the worker has started
        storage = storages.open_storage(plan.place, plan.beat)
        trial = Trial(Queue(task.study, storage, RandomSampler(), PRUNERS[plan.prunes]()), task.trial_id)
    tags = {"study": plan.study, "trial": task.number, "slot": task.slot}
    with (
        contextlib.ExitStack() as after,
        tracking.run(
            plan.experiment_name or "studies",
            f"{plan.study} {task.kind} {task.slot}",
            tags=tags | {"kind": task.kind, "method": plan.method, "dataset": plan.data_name},
            params=task.values,
            parent=task.parent,
            tracking_uri=plan.tracking_uri,
            active=accelerator.is_main_process,
            resume=task.resume,
            why=launch.blame,
        ) as run,
    ):
        run.tags({"trial": task.number, "attempt": task.attempt, "state": "RUNNING"})
        if trial:
            trial.set_user_attr(RUN, run.id)
            after.callback(lambda: trial.set_user_attr(RUN, run.id))  # the store's, when it has all of the run
        try:
            rows = [_one_seed(task, tags, place, run, trial, accelerator) for place in range(len(task.seeds))]
            found = [fmean(row[OBJECTIVES[name].figure] for row in rows) for name in plan.objectives]
            for name, value in zip(plan.objectives, found, strict=True):
                if not value - value == 0:
                    raise Diverged(f"the objective {name} is {value}")
        except Pruned:
            run.tags({"state": "PRUNED"})
            raise
        except BaseException:
            run.tags({"state": "FAIL"})
            raise
        figures = sorted(set.intersection(*(set(row) for row in rows)))
        run.metrics({name: fmean(row[name] for row in rows) for name in figures})
        run.metrics({f"objective/{name}": value for name, value in zip(plan.objectives, found, strict=True)})
        run.tags({"state": "COMPLETE"})
        run.describe(_described(task, found))
    return found


def _one_seed(
    task: Task, tags: Mapping[str, Any], place: int, run: Run, trial: Trial | None, accelerator: Any
) -> dict[str, float]:
    """The figures of one seed; what the run of a trial that was cut off has finished is taken from there."""
    plan, single = task.plan, task.plan.single(task.seeds[place])
    single = dataclasses.replace(single, resume="auto" if task.resume else None)
    config = dataclasses.replace(methods.find(plan.method).Config(), **plan.fixed | dict(task.values))
    dataset = load(single, plan.n_real, single.seed)
    measures = sorted({OBJECTIVES[name].measure or "conditional_accuracy" for name in plan.objectives})
    watch = _watch(plan, place, trial) if task.kind == "trial" else None
    parent = launch.agreed(run.id, accelerator)
    if task.resume:
        again = {"measures": measures, "watch": watch, "tags": tags, "within": parent}
        arm = experiment.generated(plan.method, config, single, dataset, parent, accelerator, **again)
    else:
        arm = experiment.generator(plan.method, config, single, parent, measures=measures, watch=watch, tags=tags)
    figures = dict(arm.metrics)
    if "accuracy" in plan.objectives:
        _, found = experiment.classified(arm, plan.classifier, single, dataset, parent, accelerator, tags=tags)
        figures |= found
    return figures


def _watch(plan: Plan, place: int, trial: Trial | None) -> Watch | None:
    """How the trial is looked at while the `place`-th seed trains; only a pruner wants to know."""
    early = OBJECTIVES[plan.objectives[0]].early
    if plan.prunes == "none" or early is None:
        return None

    def told(look: int, value: float) -> bool:
        if trial is None:
            return False
        trial.report(value, place * LOOKS + look)
        return trial.should_prune()

    return Watch(early, told)


def _described(task: Task, found: Sequence[float]) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in zip(task.plan.objectives, found, strict=True)]
    rows += [f"| {name} | {value} |" for name, value in task.values.items()]
    title = f"**{task.plan.study}**, {task.kind} {task.slot}, attempt {task.attempt}"
    return "\n".join([title, "", "| | |", "|:--|--:|", *rows])
