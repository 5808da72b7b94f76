# SPDX-License-Identifier: BSD-2-Clause
"""Stops a guest that uses up its time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

AGAIN = 0.05
"""Seconds between kicks: one can be lost on version 1 (L-STOP-5)."""


class Watchdog:
    """Within its context: after `seconds` calls `bite`, then `again` until the context is left.

    Leaving waits for a call under way, so that none comes late.
    """

    def __init__(self, seconds: float, bite: Callable[[], None], again: Callable[[], None]) -> None:
        self._seconds = seconds
        self._bite = bite
        self._again = again
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        if self._over.wait(self._seconds):
            return
        self._bite()
        while not self._over.wait(AGAIN):
            self._again()

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
