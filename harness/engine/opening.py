"""The engine that a command asks for."""

import contextlib
from collections.abc import Iterator

from harness.engine.engines import Engine, InOrder
from harness.engine.workers import WorkerSettings


@contextlib.contextmanager
def open_engine(settings: WorkerSettings) -> Iterator[Engine]:
    """The engine that `settings` asks for. With the block the tasks that are under way end too, after their step.

    Raises InputError for a cluster that does not answer or cannot do such tasks.
    """
    if settings.workers == 1 and not settings.cluster:
        yield InOrder(settings)
        return
    from harness.engine import cluster

    with cluster.open_cluster(settings) as found:
        yield found
