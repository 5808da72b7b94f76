# SPDX-License-Identifier: BSD-2-Clause
"""The kick signal: getting a thread out of nvmm_vcpu_run() (A-VCPU-1, A-LOOP-7)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvmmconf.accel.vcpu import AccelVcpu

KICK_SIGNAL = signal.SIGUSR1
"""The field's practice (A-VCPU-1)."""


class KickError(Exception):
    """The kick signal's handler cannot be installed from this thread."""


_users = 0
_previous: signal._HANDLER = signal.SIG_DFL
_vcpus: list[AccelVcpu] = []


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Python runs handlers on the main thread whichever thread was kicked.
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
