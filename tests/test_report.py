"""Claims and their verdicts from figures known by hand; the report from a file of rows, in a browser."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import ui_pictures
from known_cells import ARMS, known_cells, measured_cells
from servers import installed

from analysis import claims, report, runs
from analysis.claims import ExtraInputs
from analysis.runs import Source
from harness.errors import InputError


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (0.1, 0.5, 0.1, "holds"),
        (-0.5, -0.1, 0.0, "does not"),
        (-0.5, 0.05, 0.1, "does not"),  # no room for a tenth of a point
        (-0.5, 0.05, 0.0, "cannot tell"),
        (-0.5, 0.5, 0.1, "cannot tell"),
        (math.nan, math.nan, 0.1, "cannot tell"),
    ],
)
def test_a_verdict_is_read_off_the_interval(low: float, high: float, margin: float, expected: str) -> None:
    assert claims.verdict(low, high, margin) == expected


def full_cells() -> pd.DataFrame:
    """At 60,000 images: DDPM gains 3 points, GAN none, VAE 1; VAE samples are the blurriest, DDPM the dearest."""
    cells = measured_cells(sizes=(100,)).assign(n_real=60_000)
    cells.loc[cells["method"] == "gan", "accuracy"] += [
        0.0,
        0.001,
        0.002,
    ]  # differences that do not vary decide nothing
    for column, values in {
        "generator_training_s": {"ddpm": 900.0, "gan": 300.0, "vae": 100.0},
        "generator_sampling_s": {"ddpm": 90.0, "gan": 2.0, "vae": 1.0},
        "quality_sharpness": {"ddpm": 0.95, "gan": 1.1, "vae": 0.4},
    }.items():
        drift = cells["method"].map({"ddpm": 0.01, "gan": 0.02, "vae": 0.03}) * cells["seed"]
        cells[column] = cells["method"].map(values) * (1 + drift)
    return cells


def test_claims_are_decided_by_what_was_measured() -> None:
    found = claims.findings(full_cells())
    verdicts = {(each.claim, each.measured): each.verdict for each in found}
    by_claim: dict[str, list[str]] = {}
    for (claim, _), verdict in verdicts.items():
        by_claim.setdefault(claim, []).append(verdict)
    assert by_claim["DDPM gains more than GAN, and GAN more than VAE"] == ["holds", "does not"]
    assert by_claim["VAE samples are blurrier"] == ["holds"]
    assert by_claim["DDPM costs most"] == ["holds"]
    assert by_claim["augmentation helps with all 60,000 images and a strong baseline"] == ["holds", "does not", "holds"]
    ratio = next(each for each in found if each.claim == "DDPM costs most")
    assert ratio.value == pytest.approx(990 / 302, rel=0.03)


def test_a_claim_without_cells_says_what_is_missing() -> None:
    found = claims.findings(known_cells())
    missing = {each.claim for each in found if each.n == 0}
    assert {"VAE samples are blurrier", "the vanilla GAN's gradient vanishes"} <= missing
    assert all(each.verdict == "cannot tell" and math.isnan(each.value) for each in found if each.n == 0)


def histories(path: Path, *losses: str, lasts: Sequence[float]) -> Path:
    """A file of four trainings each, at 1 in their first tenth, then at 2, at one of `lasts` in their last tenth."""
    pd.DataFrame(
        [(f"{loss} {seed}", share, value * (1 + 0.05 * seed), loss) for loss in losses for seed in range(4)
         for share, value in ((0.05, 1.0), (0.5, 2.0), (0.7, 2.0), (1.0, lasts[seed] * (1 + 0.01 * seed)))],
        columns=["run_id", "share", "value", "comparison"],
    ).to_csv(path)  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("last", "distance", "expected"),
    [
        (0.1, 0.2, ["holds", "does not", "cannot tell"]),
        (0.1, 0.05, ["holds", "holds", "cannot tell"]),
        (3.0, 1.0, ["does not", "holds", "cannot tell"]),
    ],
)
def test_a_gradient_vanishes_or_grows_and_wgans_by_the_distance_that_it_is_to_lower(
    last: float, distance: float, expected: list[str], tmp_path: Path
) -> None:
    gradients = histories(tmp_path / "gradients.csv", "vanilla", "wgan", "saturating", lasts=[last] * 4)
    distances = histories(
        tmp_path / "distances.csv", "wgan", "others", lasts=[distance * (1 + 0.02 * seed) for seed in range(4)]
    )
    found = claims.findings(known_cells(), **ExtraInputs(gradients=gradients, distances=distances).read())
    own = [each for each in found if "vanish" in each.claim]
    assert [each.verdict for each in own] == expected
    assert [each.value for each in own] == pytest.approx([last, last / distance, 0], rel=0.05)


def test_a_gradient_that_vanishes_in_one_training_of_four_does_for_a_time(tmp_path: Path) -> None:
    lasts = [1.0, 1e-9, 1.0, 1.0]
    gradients = histories(tmp_path / "gradients.csv", "vanilla", "wgan", "saturating", lasts=lasts)
    found = claims.findings(known_cells(), **ExtraInputs(gradients=gradients).read())
    vanished = next(each for each in found if "saturating" in each.claim)
    assert (vanished.n, vanished.value, vanished.verdict) == (4, 0.25, "holds")
    assert (vanished.low, vanished.high) == pytest.approx((0.0063, 0.8059), abs=1e-4)  # Clopper and Pearson's tables
    unknown = next(each for each in found if each.claim == "WGAN's gradient does not vanish")
    assert unknown.n == 0


def test_where_a_critic_sees_no_distance_nothing_is_told_of_the_gradient(tmp_path: Path) -> None:
    gradients = histories(tmp_path / "gradients.csv", "vanilla", "wgan", lasts=[1.0] * 4)
    distances = histories(tmp_path / "distances.csv", "wgan", lasts=[1.0, -1.0, 2.0, 0.0])
    found = claims.findings(known_cells(), **ExtraInputs(gradients=gradients, distances=distances).read())
    wgan = next(each for each in found if each.claim == "WGAN's gradient does not vanish")
    assert (wgan.n, wgan.verdict) == (4, "cannot tell")
    assert math.isnan(wgan.value)


def test_distances_of_other_trainings_are_refused(tmp_path: Path) -> None:
    gradients = histories(tmp_path / "gradients.csv", "vanilla", "wgan", lasts=[1.0] * 4)
    distances = histories(tmp_path / "distances.csv", "others", lasts=[1.0] * 4)
    with pytest.raises(InputError, match="--distances lacks a WGAN of --gradients"):
        claims.findings(known_cells(), **ExtraInputs(gradients=gradients, distances=distances).read())


def test_claims_are_decided_where_all_three_generators_are() -> None:
    cells = measured_cells(sizes=(300, 1000)).replace({"method": {name: f"{name}-moved" for name in claims.THREE}})
    cells = cells[(cells["n_real"] == 300) | (cells["method"] != "gan-moved")]
    order = [each for each in claims.findings(cells) if each.claim.startswith("DDPM gains more")]
    assert [each.measured for each in order] == [
        "ddpm less gan with 300 images, points", "gan less vae with 300 images, points",
    ]  # fmt: skip
    assert all(each.n for each in order)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    runs.add_rows(measured_cells(), path)
    return path


def test_rows_are_added_to_and_read_again(rows: Path) -> None:
    more = measured_cells(sizes=(1000,))
    every = runs.add_rows(more, rows)
    assert len(every) == len(measured_cells()) + len(more)
    again = runs.add_rows(more, rows)
    pd.testing.assert_frame_equal(again, runs.read_rows(rows), check_dtype=False)
    assert len(again) == len(every)


def test_rows_of_another_judge_are_refused_and_nothing_is_lost(rows: Path) -> None:
    before = rows.read_bytes()
    with pytest.raises(InputError, match="2 judges"):
        runs.add_rows(measured_cells(sizes=(1000,)).assign(judge="ffff"), rows)
    assert rows.read_bytes() == before


def test_rows_of_another_version_of_the_numerics_are_refused_and_what_made_a_cell_is_kept(rows: Path) -> None:
    made = {"numerics": "1", "mixed_precision": "bf16", "generator_commit": "abc"}
    every = runs.add_rows(measured_cells(sizes=(1000,)).assign(**made), rows)  # those of before name no version
    assert every.loc[every["n_real"] == 1000, list(made)].drop_duplicates().to_dict("records") == [made]
    with pytest.raises(InputError, match=r"2 versions of the numerics in one comparison \(1, 2\)"):
        runs.add_rows(measured_cells(sizes=(2000,)).assign(numerics="2"), rows)


def test_a_browser_shows_the_report_and_asks_for_nothing(rows: Path, tmp_path: Path) -> None:
    installed(ui_pictures.chromium)
    report.main(Source(rows=rows), out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert {f"{n_real}-{method}" for n_real in (100, 600) for method in ARMS} <= links
    assert links <= set(re.findall(r'id="([^"]+)"', page))
    address = (tmp_path / "report" / "report.html").as_uri()
    said, asked = [], []
    with ui_pictures.browser() as tab:
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        widths = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
        overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert min(widths) > 150
    assert overflow == 0
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "| affine" in markdown
    assert all((tmp_path / "report" / name).exists() for name in re.findall(r"\]\(([\w.]+png)\)", markdown))


def test_a_report_of_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as rows"):
        report.main(Source(rows=tmp_path / "none.csv"), out=tmp_path / "report")
    assert not (tmp_path / "report").exists()
