# SPDX-License-Identifier: BSD-2-Clause
"""The `vm` fixture's object: boots guests on one target, in one mode."""

from __future__ import annotations

import contextlib
import copy
import warnings
from dataclasses import dataclass, replace
from typing import TypeVar

from nvmmconf.abi import ExitReason
from nvmmconf.accel import (
    Accelerator,
    AcceleratorError,
    AccelVcpu,
    Control,
    Outcome,
    Registers,
    Stop,
)
from nvmmconf.board import Pc
from nvmmconf.guest import GuestLibrary, Image, Mode
from nvmmconf.nvmm import Exit, HostMemory, Owned
from nvmmconf.suite.address import Address
from nvmmconf.suite.entry import entry_registers
from nvmmconf.suite.target import Target
from nvmmconf.suite.watchdog import Watchdog
from nvmmconf.trace import Trace, TracedExit

RAM_SIZE = 2 << 20
"""Bytes of RAM from GPA 0: what guests/README.md promises them."""

DEFAULT_TIMEOUT = 20.0
"""Seconds of wall time that a guest may run before the watchdog stops it."""

_Taken = TypeVar("_Taken", bound=Exit)


class GuestHangError(Exception):
    """The watchdog stopped a guest that used up its time."""


class UnimplementedWarning(UserWarning):
    """The libnvmm in software lacks an instruction that a guest used; the guest got #UD."""


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
    _booted: _Booted

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
        return self._booted.go(resume=True)


class _Booted:
    """One machine with one guest in it."""

    def __init__(self, target: Target, image: Image, timeout: float) -> None:
        self.image = image
        self._timeout = timeout
        self._trace = Trace()
        self._control = Control()
        with contextlib.ExitStack() as undo:
            memory = undo.enter_context(HostMemory(RAM_SIZE))
            self._pc = Pc(memory, self._control.request_exit)
            with target.chosen():
                self._accelerator = undo.enter_context(
                    Accelerator(
                        target.library,
                        self._pc.ports,
                        self._pc.memory,
                        self._control,
                        self._trace,
                    )
                )
                self._vcpu: AccelVcpu = self._accelerator.create_vcpu(0)
            if self._accelerator.memory_map.failures:
                raise AcceleratorError(self._accelerator.memory_map.failures[0], 0)
            for segment in image.segments:  # after hva_map, which zeroes (L-HVA-1)
                self._pc.memory.write(segment.gpa, segment.data)
            self._vcpu.registers = entry_registers(image.entry_state)
            self._vcpu.after_reset()
            self._resources = undo.pop_all()
        self.run: VmRun | None = None

    def close(self) -> None:
        """Destroy the machine."""
        self._resources.close()

    def go(self, *, resume: bool) -> VmRun:
        """Run the guest; raises GuestHangError where the watchdog had to stop it."""
        if resume:
            # The registers so far belong to the run that was returned.
            self._vcpu.registers = copy.deepcopy(self._vcpu.registers)
        with Watchdog(self._timeout, self._hang, self._accelerator.kick_all):
            if resume:
                outcome = self._accelerator.resume(self._vcpu)
            else:
                outcome = self._accelerator.run(self._vcpu)
        self.run = VmRun(
            image=self.image,
            outcome=outcome,
            registers=self._vcpu.registers,
            console=self._pc.console.text,
            exits=self._trace.exits,
            dropped=self._trace.dropped,
            note=self._note(),
            _booted=self,
        )
        if self.run.note:
            warnings.warn(self.run.note, UnimplementedWarning, stacklevel=3)
        if outcome.reason is Stop.HANG:
            raise GuestHangError(
                f"{self.image.name} ({self.image.mode.value}) ran for {self._timeout:g} s"
                f" and was stopped at RIP {self.run.rip!r}"
            )
        return self.run

    def _hang(self) -> None:
        self._control.request(Outcome(Stop.HANG))

    def _note(self) -> str:
        diagnostic = self._vcpu.vcpu.soft_diagnostic()
        if diagnostic is None or not diagnostic.unimplemented:
            return ""
        return (
            f"guest {self.image.name} ({self.image.mode.value}): {diagnostic.unimplemented}"
            f" instruction(s) that the interpreter lacks became #UD, the last one"
            f" {diagnostic.last_bytes.hex(' ')}"
        )


class VirtualMachine(Owned):
    """Boots guests on `target` in `mode`; each boot is a machine of its own.

    The machines live until the case ends, so that a run can be resumed.
    """

    def __init__(
        self,
        target: Target,
        mode: Mode,
        guests: GuestLibrary,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.target = target
        self.mode = mode
        self._guests = guests
        self._timeout = timeout
        self._booted: list[_Booted] = []

    @property
    def runs(self) -> tuple[VmRun, ...]:
        """The latest run of each guest booted, in order: the evidence of a verdict."""
        return tuple(booted.run for booted in self._booted if booted.run is not None)

    def boot(self, name: str) -> VmRun:
        """Assemble guest `name`, load it into a fresh machine and run it until it stops.

        Raises GuestError where it cannot be built, AcceleratorError where no
        machine can be made, GuestHangError where it does not stop by itself.
        """
        return self.boot_image(self._guests.image(name, self.mode))

    def boot_image(self, image: Image) -> VmRun:
        """`boot`, of an image that was built already."""
        booted = _Booted(self.target, image, self._timeout)
        self._booted.append(booted)
        return booted.go(resume=False)

    def close(self) -> None:
        """Destroy the machines, all of them also where one fails."""
        with contextlib.ExitStack() as everything:
            while self._booted:
                everything.callback(self._booted.pop(0).close)
