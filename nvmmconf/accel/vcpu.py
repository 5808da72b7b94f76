# SPDX-License-Identifier: BSD-2-Clause
"""Section 2: a vCPU as the emulator holds it; and the dirty flag's section 5."""

from __future__ import annotations

import enum
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from nvmmconf.abi import EventType, VcpuConfSupport
from nvmmconf.accel import callbacks, kick
from nvmmconf.accel.registers import Registers, get_registers, set_registers
from nvmmconf.board.interfaces import InterruptController
from nvmmconf.nvmm import CpuidMask, NvmmError, Vcpu

if TYPE_CHECKING:
    from nvmmconf.accel.accelerator import Accelerator

log = logging.getLogger(__name__)

# CPUID leaf 1 EDX: MCE (7), MCA (14), MTRR (12), which the kernel hides (A-VCPU-4).
_MCE_MCA_MTRR = CpuidMask(leaf=1, set_bits=(0, 0, 0, 1 << 7 | 1 << 14 | 1 << 12))


class Request(enum.Flag):
    """Asynchronous events pending on a vCPU."""

    HARD = enum.auto()
    """The interrupt controller has an interrupt."""
    NMI = enum.auto()
    SMI = enum.auto()
    INIT = enum.auto()
    SIPI = enum.auto()
    POLL = enum.auto()
    """The local APIC wants to be polled."""
    TPR = enum.auto()
    """A TPR access is to be reported."""


class AccelVcpu:
    """One vCPU: libnvmm's record, the emulator's registers, and who is newer.

    Made by `Accelerator.create_vcpu`.  `registers` may be read and written by
    the vCPU's own thread while it is not running, after `synchronize`.
    """

    def __init__(
        self, accelerator: Accelerator, vcpu: Vcpu, apic: InterruptController | None
    ) -> None:
        self.accelerator = accelerator
        self.vcpu = vcpu
        self.apic = apic
        self.registers = Registers()
        self.dirty = True
        """The emulator's registers are newer than the kernel's (A-VCPU-8)."""
        self.tpr = 0
        """The accelerator's own copy of the TPR (A-REG-4)."""
        self.tpr_changed = False
        self.int_shadow = False
        self.int_window_exiting = False
        self.nmi_window_exiting = False
        self.event_in_flight = False
        """An event was given to the kernel, and no run has entered the guest since."""
        self.requests = Request(0)
        self.sipi_vector = 0
        self.halted = False
        self.stopped = False
        self.exit_request = False
        self._thread: int | None = None

    @classmethod
    def create(
        cls, accelerator: Accelerator, index: int, apic: InterruptController | None
    ) -> AccelVcpu:
        """A-VCPU-1 to A-VCPU-8.

        Raises NvmmError; what was made is freed.  A-VCPU-2 (a migration blocker)
        has no counterpart: this emulator cannot migrate, so there is nothing to block.
        """
        raw = accelerator.machine.create_vcpu(index)
        self = cls(accelerator, raw, apic)
        try:
            raw.configure_cpuid(_MCE_MCA_MTRR)
            raw.configure_callbacks(
                io=partial(callbacks.io, self), mem=partial(callbacks.mem, self)
            )
            if VcpuConfSupport.TPR in accelerator.capability.vcpu_conf_support:
                raw.configure_tpr(exit_changed=True)
        except NvmmError:
            raw.destroy()
            raise
        kick.register(self)
        return self

    def destroy(self) -> None:
        """A-VCPU-9.  Idempotent."""
        kick.unregister(self)
        self.vcpu.destroy()

    # ---- section 5: who is newer ----

    def synchronize(self) -> None:
        """A-SYNC-1: fetch the kernel's registers unless the emulator's are newer already.

        To be called on the vCPU's thread; afterwards the emulator may change them.
        """
        if not self.dirty and self.fetch():
            self.dirty = True

    def fetch(self) -> bool:
        """Bring `registers` up to date to be read, not changed: nothing is pushed for it.

        False where the kernel refused, which is reported (A-REG-9).
        """
        if self.dirty:
            return True
        try:
            tpr = get_registers(self.vcpu, self.registers)
        except NvmmError as error:
            log.error("NVMM: failed to get virtual processor context: %s", error)
            return False
        if tpr != self.tpr:  # A-REG-11
            self.set_tpr(tpr)
        return True

    def push(self) -> None:
        """A-SYNC-4: the emulator's registers to the kernel; a failure is reported (A-REG-8)."""
        try:
            set_registers(self.vcpu, self.registers, self.tpr)
        except NvmmError as error:
            log.error("NVMM: failed to set virtual processor context: %s", error)
        self.dirty = False

    def after_reset(self) -> None:
        """A-SYNC-2: after reset, and after initialisation: push, and be clean."""
        self.push()

    def before_load(self) -> None:
        """A-SYNC-3: a snapshot is about to be loaded into `registers`."""
        self.dirty = True

    def set_tpr(self, tpr: int) -> None:
        """The guest's TPR changed: update the copy and the local APIC (A-REG-11, A-POST-2)."""
        self.tpr = tpr
        if self.apic is not None:
            with self.accelerator.lock:
                self.apic.tpr = tpr

    def inject(self, kind: EventType, vector: int) -> None:
        """Give the kernel an event for the next entry (A-PRE-8).  Raises NvmmError."""
        self.vcpu.inject(kind, vector)
        self.event_in_flight = True

    # ---- getting its attention ----

    @property
    def is_awake(self) -> bool:
        """True where something is pending that a halted vCPU wakes up for (A-LOOP-1)."""
        waking = Request.NMI | Request.INIT | Request.SIPI | Request.POLL
        if self.registers.interrupts_enabled:
            waking |= Request.HARD
        return bool(self.requests & waking)

    def enter_thread(self) -> None:
        """Note that this thread runs the vCPU from now on, and unblock the kick (A-VCPU-1)."""
        self._thread = threading.get_ident()
        kick.unblock()

    def leave_thread(self) -> None:
        """The vCPU runs on no thread any more."""
        self._thread = None

    @property
    def on_own_thread(self) -> bool:
        """True on the thread that runs the vCPU."""
        return self._thread == threading.get_ident()

    def request(self, request: Request) -> None:
        """Make `request` pending and get the vCPU's attention; from any thread."""
        with self.accelerator.lock:  # the vCPU's own thread clears bits meanwhile
            self.requests |= request
        self.kick()

    def kick(self) -> None:
        """Make the vCPU leave the guest soon; from any thread and from its own callbacks.

        The flag is what the loop acts on.  Version 2's stop word covers the time
        between the loop's look at the flag and the entry (A-LOOP-4), the signal
        a guest that is running (L-STOP-4a).  Version 1 has no such word: a kick
        in that time is lost until the guest exits, so whoever must get through
        kicks again.
        """
        self.exit_request = True
        thread = self._thread
        if thread is None or self.on_own_thread:
            return
        if self.vcpu.has_stop:
            self.vcpu.stop()
        kick.send(thread)

    def on_kick(self) -> None:
        """A-LOOP-7: the kick signal arrived."""
        if self.vcpu.has_stop:
            self.vcpu.stop()
        else:
            self.stopped = True
