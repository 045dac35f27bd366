"""What engines are tried with. Imports next to nothing, since each task's process imports it."""

import os
import signal
import time
from pathlib import Path

from harness.engine.tasks import Talk


def adds(talk: Talk, *numbers: int) -> int:
    return sum(numbers)


def raises(talk: Talk, folder: Path) -> None:
    with (folder / "tries").open("a") as file:
        file.write("x")
    raise ValueError("no such thing")


def dies(talk: Talk, folder: Path, times: int) -> str:
    """So many times."""
    with (folder / "tries").open("a+") as file:
        file.write("x")
    if len((folder / "tries").read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done in the end"


def asks(talk: Talk, name: str) -> bool:
    talk.begun(f"run of {name}")
    talk.report(1, 0.5)
    return talk.should_stop()


def waits_for_its_end(talk: Talk, folder: Path) -> None:
    try:
        talk.begun("a run")
        while True:
            time.sleep(1)
    finally:
        (folder / "ended").touch()


def holds(talk: Talk, folder: Path, number: int) -> str:
    """The devices that the task sees, while `number` tasks hold theirs."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < number:
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def is_overtaken(talk: Talk, folder: Path) -> str:
    """The first of two goes on until it is ended; the other is done at once."""
    first = folder / "first"
    try:
        first.open("x").close()
    except FileExistsError:
        return "done elsewhere"
    waits_for_its_end(talk, folder)
    return "done after all"


def makes_a_run(talk: Talk, number: int, parent: str, uri: str) -> str:
    """Of ten params, three tags and three metrics."""
    from harness import tracking

    name, params = f"cell {number}", {f"param {each}": each for each in range(10)}
    tags = {"kind": "classifier", "cell_name": name, "number": number}
    with tracking.run("comparisons", name, tags=tags, params=params, parent=parent, tracking_uri=uri) as run:
        run.metrics({name: number / 7 for name in ("test/accuracy", "test/precision", "test/recall")})
    return run.id
