# SPDX-License-Identifier: BSD-2-Clause
"""A virtual machine: the calls of libnvmm that take a machine only."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from nvmmconf.abi import Libnvmm, Prot, ffi, lib, soft_problem
from nvmmconf.nvmm.errors import NvmmError, check
from nvmmconf.nvmm.owned import Owned
from nvmmconf.nvmm.vcpu import Vcpu


class HostPages(Protocol):
    """Whole pages of this process's memory: `HostMemory`, or anything like it."""

    @property
    def hva(self) -> int:
        """Host address."""

    @property
    def size(self) -> int:
        """Bytes."""


class MappedPages(HostPages, Protocol):
    """Pages that were mapped, and can be told that they are gone: `HostMemory`."""

    def forget(self) -> None:
        """They are no longer this process's."""


class Machine(Owned):
    """`struct nvmm_machine`, created by the constructor (nvmm_machine_create).

    A machine is a resource of the kernel's: use it in a `with` statement, or
    call `destroy`.  Its vCPUs are destroyed before it, because libnvmm does
    not free what belongs to those that are left (L-MACH-2).

    Raises NvmmError: ENOBUFS where the system has its 128 machines already.
    """

    def __init__(self, library: Libnvmm) -> None:
        self._library = library
        self._table = library.table
        self._raw = ffi.new("struct nvmm_machine *")
        self._vcpus: dict[int, Vcpu] = {}
        self._alive = False
        if lib.call_machine_create(self._table, self._raw) != 0:
            raise NvmmError("nvmm_machine_create", ffi.errno, soft_problem(library))
        self._alive = True

    @property
    def raw(self) -> Any:
        """The `struct nvmm_machine *`."""
        return self._raw

    @property
    def library(self) -> Libnvmm:
        """The libnvmm that the machine lives in."""
        return self._library

    @property
    def machid(self) -> int:
        """The kernel's number of the machine."""
        return int(self._raw.machid)

    def destroy(self) -> None:
        """Destroy the vCPUs and the machine.  Does nothing the second time."""
        if not self._alive:
            return
        self._alive = False
        with contextlib.ExitStack() as everything:  # also where one of them fails
            everything.callback(self._destroy)
            for vcpu in list(self._vcpus.values()):
                everything.callback(vcpu.destroy)

    def _destroy(self) -> None:
        check(
            lib.call_machine_destroy(self._table, self._raw),
            "nvmm_machine_destroy",
            machid=self.machid,
        )

    def close(self) -> None:
        """`destroy`."""
        self.destroy()

    def create_vcpu(self, cpuid: int) -> Vcpu:
        """nvmm_vcpu_create: EINVAL beyond max_vcpus, EBUSY where it exists (L-VCPU-2)."""
        vcpu = self._make_vcpu(cpuid)
        self._vcpus[cpuid] = vcpu
        return vcpu

    def _make_vcpu(self, cpuid: int) -> Vcpu:
        return Vcpu(self, cpuid)

    def forget_vcpu(self, cpuid: int) -> None:
        """Called by a vCPU that was destroyed."""
        self._vcpus.pop(cpuid, None)

    def hva_map(self, memory: HostPages, size: int | None = None) -> None:
        """nvmm_hva_map: make host memory usable for the guest; it becomes zero (L-HVA-1).

        `size` bytes from its start, all of it where None.
        """
        size = memory.size if size is None else size
        check(
            lib.call_hva_map(self._table, self._raw, memory.hva, size),
            "nvmm_hva_map",
            machid=self.machid,
            hva=memory.hva,
            size=size,
        )

    def hva_unmap(self, memory: MappedPages) -> None:
        """nvmm_hva_unmap: exactly what was mapped, else ENOENT; the pages are gone after it."""
        check(
            lib.call_hva_unmap(self._table, self._raw, memory.hva, memory.size),
            "nvmm_hva_unmap",
            machid=self.machid,
            hva=memory.hva,
            size=memory.size,
        )
        memory.forget()

    def gpa_map(self, hva: int, gpa: int, size: int, prot: Prot) -> None:
        """nvmm_gpa_map: show host memory to the guest at `gpa`.

        EINVAL where the guest range overlaps one that is mapped (L-GPA-2).
        What the kernel refuses ends the process on real libraries (L-GPA-4).
        """
        check(
            lib.call_gpa_map(self._table, self._raw, hva, gpa, size, int(prot)),
            "nvmm_gpa_map",
            machid=self.machid,
            hva=hva,
            gpa=gpa,
            size=size,
            prot=repr(prot),
        )

    def gpa_unmap(self, hva: int, gpa: int, size: int) -> None:
        """nvmm_gpa_unmap: exactly one mapped area (L-GPA-6)."""
        check(
            lib.call_gpa_unmap(self._table, self._raw, hva, gpa, size),
            "nvmm_gpa_unmap",
            machid=self.machid,
            hva=hva,
            gpa=gpa,
            size=size,
        )

    def gpa_to_hva(self, gpa: int) -> tuple[int, Prot]:
        """nvmm_gpa_to_hva: host address and rights of a mapped GPA, else ENOENT (L-GPA-8)."""
        hva = ffi.new("uintptr_t *")
        prot = ffi.new("nvmm_prot_t *")
        check(
            lib.call_gpa_to_hva(self._table, self._raw, gpa, hva, prot),
            "nvmm_gpa_to_hva",
            machid=self.machid,
            gpa=gpa,
        )
        return int(hva[0]), Prot(prot[0])

    def configure(self, op: int) -> None:
        """nvmm_machine_configure: there are no machine slots on x86, so EINVAL (L-MACH-4)."""
        check(
            lib.call_machine_configure(self._table, self._raw, op, ffi.NULL),
            "nvmm_machine_configure",
            machid=self.machid,
            op=op,
        )
