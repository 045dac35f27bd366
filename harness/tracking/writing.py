"""The write side: a run says everything into its journal, its beginning included, from which an agent sends it.

Training never waits for a store and imports nothing of MLflow's. A run that goes on after a kill repeats nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import platform
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import signals
from harness.errors import InputError, Pruned, unwritable
from harness.signals import Killed
from harness.tracking import calls, journal, local, provenance
from harness.tracking.addresses import check, default_uri, relative_to_here, split_password
from harness.tracking.journal import Journal
from harness.tracking.local import FILES, JOURNAL, RUNS
from harness.tracking.redaction import all_redacted, redacted
from harness.tracking.waiting import wait_until_sent, what_is_left

AGENT_LOOK_S = 5.0
LONGEST_PARAM, LONGEST_TAG = 6000, 8000  # characters, MLflow's limits
NAME = re.compile(r"[/\w.\- :]+")
DESCRIPTION = "mlflow.note.content"
"""The tag whose markdown MLflow's UI shows on a run's page."""


_left: set[str] = set()
_open: list[Run] = []
"""The runs of this process that are not over."""
os.register_at_fork(after_in_child=_open.clear)


def exit_code() -> int:
    """3 where a store that can be reached from here did not take all that this process's runs said, else 0."""
    return 3 if _left and calls.can_send() else 0


def note_left(what: str) -> None:
    """Something that another process began has said more than its store took."""
    _left.add(what)


class Run:
    """One run. What it is told is in its journal when a call returns, and in the store soon after.

    Without a folder every call does nothing: what other processes hold.
    """

    def __init__(
        self, folder: Path | None = None, secrets: Mapping[str, str] | None = None, parent: str | None = None
    ) -> None:
        self.folder, self._secrets, self.parent = (folder or RUNS).absolute(), dict(secrets or {}), parent
        self.is_sent, self._was_stopped = True, False
        self._parts: list[Run] = []
        self._named: set[str] = set()
        self._said: dict[str, int] = {}  # the last step of each metric and image before this process
        self._has_params = False
        self._journal = Journal(self.folder / JOURNAL) if folder else None
        self._looked, self._troubled = time.monotonic(), False
        if self._journal:
            sent = local.Sent.read(self.folder)
            if self._journal.position < sent.journal:  # a power cut took lines that were sent: all is sent again
                sent.journal = 0
                sent.write(self.folder)
            for record, _ in journal.read(self._journal.path):
                self._has_params = self._has_params or "params" in record
                if "step" in record:
                    self._said |= dict.fromkeys(record.get("metrics", [record.get("image")]), record["step"])

    @property
    def id(self) -> str:
        """The store's id of this run, or the folder's while it has no other: each stands for the other here."""
        return local.id_of(self.folder) if self._journal else ""

    def last_logged_step(self, key: str) -> int:
        """The last step of a metric before this process; -1 where there is none."""
        return self._said.get(key, -1)

    def introduce(self, params: Mapping[str, Any]) -> None:
        """Say once what code and settings the run is of: also in place of a writer that was killed before it did."""
        if self._has_params:
            return
        _log_provenance(self)
        self.params(params)

    def begin(self, **record: Any) -> None:
        """Say what run this is, or that it goes on; and have the agent know."""
        self._say(**record, host=platform.node(), pid=os.getpid())
        if self._journal:
            local.write_in_place(self.folder / local.END, {})
            calls.ring(self.folder.name, self._secrets)

    def _say(self, **record: Any) -> None:
        if self._journal:
            self._journal.append(**({"time": now_ms()} | record))
            if time.monotonic() - self._looked > AGENT_LOOK_S:
                self._look()

    def _look(self) -> None:
        """See to it that an agent lives, and say once what troubles it."""
        self._looked = time.monotonic()
        calls.ensure(self._secrets)
        trouble = local.Sent.read(self.folder).trouble
        if trouble and not self._troubled:
            print(f"run {self.id}: {trouble}; its journal keeps everything", file=sys.stderr)
        self._troubled = self._troubled or bool(trouble)

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
        for key, text in all_redacted(values).items():
            if len(text) > LONGEST_PARAM:
                self.text(text, f"params/{key}.txt")
                short[key] = f"{text[:200]}… (whole in params/{key}.txt)"
            else:
                short[key] = text
        self._say(params=short)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._say(tags=_short(values))

    def image(self, key: str, picture: np.ndarray, step: int) -> None:
        """A stepped image (uint8 [H, W] or [H, W, 3]): the UI shows them with a slider."""
        if self._journal and step > self.last_logged_step(key):
            path = self._keep(f"images/{key}-{step}.png", _png(picture))
            self._say(image=key, picture=path, step=step)

    def picture(self, picture: np.ndarray, path: str) -> None:
        """One image artifact; the array is as for `image`."""
        if self._journal:
            self._say(file=self._keep(path, _png(picture)))

    def file(self, path: Path, folder: str | None = None) -> None:
        if self._journal:
            self._say(file=self._keep(f"{folder}/{path.name}" if folder else path.name, path.read_bytes()))

    def text(self, text: str, path: str) -> None:
        if self._journal:
            self._say(file=self._keep(path, redacted(text).encode()))

    def model(
        self,
        folder: Path,
        labels: list[int],
        register: bool = False,
        *,
        description: str,
        params: Mapping[str, Any],
        figures: Sequence[str],
        dataset: str,
        digest: str,
        picture: str | None = None,
    ) -> None:
        """An exported generator as the run's MLflow model, and in the registry; `labels` are its input example.

        Its page has the description (markdown), the params, those of the run's metrics that `figures` names, as
        figures of a data set, and a picture that the run has.
        """
        if not self._journal:
            return
        for path in folder.iterdir():
            self._keep(f"model/{path.name}", path.read_bytes())
        self._say(
            model="model",
            labels=labels,
            register=register,
            description=redacted(description),
            about=all_redacted(params),
            figures=list(figures),
            dataset=dataset,
            digest=digest,
            picture=picture,
        )

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
            raise unwritable(path, error) from error
        return name

    def describe(self, text: str) -> None:
        """The markdown that the UI shows first on the run's page."""
        if self.parent:
            text += f"\n\nA part of [this run](#/runs/{self.parent})."
        self.tags({DESCRIPTION: text})

    def end(self, status: str) -> None:
        """Say that the run is over: FINISHED, FAILED or KILLED."""
        self._say(status=status)
        self.sync()

    def leave(self) -> None:
        """Let the run go when its agent has sent the rest; a part of a run that this process has open goes with that.

        Gives up after some seconds in which the store took nothing, and says what sends the rest.
        """
        whole = next((run for run in _open if self.parent in (run.folder.name, run.id)), None)
        if whole:
            whole._parts.append(self)
            return
        if self._parts:
            calls.ring(self.folder.name, self._secrets)  # so that all are sent in one go
        for part in self._parts:
            part.leave()
        if self._journal:
            length = self._journal.position  # 0 where the disk took not even the beginning: there is no run
            self.is_sent = not length or wait_until_sent(self.folder, length, self._secrets, self._was_stopped)
            if not self.is_sent:
                print(f"run {self.id}: {what_is_left(self.folder)}", file=sys.stderr)
                _left.add(self.id)
            self._journal.close()
            calls.ring(self.folder.name, self._secrets)  # the agent sees that its writer is gone

    def fail(self, error: BaseException, reason: str) -> None:
        """Close the run as KILLED where it was stopped, else as FAILED with the traceback, and say why.

        Where the disk takes nothing more the agent closes it so, when it sees that its writer is gone.
        """
        stopped = isinstance(error, Pruned) or (
            isinstance(error, KeyboardInterrupt | Killed) and signals.STOPPED in reason
        )
        status, reason = "KILLED" if stopped else "FAILED", redacted(reason)[:5000]
        self._was_stopped = stopped
        if self._journal and not self._journal.position:
            return  # what has no beginning can have no end
        try:
            self.tags({"reason": reason})
            if not stopped:
                self.text("".join(traceback.format_exception(error)), "traceback.txt")
            self.end(status)
        except InputError:
            with contextlib.suppress(InputError):
                local.write_in_place(self.folder / local.END, {"status": status, "reason": reason[:1000]})


def _named(key: str) -> str:
    if not NAME.fullmatch(key):
        raise InputError(f"{key!r} cannot be a metric's name: letters, digits, '_', '-', '.', ' ', ':' and '/' can")
    return key


def _peak_memory() -> int:
    """Bytes of memory that this process had at most, the GPU's apart."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "png")
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
    of: str | None = None,
    why: Callable[[BaseException], str] = signals.reason,
) -> Iterator[Run]:
    """A run that carries where it comes from, and that is closed however the block ends.

    FINISHED, or FAILED with the traceback as an artifact and its last line as the tag `reason`, or KILLED on
    SIGTERM, SIGUSR1 and Ctrl-C. `active` is False on all processes but the main one. `parent` is the id of a run.
    `resume` is the id of a run of this folder to go on with; `of` is that of a run in the store, which several may go
    on with at once, each in a folder of its own. `why` gives the reason for an exception, which may lie in another
    process.

    Raises InputError, before anything is written, for an address that no store can have.
    """
    if not active:
        yield Run()
        return
    uri, start = tracking_uri or default_uri(), time.monotonic()
    check(uri)
    address, secrets = split_password(relative_to_here(uri))
    cell = None if tags.get("cell") is None else str(tags["cell"])
    place = local.find(resume) if resume else RUNS / local.new_id(cell)
    if place is None:
        raise InputError(f"run {resume} was not written from {RUNS}")
    current = Run(place, secrets, parent)
    _open.append(current)
    with signals.raise_signals():
        try:
            if resume:
                current.begin(status="RUNNING")
                current.introduce(params)
            elif of:
                current.begin(store=address, of=of, name=name)
                current.begin(status="RUNNING")
            else:
                known = {"mlflow.user": _user()} | _short({**provenance.tags(), **tags})
                current.begin(store=address, experiment=experiment, name=redacted(name), parent=parent, tags=known)
                current.introduce(params)
            yield current
            current.metrics({"cost/wall_seconds": time.monotonic() - start, "cost/peak_memory_bytes": _peak_memory()})
            current.end("FINISHED")
        except BaseException as error:
            with signals.ignore_signals():
                current.fail(error, why(error))
                _open.remove(current)
                current.leave()
            raise
        _open.remove(current)
        current.leave()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _short(tags: Mapping[str, Any]) -> dict[str, str]:
    return {key: text[:LONGEST_TAG] for key, text in all_redacted(tags).items()}


def _log_provenance(run: Run) -> None:
    if provenance.diff():
        run.text(provenance.diff(), "provenance/uncommitted.diff")
    run.text(provenance.packages(), "provenance/packages.txt")


def now_ms() -> int:
    return time.time_ns() // 1_000_000
