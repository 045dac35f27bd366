"""`python tests/failing.py RANK STEP FLAGS`: experiments/vae.py, a process of which runs out of memory at a step."""

import os
import runpy
import sys
from pathlib import Path

from harness.methods import vae

rank, fatal = sys.argv.pop(1), int(sys.argv.pop(1))
step_of_vae = vae.VAE.step


def step(self, batch, step):
    if os.environ.get("RANK", "0") == rank and step == fatal:
        raise MemoryError("no memory is left for this step")
    return step_of_vae(self, batch, step)


vae.VAE.step = step
runpy.run_path(str(Path(__file__).parent.parent / "experiments" / "vae.py"), run_name="__main__")
