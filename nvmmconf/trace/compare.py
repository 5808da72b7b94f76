# SPDX-License-Identifier: BSD-2-Clause
"""Where two traces part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from nvmmconf.abi import ExitReason
from nvmmconf.trace.recorder import TracedExit
from nvmmconf.trace.text import line

HOSTS_DOING = frozenset({ExitReason.NONE, ExitReason.STOPPED})
"""What the host, not the guest, causes: it may come at any time (L-STOP-3)."""


@dataclass(frozen=True)
class Difference:
    """The first difference on one vCPU; an exit is None where that trace has ended."""

    vcpu: int
    position: int
    """How many exits of this vCPU's, without the host's, were the same before."""
    what: tuple[str, ...]
    """What differs, `reason`, `rip`, `port`, ...; `end` where one trace has ended."""
    first: TracedExit | None
    second: TracedExit | None

    def __str__(self) -> str:
        sides = [
            f"  {name}: {'(no more exits)' if one is None else line(one)}"
            for name, one in (("first", self.first), ("second", self.second))
        ]
        head = f"vCPU {self.vcpu}, after {self.position} equal exits: {', '.join(self.what)}"
        return "\n".join([head, *sides])


def first_difference(
    first: Iterable[TracedExit], second: Iterable[TracedExit]
) -> Difference | None:
    """Return the first difference of two traces, None where there is none.

    Times, sequence numbers and the exits NONE and STOPPED do not count.  Each
    vCPU is compared with itself: how their exits interleave is the host's doing.
    What only one of the two tells (RIP, registers) is not compared.  Both traces
    must be whole.  Of several vCPUs that differ, it is the one whose exit came
    first in `first`.
    """
    one, two = _by_vcpu(first), _by_vcpu(second)
    found = [
        difference
        for vcpu in sorted(one.keys() | two.keys())
        if (difference := _compare(vcpu, one.get(vcpu, []), two.get(vcpu, [])))
    ]
    return min(found, key=_order, default=None)


def _order(difference: Difference) -> tuple[bool, int]:
    if difference.first is None:
        return True, 0 if difference.second is None else difference.second.sequence
    return False, difference.first.sequence


def _by_vcpu(exits: Iterable[TracedExit]) -> dict[int, list[TracedExit]]:
    found: dict[int, list[TracedExit]] = {}
    for traced in exits:
        if traced.exit.reason not in HOSTS_DOING:
            found.setdefault(traced.vcpu, []).append(traced)
    return found


def _compare(vcpu: int, one: list[TracedExit], two: list[TracedExit]) -> Difference | None:
    for position in range(max(len(one), len(two))):
        first = one[position] if position < len(one) else None
        second = two[position] if position < len(two) else None
        what = _differing(first, second)
        if what:
            return Difference(vcpu, position, what, first, second)
    return None


def _differing(first: TracedExit | None, second: TracedExit | None) -> tuple[str, ...]:
    if first is None or second is None:
        return ("end",)
    checks: tuple[tuple[str, Callable[[TracedExit], object]], ...] = (
        ("rip", lambda traced: traced.rip),
        ("changed", lambda traced: _comparable(traced)),
    )
    found = [
        name
        for name, get in checks
        if get(first) is not None and get(second) is not None and get(first) != get(second)
    ]
    if first.event != second.event:
        found.append("event")
    if type(first.exit) is not type(second.exit):
        return ("reason", *found)
    exits = [
        field.name
        for field in fields(first.exit)
        if getattr(first.exit, field.name) != getattr(second.exit, field.name)
    ]
    return (*exits, *found)


def _comparable(traced: TracedExit) -> dict[str, int] | None:
    if traced.changed is None:
        return None
    return {name: value for name, value in traced.changed.items() if name != "TSC"}
