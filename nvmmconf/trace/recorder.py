# SPDX-License-Identifier: BSD-2-Clause
"""Recording exits, bounded in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from nvmmconf.nvmm import Exit


@dataclass(frozen=True, slots=True)
class TracedExit:
    """One exit: its number in the run (from 1), the vCPU, RIP before it was handled, the exit.

    `rip` is None where telling it would have cost a call to the kernel.
    """

    sequence: int
    vcpu: int
    rip: int | None
    exit: Exit


class Trace:
    """The last `keep` exits of a machine; `dropped` counts the older ones."""

    def __init__(self, keep: int = 1000) -> None:
        self._exits: deque[TracedExit] = deque(maxlen=keep)
        self._count = 0

    def record(self, vcpu: int, taken: Exit, rip: int | None) -> None:
        """Add an exit."""
        self._count += 1
        self._exits.append(TracedExit(self._count, vcpu, rip, taken))

    @property
    def exits(self) -> tuple[TracedExit, ...]:
        """Those kept, oldest first."""
        return tuple(self._exits)

    @property
    def dropped(self) -> int:
        """How many older ones are not kept."""
        return self._count - len(self._exits)
