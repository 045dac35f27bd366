"""MLflow's pages after a real comparison, in a browser: what they must show is asserted in ui_pictures.py."""

from pathlib import Path

import pytest
import ui_pictures
from conftest import Launch
from PIL import Image
from servers import installed

from harness.errors import InputError


def test_the_pages_show_a_comparison(forked: Launch, place: Path, tmp_path: Path) -> None:
    installed(ui_pictures.chromium)
    done = forked(
        "compare.py", "--dataset", "digits", "--methods", "ddpm", "vae", "gan", "--n-real", "200",
        "--seeds", "1", "--num-synthetic", "100", "--controls", "duplicate", "--classifier.steps", "20",
        "--ddpm.steps", "20", "--vae.steps", "20", "--gan.steps", "20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ui_pictures.pictures(f"sqlite:///{place}/outputs/mlflow.db", tmp_path)
    for name in ui_pictures.PAGES:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (ui_pictures.SIZE["width"], ui_pictures.SIZE["height"])


def test_a_store_without_a_comparison_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no MLflow store"):
        ui_pictures.newest_comparison(f"sqlite:///{tmp_path}/mlflow.db")
