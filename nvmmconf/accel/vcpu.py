# SPDX-License-Identifier: BSD-2-Clause
"""Section 2: a vCPU as the emulator holds it; and the dirty flag's section 5."""

from __future__ import annotations

import copy
import errno
import threading
from functools import partial
from typing import TYPE_CHECKING

from nvmmconf.abi import EventType, StateFlag, VcpuConfSupport
from nvmmconf.accel import callbacks, kick
from nvmmconf.accel.bell import Bell
from nvmmconf.accel.lines import VcpuLines
from nvmmconf.accel.outcome import Fault
from nvmmconf.accel.registers import MXCSR_MASK, Registers, get_registers, set_registers
from nvmmconf.accel.requests import Request
from nvmmconf.board.interfaces import InterruptController, MemoryBus
from nvmmconf.nvmm import CpuidMask, Exit, NvmmError, Vcpu
from nvmmconf.trace import Event

if TYPE_CHECKING:
    from nvmmconf.accel.accelerator import Accelerator

# CPUID leaf 1 EDX: MCE (7), MCA (14), MTRR (12), which the kernel hides (A-VCPU-4).
# The MSRs behind them read as zero and keep nothing (BH-106): section 10 has it so.
_MCE_MCA_MTRR = CpuidMask(leaf=1, set_bits=(0, 0, 0, 1 << 7 | 1 << 14 | 1 << 12))

NO_EXCEPTION = 2
"""NMI's vector, which is no exception: every kernel refuses to inject it as one (L-EVT-3)."""


class AccelVcpu:
    """One vCPU: libnvmm's record, the emulator's registers, and who is newer.

    Made by `Accelerator.create_vcpu`.  `registers` may be read and written by
    the vCPU's own thread while it is not running, after `synchronize`.

    Vcpu 0 is the bootstrap processor; the others wait for a SIPI.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        vcpu: Vcpu,
        apic: InterruptController | None,
        memory: MemoryBus,
    ) -> None:
        self.accelerator = accelerator
        self.vcpu = vcpu
        self.apic = apic
        self.memory = memory
        """Physical memory as this CPU sees it: its local APIC's page is its own."""
        self.lines = VcpuLines(self)
        """What the local APIC acts on (`CpuLines`)."""
        self.index = vcpu.cpuid
        self.has_stop = vcpu.has_stop
        self.is_bootstrap = vcpu.cpuid == 0
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
        """The kernel holds an event that the guest has not taken yet."""
        self.event: Event | None = None
        """The event given last, until the guest has taken it; for the trace."""
        self.requests = Request(0)
        self.sipi_vector = 0
        self.waiting_for_sipi = not self.is_bootstrap
        self.halted = self.waiting_for_sipi
        self.stopped = False
        self.exit_request = False
        self.bell = Bell()
        """Rung by `kick`: what the thread of a halted vCPU waits for."""
        self._thread: int | None = None
        self._thread_lock = threading.RLock()

        # The field gives 0xFFFF whatever the capability says (BH-101), and lets the
        # kernel make it right; here what is given is what the processor has.
        # A mask of 0 would make the effective MXCSR 0 (K-SET-15).
        self._mxcsr_mask = MXCSR_MASK & accelerator.capability.mxcsr_mask or MXCSR_MASK

    @classmethod
    def create(
        cls,
        accelerator: Accelerator,
        index: int,
        apic: InterruptController | None,
        memory: MemoryBus,
    ) -> AccelVcpu:
        """A-VCPU-1 and A-VCPU-3 to A-VCPU-8.  Raises NvmmError; what was made is freed."""
        raw = accelerator.machine.create_vcpu(index)
        self = cls(accelerator, raw, apic, memory)
        try:
            raw.configure_cpuid(_MCE_MCA_MTRR)
            raw.configure_callbacks(  # A-VCPU-5
                io=partial(callbacks.io, self), mem=partial(callbacks.mem, self)
            )
            # A-VCPU-6
            if VcpuConfSupport.TPR in accelerator.capability.vcpu_conf_support:
                raw.configure_tpr(exit_changed=True)
        except NvmmError:  # A-VCPU-7; the accelerator reports it
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
            self.accelerator.reports.error(f"failed to get virtual processor context: {error}")
            return False
        if tpr != self.tpr:  # A-REG-11
            self.set_tpr(tpr)
        return True

    def push(self) -> None:
        """A-SYNC-4: the emulator's registers to the kernel; a failure is reported (A-REG-8)."""
        try:
            set_registers(self.vcpu, self.registers, self.tpr, self._mxcsr_mask)
        except NvmmError as error:
            self.accelerator.reports.error(f"failed to set virtual processor context: {error}")
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
        self.event = Event(kind, vector)

    def withdraw_event(self) -> None:
        """Take back an event that the guest has not taken: it was made for another state.

        libnvmm has no call for it; but an event that the kernel refuses takes
        its place, and the run that refuses it enters nothing (L-EVT-3).  What
        the kernel itself delivers again (K-INJ-12) stays.  Raises NvmmError.
        """
        while self.event_in_flight:
            self.vcpu.inject(EventType.EXCP, NO_EXCEPTION)
            try:
                self.vcpu.run()  # returns where the host wants something first
            except NvmmError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.event_in_flight = False
                self.event = None

    def forget_windows(self) -> None:
        """No window, shadow or blocking by NMI is left of what ran before.  Raises NvmmError.

        Here and in the kernel: the field's accelerator resets the registers
        only, and with a window asked for it never looks at an interrupt again
        (A-EVT-1) until that window opens (BH-103).
        """
        self.int_shadow = self.int_window_exiting = self.nmi_window_exiting = False
        intr = self.vcpu.state.intr  # written whole, so it need not be fetched
        intr.int_shadow = intr.int_window_exiting = intr.nmi_window_exiting = 0
        self.vcpu.setstate(StateFlag.INTR)

    def fault(self, taken: Exit | None) -> Fault:
        """What an outcome tells of this vCPU: its last exit, and its registers as they are."""
        return Fault(self.index, taken, copy.deepcopy(self.registers))

    # ---- getting its attention ----

    @property
    def is_awake(self) -> bool:
        """True where something is pending that a halted vCPU wakes up for (A-LOOP-1)."""
        waking = Request.INIT | Request.SIPI | Request.POLL
        if not self.waiting_for_sipi:
            waking |= Request.NMI
            if self.registers.interrupts_enabled:
                waking |= Request.HARD
        return bool(self.requests & waking)

    @property
    def is_idle(self) -> bool:
        """True where it is halted, or waits for a SIPI, and nothing pending would wake it."""
        return self.halted and not self.is_awake

    def enter_thread(self) -> None:
        """Note that this thread runs the vCPU from now on, and unblock the kick (A-VCPU-1)."""
        self._thread = threading.get_ident()
        kick.unblock()

    def leave_thread(self) -> None:
        """The vCPU runs on no thread any more, so that none is signalled for it from now on."""
        with self._thread_lock:
            self._thread = None

    @property
    def is_running(self) -> bool:
        """True while a thread runs the vCPU's loop."""
        return self._thread is not None

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
        a guest that is running (L-STOP-4a).  Version 1 has no such word, and a
        signal in that time is lost (BH-51, BH-97): it is sent again until the
        loop has acted on the flag.
        """
        self.exit_request = True
        self.bell.ring()
        if self._thread is None or self.on_own_thread:
            return
        if self._signal() and not self.has_stop:
            kick.repeat(self)

    def kick_again(self) -> bool:
        """Kick once more; False where the loop has left the guest since."""
        return self.exit_request and self._signal()

    def _signal(self) -> bool:
        # Held so that the thread cannot end between the look and the signal.
        with self._thread_lock:
            if self._thread is None:
                return False
            if self.has_stop:
                self.vcpu.stop()
            kick.send(self._thread)
            return True

    def on_kick(self) -> None:
        """A-LOOP-7: the kick signal arrived."""
        if self.has_stop:
            self.vcpu.stop()
        else:
            self.stopped = True
