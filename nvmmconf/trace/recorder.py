# SPDX-License-Identifier: BSD-2-Clause
"""Recording exits, bounded in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nvmmconf.abi import EventType, StateFlag
from nvmmconf.nvmm import Exit
from nvmmconf.trace.image import Changes, rip_of


@dataclass(frozen=True, slots=True)
class Event:
    """What was injected."""

    kind: EventType
    vector: int

    def __str__(self) -> str:
        return f"{self.kind.name} {self.vector:#x}"


@dataclass(frozen=True, slots=True)
class TracedExit:
    """One exit: its number in the run (from 1), the vCPU, RIP before it was handled, the exit.

    `rip` is None where telling it would have cost a call to the kernel.
    """

    sequence: int
    vcpu: int
    rip: int | None
    exit: Exit
    time: int = field(default=0, compare=False)
    """When it was taken: nanoseconds of a clock that never goes back (time.monotonic_ns)."""
    event: Event | None = None
    """What was injected at the entry that it ended."""
    changed: Mapping[str, int] | None = None
    """Registers, name to value, that differ from those of the vCPU's exit before it that
    told them; all of them at the first; None where this exit does not tell them."""


_Raw = tuple[int, int, Exit, bytes | int | None, int, Event | None]


class Trace:
    """The last `keep` exits of a machine; `dropped` counts the older ones.

    General registers are told where the exit brings them; `full` has every
    register told at every exit, which costs a call to the kernel each time.
    Any thread may record.
    """

    def __init__(self, keep: int = 1000, *, full: bool = False) -> None:
        self.full = full
        self.parts = StateFlag.ALL if full else StateFlag.GPRS
        """What has to be fetched where registers are told."""
        # Plain tuples: what they say is worked out when it is asked for.
        self._exits: deque[_Raw] = deque(maxlen=keep)
        self._numbers = itertools.count(1)

    def record(
        self,
        vcpu: int,
        taken: Exit,
        image: bytes | int | None = None,
        time: int = 0,
        event: Event | None = None,
    ) -> None:
        """Add an exit; `image` has its registers as they are in libnvmm's state, or RIP alone."""
        self._exits.append((next(self._numbers), vcpu, taken, image, time, event))

    @property
    def exits(self) -> tuple[TracedExit, ...]:
        """Those kept, oldest first."""
        return tuple(_told(self._in_order()))

    @property
    def dropped(self) -> int:
        """How many older ones are not kept."""
        kept = self._in_order()
        return kept[-1][0] - len(kept) if kept else 0

    def _in_order(self) -> list[_Raw]:
        # Threads that record at once may have appended in another order.
        return sorted(self._exits, key=lambda raw: raw[0])


def _told(raws: list[_Raw]) -> Iterator[TracedExit]:
    before: dict[int, bytes] = {}
    for number, vcpu, taken, image, time, event in raws:
        if isinstance(image, bytes):
            changed: Changes | None = Changes(before.get(vcpu), image)
            before[vcpu] = image
            rip: int | None = rip_of(image)
        else:
            changed, rip = None, image
        yield TracedExit(number, vcpu, rip, taken, time, event, changed)
