"""The processes of a run: how many there are, and whether that is what the launcher promised."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psutil
import torch
import torch.distributed
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from harness import signals
from harness.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

WORLDS = {
    "WORLD_SIZE": "RANK",
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
}
"""Where launchers promise a number of processes, and where they say which one this is: either alone is no launch."""
LAUNCHED_BY_ACCELERATE = "ACCELERATE_DYNAMO_USE_FULLGRAPH"
"""What `accelerate launch` sets in any case, and nobody by hand."""
PRECISION = "ACCELERATE_MIXED_PRECISION"
PRECISIONS = ("no", "bf16", "fp16")
HARMLESS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "ACCELERATE_USE_DEEPSPEED": ("0", "false"),
    "ACCELERATE_USE_FSDP": ("0", "false"),
    "ACCELERATE_USE_MEGATRON_LM": ("0", "false"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("0", "false"),
    "DNNL_DEFAULT_FPMATH_MODE": ("strict",),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("strict",),
    "NVIDIA_TF32_OVERRIDE": (),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": ("0",),
}
"""Variables that change what is computed without a word in the run, and the values that change nothing."""
STORE_TIMEOUT_S = 5.0
WORKS_ON_CPU = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes N SCRIPT"


def accelerator(timeout_s: float = 180.0) -> Accelerator:
    """This process's Accelerator, with the precision and the devices that the launcher has set.

    `timeout_s`: a process that waits longer than this for another one fails, and with it the run.

    Raises InputError where the launcher's processes do not find each other: each would believe to be alone.
    """
    check_environment()
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    if precision() == "fp16" and not torch.cuda.is_available():
        raise InputError(f"{PRECISION}=fp16 needs a GPU; on a CPU give bf16, or no")
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32
        _repeatable()
    served = _fresh_store(timeout_s)
    # Networks move themselves to their device; to let prepare() do it imports torch.distributed.tensor, for seconds.
    group = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_s))
    made = Accelerator(device_placement=False, kwargs_handlers=[group])
    check_world(os.environ, made.num_processes)
    del served  # the processes have found each other, and hold it themselves
    if made.num_processes > 1 and not _stores:
        _open_store(made, timeout_s).set(f"process/{made.process_index}", f"{os.getpid()}@{platform.node()}")
    return made


def precision() -> str:
    """Of the networks' products: no (float32), bf16 or fp16. Raises InputError for another one."""
    asked = os.environ.get(PRECISION, "no").lower()
    if asked not in PRECISIONS:
        raise InputError(f"{PRECISION}={asked} must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    return asked


def check_environment() -> None:
    """Refuse what would change what is computed unseen; leave out what only looks like a launch."""
    precision()
    for name, harmless in HARMLESS.items():
        value = os.environ.get(name, "")
        if value and value.lower() not in harmless:
            raise InputError(
                f"{name}={value} changes what is computed, and no run would say so: unset it. {PRECISION} sets the "
                "precision, --accumulate the parts of a batch"
            )
    for size, rank in WORLDS.items():
        if rank not in os.environ:
            os.environ.pop(size, None)  # as srun's PMI_SIZE, of which Accelerate would make a launch


def _repeatable() -> None:
    """On a GPU only kernels that give the same sums each time, where there are such: a resume is exact there too."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


def check_world(environment: os._Environ[str] | dict[str, str], world_size: int) -> None:
    """Compare the world that a process sees with what its launcher left in the environment.

    torchrun and accelerate's launchers of several processes set WORLD_SIZE, MPI its own names. `accelerate launch
    --cpu` (and any launch on a machine without GPUs) starts a single process however many were asked for
    (accelerate#2741); that more than one was, shows in MASTER_PORT alone, which people set by hand too.
    """
    promised = next((int(environment[size]) for size, rank in WORLDS.items() if {size, rank} <= {*environment}), None)
    if promised not in (None, world_size):
        raise InputError(
            f"{promised} processes were launched, but this one sees {world_size}: without a GPU each believes to be "
            f"alone; the command that works is {WORKS_ON_CPU}"
        )
    if promised is None and {"MASTER_PORT", LAUNCHED_BY_ACCELERATE} <= {*environment}:
        raise InputError(
            "the launcher was asked for several processes and started one, as it does on a machine without GPUs; "
            f"the command that works is {WORKS_ON_CPU}"
        )


def broadcast_from_main(value: Any, accelerator: Accelerator) -> Any:
    """The main process's value, on every process."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def check_single_process() -> None:
    """Raises InputError where a launcher started several: a study starts its processes itself."""
    if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":  # srun sets PMI_SIZE for one process too
        raise InputError(
            "a study or comparison is started as one process, which starts others: --workers N for trials side by "
            "side, --processes-per-trial N for trials that span N processes"
        )


def is_restarted() -> bool:
    """Whether torchrun has started these processes again after one was lost (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _fresh_store(timeout_s: float) -> TCPStore | None:
    """Where torchrun's agent keeps one key-value store over restarts, have rank 0 serve a new one each time.

    The agent's still holds the addresses of processes that are gone: whoever starts first again would call those
    (pytorch#135712). Tells torch the new one's port by the environment.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, limit, until = os.environ["MASTER_ADDR"], timedelta(seconds=timeout_s), time.monotonic() + timeout_s
    agent = TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False, timeout=limit)
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    served = None
    if os.environ["RANK"] == "0":
        served = TCPStore(host, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
        agent.set("served at", str(served.port))
    while served is None:
        port = int(agent.get("served at"))  # of the last time, perhaps
        try:
            socket.create_connection((host, port), timeout=1).close()  # says nothing, where torch prints its stack
            served = TCPStore(host, port, is_master=False, timeout=limit)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    os.environ["MASTER_PORT"] = str(served.port)
    return served


_stores: list[TCPStore] = []
"""The key-value store over which processes tell of their ends; none where there is one process."""


def _open_store(accelerator: Accelerator, timeout_s: float) -> TCPStore:
    """Have the main process serve a store, and all of them use it."""
    host, limit = os.environ["MASTER_ADDR"], timedelta(seconds=timeout_s)
    served = None
    if accelerator.is_main_process:
        served = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=limit)
    port = broadcast_from_main(served.port if served else 0, accelerator)
    _stores.append(served or TCPStore(host, port, is_master=False, timeout=limit))
    return _stores[-1]


# --- Who failed first ------------------------------------------------------------------------------------


@contextlib.contextmanager
def record_first_failure() -> Iterator[None]:
    """Around the work of all processes: the first that fails leaves its rank and reason for the others.

    What only follows from another process's end is no traceback but a line.
    """
    try:
        yield
    except BaseException as error:
        reason = first_failure(error)
        if isinstance(error, RuntimeError) and not reason.endswith(signals.reason(error)):
            sys.exit(f"rank {torch.distributed.get_rank()} stops too, after {reason}")
        raise


def first_failure(error: BaseException) -> str:
    """Why the run fails: the reason of the process that failed first, with its rank where there are several."""
    reason = signals.reason(error)
    if not _stores:
        return reason
    # Whoever got a signal, it is everybody's.
    mine = reason if isinstance(error, signals.Killed) else f"rank {torch.distributed.get_rank()}: {reason}"
    heard: list[str] = []
    asking = threading.Thread(target=lambda: heard.append(_first(error, mine)), daemon=True)
    asking.start()
    asking.join(STORE_TIMEOUT_S)  # the store itself has no limit: its host may be out of reach
    return heard[0] if heard else mine


def _first(error: BaseException, mine: str) -> str:
    """Enter this process's reason, unless another process was first: the first one's."""
    try:
        store = _stores[-1]
        if not store.check(["failure"]) and isinstance(error, RuntimeError | SystemExit):
            mine = _lost() or mine  # what a process sees of another one's end
        return store.compare_set("failure", "", mine).decode()
    except RuntimeError:
        return "rank 0 is gone"  # which has the store


def _lost() -> str | None:
    """The first process of this host that ended without a word, killed or out of memory."""
    until = time.monotonic() + 1  # its end may be a moment later than its connections'
    while time.monotonic() < until:
        for rank in range(torch.distributed.get_world_size()):
            number, _, host = _stores[-1].get(f"process/{rank}").decode().partition("@")
            if host == platform.node() and not _alive(int(number)):
                return f"rank {rank} (process {number} on {host}) is gone: killed, or out of memory"
        time.sleep(0.1)
    return None


def _alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
