# SPDX-License-Identifier: BSD-2-Clause
"""What a guest has done until it stopped: all that a case asserts on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from nvmmconf.abi import ExitReason
from nvmmconf.accel import Outcome, Registers, Stop
from nvmmconf.board.guestport import GuestDone, GuestEvent, GuestFailure, GuestMalformed
from nvmmconf.guest import Image
from nvmmconf.nvmm import Exit
from nvmmconf.suite.address import Address
from nvmmconf.suite.board import MmioAccess, PortAccess
from nvmmconf.suite.checks import Checks
from nvmmconf.trace import TracedExit

if TYPE_CHECKING:
    from nvmmconf.suite.prepared import PreparedGuest
    from nvmmconf.suite.state import KernelState

USES_CHECKS = "guest_check"
"""The symbol that an image has where its guest uses the guest port's macros."""

_Taken = TypeVar("_Taken", bound=Exit)


@dataclass(frozen=True, repr=False)
class VmRun:
    """What a guest has done until it stopped: all that a case asserts on.

    `exits` are the last ones, oldest first, `dropped` counts those before them.
    """

    image: Image
    outcome: Outcome
    registers: Registers
    console: str
    exits: tuple[TracedExit, ...]
    dropped: int
    note: str
    """What the libnvmm in software could not do for this guest; mostly empty."""
    ports: tuple[PortAccess, ...]
    """Accesses to the ports that the case answers, oldest first."""
    mmio: tuple[MmioAccess, ...]
    """Accesses to the devices in memory that the case answers, oldest first."""
    events: tuple[GuestEvent, ...]
    """What the guest said through the guest port, oldest first."""
    cpus: tuple[Registers, ...]
    """The registers of every vCPU at the end; `registers` are those of the first."""
    guest: PreparedGuest
    """The machine; it may have gone on since."""

    def __repr__(self) -> str:
        mode = self.image.mode.value
        return f"<{self.image.name} in {mode}: {self.outcome}, RIP {self.rip!r}>"

    @property
    def reason(self) -> Stop:
        """Why the run ended."""
        return self.outcome.reason

    @property
    def status(self) -> int | None:
        """What the guest wrote to the test device, as QEMU's exit status: (v << 1) | 1."""
        return self.outcome.status

    @property
    def rip(self) -> Address:
        """RIP at the end."""
        return self.address(self.registers.rip)

    @property
    def checks(self) -> tuple[GuestFailure, ...]:
        """The guest's own checks that did not hold."""
        return tuple(event for event in self.events if isinstance(event, GuestFailure))

    @property
    def done(self) -> bool:
        """True where the guest has said that it is through with its checks."""
        return any(isinstance(event, GuestDone) for event in self.events)

    def count_checks(self, checks: Checks) -> None:
        """Add the guest's own checks to the case's."""
        for event in self.events:
            match event:
                case GuestFailure():
                    what = f"{event.file}:{event.line}: {event.condition}"
                    checks.add(False, what, event.got, event.want)
                case GuestMalformed():
                    checks.add(False, "the guest port", event.reason, "a record")
        if USES_CHECKS in self.image.symbols:
            words = "DONE" if self.done else str(self.outcome)
            checks.add(self.done, f"guest {self.image.name} is through its checks", words, "DONE")

    @property
    def state(self) -> KernelState:
        """The kernel's whole state, as it is now.  Raises NvmmError."""
        return self.guest.state()

    def memory(self, gpa: int, size: int) -> bytes:
        """`size` bytes of guest memory at `gpa`, as they are now."""
        return self.guest.memory(gpa, size)

    def symbol(self, name: str) -> Address:
        """The value of RIP at a label of the guest's.  Raises GuestError for an unknown one."""
        return self.address(self.image.symbol(name))

    def address(self, value: int) -> Address:
        """`value`, as an address that prints with its symbol."""
        return Address(value, self.image.describe(value))

    def exits_of(self, kind: type[_Taken]) -> tuple[_Taken, ...]:
        """The exits of one kind, `IoExit`, oldest first; ValueError as `all_exits`."""
        return tuple(traced.exit for traced in self.all_exits() if isinstance(traced.exit, kind))

    def all_exits(self) -> tuple[TracedExit, ...]:
        """`exits`, their RIPs as addresses that print with their symbols.

        Raises ValueError where they are not all there, and would prove nothing.
        """
        if self.dropped:
            raise ValueError(f"{self!r}: its first {self.dropped} exits were not kept")
        return tuple(
            traced if traced.rip is None else replace(traced, rip=self.address(traced.rip))
            for traced in self.exits
        )

    def reasons(self) -> list[ExitReason | int]:
        """The reasons of the exits that the guest caused, oldest first.

        NONE and STOPPED are the host's doing and may come at any time (L-STOP-3).
        Raises ValueError as `all_exits`.
        """
        reasons = [traced.exit.reason for traced in self.all_exits()]
        return [one for one in reasons if one not in (ExitReason.NONE, ExitReason.STOPPED)]

    def resume(self) -> VmRun:
        """Run the guest on from where it is; a halted one goes on after its HLT."""
        return self.guest.run()
