"""The runs of this folder, as their own files tell of them: no store is asked, and MLflow is not needed.

    outputs/runs/ID/
        journal         what the run says; its writer holds the lock
        agent.journal   what the agent sees of it, such as system metrics
        sent            what the store has of both; who sends holds the lock
        aside           records that the store did not take, with its reasons
        end             how the run ended, where the journal's disk took no more
        files/          what waits to be sent, and what other runs need of this one
        checkpoints/

ID is the folder's; the store gives a run another one, which `sent` tells. `outputs/ids` has a line with both for each
run, so that thousands of folders need not be looked through; without it they are.
"""

import contextlib
import dataclasses
import json
import os
import platform
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import locks
from harness.errors import unwritable
from harness.outputs import OUTPUTS
from harness.tracking import journal
from harness.tracking.addresses import default_uri, same
from harness.tracking.journal import Record

RUNS, IDS = OUTPUTS / "runs", OUTPUTS / "ids"
JOURNAL, AGENT_JOURNAL, SENT, ASIDE, END, FILES = "journal", "agent.journal", "sent", "aside", "end", "files"
KEPT = ("samples.npz", "generator/", "judge/", "pictures/samples.png")
"""What other runs, or people, read of a run stays here when the store has it."""
HEARTBEAT_S = 30.0
"""Between two signs of life of a run."""
ENDS = ("FINISHED", "FAILED", "KILLED")
ROOM = 2048
"""Bytes of `sent` and of `end`, which are written in place and never grow: on a full disk too."""


@dataclass
class Sent:
    """What a store has of a run."""

    run_id: str = ""
    """the store's"""
    experiment: str = ""
    """the id of the run's experiment there"""
    store: str = ""
    """its address"""
    journal: int = 0
    """position up to which it has the journal"""
    agent_journal: int = 0
    images: int = -1
    """position of the last stepped image that the store may have"""
    closed: int = -1
    """the journal's length at which the run of a dead writer was closed"""
    trouble: str = ""
    """why nothing can be sent now, in a line"""
    aside: dict[str, str] = field(default_factory=dict)
    """the store's reasons by FILE:POSITION of the records that it did not take"""

    @classmethod
    def read(cls, folder: Path) -> "Sent":
        sent, fields = cls(), {}
        with contextlib.suppress(OSError, ValueError):
            fields = json.loads((folder / SENT).read_text())
        with contextlib.suppress(OSError, ValueError):
            sent.aside = json.loads((folder / ASIDE).read_text())
        known = {each.name for each in dataclasses.fields(cls)} - {"aside"}
        for name, value in fields.items():
            if name in known:
                setattr(sent, name, value)
        return sent

    def write(self, folder: Path) -> None:
        content = {key: value for key, value in vars(self).items() if key != "aside"}
        content["trouble"] = self.trouble[:300]
        write_in_place(folder / SENT, content)

    def write_aside(self, folder: Path) -> None:
        if self.aside or (folder / ASIDE).exists():
            fresh = folder / f"{ASIDE}.{os.getpid()}"
            fresh.write_text(json.dumps(self.aside))
            fresh.replace(folder / ASIDE)


def write_in_place(path: Path, content: dict[str, Any]) -> None:
    """Raises InputError where the disk takes it not."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, json.dumps(content).encode().ljust(ROOM - 1)[: ROOM - 1] + b"\n", 0)
        finally:
            os.close(file)
    except OSError as error:
        raise unwritable(path, error) from error


def end_of(folder: Path) -> dict[str, str]:
    """`status` and `reason` of a run whose journal's disk was full at its end; {} for any other."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / END).read_text())
    return {}


def new_id(cell: str | None = None) -> str:
    """32 hexadecimal digits; runs of one cell share the first half, by which they are found."""
    return (cell[:16] if cell else "") + uuid.uuid4().hex[: 16 if cell else 32]


def folders() -> list[Path]:
    """The folders of all runs."""
    return sorted(path.parent for path in RUNS.glob(f"*/{JOURNAL}"))


def find(run: str) -> Path | None:
    """The folder of a run, by its own id or the store's; None for one that was not written from here."""
    if not run or "/" in run or run.startswith("."):
        return None
    if (RUNS / run / JOURNAL).exists():
        return RUNS / run
    if (noted := _noted(run)) and (noted / JOURNAL).exists() and _is_of(noted, run):
        return noted
    known = [folder for folder in folders() if _is_of(folder, run)]
    return min(known, key=lambda folder: "of" in beginning(folder), default=None)


def note(run: str, folder: Path) -> None:
    """Write down which folder a run of the store was made of: what `find` looks at before all the others."""
    with contextlib.suppress(OSError), IDS.open("a") as file:
        file.write(f"{run} {folder.name}\n")


def _noted(run: str) -> Path | None:
    with contextlib.suppress(OSError, ValueError, IndexError):  # none, or a torn one
        lines = IDS.read_text()
        return RUNS / lines[lines.index(f"{run} ") :].split(maxsplit=2)[1]
    return None


def _is_of(folder: Path, run: str) -> bool:
    """Whether the store has a folder's run under an id; of thousands of folders one or two are parsed."""
    with contextlib.suppress(OSError, ValueError):
        return run in (folder / SENT).read_text() and Sent.read(folder).run_id == run
    return False


def id_of(folder: Path) -> str:
    """The store's id of a run, or its folder's while it has no other."""
    return Sent.read(folder).run_id or folder.name


def in_the_store(run: str) -> str:
    """The store's id of a run that is named by that or by its folder here."""
    with contextlib.suppress(OSError):  # a name that is too long for a folder's
        if "/" not in run and (RUNS / run / JOURNAL).exists():
            return id_of(RUNS / run)
    return run


def beginning(folder: Path) -> Record:
    """The first record of a run that can be read, {} where there is none."""
    with contextlib.suppress(OSError):
        return next((record for record, _ in journal.read(folder / JOURNAL)), {})
    return {}


def is_over(folder: Path) -> bool:
    """Whether a run has said how it ended, or is dead."""
    return status(folder) in ENDS


def status(folder: Path) -> str:
    """RUNNING, or how a run has ended by its own word; KILLED for one whose writer is gone without one."""
    last = journal.last(folder / JOURNAL) or {}
    said = last.get("status", "RUNNING")
    return end_of(folder).get("status", "KILLED") if said == "RUNNING" and is_dead(folder) else said


def is_dead(folder: Path) -> bool:
    """Whether no process writes a run's journal any more: the lock of a killed one is gone."""
    return locks.is_free(folder / JOURNAL)


def writer(folder: Path) -> str:
    """The process that writes a run, or did, in words."""
    found = [record for record, _ in journal.read(folder / JOURNAL) if "pid" in record]
    return f"process {found[-1]['pid']} on {found[-1]['host']}" if found else "a process unknown"


def is_of_this_host(folder: Path) -> bool:
    """Only who shares a writer's host may say from its lock that it is dead."""
    hosts = [record["host"] for record, _ in journal.read(folder / JOURNAL) if "host" in record]
    return bool(hosts) and hosts[-1] == platform.node()


ANY = "any"


def of_cell(cell: str, tracking_uri: str | None, parent: str | None = ANY) -> Iterator[Path]:
    """The runs of a cell that are of this store, under one parent, or none, or any: newest first."""
    uri, found = tracking_uri or default_uri(), []
    for path in RUNS.glob(f"{cell[:16]}*/{JOURNAL}"):
        begun = beginning(path.parent)
        store = Sent.read(path.parent).store or begun.get("store", "")
        of_parent = parent == ANY or _same(begun.get("parent"), parent)
        if begun.get("tags", {}).get("cell") == cell and same(store, uri) and of_parent:
            found.append((begun.get("time", 0), path.parent))
    for _, folder in sorted(found, reverse=True):
        yield folder


def _same(one: str | None, other: str | None) -> bool:
    """Whether two ids, each a folder's or a store's, are of one run."""
    return one == other or bool(one and other and in_the_store(one) == in_the_store(other))


def row(folder: Path) -> dict[str, Any]:
    """A run as the store has it when all is sent: run_id, status, `tags.NAME`, `params.NAME`, last `metrics.NAME`."""
    found: dict[str, Any] = {"run_id": id_of(folder), "status": status(folder)}
    for record, _ in journal.read(folder / JOURNAL):
        for kind in ("tags", "params", "metrics"):
            found |= {f"{kind}.{key}": value for key, value in record.get(kind, {}).items()}
        if "name" in record:
            found |= {"name": record["name"], "parent_run_id": record.get("parent")}
    return found


def unsent(folder: Path) -> int:
    """Number of records that the store does not have."""
    sent = Sent.read(folder)
    waiting = sum(1 for _ in journal.read(folder / JOURNAL, sent.journal))
    if (folder / AGENT_JOURNAL).exists():
        waiting += sum(1 for _ in journal.read(folder / AGENT_JOURNAL, sent.agent_journal))
    return waiting + len(sent.aside)


def is_sent(folder: Path) -> bool:
    """Whether the store has all that a run has said, so far."""
    sent = Sent.read(folder)
    return not sent.aside and sent.journal == (folder / JOURNAL).stat().st_size


def is_settled(folder: Path) -> bool:
    """Whether the store has all that a run has said and how it ended, by its own word or closed in its stead."""
    last, length = journal.last(folder / JOURNAL) or {}, (folder / JOURNAL).stat().st_size
    return is_sent(folder) and (last.get("status") in ENDS or Sent.read(folder).closed == length)


def prune(folder: Path) -> None:
    """Remove the files that a run's store has and no other run needs."""
    for path in sorted((folder / FILES).rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir():
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()
        elif not path.relative_to(folder / FILES).as_posix().startswith(KEPT):
            path.unlink(missing_ok=True)
