# SPDX-License-Identifier: BSD-2-Clause
"""A wire: who drives it calls it with its level, which is True where it is asserted."""

from __future__ import annotations

from collections.abc import Callable

Line = Callable[[bool], None]
"""Told of a level; being told the same level again is no edge."""


def unconnected(level: bool) -> None:
    """The wire that leads nowhere."""


def fan_out(*lines: Line) -> Line:
    """Return a wire that leads to each of `lines`, as an ISA interrupt to two controllers."""

    def drive(level: bool) -> None:
        for line in lines:
            line(level)

    return drive
