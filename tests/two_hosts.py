"""Two hosts on one machine: a two-node torchrun job over two network namespaces whose link is cut and mended.

    sudo python tests/two_hosts.py

Shows that both sides stop and say why, and that the same commands go on with the same run once the link is
back. Each host has its own folder: only the first one's holds the run and its checkpoints. About two minutes.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOSTS = {"sg-a": "10.77.0.1", "sg-b": "10.77.0.2"}
TIMEOUT_S = 10
STEPS = 400
TRAINING = [
    str(ROOT / "experiments" / "vae.py"), "--n-real", "400", "--steps", str(STEPS), "--batch-size", "64",
    "--checkpoint-every", "20", "--num-synthetic", "1000", "--process-timeout", str(TIMEOUT_S), "--resume", "auto",
]  # fmt: skip


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Two namespaces with a cable between them, taken down at the end."""
    first, second = HOSTS
    try:
        for name in HOSTS:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in HOSTS.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def start(place: Path) -> list[subprocess.Popen]:
    """The job's launcher on each host, its output in `place`/HOST/log."""
    launched = []
    for rank, name in enumerate(HOSTS):
        folder = place / name
        folder.mkdir(exist_ok=True)
        command = [
            "ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
            "--nproc-per-node", "1", "--node-rank", str(rank), "--master-addr", HOSTS["sg-a"],
            "--master-port", "29511", *TRAINING,
        ]  # fmt: skip
        environment = os.environ | {
            "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "cable",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        with (folder / "log").open("ab") as log:
            started = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, process_group=0)
        launched.append(started)
    return launched


def wait(launched: list[subprocess.Popen], patience_s: float) -> list[int | None]:
    until = time.monotonic() + patience_s
    while any(process.poll() is None for process in launched) and time.monotonic() < until:
        time.sleep(0.1)
    return [process.poll() for process in launched]


def stop(launched: list[subprocess.Popen]) -> None:
    for process in launched:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def said(place: Path, name: str, since: int = 0) -> str:
    return (place / name / "log").read_text(errors="replace")[since:]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, hosts():
        place = Path(folder)
        launched = start(place)
        try:
            until = time.monotonic() + 180
            while not list(place.glob("sg-a/outputs/runs/*/checkpoints/step-*")):
                assert time.monotonic() < until, said(place, "sg-a")
                assert all(process.poll() is None for process in launched), said(place, "sg-a")
                time.sleep(0.05)
            ip("-n", "sg-a", "link", "set", "cable", "down")
            cut = time.monotonic()
            print("the cable is cut")
            codes = wait(launched, 120)
            print(f"both launchers ended {time.monotonic() - cut:.0f} s later with {codes} (timeout {TIMEOUT_S} s)")
            assert None not in codes, said(place, "sg-b")
            assert 0 not in codes
            for name in HOSTS:
                lines = [line for line in said(place, name).splitlines() if "Error" in line]
                print(f"{name} said: {lines[0].strip() if lines else 'nothing'}")
            checkpoints = sorted(path.name[:13] for path in place.glob("sg-a/outputs/runs/*/checkpoints/step-*"))
            print(f"checkpoints: {', '.join(checkpoints)}")
            ip("-n", "sg-a", "link", "set", "cable", "up")
            print("the cable is mended; the same commands again")
            launched = start(place)
            codes = wait(launched, 180)
            assert codes == [0, 0], (codes, said(place, "sg-a")[-3000:])
            runs = list(place.glob("sg-a/outputs/runs/*"))
            assert len(runs) == 1, runs
            print(said(place, "sg-a").strip().splitlines()[-1])
        finally:
            stop(launched)


if __name__ == "__main__":
    main()
