# SPDX-License-Identifier: BSD-2-Clause
"""What only a libnvmm in software offers: profiles, quirks, seeded faults.

The functions are optional symbols of the library, as nvmm_vcpu_stop() is;
a library without them offers nothing, and everything else works the same.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nvmmconf.abi._libnvmm import ffi, lib
from nvmmconf.abi.library import Libnvmm

PROFILE_VARIABLE = "NVMM_SOFT_PROFILE"
"""Which NVMM the library is; read at init, capability and machine creation."""

FAULT_VARIABLE = "NVMM_SOFT_FAULT"
"""Comma-separated seeded faults; read at the same places."""


class SoftKind(enum.IntEnum):
    """What `list_soft` lists; values of `enum nvmm_soft_kind` (softnvmm.h)."""

    PROFILE = 0
    QUIRK = 1
    FAULT = 2


@dataclass(frozen=True)
class SoftEntry:
    """One profile, quirk or fault."""

    name: str
    summary: str


def list_soft(library: Libnvmm, kind: SoftKind) -> tuple[SoftEntry, ...]:
    """Return everything of `kind` that `library` offers, in its order."""
    name = ffi.new("char const **")
    summary = ffi.new("char const **")
    entries: list[SoftEntry] = []
    while lib.call_soft_list(library.table, kind, len(entries), name, summary) == 0:
        entries.append(SoftEntry(ffi.string(name[0]).decode(), ffi.string(summary[0]).decode()))
    return tuple(entries)


def soft_problem(library: Libnvmm) -> str:
    """Why the last init, capability or create failed for the library's own reason, or ''."""
    text: str = ffi.string(lib.call_soft_problem(library.table)).decode()
    return text
