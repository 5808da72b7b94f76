# SPDX-License-Identifier: BSD-2-Clause
"""A machine's state as a value: its vCPUs and its RAM, saved where it has stopped.

Devices are the board's to save.  What NVMM does not tell cannot be saved: which
event the guest itself was raising when its delivery was cut short (its
instruction raises it again), and, on VMX, that NMIs are blocked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nvmmconf.abi import StateFlag
from nvmmconf.accel.accelerator import Accelerator
from nvmmconf.accel.registers import get_registers
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu
from nvmmconf.board.interfaces import RamBlock
from nvmmconf.nvmm import PAGE_SIZE, NvmmError
from nvmmconf.trace import Event


class SnapshotError(Exception):
    """A snapshot cannot be made, or does not fit the machine."""


@dataclass(frozen=True)
class VcpuSnapshot:
    """One vCPU: libnvmm's whole state, and what the accelerator holds besides."""

    index: int
    state: bytes
    """`struct nvmm_x64_state`, INTR too."""
    event: Event | None
    """Given to the kernel, not taken by the guest."""
    requests: Request
    sipi_vector: int
    waiting_for_sipi: bool
    halted: bool
    tpr: int
    tpr_changed: bool


@dataclass(frozen=True)
class RamSnapshot:
    """A RAM block: `size` bytes, zero but for `pages`, offset to contents."""

    size: int
    pages: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Snapshot:
    """A machine: vCPUs in the order of creation, RAM blocks in the order of their adding."""

    vcpus: tuple[VcpuSnapshot, ...]
    ram: tuple[RamSnapshot, ...]


def save(accelerator: Accelerator) -> Snapshot:
    """Return the machine's state; it must have stopped, and goes on unchanged afterwards.

    Raises MigrationError, with what forbids it, where a vCPU is running
    (A-VCPU-2), SnapshotError where the kernel refuses.
    """
    with accelerator.lock:
        running = [vcpu.index for vcpu in accelerator.vcpus if vcpu.is_running]
        if running:
            accelerator.migration.check()
            raise SnapshotError(f"vCPU {running[0]} is running: stop the machine first")
        try:
            vcpus = tuple(_save_vcpu(vcpu) for vcpu in accelerator.vcpus)
        except NvmmError as error:
            raise SnapshotError(f"cannot save a vCPU: {error}") from error
        return Snapshot(vcpus, tuple(_save_ram(b) for b in accelerator.memory_map.blocks))


def restore(accelerator: Accelerator, snapshot: Snapshot) -> None:
    """Give a stopped machine the state of `snapshot`.

    It must have the same vCPUs and as much RAM, in the same order.  Raises
    SnapshotError, having changed nothing, where it has not; and where the
    kernel refuses.
    """
    with accelerator.lock:
        _check_fit(accelerator, snapshot)
        for block, saved_ram in zip(accelerator.memory_map.blocks, snapshot.ram, strict=True):
            _restore_ram(block, saved_ram)
        try:
            for vcpu, saved in zip(accelerator.vcpus, snapshot.vcpus, strict=True):
                _restore_vcpu(vcpu, saved)
        except NvmmError as error:
            raise SnapshotError(f"cannot restore a vCPU: {error}") from error


def _save_vcpu(vcpu: AccelVcpu) -> VcpuSnapshot:
    if vcpu.dirty:
        vcpu.push()
    vcpu.vcpu.getstate(StateFlag.ALL)
    return VcpuSnapshot(
        index=vcpu.index,
        state=vcpu.vcpu.state_bytes(),
        event=vcpu.event if vcpu.event_in_flight else None,
        requests=vcpu.requests,
        sipi_vector=vcpu.sipi_vector,
        waiting_for_sipi=vcpu.waiting_for_sipi,
        halted=vcpu.halted,
        tpr=vcpu.tpr,
        tpr_changed=vcpu.tpr_changed,
    )


def _restore_vcpu(vcpu: AccelVcpu, saved: VcpuSnapshot) -> None:
    vcpu.withdraw_event()
    vcpu.before_load()  # A-SYNC-3
    vcpu.vcpu.put_state_bytes(saved.state)
    vcpu.vcpu.setstate(StateFlag.ALL)
    get_registers(vcpu.vcpu, vcpu.registers)  # from the page: all of it counts as current
    intr = vcpu.vcpu.state.intr
    vcpu.int_shadow = bool(intr.int_shadow)
    vcpu.int_window_exiting = bool(intr.int_window_exiting)
    vcpu.nmi_window_exiting = bool(intr.nmi_window_exiting)
    vcpu.requests = saved.requests
    vcpu.sipi_vector = saved.sipi_vector
    vcpu.waiting_for_sipi = saved.waiting_for_sipi
    vcpu.halted = saved.halted
    vcpu.tpr = saved.tpr
    vcpu.tpr_changed = saved.tpr_changed
    vcpu.stopped = vcpu.exit_request = False
    if saved.event is not None:
        vcpu.inject(saved.event.kind, saved.event.vector)


def _save_ram(block: RamBlock) -> RamSnapshot:
    return RamSnapshot(block.pages.size, tuple(_pages_in_use(block.pages.data)))


def _pages_in_use(data: memoryview) -> Iterator[tuple[int, bytes]]:
    nothing = bytes(PAGE_SIZE)
    for offset in range(0, len(data), PAGE_SIZE):
        page = bytes(data[offset : offset + PAGE_SIZE])  # bytes compare fast, views one by one
        if page != nothing:
            yield offset, page


def _restore_ram(block: RamBlock, saved: RamSnapshot) -> None:
    data = block.pages.data
    kept = dict(saved.pages)
    nothing = bytes(PAGE_SIZE)
    for offset in range(0, saved.size, PAGE_SIZE):
        data[offset : offset + PAGE_SIZE] = kept.get(offset, nothing)


def _check_fit(accelerator: Accelerator, snapshot: Snapshot) -> None:
    found = [vcpu.index for vcpu in accelerator.vcpus]
    wanted = [vcpu.index for vcpu in snapshot.vcpus]
    if found != wanted:
        raise SnapshotError(f"the machine has the vCPUs {found}, the snapshot {wanted}")
    sizes = [block.pages.size for block in accelerator.memory_map.blocks]
    saved = [ram.size for ram in snapshot.ram]
    if sizes != saved:
        raise SnapshotError(f"the machine's RAM blocks have {sizes} bytes, the snapshot's {saved}")
    for vcpu in accelerator.vcpus:
        if vcpu.is_running:
            raise SnapshotError(f"vCPU {vcpu.index} is running: stop the machine first")
