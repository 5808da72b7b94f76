# SPDX-License-Identifier: BSD-2-Clause
"""A machine with one page and one vCPU in real mode, for the calls of libnvmm(3) themselves.

Nothing stands between the case and the library: no accelerator, no devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nvmmconf.suite import (
    PAGE_SIZE,
    BareExit,
    ExitReason,
    Gpr,
    HostMemory,
    InsnExit,
    InvalidExit,
    IoExit,
    Libnvmm,
    Machine,
    MemoryExit,
    Prot,
    RdmsrExit,
    Segment,
    StateFlag,
    Vcpu,
    WrmsrExit,
)

Exit = BareExit | MemoryExit | IoExit | RdmsrExit | WrmsrExit | InsnExit | InvalidExit

START = 0x100
"""Where the code is."""
STEP = b"\x40\xf4"
"""inc ax; hlt"""
PASSING = (ExitReason.NONE, ExitReason.STOPPED)
"""Exits that may come at any time (L-STOP-3)."""


def enter(vcpu: Vcpu) -> Exit:
    """Run `vcpu` until it exits.  AssertionError where it is stopped over and over."""
    stopped = 0
    while stopped < 100:
        taken = vcpu.run()
        if taken.reason not in PASSING:
            return taken
        stopped += taken.reason is ExitReason.STOPPED
    raise AssertionError("each run is STOPPED, and nobody stops it")


class RawGuest:
    """`code` at START, RIP on it; the page is at GPA 0, and zero elsewhere."""

    def __init__(self, library: Libnvmm, code: bytes) -> None:
        self.memory = HostMemory(PAGE_SIZE)
        self.machine = Machine(library)
        self.machine.hva_map(self.memory)
        prot = Prot.READ | Prot.WRITE | Prot.EXEC
        self.machine.gpa_map(self.memory.hva, 0, PAGE_SIZE, prot)
        self.memory.data[START : START + len(code)] = code
        self.vcpu = self.machine.create_vcpu(0)
        self.again()

    def __enter__(self) -> RawGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.destroy()
        self.memory.close()

    @staticmethod
    def aim(vcpu: Vcpu, rip: int, keep: Gpr | None = None) -> None:
        """Real mode at `rip` in segment 0, interrupts off, all other registers but `keep` 0."""
        vcpu.getstate(StateFlag.GPRS | StateFlag.SEGS)
        state = vcpu.state
        for index in Gpr:
            if index is not keep:
                state.gprs[index] = 0
        state.gprs[Gpr.RIP], state.gprs[Gpr.RFLAGS], state.gprs[Gpr.RSP] = rip, 2, 0x1000
        state.segs[Segment.CS].selector = state.segs[Segment.CS].base = 0
        vcpu.setstate(StateFlag.GPRS | StateFlag.SEGS)

    def again(self, keep: Gpr | None = None) -> None:
        """At START again."""
        self.aim(self.vcpu, START, keep)

    def gpr(self, index: Gpr) -> int:
        """A general register, as getstate tells it."""
        self.vcpu.getstate(StateFlag.GPRS)
        return self.vcpu.state.gprs[index]

    def rax(self) -> int:
        """RAX."""
        return self.gpr(Gpr.RAX)

    @contextmanager
    def renamed(self, cpuid: int) -> Iterator[None]:
        """Within it, calls about the vCPU name `cpuid`."""
        own = self.vcpu.raw.cpuid
        self.vcpu.raw.cpuid = cpuid
        try:
            yield
        finally:
            self.vcpu.raw.cpuid = own

    @contextmanager
    def elsewhere(self, machid: int) -> Iterator[None]:
        """Within it, calls name the machine `machid`."""
        own = self.machine.raw.machid
        self.machine.raw.machid = machid
        try:
            yield
        finally:
            self.machine.raw.machid = own
