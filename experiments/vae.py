"""One class-conditional VAE: train, sample, let the judge score, log.

    accelerate launch experiments/vae.py --dataset mnist

With 60,000 images, 2 minutes of training and 1 second of sampling on one core in bf16 (measured, shared
machine): conditional accuracy 99.3 %, CAS 97.3 %.
"""

from harness import cli
from harness.methods.vae import Config
from harness.runs.command import training_of

main = training_of("vae", Config)

if __name__ == "__main__":
    cli.main(main)
