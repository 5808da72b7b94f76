# SPDX-License-Identifier: BSD-2-Clause
"""Port I/O that may not be, and memory that is not there: SDM 1 19.5 (IOPL, permission bitmap),
SDM 3A 4.6 and 4.7 (rights, page faults), SDM 3C 26.1.1 (faults before exits); nvmm_assist_io of
libnvmm(3).

The processor itself refuses a port: #GP(0), no exit.  A page that is missing is for the assist
to find: it fails with EFAULT, and its caller raises #PF.  Then nothing may be lost.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

import pytest
from io_bench import HIGH_IMMEDIATE, PORT, Form, device_bytes

from nvmmconf.suite import (
    PAGE_SIZE,
    Cr,
    EventType,
    ExitReason,
    Frame,
    Gpr,
    IoExit,
    Mode,
    NvmmError,
    Segment,
    SegmentRegister,
    Stubs,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

PROTECTED = (Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
PAGED = (Mode.COMPAT32, Mode.LONG64)
SIZES = (1, 2, 4)
DIRECTIONS = ("ins", "outs")
CODE = '{% include "port_io.inc" %}\n'

OLD_TSS, TSS = 0xA000, 0x20000
BITMAP = 0x68
"""Offset of the permission bitmap in the TSS."""
EVERY_PORT = 0x10000 // 8

ROOT, TABLE = 0x1A000, 0x1D000
FIRST, SECOND = 0x30000, 0x31000
"""Two linear pages, one after the other ..."""
FRAMES = {FIRST: 0x52000, SECOND: 0x44000}
"""... and where they are."""
PRESENT, WRITABLE, USER, PAT = 1, 2, 4, 0x80
ALL_RIGHTS = PRESENT | WRITABLE | USER
WP = 1 << 16


class UserIo:
    """A guest at CPL 3, IOPL 0, whose TSS allows all ports but `denied`."""

    def __init__(
        self, vm: VirtualMachine, *, denied: tuple[int, ...] = (), size: int = EVERY_PORT + 1
    ) -> None:
        """`size`: bytes of the bitmap up to the limit; the last one is all ones."""
        self.stubs = Stubs(vm, CODE, user=True, ports={PORT: 0})
        self.seen = 0
        guest = self.stubs.guest
        bitmap = bytearray(size)
        bitmap[-1] = 0xFF
        for port in denied:
            bitmap[port // 8] |= 1 << port % 8
        head = guest.memory(OLD_TSS, 0x66) + struct.pack("<H", BITMAP)
        guest.write(TSS, head + bytes(bitmap))
        task = guest.registers.seg[Segment.TR]
        guest.registers.seg[Segment.TR] = replace(task, base=TSS, limit=BITMAP + size - 1)

    def at(self, label: str, port: int = PORT) -> None:
        """Go to the instruction at `label`, with DX = `port`."""
        self.stubs.registers.gpr |= {
            Gpr.RIP: self.stubs.symbol(label),
            Gpr.RDX: port,
            Gpr.RCX: 1,
        }

    def exits(self, label: str, port: int = PORT) -> None:
        """Check that the instruction exits with IO."""
        self.at(label, port)
        taken = self.stubs.guest.next_exit()
        self.seen += 1
        check.equal(type(taken).__name__, "IoExit", f"{label} of port {port:#x}")

    def faults(self, label: str, port: int = PORT) -> None:
        """Check that the instruction raises #GP(0), on itself, and does not exit."""
        self.at(label, port)
        frame = self.stubs.take()
        check.equal((frame.vector, frame.error), (13, 0), f"fault of {label} of port {port:#x}")
        check.equal(frame.ip, self.stubs.symbol(label), "return address")
        wanted = [ExitReason.IO] * self.seen + [ExitReason.HALTED]
        check.equal(self.stubs.exits(), wanted, "exits")


def forms(vm: VirtualMachine) -> dict[str, str]:
    """A label for each kind of I/O instruction."""
    bits = vm.mode.bits
    names = {"in": "in_dx_1", "out": "out_dx_1", "in_imm": "in_high_1", "out_imm": "out_high_1"}
    return names | {name: f"{name}_1_a{bits}" for name in ("ins", "outs", "rep_ins", "rep_outs")}


KINDS = ("in", "out", "in_imm", "out_imm", "ins", "outs", "rep_ins", "rep_outs")


@requirement("K-IO-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("kind", KINDS)
def test_cpl_above_iopl_without_a_bitmap(vm: VirtualMachine, kind: str) -> None:
    """At CPL 3 with IOPL 0 and no permission bitmap I/O is #GP(0), not an exit."""
    user = UserIo(vm, size=1)
    task = user.stubs.registers.seg[Segment.TR]
    user.stubs.registers.seg[Segment.TR] = replace(task, limit=0x67)
    user.faults(forms(vm)[kind])


@requirement("K-IO-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("kind", KINDS)
def test_iopl_allows_every_port(vm: VirtualMachine, kind: str) -> None:
    """At CPL 3 with IOPL 3 I/O exits, whatever the permission bitmap says."""
    user = UserIo(vm, denied=(PORT, HIGH_IMMEDIATE))
    user.stubs.registers.gpr[Gpr.RFLAGS] = 2 | 3 << 12
    user.exits(forms(vm)[kind])


@requirement("K-IO-1")
@modes(*PROTECTED)
@pytest.mark.parametrize("kind", KINDS)
def test_permission_bitmap_denies(vm: VirtualMachine, kind: str) -> None:
    """At CPL 3 a port whose bit is set is #GP(0), and its neighbours exit."""
    user = UserIo(vm, denied=(PORT, HIGH_IMMEDIATE))
    label = forms(vm)[kind]
    if "imm" not in kind:
        user.exits(label, PORT - 1)
        user.exits(label, PORT + 1)
    user.faults(label)


@requirement("K-IO-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("iopl", [0, 1, 2])
def test_each_level_against_iopl(vm: VirtualMachine, iopl: int) -> None:
    """CPL 3 is above IOPL 0, 1 and 2: the bitmap decides."""
    user = UserIo(vm, denied=(PORT,))
    user.stubs.registers.gpr[Gpr.RFLAGS] = 2 | iopl << 12
    user.exits("in_dx_1", PORT + 1)
    user.faults("in_dx_1")


@requirement("K-IO-1")
@modes(Mode.PROT32)
@pytest.mark.parametrize("denied", [0, 1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("port", [0x300, 0x305, 0x307])
def test_every_byte_of_the_access_needs_its_bit(
    vm: VirtualMachine, port: int, size: int, denied: int
) -> None:
    """An access of 2 or 4 bytes needs the bits of all its ports, in the bitmap's next byte too;
    those beyond do not matter."""
    user = UserIo(vm, denied=(port + denied, port - 1))
    if denied < size:
        user.faults(f"in_dx_{size}", port)
    else:
        user.exits(f"in_dx_{size}", port)


@requirement("K-IO-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("end", ["whole", "one short"])
def test_last_port_needs_the_byte_after_the_bitmap(vm: VirtualMachine, end: str) -> None:
    """Two bytes of the bitmap are read: for port FFFFh the TSS has to have the byte after it."""
    if end == "whole":
        UserIo(vm).exits("out_dx_1", 0xFFFF)
    else:
        user = UserIo(vm)
        task = user.stubs.registers.seg[Segment.TR]
        short = replace(task, limit=BITMAP + EVERY_PORT - 1)
        user.stubs.registers.seg[Segment.TR] = short
        user.faults("out_dx_1", 0xFFFF)


@requirement("K-IO-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("port", [0x78, 0x7F, 0x80, 0x1000])
def test_ports_beyond_the_bitmap(vm: VirtualMachine, port: int) -> None:
    """Ports beyond the TSS's limit are denied."""
    user = UserIo(vm, size=0x80 // 8)
    user.exits("out_dx_1", 0x70)
    user.faults("out_dx_1", port)


class PagedIo:
    """A guest with two pages, `FIRST` and `SECOND`, that lie apart; and the caller of the assist,
    who raises the #PF that it finds."""

    def __init__(
        self,
        vm: VirtualMachine,
        *,
        rights: tuple[int, int] = (ALL_RIGHTS, ALL_RIGHTS),
        user: bool = False,
    ) -> None:
        self.given = 0
        self.stubs = Stubs(vm, CODE, user=user, ports={PORT: self._read})
        self.guest = self.stubs.guest
        tables = (ROOT, ROOT + 0x1000, ROOT + 0x2000)
        for table, below in zip(tables, (*tables[1:], TABLE), strict=True):
            self.guest.write(table, struct.pack("<Q", below | ALL_RIGHTS) + bytes(PAGE_SIZE - 8))
        entries = [n * PAGE_SIZE | ALL_RIGHTS for n in range(512)]
        self.guest.write(TABLE, struct.pack("<512Q", *entries))
        for page, given in zip(FRAMES, rights, strict=True):
            self.map(page, given)
        for frame in FRAMES.values():
            self.guest.write(frame, bytes(n * 3 & 0xFF for n in range(PAGE_SIZE)))
        self.guest.registers.cr[Cr.CR3] = ROOT
        self.segments = {name: replace(seg) for name, seg in self.guest.registers.seg.items()}
        self.stack = self.guest.registers.gpr[Gpr.RSP]

    def _read(self, size: int) -> int:
        data = device_bytes(self.given, size)
        self.given += size
        return int.from_bytes(data, "little")

    def map(self, page: int, rights: int) -> None:
        """Let `page` have these rights; 0: it is not there."""
        entry = FRAMES[page] | rights if rights & PRESENT else 0
        self.guest.write(TABLE + page // PAGE_SIZE * 8, struct.pack("<Q", entry))

    def entry(self, page: int) -> int:
        """The page's entry."""
        value: int = struct.unpack("<Q", self.guest.memory(TABLE + page // PAGE_SIZE * 8, 8))[0]
        return value

    def memory(self, linear: int, size: int) -> bytes:
        """What is there, whatever the rights."""
        data = b""
        for at in range(linear, linear + size):
            page = at & ~(PAGE_SIZE - 1)
            data += self.guest.memory(FRAMES[page] + at - page, 1)
        return data

    def start(self, form: Form, linear: int, count: int = 1) -> None:
        """Go to `form`, with its memory at `linear`."""
        self.form, self.linear, self.count = form, linear, count
        self.guest.registers.gpr |= {
            Gpr.RIP: self.stubs.symbol(form.label),
            Gpr.RDX: PORT,
            Gpr.RCX: count,
            form.index: linear,
        }

    def go(self, *, present: bool = False, limit: int = 200) -> Frame | None:
        """Let it run: the #PF, by the processor or raised for it; None where it came to the HLT.

        `present`: the fault is one of rights.
        """
        for _ in range(limit):
            taken = self.guest.next_exit()
            if not isinstance(taken, IoExit):
                state = self.guest.state()
                if state.gpr[Gpr.RIP] == self.stubs.symbol(f"{self.form.label}_after"):
                    return None
                return self.stubs.frame()
            try:
                self.guest.vcpu.assist_io()
            except NvmmError as error:
                check.equal(error.errno, errno.EFAULT, "errno of the assist")
                self._raise_page_fault(present)
        raise AssertionError("it does not end")

    def _raise_page_fault(self, present: bool) -> None:
        gpr = self.guest.state().gpr
        moved = (self.count - gpr[Gpr.RCX]) * self.form.size if self.form.rep else 0
        check.equal(gpr[self.form.index], self.linear + moved, "index at the fault")
        check.equal(gpr[Gpr.RIP], self.stubs.symbol(self.form.label), "RIP at the fault")
        if self.form.is_in:
            check.equal(self.given, moved, "bytes of the device that were used")
        at = gpr[self.form.index]
        if not present and self.entry(at) & PRESENT:
            at = SECOND
        user = self.segments[Segment.CS].selector & 3
        self.guest.registers.cr[Cr.CR2] = at
        error = present | self.form.is_in << 1 | (4 if user else 0)
        self.guest.inject(EventType.EXCP, 14, error=error)

    def go_back(self, frame: Frame) -> None:
        """What the handler's IRET does."""
        registers = self.guest.registers
        registers.gpr |= {Gpr.RIP: frame.ip, Gpr.RSP: self.stack, Gpr.RFLAGS: frame.flags}
        registers.seg.update({name: replace(seg) for name, seg in self.segments.items()})


def string(vm: VirtualMachine, direction: str, size: int, *, rep: bool = True) -> Form:
    """INS or OUTS in the mode's own address size."""
    return Form(direction == "ins", size, vm.mode.bits, rep)


@requirement("L-IO-17", "L-GM-1", "L-GM-2")
@modes(*PAGED)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pages_that_lie_apart(vm: VirtualMachine, direction: str, size: int) -> None:
    """A string across a page is in both pages, wherever each of them is (BH-6)."""
    guest = PagedIo(vm)
    before = guest.memory(SECOND - 5, 24)
    guest.start(string(vm, direction, size), SECOND - 5, 24 // size)
    assert guest.go() is None
    if direction == "ins":
        check.equal(guest.memory(SECOND - 5, 24), device_bytes(0, 24), "memory")
    else:
        out = _sent(guest, size)
        check.equal(out, before, "what the port got")


def _sent(guest: PagedIo, size: int) -> bytes:
    """What the port got so far."""
    guest.guest.registers.gpr[Gpr.RIP] = guest.stubs.symbol("out_high_1_npc")
    run = guest.guest.run()
    return b"".join(one.value.to_bytes(size, "little") for one in run.ports)


@requirement("L-IO-16")
@modes(*PAGED)
@pytest.mark.parametrize("rep", [False, True], ids=["once", "rep"])
@pytest.mark.parametrize("size", SIZES)
def test_ins_to_a_page_that_is_not_there(vm: VirtualMachine, size: int, rep: bool) -> None:
    """INS to a page that is not there is #PF on the instruction, before the device is read;
    when the page is there all that the device gives arrives (BH-14)."""
    guest = PagedIo(vm, rights=(0, ALL_RIGHTS))
    count = 5 if rep else 1
    guest.start(string(vm, "ins", size, rep=rep), FIRST + 0x20, count)
    frame = guest.go()
    assert frame is not None
    check.equal((frame.vector, frame.error), (14, 2), "fault")
    check.equal(frame.ip, guest.stubs.symbol(guest.form.label), "return address")
    check.equal(guest.guest.state().cr[Cr.CR2], FIRST + 0x20, "CR2")
    check.equal(guest.given, 0, "bytes of the device that were used")
    guest.map(FIRST, ALL_RIGHTS)
    guest.go_back(frame)
    check.equal(guest.go(), None, "end")
    check.equal(guest.given, count * size, "bytes of the device that were used")
    data = device_bytes(0, count * size)
    check.equal(guest.memory(FIRST + 0x20, count * size), data, "memory")


@requirement("L-IO-16", "L-GM-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("before", [1, 4, 7])
@pytest.mark.parametrize("size", SIZES)
def test_ins_into_a_page_that_is_not_there(vm: VirtualMachine, size: int, before: int) -> None:
    """Where REP INS comes to a page that is not there, index and count tell what has been
    moved; after the #PF it goes on, and nothing is lost (BH-14)."""
    guest = PagedIo(vm, rights=(ALL_RIGHTS, 0))
    start, count = SECOND - before, 16 // size
    guest.start(string(vm, "ins", size), start, count)
    frame = guest.go()
    assert frame is not None
    check.equal((frame.vector, frame.error), (14, 2), "fault")
    check.equal(guest.guest.state().cr[Cr.CR2], SECOND, "CR2")
    guest.map(SECOND, ALL_RIGHTS)
    guest.go_back(frame)
    check.equal(guest.go(), None, "end")
    check.equal(guest.memory(start, 16), device_bytes(0, 16), "memory")
    check.equal(guest.given, 16, "bytes of the device that were used")


@requirement("L-IO-16")
@modes(Mode.LONG64)
@pytest.mark.parametrize("before", [0, 1, 6])
@pytest.mark.parametrize("size", SIZES)
def test_outs_from_a_page_that_is_not_there(vm: VirtualMachine, size: int, before: int) -> None:
    """Where REP OUTS comes to a page that is not there it is #PF; after that it goes on, and
    the port gets every byte once."""
    guest = PagedIo(vm, rights=(ALL_RIGHTS, 0))
    wanted = guest.memory(SECOND - before, 16)
    guest.start(string(vm, "outs", size), SECOND - before, 16 // size)
    frame = guest.go()
    assert frame is not None
    check.equal((frame.vector, frame.error), (14, 0), "fault")
    check.equal(guest.guest.state().cr[Cr.CR2], SECOND, "CR2")
    guest.map(SECOND, ALL_RIGHTS)
    guest.go_back(frame)
    check.equal(guest.go(), None, "end")
    check.equal(_sent(guest, size), wanted, "what the port got")


@requirement("L-IO-6")
@modes(*PAGED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_count_of_zero_touches_no_page(vm: VirtualMachine, direction: str) -> None:
    """With a count of 0 a page that is not there is no fault."""
    guest = PagedIo(vm, rights=(0, 0))
    guest.start(string(vm, direction, 1), FIRST, 0)
    assert guest.go() is None


@requirement("L-GM-1", "L-WALK-6", "L-IO-16")
@modes(*PAGED)
@pytest.mark.parametrize("size", SIZES)
def test_ins_to_a_read_only_page(vm: VirtualMachine, size: int) -> None:
    """With CR0.WP set INS to a page that may not be written is #PF, and changes nothing."""
    guest = PagedIo(vm, rights=(PRESENT | USER, ALL_RIGHTS))
    guest.guest.registers.cr[Cr.CR0] |= WP
    before = guest.memory(FIRST, 64)
    guest.start(string(vm, "ins", size), FIRST + 8, 3)
    frame = guest.go(present=True)
    assert frame is not None
    check.equal((frame.vector, frame.error), (14, 3), "fault")
    check.equal(guest.given, 0, "bytes of the device that were used")
    check.equal(guest.memory(FIRST, 64), before, "memory")


@requirement("L-WALK-6")
@modes(*PAGED)
def test_supervisor_writes_read_only_pages_without_wp(vm: VirtualMachine) -> None:
    """Without CR0.WP the kernel may write to a read-only page, by INS too (BH-48a)."""
    guest = PagedIo(vm, rights=(PRESENT | USER, ALL_RIGHTS))
    guest.start(string(vm, "ins", 1), FIRST + 8, 3)
    assert guest.go(present=True) is None
    assert guest.memory(FIRST + 8, 3) == device_bytes(0, 3)


@requirement("L-WALK-6")
@modes(*PAGED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_user_may_not_use_supervisor_pages(vm: VirtualMachine, direction: str) -> None:
    """String I/O of CPL 3 with a supervisor's page is #PF, and moves nothing (BH-48a)."""
    guest = PagedIo(vm, rights=(PRESENT | WRITABLE, ALL_RIGHTS), user=True)
    guest.guest.registers.gpr[Gpr.RFLAGS] = 2 | 3 << 12
    guest.start(string(vm, direction, 1), FIRST + 8, 3)
    frame = guest.go(present=True)
    assert frame is not None, "it was let through"
    check.equal((frame.vector, frame.error), (14, 7 if direction == "ins" else 5), "fault")
    check.equal(guest.given, 0, "bytes of the device that were used")


@requirement("L-WALK-6")
@modes(*PAGED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_accessed_and_dirty(vm: VirtualMachine, direction: str) -> None:
    """String I/O sets A in the entries that it goes through, INS sets D too (BH-48a)."""
    guest = PagedIo(vm)
    guest.start(string(vm, direction, 1), FIRST + 8, 3)
    assert guest.go() is None
    wanted = 0x60 if direction == "ins" else 0x20
    check.equal(guest.entry(FIRST) & 0x60, wanted, "A and D of the page used")
    check.equal(guest.entry(SECOND) & 0x60, 0, "A and D of the other")


@requirement("L-WALK-9")
@modes(*PAGED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_page_with_the_pat_bit(vm: VirtualMachine, direction: str) -> None:
    """Bit 7 of a 4 KiB page's entry is the PAT's, and changes no address (BH-40)."""
    guest = PagedIo(vm, rights=(ALL_RIGHTS | PAT, ALL_RIGHTS))
    wanted = guest.memory(FIRST + 8, 3) if direction == "outs" else device_bytes(0, 3)
    guest.start(string(vm, direction, 1), FIRST + 8, 3)
    assert guest.go(present=True) is None
    got = guest.memory(FIRST + 8, 3) if direction == "ins" else _sent(guest, 1)
    assert got == wanted


@requirement("L-WALK-8", "L-IO-16")
@modes(Mode.LONG64)
@pytest.mark.parametrize("address", [0x8000_0000_0000, 0x7FFF_FFFF_FFFF_F000, 0x1_0000_0003_0000])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_non_canonical_address(vm: VirtualMachine, direction: str, address: int) -> None:
    """String I/O with an address that is not canonical fails, before the device is used."""
    guest = PagedIo(vm)
    guest.start(string(vm, direction, 1), address, 3)
    assert isinstance(guest.guest.next_exit(), IoExit)
    with expect_errno(errno.EFAULT):
        guest.guest.vcpu.assist_io()
    gpr = guest.guest.state().gpr
    check.equal((gpr[guest.form.index], gpr[Gpr.RCX]), (address, 3), "index and count")
    check.equal(guest.given, 0, "bytes of the device that were used")


@requirement("K-IO-1")
@modes(*PAGED)
@pytest.mark.parametrize("kind", ["ins", "outs", "rep_ins", "rep_outs"])
def test_permission_comes_before_the_page(vm: VirtualMachine, kind: str) -> None:
    """String I/O to a denied port, with a page that is not there, is #GP and not #PF."""
    user = UserIo(vm, denied=(PORT,))
    user.stubs.registers.gpr |= {Gpr.RSI: 0x3FFF_F000 * 2, Gpr.RDI: 0x3FFF_F000 * 2}
    user.faults(forms(vm)[kind])


@requirement("L-GM-3")
@modes(Mode.REAL16, Mode.LONG64)
def test_ins_does_not_change_rom(vm: VirtualMachine) -> None:
    """INS to memory that the guest may only read leaves it as it is (BH-28)."""
    guest = vm.prepare("port_io", ports={PORT: 0x5A}, readonly=[(0x30000, PAGE_SIZE)])
    guest.write(0x30000, b"a ROM's contents")
    form = string(vm, "ins", 1)
    selector = 0x3000 if vm.mode is Mode.REAL16 else 0x10
    base = 0x30000 if vm.mode is Mode.REAL16 else 0
    es = guest.registers.seg[Segment.ES]
    guest.registers.seg[Segment.ES] = SegmentRegister(selector, base, es.limit, es.flags)
    guest.registers.gpr |= {
        Gpr.RIP: guest.symbol(form.label),
        Gpr.RDX: PORT,
        Gpr.RCX: 4,
        Gpr.RDI: 0x30002 - base,
    }
    guest.run()
    assert guest.memory(0x30000, 16) == b"a ROM's contents"
