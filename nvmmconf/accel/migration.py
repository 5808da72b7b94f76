# SPDX-License-Identifier: BSD-2-Clause
"""Why a machine cannot be moved while it runs (A-VCPU-2)."""

from __future__ import annotations


class MigrationError(Exception):
    """A machine may not be moved while it runs, or something may not forbid it."""


class MigrationBlockers:
    """The reasons against moving a running machine.

    A machine that is to be `movable` takes none: `add` then raises MigrationError.
    """

    def __init__(self, *, movable: bool = False) -> None:
        self.movable = movable
        self._reasons: list[str] = []

    def add(self, reason: str) -> None:
        """Forbid it.  Raises MigrationError where the machine has to be movable."""
        if self.movable:
            raise MigrationError(f"the machine is to be movable, but {reason}")
        self._reasons.append(reason)

    def check(self) -> None:
        """Raise MigrationError with the reasons where there are any."""
        if self._reasons:
            raise MigrationError(f"the machine cannot be moved: {'; '.join(self._reasons)}")
