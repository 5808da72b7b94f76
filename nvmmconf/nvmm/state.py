# SPDX-License-Identifier: BSD-2-Clause
"""The vCPU state in the comm page, as Python sees it (spec libnvmm section 3)."""

from __future__ import annotations

from typing import Any, Protocol

from nvmmconf.abi import ffi

STATE_SIZE: int = ffi.sizeof("struct nvmm_x64_state")
"""Bytes of the structure that the binding was compiled with: 1008."""


class _Numbers(Protocol):
    """An array of 64-bit registers."""

    def __getitem__(self, index: int) -> int: ...

    def __setitem__(self, index: int, value: int) -> None: ...


class SegmentRecord(Protocol):
    """`struct nvmm_x64_state_seg`; `attrib` has type, s, dpl, p, avl, l, def, g."""

    selector: int
    attrib: Any  # "def" is a keyword, so its members are reached by getattr
    limit: int
    base: int


class IntrRecord(Protocol):
    """`struct nvmm_x64_state_intr`: four bits."""

    int_shadow: int
    int_window_exiting: int
    nmi_window_exiting: int
    evt_pending: int


class VcpuState(Protocol):
    """`struct nvmm_x64_state` in place: reading and writing it is reading and writing the page."""

    @property
    def segs(self) -> _Segments:
        """By `Segment`."""

    @property
    def gprs(self) -> _Numbers:
        """By `Gpr`."""

    @property
    def crs(self) -> _Numbers:
        """By `Cr`."""

    @property
    def drs(self) -> _Numbers:
        """By `Dr`."""

    @property
    def msrs(self) -> _Numbers:
        """By `Msr`."""

    @property
    def intr(self) -> IntrRecord:
        """Shadow and windows."""

    @property
    def fpu(self) -> Any:
        """`struct fxsave`; its registers through `get_bytes` and `put_bytes`."""


class _Segments(Protocol):
    def __getitem__(self, index: int) -> SegmentRecord: ...


def put_bytes(record: Any, data: bytes) -> None:
    """Copy `data` to the start of a structure or array in the page."""
    ffi.memmove(ffi.addressof(record), data, len(data))


def get_bytes(record: Any, size: int) -> bytes:
    """Return the first `size` bytes of a structure or array in the page."""
    return bytes(ffi.buffer(ffi.addressof(record), size))
