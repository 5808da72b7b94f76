# SPDX-License-Identifier: BSD-2-Clause
"""The measured guests: registers and memory in the three modes, as commands for kernel.c."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

Step = dict[str, Any]

SEGS, GPRS, CRS, DRS, MSRS, INTR, FPU, ALL = 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x7F

SEG_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "gdt", "idt", "ldt", "tr")
GPR_NAMES = (
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
)
CR_NAMES = ("cr0", "cr2", "cr3", "cr4", "cr8", "xcr0")
DR_NAMES = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MSR_NAMES = (
    "efer",
    "star",
    "lstar",
    "cstar",
    "sfmask",
    "kernelgsbase",
    "sysenter_cs",
    "sysenter_esp",
    "sysenter_eip",
    "pat",
    "tsc",
)
INTR_NAMES = ("int_shadow", "int_window_exiting", "nmi_window_exiting", "evt_pending")
# Group, its flag, where it begins in struct nvmm_x64_state.
PLACES = (
    ("gprs", GPR_NAMES, GPRS, 160),
    ("crs", CR_NAMES, CRS, 304),
    ("drs", DR_NAMES, DRS, 352),
    ("msrs", MSR_NAMES, MSRS, 400),
)
REGISTERS = {
    name: (flag, base + 8 * i) for _, names, flag, base in PLACES for i, name in enumerate(names)
}
INTR_AT, FPU_AT = 488, 496

CODE, STACK, TABLE_COPY, SPARE = 0x1000, 0x9000, 0x62000, 0x64000
FLAT = 0xFFFFFFFF
# selector, base, limit, type, s, dpl, p, avl, l, def, g
Segment = tuple[int, int, int, int, int, int, int, int, int, int, int]


def number(value: str | int) -> int:
    return value if isinstance(value, int) else int(value, 16)


def little(value: int, size: int) -> str:
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little").hex()


def patch(offset: int, value: int, size: int = 8) -> str:
    return f"patch {offset:x} {little(value, size)}"


def segment_bytes(segment: Segment) -> str:
    selector, base, limit, kind, s, dpl, p, avl, long, default, g = segment
    attrib = kind | s << 4 | dpl << 5 | p << 7 | avl << 8 | long << 9 | default << 10 | g << 11
    return struct.pack("<HHIQ", selector, attrib, limit, base & (1 << 64) - 1).hex()


def segment(name: str, value: Segment) -> str:
    return f"patch {16 * SEG_NAMES.index(name):x} {segment_bytes(value)}"


def seg(
    selector: int,
    base: int,
    limit: int,
    kind: int,
    s: int = 1,
    dpl: int = 0,
    p: int = 1,
    avl: int = 0,
    long: int = 0,
    default: int = 0,
    g: int = 0,
) -> Segment:
    return selector, base, limit, kind, s, dpl, p, avl, long, default, g


def put(**registers: int) -> list[str]:
    """Change registers and commit their whole groups, as the measuring program did."""
    flags = 0
    lines = []
    for name, value in registers.items():
        flag, offset = REGISTERS[name]
        flags |= flag
        lines.append(patch(offset, value))
    return [f"fetch {flags:x}", *lines, f"commit {flags:x}"]


def put_segs(**segments: Segment) -> list[str]:
    return [
        f"fetch {SEGS:x}",
        *(segment(name, value) for name, value in segments.items()),
        f"commit {SEGS:x}",
    ]


def put_fpu(mxcsr: int, mask: int, *more: str) -> list[str]:
    return [
        f"fetch {FPU:x}",
        patch(FPU_AT + 24, mxcsr, 4),
        patch(FPU_AT + 28, mask, 4),
        *more,
        f"commit {FPU:x}",
    ]


# --- the three modes -------------------------------------------------------------------

REAL_DATA = seg(0, 0, 0xFFFF, 3)
BIG_DATA = seg(0, 0, FLAT, 3, g=1)
REAL = dict.fromkeys(("es", "cs", "ss", "ds", "fs", "gs"), REAL_DATA)
DATA32 = seg(0x10, 0, FLAT, 3, default=1, g=1)
CODE32 = seg(0x08, 0, FLAT, 11, default=1, g=1)
DATA64 = seg(0x20, 0, FLAT, 3, default=1, g=1)
CODE64 = seg(0x18, 0, FLAT, 11, long=1, g=1)
USER_CODE = seg(0x3B, 0, FLAT, 11, dpl=3, long=1, g=1)
USER_DATA = seg(0x33, 0, FLAT, 3, dpl=3, default=1, g=1)
GDTR = seg(0, 0x3000, 0x7F, 2)
TR = seg(0x40, 0x3800, 0x67, 11, s=0)
GDT = {
    0x08: 0x00CF9B000000FFFF,
    0x10: 0x00CF93000000FFFF,
    0x18: 0x00AF9B000000FFFF,
    0x20: 0x00CF93000000FFFF,
    0x30: 0x00CFF3000000FFFF,
    0x38: 0x00AFFB000000FFFF,
    0x40: 0x00008B0038000067,
    0x48: 0x0000890039000067,
}


def handler(vector: int) -> int:
    return 0x6000 + 4 * vector


def table(mode: str) -> str:
    """The IVT or IDT of a mode."""
    if mode == "real16":
        return "".join(little(handler(v), 2) + "0000" for v in range(256))
    low = [
        (handler(v) & 0xFFFF) | (0x8 if mode == "prot32" else 0x18) << 16 | 0xEE00 << 32
        for v in range(256)
    ]
    size = 8 if mode == "prot32" else 16
    return "".join(little(gate, size) for gate in low)


def memory(mode: str, code: str, user: bool) -> Iterator[str]:
    rights = 7 if user else 3
    iret = {"real16": "cf", "prot32": "cf", "long64": "48cf"}[mode]
    yield f"mem {CODE:x} {code}"
    yield f"mem {handler(0):x} " + "".join(f"f4{iret}".ljust(8, "0") for _ in range(256))
    yield f"mem {0 if mode == 'real16' else 0x2000:x} {table(mode)}"
    for selector, descriptor in GDT.items():
        yield f"mem {0x3000 + selector:x} {little(descriptor, 8)}"
    yield f"mem 10000 {little(0x11000 | rights, 8)}"
    yield f"mem 11000 {little(0x12000 | rights, 8)}"
    yield "mem 12000 " + "".join(little(0x80 | rights | i << 21, 8) for i in range(512))
    # ESP0 and SS0, or RSP0; no I/O permissions.
    yield f"mem 3804 {little(STACK, 4)}{little(0x10 if mode == 'prot32' else 0, 4)}"
    yield "mem 3866 6800"


def registers(mode: str) -> Iterator[str]:
    """What every script commits before its first run."""
    yield f"fetch {ALL:x}"
    if mode == "real16":
        segments = dict(REAL)
        crs = (0x10, 0, 0, 0, 0, 1)
    elif mode == "prot32":
        segments = dict.fromkeys(SEG_NAMES[:6], DATA32) | {
            "cs": CODE32,
            "tr": TR,
            "gdt": GDTR,
            "idt": seg(0, 0x2000, 0x7FF, 2),
        }
        crs = (0x33, 0, 0, 0x600, 0, 1)
    else:
        segments = dict.fromkeys(SEG_NAMES[:6], DATA64) | {
            "cs": CODE64,
            "tr": TR,
            "gdt": GDTR,
            "idt": seg(0, 0x2000, 0xFFF, 2),
        }
        crs = (0x80000033, 0, 0x10000, 0x620, 0, 1)
        yield patch(REGISTERS["efer"][1], 0x500)
    for name, value in segments.items():
        yield segment(name, value)
    for name, value in zip(CR_NAMES, crs, strict=True):
        yield patch(REGISTERS[name][1], value)
    for name, value in {"rdx": 0, "rip": CODE, "rsp": STACK, "rflags": 2}.items():
        yield patch(REGISTERS[name][1], value)
    yield f"patch {FPU_AT:x} {little(0x37F, 2)}00000000"
    yield patch(FPU_AT + 24, 0x1F80, 4)
    yield patch(FPU_AT + 28, 0xFFFF, 4)
