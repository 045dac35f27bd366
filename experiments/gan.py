"""One class-conditional GAN: train, sample, let the judge score, log.

    accelerate launch experiments/gan.py --dataset mnist

With 60,000 images, 17 minutes of training and 2 seconds of sampling on one core in bf16 (measured, shared
machine): conditional accuracy 97.5 %, CAS 96.3 %.
"""

from harness import cli, tracking
from harness.methods.gan import Config
from harness.settings import Single


def main(settings: Single = Single(), config: Config = Config()) -> int:
    """Train one GAN, sample from it, let the judge score the samples, log it all."""
    from harness.runs import generators

    generators.run_generator("gan", config, settings)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
