# SPDX-License-Identifier: BSD-2-Clause
"""A bench for single instructions: registers in; done or which fault, and registers, out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from nvmmconf.suite import (
    Cr,
    ExitReason,
    Frame,
    Gpr,
    Segment,
    SegmentRegister,
    Stop,
    Stubs,
    VirtualMachine,
)
from nvmmconf.suite.stubs import USER_STACK

DONE = "done"
FAULTS = {0: "#DE", 1: "#DB", 3: "#BP", 6: "#UD", 7: "#NM", 12: "#SS", 13: "#GP", 14: "#PF"}

CR4_TSD = 1 << 2
CR4_OSXSAVE = 1 << 18

INTEL = b"GenuineIntel"
AMD = (b"AuthenticAMD", b"HygonGenuine")


@dataclass(frozen=True)
class Effect:
    """What an instruction has done."""

    end: str
    """`done`, or the fault that it raised: `#UD`, `#GP(0)`; `at` tells where it is elsewhere."""
    exits: tuple[ExitReason | int, ...]
    """The exits that it caused, without the HLT after it."""
    gpr: Mapping[Gpr, int]
    frame: Frame | None
    """Of the fault."""

    @property
    def edx_eax(self) -> int:
        """EDX:EAX."""
        return self.gpr[Gpr.RDX] << 32 | self.gpr[Gpr.RAX]

    @property
    def abcd(self) -> tuple[int, int, int, int]:
        """What CPUID gave: RAX, RBX, RCX, RDX."""
        return (
            self.gpr[Gpr.RAX],
            self.gpr[Gpr.RBX],
            self.gpr[Gpr.RCX],
            self.gpr[Gpr.RDX],
        )


class Bench:
    """Instructions, each with its name as its label, on one machine with `Stubs`' handlers."""

    def __init__(
        self, vm: VirtualMachine, instructions: Mapping[str, str], /, *, user: bool = False
    ) -> None:
        """`user`: they run at CPL 3."""
        lines = (f"{name}:\n{text}\n{name}_after: hlt\n" for name, text in instructions.items())
        self.stubs = Stubs(vm, "".join(lines), user=user)
        self.guest = self.stubs.guest
        self._segments = {
            segment: self.stubs.registers.seg[segment] for segment in (Segment.CS, Segment.SS)
        }
        self._sp = USER_STACK if user else self.stubs.top

    def execute(
        self, name: str, registers: Mapping[Gpr, int] | None = None, *, flags: int = 0
    ) -> Effect:
        """Run the instruction called `name`; CS and SS are as at the beginning."""
        state = self.stubs.registers
        state.seg |= copy.deepcopy(self._segments)
        state.gpr |= registers or {}
        state.gpr |= {
            Gpr.RIP: self.guest.symbol(name),
            Gpr.RSP: self._sp,
            Gpr.RFLAGS: flags | 2,
        }
        latest = self.guest.latest
        seen = len(latest.reasons()) if latest else 0
        run = self.guest.run()
        exits = tuple(run.reasons()[seen:])
        after = self.guest.symbol(f"{name}_after")
        end, frame = f"{run.outcome}, RIP {run.rip}", None
        if run.reason is Stop.HALTED:
            exits = exits[:-1]
            if run.rip == after + 1:
                end = DONE
            elif self.stubs.stub(0) <= run.rip - 1 < self.stubs.stub(256):
                frame = self.stubs.frame()
                end = FAULTS.get(frame.vector, f"vector {frame.vector}")
                if frame.error is not None:
                    end += f"({frame.error:#x})" if frame.error else "(0)"
                if frame.ip == after and frame.vector == 13:
                    end, frame = DONE, None  # HLT is privileged
                elif frame.ip != self.guest.symbol(name):
                    end += f" at {run.address(frame.ip)}"
        return Effect(end, exits, dict(self.guest.registers.gpr), frame)

    def set_segment(self, segment: Segment, register: SegmentRegister) -> None:
        """CS or SS, for all that is executed from now on."""
        self._segments[segment] = register

    def set_cr4(self, set_bits: int = 0, clear_bits: int = 0) -> None:
        """Change CR4, from outside."""
        cr = self.stubs.registers.cr
        cr[Cr.CR4] = cr[Cr.CR4] & ~clear_bits | set_bits

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        """What the guest's CPUID gives; `instructions` has one called `cpuid`."""
        effect = self.execute("cpuid", {Gpr.RAX: leaf, Gpr.RCX: subleaf})
        if effect.end != DONE:
            raise AssertionError(f"CPUID of leaf {leaf:#x}: {effect.end}")
        return effect.abcd

    def vendor(self) -> bytes:
        """The processor's vendor, as CPUID says it."""
        return vendor(self.cpuid(0))


def vendor(leaf0: tuple[int, int, int, int]) -> bytes:
    """The twelve characters of leaf 0."""
    _, ebx, ecx, edx = leaf0
    return b"".join(one.to_bytes(4, "little") for one in (ebx, edx, ecx))
