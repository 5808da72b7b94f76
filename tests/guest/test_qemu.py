# SPDX-License-Identifier: BSD-2-Clause
"""The images under QEMU: they boot, do what they say, and the trampoline keeps its contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvmmconf.guest import GuestLibrary, Mode, SegmentState
from tests.guest.qemu import boot, needs_qemu, stopped

pytestmark = needs_qemu

EVERY = [(name, mode) for name in ("hello", "hlt", "shutdown") for mode in Mode]


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


def test_ud(library: GuestLibrary, tmp_path: Path) -> None:
    for mode in library.modes("ud"):
        ended = boot(library.image("ud", mode), tmp_path)
        assert (ended.console, ended.status) == (b"UK", 1), mode
