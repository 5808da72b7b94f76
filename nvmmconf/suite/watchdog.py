# SPDX-License-Identifier: BSD-2-Clause
"""Stops a guest that uses up its time."""

from __future__ import annotations

import math
import os
import threading
import time
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
        self._next = bite
        self._again = again
        self.due = math.inf
        """When the next call is due, by the monotonic clock."""

    def call(self) -> None:
        """Make the call that is due."""
        call, self._next = self._next, self._again
        call()
        self.due = time.monotonic() + AGAIN

    def __enter__(self) -> Watchdog:
        self.due = time.monotonic() + self._seconds
        self._watcher = _watcher
        self._watcher.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watcher.remove(self)


class _Watcher:
    """The thread that looks after all watchdogs of the process.

    It sleeps until the first is due that there was when it fell asleep; so a guest
    that ends in time costs no switch of threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._dogs: list[Watchdog] = []
        self._calling: Watchdog | None = None
        self._wakes = math.inf
        self._started = False

    def add(self, dog: Watchdog) -> None:
        """Look after `dog` from now on."""
        with self._changed:
            self._dogs.append(dog)
            if not self._started:
                self._started = True
                threading.Thread(target=self._watch, daemon=True).start()
            elif dog.due < self._wakes:
                self._changed.notify_all()

    def remove(self, dog: Watchdog) -> None:
        """Leave `dog` alone; a call under way is waited for."""
        with self._changed:
            self._dogs.remove(dog)
            while self._calling is dog:
                self._changed.wait()

    def _watch(self) -> None:
        with self._changed:
            while True:
                dog = min(self._dogs, key=lambda one: one.due, default=None)
                left = math.inf if dog is None else dog.due - time.monotonic()
                if dog is None or left > 0:
                    self._wakes = math.inf if dog is None else dog.due
                    self._changed.wait(None if dog is None else left)
                    continue
                self._calling = dog
                self._changed.release()
                try:
                    dog.call()
                finally:
                    self._changed.acquire()
                    self._calling = None
                    self._changed.notify_all()


_watcher = _Watcher()


def _forked() -> None:
    """A child has no thread, nor what its parent's looked after."""
    global _watcher
    _watcher = _Watcher()


os.register_at_fork(after_in_child=_forked)
