"""Checkpoints: written aside, synced, renamed; every byte is under a digest; no pickle is executed.

    step-00001000-<digest of the manifest>/
        manifest.json           step, identity, notes, the other files' SHA-256
        weights.safetensors     networks and their moving averages
        optimizers.pt           optimizers and loss scaler, read with weights_only=True

A kill at any moment leaves the checkpoints that were there. The last two are kept.
"""

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from harness.errors import InputError

KEPT = 2
MANIFEST, WEIGHTS, OPTIMIZERS = "manifest.json", "weights.safetensors", "optimizers.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps. `identity` says of what: only an equal one may go on with it."""

    step: int
    identity: Mapping[str, Any]
    notes: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    optimizers: Any


class Damaged(Exception):
    """A checkpoint whose bytes are not those that were written."""


def save(folder: Path, checkpoint: Checkpoint) -> Path | None:
    """Write a checkpoint into `folder`; None where the disk refused, which is said and leaves the older ones."""
    aside = folder / f".writing-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".writing-*"):
            shutil.rmtree(left)
        aside.mkdir()
        path = folder / f"step-{checkpoint.step:08d}-{_write(aside, checkpoint)}"
        if path.exists():
            shutil.rmtree(aside)  # the very same one
            return path
        aside.rename(path)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        older = _paths(folder)
        kept = f"that of step {_step(older[0])} stays" if older else "there is none before it"
        print(f"the checkpoint of step {checkpoint.step} was not written ({error.strerror}); {kept}", file=sys.stderr)
        return None
    for old in _paths(folder)[KEPT:]:
        shutil.rmtree(old)
    return path


def restore(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; damaged ones are named and passed over; None where there is none.

    Raises InputError for a checkpoint of something else, with the difference.
    """
    for path in _paths(folder):
        try:
            found = read(path)
        except Damaged as error:
            print(f"{error}; the one before it is used", file=sys.stderr)
            continue
        differences = [
            f"{key} is {identity.get(key)!r}, the checkpoint has {found.identity.get(key)!r}"
            for key in sorted({*identity, *found.identity})
            if identity.get(key) != found.identity.get(key)
        ]
        if differences:
            raise InputError(f"{path} cannot be gone on with: {'; '.join(differences)}")
        return found
    return None


def last_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, None where there is none."""
    paths = _paths(folder)
    return _step(paths[0]) if paths else None


def read(path: Path) -> Checkpoint:
    """One checkpoint, every byte verified. Raises Damaged."""
    content = _verified(path, MANIFEST, path.name.rpartition("-")[2])
    try:
        manifest = json.loads(content)
        files = {name: _verified(path, name, manifest["files"][name]) for name in (WEIGHTS, OPTIMIZERS)}
        return Checkpoint(
            int(manifest["step"]),
            dict(manifest["identity"]),
            dict(manifest["notes"]),
            safetensors.torch.load(files[WEIGHTS]),
            torch.load(io.BytesIO(files[OPTIMIZERS]), weights_only=True, map_location="cpu"),
        )
    except Damaged:
        raise
    except Exception as error:  # what fits its digest and was not written here: each reader has errors of its own
        raise Damaged(f"{path} is no checkpoint: {error}") from error


def _verified(path: Path, name: str, digest: str) -> bytes:
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise Damaged(f"{path / name} is missing or cannot be read") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(f"{path / name} is damaged: its SHA-256 is not the one that was written down")
    return content


def _write(aside: Path, checkpoint: Checkpoint) -> str:
    """Write the files, synced; returns the manifest's digest."""
    stream = io.BytesIO()
    torch.save(checkpoint.optimizers, stream)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in checkpoint.weights.items()}
    files = {WEIGHTS: safetensors.torch.save(weights), OPTIMIZERS: stream.getvalue()}
    manifest = {
        "step": checkpoint.step,
        "identity": checkpoint.identity,
        "notes": checkpoint.notes,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    for name, content in files.items():
        with (aside / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(aside)
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def _paths(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*"), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _sync(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
