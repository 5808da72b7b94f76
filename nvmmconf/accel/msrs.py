# SPDX-License-Identifier: BSD-2-Clause
"""Section 10: MSRs that reach userland."""

from __future__ import annotations

from nvmmconf.abi import Gpr, StateFlag
from nvmmconf.accel.vcpu import AccelVcpu

IA32_APIC_BASE = 0x1B
IA32_MTRRCAP = 0xFE
IA32_MCG_CAP = 0x179
IA32_MCG_STATUS = 0x17A
IA32_MTRR_DEF_TYPE = 0x2FF

APIC_BASE_RESET = 0xFEE00900
"""Enabled, bootstrap processor (SDM 3A 11.4.4): what a board without a local APIC shows."""

_READ_AS_ZERO = frozenset({IA32_MTRRCAP, IA32_MTRR_DEF_TYPE, IA32_MCG_CAP, IA32_MCG_STATUS})
_WRITES_IGNORED = frozenset({IA32_MTRR_DEF_TYPE, IA32_MCG_STATUS})

RFLAGS_RF = 1 << 16


def read(vcpu: AccelVcpu, msr: int) -> int:
    """Return what RDMSR reads (A-MSR-1 to A-MSR-3)."""
    if msr == IA32_APIC_BASE:
        if vcpu.apic is None:
            return APIC_BASE_RESET
        with vcpu.accelerator.lock:
            return vcpu.apic.base
    if msr not in _READ_AS_ZERO:  # A-MSR-2
        vcpu.accelerator.reports.warning(f"unexpected RDMSR {msr:#x}, answered with 0")
    return 0


def write(vcpu: AccelVcpu, msr: int, value: int) -> None:
    """Carry out WRMSR (A-MSR-5 to A-MSR-7)."""
    if msr == IA32_APIC_BASE:
        if vcpu.apic is not None:
            try:
                with vcpu.accelerator.lock:
                    vcpu.apic.base = value
            except ValueError as error:  # reserved bits: A-MSR-5 knows no #GP
                vcpu.accelerator.reports.warning(f"WRMSR ignored: {error}")
    elif msr not in _WRITES_IGNORED:  # A-MSR-6
        vcpu.accelerator.reports.warning(f"unexpected WRMSR {msr:#x} := {value:#x}, ignored")


def set_gprs(vcpu: AccelVcpu, values: dict[Gpr, int]) -> None:
    """Change some of the kernel's GPRs, as the instruction that exited would have
    (A-MSR-4, A-MSR-8): RF and the interrupt shadow end with it.  Raises NvmmError.
    """
    vcpu.vcpu.getstate(StateFlag.GPRS)
    for gpr, value in values.items():
        vcpu.vcpu.state.gprs[gpr] = value
    vcpu.vcpu.state.gprs[Gpr.RFLAGS] &= ~RFLAGS_RF
    vcpu.vcpu.setstate(StateFlag.GPRS)
    if vcpu.int_shadow:
        # The field's accelerator leaves it, and holds interrupts back one instruction too long.
        vcpu.vcpu.getstate(StateFlag.INTR)
        vcpu.vcpu.state.intr.int_shadow = 0
        vcpu.vcpu.setstate(StateFlag.INTR)
        vcpu.int_shadow = False
