"""Labels in, random images of them out, on a CPU in seconds.

    python experiments/generate.py --model models:/ddpm@champion --labels 7 7 3 --out digits.png
    python experiments/generate.py --run RUN --labels 7 7 3

    python experiments/generate.py --run RUN --labels cat dog dog        # of a folder's classes, by their names

RUN is the id of a generator's run. The same labels and seed give the same images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import cli, outputs
from harness.bounds import Natural
from harness.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What to draw, and from which generator."""

    model: str | None = None
    """address of a generator's model: models:/METHOD@champion, models:/METHOD/VERSION"""
    run: str | None = None
    """instead of --model, the id of a generator's run"""
    labels: tuple[str, ...] | None = None
    """a class for each image, by its name or its number; by default each once"""
    seed: Natural = 0
    """seed of the noise"""
    out: Path = Path("outputs/generated.png")
    """picture to write, ten images a row"""
    tracking_uri: str | None = None
    """MLflow store; by default the environment's MLFLOW_TRACKING_URI, else sqlite under outputs/"""


def main(settings: Settings = Settings()) -> None:
    """Draw one image per label."""
    from PIL import Image

    from harness.runs import exported, pictures

    outputs.check_file(settings.out, ".png", ".jpg", ".jpeg")
    model = generator(settings)
    labels = exported.labels_of(model, model.classes if settings.labels is None else settings.labels)
    images = exported.draw_labels(model, labels, settings.seed)
    Image.fromarray(pictures.image_grid(images, min(10, len(images)), scale=4)).save(settings.out)
    print(settings.out)


def generator(settings: Settings) -> Any:
    """The trained generator that is asked for."""
    from harness.runs import exported
    from harness.tracking import inputs

    if settings.model and not settings.run:
        with inputs.fetched_model(settings.model, settings.tracking_uri) as folder:
            return exported.restore_generator(folder)
    if not settings.run or settings.model:
        raise InputError("give one of --model, such as models:/ddpm@champion, and --run, a generator's run id")
    if inputs.look_up(settings.run, settings.tracking_uri).get("tags.kind") != "generator":
        raise InputError(f"run {settings.run} is not a generator's; experiments/ddpm.py and its like make them")
    return inputs.read(settings.run, "generator", settings.tracking_uri, exported.restore_generator)


if __name__ == "__main__":
    cli.main(main)
