"""A run's own word, on the local disk before it is sent anywhere: an append-only file of checked lines.

A line is the CRC-32 of a record (8 hexadecimal digits), a space, the record as JSON. What `append` has returned
from survives the process; what `sync` has returned from survives the machine. A line that was being written
when the process died is dropped; a line that was damaged later is reported and skipped.

This module knows neither MLflow nor torch.
"""

import json
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import locks
from harness.errors import InputError, unwritable

Record = dict[str, Any]

FSYNC_INTERVAL_S = 5.0
COMPACT = json.JSONEncoder(separators=(",", ":"))


class Journal:
    """The write side of one run's journal, for one process. Opening an existing one goes on after its last whole line.

    Raises InputError where another process is writing it, and where the disk takes no more; what was written
    before stays.
    """

    def __init__(self, path: Path, fsync_interval_s: float = FSYNC_INTERVAL_S) -> None:
        self.path, self.fsync_interval_s = path, fsync_interval_s
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            if not locks.taken(self._file, path, locks.GLANCE_S):
                raise InputError(f"{path} is being written by another process: its run is still alive")
            self.position = _end_of_whole_lines(self._file)
            os.ftruncate(self._file, self.position)
        except BaseException:
            os.close(self._file)
            raise
        self._synced, self._one_at_a_time = time.monotonic(), threading.Lock()

    def append(self, **record: Any) -> None:
        """Write one record of JSON values (NaN and infinities included); threads may do so at once."""
        line = encode(record)
        with self._one_at_a_time:
            try:
                written = os.write(self._file, line)
                if written < len(line):  # the disk took a part; the rest tells why not
                    written += os.write(self._file, line[written:])
            except OSError as error:
                os.ftruncate(self._file, self.position)
                raise unwritable(self.path, error) from error
            self.position += len(line)
        if time.monotonic() - self._synced > self.fsync_interval_s:
            self.sync()

    def sync(self) -> None:
        """Return when the disk has everything. Raises InputError where it has not."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise InputError(f"the journal {self.path} is not on the disk: {error.strerror}") from error
        self._synced = time.monotonic()

    def close(self) -> None:
        """Let the lock go; what was not synced is the system's to write."""
        os.close(self._file)


def encode(record: Record) -> bytes:
    text = COMPACT.encode(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(path: Path, position: int = 0) -> Iterator[tuple[Record, int]]:
    """The records from a position on, each with the position after it."""
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return  # being written, or torn
            position += len(line)
            record = decode(line)
            if record is None:
                print(f"{path}: the line that ends at byte {position} is damaged and was skipped", file=sys.stderr)
                record = _behind_damage(line)
            if record is not None:
                yield record, position


def decode(line: bytes) -> Record | None:
    """The record of a line; None where its checksum does not fit."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def _behind_damage(line: bytes) -> Record | None:
    """The whole record at the end of a damaged line: where a line end was damaged, the next record follows it."""
    starts = (found.start() for found in re.finditer(rb"[0-9a-f]{8} {", line))
    return next((record for start in starts if (record := decode(line[start:])) is not None), None)


def last(path: Path) -> Record | None:
    """The last whole record of a journal, None where there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        reach = 4096
        while True:
            start = max(0, end - reach)
            file.seek(start)
            lines = file.read(end - start).split(b"\n")[:-1]  # what follows the last line end is torn
            for line in reversed(lines if start == 0 else lines[1:]):
                if (record := decode(line) or _behind_damage(line)) is not None:
                    return record
            if start == 0:
                return None
            reach *= 16


def _end_of_whole_lines(file: int) -> int:
    """The position after the last line end; a torn last line lies behind it."""
    position = os.lseek(file, 0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        found = os.pread(file, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
