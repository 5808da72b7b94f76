# SPDX-License-Identifier: BSD-2-Clause
"""Section 12: the loop of a vCPU's thread."""

from __future__ import annotations

import enum
import errno
from time import monotonic_ns
from typing import TYPE_CHECKING

from nvmmconf.abi import Cr, ExitReason, Gpr, Msr, Segment
from nvmmconf.accel import events, exits
from nvmmconf.accel.exits import Next
from nvmmconf.accel.registers import Registers, SegmentRegister
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu
from nvmmconf.nvmm import Exit, NvmmError
from nvmmconf.trace import Trace

if TYPE_CHECKING:
    from nvmmconf.accel.accelerator import Accelerator


class LoopExit(enum.Enum):
    """Why the outer call returned: its "pending exception"."""

    INTERRUPT = enum.auto()
    HALTED = enum.auto()
    FATAL = enum.auto()


def exec_vcpu(accelerator: Accelerator, vcpu: AccelVcpu) -> LoopExit:
    """A-LOOP-6: run until something wants the emulator; called with the big lock held."""
    vcpu.enter_thread()
    try:
        why = None
        while why is None:
            why = _loop(accelerator, vcpu)
        return why
    finally:
        vcpu.leave_thread()


def _loop(accelerator: Accelerator, vcpu: AccelVcpu) -> LoopExit | None:
    _take_requests(vcpu)
    if vcpu.halted:  # A-LOOP-2
        vcpu.exit_request = False
        return LoopExit.HALTED
    accelerator.lock.release()
    try:
        return _inner(accelerator, vcpu)
    finally:
        accelerator.lock.acquire()
        vcpu.exit_request = False  # A-LOOP-5


def _take_requests(vcpu: AccelVcpu) -> None:
    """A-LOOP-1: what is done before the inner loop, in this order."""
    if vcpu.accelerator.journal is not None:
        vcpu.accelerator.journal.look(vcpu)
    if Request.INIT in vcpu.requests:
        vcpu.synchronize()
        vcpu.requests &= ~Request.INIT
        take_init(vcpu)
    if Request.POLL in vcpu.requests:
        vcpu.requests &= ~Request.POLL
        if vcpu.apic is not None:
            vcpu.apic.poll()
    interruptible = Request.HARD in vcpu.requests and vcpu.registers.interrupts_enabled
    if (interruptible or Request.NMI in vcpu.requests) and not vcpu.waiting_for_sipi:
        vcpu.halted = False
    if Request.SIPI in vcpu.requests:
        vcpu.synchronize()
        vcpu.requests &= ~Request.SIPI  # BH-95: left pending by the field's, taken for ever
        vcpu.halted = vcpu.waiting_for_sipi = False
        start_at_sipi_vector(vcpu.registers, vcpu.sipi_vector)
    if Request.TPR in vcpu.requests:
        vcpu.requests &= ~Request.TPR
        vcpu.synchronize()


def take_init(vcpu: AccelVcpu) -> None:
    """Put the CPU into the state that INIT gives; an application processor then waits for SIPI.

    The registers must be synchronised.  A failure is reported.
    """
    try:
        vcpu.withdraw_event()
        vcpu.forget_windows()
    except NvmmError as error:
        vcpu.accelerator.reports.error(f"at INIT: {error}")
    vcpu.requests &= ~Request.NMI
    vcpu.waiting_for_sipi = vcpu.halted = not vcpu.is_bootstrap
    if vcpu.apic is not None:
        vcpu.apic.init()
    vcpu.tpr = 0 if vcpu.apic is None else vcpu.apic.tpr
    reset_to_init(vcpu.registers)


def _inner(accelerator: Accelerator, vcpu: AccelVcpu) -> LoopExit | None:
    """A-LOOP-3: the passes, without the big lock."""
    trace = accelerator.trace
    while True:
        if vcpu.dirty:
            vcpu.push()
        if vcpu.stopped:
            vcpu.stopped = False
            return LoopExit.INTERRUPT
        events.pre_run(vcpu)
        # A-LOOP-4: read before the kernel reads its stop word, and kept until it
        # was acted on: the word is cleared by every run, also for a stop that
        # came too late for it (BH-51a), and the field once read the two in the
        # other order (BH-104).  Cleared by _loop.
        if vcpu.exit_request:
            if not vcpu.has_stop:  # version 1 does not even have the function (BH-96)
                # A signal is gone once handled (L-STOP-5), so version 1 would
                # have nothing left to return for: do not enter at all.
                return LoopExit.INTERRUPT
            vcpu.vcpu.stop()
        try:
            taken = vcpu.vcpu.run()
        except NvmmError as error:  # A-EXIT-12
            if error.errno in _RUN_AGAIN:
                continue
            exits.fatal(vcpu, f"failed to execute a virtual CPU: {error}", None)
            return LoopExit.FATAL
        events.post_run(vcpu, taken)
        what = exits.handle(vcpu, taken) if trace is None else _handle_traced(vcpu, taken, trace)
        if what is not Next.CONTINUE:
            return _LEAVING[what]


# The host wanted something first, as NONE says elsewhere: one line of kernels
# returns its "restart the call" to the caller (BH-108), under a number of its own.
_RUN_AGAIN = frozenset({errno.EINTR, getattr(errno, "ERESTART", -1), -1})

_LEAVING = {
    Next.LEAVE: LoopExit.INTERRUPT,
    Next.LEAVE_HALTED: LoopExit.HALTED,
    Next.FATAL: LoopExit.FATAL,
}


# Exits that come with the GPRs (L-ST-6): only there they can be told without a
# call that a run without a trace would not make.
_GPRS_PROVIDED = frozenset((ExitReason.MEMORY, ExitReason.IO, ExitReason.RDMSR, ExitReason.WRMSR))


def _handle_traced(vcpu: AccelVcpu, taken: Exit, trace: Trace) -> Next:
    """Handle the exit and record it, with the registers before it was handled."""
    event = None
    if vcpu.event is not None and not vcpu.event_in_flight:
        event, vcpu.event = vcpu.event, None
    now = monotonic_ns()
    image = None
    if trace.full or taken.reason in _GPRS_PROVIDED:
        image = _image(vcpu, trace)
    what = exits.handle(vcpu, taken)
    if image is None and what is not Next.CONTINUE:
        image = _image(vcpu, trace)  # fetched now in any case
    trace.record(vcpu.index, taken, image, now, event)
    return what


def _image(vcpu: AccelVcpu, trace: Trace) -> bytes | None:
    try:
        vcpu.vcpu.getstate(trace.parts)
    except NvmmError as error:
        vcpu.accelerator.reports.error(f"no registers for the trace: {error}")
        return None
    return vcpu.vcpu.state_bytes() if trace.full else vcpu.vcpu.gpr_bytes()


def reset_to_init(registers: Registers) -> None:
    """INIT: as after power-up, but x87, SSE and MSRs are kept (SDM 3A table 10-1).

    Not EFER: without paging there is no long mode (APM 2, 14.1.3).
    """
    fresh = Registers()
    registers.gpr = fresh.gpr | {Gpr.RIP: 0xFFF0, Gpr.RDX: 0x600}
    registers.cr = fresh.cr | {Cr.CR0: 0x60000010}
    registers.dr = fresh.dr
    registers.msr = registers.msr | {Msr.EFER: 0}
    registers.seg = {segment: SegmentRegister.data(0) for segment in Segment} | {
        Segment.CS: SegmentRegister.code(0xF000, 0xFFFF0000),
        Segment.LDT: SegmentRegister(flags=0x8200),
        Segment.TR: SegmentRegister(flags=0x8300),
    }


def start_at_sipi_vector(registers: Registers, vector: int) -> None:
    """SIPI: real mode at `vector` * 4 KiB (SDM 3A 9.4.4.1)."""
    registers.seg[Segment.CS] = SegmentRegister.code(vector << 8, vector << 12)
    registers.gpr[Gpr.RIP] = 0
