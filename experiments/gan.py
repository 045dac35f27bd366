"""One class-conditional GAN: train, sample, let the judge score, log.

    accelerate launch experiments/gan.py --dataset mnist

With 60,000 images, 17 minutes of training and 2 seconds of sampling on one core in bf16 (measured, shared
machine): conditional accuracy 97.5 %, CAS 96.3 %.
"""

from harness import cli
from harness.methods.gan import Config
from harness.runs.command import training_of

main = training_of("gan", Config)

if __name__ == "__main__":
    cli.main(main)
