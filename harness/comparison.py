"""A comparison: every arm, every seed, every number of real images, as cells of one study, under one parent run.

A generator's cell trains it and draws its sample set; a classifier's cell waits for that of its samples.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from harness import arms, classifier, experiment, identities, launch, methods, storages, studies, tracking, workers
from harness.arms import Arm
from harness.data import Dataset
from harness.errors import InputError
from harness.plans import ComparisonPlan as Plan
from harness.settings import Common, Single, load
from harness.studies import RUN, Queue, Slot
from harness.tracking import inputs, local


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


def compare(plan: Plan, hyperparameters: Any) -> None:
    """Train every generator and every arm's classifier that the comparison does not have yet."""
    check(plan)
    inputs.check_store(plan.tracking_uri, plan.experiment_name or "comparisons")
    dataset = load(plan, None, seed=0)
    parts = (plan.name, dataset.name, plan.num_synthetic, dataclasses.asdict(hyperparameters), *dataset.contents,
             *identities.of_cas(plan))  # fmt: skip
    identity = identities.digest(*parts)
    storage, study = storages.open_storage(plan.place, plan.beat), f"{plan.name} {identity[:8]}"
    make_parent = partial(_parent, plan, hyperparameters, identity)
    parent = studies.make(study, storage, ["maximize"], {"comparison": identity}, make_parent)
    _check_parent(parent, plan)
    cells = cells_of(plan)
    with tracking.run(
        plan.experiment_name or "comparisons", plan.name, tags={}, params={}, tracking_uri=plan.tracking_uri,
        of=parent,
    ) as run:  # fmt: skip
        queue = Queue(study, storage)
        queue.enqueue(_slots(plan))
        _reopen(queue, cells, parent, plan.tracking_uri)
        workers.work(plan, _work, plan, hyperparameters, study, parent)
        run.describe(
            f"**{plan.name}**: {plan.data_name}, n_real {', '.join(map(str, plan.n_real))}, {plan.seeds} seeds, "
            f"{plan.num_synthetic:,} synthetic images. Its table and pictures are among the artifacts after\n\n"
            f"    python -m analysis.accuracy_table --comparison {parent}"
        )
        _check_done(Queue(study, storage), cells)
    print(f"comparison {parent}: python -m analysis.accuracy_table --comparison {parent}")


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out before anything is created."""
    for name in plan.methods:
        methods.find(name)
    unknown = set(plan.controls) - set(arms.CONTROLS)
    if unknown:
        raise InputError(f"unknown control {min(unknown)!r}; known are {', '.join(arms.CONTROLS)}")
    plan.check(seeds=1)
    if min(plan.amounts, default=1) <= 0:
        raise InputError(f"--amounts {min(plan.amounts):g} must be above 0; the arm none is the sweep's beginning")
    if not all(0 <= share <= 1 for share in plan.shares):
        raise InputError(f"--shares {' '.join(f'{share:g}' for share in plan.shares)} must be between 0 and 1")
    for n_real in plan.n_real:
        load(plan, n_real, seed=0)


def _check_parent(parent: str, plan: Plan) -> None:
    """A comparison goes on in the store where it began. Raises InputError for another one."""
    try:
        inputs.in_store(parent, plan.tracking_uri)
    except InputError as error:
        if "was deleted" in str(error):
            raise
        raise InputError(f"the comparison {plan.name!r} was begun in another store; give another --name") from error


def _parent(plan: Plan, hyperparameters: Any, identity: str) -> str:
    """The comparison's run: the one that the store has of it, else a new one."""
    known = inputs.find_runs(f"tags.comparison = '{identity}'", plan.tracking_uri)
    if known:
        return known[0]["run_id"]
    with tracking.run(
        plan.experiment_name or "comparisons",
        plan.name,
        tags={"kind": "comparison", "dataset": plan.data_name, "comparison": identity},
        params={"dataset": plan.data_name, "num_synthetic": plan.num_synthetic, **flat(hyperparameters)},
        tracking_uri=plan.tracking_uri,
    ) as run:
        pass
    return run.id


def flat(hyperparameters: Any) -> dict[str, Any]:
    return {
        f"{part}.{key}": value
        for part, values in dataclasses.asdict(hyperparameters).items()
        for key, value in values.items()
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


def _slots(plan: Plan) -> list[Slot]:
    cells = cells_of(plan)
    return [
        Slot(name, needs=cell.source.name if cell.source and cell.source.name in cells else None)
        for name, cell in cells.items()
    ]


def _reopen(queue: Queue, cells: Mapping[str, Cell], parent: str, tracking_uri: str | None) -> None:
    """What failed is done again, and what was done but is no longer in the store."""
    under = f"tags.mlflow.parentRunId = '{parent}' and attributes.status = 'FINISHED'"
    there = {run["run_id"] for run in inputs.find_runs(under, tracking_uri)}
    there |= {folder.name for folder in local.folders() if local.status(folder) == "FINISHED"}  # to be sent yet
    for name, past in queue.attempts().items():
        lost = name in cells and not cells[name].samples and past[-1].user_attrs.get(RUN) not in there
        if name in cells and (past[-1].state == TrialState.FAIL or (lost and past[-1].state == TrialState.COMPLETE)):
            queue.reopen([Slot(name)])


def _check_done(queue: Queue, cells: Mapping[str, Cell]) -> None:
    known = queue.attempts()
    failed = [name for name in cells if not studies.is_done(known.get(name, []))]
    if failed:
        reasons = {
            past[-1].user_attrs.get(studies.REASON, "its worker died") for name, past in known.items() if name in failed
        }
        raise InputError(
            f"{len(failed)} cells have failed, such as {failed[0]}: {min(reasons)}; the same command tries again"
        )


def _work(plan: Plan, hyperparameters: Any, study: str, parent: str) -> None:
    """A worker's part."""
    queue = Queue(study, storages.open_storage(plan.place, plan.beat), RandomSampler())
    queue.retries = plan.retries
    cells = cells_of(plan)

    def objective(trial: Trial, slot: Slot) -> float:
        studies.note_worker(trial)
        samples = queue.attempts()[slot.needs][-1].user_attrs[RUN] if slot.needs else None
        task = (plan, hyperparameters, cells[slot.name], parent, study, samples)
        many = plan.processes_per_trial > 1
        run_id, value = workers.span(plan.processes_per_trial, carry_out, *task) if many else carry_out(*task)
        trial.set_user_attr(RUN, run_id)
        return value

    queue.work(_slots(plan), objective)


def carry_out(
    plan: Plan, hyperparameters: Any, cell: Cell, parent: str, study: str, samples: str | None
) -> tuple[str, float]:
    """Train what a cell is, unless the store has it, on all processes; the run's id and its headline figure.

    `samples` is the run of the generator's cell that a classifier's has waited for.
    """
    accelerator = launch.accelerator(plan.process_timeout)
    shared = {field.name: getattr(plan, field.name) for field in dataclasses.fields(Common)}
    own = {"experiment_name": plan.experiment_name or "comparisons", "n_real": cell.n_real, "seed": cell.seed}
    single, tags = Single(**shared | own, resume="auto"), {"study": study}
    dataset = load(single, cell.n_real, cell.seed)
    if cell.samples:
        config = getattr(hyperparameters, cell.arm)
        arm = experiment.generated(cell.arm, config, single, dataset, parent, accelerator, tags=tags)
        return arm.run or "", arm.metrics["samples/conditional_accuracy"]
    config = hyperparameters.classifier
    if cell.share is not None:
        config = dataclasses.replace(config, synthetic_share=cell.share)
    arm = _arm(plan, config, cell, single, dataset, samples, accelerator)
    run_id, figures = experiment.classified(arm, config, single, dataset, parent, accelerator, tags=tags)
    return run_id, figures["test/accuracy"]


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
        return experiment.filtered(arm, config, single, dataset, accelerator)
    if cell.amount is not None and arm.samples is not None:
        return dataclasses.replace(arm, samples=arm.samples[: round(cell.amount * cell.n_real)])
    return arm
