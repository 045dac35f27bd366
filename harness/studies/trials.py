"""What a study searches, and one trial of it.

A trial trains a generator with the suggested values, for each of `seeds_per_trial` seeds, and scores it on the
validation split; the test split is not read.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from harness import methods, spaces, tracking
from harness.engine.tasks import Talk, Task
from harness.errors import Diverged, Pruned
from harness.runs import classifiers, generators, identities
from harness.runs.looks import LOOKS, Watch
from harness.settings import load_dataset
from harness.spaces import Range
from harness.studies.plans import StudyPlan as Plan
from harness.tracking import local
from harness.tracking.writing import Run
from harness.training import launch


@dataclass(frozen=True)
class Objective:
    """What a study looks for: a figure of a trial, and the objective by which a trial is judged before it has one."""

    figure: str
    direction: Literal["maximize", "minimize"]
    measure: str | None = None  # of the sample set; None where a classifier is trained with it, or nothing
    early: Literal["conditional_accuracy", "fid"] | None = None


OBJECTIVES = {
    "accuracy": Objective("validation/accuracy", "maximize", None, "fid"),
    "cas": Objective("validation/cas", "maximize", "cas", "fid"),
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


LIVES_S = 0.5


# --- One trial -------------------------------------------------------------------------------------------


def suggest_values(plan: Plan, trial: Any) -> dict[str, Any]:
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


@dataclass(frozen=True)
class Job:
    """What the processes of a trial must know."""

    plan: Plan
    parent: str
    kind: Literal["trial", "confirmation"]
    slot: str
    number: int
    values: Mapping[str, Any]
    seeds: Sequence[int]

    @property
    def cell(self) -> str:
        """The same for every attempt at a slot with these values."""
        return identities.digest(self.parent, self.kind, self.slot, dict(self.values))

    def task(self) -> Task:
        return Task(run_trial, (self,), self.plan.processes_per_trial, self.plan.trial_timeout)


def run_trial(talk: Talk, job: Job) -> list[float]:
    """Train, sample and score for each seed, on all processes of the trial: the means of the objectives.

    Goes on with the run of the slot's last attempt where that can be done from here.

    Raises Pruned on all processes alike, and Diverged for a value that is not finite.
    """
    plan, accelerator = job.plan, launch.accelerator(job.plan.process_timeout)
    past = launch.broadcast_from_main(_last_attempt(job) if accelerator.is_main_process else None, accelerator)
    is_over = past is not None and local.status(local.RUNS / past) == "FINISHED"  # whoever asked for it has not heard
    tags = {"study": plan.study, "trial": job.number, "slot": job.slot}
    with tracking.run(
        plan.experiment_name or "studies",
        f"{plan.study} {job.kind} {job.slot}",
        tags=tags | {"kind": job.kind, "method": plan.method, "dataset": plan.data_name, "cell": job.cell},
        params=job.values,
        parent=job.parent,
        tracking_uri=plan.tracking_uri,
        active=accelerator.is_main_process,
        resume=past,
        why=launch.first_failure,
    ) as run:
        run.tags({"trial": job.number, **({} if is_over else {"state": "RUNNING"})})
        if accelerator.is_main_process:
            talk.begun(run.id)
        if past and is_over:
            known = local.row(local.RUNS / past)
            return [known[f"metrics.objective/{name}"] for name in plan.objectives]
        try:
            rows = [_one_seed(job, tags, place, run, bool(past), talk, accelerator) for place in range(len(job.seeds))]
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
        run.describe(_described(job, found))
    return found


def _last_attempt(job: Job) -> str | None:
    """The folder of the slot's last run, to be gone on with or finished; waits for the end of one that lives."""
    folder = next(local.of_cell(job.cell, job.plan.tracking_uri, job.parent), None)
    while folder and not local.is_dead(folder):
        time.sleep(LIVES_S)
    return folder.name if folder else None


def _one_seed(
    job: Job, tags: Mapping[str, Any], place: int, run: Run, again: bool, talk: Talk, accelerator: Any
) -> dict[str, float]:
    """The figures of one seed; what a trial that goes on has finished before is taken from there."""
    plan = job.plan
    single = dataclasses.replace(plan.single(job.seeds[place]), resume="auto" if again else None)
    config = dataclasses.replace(methods.find(plan.method).Config(), **plan.fixed | dict(job.values))
    dataset = load_dataset(single, plan.n_real, single.seed)
    measures = sorted({OBJECTIVES[name].measure or "conditional_accuracy" for name in plan.objectives})
    watch = watch_of(job, place, talk)
    parent = launch.broadcast_from_main(run.id, accelerator)
    how: dict[str, Any] = {"measures": measures, "watch": watch, "tags": tags}
    if again:
        arm = generators.get_or_run_generator(
            plan.method, config, single, dataset, parent, accelerator, within=parent, **how
        )
    else:
        arm = generators.run_generator(plan.method, config, single, parent, dataset=dataset, **how)
    figures = dict(arm.metrics)
    if "accuracy" in plan.objectives:
        given = (arm, plan.classifier, single, dataset, parent)
        if again:
            _, found = classifiers.get_or_run_classifier(*given, accelerator, tags=tags)
        else:
            _, found = classifiers.run_classifier(*given, tags=tags)
        figures |= found
    return figures


def pruned_by(plan: Plan) -> Literal["conditional_accuracy", "fid"] | None:
    """What a pruner judges trials by before they have their value; None where none is pruned."""
    return None if plan.prunes == "none" else OBJECTIVES[plan.objectives[0]].early


def watch_of(job: Job, place: int, talk: Talk) -> Watch | None:
    """How a trial is looked at while its `place`-th seed trains; only a pruner wants to know."""
    early = pruned_by(job.plan)
    if job.kind != "trial" or early is None:
        return None
    sign = 1 if OBJECTIVES[early].direction == OBJECTIVES[job.plan.objectives[0]].direction else -1

    def should_stop(look: int, value: float) -> bool:
        talk.report(place * LOOKS + look, sign * value)
        return talk.should_stop()

    return Watch(early, should_stop)


def _described(job: Job, found: Sequence[float]) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in zip(job.plan.objectives, found, strict=True)]
    rows += [f"| {name} | {value} |" for name, value in job.values.items()]
    title = f"**{job.plan.study}**, {job.kind} {job.slot}"
    return "\n".join([title, "", "| | |", "|:--|--:|", *rows])
