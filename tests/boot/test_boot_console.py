# SPDX-License-Identifier: BSD-2-Clause
"""Several consoles on one stream; and where a guest is, in words."""

from __future__ import annotations

import errno
import io

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.board.pc import Source
from nvmmconf.boot import cpu
from nvmmconf.boot.console import Console
from nvmmconf.boot.where import code_bits, describe, mode_name


def say(console: Console, source: Source, text: bytes) -> None:
    for byte in text:
        console(source, byte)


def test_lines_of_two_sources_do_not_mix() -> None:
    stream = io.BytesIO()
    with Console(stream) as console:
        for one, other in zip(b"first line\n", b"other text\n", strict=True):
            console(Source.COM1, one)
            console(Source.FIRMWARE, other)
    assert sorted(stream.getvalue().splitlines()) == [b"first line", b"other text"]


def test_a_line_that_does_not_end_is_shown_at_the_end_and_ended() -> None:
    stream = io.BytesIO()
    with Console(stream) as console:
        say(console, Source.COM1, b"login: ")
    assert stream.getvalue() == b"login: \n"


def test_a_line_that_goes_on_is_not_broken() -> None:
    stream = io.BytesIO()
    with Console(stream) as console:
        say(console, Source.COM1, b"login: ")
        console.end_line()
        say(console, Source.COM1, b"root\n")
    assert stream.getvalue() == b"login: \nroot\n"


class _Closed(io.BytesIO):
    def write(self, data: object) -> int:
        raise BrokenPipeError


def test_a_stream_that_nobody_reads_is_told_once() -> None:
    told: list[bool] = []
    with Console(_Closed()) as console:
        console.gone = lambda: told.append(True)
        say(console, Source.COM1, b"a\nb\nc\n")
    assert told == [True]


class _Full(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_stream_that_takes_no_more_is_told_and_no_fault_of_a_device() -> None:
    told: list[bool] = []
    with Console(_Full()) as console:
        console.gone = lambda: told.append(True)
        say(console, Source.COM1, b"a\nb\n")
        assert console.failure is not None
        assert console.failure.errno == errno.ENOSPC
    assert told == [True]


def test_each_mode_has_its_name_and_its_code_size() -> None:
    """SDM 3A 2.2 (modes), 3.4.5 (L and D/B)."""
    assert mode_name(cpu.power_up()) == "real mode"
    assert mode_name(cpu.protected(0)) == "protected mode, 32-bit code"
    long = cpu.long64(0, 0, 0, 0)
    assert (mode_name(long), code_bits(long)) == ("64-bit mode", 64)
    long.seg[Segment.CS] = cpu.protected(0).seg[Segment.CS]
    assert (mode_name(long), code_bits(long)) == ("compatibility mode, 32-bit code", 32)
    virtual = cpu.protected(0)
    virtual.seg[Segment.CS] = cpu.power_up().seg[Segment.CS]
    virtual.gpr[Gpr.RFLAGS] |= 1 << 17
    assert (mode_name(virtual), code_bits(virtual)) == ("virtual-8086 mode", 16)


def test_the_instructions_are_read_where_cs_begins() -> None:
    asked: list[int] = []

    def read(address: int, size: int) -> bytes:
        asked.append(address)
        return b"\xb8\x34\x12\xf4"

    text = describe(2, cpu.real16(0x1234, 0x10, (0, 0)), read)
    assert asked == [0x12350]
    lines = text.splitlines()
    assert lines[0] == "cpu 2: real mode, at 1234:0010"
    assert [line.split()[-1] for line in lines[-2:]] == ["0x1234", "hlt"]
    assert "mov ax, 0x1234" in lines[-2]


def test_64_bit_code_is_read_at_rip_whatever_the_base() -> None:
    asked: list[int] = []
    registers = cpu.long64(0xFFFF800000001000, 0, 0, 0)
    registers.seg[Segment.CS].base = 0x5000
    text = describe(0, registers, lambda address, size: asked.append(address) or b"")
    assert asked == [0xFFFF800000001000]
    assert "no memory is mapped there" in text
    assert registers.msr[Msr.EFER] == 0x500
    assert registers.cr[Cr.CR0] >> 31
