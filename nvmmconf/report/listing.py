# SPDX-License-Identifier: BSD-2-Clause
"""One guest's run as its section shows it: trace and disassembly, tied together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

from nvmmconf.report.text import console, quantity
from nvmmconf.results import ExitRow, GuestRun, InsnRow

# More than a reader reads, and hundreds of pages stay small; the run's file has the rest.
_MOST_EXITS = 200
_MOST_INSTRUCTIONS = 120
_MOST_CONSOLE = 20_000
_MOST_NOTED = 4

_ADDRESS = re.compile(r"0x([0-9a-fA-F]{1,16})\b")


@dataclass(frozen=True)
class TraceView:
    """An exit; `row` is the anchor of its instruction in the listing, if it is there."""

    exit: ExitRow
    row: str


@dataclass(frozen=True)
class InsnView:
    """An instruction; `mark` says that the final RIP is here, `note` which exits were."""

    insn: InsnRow
    anchor: str
    mark: str
    note: str

    @property
    def encoding(self) -> str:
        """The bytes, apart; what is not hex stays as it is."""
        code = _bytes(self.insn)
        return self.insn.encoding if code is None else code.hex(" ")


@dataclass(frozen=True)
class GuestView:
    """A guest's run; what was left out of it is said in the `*_kept` texts, else empty."""

    run: GuestRun
    anchor: str
    console: Markup
    console_kept: str
    trace: tuple[TraceView, ...]
    trace_kept: str
    listing: tuple[InsnView, ...]
    listing_kept: str
    rip_row: str
    rip_note: str
    """Where the final RIP is, for a reader who does not find it marked."""


def guest_view(run: GuestRun, anchor: str) -> GuestView:
    """The view of `run`; `anchor` is what its ids begin with."""
    instructions, listing_kept = _kept_instructions(run)
    anchors: dict[int, str] = {}
    for number, insn in enumerate(instructions, start=1):
        anchors.setdefault(insn.address, f"{anchor}-insn-{number}")
    exits_at: dict[int, list[ExitRow]] = {}
    for one in run.trace:
        if (address := _address(one.rip)) is not None:
            exits_at.setdefault(address, []).append(one)
    listing = []
    rip_row = ""
    for number, insn in enumerate(instructions, start=1):
        name = f"{anchor}-insn-{number}"
        mark = "" if rip_row else _mark(insn, run.rip)
        rip_row = rip_row or (name if mark else "")
        exits = exits_at.get(insn.address, []) if anchors[insn.address] == name else []
        listing.append(InsnView(insn, name, mark, _exits_note(exits)))
    shown = run.trace[-_MOST_EXITS:]
    return GuestView(
        run=run,
        anchor=anchor,
        console=console(run.console[-_MOST_CONSOLE:]),
        console_kept=_kept(len(run.console), _MOST_CONSOLE, "characters"),
        trace=tuple(TraceView(one, _row_of(one, anchors)) for one in shown),
        trace_kept=_trace_kept(run, len(shown)),
        listing=tuple(listing),
        listing_kept=listing_kept,
        rip_row=rip_row,
        rip_note=_rip_note(run, rip_row),
    )


def _mark(insn: InsnRow, rip: int | None) -> str:
    if rip is None:
        return ""
    if rip == insn.address:
        return "RIP at the end"
    if insn.address < rip < insn.address + len(_bytes(insn) or b""):
        return f"RIP at the end, {rip:#x}, is inside this instruction"
    return ""


def _bytes(insn: InsnRow) -> bytes | None:
    try:
        return bytes.fromhex(insn.encoding)
    except ValueError:
        return None


def _address(rip: str) -> int | None:
    match = _ADDRESS.match(rip)
    return int(match[1], 16) if match else None


def _row_of(one: ExitRow, anchors: dict[int, str]) -> str:
    address = _address(one.rip)
    return "" if address is None else anchors.get(address, "")


def _exits_note(exits: list[ExitRow]) -> str:
    if not exits:
        return ""
    shown = ", ".join(f"{one.sequence} {one.reason}" for one in exits[:_MOST_NOTED])
    more = len(exits) - _MOST_NOTED
    word = "exit" if len(exits) == 1 else "exits"
    return f"{word} {shown}" + (f" and {more:,} more" if more > 0 else "")


def _kept(total: int, most: int, what: str) -> str:
    return f"The last {most:,} of {total:,} {what} are shown." if total > most else ""


def _trace_kept(run: GuestRun, shown: int) -> str:
    notes = []
    if run.dropped > 0:
        verb = "was" if run.dropped == 1 else "were"
        notes.append(f"{quantity(run.dropped, 'older exit')} {verb} not kept.")
    if len(run.trace) > shown:
        notes.append(f"The last {shown:,} of {len(run.trace):,} kept exits are shown.")
    return " ".join(notes)


def _kept_instructions(run: GuestRun) -> tuple[tuple[InsnRow, ...], str]:
    """The listing, or the part of it around the final RIP, and words for what is left out."""
    total = len(run.listing)
    if total <= _MOST_INSTRUCTIONS:
        return run.listing, ""
    at = next((i for i, insn in enumerate(run.listing) if insn.address == run.rip), 0)
    first = max(0, min(at - _MOST_INSTRUCTIONS // 2, total - _MOST_INSTRUCTIONS))
    kept = run.listing[first : first + _MOST_INSTRUCTIONS]
    note = f"{_MOST_INSTRUCTIONS:,} of {total:,} instructions are shown, from number {first + 1:,}."
    return kept, note


def _rip_note(run: GuestRun, rip_row: str) -> str:
    if run.rip is None:
        return "There is no final RIP: the guest never got that far."
    if not run.listing or rip_row:
        return ""
    return f"The final RIP, {run.rip:#x}, is not in this listing."
