# SPDX-License-Identifier: BSD-2-Clause
"""SYSCALL, SYSRET, SYSENTER, SWAPGS: that the MSRs behind them mean what they should.

SDM 2B and APM 3, under the names of the instructions.
"""

from __future__ import annotations

import pytest
from insn_bench import AMD, INTEL, Bench
from msr_bench import (
    CODE,
    GS_BASE,
    KEPT,
    KERNEL_GS_BASE,
    write_msr,
)

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Mode,
    Msr,
    Segment,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)
from nvmmconf.suite.stubs import INNER_STACK

EFER_SCE = 1

# ---- system calls ----

KERNEL_CS, KERNEL_SS = 0x10, 0x18
USER_BASE = 0x23


def _system_call(vm: VirtualMachine, insn: str, **msrs: int) -> tuple[Stubs, dict[Gpr, int]]:
    stubs = Stubs(vm, f"insn: {insn}\nreturn_here: hlt\ntarget: hlt\n")
    registers = stubs.registers
    for name, value in msrs.items():
        registers.msr[KEPT[name][1]] = value
    registers.msr[Msr.EFER] |= EFER_SCE
    return stubs, registers.gpr


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("mask", [0, 0x1, 0x200, 0x400, 0x40000, 0x3F7FD5])
def test_syscall_uses_star_lstar_and_sfmask(vm: VirtualMachine, mask: int) -> None:
    """SYSCALL: RIP of LSTAR, CS and SS of STAR, RFLAGS without SFMASK's, RCX and R11 (SDM 2)."""
    stubs, gpr = _system_call(vm, "syscall", star=KERNEL_CS << 32, sfmask=mask)
    stubs.registers.msr[Msr.LSTAR] = stubs.symbol("target")
    flags = 0x40000 | 0x400 | 0x200 | 0x1 | 0x2
    gpr |= {Gpr.RIP: stubs.symbol("insn"), Gpr.RFLAGS: flags}
    run = stubs.run()
    after = run.registers
    check.equal(run.rip, run.symbol("target") + 1, "RIP")
    check.equal(after.gpr[Gpr.RCX], stubs.symbol("return_here"), "RCX")
    check.equal(after.gpr[Gpr.R11] & ~0x10000, flags, "R11")
    check.equal(after.gpr[Gpr.RFLAGS], flags & ~mask | 2, "RFLAGS")
    check.equal(after.seg[Segment.CS].selector, KERNEL_CS, "CS")
    check.equal(after.seg[Segment.SS].selector, KERNEL_CS + 8, "SS")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-MSR-6")
@modes(Mode.COMPAT32)
def test_syscall_from_compatibility_mode(vm: VirtualMachine) -> None:
    """SYSCALL from compatibility mode goes to CSTAR on AMD, and is #UD on Intel (SDM 2)."""
    vendor = Bench(vm, CODE).vendor()
    stubs, gpr = _system_call(vm, "syscall", star=0x18 << 32)
    stubs.registers.msr[Msr.CSTAR] = stubs.symbol("target")
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    if vendor in AMD:
        run = stubs.run()
        check.equal(run.rip, run.symbol("target") + 1, "RIP")
        check.equal(run.registers.gpr[Gpr.RCX], stubs.symbol("return_here"), "RCX")
    else:
        check.equal(stubs.take().vector, 6, "exception")


@requirement("K-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["syscall", "sysretq"])
def test_syscall_without_sce_is_undefined(vm: VirtualMachine, insn: str) -> None:
    """SYSCALL and SYSRET with EFER.SCE clear are #UD."""
    stubs = Stubs(vm, f"insn: {insn}\nhlt\n")
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("insn")}
    frame = stubs.take()
    assert (frame.vector, frame.error, frame.ip) == (6, None, stubs.symbol("insn"))


@requirement("K-MSR-6")
@modes(Mode.LONG64)
def test_sysret_uses_star(vm: VirtualMachine) -> None:
    """SYSRET with REX.W: CPL 3, CS and SS of STAR's upper half plus 16 and 8, RIP, RFLAGS."""
    stubs, gpr = _system_call(vm, "sysretq", star=USER_BASE << 48)
    gpr |= {Gpr.RIP: stubs.symbol("insn"), Gpr.RCX: stubs.symbol("target"), Gpr.R11: 0x402}
    stubs.run()
    frame = stubs.frame(INNER_STACK)
    check.equal(frame.vector, 13, "HLT at CPL 3")
    check.equal(frame.ip, stubs.symbol("target"), "RIP")
    check.equal(frame.cs, USER_BASE + 16 | 3, "CS")
    check.equal(frame.ss, USER_BASE + 8 | 3, "SS")
    check.equal(frame.flags & ~0x10000, 0x402, "RFLAGS")


@requirement("K-MSR-6")
@modes(Mode.LONG64)
def test_swapgs_exchanges_two_msrs(vm: VirtualMachine) -> None:
    """SWAPGS exchanges GSBASE and KERNELGSBASE, all 64 bits, without exit."""
    bench = Bench(vm, CODE | {"swapgs": "swapgs"})
    write_msr(bench, GS_BASE, 0x00007FFF00001000)
    write_msr(bench, KERNEL_GS_BASE, 0xFFFF888012340000)
    stubs = bench.stubs
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("swapgs")}
    run = stubs.run()
    check.equal(run.rip, run.symbol("swapgs_after") + 1, "RIP")
    check.equal(run.state.seg[Segment.GS].base, 0xFFFF888012340000, "GS's base")
    check.equal(run.state.msr[Msr.KERNELGSBASE], 0x00007FFF00001000, "KERNELGSBASE")


@requirement("K-MSR-6")
@modes(Mode.PROT32, Mode.LONG64)
def test_sysenter_uses_its_three_msrs(vm: VirtualMachine) -> None:
    """SYSENTER: CS, SS, RSP, RIP of its MSRs; in long mode on AMD it is #UD (APM 3)."""
    vendor = Bench(vm, CODE).vendor()
    stubs, gpr = _system_call(vm, "sysenter", sysenter_cs=0x10, sysenter_esp=0x6800)
    stubs.registers.msr[Msr.SYSENTER_EIP] = stubs.symbol("target")
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    if vm.mode is Mode.LONG64 and vendor != INTEL:
        check.equal(stubs.take().vector, 6, "exception")
        return
    run = stubs.run()
    check.equal(run.rip, run.symbol("target") + 1, "RIP")
    check.equal(run.registers.gpr[Gpr.RSP], 0x6800, "RSP")
    check.equal(run.registers.seg[Segment.CS].selector, 0x10, "CS")
    check.equal(run.registers.seg[Segment.SS].selector, 0x18, "SS")


@requirement("K-MSR-6")
@modes(Mode.PROT32)
@pytest.mark.parametrize("selector", [0, 3])
def test_sysenter_without_cs(vm: VirtualMachine, selector: int) -> None:
    """SYSENTER with a null selector in SYSENTER_CS is #GP(0)."""
    stubs, gpr = _system_call(vm, "sysenter", sysenter_cs=selector)
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    frame = stubs.take()
    assert (frame.vector, frame.error, frame.ip) == (13, 0, stubs.symbol("insn"))
