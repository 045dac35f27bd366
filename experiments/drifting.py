"""One class-conditional drifting model: train, sample, let the judge score, log.

    accelerate launch experiments/drifting.py --dataset mnist

With 1,000 images, 3 minutes of one core's time in training (float32, AVX2; 8 minutes of a shared core).
"""

from harness import cli, tracking
from harness.methods.drifting import Config
from harness.settings import Single


def main(settings: Single = Single(), config: Config = Config()) -> int:
    """Train one drifting model, sample from it, let the judge score the samples, log it all."""
    from harness.runs import generators

    generators.run_generator("drifting", config, settings)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
