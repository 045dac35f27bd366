"""The agent: it closes what dies, is replaced when it dies, and is not needed for anything to be kept."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import psutil
import pytest
from processes import environment, until

from harness import locks, tracking
from harness.errors import InputError
from harness.tracking import calls, closing, inputs, journal, local, shipping, writing

SAYS = """
import os, signal, sys
from harness import tracking
with tracking.run("generators", "says", tags={"method": "vae"}, params={"steps": 300}) as run:
    for step in range(300):
        run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
    run.text("kept", "note.txt")
    if "killed" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
"""
SYNC = ("harness.tracking", "sync", "--tracking-uri")
WITHOUT_MLFLOW = "import sys; sys.modules['mlflow'] = None\n"


def said(folder: Path, *flags: str, code: str = SAYS, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=folder, env=environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip


def losses(uri: str, run: str) -> list[tuple[int, float, int]]:
    history = tracking.client(uri).get_metric_history(run, "train/loss")
    return sorted((metric.step, metric.value, metric.timestamp) for metric in history)


LOSSES = [(step, step / 7, 1_700_000_000_000 + step) for step in range(300)]


def test_who_deletes_outputs_and_begins_anew_has_another_agent(
    store: str, empty_outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with processes.agent(tmp_path) as first:
        finished_here(store)
        (tmp_path / "outputs").rename(tmp_path / "going")  # at once: files of sqlite's come and go there
        shutil.rmtree(tmp_path / "going", ignore_errors=True)
        shutil.copytree(empty_outputs, tmp_path / "outputs")
        with processes.agent(tmp_path):
            finished_here(store)
        assert processes.wait([first]) == [0]
    assert tracking.read_runs(tracking_uri=store)["status"].tolist() == ["FINISHED"]
    assert capsys.readouterr().err == ""


# --- Runs that die ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_a_killed_run_is_closed_by_itself_with_all_that_it_said(store: str, tmp_path: Path) -> None:
    assert said(tmp_path, "killed").returncode == -signal.SIGKILL
    until(lambda: set(tracking.read_runs(tracking_uri=store)["status"]) == {"KILLED"}, 10)
    (row,) = tracking.read_runs(tracking_uri=store).to_dict("records")
    assert losses(store, row["run_id"]) == LOSSES
    assert "is gone without a word, killed or out of memory; its last was of " in row["tags.reason"]
    with tracking.fetched(row["run_id"], "note.txt", store) as path:
        assert path.read_text() == "kept"


@pytest.mark.usefixtures("agent")
def test_a_run_that_has_said_its_end_is_not_closed_otherwise(store: str, tmp_path: Path) -> None:
    """Its process dies between its last word and the store's."""
    folder = finished_here(store)
    (folder / local.SENT).unlink()
    calls.ring(folder.name)
    until(lambda: local.is_sent(folder))
    assert {row["status"] for row in tracking.read_runs(tracking_uri=store).to_dict("records")} == {"FINISHED"}


def test_a_part_of_a_run_is_waited_for_with_the_whole(store: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as nobody, contextlib.ExitStack() as agents:
        nobody.enter_context(locks.held(calls.place() / calls.LOCK))  # no agent can start
        with tracking.run("studies", "whole", tags={}, params={}, tracking_uri=store) as whole:
            with tracking.run("studies", "part", tags={}, params={}, parent=whole.id, tracking_uri=store) as part:
                pass
            assert (local.status(part.folder), local.is_sent(part.folder)) == ("FINISHED", False)
            assert not local.is_dead(part.folder)
            nobody.close()
            agents.enter_context(processes.agent(tmp_path))
        assert local.is_settled(part.folder)
        assert local.is_settled(whole.folder)


@pytest.mark.usefixtures("agent")
def test_who_goes_on_with_an_old_run_shows_life_at_once(store: str) -> None:
    """The store has the beginning of a new one, but that of an old one is long ago."""
    with tracking.run("comparisons", "whole", tags={}, params={}, tracking_uri=store) as whole:
        pass
    with tracking.run("comparisons", "whole", tags={}, params={}, tracking_uri=store, of=whole.id) as again:
        until(lambda: local.is_sent(again.folder))
        inputs.in_store(whole.id, store)  # answered after a whole turn of the agent's
        assert "tags.heartbeat" in tracking.get_run(whole.id, store)


def finished_here(store: str) -> Path:
    with tracking.run("generators", "a run", tags={}, params={}, tracking_uri=store) as run:
        run.metrics({"train/loss": 1.0}, 0)
    return run.folder


def test_what_ended_with_its_agent_is_closed_by_sync(store: str, tmp_path: Path) -> None:
    """A container, or a SLURM step, whose processes are all killed at once."""
    assert said(tmp_path, "killed", code=WITHOUT_MLFLOW + SAYS).returncode == -signal.SIGKILL
    closing.sync(store)
    (row,) = tracking.read_runs(tracking_uri=store).to_dict("records")
    assert (row["status"], losses(store, row["run_id"])) == ("KILLED", LOSSES)


@pytest.mark.parametrize("by", ["the next agent", "sync"])
def test_a_dead_run_whose_agent_died_between_its_last_word_and_its_end_is_closed(
    by: str, store: str, tmp_path: Path
) -> None:
    assert said(tmp_path, "killed", code=WITHOUT_MLFLOW + SAYS).returncode == -signal.SIGKILL
    (folder,) = local.folders()
    shipping.ship(folder, tracking.client(store))
    assert local.is_sent(folder)
    for bell in calls.place().glob(f"{calls.BELL}*"):  # which the first agent had heard
        bell.unlink()
    if by == "sync":
        closing.sync(store)
    else:
        with processes.agent(tmp_path):
            until(lambda: local.is_settled(folder))
    assert list(tracking.read_runs(tracking_uri=store)["status"]) == ["KILLED"]


def test_a_journal_of_another_host_is_not_declared_dead(store: str, tmp_path: Path) -> None:
    assert said(tmp_path, "killed", code=WITHOUT_MLFLOW + SAYS).returncode == -signal.SIGKILL
    (folder,) = local.folders()
    rewrite(folder, host="elsewhere")
    with processes.agent(tmp_path):
        calls.ring(folder.name)
        until(lambda: not any(calls.place().glob(f"{calls.BELL}*")))
    closing.sync(store)
    (row,) = tracking.read_runs(tracking_uri=store).to_dict("records")
    assert (row["status"], len(losses(store, row["run_id"]))) == ("RUNNING", 300)


def rewrite(folder: Path, **fields: str) -> None:
    """The journal as another host, or another user, would have written it."""
    path = folder / local.JOURNAL
    records = [record | (fields if "host" in record else {}) for record, _ in journal.read(path)]
    path.write_bytes(b"".join(journal.encode(record) for record in records))


# --- Agents that die -------------------------------------------------------------------------------------


def test_a_live_run_starts_another_agent_which_goes_on_where_the_first_stopped(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "AGENT_LOOK_S", 0.2)
    started = []

    def start(*_: object) -> None:
        if not calls.is_alive() and len(started) < 2:
            started.append(processes.start_agent(tmp_path))

    monkeypatch.setattr(calls, "ensure", start)
    with tracking.run("generators", "a run", tags={}, params={}, tracking_uri=store) as run:
        for step in range(300):
            run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
            if step == 150:
                until(lambda: local.is_sent(run.folder))
                started[0].kill()
                started[0].join()
        until(lambda: run.metrics({"train/kl": 1.0}, 300) or len(started) == 2)
    assert losses(store, run.id) == LOSSES
    assert len(tracking.read_runs(tracking_uri=store)) == 1
    started[1].kill()
    started[1].join()


def test_the_first_run_starts_an_agent_which_ends_by_itself(store: str, tmp_path: Path) -> None:
    done = said(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = tracking.read_runs(tracking_uri=store).to_dict("records")
    assert (row["status"], losses(store, row["run_id"])) == ("FINISHED", LOSSES)
    (agent,) = agents(tmp_path)
    assert os.getpgid(agent.pid) == agent.pid  # a terminal's Ctrl-C, or its end, does not reach it
    agent.terminate()
    agent.wait(30)
    ended = processes.server().Process(target=_serve, args=(tmp_path,))
    ended.start()
    assert processes.wait([ended]) == [0]
    assert not calls.is_alive()


def agents(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        with contextlib.suppress(psutil.Error):
            if process.info["cwd"] == str(folder) and process.info["cmdline"][2:4] == ["harness.tracking", "agent"]:
                found.append(process)
    return found


def _serve(folder: Path) -> None:
    os.chdir(folder)
    from harness.tracking import agent

    agent.serve(idle_s=0.2)


@pytest.mark.usefixtures("agent")
def test_of_two_agents_one_goes_away(tmp_path: Path) -> None:
    second = processes.server().Process(target=_serve, args=(tmp_path,))
    second.start()
    assert processes.wait([second], 30) == [0]
    assert calls.is_alive()


# --- Without MLflow, and elsewhere -----------------------------------------------------------------------


def test_a_run_without_mlflow_is_sent_elsewhere_from_its_files(store: str, tmp_path: Path) -> None:
    place = tmp_path / "node"
    place.mkdir()
    done = said(place, code=WITHOUT_MLFLOW + SAYS)
    assert done.returncode == 0
    assert "records are still to be sent; where MLflow is installed: python -m harness.tracking sync" in done.stderr
    assert not agents(place)
    shutil.copytree(place / "outputs" / "runs", tmp_path / "outputs" / "runs")
    with processes.agent(tmp_path):
        closing.sync(store)
        closing.sync(store)
        assert said(tmp_path).returncode == 0
        rows = tracking.read_runs(tracking_uri=store).to_dict("records")
    assert [row["status"] for row in rows] == ["FINISHED"] * 2
    here, sent = rows
    own = {"tags.journal", "tags.command", "metrics.cost/wall_seconds", "metrics.cost/peak_memory_bytes"}
    for name in {key for key in here if key.startswith(("params.", "metrics.", "tags."))} - own:
        if not name.startswith(("metrics.system/", "metrics.tracking/", "tags.heartbeat")):
            assert here[name] == sent[name], name
    assert losses(store, here["run_id"]) == losses(store, sent["run_id"]) == LOSSES


# --- A journal and its store -----------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_lines_that_a_power_cut_took_are_no_reason_to_skip_new_ones(store: str) -> None:
    folder = finished_here(store)
    content = (folder / local.JOURNAL).read_bytes()
    lines = content.splitlines(keepends=True)
    (folder / local.JOURNAL).write_bytes(b"".join(lines[:-2]))  # what follows was sent and is lost here
    with tracking.run("generators", "a run", tags={}, params={}, tracking_uri=store, resume=folder.name) as run:
        for step in range(1, 40):
            run.metrics({"train/loss": 1.0}, step)
    assert [step for step, *_ in losses(store, run.id)] == list(range(40))
    assert tracking.get_run(run.id, store)["status"] == "FINISHED"


@pytest.mark.usefixtures("agent")
def test_two_that_send_at_once_send_one_thing(store: str, tmp_path: Path) -> None:
    with tracking.run("generators", "a run", tags={}, params={}, tracking_uri=store) as run:
        for step in range(5):
            run.image("samples", np.zeros((4, 4), np.uint8), step)
    sent = local.Sent.read(run.folder)
    sent.journal = 0  # an agent was killed before it noted what it had sent
    sent.write(run.folder)
    tracking.sync(store)
    (run.folder / local.SENT).unlink()
    both = [*processes.start(tmp_path, *SYNC, store), *processes.start(tmp_path, *SYNC, store)]
    assert processes.wait(both) == [0, 0]
    (row,) = tracking.read_runs(tracking_uri=store).to_dict("records")
    with tracking.fetched(row["run_id"], "images", store) as folder:
        assert len(list(folder.glob("*.png"))) == 5


def test_a_file_system_without_locks_is_named(tmp_path: Path) -> None:
    """The kernel refuses flock to the process, as some network file systems do."""
    done = said(tmp_path, code=NO_LOCKS + SAYS)
    assert done.returncode != 0
    assert "its file system has no locks" in done.stderr.splitlines()[-1]
    assert not any(tmp_path.rglob("sent"))


NO_LOCKS = """
import ctypes, errno, platform, struct
numbers = {"x86_64": 73, "aarch64": 32}
load, equal, give = 0x20, 0x15, 0x06  # of a filter of the kernel's: the call's number, is it flock, what becomes of it
program = b"".join(struct.pack("HBBI", *line) for line in [
    (load, 0, 0, 0), (equal, 0, 1, numbers[platform.machine()]),
    (give, 0, 0, 0x00050000 | errno.ENOLCK), (give, 0, 0, 0x7FFF0000)])
text = ctypes.create_string_buffer(program)
kept = struct.pack("HxxxxxxQ", 4, ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, kept, 0, 0) == 0
"""


# --- What a training asks --------------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_questions_are_answered_and_refused(store: str, tmp_path: Path) -> None:
    folder = finished_here(store)
    run = local.id_of(folder)
    (folder / local.JOURNAL).rename(folder / "aside")  # as if it had been written elsewhere
    assert inputs.look_up(run, store)["metrics.train/loss"] == 1.0
    assert inputs.fetch(run, "provenance/packages.txt", store).read_text().startswith("python==")
    with pytest.raises(InputError, match=r"has no artifact samples\.npz"):
        inputs.fetch(run, "samples.npz", store)
    with pytest.raises(InputError, match="no run 'abc' in sqlite"):
        inputs.look_up("abc", store)
    assert not list(calls.place().glob(f"{calls.ANSWER}*"))


@pytest.mark.usefixtures("agent")
def test_a_run_is_found_by_the_list_of_ids_and_where_that_is_wrong_among_all_folders(store: str) -> None:
    folder, other = finished_here(store), finished_here(store)
    run, ids = local.id_of(folder), local.IDS
    first = shutil.copytree(folder, folder.parent / ("0" * 32))  # which a look at all folders meets first
    assert local.find(run) == local.RUNS / folder.name
    for wrong in (run, f"{run} ", f"{run} {other.name}\n", f"{run} gone\n", "", None):
        ids.unlink() if wrong is None else ids.write_text(wrong)
        assert local.find(run) == local.RUNS / first.name
    assert local.find(run[1:]) is None


def test_a_lock_is_seen_from_outside_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.held(path) as mine:
        assert mine is not None
        assert not locks.is_free(path)
        with locks.held(path) as again:
            assert again is None
    assert locks.is_free(path)
