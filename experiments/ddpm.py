"""One class-conditional DDPM: train, sample, let the judge score, log.

    accelerate launch experiments/ddpm.py --dataset mnist

With 60,000 images and `--kernel-learning-rate 0`, 32 minutes of training and 3 of sampling on one core in bf16
(measured, shared machine): conditional accuracy 98.9 %, CAS 98.2 %.
"""

from harness import cli
from harness.methods.ddpm import Config
from harness.runs.command import training_of

main = training_of("ddpm", Config)

if __name__ == "__main__":
    cli.main(main)
