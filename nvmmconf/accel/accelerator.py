# SPDX-License-Identifier: BSD-2-Clause
"""Section 1: start-up of the accelerator; and running a vCPU to an outcome."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading

from nvmmconf.abi import Libnvmm
from nvmmconf.accel import kick
from nvmmconf.accel.loop import LoopExit, exec_vcpu
from nvmmconf.accel.memory import MemoryMap
from nvmmconf.accel.outcome import Control, Outcome, Stop
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
    """NVMM, started: the machine, its memory map and its vCPUs.

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
    ) -> None:
        self.lock = threading.RLock()
        """The emulator's big lock: held wherever devices are touched."""
        self.ports = ports
        self.memory = memory
        self.control = control
        self.trace = trace
        self.vcpus: list[AccelVcpu] = []
        self.capability = _start(library)
        with contextlib.ExitStack() as undo:
            try:
                self.machine = undo.enter_context(Machine(library))
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
        log.info("NetBSD Virtual Machine Monitor accelerator is operational")

    def close(self) -> None:
        """Destroy the vCPUs and the machine, all of them also where one fails.  Idempotent."""
        self.vcpus.clear()
        self._resources.close()

    def create_vcpu(self, index: int, apic: InterruptController | None = None) -> AccelVcpu:
        """Section 2.  Raises AcceleratorError with the failing call and its errno."""
        try:
            vcpu = AccelVcpu.create(self, index, apic)
        except NvmmError as error:
            raise AcceleratorError(str(error), error.errno or 0) from error
        self._resources.callback(vcpu.destroy)
        self.vcpus.append(vcpu)
        return vcpu

    def kick_all(self) -> None:
        """Make every vCPU leave the guest; from any thread."""
        for vcpu in self.vcpus:
            vcpu.kick()

    def run(self, vcpu: AccelVcpu) -> Outcome:
        """Run `vcpu` on this thread until the machine's run ends; its registers are then current.

        To change them call its `synchronize` first.
        HALTED where it halts with nothing pending; else what was asked of `control`.
        """
        while True:
            with self.lock:
                # Looked at before the guest runs, too: a request made while
                # this vCPU did not exist has kicked nobody.
                outcome = self.control.outcome
                if outcome is None:
                    why = exec_vcpu(self, vcpu)
                    outcome = self.control.outcome
                    # A request may have come since the exit was looked at.
                    if outcome is None and why is LoopExit.HALTED and not vcpu.is_awake:
                        outcome = Outcome(Stop.HALTED)
                if outcome is not None:
                    vcpu.fetch()
                    return outcome

    def resume(self, vcpu: AccelVcpu) -> Outcome:
        """`run` again after an outcome, from where the guest is; a halted vCPU goes on."""
        self.control.clear()
        vcpu.halted = False
        return self.run(vcpu)


def _start(library: Libnvmm) -> Capability:
    """nvmm_init, nvmm_capability and the checks of A-INIT-3 and A-INIT-4."""
    try:
        init(library)
        capability = query_capability(library)
    except NvmmError as error:
        raise AcceleratorError(f"{library.path}: {error}", error.errno or 0) from error
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
    return capability
