"""gan"""

from harness import cli, experiment
from harness.experiment import Single
from harness.methods.gan import Config


def main(settings: Single = Single(), config: Config = Config()) -> None:  # noqa: B008  both are frozen
    """Train one generator, sample from it, let the judge score it, log it."""
    experiment.generator("gan", config, settings)


if __name__ == "__main__":
    cli.main(main)
