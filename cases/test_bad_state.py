# SPDX-License-Identifier: BSD-2-Clause
"""State that nobody can run with, or not as it was set.

SDM 3C 26.2 and 26.3, APM 2 15.5.1; nvmm_vcpu_setstate() of libnvmm(3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from state_bench import (
    HALT,
    LONG,
    put_attribute,
    put_cr,
    put_dr,
    put_flags,
    put_msr,
    run_to_halt,
)

from nvmmconf.suite import (
    Cr,
    Dr,
    ExitReason,
    Gpr,
    InvalidExit,
    Msr,
    PreparedGuest,
    Segment,
    StateFlag,
    Vcpu,
    VirtualMachine,
    check,
    requirement,
)

# ---- bad state ----


@dataclass(frozen=True)
class Bad:
    """State that some processors refuse; `always`: all do."""

    group: StateFlag
    put: Callable[[Vcpu], None]
    always: bool = False
    shutdown: bool = False
    """Where it is not refused the guest may fall over it."""


CRS, MSR, SEG, DRS, GPR = (
    StateFlag.CRS,
    StateFlag.MSRS,
    StateFlag.SEGS,
    StateFlag.DRS,
    StateFlag.GPRS,
)
BAD = {
    "cr0-upper-half": Bad(CRS, put_cr(Cr.CR0, 1 << 32), True),
    "efer-upper-half": Bad(MSR, put_msr(Msr.EFER, 1 << 32), True),
    "efer-reserved": Bad(MSR, put_msr(Msr.EFER, 2), True),
    "dr7-upper-half": Bad(DRS, put_dr(Dr.DR7, 1 << 32), True),
    "long-mode-without-pae": Bad(CRS, put_cr(Cr.CR4, 0, 0x20), True),
    "cs-l-and-d": Bad(SEG, put_attribute(Segment.CS, default=1), True),
    "pat-type-2": Bad(MSR, put_msr(Msr.PAT, 2, 0xFF)),
    "cr0-nw-without-cd": Bad(CRS, put_cr(Cr.CR0, 1 << 29)),
    "dr6-upper-half": Bad(DRS, put_dr(Dr.DR6, 1 << 32)),
    "rflags-bit-1": Bad(GPR, put_flags(0, 2)),
    "rflags-bit-3": Bad(GPR, put_flags(8)),
    "rflags-bit-15": Bad(GPR, put_flags(1 << 15)),
    "cs-absent": Bad(SEG, put_attribute(Segment.CS, p=0), False, True),
    "tr-type": Bad(SEG, put_attribute(Segment.TR, type=2)),
    "tr-absent": Bad(SEG, put_attribute(Segment.TR, p=0)),
    "gdt-limit": Bad(SEG, put_attribute(Segment.GDT, limit=0x10000)),
    "fs-base": Bad(SEG, put_attribute(Segment.FS, base=1 << 63)),
    "limit-without-g": Bad(SEG, put_attribute(Segment.ES, limit=0xFFFFFFFF, g=0)),
    "lma-missing": Bad(MSR, put_msr(Msr.EFER, 0, 0x400), False, True),
    "pg-without-pe": Bad(CRS, put_cr(Cr.CR0, 0, 1), False, True),
    "svme": Bad(MSR, put_msr(Msr.EFER, 1 << 12)),
}
ALL_ONES, GUEST_STATE = 0xFFFF_FFFF_FFFF_FFFF, 33


def _entered(vm: VirtualMachine) -> PreparedGuest:
    """A guest that has been entered once already (kernel 14.1, 12), and stands before HLT."""
    guest = vm.prepare_code(HALT)
    run_to_halt(guest)
    return guest


@requirement("K-SET-21", "K-SET-22")
@LONG
@pytest.mark.parametrize("name", BAD)
def test_bad_state(vm: VirtualMachine, name: str) -> None:
    """State that the processor refuses is INVALID, and looks like no other exit (BH-91).

    What every processor refuses must be refused; the rest one vendor's takes.
    """
    bad = BAD[name]
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(bad.group)
    bad.put(vcpu)
    vcpu.setstate(bad.group)
    taken = guest.next_exit()
    if isinstance(taken, InvalidExit) or bad.always:
        check.equal(taken.reason, ExitReason.INVALID, "exit")
        hwcode = taken.hwcode if isinstance(taken, InvalidExit) else None
        check(hwcode in (ALL_ONES, GUEST_STATE), f"hardware code {hwcode}: guest state")
    else:
        allowed = [ExitReason.HALTED] + [ExitReason.SHUTDOWN] * bad.shutdown
        check(taken.reason in allowed, f"{taken.reason_name}: the guest ran")


@requirement("K-SET-21", "K-SET-22")
@LONG
@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.always])
def test_refused_state_executes_nothing(vm: VirtualMachine, name: str) -> None:
    """An entry that is refused changes nothing, and with good state the guest goes on."""
    bad = BAD[name]
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.ALL)
    good = vcpu.state_bytes()
    bad.put(vcpu)
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(bad.group | StateFlag.GPRS)
    check.equal(guest.next_exit().reason, ExitReason.INVALID, "exit")
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there"), "RIP")
    vcpu.put_state_bytes(good)
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(bad.group | StateFlag.GPRS)
    run_to_halt(guest)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there") + 2, "RIP with good state")


@requirement("K-SET-3", "K-SET-4")
@LONG
@pytest.mark.parametrize("bit", [13, 22, 31, 63])
def test_cr4_bits_that_nobody_offers_are_dropped(vm: VirtualMachine, bit: int) -> None:
    """CR4 bits that the kernel keeps from the guest (VMXE, PKE, ...) are gone when set (BH-76)."""
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.CRS)
    before = vcpu.state.crs[Cr.CR4]
    vcpu.state.crs[Cr.CR4] = before | 1 << bit
    vcpu.setstate(StateFlag.CRS)
    run_to_halt(guest)
    vcpu.getstate(StateFlag.CRS)
    check.equal(vcpu.state.crs[Cr.CR4], before, "CR4")


@requirement("K-SET-8")
@LONG
def test_svme_is_the_hosts(vm: VirtualMachine) -> None:
    """EFER.SVME that the caller sets is refused, or not to be seen afterwards (BH-68)."""
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.MSRS)
    vcpu.state.msrs[Msr.EFER] |= 1 << 12
    vcpu.setstate(StateFlag.MSRS)
    taken = guest.next_exit()
    check(taken.reason in (ExitReason.INVALID, ExitReason.HALTED), f"exit {taken.reason_name}")
    if taken.reason is ExitReason.HALTED:
        vcpu.getstate(StateFlag.MSRS)
        check.equal(vcpu.state.msrs[Msr.EFER] >> 12 & 1, 0, "SVME")


@requirement("K-SET-1")
@LONG
@pytest.mark.parametrize("rip", [1 << 47, 0xFFFF_7FFF_FFFF_FFFF])
def test_noncanonical_rip_faults_in_the_guest(vm: VirtualMachine, rip: int) -> None:
    """RIP that is not canonical is no bad state: the guest's fetch raises #GP(0)."""
    guest = vm.prepare_code("""
        IDT_SETUP
        EXPECT_FAULT 13, after
    ready:
        hlt
        FAIL    "no #GP"
    after:
        CHECK_MEM dword, [fault_error], 0, "error code"
        DONE
    """)
    guest.run()
    guest.registers.gpr[Gpr.RIP] = rip
    assert guest.run().done
