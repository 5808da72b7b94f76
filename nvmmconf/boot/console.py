# SPDX-License-Identifier: BSD-2-Clause
"""A guest's consoles on one stream, a line at a time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import IO

from nvmmconf.board.pc import Source
from nvmmconf.nvmm import Owned

PATIENCE = 0.4
"""Seconds without a byte after which a line that has not ended is shown."""


class Console(Owned):
    """Writes what each source prints to `stream` in whole lines, so that they do not mix.

    A line that does not end is shown after PATIENCE, and goes on while nobody
    else prints.  Where nobody reads the stream any more, or it takes no more,
    `gone` is called once, and the rest is lost.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.gone: Callable[[], None] = lambda: None
        self._mutex = threading.Lock()
        self._lines: dict[Source, bytearray] = {source: bytearray() for source in Source}
        self._latest: dict[Source, float] = dict.fromkeys(Source, 0.0)
        """When each printed its last byte."""
        self._open: Source | None = None
        """Whose line on the stream has not ended."""
        self.closed = False
        """Nothing more can be written to the stream."""
        self.failure: OSError | None = None
        """Why, unless nobody reads it any more."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="console")
        self._thread.start()

    def __call__(self, source: Source, byte: int) -> None:
        """Take a byte."""
        with self._mutex:
            line = self._lines[source]
            line.append(byte)
            self._latest[source] = time.monotonic()
            if byte == 0x0A:
                self._show(source)

    def close(self) -> None:
        """Show all there is; then the stream is at the beginning of a line.  Idempotent."""
        self._over.set()
        self._thread.join()
        with self._mutex:
            self._show_all()
            self._end_line()

    def end_line(self) -> None:
        """Show all there is, and begin a new line if the guest has not."""
        with self._mutex:
            self._show_all()
            self._end_line()

    def show(self, data: bytes) -> None:
        """Show what is not a guest's, on lines of its own."""
        with self._mutex:
            self._show_all()
            self._end_line()
            self._write(data)

    def _watch(self) -> None:
        while not self._over.wait(PATIENCE / 4):
            with self._mutex:
                self._show_all(time.monotonic() - PATIENCE)

    def _show_all(self, before: float = math.inf) -> None:
        """Show the lines that have not ended and whose last byte came before then."""
        for source, line in self._lines.items():
            if line and self._latest[source] < before:
                self._show(source)

    def _show(self, source: Source) -> None:
        if self._open is not source:
            self._end_line()
        line = self._lines[source]
        self._write(bytes(line))
        self._open = None if line.endswith(b"\n") else source
        line.clear()

    def _end_line(self) -> None:
        if self._open is not None:
            self._write(b"\n")
            self._open = None

    def _write(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            self.closed = True
            if not isinstance(error, BrokenPipeError):
                self.failure = error
            self.gone()
