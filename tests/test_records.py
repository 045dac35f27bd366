"""The table of records: what a recipe is, which counts, and which is a record."""

import pandas as pd
import pytest
from scipy import stats

from analysis import records

DEVICE = "a processor"


def runs(*recipes: tuple[str, str, float, list[float]]) -> pd.DataFrame:
    """Of each commit, command, seconds and CAS by seed: a run a seed, each recipe a day after the one before."""
    rows = [
        {
            "run_id": f"{commit}{seed}", "commit": commit, "command": command, "training_s": seconds + seed, "cas": cas,
            "dataset": "mnist", "n_real": "55000", "device": DEVICE, "seed": str(seed),
            "start_time": pd.Timestamp(2026, 11, 1 + day, seed, tz="UTC"),
        }
        for day, (commit, command, seconds, scores) in enumerate(recipes)
        for seed, cas in enumerate(scores)
    ]  # fmt: skip
    return pd.DataFrame(rows).sort_values("start_time", ascending=False)  # as a store gives them


GOOD, WEAK = [0.982, 0.983, 0.983, 0.983, 0.984], [0.979, 0.984, 0.983, 0.984, 0.984]


def test_a_record_counts_and_is_quicker_than_all_before_it() -> None:
    table = records.by_recipe(
        runs(
            ("aa", "ddpm.py", 900, GOOD),
            ("bb", "ddpm.py", 500, WEAK),  # quicker, but not past the mark beyond doubt
            ("bb", "ddpm.py --steps 9", 950, GOOD),
            ("cc", "ddpm.py", 700, GOOD),
            ("dd", "ddpm.py", 600, [0.99]),  # of one seed nothing is known
        ),
        0.98,
    )
    assert table[["commit", "recipe"]].to_numpy().tolist() == [
        ["aa", "ddpm.py"], ["bb", "ddpm.py"], ["bb", "ddpm.py --steps 9"], ["cc", "ddpm.py"], ["dd", "ddpm.py"],
    ]  # fmt: skip
    assert table["is_record"].tolist() == [True, False, False, True, False]
    assert table["training_s"].tolist() == [902, 502, 952, 702, 600]
    error = (2 * 0.001**2 / 4 / 5) ** 0.5
    assert table["p"].iloc[0] == pytest.approx(stats.t.sf((0.983 - 0.98) / error, df=4))
    assert table["p"].iloc[1] > records.COUNTS
    assert pd.isna(table["p"].iloc[4])


def test_a_seed_that_was_run_again_counts_once() -> None:
    twice = runs(("aa", "ddpm.py", 900, GOOD), ("aa", "ddpm.py", 100, GOOD))
    (row,) = records.by_recipe(twice, 0.98).to_dict("records")
    assert (row["num_seeds"], row["training_s"]) == (5, 902)


def test_each_device_has_its_own_records() -> None:
    two = runs(("aa", "ddpm.py", 100, GOOD), ("aa", "ddpm.py", 900, GOOD))
    two.loc[two["training_s"] > 800, "device"] = "another"
    assert records.by_recipe(two, 0.98)["is_record"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("command", "recipe"),
    [
        ("python experiments/ddpm.py --dataset mnist --seed 3", "ddpm.py --dataset mnist"),
        ("python3.11 /a/b/vae.py --seed=3 --vae.steps 9 --experiment-name records", "vae.py --vae.steps 9"),
        ("python ddpm.py --tracking-uri http://host --steps 9 --resume auto --seed 12", "ddpm.py --steps 9"),
        ("python ddpm.py --first-seed 2", "ddpm.py --first-seed 2"),
    ],
)
def test_a_recipe_is_a_command_less_its_seed(command: str, recipe: str) -> None:
    assert records.recipe(command) == recipe
