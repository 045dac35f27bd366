"""A comparison: every arm, every seed, every number of real images, as cells under one parent run.

A generator's cell trains it and draws its sample set; a classifier's cell waits for that of its samples.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import methods, numerics, spaces, tracking
from harness.data import controls
from harness.engine import opening
from harness.engine.engines import Engine, hold_driver_lock, with_progress_lines
from harness.engine.tasks import Talk, Task
from harness.errors import InputError
from harness.evaluation import classifier, selecting
from harness.runs import arms, classifiers, generators, identities, records
from harness.settings import Common, Single, load_dataset
from harness.studies.answering import Tenths
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
    selected: str = ""
    """one of `selecting.WAYS`: which samples are used"""
    variant: str = ""
    """of a sweep: 0.5x, share=0.25, batch=enlarged or weight=0.3"""
    setting: str = ""
    """one of the plan's `more_classifiers`"""

    @property
    def name(self) -> str:
        kinds = ["samples" if self.samples else "", self.selected, self.variant, self.setting]
        return " ".join([self.arm, *filter(None, kinds), f"n={self.n_real} seed={self.seed}"])

    @property
    def source(self) -> "Cell | None":
        """The generator's cell that it waits for, if it is a classifier of samples."""
        return None if self.samples else Cell(self.arm, self.n_real, self.seed, samples=True)

    def config(self, config: classifier.Config) -> classifier.Config:
        """The comparison's classifier as this cell has it."""
        changes = settings_of(self.setting) if self.setting else {}
        name, _, value = self.variant.partition("=")
        if value:
            changes["batch" if name == "batch" else f"synthetic_{name}"] = value if name == "batch" else float(value)
        return dataclasses.replace(config, **changes)


def settings_of(text: str) -> dict[str, Any]:
    """What is other in a classifier such as width=16,augment=True. Raises InputError for what it does not have."""
    return spaces.fixed_values(classifier.Config, tuple(text.split(",")), "--more-classifiers")


Answer = Callable[[Run, str, str | None, Sequence[int]], None]
"""(run, comparison's id, store, the n_real of each cell that is to come): says in the run what the cells answer, or
raises InputError.
"""


def compare(plan: Plan, hyperparameters: Any, answer: Answer) -> None:
    """Train every generator and every arm's classifier that the comparison does not have yet, and have it answer."""
    check(plan)
    inputs.check_store(plan.tracking_uri, plan.experiment_name or "comparisons")
    dataset = load_dataset(plan, min(plan.n_real), seed=0)
    records.print_notes(dataset)
    identity = identities.digest(
        plan.name, dataset.title, plan.num_synthetic, *dataset.contents, *identities.scoring_identity(plan)
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
            failed = _carry_out_all(plan, hyperparameters, parent, workers, say)
            say([])
            if failed:
                name = next(iter(failed))
                raise InputError(
                    f"{len(failed)} cells have failed, such as {name}: {failed[name]}; the same command tries again"
                )
    print(f"comparison {parent}: python -m analysis.accuracy_table --comparison {parent}")
    print(f"page: {page_of(parent, plan.tracking_uri)}")


def _say(answer: Answer, run: Run, parent: str, tracking_uri: str | None, to_come: Sequence[int]) -> None:
    """Have the comparison answer. Cells that were trained are not lost where it cannot."""
    try:
        answer(run, parent, tracking_uri, to_come)
    except InputError as error:
        print(f"the comparison's run has no answer yet: {error}", file=sys.stderr)


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out before anything is created."""
    for arm in plan.methods:
        methods.of_arm(methods.find(arm.partition("-")[0]).Config(), arm)
    unknown = set(plan.controls) - set(controls.CONTROLS)
    if unknown:
        raise InputError(f"unknown control {min(unknown)!r}; known are {', '.join(controls.CONTROLS)}")
    for setting in plan.more_classifiers:
        settings_of(setting)
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
        for part in dict.fromkeys(["classifier", *(arm.partition("-")[0] for arm in plan.methods)])
        for key, value in dataclasses.asdict(getattr(hyperparameters, part)).items()
    }


def cells_of(plan: Plan) -> dict[str, Cell]:
    """The cells by name, in the order of their slots: `none`, the controls, then each generator and its classifiers."""
    cells = [
        cell
        for n_real in plan.n_real
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for arm in ("none", *plan.controls, *plan.methods)
        for cell in _cells_of(plan, Cell(arm, n_real, seed))
    ]
    return {cell.name: cell for cell in cells}


def _cells_of(plan: Plan, whole: Cell) -> Iterator[Cell]:
    """An arm's cells. A sweep, of generators alone, leaves out what there are too few samples for."""
    is_generator = whole.arm in plan.methods
    if is_generator:
        yield dataclasses.replace(whole, samples=True)
    selected = [
        way
        for way in selecting.WAYS
        if getattr(plan, way) and (is_generator or whole.arm == "affine" or (way == "levelled" and whole.arm != "none"))
    ]
    amounts = [amount for amount in plan.amounts if 1 <= round(amount * whole.n_real) <= plan.num_synthetic]
    variants = [
        *(f"{amount:g}x" for amount in amounts),
        *(f"share={share:g}" for share in plan.shares),
        *(f"batch={batch}" for batch in plan.batches),
        *(f"weight={weight:g}" for weight in plan.weights),
    ]
    for setting in ("", *plan.more_classifiers):
        arm = dataclasses.replace(whole, setting=setting)
        yield arm
        yield from (dataclasses.replace(arm, selected=way) for way in selected)
        if is_generator:
            yield from (dataclasses.replace(arm, variant=variant) for variant in variants)


def _carry_out_all(
    plan: Plan, hyperparameters: Any, parent: str, workers: Engine, answer: Callable[[Sequence[int]], None]
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
    failed, to_come, tenths = {}, dict(left), Tenths(len(left))
    for name, ending in endings:
        del to_come[name]
        if ending.state != "done":
            failed[name] = ending.reason
        if tenths.is_reached(len(left) - len(to_come)):
            answer([cell.n_real for cell in to_come.values()])
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
        method = cell.arm.partition("-")[0]
        config = methods.of_arm(getattr(hyperparameters, method), cell.arm)
        arm = generators.get_or_run_generator(method, config, single, dataset, parent, accelerator, tags=tags)
        return arm.run or ""
    if samples:
        arm = dataclasses.replace(arms.generator_arm(samples, plan.tracking_uri), variant=cell.variant)
    else:
        arm = arms.control_arm(cell.arm, dataset, plan.num_synthetic, cell.seed)
    if cell.selected:
        arm = classifiers.select_samples(
            cell.selected, arm, hyperparameters.classifier, single, dataset, accelerator
        )  # fmt: skip
    if cell.variant.endswith("x") and arm.samples is not None:
        arm = dataclasses.replace(arm, samples=arm.samples[: round(float(cell.variant[:-1]) * cell.n_real)])
    config = cell.config(hyperparameters.classifier)
    if cell.selected == "levelled" and arm.samples is not None:  # a batch has all classes equally
        config = dataclasses.replace(
            config, synthetic_share=1 - len(dataset.real) / (len(dataset.real) + len(arm.samples))
        )
    run, _ = classifiers.get_or_run_classifier(
        arm, config, single, dataset, parent, accelerator, not plan.cluster, tags=tags, setting=cell.setting
    )
    return run
