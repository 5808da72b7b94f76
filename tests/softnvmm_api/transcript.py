# SPDX-License-Identifier: BSD-2-Clause
"""What a scenario (scene.h) prints, as named fields with numbers in them."""

from __future__ import annotations

from dataclasses import dataclass

SEGS = ("es", "cs", "ss", "ds", "fs", "gs", "gdt", "idt", "ldt", "tr")
GPRS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{i}" for i in range(8, 16)),
    *("rip", "rflags"),
)
CRS = ("cr0", "cr2", "cr3", "cr4", "cr8", "xcr0")
DRS = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MSRS = (
    *("efer", "star", "lstar", "cstar", "sfmask", "kernelgsbase"),
    *("sysenter_cs", "sysenter_esp", "sysenter_eip", "pat"),
)
Layout = tuple[tuple[str, int, int], ...]  # name, offset, size


def words(names: tuple[str, ...]) -> Layout:
    return tuple((name, 8 * i, 8) for i, name in enumerate(names))


def segments() -> Layout:
    parts = (("selector", 0, 2), ("attrib", 2, 2), ("limit", 4, 4), ("base", 8, 8))
    return tuple(
        (f"{seg}.{part}", 16 * i + at, size)
        for i, seg in enumerate(SEGS)
        for part, at, size in parts
    )


LAYOUTS: dict[str, Layout] = {
    "segs": segments(),
    "gprs": words(GPRS),
    "crs": words(CRS),
    "drs": words(DRS),
    "msrs": words(MSRS),
    "intr": words(("flags",)),
    "fpu": (
        *(("cw_sw_tw", 0, 8), ("ip", 8, 8), ("dp", 16, 8), ("mxcsr", 24, 4), ("mask", 28, 4)),
        *((f"at{at}", at, 8) for at in range(32, 512, 8)),
    ),
    "exitstate": words(("rflags", "cr8", "flags")),
}
# What `u` holds, by exit reason (spec kernel 0); else four words.
UNION: dict[int, Layout] = {
    1: (("prot", 0, 4), ("gpa", 8, 8), ("inst_len", 16, 1), ("inst_bytes", 17, 15)),
    2: (
        *(("in", 0, 1), ("port", 2, 2), ("seg", 4, 1), ("address_size", 5, 1)),
        *(("operand_size", 6, 1), ("rep", 7, 1), ("str", 8, 1), ("npc", 16, 8)),
    ),
    0x2000: (("msr", 0, 4), ("npc", 8, 8)),
    0x2001: (("msr", 0, 4), ("val", 8, 8), ("npc", 16, 8)),
    0xFFFFFFFFFFFFFFFF: (("hwcode", 0, 8),),
}


@dataclass(frozen=True)
class Field:
    """A value that a scenario showed; in order of showing."""

    path: str
    value: int


def parse(text: str) -> list[Field]:
    """The fields of a scenario's output.

    Bytes that no name is known for are one number, as memory has them.
    """
    fields: list[Field] = []
    reason = 0
    for line in text.splitlines():
        name, *rest = line.split()
        if len(rest) == 3 and rest[1] == "errno":
            fields += [Field(name, int(rest[0])), Field(f"{name}.errno", int(rest[2]))]
            continue
        layout = LAYOUTS.get(name)
        if name == "u":
            layout = UNION.get(reason, words(("0", "1", "2", "3")))
        if layout is not None:
            data = bytes.fromhex("".join(rest))
            fields += [
                Field(f"{name}.{part}", int.from_bytes(data[at : at + size], "little"))
                for part, at, size in layout
            ]
        else:
            fields.append(Field(name, int("0" + "".join(rest), 16)))
        if name == "reason":
            reason = fields[-1].value
    return fields
