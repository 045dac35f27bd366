"""One class-conditional DDPM: train, sample, let the judge score, log.

    accelerate launch experiments/ddpm.py --dataset mnist

With 60,000 images, 32 minutes of training and 3 of sampling on one core in bf16 (measured, shared machine):
conditional accuracy 98.9 %, CAS 98.2 %.
"""

from harness import cli, tracking
from harness.methods.ddpm import Config
from harness.settings import Single


def main(settings: Single = Single(), config: Config = Config()) -> int:
    """Train one DDPM, sample from it, let the judge score the samples, log it all."""
    from harness.runs import generators

    generators.run_generator("ddpm", config, settings)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
