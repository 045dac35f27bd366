"""Every arm, every seed, one parent run: does synthetic data make the classifier better?

    python experiments/compare.py --dataset mnist --methods ddpm vae gan --n-real 1000 60000 --seeds 3
    python -m analysis.accuracy_table

The same command goes on where it stopped, and with more seeds, methods or sizes it adds to the same
comparison. A generator whose finished run the store already has is not trained again, and one that differs
from it only in how it is sampled takes over its weights.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from harness import arms, classifier, cli, experiment, launch, methods, tracking
from harness.arms import Arm
from harness.data import Dataset
from harness.errors import InputError
from harness.experiment import Common, Single


@dataclass(frozen=True)
class Plan(Common):
    """What is compared."""

    methods: tuple[str, ...] = tuple(methods.names())
    """generators, a file in harness/methods each"""
    controls: tuple[str, ...] = arms.CONTROLS
    """arms that no generator made"""
    seeds: int = 5
    """number of seeds: splits, weights, order and noise"""
    first_seed: int = 0
    """first of the seeds: another process or machine can take another part of them"""
    n_real: tuple[int, ...] = (1000,)
    """numbers of real training images"""
    name: str = "comparison"
    """name of the parent run"""


Hyperparameters = dataclasses.make_dataclass(
    "Hyperparameters",
    [("classifier", classifier.Config, classifier.Config())]
    + [(name, methods.find(name).Config, methods.find(name).Config()) for name in methods.names()],
    frozen=True,
)


@launch.blamed()
def main(
    plan: Plan = Plan(),
    hyperparameters: Hyperparameters = Hyperparameters(),  # pyright: ignore[reportInvalidTypeForm]
) -> None:
    """Train every generator and every arm's classifier, at every n_real and seed, under one parent run."""
    check(plan)
    accelerator = launch.accelerator(plan.process_timeout)
    experiment_name = plan.experiment_name or "comparisons"
    identity = experiment.digest(plan.name, plan.dataset, plan.num_synthetic, dataclasses.asdict(hyperparameters))
    main_process = accelerator.is_main_process
    known = tracking.find_run(f"tags.comparison = '{identity}'", plan.tracking_uri) if main_process else None
    with tracking.run(
        experiment_name,
        plan.name,
        tags={"kind": "comparison", "dataset": plan.dataset, "comparison": identity},
        params={"dataset": plan.dataset, "num_synthetic": plan.num_synthetic, **flat(hyperparameters)},
        tracking_uri=plan.tracking_uri,
        active=main_process,
        resume=known,
        shared=True,
    ) as parent:
        for n_real in plan.n_real:
            for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
                cell = {"experiment_name": experiment_name, "n_real": n_real, "seed": seed, "resume": "auto"}
                single = Single(
                    **{f.name: getattr(plan, f.name) for f in dataclasses.fields(Common)} | cell,
                )
                compare_arms(plan, hyperparameters, single, parent.id, accelerator)
        parent.describe(
            f"**{plan.name}**: {plan.dataset}, n_real {', '.join(map(str, plan.n_real))}, {plan.seeds} seeds, "
            f"{plan.num_synthetic:,} synthetic images. Its table and pictures are among the artifacts after\n\n"
            f"    python -m analysis.accuracy_table --comparison {parent.id}"
        )
    if main_process:
        print(f"comparison {parent.id}: python -m analysis.accuracy_table --comparison {parent.id}")


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be carried out before anything is created."""
    for name in plan.methods:
        methods.find(name)
    unknown = set(plan.controls) - set(arms.CONTROLS)
    if unknown:
        raise InputError(f"unknown control {min(unknown)!r}; known are {', '.join(arms.CONTROLS)}")
    if plan.seeds < 1:
        raise InputError(f"--seeds {plan.seeds} must be at least 1")
    for n_real in plan.n_real:
        experiment.load(plan, n_real, seed=0)


def compare_arms(plan: Plan, hyperparameters: Any, single: Single, parent: str, accelerator: Accelerator) -> None:
    """All arms at one n_real and seed: `none`, the controls, then each generator."""
    dataset = experiment.load(single, single.n_real, single.seed)
    for name in ("none", *plan.controls):
        arm = arms.control_arm(name, dataset, plan.num_synthetic, single.seed)
        once(arm, hyperparameters.classifier, single, dataset, parent, accelerator)
    for name in plan.methods:
        config = getattr(hyperparameters, name)
        finished = experiment.finished_generator(name, config, single, dataset, accelerator)
        run_id, trained_by = agreed(finished, accelerator)
        if run_id is None:  # on all processes alike
            run_id = agreed(experiment.generator(name, config, single, parent, trained_by), accelerator)
        arm = arms.generator_arm(run_id, single.tracking_uri)
        once(arm, hyperparameters.classifier, single, dataset, parent, accelerator)


def once(
    arm: Arm,
    config: classifier.Config,
    single: Single,
    dataset: Dataset,
    parent: str,
    accelerator: Accelerator,
) -> None:
    """Train the arm's classifier unless this comparison has it."""
    cell = experiment.classifier_cell(arm.name, arm.run, config, single, dataset, accelerator)
    done = accelerator.is_main_process and tracking.find_finished("cell", cell, single.tracking_uri, parent)
    if not agreed(done, accelerator):
        experiment.classify(arm, config, single, dataset, parent)


def agreed(value: Any, accelerator: Accelerator) -> Any:
    """The main process's value, on every process: it alone asks the store."""
    return broadcast_object_list([value])[0] if accelerator.num_processes > 1 else value


def flat(hyperparameters: Any) -> dict[str, Any]:
    return {
        f"{part}.{key}": value
        for part, values in dataclasses.asdict(hyperparameters).items()
        for key, value in values.items()
    }


if __name__ == "__main__":
    cli.main(main)
