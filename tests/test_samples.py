"""Pictures of the samples: from a store's runs, from the folder where there is no store, none where neither has any."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import measured_cells

from analysis import pages, samples
from analysis.runs import Source
from harness import tracking


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def cells(uri: str) -> pd.DataFrame:
    """Those of generators have a run with the sheet of samples, filled with its seed; ddpm at 600 has none."""
    cells = measured_cells().assign(samples_run=None)
    for place, cell in cells[cells["method"].isin(["ddpm", "gan"])].iterrows():
        with tracking.run("generators", str(cell["run_id"]), tags={}, params={}, tracking_uri=uri) as run:
            if (cell["method"], cell["n_real"]) != ("ddpm", 600):
                run.picture(np.full((20, 30), 50 * cell["seed"], np.uint8), "pictures/samples.png")
        cells.loc[place, "samples_run"] = run.id
    filtered = cells["method"] == "ddpm-filtered"
    cells.loc[filtered, "samples_run"] = cells.loc[cells["method"] == "ddpm", "samples_run"].to_list()
    return cells


def test_a_sheet_of_each_generator_and_size_is_of_the_last_seed(cells: pd.DataFrame, uri: str) -> None:
    found = samples.sheets(samples.one_of_each(cells), "samples", uri)
    assert list(found) == [(100, "ddpm"), (100, "gan"), (600, "gan")]
    assert {sheet.shape[:2] for sheet in found.values()} == {(20, 30)}
    assert all(sheet.max() == pytest.approx(100 / 255) for sheet in found.values())
    titles = [panel.get_title() for panel in samples.plot(found).axes]
    assert titles == ["ddpm, 100 real images", "gan, 100 real images", "", "gan, 600 real images"]


def test_without_a_store_the_sheets_of_before_stay(cells: pd.DataFrame, uri: str, tmp_path: Path) -> None:
    pages.write(samples.sections(cells, Source(tracking_uri=uri), tmp_path), tmp_path, "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]  # no run has closest pairs
    before = (tmp_path / "samples.png").read_bytes()
    of_rows = Source(rows=tmp_path / "rows.csv", tracking_uri="sqlite:///never-read.db")
    (section,) = samples.sections(cells, of_rows, tmp_path)
    assert section.write(tmp_path) == [tmp_path / "samples.png"]
    assert (tmp_path / "samples.png").read_bytes() == before
    assert list(samples.sections(cells, of_rows, tmp_path / "elsewhere")) == []
