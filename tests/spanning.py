"""What goes wrong in trials that span processes, for study_soak.py: every rank calls it."""

import os

import torch

from harness.engine.tasks import Talk
from harness.methods import vae
from harness.runs.looks import Watch
from harness.studies import trials
from harness.studies.trials import Job


def carry_out(talk: Talk, job: Job, fault: str) -> list[float]:
    """The trial, in which rank 1 raises, or its loss is not a number, at step 7."""
    rank_1, step_of_vae = os.environ.get("RANK") == "1", vae.VAE.step

    def step(self: vae.VAE, batch, step):
        if rank_1 and step == 7 and fault == "exception":
            raise MemoryError("no memory is left on rank 1")
        metrics = step_of_vae(self, batch, step)
        if rank_1 and step == 7 and fault == "nan":
            return {**metrics, "train/vae_loss": torch.full_like(metrics["train/vae_loss"], torch.nan)}
        return metrics

    vae.VAE.step = step
    if fault == "prune":  # no pruner would end a first trial
        trials._watch = lambda *_: Watch("fid", lambda look, value: look == 2)
    return trials.run_trial(talk, job)
