"""Settings of the classifiers as grids of their own, and what arms add on top of augmentation: figures by hand."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import GOLDEN, RIGHT, augmented_right, both_settings, files_of, known_cells
from scipy import stats

from analysis import accuracy_table, answer, on_top, pages, report, runs, significance, statistics
from analysis.runs import Source
from harness import tracking
from harness.errors import InputError


def on_top_of(n_real: int, arm: str) -> np.ndarray:
    """The gains on top of augmentation of an arm's seeds, points."""
    seeds = range(len(RIGHT[n_real][arm]))
    return np.array([augmented_right(n_real, arm, s) - augmented_right(n_real, "none", s) for s in seeds]) / 10


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    ((_, bare, augmented),) = on_top.halves(both_settings())
    return on_top.on_top(bare, augmented)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(on_top.main, both_settings(), tmp_path_factory.mktemp("tables"))


# Settings


def test_each_setting_is_a_grid_of_its_own_under_its_name(tmp_path: Path) -> None:
    cells = both_settings()
    parts = list(pages.each_setting(significance.sections, cells))
    assert [part.title for part in parts] == ["Is there a gain at all?", "Is there a gain at all?: augment=True"]
    (bare,), (augmented,) = (part.tables.values() for part in parts)
    assert augmented[0].notes[0].startswith("Classifiers with augment=True. Gain over seeds:")
    pd.testing.assert_frame_equal(bare[1], significance.tests(known_cells(sweeps=False)))
    row = augmented[1].set_index(["n_real", "method"]).loc[(100, "ddpm")]
    assert row["p"] == pytest.approx(stats.ttest_1samp(on_top_of(100, "ddpm"), 0).pvalue)
    names = {path.name for path in accuracy_table.write(cells, tmp_path)}
    assert {"accuracy_table.csv", "accuracy_table_augment-True.csv", "accuracy_table_augment-True.png"} <= names


def test_two_settings_have_two_cells_of_the_same_seed_and_one_has_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    every = runs.add_rows(both_settings(), path)
    assert every["setting"].value_counts().to_dict() == {"": 89, "augment=True": 89}
    pd.testing.assert_frame_equal(every, runs.read_rows(path))
    again = both_settings().assign(run_id=lambda cells: cells["run_id"] + "-again")
    with pytest.raises(InputError, match="two finished cells for n_real 100, affine, seed 0"):
        runs.add_rows(again, path)


def test_the_report_has_both_settings_and_its_rows_lead_to_their_own_runs(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    runs.add_rows(both_settings(), rows)
    report.main(Source(rows=rows), confirmatory=("ddpm",), out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    for name in ("100-ddpm", "100-ddpm-augment-True"):
        assert f'href="#{name}"' in page
        assert f'id="{name}"' in page
    assert page.index("What an arm adds on top") < page.index("The claims, one by one")
    assert "correction over 1 arm: ddpm" in page


# On top


def test_a_gain_on_top_is_the_difference_to_augmented_none(table: pd.DataFrame) -> None:
    row = table.set_index(["n_real", "method"]).loc[(100, "ddpm")]
    own, bare = on_top_of(100, "ddpm"), (np.array(RIGHT[100]["ddpm"]) - RIGHT[100]["none"]) / 10
    assert row["on_top_points"] == pytest.approx(own.mean())
    assert (row["on_top_low_points"], row["on_top_high_points"]) == pytest.approx(
        tuple(stats.ttest_1samp(own, 0).confidence_interval())
    )
    assert row["gain_points"] == pytest.approx(bare.mean())
    assert row["bare_percent"] == pytest.approx(np.mean(RIGHT[100]["ddpm"]) / 10)
    assert row["augmented_percent"] == pytest.approx(row["on_top_points"] + np.mean(RIGHT[100]["none"]) / 10 + 6)
    assert row["detectable_points"] == pytest.approx(statistics.detectable_effect(own))
    none = table[table["method"] == "none"]
    assert none[["gain_points", "on_top_points", "p", "detectable_points"]].isna().all(axis=None)


def test_holm_is_over_the_confirmatory_arms_of_one_n_real(table: pd.DataFrame) -> None:
    here = table[(table["n_real"] == 1000) & (table["method"] != "none")]
    assert here["p_holm"].tolist() == pytest.approx(statistics.holm(here["p"]).tolist())
    ((_, bare, augmented),) = on_top.halves(both_settings())
    named = on_top.on_top(bare, augmented, ("ddpm", "1000:gan")).set_index(["n_real", "method"])
    assert named.loc[(100, "ddpm"), "p_holm"] == named.loc[(100, "ddpm"), "p"]
    both = named.loc[[(1000, "ddpm"), (1000, "gan")]]
    assert both["p_holm"].tolist() == pytest.approx(statistics.holm(both["p"]).tolist())
    assert named.loc[[(100, "gan"), (100, "ddpm")], "family"].tolist() == ["exploratory", "confirmatory"]
    assert math.isnan(named.loc[(100, "gan"), "p_holm"])


def test_the_notes_say_what_helps_and_what_would_have_been_seen(written: Path) -> None:
    said = written.with_suffix(".said").read_text()
    assert "100 real images. Augmentation alone gains +6.00 points. On top of it there is a gain after Holm's" in said
    assert "10,000 real images. Augmentation alone gains +0.40 points. On top of it no generator's gain is" in said
    assert "seeds would have shown" in said
    assert {path.name for path in written.iterdir()} == {f"on_top.{end}" for end in ("md", "csv", "tex", "png")}


def test_a_wider_classifier_has_its_own_augmented_half(tmp_path: Path) -> None:
    wide = both_settings().assign(
        setting=lambda cells: ("width=16," + cells["setting"]).str.rstrip(","),
        run_id=lambda cells: cells["run_id"] + "-wide",
    )
    every = pd.concat([both_settings(), wide], ignore_index=True)
    assert {path.name for path in pages.write(on_top.sections(every), tmp_path, "")} >= {
        "on_top.md", "on_top_width-16.md",
    }  # fmt: skip


def test_augmented_cells_alone_have_gains_on_top_and_none_over_bare() -> None:
    cells = both_settings().query("setting != ''")
    ((_, bare, augmented),) = on_top.halves(cells)
    table = on_top.on_top(bare, augmented)
    assert table["gain_points"].isna().all()
    assert table["on_top_points"].notna().sum() == 15
    assert on_top.alone(bare, augmented) == {}
    assert "-" in on_top.shown(table, on_top.answers(table, {})).markdown()


def test_the_picture_has_a_panel_per_generator_and_bars_for_one_number(table: pd.DataFrame) -> None:
    labels = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in on_top.plot(table).axes]
    assert labels == [["affine", "ddpm"], ["affine", "gan", "gan-filtered"], ["duplicate", "affine"]]
    (first, *_) = on_top.plot(table[table["n_real"] == 100]).axes
    bars = [bar.get_segments()[0][:, 0].tolist() for bar in first.collections]
    assert bars == [[0, 0], [1, 1]]  # side by side, in sight
    assert first.get_xlim()[0] < 0 < 1 < first.get_xlim()[1]
    assert first.figure.get_supxlabel() == "100 real images"
    assert first.get_ylabel() == "gain on top [points]"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no arm beside none has augmented classifiers"):
        pages.write(on_top.sections(known_cells()), tmp_path, on_top.MISSING)
    with pytest.raises(InputError, match="--confirmatory ddmp is no arm of these cells; they have affine, ddpm"):
        list(on_top.sections(both_settings(), ["ddmp"]))


def test_a_filtered_control_is_a_control() -> None:
    cells = both_settings().replace({"method": {"gan-filtered": "affine-filtered"}})
    assert set(runs.of_generators(cells)["method"]) == {"ddpm", "gan"}
    arms = accuracy_table.accuracy_table(cells.query("setting == ''")).query("n_real == 100")["method"].tolist()
    assert arms == ["none", "duplicate", "affine", "affine-filtered", "ddpm", "gan"]


@pytest.mark.usefixtures("agent")
def test_a_comparisons_run_has_the_gain_on_top_by_n_real(store: str) -> None:
    uri = store
    tags = {"kind": "comparison"}
    with tracking.run("comparisons", "both", tags=tags, params={}, tracking_uri=uri) as run:
        for cell in both_settings().query("seed < 3 and method in ['none', 'ddpm']").to_dict("records"):
            own = {name: str(cell[name]) for name in (*runs.TAGS, "setting")} | {"kind": "classifier"}
            params = {"num_synthetic": cell["num_synthetic"]}
            with tracking.run(
                "classifiers", cell["run_id"], tags=own, params=params, parent=run.id, tracking_uri=uri
            ) as child:
                child.metrics({"test/accuracy": cell["accuracy"]}, 1)
        parent = run.folder.name  # as it may have called itself before the store had it
        tracking.sync(uri)
        answer.log(run, parent, uri)
    found = tracking.get_run(parent, uri)
    steps = tracking.read_histories([parent], ["test/gain_on_top/ddpm"], uri).set_index("step")["value"]
    assert steps.to_dict() == pytest.approx({n_real: on_top_of(n_real, "ddpm")[:3].mean() for n_real in RIGHT})
    low, high = (found[f"metrics.test/gain_on_top_{end}/ddpm"] for end in ("low", "high"))
    assert low < steps[10000] < high
    gains = tracking.read_histories([parent], ["test/gain/ddpm", "test/gain/ddpm/augment-True"], uri)
    assert gains["key"].value_counts().to_dict() == {"test/gain/ddpm": 3, "test/gain/ddpm/augment-True": 3}
    assert "### augment=True" in found["tags.mlflow.note.content"]


def test_a_comparison_without_test_images_is_read_from_its_validation_images_and_says_so(tmp_path: Path) -> None:
    stored = pd.read_csv(GOLDEN / "runs.csv").pipe(lambda runs: runs.astype(
        dict.fromkeys([name for name in runs if name.startswith(("tags.", "params."))], str)
    ))  # fmt: skip
    own = [name for name in stored if name in {f"metrics.test/{score}" for score in runs.SCORES}]
    renamed = stored.rename(columns={name: name.replace("test/", "validation/") for name in own})
    cells = runs.finished_cells(renamed)
    scores = ["accuracy", "precision", "f1", "cas"]
    pd.testing.assert_frame_equal(cells[scores], runs.finished_cells(stored)[scores])
    accuracy_table.write(cells, tmp_path)
    assert "no test images in this comparison" in (tmp_path / "accuracy_table.md").read_text()
    assert "no test images" not in (GOLDEN / "accuracy_table.md").read_text()
    rows = runs.add_rows(cells, tmp_path / "rows.csv")
    assert rows["split"].eq("validation").all()
    with pytest.raises(InputError, match=r"2 splits in one comparison \(test, validation\)"):
        runs.checked(pd.concat([cells, cells.assign(split="test", seed=cells["seed"] + 50)]))


def test_more_of_the_learning_curve_alone_says_what_augmentation_gains(tmp_path: Path) -> None:
    cells = both_settings()
    more = cells.query("n_real == 10_000 and method == 'none'")
    more = more.assign(n_real=30_000, run_id=more["run_id"] + "-more")
    written = files_of(on_top.main, pd.concat([cells, more], ignore_index=True), tmp_path / "tables")
    (line,) = [line for line in (written / "on_top.md").read_text().splitlines() if line.startswith("30,000 real")]
    assert re.fullmatch(r"30,000 real images\. Augmentation alone gains \+0\.40 points\.", line)
