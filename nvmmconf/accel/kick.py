# SPDX-License-Identifier: BSD-2-Clause
"""The kick signal: getting a thread out of nvmm_vcpu_run() (A-VCPU-1, A-LOOP-7)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from nvmmconf.accel.bell import Bell

if TYPE_CHECKING:
    from nvmmconf.accel.vcpu import AccelVcpu

KICK_SIGNAL = signal.SIGUSR1
"""The field's practice (A-VCPU-1)."""

FIRST_REPEAT = 0.0005
LAST_REPEAT = 0.016
"""Seconds between a kick and the next; twice as many each time, up to the second."""


class KickError(Exception):
    """The kick signal's handler cannot be installed from this thread."""


_users = 0
_previous: signal._HANDLER = signal.SIG_DFL
_vcpus: list[AccelVcpu] = []


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Python runs handlers on the main thread whichever thread was kicked; what
    # makes that thread's nvmm_vcpu_run() return is the signal itself.
    for vcpu in _vcpus:
        if vcpu.exit_request:
            vcpu.on_kick()


def install() -> Callable[[], None]:
    """Install the handler and return what takes it away; nested calls are counted.

    Raises KickError outside the main thread, where Python installs no handlers,
    unless the handler is there already.
    """
    global _users, _previous
    if _users == 0:
        if threading.current_thread() is not threading.main_thread():
            raise KickError(
                f"the handler of {KICK_SIGNAL.name} can only be installed on the main thread:"
                " start the accelerator there"
            )
        _previous = signal.signal(KICK_SIGNAL, _on_signal) or signal.SIG_DFL
    _users += 1
    return _uninstall


def _uninstall() -> None:
    global _users
    _users -= 1
    if _users == 0:
        signal.signal(KICK_SIGNAL, _previous)


def register(vcpu: AccelVcpu) -> None:
    """Have the handler look at `vcpu`."""
    _vcpus.append(vcpu)
    if not vcpu.has_stop:
        _repeater.start()


def unregister(vcpu: AccelVcpu) -> None:
    """Have the handler forget `vcpu`.  Idempotent."""
    if vcpu in _vcpus:
        _vcpus.remove(vcpu)


def unblock() -> None:
    """Unblock the signal on this thread."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {KICK_SIGNAL})


def send(thread: int) -> None:
    """Signal the thread `thread` (threading.get_ident())."""
    signal.pthread_kill(thread, KICK_SIGNAL)


def repeat(vcpu: AccelVcpu) -> None:
    """Kick `vcpu` again and again until its loop has left the guest."""
    _repeater.add(vcpu)


class _Repeater:
    """A thread that repeats kicks for version 1, where one may be lost (L-STOP-5).

    Asleep while nobody is to be kicked.  `add` takes no lock, so that signal
    handlers may kick.
    """

    def __init__(self) -> None:
        self._pending: set[AccelVcpu] = set()
        self._bell = Bell()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have the thread run."""
        if self._thread is None or not self._thread.is_alive():  # as after a fork
            self._thread = threading.Thread(target=self._work, name="kicks", daemon=True)
            self._thread.start()

    def add(self, vcpu: AccelVcpu) -> None:
        """Begin to kick `vcpu`."""
        self._pending.add(vcpu)
        self._bell.ring()

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {KICK_SIGNAL})
        while True:
            self._bell.wait()
            delay = FIRST_REPEAT
            while self._pending:
                self._bell.wait(delay)
                delay = min(2 * delay, LAST_REPEAT)
                for vcpu in tuple(self._pending):
                    # Taken out first: who asks meanwhile puts it in again.
                    self._pending.discard(vcpu)
                    if vcpu.kick_again():
                        self._pending.add(vcpu)


_repeater = _Repeater()
