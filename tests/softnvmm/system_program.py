# SPDX-License-Identifier: BSD-2-Clause
"""Programs of system/: building them, and running them in QEMU and in softnvmm.

A program is a Multiboot image.  In both machines it starts as Multiboot says, in
32-bit protected mode, so that its own mode switches are a part of the test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from nvmmconf.abi import Cr, Gpr, Libnvmm, Segment
from nvmmconf.accel import Accelerator, Control, Registers, SegmentRegister, Stop
from nvmmconf.board import TestBoard
from nvmmconf.nvmm import HostMemory
from nvmmconf.trace import Trace

HERE = Path(__file__).parent
FOLDER = HERE / "system"
QEMU = "qemu-system-x86_64"
BACKSTOP = 60.0
"""Seconds; only a hung machine takes this long."""

RAM_SIZE = 4 << 20
SHUTDOWN = 0
"""The status of a machine that shut down: QEMU's with -no-reboot."""

HALTED = -1
"""The status of a machine that halted and was left so."""


@dataclass(frozen=True)
class Ended:
    """What a machine has said, and the status that it ended with."""

    console: str
    status: int


def _words(text: str, field: str) -> list[str]:
    """What the line `# field: ...` of a program says."""
    for line in text.splitlines():
        if line.startswith(f"# {field}:"):
            return line.partition(":")[2].split()
    return []


def programs() -> list[str]:
    """Names of all programs: a file's, or file-variant for each of its variants."""
    names: list[str] = []
    for path in sorted(FOLDER.glob("*.S")):
        variants = _words(path.read_text(), "variants")
        names += [f"{path.stem}-{variant}" for variant in variants] or [path.stem]
    return names


def build(name: str, folder: Path) -> Path:
    """The Multiboot image of a program, made in `folder`; VARIANT stands for its variant."""
    stem, _, variant = name.partition("-")
    text = (FOLDER / f"{stem}.S").read_text()
    (runtime,) = _words(text, "runtime")
    text = re.sub(r"\bVARIANT\b", variant, text)
    return build_text(f'.include "{runtime}.inc"\n{text}', folder)


def build_text(text: str, folder: Path) -> Path:
    """The image of assembler source that includes its runtime itself."""
    source, obj, linked, image = (folder / n for n in ("it.s", "it.o", "it.elf64", "it.elf"))
    source.write_text(text)
    _run("as", "--64", "--fatal-warnings", "-I", FOLDER / "include", "-o", obj, source)
    script = FOLDER / "include" / "program.ld"
    options = ("-m", "elf_x86_64", "-static", "--nmagic", "-z", "noexecstack", "--build-id=none")
    _run("ld", *options, "-T", script, "-o", linked, obj)
    _run("objcopy", "-O", "elf32-i386", linked, image)
    return image


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"


def in_qemu(image: Path, folder: Path) -> Ended:
    """Run an image under QEMU's interpreter."""
    console = folder / "console"
    command = [
        *(QEMU, "-nodefaults", "-accel", "tcg", "-cpu", "max", "-m", "16", "-display", "none"),
        *("-no-reboot", "-kernel", str(image), "-debugcon", f"file:{console}"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=BACKSTOP, check=False)
    return Ended(console.read_bytes().decode("latin-1"), done.returncode)


def qemu_is_missing() -> str | None:
    """Why QEMU cannot be asked, or None."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} is not installed (Debian: qemu-system-x86)"
    return None


def _multiboot(entry: int) -> Registers:
    """The machine state of Multiboot 1, section 3.2."""
    registers = Registers()
    flat = {"limit": 0xFFFFFFFF, "base": 0}
    for segment in (Segment.ES, Segment.SS, Segment.DS, Segment.FS, Segment.GS):
        registers.seg[segment] = SegmentRegister(selector=0x10, flags=0x00C09300, **flat)
    registers.seg[Segment.CS] = SegmentRegister(selector=0x08, flags=0x00C09B00, **flat)
    registers.seg[Segment.LDT] = SegmentRegister(flags=0x8200, limit=0xFFFF)
    registers.seg[Segment.TR] = SegmentRegister(flags=0x8B00, limit=0xFFFF)
    registers.cr[Cr.CR0] = 0x11
    registers.gpr[Gpr.RFLAGS] = 2
    registers.gpr[Gpr.RIP] = entry
    registers.gpr[Gpr.RAX] = 0x2BADB002
    return registers


def in_softnvmm(image: Path, library: Libnvmm) -> Ended:
    """Run an image on a libnvmm, by the project's own accelerator and board."""
    control, trace = Control(), Trace()
    with HostMemory(RAM_SIZE) as ram:
        pc = TestBoard(ram, control.request_exit)
        with Accelerator(library, pc.ports, pc.memory, control, trace) as accelerator:
            vcpu = accelerator.create_vcpu(0)
            with image.open("rb") as file:  # mapping the memory has cleared it
                elf = ELFFile(file)
                for segment in elf.iter_segments("PT_LOAD"):
                    at, data = segment["p_paddr"], segment.data()
                    ram.data[at : at + len(data)] = data
                vcpu.registers = _multiboot(elf.header["e_entry"])
            outcome = accelerator.run(vcpu)
        console = pc.console.text
    status = {Stop.HALTED: HALTED, Stop.RESET: SHUTDOWN}.get(outcome.reason, outcome.status)
    assert status is not None, outcome
    return Ended(console, status)
