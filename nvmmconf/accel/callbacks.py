# SPDX-License-Identifier: BSD-2-Clause
"""Section 11: what the assists call, between libnvmm and the board's buses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvmmconf.board.interfaces import BusError
from nvmmconf.nvmm import IoAccess, MemAccess

if TYPE_CHECKING:
    from nvmmconf.accel.vcpu import AccelVcpu


def io(vcpu: AccelVcpu, access: IoAccess) -> None:
    """A-CB-1: `size` bytes between the guest and the port bus.

    A failed transaction is reported; the guest reads all ones then, since the
    buffer holds what was in it before (L-IO-3).
    """
    accelerator = vcpu.accelerator
    size = len(access.data)
    try:
        with accelerator.lock:
            if access.is_in:
                value = accelerator.ports.read(access.port, size)
                access.data[:] = value.to_bytes(size, "little")
            else:
                value = int.from_bytes(access.data, "little")
                accelerator.ports.write(access.port, size, value)
    except BusError as error:
        if access.is_in:
            access.data[:] = b"\xff" * size
        direction = "in from" if access.is_in else "out to"
        accelerator.reports.error(
            f"{direction} port {access.port:#x} of {size} bytes failed: {error}"
        )
    # A-SYNC-5: a device that synchronised must not have the instruction undone
    # and run again for ever (BH-98).
    vcpu.dirty = False


def mem(vcpu: AccelVcpu, access: MemAccess) -> None:
    """A-CB-2: `size` bytes between the guest and the physical address space."""
    accelerator = vcpu.accelerator
    with accelerator.lock:
        if access.is_write:
            vcpu.memory.write(access.gpa, bytes(access.data))
        else:
            access.data[:] = vcpu.memory.read(access.gpa, len(access.data))
    vcpu.dirty = False  # A-SYNC-5
