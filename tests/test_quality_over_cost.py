"""CAS over a training's device-seconds: what equal quality costs, by hand."""

from pathlib import Path

import pandas as pd
import pytest
from known_cells import known_cells

from analysis import claims, quality_over_cost
from analysis.claims import ExtraInputs
from harness.errors import InputError

LOOKS = {
    "ddpm": [(100, 0.90), (200, 0.94), (300, 0.96)],
    "gan": [(40, 0.80), (80, 0.95), (120, 0.92)],  # it was best before its end
    "vae": [(10, 0.91), (20, 0.93), (30, 0.93)],
}


def looks(seeds: int = 1) -> pd.DataFrame:
    """The same curves for each seed, but that its trainings are by so many hundredths slower."""
    return pd.DataFrame(
        [
            (f"{method} {seed}", 300, method, seed, at * (1 + 0.01 * seed * (method == "ddpm")), cas)
            for seed in range(seeds) for method, curve in LOOKS.items() for at, cas in curve
        ],
        columns=quality_over_cost.COLUMNS,
    )  # fmt: skip


def test_equal_cas_is_the_worst_ones_best_and_reached_between_two_looks() -> None:
    times = quality_over_cost.times(looks()).set_index("method")
    assert times["equal_cas"].tolist() == [0.93] * 3
    assert times["best_cas"].to_dict() == {"ddpm": 0.96, "gan": 0.95, "vae": 0.93}
    expected = {"ddpm": 175, "gan": 40 + 40 * 13 / 15, "vae": 20}
    assert times["equal_s"].to_dict() == pytest.approx(expected)
    assert times["training_s"].to_dict() == {"ddpm": 300, "gan": 120, "vae": 30}


def test_of_a_first_look_that_is_good_enough_its_own_seconds_are_taken() -> None:
    good = looks().replace({"cas": {0.91: 0.99}})
    assert quality_over_cost.times(good).set_index("method").loc["vae", "equal_s"] == 10
    assert quality_over_cost.times(good)["equal_cas"].unique().tolist() == [0.95]


def test_the_claim_of_equal_quality_is_decided_by_seed(tmp_path: Path) -> None:
    looks(seeds=3).to_csv(tmp_path / "looks.csv", index=False)
    found = claims.findings(known_cells(), **ExtraInputs(looks=tmp_path / "looks.csv").read())
    claim = next(each for each in found if each.claim == "DDPM costs most, for samples of equal CAS")
    assert (claim.n, claim.verdict) == (3, "holds")
    assert claim.value == pytest.approx(175 / (40 + 40 * 13 / 15) * 1.01, rel=1e-3)
    assert claim.measured == "seconds of training of ddpm beside the highest of the others with 300 images, as a ratio"
    assert all(run in claim.run_ids for run in ("ddpm 0", "gan 1", "vae 2"))


def test_its_own_file_is_read_again_and_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looks().to_csv(tmp_path / "looks.csv", index=False)
    quality_over_cost.main(looks=tmp_path / "looks.csv", out=tmp_path)
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if "ddpm" in line)
    assert [text.strip() for text in row.strip("|").split("|")] == ["300", "ddpm", "1", "96.0", "300", "175", "93.0"]
    again = quality_over_cost.read(tmp_path / "quality_over_cost.csv")
    pd.testing.assert_frame_equal(again, looks(), check_dtype=False)
    (tmp_path / "other.csv").write_text("run_id,cas\na,1\n")
    with pytest.raises(InputError, match=r"has no column n_real: give a file that analysis\.quality_over_cost wrote"):
        quality_over_cost.read(tmp_path / "other.csv")
    with pytest.raises(InputError, match="--looks and --comparisons exclude each other"):
        quality_over_cost.main(("a",), tmp_path / "looks.csv")
