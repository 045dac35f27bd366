"""One question to the store, which runs there are: all pages of the answer, as plain rows."""

import contextlib
import gc
import itertools
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.search_utils import SearchUtils

PAGE = 1000  # runs in a request; 10,000 take longer than a request may
REQUESTS = 2  # at a time
IDS = 200  # in a condition
OLDEST_FIRST = ("attributes.start_time ASC",)

Row = dict[str, Any]
"""A run in the types of JSON: times in ms since the epoch, `experiment` by id, then `metrics.NAME` and so on."""


@dataclass(frozen=True)
class Search:
    """The runs of some experiments that the store finds with a filter."""

    store: MlflowClient
    experiments: dict[str, str]
    """names by id"""
    filter_string: str = ""

    def rows(self, condition: str = "", view: int = ViewType.ACTIVE_ONLY) -> dict[str, Row]:
        """All of them, by id, newest first; with `condition` only those for which it holds too."""
        if not self.experiments:
            return {}
        with _collecting_no_garbage():
            found = [row(run) for page in self._pages(condition, view) for run in page]
        return {run["run_id"]: run for run in sorted(found, key=newest_first)}

    def _pages(self, condition: str, view: int) -> Iterator[PagedList[Run]]:
        """Oldest first, so that a new run moves none from page to page; some are asked for while one becomes rows."""
        page = self._page(condition, view, PAGE, order_by=OLDEST_FIRST)
        with ThreadPoolExecutor(REQUESTS) as pool:

            def ask(number: int) -> Future[PagedList[Run]]:
                return pool.submit(self._page, condition, view, PAGE, _token(PAGE * number), OLDEST_FIRST)

            asked = deque(ask(number) for number in range(1, REQUESTS + 1) if page.token)
            numbers = itertools.count(REQUESTS + 1)
            yield page
            while page.token:
                page = asked.popleft().result()
                if page.token:
                    asked.append(ask(next(numbers)))
                yield page

    def rows_of(self, run_ids: Iterable[str]) -> dict[str, Row]:
        """Those among `run_ids`, by id."""
        ids, found = list(run_ids), {}
        for first in range(0, len(ids), IDS):
            listed = ", ".join(f"'{run_id}'" for run_id in ids[first : first + IDS])
            found |= self.rows(f"attributes.run_id IN ({listed})")
        return found

    def ends_with(self, run_ids: list[str]) -> bool:
        """Whether the store finds as many runs as these, and the same one last. Costs the reading of one run."""
        token = _token(len(run_ids) - 1) if len(run_ids) > 1 else None
        page = self._page("", ViewType.ACTIVE_ONLY, 1, token)
        return [run.info.run_id for run in page] == run_ids[-1:] and not page.token

    def _page(
        self, condition: str, view: int, size: int, token: str | None = None, order_by: Sequence[str] = ()
    ) -> PagedList[Run]:
        both = " and ".join(part for part in (self.filter_string, condition) if part.strip())
        return self.store.search_runs(list(self.experiments), both, view, size, list(order_by), token)


def experiments_of(store: MlflowClient) -> dict[str, str]:
    """The names of a store's experiments by id."""
    known: list[Experiment] = []
    token, more = None, True
    while more:
        page = store.search_experiments(page_token=token)
        known += page
        token = page.token
        more = bool(token)
    return {each.experiment_id: each.name for each in known}


def _token(first: int) -> str:
    """Of the page that begins there, counted from 0: known before the page ahead of it has come."""
    return SearchUtils.create_page_token(first).decode()


@contextlib.contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """A page is 40,000 objects that all live: looking for dead ones among them takes 40 % of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def newest_first(row: Row) -> tuple[int, str]:
    """The key of the store's own order."""
    return -(row["start_time"] or 0), row["run_id"]


def row(run: Run) -> Row:
    return {
        "run_id": run.info.run_id,
        "experiment": run.info.experiment_id,
        "status": run.info.status,
        "name": run.info.run_name,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time or None,
        "parent_run_id": run.data.tags.get(MLFLOW_PARENT_RUN_ID),
        **{f"metrics.{key}": number(value) for key, value in run.data.metrics.items()},
        **{f"params.{key}": value for key, value in run.data.params.items()},
        **{f"tags.{key}": value for key, value in run.data.tags.items()},
    }


def number(value: float) -> float:
    """A metric's value as it was logged: MLflow's databases keep infinities as the largest finite numbers."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
