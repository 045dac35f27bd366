"""How the figures of quality depend on the number of samples that are measured, beside as many real images.

    python experiments/sample_size.py --dataset mnist --n-real 1000 --samples RUN

RUN is the id of a generator's run, with its --dataset, --n-real and --seed. About 5 min for MNIST on one core, of which
CAS takes the most. It prints a table and writes it as CSV: a figure that moves down a column of samples as it does down
the one of real images does so for the number, not for the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import cli, outputs
from harness.data.images import Images
from harness.data.splits import stratified_order
from harness.errors import InputError
from harness.evaluation import classifier, copies, quality
from harness.runs import arms, judges
from harness.settings import Single, load_dataset
from harness.training import launch


@dataclass(frozen=True)
class Settings(Single):
    """Whose samples, and how many of them."""

    samples: str | None = None
    """run id of the generator"""
    numbers: tuple[quality.Enough, ...] = (100, 250, 500, 1000, 2500, 5000, 10_000, 20_000)
    """how many samples are measured; of real images as many as half the test images, for CAS as the training images"""
    out: Path = Path("outputs/tables/sample_size.csv")
    """file for the table"""


def main(settings: Settings = Settings()) -> None:
    """Measure the first so many samples of a set, and as many real images."""
    if not settings.samples:
        raise InputError("give --samples, the run id of a generator: experiments/ddpm.py and its like print it")
    outputs.check_file(settings.out, ".csv")
    if not settings.numbers:
        raise InputError("--numbers needs numbers of samples, such as 100 1000 10000")
    import pandas as pd

    table = pd.DataFrame(rows(settings))
    table.to_csv(settings.out, index=False, float_format="%.6g", lineterminator="\n")
    print(table.to_markdown(index=False, floatfmt=".4g"))


def rows(settings: Settings) -> Iterator[dict[str, object]]:
    """A row per number of samples and of real images, with what can be measured of so many."""
    accelerator = launch.accelerator(settings.process_timeout)
    dataset = load_dataset(settings, settings.n_real, settings.seed)
    samples = arms.generator_arm(settings.samples or "", settings.tracking_uri).samples
    assert samples is not None
    judge, _ = judges.get_judge(dataset, settings, accelerator)
    reference, unseen = quality.reference_and_floor(dataset, settings.seed)
    theirs = quality.see(judge, reference)
    # A classifier that is tested on the test images is taught by others.
    sets = (("samples", samples, samples), ("real", unseen, dataset.train))
    for number in sorted(set(settings.numbers)):
        for name, judged, taught in sets:
            row: dict[str, object] = {"images": name, "number": number}
            if number <= len(judged):
                part = first(judged, number, settings.seed)
                row["conditional_accuracy"] = quality.accuracy(judge, part, accelerator)
                row |= quality.compare_to_reference(quality.see(judge, part), theirs)
                row["copy_odds"] = copies.memorisation(part, dataset.real, reference).odds
            if number <= len(taught):
                part, config = first(taught, number, settings.seed), classifier.Config(steps=settings.cas_steps)
                scores = quality.classification_accuracy_score(part, dataset, config, settings.seed, accelerator)
                row["cas"] = scores["test/cas"]
            if len(row) > 2:
                yield row


def first(images: Images, number: int, seed: int) -> Images:
    """So many of a set, the classes in their shares."""
    return images[stratified_order(images.labels, seed, "sample size")[:number]]


if __name__ == "__main__":
    cli.main(main)
