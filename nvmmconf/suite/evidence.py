# SPDX-License-Identifier: BSD-2-Clause
"""From what a guest did to the record that a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.accel import Registers
from nvmmconf.guest import Image, disassemble
from nvmmconf.results import ExitRow, GuestRun, InsnRow
from nvmmconf.suite.run import VmRun

BRIEF = 16
"""Exits, and instructions, that are kept of a run which is as required."""


def guest_run(run: VmRun, *, brief: bool = False) -> GuestRun:
    """Return what is known of `run`, in words and numbers; `brief`: its end and its beginning.

    Thousands of cases pass; what they did is told by running one again.
    """
    exits = run.exits[-BRIEF:] if brief else run.exits
    listing = _listing(run.image)
    cs_base = run.registers.seg[Segment.CS].base
    return GuestRun(
        guest=run.image.name,
        mode=run.image.mode.value,
        outcome=str(run.outcome),
        rip=cs_base + run.registers.rip - run.image.code_base,
        console=run.console,
        registers=_words(run.registers),
        trace=tuple(
            ExitRow(
                sequence=traced.sequence,
                reason=traced.exit.reason_name,
                rip="" if traced.rip is None else run.image.describe(traced.rip),
                detail=traced.exit.detail(),
            )
            for traced in exits
        ),
        dropped=run.dropped + len(run.exits) - len(exits),
        note=run.note,
        listing=listing[:BRIEF] if brief else listing,
    )


_listings: dict[Path, tuple[InsnRow, ...]] = {}
"""By the folder of the image, which never changes; the last ones."""


def _listing(image: Image) -> tuple[InsnRow, ...]:
    found = _listings.get(image.files.folder)
    if found is None:
        found = tuple(
            InsnRow(row.address, row.encoding.hex(), row.text, row.label or "")
            for row in disassemble(image)
        )
        if len(_listings) >= 256:
            _listings.clear()
        _listings[image.files.folder] = found
    return found


def _words(registers: Registers) -> Mapping[str, str]:
    words = {gpr.name: f"{registers.gpr[gpr]:#x}" for gpr in Gpr}
    for segment in Segment:
        register = registers.seg[segment]
        words[segment.name] = (
            f"{register.selector:#06x} base {register.base:#x} limit {register.limit:#x}"
            f" flags {register.flags:#x}"
        )
    for cr in Cr:
        if cr is not Cr.CR8:  # the accelerator keeps the TPR apart (A-REG-4)
            words[cr.name] = f"{registers.cr[cr]:#x}"
    words[Msr.EFER.name] = f"{registers.msr[Msr.EFER]:#x}"
    return words
