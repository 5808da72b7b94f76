# SPDX-License-Identifier: BSD-2-Clause
"""Host memory that a guest may be given: whole pages at a fixed address."""

from __future__ import annotations

from nvmmconf.abi import ffi, lib
from nvmmconf.nvmm.owned import Owned

PAGE_SIZE = 4096
"""Bytes; NVMM is x86 only (L-VER-7)."""


class HostMemory(Owned):
    """`size` bytes of anonymous, zeroed, page-aligned memory of this process.

    `hva` is its address and `data` a writable view of it.  nvmm_hva_map()
    replaces the pages by others (L-HVA-1), which `data` then shows;
    nvmm_hva_unmap() takes them away (L-HVA-3), after which `data` is closed.
    Raises ValueError where `size` is not a positive multiple of PAGE_SIZE,
    MemoryError where there is no room.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"size {size:#x} is not a positive multiple of {PAGE_SIZE:#x}")
        self._pages = lib.host_map(size)
        if self._pages == ffi.NULL:
            raise MemoryError(f"no room for {size:#x} bytes of guest memory")
        self.size = size
        self.hva = int(ffi.cast("uintptr_t", self._pages))
        self.data = memoryview(ffi.buffer(self._pages, size)).cast("B")

    def forget(self) -> None:
        """Note that the pages are no longer this process's (after nvmm_hva_unmap)."""
        self.data.release()
        self._pages = ffi.NULL

    def close(self) -> None:
        """Give the pages back to the system.  Idempotent."""
        if self._pages != ffi.NULL:
            self.data.release()
            lib.host_unmap(self._pages, self.size)
            self._pages = ffi.NULL
