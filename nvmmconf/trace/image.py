# SPDX-License-Identifier: BSD-2-Clause
"""Registers as bytes, as `struct nvmm_x64_state` has them (spec libnvmm section 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

from nvmmconf.abi import Cr, Dr, Gpr, Msr, Segment

_SEGS = struct.Struct("<HHIQ")
_GPRS = struct.Struct(f"<{len(Gpr)}Q")
_CRS = struct.Struct(f"<{len(Cr)}Q")
_DRS = struct.Struct(f"<{len(Dr)}Q")
_MSRS = struct.Struct(f"<{len(Msr)}Q")
_INTR = struct.Struct("<Q")
_FPU = struct.Struct("<HHBxHQQII")

GPR_OFFSET = len(Segment) * _SEGS.size
GPR_SIZE = _GPRS.size
_FPU_OFFSET = GPR_OFFSET + _GPRS.size + _CRS.size + _DRS.size + _MSRS.size + _INTR.size
STATE_SIZE = _FPU_OFFSET + 512


def rip_of(image: bytes) -> int:
    """RIP in an image of the GPRs or of the whole state."""
    start = 0 if len(image) == GPR_SIZE else GPR_OFFSET
    return int.from_bytes(image[start + 8 * Gpr.RIP : start + 8 * Gpr.RIP + 8], "little")


@lru_cache(maxsize=64)
def registers_of(image: bytes) -> dict[str, int]:
    """Every register of an image of the GPRs or of the whole state, by name.

    A segment register is its four parts; x87 registers are 80-bit numbers, SSE
    registers 128-bit ones.  Raises ValueError for bytes of another size.
    """
    if len(image) == GPR_SIZE:
        return _named(Gpr, _GPRS, image, 0)
    if len(image) != STATE_SIZE:
        raise ValueError(f"{len(image)} bytes are no vCPU state")
    found = _named(Gpr, _GPRS, image, GPR_OFFSET)
    for segment in Segment:
        parts = _SEGS.unpack_from(image, segment * _SEGS.size)
        for part, value in zip(("selector", "attrib", "limit", "base"), parts, strict=True):
            found[f"{segment.name}.{part}"] = value
    offset = GPR_OFFSET + GPR_SIZE
    for names, layout in ((Cr, _CRS), (Dr, _DRS), (Msr, _MSRS)):
        found |= _named(names, layout, image, offset)
        offset += layout.size
    (found["INTR"],) = _INTR.unpack_from(image, offset)
    offset += _INTR.size
    head = ("FCW", "FSW", "FTW", "FOP", "FIP", "FDP", "MXCSR", "MXCSR_MASK")
    found |= zip(head, _FPU.unpack_from(image, offset), strict=True)
    for index in range(8):
        start = offset + 32 + 16 * index
        found[f"ST{index}"] = int.from_bytes(image[start : start + 10], "little")
    for index in range(16):
        start = offset + 160 + 16 * index
        found[f"XMM{index}"] = int.from_bytes(image[start : start + 16], "little")
    return found


class Changes(Mapping[str, int]):
    """The registers of `now` that differ from `before`, all of them where that is None.

    Worked out when somebody looks: of a thousand exits mostly nobody does.
    """

    __slots__ = ("_before", "_found", "_now")

    def __init__(self, before: bytes | None, now: bytes) -> None:
        self._before = before
        self._now = now
        self._found: dict[str, int] | None = None

    def _told(self) -> dict[str, int]:
        if self._found is None:
            now = registers_of(self._now)
            old = {} if self._before is None else registers_of(self._before)
            self._found = {name: value for name, value in now.items() if old.get(name) != value}
        return self._found

    def __getitem__(self, name: str) -> int:
        return self._told()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._told())

    def __len__(self) -> int:
        return len(self._told())

    def __repr__(self) -> str:
        return repr(self._told())


def _named(
    names: type[Gpr] | type[Cr] | type[Dr] | type[Msr],
    layout: struct.Struct,
    image: bytes,
    offset: int,
) -> dict[str, int]:
    values = layout.unpack_from(image, offset)
    return {name.name: values[name] for name in names}
