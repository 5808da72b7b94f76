# SPDX-License-Identifier: BSD-2-Clause
"""Section 9: a handler an exit."""

from __future__ import annotations

import enum
from collections.abc import Callable

from nvmmconf.abi import EventType, ExitReason, Gpr
from nvmmconf.accel import msrs
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu
from nvmmconf.nvmm import Exit, IoExit, MemoryExit, NvmmError, RdmsrExit, WrmsrExit

UD_VECTOR = 6
"""#UD, invalid opcode."""


class Next(enum.Enum):
    """What the inner loop does after an exit."""

    CONTINUE = enum.auto()
    LEAVE_HALTED = enum.auto()
    LEAVE = enum.auto()
    FATAL = enum.auto()


def handle(vcpu: AccelVcpu, taken: Exit) -> Next:
    """Do what the section's table says of `taken`."""
    handler = _HANDLERS.get(taken.reason, _unexpected)
    return handler(vcpu, taken)


def fatal(vcpu: AccelVcpu, message: str, taken: Exit | None) -> Next:
    """Report `message`, and tell the machine that the guest cannot go on, and why.

    It ends this machine's run and no more; the field's accelerator ends the
    process (BH-99).
    """
    accelerator = vcpu.accelerator
    accelerator.reports.error(message)
    vcpu.fetch()
    accelerator.control.panic(message, vcpu.fault(taken))
    return Next.FATAL


def _go_on(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-1 NONE; A-EXIT-5 INT_READY, NMI_READY, TPR_CHANGED: post_run has noted it."""
    return Next.CONTINUE


def _stopped(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-2."""
    vcpu.stopped = True
    return Next.CONTINUE


def _memory(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-3."""
    assert isinstance(taken, MemoryExit)
    try:
        vcpu.vcpu.assist_mem()
    except NvmmError as error:
        return fatal(vcpu, f"memory assist failed ({taken.detail()}): {error}", taken)
    return Next.CONTINUE


def _io(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-4."""
    assert isinstance(taken, IoExit)
    try:
        vcpu.vcpu.assist_io()
    except NvmmError as error:
        return fatal(vcpu, f"I/O assist failed ({taken.detail()}): {error}", taken)
    return Next.CONTINUE


def _halted(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-6."""
    journal = vcpu.accelerator.journal
    if journal is not None:
        with vcpu.accelerator.lock:
            journal.look(vcpu)
    interruptible = Request.HARD in vcpu.requests and vcpu.registers.interrupts_enabled
    if interruptible or Request.NMI in vcpu.requests:
        return Next.CONTINUE
    vcpu.halted = True
    return Next.LEAVE_HALTED


def _shutdown(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-7."""
    vcpu.accelerator.control.request_reset()
    return Next.LEAVE


def _rdmsr(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-8, A-MSR-4."""
    assert isinstance(taken, RdmsrExit)
    value = msrs.read(vcpu, taken.msr)
    results = {Gpr.RAX: value & 0xFFFFFFFF, Gpr.RDX: value >> 32, Gpr.RIP: taken.npc}
    return _set_gprs(vcpu, taken, results)


def _wrmsr(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-9, A-MSR-8."""
    assert isinstance(taken, WrmsrExit)
    msrs.write(vcpu, taken.msr, taken.value)
    return _set_gprs(vcpu, taken, {Gpr.RIP: taken.npc})


def _set_gprs(vcpu: AccelVcpu, taken: Exit, values: dict[Gpr, int]) -> Next:
    try:
        msrs.set_gprs(vcpu, values)
    except NvmmError as error:
        return fatal(vcpu, f"{taken.reason_name} ({taken.detail()}): {error}", taken)
    return Next.CONTINUE


def _undefined(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-10: the CPU that the guest sees has no MONITOR and MWAIT."""
    try:
        vcpu.inject(EventType.EXCP, UD_VECTOR)
    except NvmmError as error:
        return fatal(vcpu, f"{taken.reason_name} ({taken.detail()}): {error}", taken)
    return Next.CONTINUE


def _unexpected(vcpu: AccelVcpu, taken: Exit) -> Next:
    """A-EXIT-11: report reason and hardware code, fetch the registers, panic."""
    detail = taken.detail()
    vcpu.fetch()
    where = f"RIP {vcpu.registers.rip:#x}"
    what = f"{taken.reason_name}{f' ({detail})' if detail else ''}"
    return fatal(vcpu, f"unexpected exit {what} at {where}", taken)


_HANDLERS: dict[int, Callable[[AccelVcpu, Exit], Next]] = {
    ExitReason.NONE: _go_on,
    ExitReason.STOPPED: _stopped,
    ExitReason.MEMORY: _memory,
    ExitReason.IO: _io,
    ExitReason.INT_READY: _go_on,
    ExitReason.NMI_READY: _go_on,
    ExitReason.TPR_CHANGED: _go_on,
    ExitReason.HALTED: _halted,
    ExitReason.SHUTDOWN: _shutdown,
    ExitReason.RDMSR: _rdmsr,
    ExitReason.WRMSR: _wrmsr,
    ExitReason.MONITOR: _undefined,
    ExitReason.MWAIT: _undefined,
}
