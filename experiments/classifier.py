"""One classifier on real and synthetic images.

    python experiments/classifier.py --dataset mnist --n-real 1000 --arm affine
    python experiments/classifier.py --dataset mnist --n-real 1000 --samples RUN

RUN is the id of a generator's run (experiments/ddpm.py prints it).
"""

from dataclasses import dataclass

from harness import cli, tracking
from harness.evaluation import classifier
from harness.settings import Single, load_dataset


@dataclass(frozen=True)
class Settings(Single):
    """One arm."""

    arm: str = "none"
    """what is added to the real images: none, duplicate, affine or noise"""
    samples: str | None = None
    """instead of --arm, the run id of a generator whose samples are added"""


def main(settings: Settings = Settings(), config: classifier.Config = classifier.Config()) -> int:
    """Train one classifier on an arm's images, score it on the test split, log it."""
    from harness.runs import arms, classifiers, records

    dataset = load_dataset(settings, settings.n_real, settings.seed)
    records.print_notes(dataset)
    if settings.samples:
        arm = arms.generator_arm(settings.samples, settings.tracking_uri)
    else:
        arm = arms.control_arm(settings.arm, dataset, settings.num_synthetic, settings.seed)
    classifiers.run_classifier(arm, config, settings, dataset)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
