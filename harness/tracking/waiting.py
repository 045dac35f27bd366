"""Waiting at a run's end for its agent to send the rest."""

import time
from collections.abc import Mapping
from pathlib import Path

from harness.tracking import calls, local
from harness.tracking.addresses import without_password

START_PATIENCE_S = 180.0  # an agent imports MLflow, and may have to make a database
END_PATIENCE_S = 30.0
STOPPED_PATIENCE_S = 5.0  # who sent the signal may soon send SIGKILL


def wait_until_sent(folder: Path, length: int, secrets: Mapping[str, str], was_stopped: bool) -> bool:
    """Whether the store has all that a run has said, `length` bytes; False after some seconds in which it took nothing.

    What it takes of other runs counts: their turn is before this one's.
    """
    patience_s = STOPPED_PATIENCE_S if was_stopped else END_PATIENCE_S
    seen, moved_s, ring_s = None, time.monotonic(), 0.0
    unheard_s = moved_s + (patience_s if was_stopped else START_PATIENCE_S)
    while calls.can_send():
        if local.is_sent(folder):
            return True
        now, sent = time.monotonic(), local.Sent.read(folder)
        if now >= ring_s:  # an agent that waits for its store tries again
            calls.ring(folder.name, secrets)
            ring_s = now + calls.LOOK_S
        if sent.aside and sent.journal == length:
            return False  # all that the store takes is there
        others = 0.0 if sent.trouble or was_stopped else calls.last_sent()
        if (sent.run_id, sent.journal, others) != seen:
            seen, moved_s = (sent.run_id, sent.journal, others), now
        unheard = not sent.run_id and not sent.trouble
        if now > (unheard_s if unheard else moved_s + patience_s):
            return False
        time.sleep(calls.PAUSE_S)
    return False


def what_is_left(folder: Path) -> str:
    """What the store has not taken, why, and the command that sends it."""
    sent = local.Sent.read(folder)
    uri = without_password(str(local.beginning(folder).get("store", "")))
    trouble = next(iter(sent.aside.values()), sent.trouble)
    why = f" ({trouble})" if trouble else ""
    where = "when the store answers" if calls.can_send() else "where MLflow is installed"
    return (
        f"{local.unsent(folder)} records are still to be sent{why}; {where}: "
        f"python -m harness.tracking sync --tracking-uri {uri}"
    )
