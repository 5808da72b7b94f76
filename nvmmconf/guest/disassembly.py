# SPDX-License-Identifier: BSD-2-Clause
"""An image's code as rows of instructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import capstone

from .image import Image
from .link import Section

_CAPSTONE_MODE = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_BYTES_PER_ROW = 8


@dataclass(frozen=True)
class Instruction:
    """One row: an instruction, or bytes that are none (`.byte ...`)."""

    address: int
    """As a symbol's value: an offset in CS."""
    encoding: bytes
    text: str
    """In Intel syntax; the target of a branch is named."""
    labels: tuple[str, ...]
    """The labels at this address, as the source has them."""

    @property
    def label(self) -> str | None:
        """The last of `labels`, if any."""
        return self.labels[-1] if self.labels else None


def disassemble(image: Image) -> tuple[Instruction, ...]:
    """The guest's code, by address; neither the trampoline nor data.

    Decoding begins anew at each label, so that bytes that are no instruction
    never throw later ones out of step.
    """
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _CAPSTONE_MODE[image.mode.bits])
    decoder.syntax = capstone.CS_OPT_SYNTAX_INTEL
    decoder.detail = True
    rows: list[Instruction] = []
    for section in image.sections:
        if section.executable and section.data:
            rows.extend(_section(image, section, decoder))
    return tuple(rows)


def disassemble_bytes(code: bytes, address: int, bits: int) -> tuple[Instruction, ...]:
    """The instructions in `code`, which begins at `address`, of 16-, 32- or 64-bit code.

    Bytes that are no instruction, be it that the last is cut off, are single rows.
    """
    decoder = capstone.Cs(capstone.CS_ARCH_X86, _CAPSTONE_MODE[bits])
    decoder.syntax = capstone.CS_OPT_SYNTAX_INTEL
    rows: list[Instruction] = []
    done = 0
    while done < len(code):
        row = next(decoder.disasm(code[done:], address + done, count=1), None)
        if row is None:
            rows.extend(_data(address + done, code[done : done + 1], ()))
            done += 1
        else:
            text = f"{row.mnemonic} {row.op_str}".strip()
            rows.append(Instruction(row.address, bytes(row.bytes), text, ()))
            done += row.size
    return tuple(rows)


def _section(image: Image, section: Section, decoder: capstone.Cs) -> Iterator[Instruction]:
    names: dict[int, tuple[str, ...]] = {}
    objects: dict[int, int] = {}
    for label in image.labels:
        if label.section == section.name:
            names[label.address] = (*names.get(label.address, ()), label.name)
            if label.is_object:
                objects[label.address] = label.size
    end = section.address + len(section.data)
    edges = {address for address in names if address < end}
    edges |= {address + size for address, size in objects.items() if address + size < end}
    for begin, after in pairwise(sorted(edges | {section.address, end})):
        piece = section.data[begin - section.address : after - section.address]
        labels = names.get(begin, ())
        if begin in objects:
            yield from _data(begin, piece, labels)
            continue
        done = 0
        while done < len(piece):
            row = next(decoder.disasm(piece[done:], begin + done, count=1), None)
            if row is None:
                yield from _data(begin + done, piece[done : done + 1], labels)
                done += 1
            else:
                text = f"{row.mnemonic} {row.op_str}".strip() + _target(image, row)
                yield Instruction(row.address, bytes(row.bytes), text, labels)
                done += row.size
            labels = ()


def _data(address: int, data: bytes, labels: tuple[str, ...]) -> Iterator[Instruction]:
    for at in range(0, len(data), _BYTES_PER_ROW):
        row = data[at : at + _BYTES_PER_ROW]
        text = ".byte " + ", ".join(f"{byte:#04x}" for byte in row)
        yield Instruction(address + at, row, text, labels if at == 0 else ())


def _target(image: Image, row: capstone.CsInsn) -> str:
    relative = row.group(capstone.x86.X86_GRP_BRANCH_RELATIVE)
    if not relative or row.operands[0].type != capstone.x86.X86_OP_IMM:
        return ""
    _, _, name = image.describe(row.operands[0].imm).partition(" ")
    return f" {name}" if name else ""
