# SPDX-License-Identifier: BSD-2-Clause
"""Builds the processor with its test driver, and assembles code for it."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).parent
CPU = HERE.parent.parent / "nvmmconf" / "softnvmm" / "cpu"
CFLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]

READ, WRITE, EXEC = 1, 2, 4
INT_WINDOW, IRET, NMI_WINDOW, CR8_WRITE = 1, 2, 4, 8
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
    for file in [*files, *sorted(CPU.glob("*.h"))]:
        digest.update(file.name.encode() + file.read_bytes())
    out = Path(tempfile.gettempdir()) / f"softnvmm-cpu-test-{digest.hexdigest()[:16]}"
    if out.exists():
        return out
    cc = shutil.which("cc") or shutil.which("gcc")
    assert cc is not None, "a C compiler is needed"
    with tempfile.TemporaryDirectory() as tmp:
        made = Path(tmp) / "out"
        subprocess.run(
            [cc, *CFLAGS, *flags, "-I", str(CPU), "-o", str(made), *map(str, files)], check=True
        )
        partial = out.with_suffix(f".{Path(tmp).name}")
        shutil.copy(made, partial)
        partial.rename(out)
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
    lib.driver_get.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)
    ]
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


