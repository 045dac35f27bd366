"""Tasks on a Dask cluster: of this machine, or one that is there already, whose workers come and go."""

from __future__ import annotations

import contextlib
import logging
import pickle
import queue
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Event, Future, Scheduler, Security, SpecCluster, Worker

from harness import numerics, signals
from harness.engine import cluster_worker, tasks
from harness.engine.engines import Hear, note_death
from harness.engine.tasks import Ending, Task
from harness.engine.workers import WorkerSettings
from harness.errors import InputError
from harness.outputs import OUTPUTS
from harness.tracking import provenance
from harness.tracking.addresses import default_uri

ANSWER_S = 10
"""A cluster that has not answered by then is taken for none."""
QUIET = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
"""Of a cluster of this process: no pages, and not the hundred looks a second that Dask takes at itself."""


@contextlib.contextmanager
def open_cluster(settings: WorkerSettings) -> Iterator[Cluster]:
    """A cluster's slots for `settings`. Raises InputError for one that does not answer or cannot do its tasks."""
    with dask.config.set({"distributed.comm.timeouts.connect": f"{ANSWER_S}s"}), _client(settings) as client:
        found = Cluster(client, settings)
        try:
            yield found
        finally:
            with signals.ignore_signals():
                found.stop()


@contextlib.contextmanager
def _client(settings: WorkerSettings) -> Iterator[Client]:
    if not settings.cluster:
        # Threads of this process, each of which waits for a task's own. Dask's pages cannot be left out, but be empty.
        alone: dict[str, Any] = {"protocol": "inproc://", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": alone}
        worker = {"cls": Worker, "options": alone | {"nthreads": settings.workers, "memory_limit": 0}}
        for name in ("distributed", "asyncio"):  # why a task has died is said by `note_death`
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with (
            dask.config.set(QUIET),
            SpecCluster(workers={0: worker}, scheduler=scheduler) as local,
            Client(local) as client,
        ):
            yield client
        return
    place: dict[str, Any] = (
        {"scheduler_file": settings.cluster} if Path(settings.cluster).is_file() else {"address": settings.cluster}
    )
    security = _security(Path(settings.tls)) if settings.tls else None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it says of a lost scheduler is said here
    try:
        client = Client(**place, security=security, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # TypeError: tls:// without a key
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--cluster {settings.cluster} does not answer ({reason}); give tcp://HOST:8786, tls://HOST:8786 with "
            "--tls, or the scheduler's file, and see that `dask scheduler` runs there"
        ) from error
    with client:
        page = client.dashboard_link or ""
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(page, timeout=2):
            print(f"the cluster's page: {page}", flush=True)
        yield client


def _security(folder: Path) -> Security:
    """Certificates as harness/studies/README.md shows how to make them."""
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    for path in files.values():
        if not path.is_file():
            raise InputError(
                f"--tls {folder}: there is no {path.name}; a folder with ca.pem, cert.pem and key.pem is asked for"
            )
    return Security(
        require_encryption=True,
        tls_ca_file=str(files["ca"]),
        tls_client_cert=str(files["cert"]),
        tls_client_key=str(files["key"]),
    )


class Cluster:
    """The slots of a cluster's workers, for the tasks of one driver."""

    def __init__(self, client: Client, settings: WorkerSettings) -> None:
        self._client, self._settings = client, settings
        self._topic = uuid.uuid4().hex
        self._inbox: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Future] = {}
        self._under_way: set[str] = set()
        client.register_plugin(cluster_worker.Stops(), name="harness-stops")
        self.slots = _slots(client, settings)
        client.subscribe_topic(self._topic, self._heard)

    def submit(self, name: str, task: Task, needs: str | None = None) -> None:
        future = self._client.submit(
            cluster_worker.done, name, task, self._futures[needs] if needs else None, self._topic,
            self._settings.slots_per_device, key=f"{name}-{uuid.uuid4().hex}",
            retries=self._settings.retries, pure=False,
        )  # fmt: skip
        self._futures[name] = future
        self._under_way.add(name)
        future.add_done_callback(lambda future: self._inbox.put(("", name, future)))

    def _heard(self, event: tuple[float, bytes]) -> None:
        _, heard = event
        self._inbox.put(pickle.loads(heard))

    def endings(self, hear: Hear) -> Iterator[tuple[str, Ending]]:
        while self._under_way:
            question, name, what = self._next()
            if isinstance(what, Future):
                what = _gone(what, self._settings)  # one that has ended has said so
            if isinstance(what, Ending) and name in self._under_way:
                self._under_way.discard(name)
                yield name, what
            elif isinstance(what, tuple) and what[0] == cluster_worker.DIED:
                note_death(name, what[1])
            elif isinstance(what, tuple):
                stop = hear(name, what)
                if question:
                    self._answer(question, stop)

    def _answer(self, question: str, stop: bool) -> None:
        if stop:
            Event(cluster_worker.stopping(question), client=self._client).set()
        Event(question, client=self._client).set()

    def _next(self) -> tuple[str, Any, Any]:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=1.0)  # so that a signal is seen

    def stop(self) -> None:
        """End what is under way after its step, and wait for it."""
        if self._client.status != "running":  # and the workers, which notice too, have ended it
            return
        until = time.monotonic() + tasks.STOP_S
        with contextlib.suppress(OSError, TimeoutError):
            self._client.cancel(list(self._futures.values()), force=True)
            while any(_asked(self._client, cluster_worker.num_live, self._topic).values()) and time.monotonic() < until:
                time.sleep(0.1)


def _gone(future: Future, settings: WorkerSettings) -> Ending | None:
    """Why the engine has given a task up, None where it has not. Its value is not asked for: its host may be gone.

    Raises InputError where the scheduler is gone, with which Dask takes all tasks for cancelled.
    """
    if future.status == "cancelled":
        raise InputError(
            f"--cluster {settings.cluster} is gone: its scheduler has ended or cannot be reached, and what was under "
            "way ends on the workers; the same command goes on with a cluster that answers"
        )
    return Ending("died", reason=" ".join(str(future.exception()).split())[:300]) if future.status == "error" else None


def _slots(client: Client, settings: WorkerSettings) -> int:
    """How many tasks the workers can do at once. Raises InputError where they cannot do such tasks at all."""
    threads: Any
    until = time.monotonic() + ANSWER_S
    while not (threads := client.nthreads()) and time.monotonic() < until:
        time.sleep(0.1)
    if not threads:
        raise InputError(f"--cluster {settings.cluster} has no workers yet: start `dask worker` on its hosts")
    try:
        with tempfile.NamedTemporaryFile(prefix="seen-", dir=".") as token:
            answers = _asked(client, cluster_worker.facts, Path(token.name).name)
    except ImportError as error:
        raise InputError(f"a worker of --cluster {settings.cluster} cannot import the harness: {error}") from error
    _check(answers, settings)
    return sum(_slots_of(threads[worker], facts["devices"], settings) for worker, facts in answers.items())


def _asked(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What each worker answers, by its address."""
    answers: Any = client.run(function, *arguments)
    return answers


def _check(answers: dict[str, dict[str, Any]], settings: WorkerSettings) -> None:
    here = provenance.version()
    for facts in answers.values():
        if (facts["version"], facts["numerics"]) != (here, numerics.VERSION):
            raise InputError(
                f"the worker on {facts['host']} has version {facts['version']} with numerics {facts['numerics']}, "
                f"this is {here} with {numerics.VERSION}: install the same on every host"
            )
        if 0 < facts["devices"] < settings.processes_per_trial:
            raise InputError(
                f"--processes-per-trial {settings.processes_per_trial}: a worker on {facts['host']} has "
                f"{facts['devices']} GPUs; start workers that see as many"
            )
        if not facts["shares outputs"]:
            if (settings.tracking_uri or default_uri()).startswith(("sqlite:", "file:", "/")):
                raise InputError(
                    f"the worker on {facts['host']} does not see {OUTPUTS.absolute()}, where the store is: give "
                    "--tracking-uri of an MLflow server, or start the workers in a folder that all hosts share"
                )
            print(
                f"{facts['host']} has an outputs/ of its own: what is cut off there begins anew elsewhere",
                file=sys.stderr,
            )


def _slots_of(threads: int, devices: int, settings: WorkerSettings) -> int:
    if not devices:
        return threads
    return min(threads, devices * settings.slots_per_device // settings.processes_per_trial)
