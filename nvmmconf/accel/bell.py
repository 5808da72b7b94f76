# SPDX-License-Identifier: BSD-2-Clause
"""Waking a thread that waits, from any thread and from signal handlers."""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """A binary semaphore: a ring that nobody waits for is kept, one of them.

    A condition variable would not do: a signal handler that runs between a
    look at the predicate and the wait holds the same lock, so its notification
    would find nobody waiting and be lost.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake who waits, or who waits next.  Never blocks."""
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._silence.release()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a ring, at most `seconds`.  Signal handlers run meanwhile.

        May return for a ring of long ago: look at what was waited for again.
        """
        self._silence.acquire(timeout=-1 if seconds is None else seconds)
