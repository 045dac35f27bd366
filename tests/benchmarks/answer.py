"""How long the answer of a comparison of 1,000 cells takes to write, and its page to open.

    python tests/benchmarks/answer.py --repeats 3

Makes a sqlite store of cells like the measured ones, has the comparison answer into its own run, as compare.py does at
its end, and opens the run's page and the list of its cells in a browser. Prints a line.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import paths  # noqa: F401
import processes
import ui_pictures
from playwright.sync_api import Page, expect
from reading import fill, run_id
from report import logged
from servers import TrackingServer
from turns import spread, take_turns

from analysis import answer
from harness import cli, tracking
from harness.bounds import Count
from harness.tracking.addresses import SQLITE


def main(cells: Count = 1000, repeats: Count = 3) -> None:
    """Fill a store, answer in turns, open the pages in turns, print the seconds."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), processes.agent(Path(folder)):
        uri, parent = f"{SQLITE}{folder}/mlflow.db", run_id(0)
        fill(uri, itertools.islice(logged(Path(folder)), cells + 1))

        def write() -> float:
            with tracking.run("comparisons", "many", tags={}, params={}, tracking_uri=uri, of=parent) as run:
                return seconds(lambda: answer.log(run, parent, uri))

        written = take_turns({"answer": write}, repeats)
        server = TrackingServer(Path(folder), uri)
        server.start()
        experiment = tracking.client(uri).get_run(parent).info.experiment_id
        start = f"{server.uri}/#/experiments/{experiment}/runs"
        try:
            with ui_pictures.browser() as page:
                opened = take_turns(
                    {
                        "page": lambda: seconds(lambda: open_answer(page, f"{start}/{parent}")),
                        "list": lambda: seconds(lambda: open_list(page, start)),
                    },
                    repeats,
                )
        finally:
            server.kill()
        print(
            f"{cells:,} cells: the answer {spread(written['answer'])} s, its page {spread(opened['page'])} s, "
            f"the list {spread(opened['list'])} s"
        )


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def open_answer(page: Page, address: str) -> None:
    """Until the table of the description is there."""
    page.goto("about:blank")
    page.goto(address)
    page.get_by_text("Show more").first.click()
    expect(page.get_by_role("columnheader", name="gain, points").first).to_be_visible()


def open_list(page: Page, address: str) -> None:
    page.goto("about:blank")
    page.goto(address)
    expect(page.get_by_text("matching runs")).to_be_visible(timeout=ui_pictures.PATIENCE_MS)


if __name__ == "__main__":
    cli.main(main)
