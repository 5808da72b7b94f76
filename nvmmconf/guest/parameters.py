# SPDX-License-Identifier: BSD-2-Clause
"""Values that a case gives to a guest's template."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from .errors import GuestError
from .mode import Mode

Parameter = int | str
"""A number (a truth value is 1 or 0), or text that is put in as it is: an operand, an
instruction, several lines."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# The renderer marks lines with these.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")

RESERVED = frozenset({"guest", "guest_name", "long_mode", *Mode.LONG64.variables()})
"""Names that templates have already."""


def check_name(where: str, name: str) -> None:
    """Raises GuestError where `name` cannot be a parameter's; `where` begins the message."""
    if not _NAME.fullmatch(name):
        raise GuestError(f"{where}: {name!r} is no name for a parameter (letters, digits, '_')")
    if name in RESERVED:
        raise GuestError(f"{where}: parameter {name!r} has the name of a template variable")


def check_parameters(where: str, declared: Collection[str], given: Mapping[str, object]) -> None:
    """Hold what a case gives against what the guest declares.

    Raises GuestError naming the guest and the parameter that is unknown, missing,
    or neither a number nor text.
    """
    known = " ".join(declared) or "none"
    for name, value in given.items():
        if name not in declared:
            raise GuestError(f"{where}: no parameter {name!r} (parameters: {known})")
        if not isinstance(value, int | str):
            kind = type(value).__name__
            raise GuestError(f"{where}: parameter {name!r} is {kind}, neither a number nor text")
        if isinstance(value, str) and _CONTROL.search(value):
            raise GuestError(f"{where}: parameter {name!r} has control characters: {value!r}")
    for name in declared:
        if name not in given:
            raise GuestError(f"{where}: parameter {name!r} is missing (parameters: {known})")
