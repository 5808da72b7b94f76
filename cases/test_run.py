# SPDX-License-Identifier: BSD-2-Clause
"""What every run promises, whatever its exit: libnvmm(3) nvmm_vcpu_run and `exit->exitstate`;
running on from where the guest is; errors that change nothing."""

from __future__ import annotations

import errno

import pytest
from raw_bench import START, STEP, RawGuest, enter

from nvmmconf.suite import (
    Cr,
    EventType,
    ExitReason,
    Gpr,
    IoExit,
    Libnvmm,
    MemoryExit,
    StateFlag,
    check,
    expect_errno,
    requirement,
)

EXITS = {
    "io": (bytes.fromhex("e640"), ExitReason.IO),
    "hlt": (b"\xf4", ExitReason.HALTED),
    "rdmsr": (bytes.fromhex("66b90301 00c0 0f32"), ExitReason.RDMSR),
    "wrmsr": (bytes.fromhex("66b90301 00c0 0f30"), ExitReason.WRMSR),
    "memory": (bytes.fromhex("a00020"), ExitReason.MEMORY),
}
"""Code (real mode), and how it exits."""
FLAGS = {"none": 2, "all-status": 0x8D7, "df": 0x402, "if": 0x202, "ac-id": 0x24_0002}


@requirement("K-RUN-10")
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("kind", EXITS)
def test_exitstate_tells_rflags(library: Libnvmm, kind: str, flags: str) -> None:
    """exitstate.rflags is the guest's RFLAGS, and what getstate tells."""
    code, reason = EXITS[kind]
    with RawGuest(library, code) as guest:
        guest.vcpu.state.gprs[Gpr.RFLAGS] = FLAGS[flags]
        guest.vcpu.setstate(StateFlag.GPRS)
        taken = enter(guest.vcpu)
        check.equal(taken.reason, reason, "exit")
        rf = 1 << 16  # may be set where the kernel had to fill in a page (K-INJ-7)
        check.equal(taken.state.rflags & ~rf, FLAGS[flags], "exitstate")
        check.equal(taken.state.rflags, guest.gpr(Gpr.RFLAGS), "exitstate and getstate")


@requirement("K-RUN-11", "K-RUN-10")
@pytest.mark.parametrize("cr8", [1, 8, 15])
@pytest.mark.parametrize("kind", EXITS)
def test_exitstate_tells_cr8(library: Libnvmm, kind: str, cr8: int) -> None:
    """exitstate.cr8 is the guest's CR8."""
    with RawGuest(library, EXITS[kind][0]) as guest:
        guest.vcpu.getstate(StateFlag.CRS)
        guest.vcpu.state.crs[Cr.CR8] = cr8
        guest.vcpu.setstate(StateFlag.CRS)
        taken = enter(guest.vcpu)
        check.equal(taken.reason, EXITS[kind][1], "exit")
        check.equal(taken.state.cr8, cr8, "exitstate")
        guest.vcpu.getstate(StateFlag.CRS)
        check.equal(guest.vcpu.state.crs[Cr.CR8], cr8, "getstate")


@requirement("K-RUN-11")
@pytest.mark.parametrize("window", ["none", "int", "nmi-blocked"])
@pytest.mark.parametrize("kind", ["io", "rdmsr", "memory"])
def test_exitstate_tells_the_windows(library: Libnvmm, kind: str, window: str) -> None:
    """exitstate's window bits are what getstate tells of them."""
    with RawGuest(library, EXITS[kind][0]) as guest:
        enter(guest.vcpu)  # the page is there now: see nvmm-kernel 14.1, 18
        guest.again()
        if window == "int":
            guest.vcpu.getstate(StateFlag.INTR)
            guest.vcpu.state.intr.int_window_exiting = 1
            guest.vcpu.setstate(StateFlag.INTR)
        if window == "nmi-blocked":  # NMI arms the window; its handler does not return
            guest.memory.data[8:12] = START.to_bytes(2, "little") + b"\0\0"
            guest.vcpu.inject(EventType.INTR, 2)
        taken = enter(guest.vcpu)
        check.equal(taken.reason, EXITS[kind][1], "exit")
        check.equal(taken.state.int_window_exiting, window == "int", "interrupt window")
        check.equal(taken.state.nmi_window_exiting, window == "nmi-blocked", "NMI window")
        guest.vcpu.getstate(StateFlag.INTR)
        intr = guest.vcpu.state.intr
        told = (intr.int_shadow, intr.int_window_exiting, intr.nmi_window_exiting, intr.evt_pending)
        seen = taken.state
        bits = (
            *(seen.int_shadow, seen.int_window_exiting),
            *(seen.nmi_window_exiting, seen.evt_pending),
        )
        check.equal(tuple(bool(one) for one in told), bits, "getstate")


@requirement("K-RUN-13", "L-RUN-2")
@pytest.mark.parametrize("kind", ["io", "rdmsr", "wrmsr", "memory"])
def test_exit_that_nobody_handles_comes_again(library: Libnvmm, kind: str) -> None:
    """Where the caller does nothing about an exit that left RIP alone, the same one comes again."""
    with RawGuest(library, EXITS[kind][0]) as guest:
        first = enter(guest.vcpu)
        rip = guest.gpr(Gpr.RIP)
        check.equal(first.reason, EXITS[kind][1], "exit")
        check.equal(enter(guest.vcpu), first, "second exit")
        check.equal(guest.gpr(Gpr.RIP), rip, "RIP")


@requirement("K-RUN-13", "K-IO-2")
def test_caller_goes_past_an_exit(library: Libnvmm) -> None:
    """With RIP set to npc the guest goes on after the instruction."""
    with RawGuest(library, EXITS["io"][0] + STEP) as guest:
        taken = enter(guest.vcpu)
        assert isinstance(taken, IoExit)
        check.equal(taken.npc, START + 2, "npc")
        guest.vcpu.getstate(StateFlag.GPRS)
        guest.vcpu.state.gprs[Gpr.RIP] = taken.npc
        guest.vcpu.setstate(StateFlag.GPRS)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        check.equal(guest.rax(), 1, "RAX")


@requirement("K-RUN-13", "K-MEM-23")
def test_memory_exit_is_over_when_there_is_memory(library: Libnvmm) -> None:
    """After a MEMORY exit the caller can map memory, and the guest goes on with it."""
    with RawGuest(library, EXITS["memory"][0] + b"\xf4") as guest:
        taken = enter(guest.vcpu)
        assert isinstance(taken, MemoryExit)
        size = guest.memory.size
        guest.memory.data[0] = 0x5A
        prot = guest.machine.gpa_to_hva(0)[1]
        guest.machine.gpa_map(guest.memory.hva, taken.gpa & ~0xFFF, size, prot)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        check.equal(guest.rax() & 0xFF, 0x5A, "AL")


@requirement("K-RUN-12", "L-ST-7")
@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("why", ["bad-event", "no-vcpu", "no-machine"])
def test_run_that_fails_leaves_the_exit_alone(library: Libnvmm, kind: str, why: str) -> None:
    """Where nvmm_vcpu_run fails, the exit structure holds what it held before."""
    with RawGuest(library, EXITS[kind][0]) as guest:
        before = enter(guest.vcpu)
        match why:
            case "bad-event":
                guest.vcpu.inject(EventType.EXCP, 40)
                with expect_errno(errno.EINVAL):
                    while True:  # a run may end before it looks at the event
                        before = guest.vcpu.run()
            case "no-vcpu":
                with guest.renamed(9), expect_errno(errno.ENOENT):
                    guest.vcpu.run()
            case "no-machine":
                with guest.elsewhere(1 << 16), expect_errno(errno.EINVAL):
                    guest.vcpu.run()
        check.equal(guest.vcpu.last_exit, before, "exit structure")
