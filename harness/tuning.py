"""Hyperparameter studies: what a trial is, and how the winner is held against the default.

A trial trains a generator with the suggested values, for each of `seeds_per_trial` seeds, and scores it on the
validation split; the test split is not read. The first trial is the default configuration.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

import optuna
import pandas as pd
import tyro
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial

from harness import experiment, identities, launch, methods, spaces, storages, studies, tracking, workers
from harness.classifier import Config as ClassifierConfig
from harness.confirmation import Confirmation, best, confirmation, confirmation_name
from harness.errors import Diverged, InputError, Pruned
from harness.experiment import LOOKS, Watch
from harness.settings import Common, Single, load
from harness.spaces import Range
from harness.studies import ATTEMPT, RUN, Queue, Slot
from harness.tracking import OUTPUTS, Run
from harness.workers import Crew


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
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}


@dataclass(frozen=True)
class Plan(Crew):
    """A study."""

    method: tyro.conf.Positional[str] = ""
    """ddpm, gan or vae: a file in harness/methods"""
    trials: int = 24
    """trials in all; with more, the same command goes on"""
    objectives: tuple[str, ...] = ("accuracy",)
    """one or two of accuracy (a classifier's, with the samples), cas, conditional_accuracy, fid, train_seconds,
    sampling_seconds; all on the validation split"""
    n_real: int | None = None
    """real training images; by default all but the validation images"""
    seeds_per_trial: int = 1
    """seeds over which a trial's value is the mean; the same for every trial"""
    steps: int | None = None
    """steps of every training; by default the method's"""
    epochs: float | None = None
    """epochs of every training, no longer searched; by default the method's"""
    batch_size: int | None = None
    """images per step; by default the method's"""
    space: tuple[str, ...] = ()
    """NAME=low:high[:log] or NAME=a,b: narrower ranges"""
    fix: tuple[str, ...] = ()
    """NAME=value: hyperparameters that are not searched"""
    sampler: Literal["tpe", "random"] = "tpe"
    """how values are suggested"""
    pruner: Literal["none", "median", "halving", "hyperband"] | None = None
    """which trials end early; by default median, with two objectives none"""
    name: str | None = None
    """the study's name; by default METHOD-DATASET"""
    max_failures: int = 5
    """the study ends when so many trials have failed and none has not; 0 never"""
    confirm_seeds: int = 5
    """fresh seeds on which the winner is trained beside the default; 0 for none"""
    classifier: ClassifierConfig = ClassifierConfig()  # noqa: RUF009

    @property
    def study(self) -> str:
        return self.name or f"{self.method}-{self.data_name}"


# --- A study, from end to end ----------------------------------------------------------------------------


def tune(plan: Plan) -> None:
    """Run a study, or what is left of it, in `plan.workers` workers, and hold its winner against the default."""
    definition = check(plan)
    storage = storages.open_storage(plan.place, plan.beat)
    studies.check_definition(plan.study, storage, definition)
    parent = studies.make(plan.study, storage, _directions(plan), definition, partial(_make_parent, plan, definition))
    tracking.get_run(parent, plan.tracking_uri)  # a study goes on in the store where it began
    with tracking.run(
        plan.experiment_name or "studies", plan.study, tags={}, params={}, tracking_uri=plan.tracking_uri,
        resume=parent, shared=True,
    ) as run:  # fmt: skip
        try:
            Queue(plan.study, storage).enqueue(_slots(plan))
            workers.work(plan, _search, plan, parent)
            confirmed = confirmation(plan.study, storage)
        finally:
            tracking.close_left(plan.study, plan.tracking_uri)
        _conclude(plan, storage, run, confirmed)


def check(plan: Plan) -> dict[str, Any]:
    """What the study is, as its storage keeps it. Raises InputError, before anything is made, for what cannot be."""
    config = methods.find(plan.method).Config
    for name in plan.objectives:
        if name not in OBJECTIVES:
            raise InputError(f"unknown objective {name!r}; known are {', '.join(OBJECTIVES)}")
    if not 1 <= len(set(plan.objectives)) == len(plan.objectives) <= 2:
        raise InputError(f"--objectives {' '.join(plan.objectives)} must be one, or two different ones")
    if len(plan.objectives) == 2 and plan.pruner not in (None, "none"):
        raise InputError(f"--pruner {plan.pruner} needs one objective: with two no trial is known to be the worse one")
    plan.check(trials=1, seeds_per_trial=1, max_failures=0, confirm_seeds=0)
    if plan.confirm_seeds == 1:
        raise InputError("--confirm-seeds 1 gives no interval; give 0, or at least 2")
    fixed = _fixed(plan)
    dataset = load(_single(plan, 0), plan.n_real, 0)
    if not len(dataset.validation):
        raise InputError(f"with --n-real {plan.n_real} there is no validation split; give a smaller one")
    identities.with_real_steps(dataclasses.replace(config(), **fixed), dataset)
    return {
        "method": plan.method,
        "objectives": list(plan.objectives),
        "data": f"{dataset.name} {dataset.real.digest[:16]}",
        "n_real": len(dataset.real),
        "num_synthetic": plan.num_synthetic,
        "seeds_per_trial": plan.seeds_per_trial,
        "fixed": {name: str(value) for name, value in sorted(fixed.items())},
        "space": {name: str(found) for name, found in spaces.narrowed(config, plan.space, fixed).items()},
        "pruner": _pruner_name(plan),
        "classifier": dataclasses.asdict(plan.classifier),
    }


def _directions(plan: Plan) -> list[studies.Direction]:
    return [OBJECTIVES[name].direction for name in plan.objectives]


def _fixed(plan: Plan) -> dict[str, Any]:
    """The hyperparameters that are not searched because the command says what they are."""
    config = methods.find(plan.method).Config
    given = {name: getattr(plan, name) for name in ("steps", "epochs", "batch_size")}
    return {name: value for name, value in given.items() if value is not None} | spaces.fixed_values(config, plan.fix)


def _pruner_name(plan: Plan) -> str:
    return plan.pruner or ("median" if len(plan.objectives) == 1 else "none")


def _make_parent(plan: Plan, definition: Mapping[str, Any]) -> str:
    with tracking.run(
        plan.experiment_name or "studies",
        plan.study,
        tags={"kind": "study", "study": plan.study, "method": plan.method, "dataset": plan.data_name},
        params={name: json.dumps(value) if isinstance(value, dict) else value for name, value in definition.items()},
        tracking_uri=plan.tracking_uri,
        shared=True,
    ) as run:
        return run.id


def _search(plan: Plan, parent: str) -> None:
    """A worker's part of the study: its trials, then the winner and the default on fresh seeds."""
    storage = storages.open_storage(plan.place, plan.beat)
    queue = Queue(plan.study, storage, SAMPLERS[plan.sampler](), PRUNERS[_pruner_name(plan)]())
    queue.retries, queue.max_failures = plan.retries, plan.max_failures
    queue.work(_slots(plan), partial(_trial, plan, parent, queue))
    winner = best(queue)
    if plan.confirm_seeds and winner is not None and not _is_default(plan, winner):
        definition = {"of": plan.study, "winner": winner.params}
        name = confirmation_name(plan.study, winner)
        studies.make(name, storage, _directions(plan), definition, lambda: parent)
        again = Queue(name, storage, RandomSampler(), NopPruner())
        again.retries = plan.retries
        again.work(_confirmation_slots(plan), partial(_confirming_trial, plan, parent, again, winner.params))


def _slots(plan: Plan) -> list[Slot]:
    return [Slot("0", _suggestible(plan)), *(Slot(str(number)) for number in range(1, plan.trials))]


def default_values(plan: Plan) -> dict[str, Any]:
    """The searched hyperparameters of the default configuration, those that count in it."""
    config, fixed = methods.find(plan.method).Config, _fixed(plan)
    default = dataclasses.asdict(dataclasses.replace(config(), **fixed))
    space = spaces.narrowed(config, plan.space, fixed)
    return {name: default[name] for name, found in space.items() if _applies(found, default)}


def _suggestible(plan: Plan) -> dict[str, Any]:
    """The default values that the study's ranges hold."""
    space = spaces.narrowed(methods.find(plan.method).Config, plan.space, _fixed(plan))
    return {name: value for name, value in default_values(plan).items() if _holds(space[name], value)}


def _holds(found: Range, value: Any) -> bool:
    return value in found.choices if found.choices else found.low <= value <= found.high  # type: ignore[operator]


def _applies(found: Range, values: Mapping[str, Any]) -> bool:
    return all(values[name] == value for name, value in found.when.items())


def _is_default(plan: Plan, winner: FrozenTrial) -> bool:
    return winner.params == default_values(plan)


# --- A trial ---------------------------------------------------------------------------------------------


def suggested(plan: Plan, trial: Any) -> dict[str, Any]:
    """The values that a trial suggests for the searched hyperparameters, those whose condition holds."""
    config, fixed = methods.find(plan.method).Config, _fixed(plan)
    values = dataclasses.asdict(dataclasses.replace(config(), **fixed))
    found: dict[str, Any] = {}
    for name, among in spaces.narrowed(config, plan.space, fixed).items():
        if not _applies(among, values | found):
            continue
        if among.choices:
            found[name] = trial.suggest_categorical(name, among.choices)
        elif isinstance(values[name], int):
            found[name] = trial.suggest_int(name, among.low, among.high, log=among.log)
        else:
            found[name] = trial.suggest_float(name, among.low, among.high, log=among.log)
    return found


def _trial(plan: Plan, parent: str, queue: Queue, trial: Trial, slot: Slot) -> list[float]:
    """One trial of the search: its objectives."""
    return _done(plan, parent, queue, trial, slot, suggested(plan, trial), range(plan.seeds_per_trial), "trial")


def _done(
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
    return runs[-1] if runs and tracking.can_go_on(runs[-1]) else None


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
        trial = Trial(Queue(task.study, storage, RandomSampler(), PRUNERS[_pruner_name(plan)]()), task.trial_id)
    tags = {"study": plan.study, "trial": task.number, "slot": task.slot}
    with tracking.run(
        plan.experiment_name or "studies",
        f"{plan.study} {task.kind} {task.slot}",
        tags=tags | {"kind": task.kind, "method": plan.method, "dataset": plan.data_name},
        params=task.values,
        parent=task.parent,
        tracking_uri=plan.tracking_uri,
        active=accelerator.is_main_process,
        resume=task.resume,
        why=launch.blame,
    ) as run:
        run.tags({"trial": task.number, "attempt": task.attempt, "state": "RUNNING"})
        if trial:
            trial.set_user_attr(RUN, run.id)
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
    plan, single = task.plan, _single(task.plan, task.seeds[place])
    single = dataclasses.replace(single, resume="auto" if task.resume else None)
    config = dataclasses.replace(methods.find(plan.method).Config(), **_fixed(plan) | dict(task.values))
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
    if _pruner_name(plan) == "none" or early is None:
        return None

    def told(look: int, value: float) -> bool:
        if trial is None:
            return False
        trial.report(value, place * LOOKS + look)
        return trial.should_prune()

    return Watch(early, told)


def _single(plan: Plan, seed: int) -> Single:
    shared = {field.name: getattr(plan, field.name) for field in dataclasses.fields(Common)}
    own = {"experiment_name": plan.experiment_name or "studies", "n_real": plan.n_real, "seed": seed}
    return Single(**shared | own, register=False, test=False)


def _described(task: Task, found: Sequence[float]) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in zip(task.plan.objectives, found, strict=True)]
    rows += [f"| {name} | {value} |" for name, value in task.values.items()]
    title = f"**{task.plan.study}**, {task.kind} {task.slot}, attempt {task.attempt}"
    return "\n".join([title, "", "| | |", "|:--|--:|", *rows])


# --- The winner, on fresh seeds --------------------------------------------------------------------------


def _confirmation_slots(plan: Plan) -> list[Slot]:
    first = plan.seeds_per_trial
    return [
        Slot(f"{which} seed {seed}")
        for seed in range(first, first + plan.confirm_seeds)
        for which in ("default", "best")
    ]


def _confirming_trial(
    plan: Plan, parent: str, queue: Queue, winner: Mapping[str, Any], trial: Trial, slot: Slot
) -> list[float]:
    which, _, seed = slot.name.split()
    values = winner if which == "best" else default_values(plan)
    return _done(plan, parent, queue, trial, slot, values, [int(seed)], "confirmation")


def _conclude(plan: Plan, storage: Any, run: Run, confirmed: Confirmation | None) -> None:
    """The best trial as a tag and as an artifact that `--config` takes; what the study came to, on its run's page."""
    study = optuna.load_study(study_name=plan.study, storage=storage)
    winner = best(study)
    past = studies.attempts(study.get_trials(deepcopy=False)).values()
    states = pd.Series([trials[-1].state.name for trials in past]).value_counts()
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    if winner is None:
        raise InputError(f"no trial of {plan.study} is complete ({counted}); the runs' tag reason says why")
    text = best_toml(plan, winner)
    path = OUTPUTS / "studies" / plan.study / "best.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    run.file(path)
    before = tracking.get_run(run.id, plan.tracking_uri).get("tags.best_run")
    if isinstance(before, str):
        tracking.tag(before, {"best": "no longer"}, plan.tracking_uri)
    tracking.tag(winner.user_attrs[RUN], {"best": "yes"}, plan.tracking_uri)
    run.tags({"best_trial": winner.number, "best_run": winner.user_attrs[RUN]})
    said = ", ".join(f"{name} {value:.4g}" for name, value in zip(plan.objectives, winner.values, strict=True))
    words = f"best trial {winner.number}: {said}; {counted}"
    if confirmed:
        words += "; " + confirmed.words(plan.objectives[0], _directions(plan)[0])
        run.text(confirmed.frame.to_csv(index=False), "confirmation.csv")
        for name in ("difference", "low", "high", "p"):
            run.metrics({f"confirmation/{name}": getattr(confirmed, name)})
    elif _is_default(plan, winner):
        words += "; no trial beat the default configuration"
    run.metrics({f"best/{name}": value for name, value in zip(plan.objectives, winner.values, strict=True)})
    run.describe(f"**{plan.study}**: {words}.\n\n```toml\n{text}```\n\nIts pictures: `python -m analysis.studies`")
    print(f"{plan.study}: {words}; configuration {path}, pictures: python -m analysis.studies {plan.study}")


def best_toml(plan: Plan, winner: FrozenTrial) -> str:
    """A trial's configuration as `--config` reads it: floats to the last bit."""
    values = _fixed(plan) | winner.params
    lines = [f"# best trial {winner.number} of the study {plan.study}", f"[{plan.method}]"]
    return "\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in values.items())]) + "\n"
