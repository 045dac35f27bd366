"""A comparison: every arm, every seed, every number of real images, as cells under one parent run.

A generator's cell trains it and draws its sample set; a classifier's cell waits for that of its samples.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from harness import methods, numerics, tracking
from harness.data import controls
from harness.data.datasets import Dataset
from harness.engine import opening
from harness.engine.engines import Engine, hold_driver_lock, with_progress_lines
from harness.engine.tasks import Talk, Task
from harness.errors import InputError
from harness.evaluation import classifier
from harness.runs import arms, classifiers, generators, identities
from harness.runs.arms import Arm
from harness.settings import Common, Single, load_dataset, print_notes
from harness.studies.plans import ComparisonPlan as Plan
from harness.tracking import inputs, local
from harness.tracking.addresses import page_of
from harness.tracking.writing import Run
from harness.training import launch


@dataclass(frozen=True)
class Cell:
    """One classifier, or one generator where `samples` is set."""

    arm: str
    n_real: int
    seed: int
    samples: bool = False
    filtered: bool = False
    amount: float | None = None
    share: float | None = None

    @property
    def variant(self) -> str:
        amount = [f"{self.amount:g}x"] if self.amount is not None else []
        return " ".join([*amount, *([f"share={self.share:g}"] if self.share is not None else [])])

    @property
    def name(self) -> str:
        kinds = {"samples": self.samples, "filtered": self.filtered, self.variant: bool(self.variant)}
        return " ".join([self.arm, *(kind for kind, of in kinds.items() if of), f"n={self.n_real} seed={self.seed}"])

    @property
    def source(self) -> "Cell | None":
        """The generator's cell that it waits for, if it is a classifier of samples."""
        return None if self.samples else Cell(self.arm, self.n_real, self.seed, samples=True)


Answer = Callable[[Run, str, str | None, bool], None]
"""(run, comparison's id, store, whether all cells have finished): says in the run what the cells answer, or raises
InputError.
"""
ANSWER_S = 60.0
"""Between two answers of a comparison that goes on."""


def compare(plan: Plan, hyperparameters: Any, answer: Answer) -> None:
    """Train every generator and every arm's classifier that the comparison does not have yet, and have it answer."""
    check(plan)
    inputs.check_store(plan.tracking_uri, plan.experiment_name or "comparisons")
    dataset = load_dataset(plan, None, seed=0)
    print_notes(dataset)
    identity = identities.digest(
        plan.name, dataset.name, plan.num_synthetic, *dataset.contents, *identities.scoring_identity(plan)
    )
    params = {"dataset": plan.data_name, "num_synthetic": plan.num_synthetic, **flat(plan, hyperparameters)}
    with opening.open_engine(plan) as workers, hold_driver_lock(f"comparison {plan.name} {identity[:8]}"):
        parent = _parent(plan, params, identity)
        with tracking.run(
            plan.experiment_name or "comparisons", plan.name, tags={}, params={}, tracking_uri=plan.tracking_uri,
            of=parent,
        ) as run:  # fmt: skip
            run.params(params)
            run.data(dataset.name, dataset.train.digest, dataset.name, "training")
            say = functools.partial(_say, answer, run, parent, plan.tracking_uri)
            failed = _carry_out_all(plan, hyperparameters, parent, workers, functools.partial(say, False))
            say(True)
            if failed:
                name = next(iter(failed))
                raise InputError(
                    f"{len(failed)} cells have failed, such as {name}: {failed[name]}; the same command tries again"
                )
    print(f"comparison {parent}: python -m analysis.accuracy_table --comparison {parent}")
    print(f"page: {page_of(parent, plan.tracking_uri)}")


def _say(answer: Answer, run: Run, parent: str, tracking_uri: str | None, is_whole: bool) -> None:
    """Have the comparison answer. Cells that were trained are not lost where it cannot."""
    try:
        answer(run, parent, tracking_uri, is_whole)
    except InputError as error:
        print(f"the comparison's run has no answer yet: {error}", file=sys.stderr)


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out before anything is created."""
    for name in plan.methods:
        methods.find(name)
    unknown = set(plan.controls) - set(controls.CONTROLS)
    if unknown:
        raise InputError(f"unknown control {min(unknown)!r}; known are {', '.join(controls.CONTROLS)}")
    plan.check()
    if not plan.n_real:
        raise InputError("--n-real needs a number of real images, or several")
    for n_real in plan.n_real:
        load_dataset(plan, n_real, seed=0)


def _parent(plan: Plan, params: Mapping[str, Any], identity: str) -> str:
    """The comparison's run: the one that the store has of it, else a new one. Raises InputError for a deleted one.

    One that has other hyperparameters of the classifier or of a method of the plan is another comparison.
    """
    condition, known = f"tags.comparison = '{identity}'", []
    for deleted in (False, True):
        known = [
            row
            for row in inputs.find_runs(condition, plan.tracking_uri, deleted)
            if all(row.get(f"params.{key}", str(value)) == str(value) for key, value in params.items())
        ]
        if known and not deleted:
            return known[0]["run_id"]
    if known:
        raise InputError(
            f"the comparison {plan.name} was deleted in the store; to have it back: mlflow runs restore "
            f"--run-id {known[0]['run_id']}, or give another --name"
        )
    tags = {"kind": "comparison", "dataset": plan.data_name, "comparison": identity}
    experiment = plan.experiment_name or "comparisons"
    with tracking.run(experiment, plan.name, tags=tags, params=params, tracking_uri=plan.tracking_uri) as run:
        pass
    return run.id


def flat(plan: Plan, hyperparameters: Any) -> dict[str, Any]:
    """The hyperparameters of the classifier and of the plan's methods: `ddpm.steps` …"""
    return {
        f"{part}.{key}": value
        for part in ("classifier", *plan.methods)
        for key, value in dataclasses.asdict(getattr(hyperparameters, part)).items()
    }


def cells_of(plan: Plan) -> dict[str, Cell]:
    """The cells by name, in the order of their slots: `none`, the controls, then each generator and its classifiers."""
    cells = [
        cell
        for n_real in plan.n_real
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for cell in (
            *(Cell(arm, n_real, seed) for arm in ("none", *plan.controls)),
            *(cell for method in plan.methods for cell in _cells_of_generator(plan, method, n_real, seed)),
        )
    ]
    return {cell.name: cell for cell in cells}


def _cells_of_generator(plan: Plan, method: str, n_real: int, seed: int) -> list[Cell]:
    """A sweep leaves out what there are too few samples for."""
    whole = Cell(method, n_real, seed)
    amounts = [amount for amount in plan.amounts if 1 <= round(amount * n_real) <= plan.num_synthetic]
    return [
        Cell(method, n_real, seed, samples=True),
        whole,
        *([dataclasses.replace(whole, filtered=True)] if plan.filtered else []),
        *(dataclasses.replace(whole, amount=amount) for amount in amounts),
        *(dataclasses.replace(whole, share=share) for share in plan.shares),
    ]


def _carry_out_all(
    plan: Plan, hyperparameters: Any, parent: str, workers: Engine, answer: Callable[[], None]
) -> dict[str, str]:
    """Have the cells done that are not; a classifier after the generator of its samples. Why some have failed."""
    cells, known = cells_of(plan), _finished(parent, plan.tracking_uri)
    left = {name: cell for name, cell in cells.items() if name not in known}
    wanted = {cell.source.name for cell in left.values() if cell.source}
    left = {name: cell for name, cell in left.items() if not cell.samples or name in wanted}
    for name, cell in left.items():
        source = cell.source.name if cell.source and cell.source.name in cells else None
        samples = known.get(source) if source else None
        arguments = (plan, hyperparameters, cell, parent, *([samples] if samples or not source else []))
        task = Task(carry_out, arguments, plan.processes_per_trial, plan.trial_timeout)
        workers.submit(name, task, needs=source if source in left else None)
    endings = with_progress_lines(workers.endings(lambda *_: False), plan.name, len(left), workers.slots)
    failed, answered_s = {}, time.monotonic()
    for name, ending in endings:
        if ending.state != "done":
            failed[name] = ending.reason
        if time.monotonic() - answered_s > ANSWER_S:
            answer()
            answered_s = time.monotonic()
    return failed


def _finished(parent: str, tracking_uri: str | None) -> dict[str, str]:
    """The finished runs of a comparison by their cells' names, those that this version would repeat to the digit."""
    under = f"tags.mlflow.parentRunId = '{parent}' and attributes.status = 'FINISHED'"
    rows = inputs.find_runs(under, tracking_uri)
    waiting = [folder for folder in local.folders() if not local.is_sent(folder)]
    rows += [local.row(folder) for folder in waiting if local.status(folder) == "FINISHED"]
    return {
        row["tags.cell_name"]: row["run_id"]
        for row in rows
        if row.get("parent_run_id") == parent
        and row.get("tags.numerics") == str(numerics.VERSION)
        and row.get("params.precision") == launch.precision()
        and "tags.cell_name" in row
    }


def carry_out(talk: Talk, plan: Plan, hyperparameters: Any, cell: Cell, parent: str, samples: str | None = None) -> str:
    """Train what a cell is, unless the store has it, on all processes: the run's id.

    `samples` is the run of the generator's cell that a classifier's has waited for.
    """
    accelerator = launch.accelerator(plan.process_timeout)
    shared = {field.name: getattr(plan, field.name) for field in dataclasses.fields(Common)}
    own = {"experiment_name": plan.experiment_name or "comparisons", "n_real": cell.n_real, "seed": cell.seed}
    single, tags = Single(**shared | own, resume="auto", wait=True), {"cell_name": cell.name}
    dataset = load_dataset(single, cell.n_real, cell.seed)
    if cell.samples:
        config = getattr(hyperparameters, cell.arm)
        return (
            generators.get_or_run_generator(cell.arm, config, single, dataset, parent, accelerator, tags=tags).run or ""
        )
    config = hyperparameters.classifier
    if cell.share is not None:
        config = dataclasses.replace(config, synthetic_share=cell.share)
    arm = _arm(plan, config, cell, single, dataset, samples, accelerator)
    run, _ = classifiers.get_or_run_classifier(arm, config, single, dataset, parent, accelerator, tags=tags)
    return run


def _arm(
    plan: Plan,
    config: classifier.Config,
    cell: Cell,
    single: Single,
    dataset: Dataset,
    samples: str | None,
    accelerator: Accelerator,
) -> Arm:
    """What a classifier's cell adds to the real images."""
    if not samples:
        return arms.control_arm(cell.arm, dataset, plan.num_synthetic, cell.seed)
    arm = dataclasses.replace(arms.generator_arm(samples, plan.tracking_uri), variant=cell.variant)
    if cell.filtered:
        return classifiers.filter_samples(arm, config, single, dataset, accelerator)
    if cell.amount is not None and arm.samples is not None:
        return dataclasses.replace(arm, samples=arm.samples[: round(cell.amount * cell.n_real)])
    return arm
