"""Does the search pay? TPE with pruning against random search, on a cheap real objective, by device-seconds.

    python experiments/benchmarks/search.py --repeats 20

A VAE on 200 embedded digits, 200 steps, judged by its FID on the validation split: about a second a trial, twenty
minutes in all on one core. The mark is the best tenth of all results of random search; what counts is the seconds of
training, looking and scoring until a search has a result that good, on one thread and in its CPU time, which other work
on the machine does not change. Prints a table, writes every trial as CSV.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro
from turns import spread

from harness import cli
from harness.bounds import Count
from harness.evaluation import judging, quality
from harness.methods.vae import Config
from harness.runs import generators, judges
from harness.runs.looks import LOOK_IMAGES, LOOKS
from harness.settings import load_dataset
from harness.studies.plans import StudyPlan as Plan
from harness.training import launch, sampling
from harness.training.loop import Batches, train

if TYPE_CHECKING:
    import optuna
    import pandas as pd

SEARCHES = {"random": ("random", "none"), "tpe, pruned": ("tpe", "median")}
BEST_SHARE = 0.1
RESULTS = Path("outputs/search.csv")


class Cheap:
    """The objective: FID of a VAE after a training of seconds."""

    def __init__(self, steps: int, num_samples: int) -> None:
        self.plan: Plan = tyro.cli(Plan, args=["vae", "--steps", str(steps), "--objectives", "fid", "--n-real", "200"])
        self.num_samples = num_samples
        self.accelerator = launch.accelerator()
        self.dataset = load_dataset(self.plan, self.plan.n_real, 0)
        self.judge, _ = judges.get_judge(self.dataset, self.plan, self.accelerator)

    def __call__(self, trial: optuna.Trial) -> float:
        start = time.process_time()
        try:
            return self._trained(trial)
        finally:
            trial.set_user_attr("device_seconds", time.process_time() - start)

    def _trained(self, trial: optuna.Trial) -> float:
        assert self.plan.steps
        import optuna

        from harness.studies.trials import suggest_values

        config = dataclasses.replace(Config(steps=self.plan.steps), **suggest_values(self.plan, trial))
        model = generators.build_generator("vae", config, self.dataset.image_shape, 0)
        model.prepare(self.accelerator)
        batches = Batches((self.dataset.real, config.batch_size), seed=0, accelerator=self.accelerator)
        for step, _ in train(model, batches, config.steps):
            look, rest = divmod((step + 1) * LOOKS, config.steps)
            if rest < LOOKS and 0 < look < LOOKS:
                trial.report(self._fid(model, LOOK_IMAGES), look)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return self._fid(model, self.num_samples)

    def _fid(self, model: Any, num_images: int) -> float:
        samples, _ = sampling.draw_sample_set(model, num_images, self.dataset.num_classes, 0, self.accelerator)
        two = (judging.features(self.judge, of.images) for of in (samples, self.dataset.validation))
        return quality.frechet_distance(*two)


def main(repeats: Count = 20, trials: Count = 30, steps: Count = 200, num_samples: quality.Enough = 1000) -> None:
    """Repeat each search and say how soon it has a result of the best tenth.

    Args:
        repeats: searches of each kind
        trials: trials of a search
        steps: training steps of a trial
        num_samples: images that are scored
    """
    import numpy as np
    import optuna
    import pandas as pd
    from optuna.samplers import RandomSampler, TPESampler

    from harness.studies.trials import PRUNERS

    samplers = {"tpe": TPESampler, "random": RandomSampler}
    torch.set_num_threads(1)
    objective, rows = Cheap(steps, num_samples), []
    for repeat in range(repeats):
        for name in np.random.default_rng(repeat).permutation(list(SEARCHES)):  # in turns, so that load is shared
            sampler, pruner = SEARCHES[name]
            study = optuna.create_study(sampler=samplers[sampler](seed=repeat), pruner=PRUNERS[pruner]())
            study.optimize(objective, n_trials=trials)
            rows += [
                (name, repeat, trial.number, trial.state.name, trial.value, trial.user_attrs["device_seconds"])
                for trial in study.trials
            ]
    frame = pd.DataFrame(rows, columns=["search", "repeat", "trial", "state", "fid", "device_seconds"])
    RESULTS.parent.mkdir(exist_ok=True)
    frame.to_csv(RESULTS, index=False)
    print(summary(frame).to_markdown())


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Per search: device-seconds until its first result of random search's best tenth, median [quartiles], and more."""
    import numpy as np
    import pandas as pd

    done = frame["state"] == "COMPLETE"
    mark = frame.loc[done & (frame["search"] == "random"), "fid"].quantile(BEST_SHARE)
    frame = frame.assign(spent=frame.groupby(["search", "repeat"])["device_seconds"].cumsum())
    whole = frame.groupby(["search", "repeat"])["spent"].max()
    reached = frame[done & (frame["fid"] <= mark)].groupby(["search", "repeat"])["spent"].min().reindex(whole.index)
    quartiles = partial(spread, low=0.25, high=0.75)
    of_random = whole.loc["random"].median()
    return pd.DataFrame(
        {
            "reached": reached.notna().groupby("search").agg(lambda found: f"{found.sum()} of {len(found)}"),
            "device-s until then": reached.fillna(np.inf).groupby("search").agg(quartiles),
            "share of random's whole search": (reached.fillna(np.inf) / of_random).groupby("search").agg(quartiles),
            "device-s of the whole search": whole.groupby("search").agg(quartiles),
            "best FID": frame[done].groupby(["search", "repeat"])["fid"].min().groupby("search").agg(quartiles),
        }
    ).loc[list(SEARCHES)]


if __name__ == "__main__":
    cli.main(main)
