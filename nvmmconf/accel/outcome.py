# SPDX-License-Identifier: BSD-2-Clause
"""How a guest's run ended."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from nvmmconf.accel.registers import Registers
from nvmmconf.nvmm import Exit


class Stop(enum.Enum):
    """Why the accelerator stopped running the guest."""

    def __repr__(self) -> str:
        return f"Stop.{self.name}"

    HALTED = "halted"
    """HLT, and nothing is pending that would wake the vCPU (A-EXIT-6)."""
    RESET = "reset"
    """The guest asked for a reset, or triple-faulted (A-EXIT-7)."""
    POWER_OFF = "power off"
    """The guest switched the machine off."""
    EXITED = "exited"
    """The guest wrote a status to the test device."""
    PANIC = "panic"
    """An exit that the accelerator cannot carry out, or a call that failed (A-EXIT-11, 12)."""
    STOPPED = "stopped"
    """The host asked for it."""
    HANG = "hang"
    """The watchdog asked for it: the guest used up its time."""


@dataclass(frozen=True)
class Fault:
    """Where a machine could not go on: the vCPU, its last exit whole, its registers then.

    `exit` is None where there was none: the run itself failed, or a device.
    """

    vcpu: int
    exit: Exit | None
    registers: Registers


@dataclass(frozen=True)
class Outcome:
    """The end of a run: the reason, the status of EXITED, the explanation of PANIC."""

    reason: Stop
    status: int | None = None
    message: str = ""
    fault: Fault | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        if self.status is not None:
            return f"{self.reason.name}({self.status})"
        return f"{self.reason.name}: {self.message}" if self.message else self.reason.name


class Control:
    """What devices and other threads ask of the machine: the first request wins.

    `subscribe` registers what is to be called (from whichever thread) when a
    request has been made, so that running vCPUs leave the guest.

    There is no lock in it, as signal handlers make requests too and may have
    interrupted one: appending to a list is one step, and the first is the one.
    """

    def __init__(self) -> None:
        self._requests: list[Outcome] = []
        self._subscribers: list[Callable[[], None]] = []

    @property
    def outcome(self) -> Outcome | None:
        """The request made, None while there is none."""
        requests = self._requests
        return requests[0] if requests else None

    def subscribe(self, kick: Callable[[], None]) -> None:
        """Have `kick` called after each first request."""
        self._subscribers.append(kick)

    def clear(self) -> None:
        """Forget the request: the machine goes on."""
        self._requests = []

    def request(self, outcome: Outcome) -> None:
        """Ask that the run ends with `outcome`."""
        requests = self._requests
        requests.append(outcome)
        if requests[0] is not outcome:
            return
        for kick in self._subscribers:
            kick()

    def request_exit(self, status: int) -> None:
        """Ask for EXITED with `status`: the guest's test device was written."""
        self.request(Outcome(Stop.EXITED, status))

    def request_reset(self) -> None:
        """Ask for RESET."""
        self.request(Outcome(Stop.RESET))

    def request_power_off(self) -> None:
        """Ask for POWER_OFF."""
        self.request(Outcome(Stop.POWER_OFF))

    def panic(self, message: str, fault: Fault | None = None) -> None:
        """Ask for PANIC; `message` is one line with call, arguments and errno or the exit."""
        self.request(Outcome(Stop.PANIC, message=message, fault=fault))
