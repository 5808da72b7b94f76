# SPDX-License-Identifier: BSD-2-Clause
"""nvmm_init() and nvmm_capability()."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nvmmconf.abi import Libnvmm, VcpuConfSupport, ffi, lib, soft_problem
from nvmmconf.nvmm.errors import NvmmError


@dataclass(frozen=True)
class Capability:
    """`struct nvmm_capability` (spec libnvmm section 3, nvmm-kernel section 1)."""

    version: int
    """The kernel's NVMM version: 1 on NetBSD 9, 2 on NetBSD 10."""
    state_size: int
    """Bytes of a vCPU's state."""
    max_machines: int
    max_vcpus: int
    """vCPUs a machine."""
    max_ram: int
    """Bytes of guest-physical space a machine."""
    mach_conf_support: int
    vcpu_conf_support: VcpuConfSupport
    xcr0_mask: int
    mxcsr_mask: int
    conf_cpuid_maxops: int
    """CPUID overrides a vCPU."""

    def in_words(self) -> dict[str, str]:
        """Return every field, name to text, in order."""
        words = {field.name: f"{getattr(self, field.name):#x}" for field in fields(self)}
        for name in ("version", "state_size", "max_machines", "max_vcpus", "conf_cpuid_maxops"):
            words[name] = str(getattr(self, name))
        names = [bit.name or "" for bit in VcpuConfSupport if bit in self.vcpu_conf_support]
        words["vcpu_conf_support"] += f" ({', '.join(names) or 'none'})"
        return words


def init(library: Libnvmm, *, root: bool = False) -> None:
    """Call nvmm_init(): open the device; nothing happens where it is open (L-INIT-1).

    `root`: nvmm_root_init(), for the owner of all machines (L-INIT-2).  Raises
    NvmmError: ENOENT (no device node), ENXIO (driver not loaded), EACCES,
    or a version mismatch (L-INIT-4, L-INIT-5).
    """
    name, call = "nvmm_init", lib.call_init
    if root:
        name, call = "nvmm_root_init", lib.call_root_init
    if call(library.table) != 0:
        raise NvmmError(name, ffi.errno, soft_problem(library))


def query_capability(library: Libnvmm) -> Capability:
    """Call nvmm_capability().  Raises NvmmError (EBADF before `init`)."""
    raw = ffi.new("struct nvmm_capability *")
    if lib.call_capability(library.table, raw) != 0:
        raise NvmmError("nvmm_capability", ffi.errno, soft_problem(library))
    return Capability(
        version=raw.version,
        state_size=raw.state_size,
        max_machines=raw.max_machines,
        max_vcpus=raw.max_vcpus,
        max_ram=raw.max_ram,
        mach_conf_support=raw.arch.mach_conf_support,
        vcpu_conf_support=VcpuConfSupport(raw.arch.vcpu_conf_support),
        xcr0_mask=raw.arch.xcr0_mask,
        mxcsr_mask=raw.arch.mxcsr_mask,
        conf_cpuid_maxops=raw.arch.conf_cpuid_maxops,
    )
