"""The agent: one process per host and `outputs/`, which sends what journals say to their stores.

    python -m harness.tracking agent        # the first run starts it; it ends by itself

It makes runs, ships journals, logs models, shows that runs live, samples what the machine does, and closes the
runs of writers that died. It keeps nothing in its memory that files do not tell: another one goes on where it stopped.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from harness import locks
from harness.errors import InputError
from harness.tracking import answers, journal, local, stores
from harness.tracking.calls import ANSWER, ASK, BELL, LOCK, place
from harness.tracking.experiments import Gone
from harness.tracking.journal import Journal
from harness.tracking.local import AGENT_JOURNAL, HEARTBEAT_S, JOURNAL, SENT, Sent
from harness.tracking.redaction import redacted
from harness.tracking.shipping import close_dead, ship, show_life
from harness.tracking.system import Monitors

TICK_S = 0.02
FIRST_S = 0.5
"""From a run's beginning to its first request: a run that is over before is sent whole."""
SEND_S = 2.0
"""Between two requests of a run that goes on; its end is sent at once."""
MONITOR_S = 10.0
IDLE_S = 30.0
"""After which an agent without work ends."""
GIVE_UP_S = 900.0
"""After which one ends that can send nothing of what is left."""
LONGEST_PAUSE_S = 60.0
WAITING = ("comparison", "study", "trial", "confirmation")
"""Runs that do nothing themselves but wait for others: what the machine does meanwhile is said there."""


class Errand:
    """One run as its agent sees it: when to send next, and how long to wait after a failure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        begun = local.beginning(folder)
        self.address = str(begun.get("store") or "")
        self.is_here = local.is_of_this_host(folder)
        self.is_own = "of" not in begun
        self.works = self.is_own and begun.get("tags", {}).get("kind") not in WAITING
        self.is_part = bool(begun.get("parent"))
        self.next_s, self.beat_s = 0.0, -math.inf
        self.pause_s = SEND_S
        self.alive = True
        self.saw_end = False
        self.done = False

    def turn(self, client: Callable[[str], MlflowClient]) -> bool:
        """Send what there is; whether anything was sent."""
        before = Sent.read(self.folder)
        self.alive = self.is_here and not local.is_dead(self.folder)  # first: what a dead writer said is all there
        try:
            with locks.held(self.folder / SENT) as mine:
                if mine is None:  # `sync` has it
                    self.next_s = time.monotonic() + SEND_S
                    return False
                store = client(self.address)
                ship(self.folder, store)
                if self.is_own and not before.run_id:  # the store has its beginning, as its first sign of life
                    self.beat_s = time.monotonic() - (time.time() - local.beginning(self.folder)["time"] / 1000)
                if self.alive and time.monotonic() - self.beat_s > HEARTBEAT_S:
                    show_life(self.folder, store)
                    self.beat_s = time.monotonic()
                if self.is_here and not self.alive:
                    close_dead(self.folder, store)
        except Exception as error:  # one run's trouble is not the others'
            self._wait(error)
            self.done = isinstance(error, Gone)
            return False
        after = Sent.read(self.folder)
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S) if after.aside else SEND_S
        self.next_s = time.monotonic() + self.pause_s
        self.done = not self.alive and not after.aside and local.unsent(self.folder) == 0
        if self.done:
            local.prune(self.folder)
        return (after.journal, after.agent_journal) != (before.journal, before.agent_journal)

    def _wait(self, error: Exception) -> None:
        said = redacted(" ".join(str(error).split()))[:300]
        with contextlib.suppress(InputError):
            sent = Sent.read(self.folder)
            if sent.trouble != said:
                sent.trouble = said
                sent.write(self.folder)
                print(f"run {self.folder.name}: {said}", flush=True)
        self.next_s = time.monotonic() + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)

    def observe(self, figures: dict[str, float]) -> None:
        """Write what the machine does into the run's second journal."""
        path = self.folder / AGENT_JOURNAL
        steps = [record["step"] for record, _ in journal.read(path)] if path.exists() else []
        with contextlib.suppress(InputError, OSError):  # a full disk is the training's to report
            written = Journal(path)
            written.append(metrics=figures, step=len(steps), time=time.time_ns() // 1_000_000)
            written.close()


def serve(idle_s: float = IDLE_S, lock: int | None = None) -> None:
    """Be the agent of `outputs/`, unless there is one: until nothing was left to do for `idle_s` seconds.

    `lock` is the open lock file of who has started this process.
    """
    if lock is not None:
        _Agent(idle_s, lock).work()
        os.close(lock)
    # Whoever rings while the lock is still held starts nobody.
    while lock is None or any(_calls(place())):
        with locks.held(place() / LOCK) as lock:
            if lock is None:
                return
            _Agent(idle_s, lock).work()


def _calls(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):  # outputs/ was deleted
        for name in sorted(os.listdir(folder)):
            if name.startswith((BELL, ASK)):
                yield folder / name


class _Agent:
    def __init__(self, idle_s: float, lock: int) -> None:
        self.idle_s, self.lock, self.place = idle_s, lock, place()
        self.errands: dict[str, Errand] = {}
        self.clients: dict[str, MlflowClient] = {}
        self.monitors = Monitors()
        for folder in local.folders():
            if not local.is_settled(folder):
                self._add(folder.name)

    def work(self) -> None:
        busy_s = sent_s = time.monotonic()
        monitor_s = 0.0
        while time.monotonic() - busy_s < self.idle_s and time.monotonic() - sent_s < GIVE_UP_S:
            if not locks.is_of(self.lock, self.place / LOCK):
                return  # outputs/ was deleted: what is there now has an agent of its own
            if self._answer_calls():
                busy_s = sent_s = time.monotonic()
            now = time.monotonic()
            errands = self.errands.values()
            living = [errand for errand in errands if errand.works and errand.alive and not errand.saw_end]
            if living and now - monitor_s > MONITOR_S:
                figures, monitor_s = self.monitors.figures(), now
                for errand in living:
                    errand.observe(figures)
            for errand in list(self.errands.values()):
                if errand.next_s > time.monotonic():
                    continue
                if errand.turn(self.client):
                    sent_s = time.monotonic()
                    os.utime(self.lock)
                if errand.done:
                    del self.errands[errand.folder.name]
            if self.errands:
                busy_s = time.monotonic()
            if any(errand.alive for errand in self.errands.values()):
                sent_s = time.monotonic()
            time.sleep(TICK_S)

    def client(self, address: str) -> MlflowClient:
        """A store's, made once; the store is made where it does not exist (sqlite)."""
        if address not in self.clients:
            self.clients[address] = stores.client(address)
        stores.use(address)
        return self.clients[address]

    def _add(self, run: str) -> None:
        if (local.RUNS / run / JOURNAL).exists():
            known = self.errands.get(run)
            errand = known or Errand(local.RUNS / run)
            if errand.is_here:
                self.errands[run] = errand
                errand.next_s = 0.0 if known else time.monotonic() + FIRST_S

    def _answer_calls(self) -> bool:
        """Take the bells away and answer the questions; whether there were any."""
        found = False
        for path in _calls(self.place):
            found = True
            if path.name.startswith(BELL):
                path.unlink(missing_ok=True)
                run = path.name.removeprefix(BELL)
                errand = self.errands.get(run)
                if errand:
                    is_over = local.is_over(errand.folder)
                    alive = errand.is_here and not local.is_dead(errand.folder)
                    if is_over and errand.works and not errand.is_part and not errand.saw_end and alive:
                        errand.observe(self.monitors.figures())  # the shortest run has them too, but one of many
                    errand.saw_end = is_over
                self._add(run)
            else:
                self._answer(path)
        return found

    def _answer(self, path: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            asked = json.loads(path.read_text())
            try:
                if asked["question"] != "check":  # else what is asked may be of what was just said
                    for errand in list(self.errands.values()):
                        errand.turn(self.client)
                reply: dict[str, Any] = {"answer": answers.answer(asked, self.client)}
            except InputError as error:
                reply = {"refused": str(error)}
            except Exception as error:
                reply = {"refused": str(stores.complaint(asked.get("store", ""), error))}
            answered = path.with_name(path.name.replace(ASK, ANSWER, 1))
            aside = answered.with_suffix(".writing")
            aside.write_text(json.dumps(reply))
            aside.replace(answered)
        path.unlink(missing_ok=True)
