# SPDX-License-Identifier: BSD-2-Clause
"""A guest whose handlers halt, so that a case sees each event as the processor left it.

Descriptor tables, TSS and stacks are the case's to change: they are made
here, below the guest.  `guests/include/stubs.inc` is the guest's part.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from nvmmconf.abi import ExitReason, Gpr, Segment
from nvmmconf.accel import Registers, SegmentRegister, Stop
from nvmmconf.guest import Mode
from nvmmconf.suite.board import Mmio, PortAnswer
from nvmmconf.suite.prepared import PreparedGuest
from nvmmconf.suite.run import VmRun
from nvmmconf.suite.vm import Parameter, VirtualMachine

IDT: Final = 0x8000
GDT: Final = 0x9000
TSS: Final = 0xA000
STACK: Final = 0x7000
"""Top of the stack, in protected modes."""
INNER_STACK: Final = 0xC000
"""Top of the TSS's stack of level 0."""
USER_STACK: Final = 0xE000

INTERRUPT_GATE: Final = 0xE
TRAP_GATE: Final = 0xF
INTERRUPT_GATE_16: Final = 0x6
TRAP_GATE_16: Final = 0x7
TASK_GATE: Final = 0x5

ABSENT_DATA: Final = 0x40
ABSENT_CODE: Final = 0x48
READ_ONLY_DATA: Final = 0x50
USER_CODE: Final = 0x23
USER_DATA: Final = 0x2B
TASK: Final = 0x30

STUB_SIZE: Final = 4


def ist_top(number: int) -> int:
    """The top of the stack that IST entry `number`, 1 to 7, names."""
    return 0x10000 + 0x1000 * number


@dataclass(frozen=True)
class Frame:
    """What the processor pushed for an event, and whose handler it entered."""

    vector: int
    error: int | None
    """The error code; None where none was pushed."""
    ip: int
    cs: int
    flags: int
    sp: int | None = None
    """The interrupted stack, where it was pushed."""
    ss: int | None = None


class Stubs:
    """A guest that stands at `here` of `code`, interrupts off, with 256 handlers that halt.

    One exception has been delivered already, so that all the memory that a
    delivery touches is there.  `user`: at CPL 3, in protected modes.
    """

    def __init__(
        self,
        vm: VirtualMachine,
        code: str = "    nop\n",
        /,
        *,
        user: bool = False,
        ports: dict[int, PortAnswer] | None = None,
        mmio: tuple[Mmio, ...] = (),
        readonly: tuple[tuple[int, int], ...] = (),
        unmapped: tuple[tuple[int, int], ...] = (),
        **parameters: Parameter,
    ) -> None:
        self.mode = vm.mode
        self.long_mode = vm.mode in (Mode.COMPAT32, Mode.LONG64)
        self.guest: PreparedGuest = vm.prepare_code(
            '{% include "stubs.inc" %}\n' + code,
            entry="",
            ports=ports,
            mmio=mmio,
            readonly=readonly,
            unmapped=unmapped,
            vcpus=1,
            **parameters,
        )
        self._code = replace(self.guest.registers.seg[Segment.CS])
        self.top = 0xFFF0 if self.mode is Mode.REAL16 else STACK
        """RSP before the event, where it does not change stacks."""
        self.guest.registers.gpr[Gpr.RSP] = self.top
        self._make_tables()
        gates = b"".join(self._gate(vector) for vector in range(256))
        self.guest.write(0 if self.mode is Mode.REAL16 else IDT, gates)
        run = self.guest.run()
        if run.reason is not Stop.HALTED or run.rip != self.stub(3) + 1:
            raise AssertionError(f"#BP did not come to its handler: {run!r}")
        self._seen = len(run.reasons())
        registers = self.guest.registers
        registers.gpr |= {Gpr.RIP: self.symbol("here"), Gpr.RFLAGS: 2, Gpr.RSP: self.top}
        registers.seg[Segment.CS] = self._code
        registers.seg[Segment.SS] = replace(registers.seg[Segment.DS])
        if user:
            self._enter_user()

    # ---- tables ----

    def symbol(self, name: str) -> int:
        """The value of RIP at a label."""
        return self.guest.symbol(name)

    def stub(self, vector: int) -> int:
        """The value of RIP at the handler of `vector`."""
        return self.symbol("stubs") + STUB_SIZE * vector

    @property
    def registers(self) -> Registers:
        """The guest's registers."""
        return self.guest.registers

    def gate(
        self,
        vector: int,
        kind: int = INTERRUPT_GATE,
        *,
        to: int | None = None,
        selector: int | None = None,
        dpl: int = 0,
        present: bool = True,
        ist: int = 0,
    ) -> None:
        """Write the gate (in real mode, the vector) of `vector`: to its stub, or to `to`."""
        data = self._gate(vector, kind, to, selector, dpl, present, ist)
        base = 0 if self.mode is Mode.REAL16 else IDT
        self.guest.write(base + len(data) * vector, data)

    def _gate(
        self,
        vector: int,
        kind: int = INTERRUPT_GATE,
        to: int | None = None,
        selector: int | None = None,
        dpl: int = 0,
        present: bool = True,
        ist: int = 0,
    ) -> bytes:
        offset = self.stub(vector) if to is None else to
        if self.mode is Mode.REAL16:
            return struct.pack("<HH", offset, 0x2000 if selector is None else selector)
        if selector is None:
            selector = 0x18 if self.long_mode else 0x08
        access = kind | dpl << 5 | present << 7
        low, high = offset & 0xFFFF, offset >> 16 & 0xFFFF
        gate = struct.pack("<HHBBH", low, selector, ist, access, high)
        return gate + struct.pack("<Q", offset >> 32) if self.long_mode else gate

    def _make_tables(self) -> None:
        registers = self.guest.registers
        if self.mode is Mode.REAL16:
            return
        code64, code32, data = 0x00AF9B000000FFFF, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
        code = code64 if self.mode is Mode.LONG64 else code32
        dpl3, absent = 3 << 45, 1 << 47
        task = 0x00008B0000000067 | TSS << 16
        descriptors = (
            *(0, code, data, code64),
            *(code | dpl3, data | dpl3, task, 0),
            *(data & ~absent, (code64 if self.long_mode else code) & ~absent),
            data & ~(1 << 41),
        )
        self.guest.write(GDT, struct.pack(f"<{len(descriptors)}Q", *descriptors))
        registers.seg[Segment.GDT] = SegmentRegister(0, GDT, 8 * len(descriptors) - 1)
        limit = (16 if self.long_mode else 8) * 256 - 1
        registers.seg[Segment.IDT] = SegmentRegister(0, IDT, limit)
        registers.seg[Segment.TR] = SegmentRegister(TASK, TSS, 0x67, 0x8B00)
        if self.long_mode:
            stacks = [INNER_STACK, 0, 0, 0, *(ist_top(n) for n in range(1, 8))]
            self.guest.write(TSS, struct.pack("<I11Q", 0, *stacks))
            for table in ("pml4", "page_directory_pointers", "page_directory"):
                at = self.guest.image.linear(table)
                (entry,) = struct.unpack("<Q", self.guest.memory(at, 8))
                self.guest.write(at, struct.pack("<Q", entry | 4))  # user
        else:
            self.guest.write(TSS, struct.pack("<III", 0, INNER_STACK, 0x10))
        self.guest.write(TSS + 0x66, struct.pack("<H", 0x68))  # no I/O permission bitmap

    def _enter_user(self) -> None:
        registers = self.guest.registers
        kept = registers.seg[Segment.CS].flags | 0x6000
        registers.seg[Segment.CS] = SegmentRegister(USER_CODE, 0, 0xFFFFFFFF, kept)
        for name in (Segment.SS, Segment.DS, Segment.ES, Segment.FS, Segment.GS):
            registers.seg[name] = SegmentRegister(USER_DATA, 0, 0xFFFFFFFF, 0xC0F300)
        registers.gpr[Gpr.RSP] = USER_STACK
        self.top = INNER_STACK

    # ---- what happened ----

    def run(self) -> VmRun:
        """Run it until it stops."""
        return self.guest.run()

    def take(self) -> Frame:
        """Run it into a handler: the event.  AssertionError where it stops elsewhere."""
        run = self.run()
        if run.reason is not Stop.HALTED or not self._is_stub(run.rip - 1):
            raise AssertionError(f"no handler was entered: {run!r}, {run.outcome}")
        return self.frame()

    def _is_stub(self, address: int) -> bool:
        return 0 <= address - self.stub(0) < 256 * STUB_SIZE

    def frame(self, top: int | None = None, *, size: int | None = None) -> Frame:
        """The event whose handler has just halted.

        `top` is RSP before anything was pushed (on the new stack), where it is not the
        usual one; `size` of each item, where the gate makes it another.
        """
        state = self.guest.state()
        vector = (state.gpr[Gpr.RIP] - self.stub(0)) // STUB_SIZE
        size = size or {Mode.REAL16: 2, Mode.PROT32: 4}.get(self.mode, 8)
        sp = state.gpr[Gpr.RSP]
        above = self.top if top is None else top
        if self.long_mode:
            above &= ~0xF
        gpa = state.seg[Segment.SS].base + sp
        count = (above - sp) // size
        data = self.guest.memory(gpa, count * size)
        items = [int.from_bytes(data[n * size : (n + 1) * size], "little") for n in range(count)]
        error = items.pop(0) if count in (4, 6) else None
        if len(items) not in (3, 5):
            raise AssertionError(f"the handler of {vector} found {count} items pushed: {items}")
        return Frame(vector, error, *items)

    def exits(self) -> list[ExitReason | int]:
        """The reasons of the exits since `here`, without NONE and STOPPED."""
        latest = self.guest.latest
        assert latest is not None
        return latest.reasons()[self._seen :]
