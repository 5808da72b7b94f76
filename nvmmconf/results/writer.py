# SPDX-License-Identifier: BSD-2-Clause
"""Appending records to a file while a run goes on."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from nvmmconf.results.codec import Record, encode
from nvmmconf.results.records import Started


class RecordWriter:
    """Appends records to one file of one process.

    Each record is one write to the operating system, so that this process can
    die at any moment and lose nothing.  A `Started` and all before it, and
    all there is at `close()`, are on the disk when the call returns: the
    kernel under test may take the host down.  `durable=False` leaves that
    out, where no kernel is under test.

    The folder is made if need be.  Every method raises OSError.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._durable = durable
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        self._file = path.open("ab", buffering=0)
        if new:
            # The name has to outlive the host as well.
            self._sync_folder(path.parent)
        else:
            self._cut_torn_tail(path)

    def write(self, record: Record) -> None:
        """Append `record`.  Raises ValueError for a number that JSON does not have."""
        line = memoryview(encode(record))
        while line:
            line = line[self._file.write(line) :]
        if isinstance(record, Started):
            self._sync()

    def close(self) -> None:
        """Put everything on the disk and close the file; a second call does nothing."""
        if not self._file.closed:
            try:
                self._sync()
            finally:
                self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _sync(self) -> None:
        if self._durable:
            os.fdatasync(self._file.fileno())

    def _sync_folder(self, folder: Path) -> None:
        if self._durable:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _cut_torn_tail(self, path: Path) -> None:
        """Drop what follows the last line end: joined to the next record it would spoil both."""
        whole = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)
