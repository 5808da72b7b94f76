# SPDX-License-Identifier: BSD-2-Clause
"""Sections 6, 7 and 8: whether an event can go in, and what is done around each entry."""

from __future__ import annotations

from nvmmconf.abi import Cr, EventType, Gpr, StateFlag
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu
from nvmmconf.nvmm import Exit, NvmmError

NMI_VECTOR = 2


def can_take_int(vcpu: AccelVcpu) -> bool:
    """A-EVT-1 to A-EVT-3; where the guest is not ready an interrupt-window exit is asked for."""
    if vcpu.int_window_exiting:
        return False
    if vcpu.int_shadow or not vcpu.registers.interrupts_enabled:  # A-EVT-2
        ask_for_int_window(vcpu)
        return False
    return True


def ask_for_int_window(vcpu: AccelVcpu) -> None:
    """Have an exit made as soon as the guest would take an interrupt.  Raises NvmmError."""
    if vcpu.int_window_exiting:
        return
    vcpu.vcpu.getstate(StateFlag.INTR)
    vcpu.vcpu.state.intr.int_window_exiting = 1
    vcpu.vcpu.setstate(StateFlag.INTR)
    vcpu.int_window_exiting = True


def can_take_nmi(vcpu: AccelVcpu) -> bool:
    """A-EVT-4: not between an NMI and the end of its handler."""
    return not vcpu.nmi_window_exiting


def pre_run(vcpu: AccelVcpu) -> None:
    """Section 7: bring the TPR up to date and choose at most one event (A-PRE-1 to A-PRE-9)."""
    with vcpu.accelerator.lock:
        try:
            _pre_run(vcpu)
        except NvmmError as error:
            vcpu.accelerator.reports.error(f"before entry: {error}")


def _pre_run(vcpu: AccelVcpu) -> None:
    if vcpu.accelerator.journal is not None:
        vcpu.accelerator.journal.look(vcpu)
    if vcpu.apic is not None and vcpu.apic.tpr != vcpu.tpr:
        vcpu.tpr = vcpu.apic.tpr
        vcpu.tpr_changed = True
    if vcpu.requests & (Request.INIT | Request.TPR):  # A-PRE-2
        vcpu.exit_request = True
    # The kernel has room for one event.  One given to a run that did not enter
    # waits there (K-RUN-6), and so does one whose delivery was cut short (BH-80):
    # a second would take its place (L-EVT-2, K-INJ-13).
    if vcpu.event_in_flight:
        if Request.HARD in vcpu.requests and vcpu.apic is not None:
            ask_for_int_window(vcpu)
    elif Request.NMI in vcpu.requests and can_take_nmi(vcpu):  # A-PRE-3; A-PRE-5: one of them
        vcpu.requests &= ~Request.NMI
        vcpu.inject(EventType.INTR, NMI_VECTOR)
    # A-PRE-4.  Off the line first: the acknowledge may drive it again.
    elif Request.HARD in vcpu.requests and vcpu.apic is not None and can_take_int(vcpu):
        vcpu.requests &= ~Request.HARD
        vector = vcpu.apic.acknowledge()
        if vector is not None:
            vcpu.inject(EventType.INTR, vector)
    vcpu.requests &= ~Request.SMI
    if vcpu.tpr_changed:  # A-PRE-7
        vcpu.vcpu.getstate(StateFlag.CRS)
        vcpu.vcpu.state.crs[Cr.CR8] = vcpu.tpr
        vcpu.vcpu.setstate(StateFlag.CRS)
        vcpu.tpr_changed = False


def post_run(vcpu: AccelVcpu, taken: Exit) -> None:
    """Section 8: what every return tells (A-POST-1, A-POST-2)."""
    state = taken.state
    if state.rflags == 0:
        # Bit 1 of RFLAGS is always set: the guest was not entered, and all of
        # it is zero without having become so (L-RUN-3).  The field's accelerator
        # takes it for the guest's: the local APIC's TPR becomes 0, and what it
        # held back arrives (BH-50, BH-107).
        return
    vcpu.event_in_flight = state.evt_pending
    vcpu.registers.gpr[Gpr.RFLAGS] = state.rflags
    vcpu.int_shadow = state.int_shadow
    vcpu.int_window_exiting = state.int_window_exiting
    vcpu.nmi_window_exiting = state.nmi_window_exiting
    if state.cr8 != vcpu.tpr:
        vcpu.set_tpr(state.cr8)
