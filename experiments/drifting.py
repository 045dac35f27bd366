"""One class-conditional drifting model: train, sample, let the judge score, log.

    accelerate launch experiments/drifting.py --dataset mnist

With 1,000 images, 3 minutes of one core's time in training (float32, AVX2; 8 minutes of a shared core).
"""

from harness import cli
from harness.methods.drifting import Config
from harness.runs.command import training_of

main = training_of("drifting", Config)

if __name__ == "__main__":
    cli.main(main)
