"""The write side: a run says everything into its journal, from which a background thread sends it to the store.

Training never waits for the store, and a run that goes on after a kill sends what is missing and repeats nothing.
"""

import contextlib
import io
import os
import re
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from PIL import Image

from harness import journal, provenance, signals
from harness.errors import InputError, Pruned
from harness.journal import Journal
from harness.redaction import redacted
from harness.signals import Killed
from harness.tracking.shipping import FILES, JOURNAL, Sender, now_ms, unsent
from harness.tracking.stores import OUTPUTS, Failure, answering, client, complaint, is_refusal, shown
from harness.tracking.system import watched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

END_PATIENCE_S = 30.0
STOPPED_PATIENCE_S = 5.0  # who sent the signal may soon send SIGKILL
BEGIN_PATIENCE_S = 60.0
LONGEST_PARAM, LONGEST_TAG = 6000, 8000  # characters, MLflow's limits
NAME = re.compile(r"[/\w.\- :]+")


class Run:
    """One run. What it is told is in its journal when a call returns, and in the store soon after.

    With `store` None every call does nothing: what other processes hold.
    """

    def __init__(
        self, store: MlflowClient | None, run_id: str = "", shared: bool = False, parent: str | None = None
    ) -> None:
        self.id, self.folder, self.parent = run_id, (OUTPUTS / "runs" / run_id).absolute(), parent
        if shared:
            self.folder /= f"{os.getpid()}-{now_ms()}"
        self._named: set[str] = set()
        self._said: dict[str, int] = {}  # the last step of each metric and image before this process
        self._journal = Journal(self.folder / JOURNAL) if store else None
        if store and self._journal:
            if not self._journal.position:
                self._say(run=run_id)
            for record, _ in journal.read(self._journal.path):
                if "step" in record:
                    self._said |= dict.fromkeys(record.get("metrics", [record.get("image")]), record["step"])
            self._sender = Sender(self.folder, store, self._journal.close)

    def said_until(self, key: str) -> int:
        """The last step of a metric before this process; -1 where there is none."""
        return self._said.get(key, -1)

    def _say(self, **record: Any) -> None:
        if self._journal:
            self._journal.append(**({"time": now_ms()} | record))

    def metrics(self, values: Mapping[str, float], step: int = 0, timestamp_ms: int | None = None) -> None:
        """Numbers of one step.

        What the run said of a step before it was killed stands: done again, the step gives the same.

        Raises InputError for a name that the store would refuse.
        """
        if not self._journal:
            return
        if values.keys() - self._named:
            self._named |= {_named(key) for key in values}
        new = {key: float(value) for key, value in values.items() if step > self._said.get(key, -1)}
        if new:
            self._say(metrics=new, step=step, time=timestamp_ms or now_ms())

    def sync(self) -> int:
        """Return when the disk has all that was said: the journal's length in bytes."""
        if not self._journal:
            return 0
        self._journal.sync()
        return self._journal.position

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings; one that is longer than the store takes is whole in the artifact params/NAME.txt."""
        short = {}
        for key, value in values.items():
            text = redacted(str(value))
            if len(text) > LONGEST_PARAM:
                self.text(text, f"params/{key}.txt")
                text = f"{text[:200]}… (whole in params/{key}.txt)"
            short[key] = text
        self._say(params=short)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._say(tags={key: redacted(str(value))[:LONGEST_TAG] for key, value in values.items()})

    def image(self, key: str, picture: np.ndarray, step: int) -> None:
        """A stepped image (uint8 [H, W] or [H, W, 3]): the UI shows them with a slider."""
        if self._journal and step > self.said_until(key):
            path = self._keep(f"images/{key}-{step}.png", _png(picture))
            self._say(image=key, picture=path, step=step)

    def picture(self, picture: "np.ndarray | Figure", path: str) -> None:
        """One image artifact: an array as for `image`, or a figure."""
        if self._journal:
            self._say(file=self._keep(path, _png(picture)))

    def file(self, path: Path, folder: str | None = None) -> None:
        if self._journal:
            self._say(file=self._keep(f"{folder}/{path.name}" if folder else path.name, path.read_bytes()))

    def text(self, text: str, path: str) -> None:
        if self._journal:
            self._say(file=self._keep(path, redacted(text).encode()))

    def model(self, folder: Path, labels: list[int], register: bool = False) -> None:
        """An exported generator as the run's MLflow model, and in the registry; `labels` are its input example."""
        if self._journal:
            for path in folder.iterdir():
                self._keep(f"model/{path.name}", path.read_bytes())
            self._say(model="model", labels=labels, register=register)

    def data(self, name: str, digest: str, source: str, context: str) -> None:
        """An MLflow dataset input: what this run has read."""
        self._say(data=name, digest=digest, source=source, context=context)

    def _keep(self, name: str, content: bytes) -> str:
        """A file that waits to be sent, whole and on the disk before the journal names it."""
        path = self.folder / FILES / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}; free some space") from error
        return name

    def begin_again(self) -> None:
        self._say(status="RUNNING")

    def describe(self, text: str) -> None:
        """The markdown that the UI shows first on the run's page."""
        if self.parent:
            text += f"\n\nA part of [this run](#/runs/{self.parent})."
        self.tags({MLFLOW_RUN_NOTE: text})

    def end(self, status: str, patience_s: float | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED; what the store does not take now is said, with what sends it."""
        if not self._journal:
            return
        self._say(status=status)
        self._journal.sync()
        if self._sender.finish(END_PATIENCE_S if patience_s is None else patience_s):
            shutil.rmtree(self.folder / FILES, ignore_errors=True)
        else:
            uri = shown(str(self._sender.store.tracking_uri))
            print(
                f"run {self.id}: {unsent(self.folder)} records are still to be sent; when the store answers: "
                f"python -m harness.tracking sync --tracking-uri {uri}",
                file=sys.stderr,
            )

    def fail(self, error: BaseException, reason: str) -> None:
        """Close the run as KILLED where it was stopped, else as FAILED with the traceback, and say why."""
        stopped = isinstance(error, Pruned) or (
            isinstance(error, KeyboardInterrupt | Killed) and signals.STOPPED in reason
        )
        status, reason = "KILLED" if stopped else "FAILED", redacted(reason)[:5000]
        try:
            self.tags({"reason": reason})
            if not stopped:
                self.text("".join(traceback.format_exception(error)), "traceback.txt")
            self.end(status, STOPPED_PATIENCE_S if stopped else None)
        except InputError:  # the disk takes nothing more: past the journal, after all that is in it
            self._sender.finish(END_PATIENCE_S)
            with contextlib.suppress(*Failure):
                self._sender.store.set_tag(self.id, "reason", reason)
                self._sender.store.set_terminated(self.id, status)


def _named(key: str) -> str:
    if not NAME.fullmatch(key):
        raise InputError(f"{key!r} cannot be a metric's name: letters, digits, '_', '-', '.', ' ', ':' and '/' can")
    return key


def _peak_memory() -> int:
    """Bytes of memory that this process had at most, the GPU's apart."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _png(picture: "np.ndarray | Figure") -> bytes:
    stream = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(stream, "png")
    else:
        picture.savefig(stream, format="png")
    return stream.getvalue()


@contextlib.contextmanager
def run(
    experiment: str,
    name: str,
    *,
    tags: Mapping[str, Any],
    params: Mapping[str, Any],
    parent: str | None = None,
    tracking_uri: str | None = None,
    active: bool = True,
    resume: str | None = None,
    shared: bool = False,
    why: Callable[[BaseException], str] = signals.reason,
) -> Iterator[Run]:
    """A run that carries where it comes from, and that is closed however the block ends.

    FINISHED, or FAILED with the traceback as an artifact and its last line as the tag `reason`, or KILLED on
    SIGTERM, SIGUSR1 and Ctrl-C. `active` is False on all processes but the main one; `resume` is the id of a run
    to go on with; a `shared` one may be written by several jobs at once, each into a journal of its own; `why`
    gives the reason for an exception, which may lie in another process.
    """
    if not active:
        yield Run(None)
        return
    store, start = client(tracking_uri), time.monotonic()
    if resume:
        current = Run(store, resume, shared, parent)
        current.begin_again()
    else:
        parent_tag = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        known = {**parent_tag, **{key: redacted(str(value)) for key, value in tags.items()}}
        current = Run(store, _created(store, experiment, redacted(name), known), shared, parent)
        current.params(params)
        _log_provenance(current)
    with signals.raised():
        try:
            with watched(current):
                yield current
            current.metrics({"cost/wall_seconds": time.monotonic() - start, "cost/peak_memory_bytes": _peak_memory()})
        except BaseException as error:
            with signals.ignored():
                current.fail(error, why(error))
            raise
    current.end("FINISHED")


def _created(store: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    """The id of a new run. A store that is away is waited for, since nothing has begun that could be lost.

    Raises InputError where it refuses, or stays away for BEGIN_PATIENCE_S seconds.
    """
    until, pause = time.monotonic() + BEGIN_PATIENCE_S, 1.0
    while True:
        try:
            known = store.get_experiment_by_name(experiment)
            experiment_id = known.experiment_id if known else _create_experiment(store, experiment)
            return store.create_run(experiment_id, tags=tags, run_name=name).info.run_id
        except Failure as error:
            if is_refusal(error) or time.monotonic() + pause > until:
                raise complaint(str(store.tracking_uri), error) from error
        time.sleep(pause)
        pause *= 2


def _create_experiment(store: MlflowClient, name: str) -> str:
    uri = store.tracking_uri
    # A server chooses the place of artifacts; for a bare database it stands beside the database.
    database = Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None
    place = (database.parent / "artifacts" / name).as_uri() if database else None
    try:
        return store.create_experiment(name, place)
    except MlflowException:  # another process was first
        known = store.get_experiment_by_name(name)
        if known is None:
            raise
        return known.experiment_id


def _log_provenance(run: Run) -> None:
    run.tags(provenance.tags())
    if provenance.diff():
        run.text(provenance.diff(), "provenance/uncommitted.diff")
    run.text(provenance.packages(), "provenance/packages.txt")


def tag(run_id: str, tags: Mapping[str, str], tracking_uri: str | None = None) -> None:
    """Add tags to a run, finished or not."""
    store = client(tracking_uri)
    for key, value in tags.items():
        store.set_tag(run_id, key, value)


def log_files(run_id: str, paths: Sequence[Path], folder: str, tracking_uri: str | None = None) -> None:
    """Add files to a run, finished or not, under the artifact folder `folder`.

    Raises InputError for a store that is away or refuses.
    """
    with answering(tracking_uri):
        store = client(tracking_uri)
        for path in paths:
            store.log_artifact(run_id, str(path), folder)
