"""What a training needs of other runs: from this folder where they were written here, else from the agent."""

import contextlib
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from harness.errors import InputError
from harness.tracking import calls, local
from harness.tracking.addresses import check, default_uri, exists
from harness.tracking.local import FILES

T = TypeVar("T")
DAMAGE = (zipfile.BadZipFile, zlib.error, SafetensorError, EOFError, KeyError, ValueError)
"""What numpy, safetensors and json make of a file that is cut short or torn."""


def look_up(run: str, tracking_uri: str | None) -> dict[str, Any]:
    """A run as a row: run_id, status, `tags.NAME`, `params.NAME`, `metrics.NAME`.

    Raises InputError for one that is neither here nor in the store.
    """
    folder = local.find(run)
    return local.row(folder) if folder else in_store(run, tracking_uri)


def in_store(run: str, tracking_uri: str | None) -> dict[str, Any]:
    """The same as the store has it now. Raises InputError where it has none, or one that was deleted."""
    return calls.ask("run", tracking_uri, run=run)


def fetch(run: str, path: str, tracking_uri: str | None) -> Path:
    """A file or folder that a run has logged, to be read alone. Raises InputError where the run has none."""
    folder = local.find(run)
    if folder and (folder / FILES / path).exists():
        return folder / FILES / path
    return Path(calls.ask("fetch", tracking_uri, run=run, path=path))


def read(run: str, path: str, tracking_uri: str | None, reader: Callable[[Path], T]) -> T:
    """What `reader` makes of a file or folder that a run has logged; one that is damaged here is named, and fetched.

    Raises InputError where the run has none that can be read.
    """
    place = fetch(run, path, tracking_uri)
    try:
        return reader(place)
    except InputError:
        raise
    except DAMAGE as error:
        print(f"{place} is damaged ({error}); it is fetched from the store", file=sys.stderr)
    with contextlib.suppress(FileNotFoundError):  # another process was first
        place.rename(place.with_name(f"{place.name}.damaged"))
    try:
        return reader(fetch(run, path, tracking_uri))
    except DAMAGE as error:
        raise InputError(f"{path} of run {run} cannot be had whole, from the store neither: {error}") from error


@contextlib.contextmanager
def fetched_model(address: str, tracking_uri: str | None) -> Iterator[Path]:
    """The folder of a logged generator, which `harness.runs.exported.restore` reads, for the length of the block.

    `address` is such as models:/ddpm@champion, models:/ddpm/3 or models:/m-ID. Raises InputError for another one, and
    where the store has no such model or it is not a generator's.
    """
    if not re.fullmatch(r"models:/([^/@]+(@[^/@]+|/\d+)|m-[^/@]+)", address):
        raise InputError(f"{address} is no model's address; models:/ddpm@champion and models:/ddpm/3 are")
    folder = Path(calls.ask("model", tracking_uri, address=address))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def find_runs(condition: str, tracking_uri: str | None, deleted: bool = False) -> list[dict[str, Any]]:
    """The runs of the store that a filter finds (or of the deleted ones), newest first; none without a store yet."""
    return calls.ask("runs", tracking_uri, condition=condition, deleted=deleted)


def find_finished(tag: str, value: str, tracking_uri: str | None, parent: str | None = None) -> list[str]:
    """The ids of the store's finished runs with a tag of our own making, such as `cell`: newest first."""
    if not calls.can_send() or not exists(tracking_uri or default_uri()):
        return []
    condition = f"tags.{tag} = '{value}' and attributes.status = 'FINISHED'"
    if parent:
        condition += f" and tags.`mlflow.parentRunId` = '{parent}'"
    return [run["run_id"] for run in find_runs(condition, tracking_uri)]


def set_tags(run: str, tags: dict[str, str], tracking_uri: str | None) -> None:
    """Add tags to a run of the store, finished or not."""
    calls.ask("tag", tracking_uri, run=run, tags=tags)


def check_store(tracking_uri: str | None, experiment: str) -> None:
    """Refuse a store, or an experiment in it, in which no run can be made: before any work.

    A server that is away is no reason to refuse: what a run says waits here.
    """
    uri = tracking_uri or default_uri()
    check(uri)
    if calls.can_send() and exists(uri):
        calls.ask("check", tracking_uri, experiment=experiment)
