# SPDX-License-Identifier: BSD-2-Clause
"""The images under QEMU: they boot, do what they say, and the trampoline keeps its contract."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nvmmconf.guest import GuestLibrary, Image, Mode, SegmentState

QEMU = "qemu-system-x86_64"
BACKSTOP = 60.0  # seconds; only a hung QEMU takes this long

pytestmark = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (Debian: qemu-system-x86)"
)

EVERY = [(name, mode) for name in ("hello", "hlt", "shutdown") for mode in Mode]


def command(image: Image, folder: Path) -> list[str]:
    # A comma in the name of a file is doubled for QEMU; a space is itself.
    console, log = (str(folder / name).replace(",", ",,") for name in ("console", "log"))
    return [
        *(QEMU, "-nodefaults", "-accel", "tcg", "-m", "16", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.elf)),
        *("-debugcon", f"file:{console}"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
        *("-d", "cpu_reset", "-D", log),
    ]


@dataclass(frozen=True)
class Ended:
    status: int
    console: bytes
    log: str


def boot(image: Image, folder: Path) -> Ended:
    done = subprocess.run(
        command(image, folder), stdin=subprocess.DEVNULL, timeout=BACKSTOP, check=False
    )
    log = folder / "log"
    return Ended(
        done.returncode,
        (folder / "console").read_bytes(),
        log.read_text() if log.exists() else "",
    )


class Monitor:
    """QEMU's machine protocol, over its standard streams."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        assert "QMP" in json.loads(self._stdout.readline())
        self.execute("qmp_capabilities")

    def execute(self, name: str, **arguments: str) -> object:
        self._stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._stdin.flush()
        while True:
            answer = json.loads(self._stdout.readline())
            if "event" not in answer:
                return answer["return"]

    def registers(self) -> str:
        command_line = "info registers"
        answer = self.execute("human-monitor-command", **{"command-line": command_line})
        assert isinstance(answer, str)
        return answer


class Debugger:
    """As much of GDB's remote protocol as it takes to stop at an address and look at memory."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb", buffering=0)

    def ask(self, text: str) -> str:
        data = text.encode()
        self._file.write(b"$" + data + b"#%02x" % (sum(data) & 0xFF))
        answer = bytearray()
        while not re.search(rb"\$([^#]*)#..$", answer):
            byte = self._file.read(1)
            assert byte, "QEMU closed the connection"
            answer += byte
        self._file.write(b"+")
        return answer.decode().rpartition("$")[2][:-3]

    def run_to(self, address: int) -> None:
        # A hardware breakpoint, which leaves memory as it is.
        assert self.ask(f"Z1,{address:x},1") == "OK"
        assert self.ask("c").startswith("T05")
        assert self.ask(f"z1,{address:x},1") == "OK"

    def scramble(self) -> None:
        """Put into registers what a loader may leave there: anything."""
        # QEMU lets those write a register who have asked for its description.
        assert self.ask("qXfer:features:read:target.xml:0,ffb")[:1] in ("l", "m")
        # By QEMU's numbers: EAX to EBP but not ESP, EFLAGS, CR2, EFER (with NXE).
        junk = dict.fromkeys((0, 1, 2, 3, 4, 5, 6), 0xDEADBEEF)
        junk |= {17: 0x8D7, 28: 0x12345678, 32: 0x800}
        for register, value in junk.items():
            assert self.ask(f"P{register:x}={value.to_bytes(8, 'little').hex()}") == "OK"

    def memory(self, address: int, size: int) -> bytes:
        pieces = []
        for at in range(address, address + size, 1024):
            pieces.append(bytes.fromhex(self.ask(f"m{at:x},{min(1024, address + size - at):x}")))
        return b"".join(pieces)


@contextmanager
def stopped(image: Image, folder: Path) -> Iterator[tuple[Monitor, Debugger]]:
    """The image in a QEMU that has not begun to run it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(BACKSTOP)
    with ours, theirs:
        process = subprocess.Popen(
            [
                *command(image, folder),
                *("-S", "-qmp", "stdio"),
                *("-chardev", f"socket,id=debugger,fd={theirs.fileno()}"),
                *("-gdb", "chardev:debugger"),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        with process:
            try:
                yield Monitor(process), Debugger(ours)
            finally:
                process.kill()


def number(registers: str, name: str) -> int:
    match = re.search(rf"\b{name} ?=\s*([0-9a-f]+)", registers)
    assert match, f"{name} in {registers}"
    return int(match[1], 16)


def table(registers: str, name: str) -> tuple[int, int]:
    match = re.search(rf"^{name}= +([0-9a-f]+) ([0-9a-f]+)", registers, re.MULTILINE)
    assert match, f"{name} in {registers}"
    return int(match[1], 16), int(match[2], 16)


def segment(registers: str, name: str) -> SegmentState:
    match = re.search(
        rf"^{name} ?=([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", registers, re.MULTILINE
    )
    assert match, f"{name} in {registers}"
    selector, base, limit, flags = (int(field, 16) for field in match.groups())
    return SegmentState(
        selector=selector, base=base, limit=limit,
        type=flags >> 8 & 0xF, s=flags >> 12 & 1, dpl=flags >> 13 & 3, p=flags >> 15 & 1,
        avl=flags >> 20 & 1, l=flags >> 21 & 1, db=flags >> 22 & 1, g=flags >> 23 & 1,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), EVERY)
def test_trampoline_leaves_the_entry_state(
    library: GuestLibrary, tmp_path: Path, name: str, mode: Mode
) -> None:
    image = library.image(name, mode)
    state = image.entry_state
    with stopped(image, tmp_path) as (monitor, debugger):
        debugger.run_to(image.multiboot_entry)
        debugger.scramble()
        scrambled = monitor.registers()
        assert number(scrambled, "EAX") == 0xDEADBEEF
        assert number(scrambled, "EFER") == 0x800
        debugger.run_to(image.linear("start"))
        registers = monitor.registers()
        memory = [debugger.memory(part.gpa, len(part.data)) for part in image.segments]
        stack = debugger.memory(state.data.base + state.rsp - 64, 64)
    assert memory == [part.data for part in image.segments]
    assert not any(stack), "the trampoline has used the guest's stack"

    wide = re.search(r"\bRIP=", registers) is not None
    assert wide is (mode is Mode.LONG64)
    prefix = "R" if wide else "E"
    assert number(registers, f"{prefix}IP") == state.rip
    assert number(registers, f"{prefix}SP") == state.rsp
    assert number(registers, "RFL" if wide else "EFL") == state.rflags
    zero = [prefix + other for other in ("AX", "BX", "CX", "DX", "SI", "DI", "BP")]
    zero += [f"R{n}" for n in range(8, 16)] if wide else []
    assert {other: number(registers, other) for other in zero} == dict.fromkeys(zero, 0)

    assert segment(registers, "CS") == state.cs
    for other in ("DS", "ES", "FS", "GS", "SS"):
        assert segment(registers, other) == state.data, other
    assert segment(registers, "LDT") == state.ldtr
    assert segment(registers, "TR") == state.tr
    assert table(registers, "GDT") == (state.gdtr.base, state.gdtr.limit)
    assert table(registers, "IDT") == (state.idtr.base, state.idtr.limit)

    assert number(registers, "CR0") == state.cr0
    assert number(registers, "CR2") == state.cr2
    assert number(registers, "CR3") == state.cr3
    assert number(registers, "CR4") == state.cr4
    assert number(registers, "EFER") == state.efer


def test_cr8_at_start(library: GuestLibrary, tmp_path: Path) -> None:
    """QEMU does not show CR8, so a guest has to; only 64-bit mode can read it."""
    image = library.image_from_text("cr8", Mode.LONG64, "mov rax, cr8\nEXIT al\n")
    assert boot(image, tmp_path).status == image.entry_state.cr8 << 1 | 1


@pytest.mark.parametrize("mode", list(Mode))
def test_hello(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    image = library.image("hello", mode)
    ended = boot(image, tmp_path)
    texts = b"".join(
        image.read(image.linear(name), image.symbol(f"{name}_size"))
        for name in ("out_text", "outsb_text")
    )
    assert ended.console == texts
    assert ended.console.decode().splitlines() == [
        f"hello from {mode.value}, a byte at a time",
        "and this line by one REP OUTSB, longer than what one exit moves: 32 bytes each time",
    ]
    assert ended.status == 0 << 1 | 1


@pytest.mark.parametrize("mode", list(Mode))
def test_shutdown(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    image = library.image("shutdown", mode)
    ended = boot(image, tmp_path)
    assert ended.status == 0, "a reset, which ends QEMU with -no-reboot"
    assert "Triple fault" in ended.log
    assert ended.console == b""


@pytest.mark.parametrize("mode", list(Mode))
def test_shutdown_has_no_gates(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    image = library.image("shutdown", mode)
    with stopped(image, tmp_path) as (monitor, debugger):
        debugger.run_to(image.linear("ud2_insn"))
        assert table(monitor.registers(), "IDT") == (0, 0)


@pytest.mark.parametrize("mode", list(Mode))
def test_hlt_sits_after_its_instruction(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    image = library.image("hlt", mode)
    with stopped(image, tmp_path) as (monitor, _):
        monitor.execute("cont")
        while number(registers := monitor.registers(), "HLT") == 0:
            pass  # BIOS and trampoline; it is there in a tenth of a second
        assert number(registers, "[ER]IP") == image.symbol("after_hlt")


@pytest.mark.parametrize("mode", list(Mode))
def test_hlt_goes_on_when_run_again(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    """With a HLT that is skipped, as one that was woken up looks to the code after it."""
    image = library.image_from_text("resumed", mode, "jmp after\nhlt\nafter: EXIT 0x2A\n")
    assert boot(image, tmp_path).status == 0x2A << 1 | 1
