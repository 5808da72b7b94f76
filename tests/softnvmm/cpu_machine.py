# SPDX-License-Identifier: BSD-2-Clause
"""Builds the processor with its test driver, and assembles code for it."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).parent
CPU = HERE.parent.parent / "nvmmconf" / "softnvmm" / "cpu"
LIBRARY = CPU.parent
CFLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
# `make sanitize`: all that is built here; libasan is preloaded for what Python loads.
if os.environ.get("NVMMCONF_SANITIZE"):
    CFLAGS += SANITIZE

READ, WRITE, EXEC = 1, 2, 4
INT_WINDOW, IRET, NMI_WINDOW, CR8_WRITE = 1, 2, 4, 8
CPUID_FOREIGN = 0x20000
INTR, NMI, EXCP, SOFT = 1, 2, 3, 4


class Exit(IntEnum):
    """The reasons, in the order of enum cpu_exit_reason."""

    BUDGET = 0
    KICKED = 1
    HLT = 2
    IO = 3
    MEMORY = 4
    SHUTDOWN = 5
    RDMSR = 6
    WRMSR = 7
    CPUID = 8
    XSETBV = 9
    INVD = 10
    MONITOR = 11
    MWAIT = 12
    CR8_WRITE = 13
    INT_WINDOW = 14
    NMI_WINDOW = 15
    IRET = 16
    BAD_STATE = 17


@functools.cache
def build(*sources: str, flags: tuple[str, ...] = ("-shared", "-fPIC")) -> Path:
    """Compile cpu/*.c with files of this folder; kept as long as nothing changes."""
    files = [*sorted(CPU.glob("*.c")), *(HERE / name for name in sources)]
    digest = hashlib.sha256(repr((CFLAGS, flags)).encode())
    for file in [*files, *sorted(CPU.glob("*.h")), *sorted(HERE.glob("*.h"))]:
        digest.update(file.name.encode() + file.read_bytes())
    out = Path(tempfile.gettempdir()) / f"softnvmm-cpu-test-{digest.hexdigest()[:16]}"
    if out.exists():
        return out
    with tempfile.TemporaryDirectory() as tmp:
        made = Path(tmp) / "out"
        compile_c(*CFLAGS, *flags, "-I", CPU, "-o", made, *files)
        keep(made, out)
    return out


def compile_c(*arguments: str | Path) -> None:
    cc = shutil.which("cc") or shutil.which("gcc")
    assert cc is not None, "a C compiler is needed"
    subprocess.run([cc, *map(str, arguments)], check=True)


def keep(made: Path, out: Path) -> None:
    """Put a program where others find it, whole or not at all."""
    partial = out.with_suffix(f".{made.parent.name}")
    shutil.copy(made, partial)
    partial.rename(out)


@functools.cache
def build_fuzzer() -> Path:
    """The whole library with sanitizers and coverage, and fuzz_crash.c, which has neither map."""
    sources = [*sorted(LIBRARY.glob("*.c")), *sorted(CPU.glob("*.c"))]
    headers = sorted(LIBRARY.rglob("*.h"))
    digest = hashlib.sha256()
    for file in [*sources, *headers, HERE / "fuzz_crash.c"]:
        digest.update(str(file).encode() + file.read_bytes())
    out = Path(tempfile.gettempdir()) / f"softnvmm-fuzz-{digest.hexdigest()[:16]}"
    if out.exists():
        return out
    flags = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O1",
        *SANITIZE,
        "-I",
        LIBRARY / "include",
        "-I",
        LIBRARY,
    ]
    with tempfile.TemporaryDirectory() as tmp:
        objects = [Path(tmp) / f"{i}.o" for i in range(len(sources))]

        def one(source: Path, to: Path) -> None:
            compile_c(*flags, "-fsanitize-coverage=trace-pc", "-c", source, "-o", to)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, sources, objects))
        made = Path(tmp) / "out"
        compile_c(*flags, HERE / "fuzz_crash.c", *objects, "-o", made, "-pthread", "-lm")
        keep(made, out)
    return out


@functools.cache
def assemble(source: str, bits: int = 64, org: int = 0) -> bytes:
    """Machine code of a piece of GNU assembler source, Intel syntax, linked at `org`."""
    with tempfile.TemporaryDirectory() as tmp:
        asm, obj, exe, raw = (Path(tmp) / name for name in ("a.s", "a.o", "a.elf", "a.bin"))
        asm.write_text(f".intel_syntax noprefix\n.code{bits}\n{source}\n")
        subprocess.run(["as", "--64", "-o", obj, asm], check=True)
        subprocess.run(
            ["ld", "-melf_x86_64", f"-Ttext={org:#x}", "-e", "0", "-o", exe, obj], check=True
        )
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", exe, raw], check=True)
        return raw.read_bytes()


@functools.cache
def library() -> ctypes.CDLL:
    """The driver, with its prototypes."""
    lib = ctypes.CDLL(str(build("cpu_driver.c")))
    lib.driver_new.restype = ctypes.c_void_p
    lib.driver_free.argtypes = [ctypes.c_void_p]
    lib.driver_memory.argtypes = [ctypes.c_void_p]
    lib.driver_memory.restype = ctypes.c_void_p
    lib.driver_rights.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint]
    lib.driver_get.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)]
    lib.driver_set.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]
    lib.driver_inst_bytes.argtypes = [ctypes.c_void_p]
    lib.driver_inst_bytes.restype = ctypes.POINTER(ctypes.c_uint8)
    lib.driver_run.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    lib.driver_advance.argtypes = [ctypes.c_void_p]
    return lib


class Cpu:
    """One processor with 4 MiB of memory; registers by name: cpu["cs.base"]."""

    SIZE = 4 << 20

    def __init__(self) -> None:
        self.lib = library()
        self.handle = self.lib.driver_new()
        address = self.lib.driver_memory(self.handle)
        self.memory = (ctypes.c_uint8 * self.SIZE).from_address(address)

    def __del__(self) -> None:
        self.lib.driver_free(self.handle)

    def __getitem__(self, name: str) -> int:
        value = ctypes.c_uint64()
        if not self.lib.driver_get(self.handle, name.encode(), ctypes.byref(value)):
            raise KeyError(name)
        return value.value

    def __setitem__(self, name: str, value: int) -> None:
        if not self.lib.driver_set(self.handle, name.encode(), value):
            raise KeyError(name)

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self[name] = value

    def write(self, gpa: int, data: bytes) -> None:
        self.memory[gpa : gpa + len(data)] = list(data)

    def put(self, gpa: int, value: int, size: int) -> None:
        self.write(gpa, value.to_bytes(size, "little"))

    def read(self, gpa: int, size: int) -> int:
        return int.from_bytes(bytes(self.memory[gpa : gpa + size]), "little")

    def rights(self, gpa: int, rights: int) -> None:
        self.lib.driver_rights(self.handle, gpa, rights)

    def run(self, budget: int = 10000) -> Exit:
        return Exit(self.lib.driver_run(self.handle, budget))

    def advance(self) -> None:
        self.lib.driver_advance(self.handle)

    def inst_bytes(self) -> bytes:
        return bytes(self.lib.driver_inst_bytes(self.handle)[: self["exit.memory.inst_len"]])

    def real_mode(self, source: str, org: int = 0x7C00) -> None:
        """Real mode, all segments at 0, running `source` at `org`."""
        for seg in ("es", "cs", "ss", "ds", "fs", "gs"):
            self[f"{seg}.selector"] = 0
            self[f"{seg}.base"] = 0
        self["rsp"] = 0x7000
        self["rip"] = org
        self.write(org, assemble(source, 16, org))

    # Long mode: 4 KiB pages, identity, for the first 2 MiB, one 2 MiB page after.
    PML4, PDPT, PD, PT = 0x100000, 0x101000, 0x102000, 0x103000
    GDT, IDT, TSS, HANDLERS = 0x104000, 0x105000, 0x106000, 0x110000
    STACK, STACK0, STACK1 = 0x20000, 0x30000, 0x38000
    CS64, DS64, CS32, USER_DS, USER_CS, TASK = 0x08, 0x10, 0x18, 0x23, 0x2B, 0x40

    def tables(self) -> None:
        """Page tables, GDT, a TSS, and an IDT in which handler n is a HLT at HANDLERS + n."""
        self.put(self.PML4, self.PDPT | 7, 8)
        self.put(self.PDPT, self.PD | 7, 8)
        self.put(self.PD, self.PT | 7, 8)
        self.put(self.PD + 8, 0x200000 | 0x87, 8)
        for page in range(512):
            self.put(self.PT + 8 * page, page << 12 | 7, 8)
        for at, descriptor in {
            self.CS64: 0x00AF9B000000FFFF,
            self.DS64: 0x00CF93000000FFFF,
            self.CS32: 0x00CF9B000000FFFF,
            self.USER_DS & ~3: 0x00CFF3000000FFFF,
            self.USER_CS & ~3: 0x00AFFB000000FFFF,
            0x30: 0x00009B000000FFFF,  # 16-bit code
            0x38: 0x000093000000FFFF,  # 16-bit data
        }.items():
            self.put(self.GDT + at, descriptor, 8)
        base = self.TSS
        self.put(self.GDT + self.TASK, 0x67 | (base & 0xFFFFFF) << 16 | 0x8900 << 32, 8)
        self.put(self.TSS + 4, self.STACK0, 8)
        self.put(self.TSS + 36, self.STACK1, 8)
        self.put(self.TSS + 0x66, 0x68, 2)
        for vector in range(256):
            self.gate(vector, self.HANDLERS + vector)
        self.write(self.HANDLERS, b"\xf4" * 256)

    def gate(
        self, vector: int, offset: int, *, sel: int = 8, attr: int = 0x8E00, ist: int = 0
    ) -> None:
        low = (offset & 0xFFFF) | sel << 16 | ist << 32 | attr << 32 | (offset >> 16 & 0xFFFF) << 48
        self.put(self.IDT + 16 * vector, low, 8)
        self.put(self.IDT + 16 * vector + 8, offset >> 32, 8)

    def pte(self, page: int, value: int) -> None:
        """The page-table entry of one of the first 512 pages."""
        self.put(self.PT + 8 * (page >> 12), value, 8)

    def long_mode(self, source: str, *, user: bool = False, org: int = 0x8000) -> None:
        """64-bit mode at CPL 0 or 3, running `source` at `org`."""
        self.tables()
        cpl = 3 if user else 0
        for seg in ("es", "ss", "ds", "fs", "gs"):
            self.segment(seg, self.USER_DS if user else self.DS64, 0x3, cpl, db=1)
        self.segment("cs", self.USER_CS if user else self.CS64, 0xB, cpl, long=1)
        self.segment("tr", self.TASK, 0xB, 0, base=self.TSS, limit=0x67)
        self["tr.s"] = 0
        self.set(cr0=0x80010031, cr3=self.PML4, cr4=0x20, efer=0xD01)
        self["gdtr.base"], self["gdtr.limit"] = self.GDT, 0xFF
        self["idtr.base"], self["idtr.limit"] = self.IDT, 0xFFF
        self.set(rsp=self.STACK, rip=org, rflags=2)
        self.write(org, assemble(source, 64, org))

    def segment(
        self,
        name: str,
        selector: int,
        kind: int,
        dpl: int,
        *,
        base: int = 0,
        limit: int = 0xFFFFFFFF,
        db: int = 0,
        long: int = 0,
    ) -> None:
        values = {"selector": selector, "type": kind, "dpl": dpl, "s": 1, "p": 1, "g": 1}
        values |= {"base": base, "limit": limit, "db": db, "l": long}
        for field, value in values.items():
            self[f"{name}.{field}"] = value

    def vector(self) -> int:
        """After a HLT in one of the handlers of tables(): which one."""
        assert self["exit.reason"] == Exit.HLT, Exit(self["exit.reason"])
        assert self.HANDLERS <= self["rip"] < self.HANDLERS + 256, hex(self["rip"])
        return self["rip"] - self.HANDLERS

    def frame(self, *, error: bool) -> dict[str, int]:
        """The 64-bit interrupt frame on the stack."""
        at = self["rsp"]
        names = [*(["error"] if error else []), "rip", "cs", "rflags", "rsp", "ss"]
        return {name: self.read(at + 8 * i, 8) for i, name in enumerate(names)}
