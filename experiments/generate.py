"""Labels in, random digits out, on a CPU in seconds.

    python experiments/generate.py --run RUN --labels 7 7 3 --out digits.png

RUN is the id of a generator's run. The same labels and seed give the same digits.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from harness import cli, exported, pictures, tracking
from harness.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What to draw, and from which generator."""

    run: str
    """run id of a generator"""
    labels: tuple[int, ...] = tuple(range(10))
    """a label for each image"""
    seed: int = 0
    """seed of the noise"""
    out: Path = Path("outputs/digits.png")
    """picture to write, ten images a row"""
    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/"""


def main(settings: Settings) -> None:
    """Draw one image per label."""
    if settings.out.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
        raise InputError(f"--out {settings.out} must end in .png or .jpg")
    if tracking.get_run(settings.run, settings.tracking_uri).get("tags.kind") != "generator":
        raise InputError(f"run {settings.run} is not a generator's; experiments/ddpm.py, vae.py and gan.py make them")
    with tracking.fetched(settings.run, "generator", settings.tracking_uri) as folder:
        model = exported.restore(folder)
    images = exported.generate(model, list(settings.labels), settings.seed)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pictures.grid(images, min(10, len(images)), scale=4)).save(settings.out)
    print(settings.out)


if __name__ == "__main__":
    cli.main(main)
