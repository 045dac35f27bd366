"""Hyperparameter studies from end to end, and how the winner is held against the default.

The first trial is the default configuration, as far as the study's ranges hold it.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optuna
import pandas as pd
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial

from harness import methods, spaces, storages, tracking
from harness.engine import opening
from harness.engine.engines import Engine, hold_driver_lock
from harness.engine.tasks import Task
from harness.errors import InputError
from harness.evaluation import quality
from harness.outputs import OUTPUTS, as_part
from harness.runs import identities, records
from harness.settings import load_dataset
from harness.spaces import Range
from harness.storages import RUN, best, confirmation_name
from harness.studies.searching import Search, Slots
from harness.studies.trials import OBJECTIVES, PRUNERS, Job, Plan, applies, pruned_by, suggest_values
from harness.tracking import inputs, local
from harness.tracking.addresses import page_of
from harness.tracking.writing import Run

Answer = Callable[[Run, str, BaseStorage, str, bool], list[str]]
"""(run, study's name, its storage, the best trial's configuration or "", whether the study is over): says in the run
what the study has come to, and returns the sentences, or raises InputError.
"""


# --- A study, from end to end ----------------------------------------------------------------------------


def tune(plan: Plan, answer: Answer) -> None:
    """Run a study, or what is left of it, hold its winner against the default, and have it answer."""
    definition = check(plan)
    inputs.check_store(plan.tracking_uri, plan.experiment_name or "studies")
    with opening.open_engine(plan) as workers:
        storage = storages.open_storage(plan.storage)
        storages.check_definition(plan.study, storage, definition)
        with hold_driver_lock(f"study {plan.study}"):
            _drive(plan, definition, storage, workers, answer)


def _drive(plan: Plan, definition: Mapping[str, Any], storage: BaseStorage, workers: Engine, answer: Answer) -> None:
    """Run what is left of a study in its storage, under its one run."""
    make_parent = partial(_make_parent, plan, definition)
    parent = storages.make_study(plan.study, storage, _directions(plan), definition, make_parent)
    inputs.in_store(parent, plan.tracking_uri)  # a study goes on in the store where it began
    with tracking.run(
        plan.experiment_name or "studies", plan.study, tags={}, params={}, tracking_uri=plan.tracking_uri, of=parent
    ) as run:
        say = partial(_say, answer, run, plan, storage)
        _search(plan, parent, storage, workers, partial(say, False))
        _conclude(plan, storage, parent, run)
        print(*say(True), f"page: {page_of(parent, plan.tracking_uri)}", sep="\n")


def _say(answer: Answer, run: Run, plan: Plan, storage: BaseStorage, is_over: bool) -> list[str]:
    """Have the study answer. Trials are not lost where it cannot."""

    def say() -> list[str]:
        winner = best(optuna.load_study(study_name=plan.study, storage=storage))
        return answer(run, plan.study, storage, best_toml(plan, winner) if winner else "", is_over)

    try:
        return storages.patiently(say)
    except InputError as error:
        print(f"the study's run has no answer yet: {error}", file=sys.stderr)
        return []


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
    plan.check()
    if plan.confirm_seeds == 1:
        raise InputError("--confirm-seeds 1 gives no interval; give 0, or at least 2")
    storages.url_of(plan.storage)
    fixed = plan.fixed
    dataset = load_dataset(plan.single(0), plan.n_real, 0)
    if not len(dataset.validation):
        raise InputError(f"with --n-real {plan.n_real} there is no validation split; give a smaller one")
    early = pruned_by(plan)
    if "fid" in (*plan.objectives, early) and len(dataset.validation) < quality.MINIMUM:
        raise InputError(
            f"fid needs {quality.MINIMUM} validation images, and --n-real {plan.n_real} leaves "
            f"{len(dataset.validation)}; give a smaller one"
            + ("" if "fid" in plan.objectives else ", or --pruner none, since a pruner looks at fid")
        )
    identities.with_final_steps(dataclasses.replace(config(), **fixed), dataset)
    records.print_notes(dataset)
    return {
        "method": plan.method,
        "objectives": list(plan.objectives),
        "data": f"{dataset.title} {dataset.real.digest[:16]}",
        "n_real": dataset.n_real,
        "num_synthetic": plan.num_synthetic,
        "seeds_per_trial": plan.seeds_per_trial,
        "fixed": {name: str(value) for name, value in sorted(fixed.items())},
        "space": {name: str(found) for name, found in spaces.narrowed(config, plan.space, fixed).items()},
        "pruner": plan.prunes if early in (None, plan.objectives[0]) else f"{plan.prunes} by {early}",
        "classifier": dataclasses.asdict(plan.classifier),
        **({"scored by": ", ".join(scoring)} if (scoring := identities.scoring_identity(plan)) else {}),
    }


def _directions(plan: Plan) -> list[storages.Direction]:
    return [OBJECTIVES[name].direction for name in plan.objectives]


def _make_parent(plan: Plan, definition: Mapping[str, Any]) -> str:
    with tracking.run(
        plan.experiment_name or "studies",
        plan.study,
        tags={"kind": "study", "study": plan.study, "method": plan.method, "dataset": plan.data_name},
        params={name: json.dumps(value) if isinstance(value, dict) else value for name, value in definition.items()},
        tracking_uri=plan.tracking_uri,
    ) as run:
        pass
    return run.id


def _search(plan: Plan, parent: str, storage: BaseStorage, workers: Engine, answer: Callable[[], object]) -> None:
    """The study's trials, then the winner and the default on fresh seeds."""
    sampler = TPESampler(constant_liar=workers.slots > 1) if plan.sampler == "tpe" else RandomSampler()
    study = optuna.load_study(study_name=plan.study, storage=storage, sampler=sampler, pruner=PRUNERS[plan.prunes]())

    def trial(trial: Trial, slot: str) -> Task:
        return Job(
            plan, parent, "trial", slot, trial.number, suggest_values(plan, trial), range(plan.seeds_per_trial)
        ).task()

    Search(study, _slots(plan), trial, plan.max_failures, answer).run(workers)
    winner = best(study)
    if not plan.confirm_seeds or winner is None or _is_default(plan, winner):
        return
    answer()
    name = confirmation_name(plan.study, winner)
    storages.make_study(name, storage, _directions(plan), {"of": plan.study, "winner": winner.params}, lambda: parent)

    def confirming(trial: Trial, slot: str) -> Task:
        which, _, seed = slot.split()
        values = winner.params if which == "best" else default_values(plan)
        return Job(plan, parent, "confirmation", slot, trial.number, values, [int(seed)]).task()

    again = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler())
    Search(again, _confirmation_slots(plan), confirming).run(workers)


def _slots(plan: Plan) -> Slots:
    return {"0": _suggestible(plan)} | {str(number): {} for number in range(1, plan.trials)}


def default_values(plan: Plan) -> dict[str, Any]:
    """The searched hyperparameters of the default configuration, those that count in it."""
    config, fixed = methods.find(plan.method).Config, plan.fixed
    default = dataclasses.asdict(dataclasses.replace(config(), **fixed))
    space = spaces.narrowed(config, plan.space, fixed)
    return {name: default[name] for name, found in space.items() if applies(found, default)}


def _suggestible(plan: Plan) -> dict[str, Any]:
    """The default values that the study's ranges hold."""
    space = spaces.narrowed(methods.find(plan.method).Config, plan.space, plan.fixed)
    return {name: value for name, value in default_values(plan).items() if _holds(space[name], value)}


def _holds(found: Range, value: Any) -> bool:
    return value in found.choices if found.choices else found.low <= value <= found.high  # type: ignore[operator]


def _is_default(plan: Plan, winner: FrozenTrial) -> bool:
    return winner.params == default_values(plan)


# --- The winner, on fresh seeds --------------------------------------------------------------------------


def _confirmation_slots(plan: Plan) -> Slots:
    first = plan.seeds_per_trial
    seeds = range(first, first + plan.confirm_seeds)
    return {f"{which} seed {seed}": {} for seed in seeds for which in ("default", "best")}


def _conclude(plan: Plan, storage: BaseStorage, parent: str, run: Run) -> None:
    """The best trial as its run's tag and as an artifact that `--config` takes."""
    study = optuna.load_study(study_name=plan.study, storage=storage)
    winner = best(study)
    past = storages.by_slot(study.get_trials(deepcopy=False)).values()
    states = pd.Series([trials[-1].state.name for trials in past]).value_counts()
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    if winner is None:
        raise InputError(f"no trial of {plan.study} is complete ({counted}); the runs' tag reason says why")
    path = OUTPUTS / "studies" / as_part(plan.study) / "best.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(best_toml(plan, winner))
    run.file(path)
    tagged = f"tags.mlflow.parentRunId = '{local.in_the_store(parent)}' and tags.best = 'yes'"
    for before in inputs.find_runs(tagged, plan.tracking_uri):
        inputs.set_tags(before["run_id"], {"best": "no longer"}, plan.tracking_uri)
    inputs.set_tags(winner.user_attrs[RUN], {"best": "yes"}, plan.tracking_uri)
    print(f"{plan.study}: {counted}; configuration {path}, pictures: study.html of run {local.in_the_store(parent)}")


def best_toml(plan: Plan, winner: FrozenTrial) -> str:
    """A trial's configuration as `--config` reads it: floats to the last bit."""
    values = plan.fixed | winner.params
    lines = [f"# best trial {winner.number} of the study {plan.study}", f"[{plan.method}]"]
    return "\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in values.items())]) + "\n"
