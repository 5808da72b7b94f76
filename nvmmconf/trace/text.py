# SPDX-License-Identifier: BSD-2-Clause
"""A trace for reading: a line an exit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nvmmconf.trace.recorder import TracedExit

MOST_REGISTERS = 6
"""Changed registers on a line; a first exit, which tells all of them, would fill a screen."""


def line(traced: TracedExit, describe: Callable[[int], str] = hex) -> str:
    """Number, vCPU, RIP, reason and payload, event injected, registers changed."""
    where = "" if traced.rip is None else f" at {describe(traced.rip)}"
    detail = traced.exit.detail()
    text = f"{traced.sequence:6} cpu{traced.vcpu}{where} {traced.exit.reason_name}"
    if detail:
        text += f" {detail}"
    if traced.event is not None:
        text += f"; injected {traced.event}"
    if traced.changed:
        told = [f"{name}={value:#x}" for name, value in traced.changed.items() if name != "RIP"]
        more = len(told) - MOST_REGISTERS
        shown = told[:MOST_REGISTERS] + ([f"and {more} more"] if more > 0 else [])
        if shown:
            text += f"; {' '.join(shown)}"
    return text


def lines(
    exits: Iterable[TracedExit], dropped: int = 0, describe: Callable[[int], str] = hex
) -> Iterator[str]:
    """Each exit's line; times are counted from the first, in microseconds."""
    start: int | None = None
    if dropped:
        yield f"(the first {dropped} exits were not kept)"
    for traced in exits:
        start = traced.time if start is None else start
        yield f"{(traced.time - start) / 1000:10.1f} {line(traced, describe)}"
