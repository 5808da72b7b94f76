# SPDX-License-Identifier: BSD-2-Clause
"""Section 1: start-up of the accelerator; and running a vCPU to an outcome."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Sequence

from nvmmconf.abi import Libnvmm
from nvmmconf.accel import kick, smp
from nvmmconf.accel.journal import Journal
from nvmmconf.accel.loop import take_init
from nvmmconf.accel.memory import MemoryMap
from nvmmconf.accel.migration import MigrationBlockers, MigrationError
from nvmmconf.accel.outcome import Control, Outcome, Stop
from nvmmconf.accel.registers import FpuRegisters, Registers
from nvmmconf.accel.reports import Reports
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu
from nvmmconf.board.interfaces import InterruptController, MemoryBus, PortBus
from nvmmconf.nvmm import (
    STATE_SIZE,
    Capability,
    Machine,
    NvmmError,
    Owned,
    init,
    query_capability,
)
from nvmmconf.nvmm.errors import EPROGMISMATCH
from nvmmconf.trace import Trace

log = logging.getLogger(__name__)

OLDEST_VERSION = 1
"""The oldest capability.version this accelerator was written for: NetBSD 9's."""


class AcceleratorError(Exception):
    """The accelerator cannot start, or cannot make a vCPU; `number` is the errno (A-INIT-2)."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Accelerator(Owned):
    """NVMM, started (A-INIT-6: it is there for who makes one): machine, memory map, vCPUs.

    Use it in a `with` statement.  The constructor does what A-INIT-1 says, in
    that order, and raises AcceleratorError, having undone what it did.
    """

    name = "NVMM"

    def __init__(
        self,
        library: Libnvmm,
        ports: PortBus,
        memory: MemoryBus,
        control: Control,
        trace: Trace | None = None,
        *,
        lock: threading.RLock | None = None,
        migration: MigrationBlockers | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.lock = threading.RLock() if lock is None else lock
        """The emulator's big lock: held wherever devices are touched; the board's own."""
        self.migration = MigrationBlockers() if migration is None else migration
        self._migration_blocked = False
        self.reports = Reports()
        self.journal = journal
        self.can_wake: Callable[[], bool] = lambda: False
        """Whether anything outside the vCPUs, an alarm, an input, may wake one of them.

        Asked with the big lock held, where all that run are halted."""
        self.running: tuple[AccelVcpu, ...] = ()
        """The vCPUs of the present run, or of the last one."""
        self.ports = ports
        self.memory = memory
        self.control = control
        self.trace = trace
        self.vcpus: list[AccelVcpu] = []
        self.capability = self._start(library)
        with contextlib.ExitStack() as undo:
            try:
                self.machine = undo.enter_context(self._make_machine(library))
            except NvmmError as error:
                raise AcceleratorError(str(error), error.errno or 0) from error
            try:
                undo.callback(kick.install())
            except kick.KickError as error:
                raise AcceleratorError(str(error), errno.EPERM) from error
            self.memory_map = MemoryMap(self.machine, self.capability.max_ram)
            memory.add_listener(self.memory_map)
            control.subscribe(self.kick_all)
            self._resources = undo.pop_all()
        # A-INIT-5
        log.info("NetBSD Virtual Machine Monitor accelerator is operational")

    def _start(self, library: Libnvmm) -> Capability:
        """nvmm_init, nvmm_capability and the checks of A-INIT-3 and A-INIT-4."""
        return _start(library)

    def _make_machine(self, library: Libnvmm) -> Machine:
        """nvmm_machine_create."""
        return Machine(library)

    def close(self) -> None:
        """Destroy the vCPUs and the machine, all of them also where one fails.  Idempotent."""
        self.vcpus.clear()
        self._resources.close()

    def create_vcpu(
        self,
        index: int,
        apic: InterruptController | None = None,
        memory: MemoryBus | None = None,
    ) -> AccelVcpu:
        """Section 2.  `memory` is physical memory as this CPU sees it, the machine's where None.

        Raises AcceleratorError with the failing call and its errno.
        """
        if not self.vcpus:
            self._block_migration()
        try:
            vcpu = AccelVcpu.create(self, index, apic, memory or self.memory)
        except NvmmError as error:
            raise AcceleratorError(str(error), error.errno or 0) from error
        self._resources.callback(vcpu.destroy)
        self.vcpus.append(vcpu)
        return vcpu

    def _block_migration(self) -> None:
        """A-VCPU-2: once; refused, there is no vCPU (BH-100: nothing to free twice either)."""
        if self._migration_blocked:
            return
        try:
            self.migration.add("NVMM keeps no log of the pages that the guest writes")
        except MigrationError as error:
            raise AcceleratorError(str(error), errno.EBUSY) from error
        self._migration_blocked = True

    def kick_all(self) -> None:
        """Make every vCPU leave the guest; from any thread."""
        for vcpu in self.vcpus:
            vcpu.kick()

    def run(self, vcpu: AccelVcpu) -> Outcome:
        """Run `vcpu` on this thread until the machine's run ends; its registers are then current.

        To change them call its `synchronize` first.
        HALTED where it halts with nothing pending, and `can_wake` knows nothing that
        could wake it; else what was asked of `control`.
        """
        self.running = (vcpu,)
        return smp.drive(self, vcpu)

    def resume(self, vcpu: AccelVcpu) -> Outcome:
        """`run` again after an outcome, from where the guest is; a halted vCPU goes on."""
        self._go_on((vcpu,))
        return self.run(vcpu)

    def run_all(self) -> Outcome:
        """Run every vCPU, a thread each, until the machine's run ends; registers are then current.

        HALTED where all are halted or wait for a SIPI, and `can_wake` knows nothing
        that could wake one; else what was asked of `control`.  An exception on a
        vCPU's thread is a PANIC.
        """
        self.running = tuple(self.vcpus)
        outcome = smp.run_threads(self, self.running)
        if outcome.reason is Stop.HALTED:
            self.control.clear()  # nobody's wish: running on finds them halted again
        return outcome

    def resume_all(self) -> Outcome:
        """`run_all` again after an outcome, from where the guest is; halted vCPUs go on."""
        self._go_on(self.vcpus)
        return self.run_all()

    def all_halted(self, outcome: Outcome) -> None:
        """Called by the vCPU that halted last: the others are to end too."""
        if len(self.running) > 1:
            self.control.request(outcome)

    def reset(self) -> None:
        """Put every vCPU into the state after power-up (SDM 3A 10.1); none may be running.

        Devices are the board's to reset.  For going on after a RESET.
        """
        self.control.clear()
        with self.lock:
            for vcpu in self.vcpus:
                vcpu.requests = Request(0)
                vcpu.stopped = vcpu.exit_request = False
                take_init(vcpu)
                vcpu.registers.fpu = FpuRegisters()
                vcpu.registers.msr = Registers().msr
                vcpu.after_reset()

    def _go_on(self, vcpus: Sequence[AccelVcpu]) -> None:
        self.control.clear()
        for vcpu in vcpus:
            vcpu.halted = vcpu.waiting_for_sipi


def _start(library: Libnvmm) -> Capability:
    try:
        init(library)
        capability = query_capability(library)
    except NvmmError as error:
        raise AcceleratorError(f"{library.path}: {error}", error.errno or 0) from error
    check_capability(library, capability)
    return capability


def check_capability(library: Libnvmm, capability: Capability) -> None:
    """A-INIT-3 and A-INIT-4: raise AcceleratorError for an NVMM that is not the one written for."""
    if capability.version < OLDEST_VERSION:
        raise AcceleratorError(
            f"{library.path}: NVMM version {capability.version} is older than {OLDEST_VERSION}",
            EPROGMISMATCH,
        )
    if capability.state_size != STATE_SIZE:
        raise AcceleratorError(
            f"{library.path}: NVMM's vCPU state has {capability.state_size} bytes,"
            f" not {STATE_SIZE}",
            EPROGMISMATCH,
        )
