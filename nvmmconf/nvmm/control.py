# SPDX-License-Identifier: BSD-2-Clause
"""nvmm_ctl(): what the kernel tells of a machine (spec libnvmm section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from nvmmconf.abi import Libnvmm, ffi, lib
from nvmmconf.nvmm.errors import check

MACH_INFO: int = lib.NVMM_CTL_MACH_INFO
"""NVMM_CTL_MACH_INFO, the only operation."""
MACH_INFO_SIZE: int = ffi.sizeof("struct nvmm_ctl_mach_info")
"""Bytes of its structure: 32."""


@dataclass(frozen=True)
class MachineInfo:
    """`struct nvmm_ctl_mach_info`."""

    vcpus: int
    ram: int
    """Bytes of all host mappings together."""
    pid: int
    """Of whoever opened NVMM."""
    time: int
    """When the machine was created, seconds since 1970."""


def machine_info(library: Libnvmm, machid: int) -> MachineInfo:
    """NVMM_CTL_MACH_INFO.  Raises NvmmError: EINVAL, ENOENT, EPERM as L-MACH-3."""
    raw = ffi.new("struct nvmm_ctl_mach_info *")
    raw.machid = machid
    check(lib.call_ctl(library.table, MACH_INFO, raw, MACH_INFO_SIZE), "nvmm_ctl", machid=machid)
    return MachineInfo(raw.nvcpus, raw.nram, raw.pid, raw.time)


def control(library: Libnvmm, op: int, record: bytearray | None, size: int) -> None:
    """nvmm_ctl() of any operation, record (in place) and size; None is a NULL pointer.

    Raises NvmmError: EINVAL for an unknown operation or a wrong size, EFAULT
    for a bad pointer (L-CTL-1).
    """
    data = ffi.NULL if record is None else ffi.from_buffer(record)
    check(lib.call_ctl(library.table, op, data, size), "nvmm_ctl", op=op, size=size)
