# SPDX-License-Identifier: BSD-2-Clause
"""Guests on the whole PC: its devices and the accelerator together."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.accel import Stop
from nvmmconf.board.pc import Source
from nvmmconf.boot import (
    BootError,
    FlatMode,
    Module,
    load_bios,
    load_flat,
    load_linux,
    load_multiboot,
)
from nvmmconf.boot.machine import MachineSize
from nvmmconf.guest import GuestLibrary, Mode
from nvmmconf.suite.target import Target
from tests.boot.conftest import Boot, targets
from tests.guest.qemu import QEMU, needs_qemu
from tests.guest.qemu import boot as boot_qemu

Guest = Callable[..., bytes]
SEABIOS = Path("/usr/share/seabios")
NOTHING = b"No bootable device.\n"
needs_seabios = pytest.mark.skipif(
    not (SEABIOS / "bios.bin").exists(), reason="SeaBIOS is not installed (Debian: seabios)"
)
MEMTEST = Path("/boot/memtest86+x64.bin")


@needs_qemu
@pytest.mark.parametrize("mode", Mode)
def test_a_guest_says_here_what_it_says_under_qemu(
    boot: Boot, library: GuestLibrary, tmp_path: Path, mode: Mode
) -> None:
    image = library.image("hello", mode)
    there = boot_qemu(image, tmp_path)
    here = boot(image.elf.read_bytes())
    assert here.outcome.status == there.status
    assert here.console == there.console.decode("ascii")


@pytest.mark.parametrize("target", targets(), ids=lambda one: one.name)
def test_the_timer_wakes_a_halted_cpu(boot: Boot, library: GuestLibrary, target: Target) -> None:
    """82C54 mode 2 on IRQ 0, through the 8259 and LINT0; three ticks, then the guest ends.

    Flat, as the image's way to real mode clears CR0.NE, which VMX does not allow.
    """
    image = library.inline(
        """
        xor     ax, ax
        mov     ds, ax
        mov     word ptr [8 * 4], offset tick
        mov     word ptr [8 * 4 + 2], cs
        .irp    pair, 0x1120, 0x0821, 0x0421, 0x0121, 0xFE21
        mov     al, \\pair >> 8
        out     \\pair & 0xFF, al
        .endr
        mov     al, 0x34                # counter 0, both bytes, mode 2
        out     0x43, al
        mov     al, 0
        out     0x40, al
        mov     al, 0x10                # 4096 / 1.19 MHz: 3.4 ms
        out     0x40, al
        sti
    again:
        hlt
        cmp     bl, 3
        jb      again
        PUTC    'T'
        EXIT    7
    tick:
        inc     bl
        mov     al, 0x20
        out     0x20, al
        iret
        """,
        Mode.REAL16,
    )
    ram = MachineSize(4 << 20).ram
    plan = load_flat(image.flat.read_bytes(), image.flat_gpa, FlatMode.REAL16, ram)
    booted = boot(plan, on=target)
    assert booted.outcome.status == 15
    assert booted.console == "T"


def test_a_cpu_that_halts_without_interrupts_halts_for_good(boot: Boot, guest: Guest) -> None:
    """The timer runs, but RFLAGS.IF is 0."""
    image = guest("mov al, 0x34\nout 0x43, al\nout 0x40, al\nout 0x40, al\ncli\nhlt")
    assert boot(image).outcome.reason is Stop.HALTED


@pytest.mark.parametrize(
    "how",
    [
        "mov al, 0xFE\nout 0x64, al",
        "mov al, 1\nout 0x92, al",
        "mov dx, 0xCF9\nmov al, 2\nout dx, al\nmov al, 6\nout dx, al",
        "lidt cs:[none]\nint3\nnone: .word 0, 0, 0",
    ],
    ids=["keyboard controller", "port 92", "CF9", "triple fault"],
)
def test_each_way_to_a_reset(boot: Boot, guest: Guest, how: str) -> None:
    booted = boot(guest(f"{how}\n1: jmp 1b"))
    assert booted.outcome.reason is Stop.RESET


def test_after_a_reset_all_is_new_but_the_battery_s_memory(boot: Boot, guest: Guest) -> None:
    """The guest counts its starts in CMOS byte 0x50; memory it wrote is as loaded again."""
    image = guest(
        """
        mov     al, 0x50
        out     0x70, al
        in      al, 0x71
        inc     al
        out     0x71, al
        add     al, '0'
        out     0xE9, al
        cmp     byte ptr cs:[mark], 0x5A
        jne     dirty
        mov     byte ptr [mark], 0
        mov     al, 0xFE
        out     0x64, al
    1:  jmp     1b
    dirty:
        EXIT    1
        .data
    mark: .byte 0x5A
        """
    )
    booted = boot(image)
    for count in (2, 3):
        assert booted.outcome is not None
        assert booted.outcome.reason is Stop.RESET
        booted.machine.reboot()
        booted.run()
        assert len(booted.console) == count
    assert booted.console == "123"


def test_the_serial_port_prints(boot: Boot, guest: Guest) -> None:
    image = guest("mov dx, 0x3F8\n.irp c, 'C', 'O', 'M'\nmov al, \\c\nout dx, al\n.endr\nEXIT 0")
    booted = boot(image)
    assert booted.printed[Source.COM1] == b"COM"
    assert not booted.console


def test_a_module_is_in_memory(boot: Boot, guest: Guest) -> None:
    size = MachineSize(4 << 20)
    data = bytes(range(256)) * 20
    plan = load_multiboot(
        guest("EXIT 0"), size.ram, size.memory_map, modules=[Module(data, "a module")]
    )
    gpa = next(write.gpa for write in plan.writes if write.data == data)
    assert boot(plan).machine.pc.memory.read(gpa, len(data)) == data


@pytest.mark.parametrize("mode", FlatMode)
def test_a_flat_binary_runs_in_its_mode(boot: Boot, mode: FlatMode) -> None:
    """48 in front of INC: a REX prefix in 64-bit mode, DEC AX elsewhere (SDM 2A 2.2.1)."""
    code = b"\x31\xc0\x48\xff\xc0\xe6\xf4\xf4"  # xor; dec, inc | rex.w inc; out 0xF4; hlt
    size = MachineSize(4 << 20)
    booted = boot(load_flat(code, 0x8000, mode, size.ram))
    assert booted.outcome.status is not None
    assert booted.outcome.status & 0xFF == (3 if mode is FlatMode.LONG64 else 1)


def test_a_bios_begins_at_its_end_and_is_seen_twice(boot: Boot) -> None:
    """FFFF:FFF0 jumps to F000:0000, which writes to itself: RAM, and the same as below 4 GiB."""
    bios = bytearray(b"\xf4" * 0x10000)
    #  mov byte ptr cs:[0x100], 'W'; mov al, cs:[0x100]; out 0xE9, al; mov al, 3; out 0xF4, al
    bios[0:16] = bytes.fromhex("2ec606000157 2ea00001 e6e9 b003 e6f4")
    bios[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")  # jmp 0xF000:0
    booted = boot(load_bios(bytes(bios)))
    assert booted.outcome.status == 7
    assert booted.console == "W"
    assert booted.machine.pc.memory.read(0xFFFF0100, 1) == b"W"


def test_a_machine_that_no_pc_can_be_is_refused(target: Target) -> None:
    for memory, cpus in ((1 << 20, 1), ((4 << 20) + 1, 1), (4 << 20, 0)):
        with pytest.raises(BootError):
            MachineSize(memory, cpus)
    with pytest.raises(BootError, match="at most"):
        MachineSize(4 << 20, 100_000).check(target)


@needs_seabios
@pytest.mark.parametrize("name", ["bios.bin", "bios-256k.bin"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_seabios_finds_its_devices_and_nothing_to_boot(boot: Boot, name: str, cpus: int) -> None:
    """What SeaBIOS itself says of a PC without PCI, in this order (docs/booting.md)."""
    plan = load_bios((SEABIOS / name).read_bytes())
    booted = boot(plan, cpus=cpus, memory=32 << 20, until=NOTHING)
    said = booted.printed[Source.FIRMWARE].decode("ascii", errors="replace")
    assert booted.outcome.reason is Stop.STOPPED, said
    at = 0
    for words in (
        "SeaBIOS (version ",
        "Found QEMU fw_cfg",
        "qemu/e820: addr 0x0000000000000000 len 0x0000000002000000 [RAM]",
        "Detected non-PCI system",
        f"Found {cpus} cpu(s) max supported {cpus} cpu(s)",
        "Found 1 serial ports",
        "PS2 keyboard initialized",
        "All threads complete.",
        "enter handle_19:",
        "Boot failed: could not read the boot disk",
        "No bootable device.",
    ):
        found = said.find(words, at)
        assert found >= 0, f"{words!r} after {said[:at]!r} in {said!r}"
        at = found
    assert said.count("handle_smp: apic_id=") == cpus - 1


@needs_qemu
@needs_seabios
def test_seabios_says_here_what_it_says_under_qemu(boot: Boot) -> None:
    """The same lines in the same order, but for what docs/booting.md explains."""
    bios = SEABIOS / "bios.bin"
    arguments = (
        *("-M", "isapc", "-cpu", "qemu32", "-nodefaults", "-vga", "none", "-m", "32"),
        *("-global", "apic.vapic=off", "-serial", "null", "-display", "none", "-bios", str(bios)),
        *("-global", "isa-debugcon.iobase=0x402", "-debugcon", "stdio"),
    )
    there = bytearray()
    with subprocess.Popen([QEMU, *arguments], stdout=subprocess.PIPE, bufsize=0) as qemu:
        assert qemu.stdout is not None
        while not there.endswith(NOTHING) and (piece := qemu.stdout.read(1)):
            there += piece
        qemu.kill()
    booted = boot(load_bios(bios.read_bytes()), memory=32 << 20, until=NOTHING)
    assert _alike(booted.printed[Source.FIRMWARE]) == _alike(there)


def _alike(said: bytes) -> list[str]:
    """The lines without what differs: DMA, the second console, a speed, an address."""
    lines = said.decode("ascii", errors="replace").splitlines()
    kept = [one for one in lines if "DMA interface" not in one and not one.startswith("sercon: ")]
    return [re.sub(r"(CPU Mhz=|MPTABLE from ).*", r"\1", one) for one in kept]


@pytest.mark.skipif(not MEMTEST.exists(), reason="no memtest86+ (Debian: memtest86+)")
def test_memtest_tests_memory(boot: Boot) -> None:
    """Up to its first test of memory, on its serial console and on its text screen."""
    size = MachineSize(16 << 20)
    plan = load_linux(
        MEMTEST.read_bytes(), size.ram, size.memory_map, command_line="console=ttyS0,115200"
    )
    booted = boot(plan, memory=size.memory, until=b"Address test, walking ones")
    serial = booted.printed[Source.COM1]
    assert booted.outcome.reason is Stop.STOPPED
    assert b"Memtest86+ v" in serial
    screen = booted.machine.pc.screen()
    assert "Memtest86+ v" in screen
    assert "16MB" in screen
