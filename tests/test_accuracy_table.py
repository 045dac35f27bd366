"""The accuracy table of a stored comparison, its files exact to the letter, and of a real MLflow store."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import processes
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from analysis import accuracy_table, curves, pages, runs, tables
from harness.errors import InputError

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


def stored_runs() -> pd.DataFrame:
    """The 36 classifier runs of a comparison: 2 n_real x 6 arms x 3 seeds, ddpm's last at 600 FAILED,
    gan's seed 1 at 100 collapsed to one class."""
    stored = pd.read_csv(GOLDEN / "runs.csv")
    text = [name for name in stored if name.startswith(("tags.", "params."))]
    return stored.astype(dict.fromkeys(text, str))


@pytest.fixture
def cells() -> pd.DataFrame:
    return runs.finished_cells(stored_runs())


def by_arm(cells: pd.DataFrame) -> pd.DataFrame:
    return accuracy_table.accuracy_table(cells).set_index(["n_real", "method"])


# The files


@pytest.mark.parametrize("name", ["accuracy_table.md", "accuracy_table.csv", "accuracy_table.tex"])
def test_the_files_are_those_stored(name: str, cells: pd.DataFrame, tmp_path: Path) -> None:
    accuracy_table.write(cells, tmp_path)
    written, golden = (folder.joinpath(name).read_text(encoding="utf-8") for folder in (tmp_path, GOLDEN))
    assert written == golden, f"if this is what it should be: cp {tmp_path / name} {GOLDEN / name}"


def test_the_plot_has_a_panel_per_n_real_and_a_dot_per_seed(cells: pd.DataFrame) -> None:
    figure = accuracy_table.plot(accuracy_table.pairs(cells))
    assert [panel.get_title() for panel in figure.axes] == ["100 real images", "600 real images"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "duplicate", "affine", "ddpm", "gan", "wgan_gp",
    ]  # fmt: skip
    dots = [sum(len(arm.get_offsets()) for arm in panel.collections) for panel in figure.axes]
    assert dots == [15, 14]
    assert "points" in figure.axes[0].get_xlabel()


def test_the_plot_is_a_png_of_some_size(cells: pd.DataFrame, tmp_path: Path) -> None:
    image = accuracy_table.write(cells, tmp_path)[-1].read_bytes()
    assert image.startswith(b"\x89PNG")
    assert int.from_bytes(image[16:20]) > 5 * pages.DPI


def test_latex_has_as_many_cells_in_every_row_as_columns_and_balanced_braces(cells: pd.DataFrame) -> None:
    text = accuracy_table.shown(accuracy_table.accuracy_table(cells), accuracy_table.notes(cells)).latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(line.split(" & ")) for line in rows} == {len(accuracy_table.HEADINGS)}
    assert text.replace(r"\{", "").count("{") == text.replace(r"\}", "").count("}")
    assert text.count("$") % 2 == 0
    assert text.isascii()


def test_latex_escapes_every_special_character() -> None:
    assert tables.latex_text(r"a_b 95 % & #1 $x {y} ~^\ <") == (
        r"a\_b 95 \% \& \#1 \$x \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}"
    )


# The numbers


def test_a_row_is_what_its_cells_give_by_hand(cells: pd.DataFrame) -> None:
    by_seed = cells[cells["n_real"] == 600].pivot(index="seed", columns="method", values="accuracy")
    gains = 100 * (by_seed["gan"] - by_seed["none"])
    error = gains.std() / math.sqrt(3)
    row = by_arm(cells).loc[(600, "gan")]
    assert row["num_seeds"] == 3
    assert row["baseline_percent"] == pytest.approx(100 * by_seed["none"].mean())
    assert row["augmented_percent"] == pytest.approx(100 * by_seed["gan"].mean())
    assert row["gain_points"] == pytest.approx(gains.mean())
    # Student's t of 2 degrees of freedom: its quantile from a table, its distribution in closed form.
    t = gains.mean() / error
    assert row["gain_low_points"] == pytest.approx(gains.mean() - 4.302653 * error)
    assert row["p"] == pytest.approx(1 - t / math.sqrt(2 + t * t))
    arm = cells[(cells["n_real"] == 600) & (cells["method"] == "gan")]
    assert set(row["run_ids"].split()) == set(arm["run_id"])
    assert row["generator_training_s"] == pytest.approx(arm["generator_training_s"].mean())


def test_the_none_row_has_a_mean_with_its_interval_and_no_gain(cells: pd.DataFrame) -> None:
    row = by_arm(cells).loc[(100, "none")]
    assert row["accuracy_low_percent"] < row["baseline_percent"] < row["accuracy_high_percent"]
    assert row[["augmented_percent", "gain_points", "gain_low_points", "p", "p_holm"]].isna().all()


def test_holm_corrects_within_one_n_real(cells: pd.DataFrame) -> None:
    table = accuracy_table.accuracy_table(cells)
    for _, rows in table.groupby("n_real"):
        tested = rows.dropna(subset="p").sort_values("p")
        expected = (tested["p"] * np.arange(len(tested), 0, -1)).cummax().clip(upper=1)
        assert tested["p_holm"].tolist() == pytest.approx(expected.tolist())


def test_a_missing_seed_is_counted_out_on_both_sides_and_named(cells: pd.DataFrame) -> None:
    row = by_arm(cells).loc[(600, "ddpm")]
    none = cells[(cells["n_real"] == 600) & (cells["method"] == "none") & cells["seed"].isin([0, 1])]
    assert row["num_seeds"] == 2
    assert row["baseline_percent"] == pytest.approx(100 * none["accuracy"].mean())
    assert accuracy_table.missing_pairs(cells) == [(600, "ddpm", 2)]
    assert accuracy_table.notes(cells)[-1].endswith(": n_real 600, ddpm, seed 2.")


def test_a_missing_baseline_takes_its_pairs_out_of_every_arm(cells: pd.DataFrame) -> None:
    lacking = cells[(cells["method"] != "none") | (cells["n_real"] != 100) | (cells["seed"] != 0)]
    assert by_arm(lacking).loc[100, "num_seeds"].eq(2).all()
    assert accuracy_table.missing_pairs(lacking) == [(100, "none", 0), (600, "ddpm", 2)]


def test_without_any_baseline_the_arms_stay_with_no_pairs(cells: pd.DataFrame, tmp_path: Path) -> None:
    arms = cells[cells["method"] != "none"]
    table = accuracy_table.accuracy_table(arms)
    assert table["num_seeds"].eq(0).all()
    assert table["gain_points"].isna().all()
    assert len(table) == 10
    assert len(accuracy_table.write(arms, tmp_path)) == 4


def test_an_arm_without_any_cell_at_one_n_real_is_named(cells: pd.DataFrame) -> None:
    lacking = cells[(cells["method"] != "gan") | (cells["n_real"] != 600)]
    assert [(600, "gan", seed) for seed in range(3)] == accuracy_table.missing_pairs(lacking)[1:]


def test_a_collapsed_seed_stays_and_is_counted(cells: pd.DataFrame) -> None:
    row = by_arm(cells).loc[(100, "gan")]
    assert row["num_seeds"] == 3
    assert row["gain_low_points"] < -20
    assert row["cas_percent"] < 70


def test_one_seed_gives_no_interval_and_no_p(cells: pd.DataFrame, tmp_path: Path) -> None:
    single = cells[cells["seed"] == 0]
    table = accuracy_table.accuracy_table(single)
    assert table[["gain_low_points", "gain_high_points", "p", "p_holm", "accuracy_low_percent"]].isna().all(axis=None)
    assert table["gain_points"].notna().sum() == 10
    assert "[" not in accuracy_table.shown(table, []).markdown()
    accuracy_table.write(single, tmp_path)


def test_a_mean_is_of_all_n_seeds_or_of_none(cells: pd.DataFrame) -> None:
    cells.loc[(cells["method"] == "gan") & (cells["seed"] == 0), "cas"] = math.nan
    assert math.isnan(by_arm(cells).loc[(600, "gan"), "cas_percent"])


def test_rows_go_from_none_over_the_controls_to_the_generators_by_name(cells: pd.DataFrame) -> None:
    names = {"ddpm": "vae", "gan": "a_new_one", "wgan_gp": "noise"}
    shuffled = cells.assign(method=cells["method"].replace(names)).sample(frac=1, random_state=0)
    order = ["none", "duplicate", "affine", "noise", "a_new_one", "vae"]
    assert accuracy_table.accuracy_table(shuffled)["method"].tolist() == 2 * order


def test_the_order_of_the_runs_changes_nothing(cells: pd.DataFrame) -> None:
    shuffled = cells.sample(frac=1, random_state=1)
    assert tables.csv(accuracy_table.accuracy_table(shuffled)) == tables.csv(accuracy_table.accuracy_table(cells))
    assert accuracy_table.notes(shuffled) == accuracy_table.notes(cells)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (tables.number(98.449), "98.45"),
        (tables.number(math.nan), "-"),
        (tables.with_interval(0.424, 0.1, 0.736, "+z.2f"), "+0.42 [+0.10, +0.74]"),
        (tables.with_interval(-0.001, -0.2, 0.198, "+z.2f"), "+0.00 [-0.20, +0.20]"),
        (tables.with_interval(0.4, math.nan, math.nan, "+z.2f"), "+0.40"),
        (tables.p_value(0.0131), "0.013"),
        (tables.p_value(0.00099), "<0.001"),
        (tables.p_value(math.nan), "-"),
        (tables.seconds(312.4), "312"),
        (tables.seconds(0.32), "0.3"),
        (tables.latex_number("+0.42 [-0.10, +0.94]"), "$+0.42$ [$-0.10$, $+0.94$]"),
        (tables.latex_number("<0.001"), "$<0.001$"),
        (tables.latex_number("-"), "--"),
    ],
)
def test_numbers_are_written_as_papers_write_them(text: str, expected: str) -> None:
    assert text == expected


# The cells


def test_cells_have_plain_types(cells: pd.DataFrame) -> None:
    assert len(cells) == 35
    assert [str(cells[name].dtype) for name in ("n_real", "seed", "accuracy", "num_synthetic")] == [
        "int64", "int64", "float64", "Int64",
    ]  # fmt: skip
    assert cells.loc[cells["method"] == "none", ["conditional_accuracy", "cas"]].isna().all(axis=None)


def test_a_comparison_without_generators_has_empty_columns_for_them() -> None:
    stored = stored_runs()
    kept = stored[stored["tags.method"].isin(["none", "affine"])]
    absent = [name for name in kept if "generator" in name or "cas" in name]
    cells = runs.finished_cells(kept.assign(**dict.fromkeys(absent, math.nan)))
    assert cells["generator_training_s"].isna().all()
    assert by_arm(cells)["cas_percent"].isna().all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("status", "RUNNING", r"no classifier cell of the comparison has finished \(36 RUNNING\)"),
        ("tags.judge", "0" * 64, "cells of 2 judges in one comparison"),
        ("tags.numerics", "2", r"cells of 2 versions of the numerics in one comparison \(1, 2\)"),
        ("tags.dataset", "digits", r"cells of 2 data sets in one comparison \(digits, mnist\)"),
        ("tags.seed", "1", "two finished cells for n_real 100, none, seed 1; delete"),
        ("tags.n_real", "many", "has a tag n_real that is not a whole number"),
        ("tags.method", None, "has no method"),
        ("metrics.test/accuracy", math.nan, "has no test/accuracy"),
    ],
)
def test_cells_that_cannot_be_compared_are_refused(column: str, value: object, message: str) -> None:
    stored = stored_runs()
    which = slice(None) if column == "status" else stored["tags.method"] == "none"
    stored.loc[which, column] = value
    with pytest.raises(InputError, match=message) as refused:
        runs.finished_cells(stored)
    assert "\n" not in str(refused.value)


# The whole, on a real store


@pytest.fixture(scope="module")
def store(files_store: Path) -> tuple[str, str]:
    return stored_comparison(files_store)


def stored_comparison(folder: Path) -> tuple[str, str]:
    """The store in a folder, with the stored comparison and an older, empty one; its URI and the run id."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiments = {
        name: client.create_experiment(name, (folder / name).as_uri())
        for name in ("comparisons", "classifiers", "generators")
    }

    def log(
        experiment: str, name: str, tags: dict[str, str], metrics: dict[str, float], status: str, start: int
    ) -> str:
        run_id = client.create_run(experiments[experiment], start, tags, name).info.run_id
        logged = [Metric(key, value, start, 0) for key, value in metrics.items()]
        params = [Param("num_synthetic", "600"), Param("arm", tags.get("method", ""))]
        client.log_batch(run_id, logged, params, [RunTag("done", "yes")])
        client.set_terminated(run_id, status)
        return run_id

    log("comparisons", "empty", {"kind": "comparison"}, {}, "FINISHED", 1_000)
    parent = log("comparisons", "low-data", {"kind": "comparison"}, {}, "RUNNING", 2_000)
    for start, run in enumerate(stored_runs().to_dict("records"), 3_000):
        tags = {key.removeprefix("tags."): value for key, value in run.items() if key.startswith("tags.")}
        tags |= {"mlflow.parentRunId": parent}
        metrics = {
            key.removeprefix("metrics."): value
            for key, value in run.items()
            if key.startswith("metrics.") and not math.isnan(value)
        }
        log("classifiers", run["name"], tags, metrics, run["status"], start)
    figures = {
        "test/cas": 0.1, "validation/cas": 0.2, "cost/training_device_seconds": 3.0, "train/ddpm_loss": 0.4,
        "looks/cas": 0.3, "cost/device_seconds": 2.0,
    }  # fmt: skip
    log("generators", "ddpm", tags | {"kind": "generator"}, figures, "FINISHED", 4_000)
    log("classifiers", "alone", {"kind": "classifier"}, {"test/accuracy": 0.1}, "FINISHED", 5_000)
    return uri, parent


def test_a_store_gives_the_stored_table_and_keeps_its_files(store: tuple[str, str], tmp_path: Path) -> None:
    uri, parent = store
    out = ("--out", str(tmp_path / "tables"))
    done = processes.run(tmp_path, "analysis.accuracy_table", "--tracking-uri", uri, "--comparison", "low-data", *out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == GOLDEN.joinpath("accuracy_table.md").read_text(encoding="utf-8")
    names = ["accuracy_table.csv", "accuracy_table.md", "accuracy_table.png", "accuracy_table.tex"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == names
    assert [file.path for file in MlflowClient(uri).list_artifacts(parent, "tables")] == [
        f"tables/{name}" for name in names
    ]


def test_bad_input_is_one_line_and_exit_code_2(store: tuple[str, str], tmp_path: Path) -> None:
    flags = ("--tracking-uri", store[0], "--comparison", "nothing-such", "--out", str(tmp_path))
    done = processes.run(tmp_path, "analysis.accuracy_table", *flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "no comparison has the id or the name 'nothing-such'; the newest are low-data, empty" in done.stderr


def test_a_comparison_without_cells_is_refused(store: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="has no classifier cell yet"):
        runs.comparison_cells("empty", store[0])


def test_a_comparison_that_is_named_twice_counts_once(store: tuple[str, str]) -> None:
    uri, parent = store
    assert len(runs.all_cells(("low-data", parent), uri)) == len(runs.comparison_cells(parent, uri))


def test_a_metric_that_no_generator_has_is_refused_with_those_that_they_have(store: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=r"no generator of low-data has logged train/loss; they have train/ddpm_loss$"):
        curves.history("low-data", "train/loss", store[0])


def test_a_store_without_comparisons_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.tracking, "read_runs", lambda *_, **__: pd.DataFrame())
    with pytest.raises(InputError, match=r"no comparison in sqlite:///some\.db: run experiments/compare\.py"):
        runs.comparison_id(None, "sqlite:///some.db")


def test_a_folder_that_cannot_be_made_is_refused_before_any_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .* cannot be a folder to write to \(File exists\)"):
        accuracy_table.main(tracking_uri="sqlite:///never-read.db", out=tmp_path / "file")


def test_a_comparison_is_found_by_id_by_name_and_as_the_newest(store: tuple[str, str]) -> None:
    uri, parent = store
    assert [runs.comparison_id(which, uri) for which in (parent, "low-data", None)] == 3 * [parent]
    client = MlflowClient(uri)
    experiment = client.get_run(parent).info.experiment_id
    other = client.create_run(experiment, 1, {"kind": "comparison"}, "low-data").info.run_id
    try:
        with pytest.raises(InputError, match="2 comparisons have the name 'low-data'; give one of their ids"):
            runs.comparison_id("low-data", uri)
    finally:
        client.delete_run(other)
