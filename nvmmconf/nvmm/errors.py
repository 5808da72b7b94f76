# SPDX-License-Identifier: BSD-2-Clause
"""errno as an exception that says which call, with what, failed how."""

from __future__ import annotations

import errno
import os

from nvmmconf.abi import ffi

EPROGMISMATCH = 75
"""NetBSD's errno for "program version wrong"; other systems have another or none (L-INIT-4)."""


def errno_name(number: int) -> str:
    """Return the symbolic name of an errno, `errno N` where it has none here."""
    return errno.errorcode.get(number, f"errno {number}")


class NvmmError(OSError):
    """A call of libnvmm returned -1.

    `call` is the function's name, `arguments` what it was given in words, `errno`
    the number; `str()` has all of it on one line.
    """

    def __init__(self, call: str, number: int, note: str = "", **arguments: int | str) -> None:
        super().__init__(number, os.strerror(number))
        self.call = call
        self.note = note
        self.arguments = {name: _word(value) for name, value in arguments.items()}

    @property
    def name(self) -> str:
        """The errno's symbolic name, `EINVAL`."""
        return errno_name(self.errno or 0)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        note = f": {self.note}" if self.note else ""
        return f"{self.call}({arguments}): {self.name} ({self.strerror}){note}"


def _word(value: int | str) -> str:
    if isinstance(value, str):
        return value
    return str(value) if -10 < value < 10 else hex(value)


def check(result: int, call: str, **arguments: int | str) -> None:
    """Raise NvmmError for `call` where `result` is not 0.

    Must be the first thing after the call: cffi keeps errno per thread only
    until the next one.
    """
    if result != 0:
        raise NvmmError(call, ffi.errno, "", **arguments)
