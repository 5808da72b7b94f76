# SPDX-License-Identifier: BSD-2-Clause
"""A bench for single I/O instructions: what SDM 2 "INS", "OUTS" says of each, held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nvmmconf.suite import (
    Gpr,
    IoExit,
    Mmio,
    Mode,
    PortAccess,
    Segment,
    SegmentRegister,
    Stop,
    VirtualMachine,
    VmRun,
    check,
)

GUEST = "port_io"
EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
PORT = 0x1234
"""What DX holds."""
IMMEDIATE, HIGH_IMMEDIATE = 0x7B, 0xFE
"""The ports of the guest's immediate forms."""
WINDOW = 0x10000
"""Bytes at the bench's base that strings may lie in."""
BUFFER = 0x4800
"""An offset in the window, not at a page's edge."""
CF, DF = 1, 1 << 10
STATUS = 0x8D5
"""The status flags of RFLAGS, all set."""

FILLED = bytes((7 * n + 13 * (n >> 8) + 1) & 0xFF for n in range(WINDOW))
"""What is in the window."""

OTHER_SIZE = {16: 32, 32: 16, 64: 32}
"""The address size that the prefix 67 gives, by the mode's own."""


def mask(size: int) -> int:
    """All ones, `size` bytes."""
    return (1 << 8 * size) - 1


def device_byte(n: int) -> int:
    """Byte `n` that the device gives; no two alike among 251."""
    return (n * 53 + 17) % 251


def device_bytes(start: int, count: int) -> bytes:
    """`count` bytes of what the device gives."""
    return bytes(device_byte(n) for n in range(start, start + count))


def registers_of(mode: Mode) -> dict[Gpr, int]:
    """A value for each general register but RSP, no two alike; DX is the port."""
    wide = mode is Mode.LONG64
    width = mask(8 if wide else 4)
    last = Gpr.R15 if wide else Gpr.RDI
    values: dict[Gpr, int] = {
        gpr: (0x8182_8384_8586_8788 + 0x0711_0913_0B15_0D17 * gpr) & width
        for gpr in Gpr
        if gpr <= last and gpr is not Gpr.RSP
    }
    values[Gpr.RDX] = values[Gpr.RDX] & ~0xFFFF | PORT
    return values


@dataclass(frozen=True)
class Form:
    """A string instruction: INS or OUTS of `size` bytes an element."""

    is_in: bool
    size: int
    address: int
    """Its address size in bits."""
    rep: bool = True
    segment: str = ""
    """The prefix, where there is one."""

    @property
    def label(self) -> str:
        """Where the guest has it."""
        name = "ins" if self.is_in else "outs"
        prefix = f"_{self.segment}" if self.segment else ""
        return f"{'rep_' if self.rep else ''}{name}_{self.size}_a{self.address}{prefix}"

    @property
    def index(self) -> Gpr:
        """The register that walks through memory."""
        return Gpr.RDI if self.is_in else Gpr.RSI

    @property
    def used_segment(self) -> Segment:
        """The segment of its memory: ES for INS, the prefix's or DS for OUTS."""
        if self.is_in:
            return Segment.ES
        return Segment[self.segment.upper()] if self.segment else Segment.DS

    @property
    def mask(self) -> int:
        """Of its address size."""
        return mask(self.address // 8)


@dataclass(frozen=True)
class Effect:
    """What an instruction has done."""

    run: VmRun
    stop: str
    ports: tuple[PortAccess, ...]
    before: Mapping[Gpr, int]
    after: Mapping[Gpr, int]


@dataclass
class Bench:
    """I/O instructions one after the other, on one machine.

    Every port of `also` and the three of the guest's instructions are one
    device, which gives `device_bytes`.  Strings lie at `base`, which all data
    segments but SS have in real mode; elsewhere it is 0.
    """

    vm: VirtualMachine
    also: Sequence[int] = ()
    mmio: Sequence[Mmio] = ()
    readonly: Sequence[tuple[int, int]] = ()
    given: int = 0
    """Bytes that the device has given."""
    _seen: int = 0
    base: int = field(init=False)

    def __post_init__(self) -> None:
        self.mode = self.vm.mode
        ports = {PORT, IMMEDIATE, HIGH_IMMEDIATE, *self.also}
        self.guest = self.vm.prepare(
            GUEST,
            ports=dict.fromkeys(ports, self._read),
            mmio=self.mmio,
            readonly=self.readonly,
        )
        self.base = 0x40000 if self.mode is Mode.REAL16 else 0
        if self.base:
            for name in (Segment.DS, Segment.ES, Segment.FS, Segment.GS):
                self.segment(name, self.base)

    def _read(self, size: int) -> int:
        data = device_bytes(self.given, size)
        self.given += size
        return int.from_bytes(data, "little")

    def segment(
        self, name: Segment, base: int, limit: int | None = None, flags: int | None = None
    ) -> None:
        """Give segment `name` another base, and another limit and flags where they are said.

        With a limit of its own it is byte-granular, where the flags do not say
        otherwise.
        """
        old = self.guest.registers.seg[name]
        if flags is None:
            flags = old.flags if limit is None else old.flags & ~0x800000
        selector = base >> 4 if self.mode is Mode.REAL16 else old.selector
        self.guest.registers.seg[name] = SegmentRegister(
            selector,
            base,
            old.limit if limit is None else limit,
            flags,
        )

    def execute(
        self,
        label: str,
        registers: Mapping[Gpr, int] | None = None,
        flags: int = 0,
        *,
        calls: int = 0,
    ) -> Effect:
        """Run the instruction at `label` up to its HLT, with these registers and flags.

        With `calls` it is to be done after so many of the assist: one that would
        not end is stopped there.
        """
        gpr = self.guest.registers.gpr
        gpr.update(registers_of(self.mode))
        gpr.update(registers or {})
        gpr[Gpr.RIP] = self.guest.symbol(label)
        gpr[Gpr.RFLAGS] = flags | 2
        before = dict(gpr)
        if calls:
            self._by_hand(label, calls)
        run = self.guest.run()
        ports, self._seen = run.ports[self._seen :], len(run.ports)
        at_end = run.reason is Stop.HALTED and run.rip == run.symbol(f"{label}_after")
        stop = "after it" if at_end else f"{run.outcome}, RIP {run.rip}"
        return Effect(run, stop, ports, before, run.registers.gpr)

    def _by_hand(self, label: str, calls: int) -> None:
        end = self.guest.symbol(f"{label}_npc")
        for _ in range(calls):
            if self.guest.state().gpr[Gpr.RIP] == end:
                return
            if not isinstance(self.guest.next_exit(), IoExit):
                break
            self.guest.vcpu.assist_io()
        if self.guest.state().gpr[Gpr.RIP] not in (end, end + 1):
            check(False, f"{label} is done after {calls} calls of the assist")
        self.guest.registers.gpr[Gpr.RIP] = end

    def verify(
        self,
        effect: Effect,
        ports: Sequence[PortAccess],
        registers: Mapping[Gpr, int] | None = None,
        what: str = "",
    ) -> None:
        """Check that it ended, its port accesses, and all registers and flags.

        `registers` are those that have changed.
        """
        check.equal(effect.stop, "after it", f"{what}ends")
        check.equal(effect.ports, tuple(ports), f"{what}port accesses")
        check_registers(effect, {**effect.before, **(registers or {})}, what)

    def transfer(
        self,
        form: Form,
        *,
        offset: int = BUFFER,
        count: int = 1,
        down: bool = False,
        upper: int = 0,
        what: str = "",
    ) -> Effect:
        """Execute `form` and check everything that it does.

        `offset` goes into its index register; with `form.rep` `count` into RCX.
        `upper` is added to both, above the address size.  The device and the
        window are compared whole.
        """
        data = bytearray(FILLED)
        self.guest.write(self.base, FILLED)
        count = count if form.rep else 1
        addresses = [
            self._address(form, offset + (-n if down else n) * form.size) for n in range(count)
        ]
        wanted = []
        start = self.given
        for n, at in enumerate(addresses):
            places = [(at + k) % WINDOW for k in range(form.size)]
            if form.is_in:
                element = device_bytes(start + n * form.size, form.size)
                for place, byte in zip(places, element, strict=True):
                    data[place] = byte
            element = bytes(data[place] for place in places)
            value = int.from_bytes(element, "little")
            wanted.append(PortAccess(PORT, form.is_in, form.size, value))
        registers = {form.index: upper | offset}
        if form.rep:
            registers[Gpr.RCX] = upper | count
        flags = STATUS | (DF if down else 0)
        # A count with its upper half would not end.
        effect = self.execute(form.label, registers, flags, calls=count if upper else 0)
        step = (-count if down else count) * form.size
        changed = {form.index: self._after(form, upper | offset, offset + step)}
        if form.rep:
            changed[Gpr.RCX] = self._after(form, upper | count, 0)
        self.verify(effect, wanted, changed, what)
        self._compare(bytes(data), what)
        return effect

    def _address(self, form: Form, offset: int) -> int:
        """Where in the window an element is: by the segment's base, and the address size."""
        base = self.guest.registers.seg[form.used_segment].base
        if self.mode is Mode.LONG64 and form.used_segment not in (Segment.FS, Segment.GS):
            base = 0
        linear = base + (offset & form.mask)
        return (linear & mask(8 if self.mode is Mode.LONG64 else 4)) - self.base

    def _after(self, form: Form, before: int, value: int) -> int:
        """What a register holds that got `value` by the address size (SDM 1 3.4.1.1)."""
        if form.address == 32 and self.mode is Mode.LONG64:
            return value & form.mask
        return before & ~form.mask | value & form.mask

    def _compare(self, wanted: bytes, what: str) -> None:
        found = self.guest.memory(self.base, WINDOW)
        if found == wanted:
            check(True, f"{what}memory")
            return
        first = next(n for n in range(WINDOW) if found[n] != wanted[n])
        span = slice(first, first + 16)
        check.equal(found[span].hex(" "), wanted[span].hex(" "), f"{what}memory at {first:#x}")

    def refuses(
        self,
        form: Form,
        *,
        offset: int,
        count: int = 1,
        what: str = "",
    ) -> None:
        """Check that `form` raises a fault, before anything is done.

        It is the assist that tells, by EFAULT; the fault is then the caller's
        to raise (libnvmm(3)).  The device, memory and all registers are as before.
        """
        self.guest.write(self.base, FILLED)
        registers = {form.index: offset} | ({Gpr.RCX: count} if form.rep else {})
        effect = self.execute(form.label, registers)
        check.equal(told(effect.run), "EFAULT", f"{what}the assist")
        check.equal(effect.ports, (), f"{what}port accesses")
        check_registers(effect, effect.before, what)
        check.equal(effect.run.rip, effect.run.symbol(form.label), f"{what}RIP")
        self._compare(FILLED, what)


def check_registers(effect: Effect, wanted: Mapping[Gpr, int], what: str = "") -> None:
    """Check all registers but RIP, and the flags but RF."""
    compared = [gpr for gpr in wanted if gpr is not Gpr.RIP]

    def shown(values: Mapping[Gpr, int]) -> str:
        return ", ".join(f"{gpr.name}={values[gpr]:#x}" for gpr in differing) or "as they should be"

    keep = ~(1 << 16)
    after = {**effect.after, Gpr.RFLAGS: effect.after[Gpr.RFLAGS] & keep}
    differing = [gpr for gpr in compared if after[gpr] != wanted[gpr]]
    check.equal(shown(after), shown(wanted), f"{what}registers")


def told(run: VmRun) -> str:
    """How the I/O assist failed, in a run that ended by that; else how it ended."""
    message = run.outcome.message or ""
    if run.reason is Stop.PANIC and "nvmm_assist_io" in message:
        return "EFAULT" if "EFAULT" in message else message
    return f"{run.outcome}, RIP {run.rip}"
