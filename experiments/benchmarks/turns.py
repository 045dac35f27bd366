"""Measuring in turns, so that a slow minute of the machine meets all that is compared; beside what; and its table."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate
from tqdm import trange

from harness.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """The files of a revision, in a folder of their own for the length of the block. Raises InputError for none."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="worktree-") as folder:
        path = Path(folder) / "source"
        done = subprocess.run([*git, "add", "--detach", str(path), revision], capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"--against {revision}: {done.stderr.strip().splitlines()[-1]}")
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def take_turns(
    measures: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 0, quiet: bool = False
) -> pd.DataFrame:
    """What each has measured: a row per turn, without those that warm up, and a column per name."""
    import pandas as pd

    turns = trange(warm_up + rounds, desc="turns", delay=2, disable=True if quiet else None)
    return pd.DataFrame([{name: measure() for name, measure in measures.items()} for _ in turns][warm_up:])


def beside(turns: pd.DataFrame, ours: str, other: str) -> pd.DataFrame:
    """Two of the columns, and their ratio, taken turn by turn."""
    pair = turns[[ours, other]].set_axis(["ours", "other"], axis=1)
    return pair.assign(ratio=pair["ours"] / pair["other"])


def spread(values: pd.Series, low: float = 0, high: float = 1) -> str:
    """Median [least, most], or other quantiles in their place, to four figures."""
    middle, least, most = (
        np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="-")
        for value in values.quantile([0.5, low, high])
    )
    return f"{middle} [{least}, {most}]"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown, under the names of the first row."""
    return tabulate(rows, headers="keys", tablefmt="pipe")
