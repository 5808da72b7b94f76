# SPDX-License-Identifier: BSD-2-Clause
"""Which libnvmm, and opening it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvmmconf.abi import _libnvmm
from nvmmconf.abi._libnvmm import ffi, lib

ENVIRONMENT_VARIABLE = "NVMMCONF_LIB"
"""Path of a libnvmm, or `system` or `bundled`; `--nvmm-lib` goes before it."""

SYSTEM_NAMES = ("libnvmm.so", "libnvmm.so.0")
"""What dlopen(3) is asked for when the system's libnvmm is meant (L-VER-6)."""


class LibraryError(Exception):
    """The library cannot be opened or is no libnvmm; the message is one line."""


@dataclass(frozen=True)
class LibraryChoice:
    """A libnvmm to open, and why that one."""

    path: str
    reason: str


@dataclass(frozen=True)
class Libnvmm:
    """An opened libnvmm: its table of functions, for `lib.call_*`."""

    path: str
    reason: str
    table: Any

    @property
    def has_stop(self) -> bool:
        """True where nvmm_vcpu_stop() is exported (version 2, L-VER-2)."""
        return bool(self.table.has_stop)

    @property
    def has_soft(self) -> bool:
        """True where it offers profiles, faults and diagnostics (`abi.soft`)."""
        return bool(self.table.has_soft)


def bundled_path() -> Path:
    """Path of the libnvmm in software that is installed with this package.

    It lies beside the compiled binding, also in an editable installation,
    where the Python files lie elsewhere.
    """
    return Path(_libnvmm.__file__).parent.parent / "softnvmm" / "libnvmm.so"


def include_path() -> Path:
    """Path of the folder with the bundled library's <nvmm.h>."""
    return Path(__file__).parents[1] / "softnvmm" / "include"


def _open_table(path: str) -> tuple[Any, str]:
    why = ffi.new("char[]", 512)
    table = lib.libnvmm_open(os.fsencode(path), why, len(why))
    return table, ffi.string(why).decode(errors="replace")


def _system_name() -> str | None:
    for name in SYSTEM_NAMES:
        table, _ = _open_table(name)
        if table != ffi.NULL:
            lib.libnvmm_close(table)
            return name
    return None


def _named(value: str, origin: str) -> LibraryChoice:
    if value == "bundled":
        return LibraryChoice(str(bundled_path()), f"the bundled one, by {origin}")
    if value == "system":
        name = _system_name()
        if name is None:
            raise LibraryError(
                f"{origin} asks for the system's libnvmm, and dlopen finds none of"
                f" {', '.join(SYSTEM_NAMES)}"
            )
        return LibraryChoice(name, f"the system's, by {origin}")
    if not value:
        raise LibraryError(f"{origin} is empty: give a path, 'system' or 'bundled'")
    return LibraryChoice(str(Path(value).absolute()), f"named by {origin}")


def choose_library(
    option: str | None = None, environment: Mapping[str, str] = os.environ
) -> LibraryChoice:
    """Return the libnvmm to use.

    In this order: `option` (from `--nvmm-lib`), the environment variable
    NVMMCONF_LIB, the system's libnvmm, the bundled one.  Raises LibraryError
    where one of the first two names something that cannot be meant.
    """
    if option is not None:
        return _named(option, "--nvmm-lib")
    if ENVIRONMENT_VARIABLE in environment:
        return _named(environment[ENVIRONMENT_VARIABLE], ENVIRONMENT_VARIABLE)
    name = _system_name()
    if name is not None:
        return LibraryChoice(name, "the system's")
    return LibraryChoice(str(bundled_path()), "the bundled one: this system has no libnvmm")


def open_library(choice: LibraryChoice) -> Libnvmm:
    """Open `choice` and resolve libnvmm's functions in it.

    Raises LibraryError, naming path and cause, where there is no such file or
    it is no libnvmm.  Nothing is initialised: that is nvmm_init()'s.
    """
    table, why = _open_table(choice.path)
    if table == ffi.NULL:
        cause = why.removeprefix(f"{choice.path}: ")
        raise LibraryError(f"cannot use {choice.path} ({choice.reason}): {cause}")
    return Libnvmm(choice.path, choice.reason, table)
