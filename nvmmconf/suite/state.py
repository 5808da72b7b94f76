# SPDX-License-Identifier: BSD-2-Clause
"""A vCPU's whole state in the kernel, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nvmmconf.abi import Cr, Dr, Gpr, Msr, Segment, StateFlag
from nvmmconf.accel.registers import FpuRegisters, Registers, SegmentRegister, get_registers
from nvmmconf.nvmm import Vcpu


@dataclass(frozen=True)
class InterruptState:
    """`state.intr`: shadow, windows, and whether an event waits for the next entry."""

    int_shadow: bool
    int_window_exiting: bool
    nmi_window_exiting: bool
    evt_pending: bool


@dataclass(frozen=True)
class KernelState:
    """All that nvmm_vcpu_getstate() tells, in the form of `accel.Registers`."""

    gpr: Mapping[Gpr, int]
    seg: Mapping[Segment, SegmentRegister]
    cr: Mapping[Cr, int]
    """CR8 and XCR0 too."""
    dr: Mapping[Dr, int]
    msr: Mapping[Msr, int]
    fpu: FpuRegisters
    intr: InterruptState


def kernel_state(vcpu: Vcpu) -> KernelState:
    """Return the state that `vcpu` has now.  Raises NvmmError."""
    registers = Registers()
    cr8 = get_registers(vcpu, registers)
    vcpu.getstate(StateFlag.INTR)
    intr = vcpu.state.intr
    return KernelState(
        gpr=registers.gpr,
        seg=registers.seg,
        cr=registers.cr | {Cr.CR8: cr8},
        dr=registers.dr,
        msr=registers.msr,
        fpu=registers.fpu,
        intr=InterruptState(
            bool(intr.int_shadow),
            bool(intr.int_window_exiting),
            bool(intr.nmi_window_exiting),
            bool(intr.evt_pending),
        ),
    )
