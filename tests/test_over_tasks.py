"""Over several data sets: figures by hand, and by statistics that are tested elsewhere."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import COSTS, both_settings

from analysis import on_top, pages, report, runs, statistics, tasks
from analysis.runs import Source
from harness.errors import InputError


def other() -> pd.DataFrame:
    """The same arms on another data set: the DDPM less good, no GAN, three seeds."""
    cells = both_settings()
    cells = cells[(cells["seed"] < 3) & (cells["n_real"] < 10_000) & ~cells["method"].str.startswith("gan")]
    worse = np.where(cells["method"] == "ddpm", 0.01 + 0.001 * cells["seed"], 0)
    return cells.assign(dataset="kmnist", run_id="k" + cells["run_id"], accuracy=cells["accuracy"] - worse)


@pytest.fixture(scope="module")
def section() -> pages.Section:
    (found,) = tasks.sections([both_settings(), other()])
    return found


def test_a_row_for_each_task_and_arm(section: pages.Section) -> None:
    table = section.tables["tasks"][1].set_index(["dataset", "n_real", "method"])
    ((_, bare, augmented),) = on_top.halves(both_settings())
    alone = on_top.on_top(bare, augmented).set_index(["n_real", "method"])
    assert table.loc[("mnist", 100, "ddpm"), "on_top_points"] == alone.loc[(100, "ddpm"), "on_top_points"]
    assert ("kmnist", 100, "gan") not in table.index
    assert ("mnist", 100, "none") not in table.index
    assert "| kmnist" in section.tables["tasks"][0].markdown()


def test_an_arm_over_its_tasks(section: pages.Section) -> None:
    table = section.tables["tasks_by_arm"][1].set_index("method")
    gains = [
        {task: np.array(gain) for task, gain in tasks.by_task(own[own["method"] == "ddpm"]).items()}
        for own in (tasks.accuracy_table.pairs(cells[cells["setting"] != ""]) for cells in (other(), both_settings()))
    ]
    every = [gain for of in gains for gain in of.values()]
    assert sorted(map(len, every)) == [3, 3, 4, 5, 5]
    ddpm = table.loc["ddpm"]
    assert ddpm["num_tasks"] == len(every) == 5
    expected = statistics.iqm(every)
    assert tuple(ddpm[[f"iqm{end}_points" for end in ("", "_low", "_high")]]) == pytest.approx(tuple(expected))
    lengths = [len(gain) for of in gains for gain in of.values()]
    assert ddpm["num_decided"] == sum(length >= 5 for length in lengths) < 5  # three seeds carry no verdict
    assert table.loc["gan", "num_tasks"] == 3
    assert 0 <= ddpm["improvement"] <= 1
    assert np.isnan(table.loc["affine", "improvement"])
    factor = np.mean([1, 2, 4, 1, 2])  # of the trainings at each task's size
    seeds = np.mean([(length - 1) / 2 for length in lengths])  # a training takes a second longer for each
    assert ddpm["marginal_s"] == pytest.approx(COSTS["ddpm"][0] * factor + seeds + COSTS["ddpm"][1])


def test_files_of_one_data_set_are_its_parts_and_a_run_counts_once(section: pages.Section) -> None:
    cells = both_settings()
    (found,) = tasks.sections([cells[cells["n_real"] > 100], other(), cells[cells["n_real"] < 10_000], other()])
    for name, (_, expected) in section.tables.items():
        table = found.tables[name][1]
        pd.testing.assert_frame_equal(table.sort_values([*table][:2], ignore_index=True),
                                      expected.sort_values([*table][:2], ignore_index=True))  # fmt: skip
    again = other().assign(run_id=lambda cells: "another-" + cells["run_id"])
    with pytest.raises(InputError, match="two finished cells"):
        list(tasks.sections([other(), again]))


def test_the_picture_has_a_panel_for_each_arm_of_most_tasks(section: pages.Section) -> None:
    table, arms = (section.tables[name][1].set_index("method") for name in ("tasks", "tasks_by_arm"))
    figure, _ = section.pictures["tasks"]
    assert figure is not None
    assert {panel.get_title() for panel in figure.axes} == set(arms.index[2 * arms["num_tasks"] >= 5])
    (ddpm,) = [panel for panel in figure.axes if panel.get_title() == "ddpm"]
    of_tasks, over_tasks = [line for line in ddpm.lines if line.get_linestyle() == "None"]
    assert list(of_tasks.get_xdata()) == table.loc["ddpm", "on_top_points"].tolist()
    assert list(over_tasks.get_xdata()) == [arms.loc["ddpm", "iqm_points"]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["mnist, 100", "mnist, 1,000"]


def test_files_of_rows_are_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = []
    for name, cells in (("mnist", both_settings()), ("kmnist", other())):
        paths.append(tmp_path / name / "rows.csv")
        runs.add_rows(cells, paths[-1])
    tasks.main(tuple(paths), out=tmp_path / "tables")
    assert "IQM of gain on top" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        *(f"{name}.{end}" for name in ("tasks", "tasks_by_arm") for end in ("md", "csv", "tex")), "tasks.png",
    }  # fmt: skip
    report.main(Source(rows=paths[0]), others=(paths[1],), out=tmp_path / "report")
    whole, tables = (tmp_path / folder / name for folder, name in (("report", "report.md"), ("tables", "tasks.md")))
    table = tables.read_text().partition("\n\n")[0]
    assert f"## Over all data sets\n\n{table}" in whole.read_text()
    bare = both_settings().query("setting == ''")
    with pytest.raises(InputError, match="no arm beside none has augmented classifiers"):
        pages.write(tasks.sections([bare]), tmp_path, on_top.MISSING)
