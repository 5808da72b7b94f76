# SPDX-License-Identifier: BSD-2-Clause
"""The local APIC in xAPIC mode (SDM 3A chapter 10; sections are numbered as there).

Where the SDM leaves it open, or a model decides:

- An access is one to a register where it covers the 32 bits at a 16-byte
  boundary; what else it covers is read as zero, and lost when written (10.4.1
  calls both undefined; QEMU does this with narrower ones).
- Read-only registers take writes without effect or error.
- An LVT entry with an illegal vector is an error when the interrupt comes, not when it is written.
- A message with an illegal vector is not sent.  One to the sender by the shorthand "self" counts as
  received, too.
- PPR[3:0] is TPR[3:0] also where the classes of TPR and ISRV are equal (10.8.3.1).
- The ID register may be written.  Polarities are kept and mean nothing: a pin is asserted or not.
- A message with a shorthand is sent whatever its delivery mode.
- While the APIC is software-disabled, what is in the IRR still goes to the CPU (10.4.7.2: "require
  masking or handling by the CPU").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nvmmconf.board.apic_registers import (
    DEFAULT_PAGE,
    FIRST_LEGAL_VECTOR,
    ICR_LOW_WRITABLE,
    LVT_SINCE,
    LVT_WRITABLE,
    SVR_ENABLE,
    SVR_WRITABLE,
    ApicError,
    Base,
    DeliveryMode,
    Lvt,
    Message,
    Register,
    Shorthand,
    icr_message,
)
from nvmmconf.board.apic_timer import ApicTimer, TimerState
from nvmmconf.board.interfaces import Clock, CpuLines

VERSION = 0x14
"""An integrated APIC (10.4.8)."""
MAX_LVT = 5
"""The highest LVT entry: timer, thermal, performance, LINT0, LINT1, error; no CMCI."""
_PINS = (Register.LVT_LINT0, Register.LVT_LINT1)
_RESET_LVT = dict.fromkeys(LVT_WRITABLE, int(Lvt.MASKED))
_PULSES = (DeliveryMode.NMI, DeliveryMode.SMI, DeliveryMode.INIT)


class MessageBus(Protocol):
    """Where an APIC sends what it has to say; `ApicBus` is one."""

    def attach(self, apic: LocalApic) -> None:
        """Put `apic` on the bus."""

    def send(self, message: Message, sender: LocalApic | None = None) -> bool:
        """Deliver `message`; True where anybody took it."""

    def eoi(self, vector: int) -> None:
        """A level-triggered interrupt has ended."""


class _NoCpu:
    """Before a CPU is connected."""

    def interrupt(self, asserted: bool) -> None:
        pass

    def nmi(self) -> None:
        pass

    def smi(self) -> None:
        pass

    def init(self) -> None:
        pass

    def start_up(self, vector: int) -> None:
        pass


@dataclass(frozen=True)
class ApicState:
    """All that a local APIC remembers; bitmaps have vector v at bit v."""

    apic_id: int
    base: int
    tpr: int
    ldr: int
    dfr: int
    svr: int
    isr: int
    tmr: int
    irr: int
    errors: int
    new_errors: int
    error_armed: bool
    icr_low: int
    icr_high: int
    lvt: tuple[tuple[Register, int], ...]
    pins: tuple[bool, bool]
    timer: TimerState


def _highest(bitmap: int) -> int:
    """The highest vector in `bitmap`, 0 where it is empty."""
    return max(bitmap.bit_length() - 1, 0)


class LocalApic:
    """One CPU's local APIC: registers, interrupts that wait and are in service, the timer.

    An InterruptController, and a DeviceMemory of one page.  All of it is to be
    called with the board's lock held.  `inta` gives the vector of the 8259
    behind LINT0, when it is acknowledged.  `physical_bits` is the CPU's
    MAXPHYADDR, of which the valid base addresses depend.  `max_lvt` says which
    LVT entries there are, as the version register has it.
    """

    def __init__(
        self,
        apic_id: int,
        bus: MessageBus,
        clock: Clock,
        inta: Callable[[], int],
        *,
        is_bsp: bool,
        physical_bits: int = 36,
        max_lvt: int = MAX_LVT,
    ) -> None:
        if not 3 <= max_lvt <= 6:
            raise ValueError(f"no local APIC has {max_lvt} as its highest LVT entry (3 to 6)")
        self._first_id = apic_id
        self._bus = bus
        self._inta = inta
        self._is_bsp = is_bsp
        self._base: int = 0
        self._physical_bits = physical_bits
        self._max_lvt = max_lvt
        self._lines: CpuLines = _NoCpu()
        self._timer = ApicTimer(clock, lambda: self._local(Register.LVT_TIMER))
        self._asserted = False
        self._pins = [False, False]
        self.reset()
        bus.attach(self)

    def connect(self, lines: CpuLines) -> None:
        """`lines` are its CPU's from now on; pulses (NMI, INIT and such) before it are lost."""
        self._lines = lines
        lines.interrupt(self._asserted)

    # ---- life ----

    def reset(self) -> None:
        """Power-up: 10.4.7.1, IA32_APIC_BASE included.  The pins stay as others drive them."""
        self.apic_id = self._first_id
        self._base = DEFAULT_PAGE | Base.ENABLE | (Base.BSP if self._is_bsp else 0)
        self.init_reset()

    def init_reset(self) -> None:
        """INIT: 10.4.7.3: as power-up, but the ID is kept; so is IA32_APIC_BASE."""
        self._tpr = 0
        self._ldr, self._dfr = 0, 0xFFFFFFFF
        self._svr = 0xFF
        self._isr = self._tmr = self._irr = 0
        self._errors = self._new_errors = 0
        self._error_armed = True
        self._icr_low = self._icr_high = 0
        self._lvt = dict(_RESET_LVT)
        self._timer.load(TimerState(), periodic=False, wanted=False)
        self._update()

    def init(self) -> None:
        """The CPU has taken its INIT: nothing of before is left here either."""
        self.init_reset()

    def virtual_wire(self) -> None:
        """What firmware leaves behind on the bootstrap processor, for a board that has none.

        Virtual wire mode (MultiProcessor specification 1.4, 3.6.2.2): the APIC
        enabled; LINT0 is the 8259's (ExtINT), LINT1 the NMI's.  The spurious vector is
        that of IRQ 7, whose handler knows of spurious interrupts.
        """
        self.write_register(Register.SVR, SVR_ENABLE | 0x0F)
        self.write_register(Register.LVT_LINT0, DeliveryMode.EXTINT << 8)
        self.write_register(Register.LVT_LINT1, DeliveryMode.NMI << 8)

    def save(self) -> ApicState:
        """All it remembers."""
        self._timer.settle()
        return ApicState(
            self.apic_id,
            self._base,
            self._tpr,
            self._ldr,
            self._dfr,
            self._svr,
            self._isr,
            self._tmr,
            self._irr,
            self._errors,
            self._new_errors,
            self._error_armed,
            self._icr_low,
            self._icr_high,
            tuple(self._lvt.items()),
            (self._pins[0], self._pins[1]),
            self._timer.save(),
        )

    def load(self, state: ApicState) -> None:
        """Be as it was when `state` was saved; the timer goes on from now."""
        self.apic_id, self._base = state.apic_id, state.base
        self._tpr, self._ldr, self._dfr, self._svr = state.tpr, state.ldr, state.dfr, state.svr
        self._isr, self._tmr, self._irr = state.isr, state.tmr, state.irr
        self._errors, self._new_errors = state.errors, state.new_errors
        self._error_armed = state.error_armed
        self._icr_low, self._icr_high = state.icr_low, state.icr_high
        self._lvt = dict(state.lvt)
        self._pins = list(state.pins)
        entry = self._lvt[Register.LVT_TIMER]
        self._timer.load(state.timer, **_timer_mode(entry))
        self._update(again=True)

    # ---- what the CPU sees: CR8, IA32_APIC_BASE, the interrupt line ----

    @property
    def tpr(self) -> int:
        """CR8: the task priority's class; to write it clears the sub-class (10.8.6.1)."""
        return self._tpr >> 4

    @tpr.setter
    def tpr(self, value: int) -> None:
        self._tpr = (value & 0xF) << 4
        self._update()

    @property
    def base(self) -> int:
        """IA32_APIC_BASE (10.4.4).

        Disabling takes the APIC off its bus and its state away (10.4.3).  Raises
        ValueError for a value that `is_valid_base` refuses: WRMSR has #GP there.
        """
        return self._base

    @base.setter
    def base(self, value: int) -> None:
        if not self.is_valid_base(value):
            raise ValueError(f"IA32_APIC_BASE cannot be {value:#x}: reserved bits are set")
        was_enabled = self.is_enabled
        self._base = value
        if was_enabled and not self.is_enabled:
            self.init_reset()
        self._update()

    def is_valid_base(self, value: int) -> bool:
        """Whether WRMSR may write it: bits 7:0, 9, 10 (no x2APIC) and beyond MAXPHYADDR are 0."""
        allowed = (1 << self._physical_bits) - 0x1000 | Base.BSP | Base.ENABLE
        return value & ~allowed == 0

    @property
    def is_enabled(self) -> bool:
        """IA32_APIC_BASE's enable bit: CPUID.01H:EDX[9] is to be the same (10.4.3)."""
        return bool(self._base & Base.ENABLE)

    @property
    def page(self) -> int | None:
        """Where its registers are in memory, None while it is disabled."""
        return self._base & ~0xFFF if self.is_enabled else None

    def acknowledge(self) -> int | None:
        """Return the vector of the interrupt to deliver (10.8.4); fixed before the 8259's.

        The spurious vector where what there is has become masked by a priority
        raised meanwhile (10.9); None where there is nothing.
        """
        vector: int | None = None
        if self._has_fixed:
            vector = _highest(self._irr)
            self._irr &= ~(1 << vector)
            self._isr |= 1 << vector
        elif self._has_extint:
            vector = self._inta()
        elif self._irr:
            vector = self._svr & 0xFF
        self._update(again=True)
        return vector

    def poll(self) -> None:
        """Tell the CPU again how its interrupt line is."""
        self._update(again=True)

    def _update(self, *, again: bool = False) -> None:
        """Drive the interrupt line; `again` also where it stays as it is."""
        asserted = self._has_fixed or self._has_extint
        if again or asserted != self._asserted:
            self._asserted = asserted
            self._lines.interrupt(asserted)

    @property
    def _has_fixed(self) -> bool:
        """10.8.3.1: only a higher class than the processor's priority goes through."""
        return _highest(self._irr) >> 4 > self.ppr >> 4

    @property
    def _has_extint(self) -> bool:
        if not self._pins[0]:
            return False
        if not self.is_enabled:  # LINT0 is INTR then (10.4.3)
            return True
        entry = self._lvt[Register.LVT_LINT0]
        return _mode(entry) is DeliveryMode.EXTINT and not entry & Lvt.MASKED

    # ---- priorities ----

    @property
    def ppr(self) -> int:
        """Processor priority (10.8.3.1)."""
        in_service = _highest(self._isr)
        return self._tpr if self._tpr >> 4 >= in_service >> 4 else in_service & 0xF0

    @property
    def apr(self) -> int:
        """Arbitration priority (10.6.2.4); read by old software, used by nobody."""
        in_service, requested = _highest(self._isr) >> 4, _highest(self._irr) >> 4
        own = self._tpr >> 4
        if own >= requested and own > in_service:
            return self._tpr
        return max(own, in_service, requested) << 4

    # ---- interrupts that arrive ----

    @property
    def accepts_fixed(self) -> bool:
        """Whether fixed interrupts are taken (10.4.3, 10.4.7.2)."""
        return self.is_enabled and bool(self._svr & SVR_ENABLE)

    def is_logical_target(self, destination: int) -> bool:
        """Whether a logical destination, not the broadcast, means this one (10.6.2.2)."""
        own = self._ldr >> 24
        match self._dfr >> 28:
            case 0xF:  # flat
                return bool(own & destination)
            case 0x0:  # cluster
                return own >> 4 == destination >> 4 and bool(own & destination & 0xF)
            case _:  # no model
                return False

    def receive(self, message: Message) -> bool:
        """Take a message that the bus has found to be for this one; whether it was taken."""
        match message.mode:
            case DeliveryMode.FIXED | DeliveryMode.LOWEST_PRIORITY:
                return self._accept(message.vector, level_triggered=message.level_triggered)
            case DeliveryMode.START_UP:
                self._lines.start_up(message.vector)
            case mode:
                self._pulse(mode)
        return True

    def _pulse(self, mode: DeliveryMode) -> None:
        """What goes past the IRR; software-disabling does not stop it (10.4.7.2)."""
        if mode is DeliveryMode.NMI:
            self._lines.nmi()
        elif mode is DeliveryMode.SMI:
            self._lines.smi()
        elif mode is DeliveryMode.INIT:
            self.init_reset()
            self._lines.init()

    def _accept(self, vector: int, *, level_triggered: bool) -> bool:
        """Put a fixed interrupt into the IRR (10.8.4); whether it could be."""
        if not self.accepts_fixed:
            return False
        if vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.RECEIVE_ILLEGAL_VECTOR)
            return False
        bit = 1 << vector
        self._irr |= bit
        self._tmr = self._tmr | bit if level_triggered else self._tmr & ~bit
        self._update()
        return True

    def _local(self, source: Register) -> None:
        """A local source has fired (10.5.1): always an edge."""
        entry = self._lvt[source]
        if not entry & Lvt.MASKED:
            self._accept(entry & 0xFF, level_triggered=False)

    def _error(self, error: ApicError) -> None:
        """Note an error; one interrupt until software writes the ESR (10.5.3)."""
        self._new_errors |= error
        if self._error_armed and not self._lvt[Register.LVT_ERROR] & Lvt.MASKED:
            self._error_armed = False
            self._local(Register.LVT_ERROR)

    # ---- LINT0 and LINT1 ----

    def set_lint(self, number: int, asserted: bool) -> None:
        """Drive pin LINT0 (the 8259's INTR) or LINT1 (NMI).  Idempotent."""
        is_edge = asserted and not self._pins[number]
        self._pins[number] = asserted
        entry = self._lvt[_PINS[number]]
        if not self.is_enabled:  # they are INTR and NMI then
            if is_edge and number == 1:
                self._lines.nmi()
        elif is_edge and not entry & Lvt.MASKED:
            mode = _mode(entry)
            if mode in _PULSES:
                self._pulse(mode)
            elif mode is DeliveryMode.FIXED and not self._is_level(number):
                self._local(_PINS[number])
        self._sense_level()
        self._update()

    def _is_level(self, number: int) -> bool:
        """10.5.1: a fixed LINT0 may be level-triggered; LINT1 is edge-triggered always."""
        entry = self._lvt[_PINS[number]]
        is_fixed = _mode(entry) is DeliveryMode.FIXED
        return number == 0 and is_fixed and bool(entry & Lvt.LEVEL_TRIGGERED)

    def _sense_level(self) -> None:
        """Take a level-triggered LINT0 that is asserted and not in the CPU's hands already."""
        entry = self._lvt[Register.LVT_LINT0]
        if (
            self._pins[0]
            and self._is_level(0)
            and not entry & (Lvt.MASKED | Lvt.REMOTE_IRR)
            and self._accept(entry & 0xFF, level_triggered=True)
        ):
            self._lvt[Register.LVT_LINT0] |= Lvt.REMOTE_IRR

    def _end_of_interrupt(self) -> None:
        """10.8.5: the highest in service has ended; a level-triggered one is told of."""
        if not self._isr:
            return
        vector = _highest(self._isr)
        self._isr &= ~(1 << vector)
        if self._tmr >> vector & 1:
            entry = self._lvt[Register.LVT_LINT0]
            if entry & Lvt.REMOTE_IRR and entry & 0xFF == vector:
                self._lvt[Register.LVT_LINT0] &= ~Lvt.REMOTE_IRR
                self._sense_level()
            self._bus.eoi(vector)
        self._update()

    # ---- registers ----

    def memory_read(self, offset: int, size: int) -> bytes:
        """Read in the page."""
        result = bytearray(size)
        for register in _registers(offset, size):
            place = register - offset
            result[place : place + 4] = self.read_register(register).to_bytes(4, "little")
        return bytes(result)

    def memory_write(self, offset: int, data: bytes) -> None:
        """Write in the page."""
        for register in _registers(offset, len(data)):
            place = register - offset
            self.write_register(register, int.from_bytes(data[place : place + 4], "little"))

    def _known(self, offset: int) -> Register | None:
        """The register at `offset`; None, and an error, where it is reserved (10.5.3)."""
        if any(offset == entry and self._max_lvt < least for entry, least in LVT_SINCE.items()):
            self._error(ApicError.ILLEGAL_REGISTER)
            return None
        try:
            return Register(offset)
        except ValueError:
            self._error(ApicError.ILLEGAL_REGISTER)
            return None

    def read_register(self, offset: int) -> int:
        """What the 32 bits at `offset`, a multiple of 16, read; reserved ones 0, with an error."""
        for first, bitmap in (
            (Register.ISR, self._isr),
            (Register.TMR, self._tmr),
            (Register.IRR, self._irr),
        ):
            if first <= offset < first + 0x80:
                return bitmap >> (offset - first) * 2 & 0xFFFFFFFF
        register = self._known(offset)
        match register:
            case None | Register.EOI | Register.REMOTE_READ:
                return 0
            case Register.ID:
                return self.apic_id << 24
            case Register.VERSION:
                return self._max_lvt << 16 | VERSION
            case Register.TPR:
                return self._tpr
            case Register.APR:
                return self.apr
            case Register.PPR:
                return self.ppr
            case Register.LDR:
                return self._ldr
            case Register.DFR:
                return self._dfr
            case Register.SVR:
                return self._svr
            case Register.ESR:
                return self._errors
            case Register.ICR_LOW:
                return self._icr_low
            case Register.ICR_HIGH:
                return self._icr_high
            case Register.INITIAL_COUNT:
                return self._timer.initial
            case Register.CURRENT_COUNT:
                return self._timer.current
            case Register.DIVIDE:
                return self._timer.divide
            case _:
                return self._lvt[register]

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32 bits at `offset`, a multiple of 16; a reserved one is an error."""
        if Register.ISR <= offset < Register.ESR:
            return
        self._timer.settle()
        register = self._known(offset)
        match register:
            case Register.ID:
                self.apic_id = value >> 24
            case Register.TPR:
                self._tpr = value & 0xFF
            case Register.EOI:
                self._end_of_interrupt()
            case Register.LDR:
                self._ldr = value & 0xFF000000
            case Register.DFR:
                self._dfr = value | 0x0FFFFFFF
            case Register.SVR:
                self._write_svr(value)
            case Register.ESR:
                self._errors, self._new_errors = self._new_errors, 0
                self._error_armed = True
            case Register.ICR_LOW:
                self._icr_low = value & ICR_LOW_WRITABLE
                self._send()
            case Register.ICR_HIGH:
                self._icr_high = value & 0xFF000000
            case Register.INITIAL_COUNT:
                self._timer.initial = value
            case Register.DIVIDE:
                self._timer.divide = value
            case _ if register in LVT_WRITABLE:
                self._write_lvt(register, value)
            case _:
                pass
        self._update()

    def _write_svr(self, value: int) -> None:
        self._svr = value & SVR_WRITABLE
        if not self._svr & SVR_ENABLE:
            for register, entry in self._lvt.items():  # 10.4.7.2
                self._write_lvt(register, entry)

    def _write_lvt(self, register: Register, value: int) -> None:
        """10.5.1; all stay masked while the APIC is software-disabled (10.4.7.2)."""
        writable = LVT_WRITABLE[register]
        entry = value & writable | self._lvt[register] & ~writable
        if not self._svr & SVR_ENABLE:
            entry |= Lvt.MASKED
        self._lvt[register] = entry
        if register is Register.LVT_TIMER:
            self._timer.configure(**_timer_mode(entry))
        elif register is Register.LVT_LINT0:
            if not self._is_level(0):
                self._lvt[register] &= ~Lvt.REMOTE_IRR
            self._sense_level()

    def _send(self) -> None:
        """10.6.1: a write of the ICR's low half sends."""
        message = icr_message(self._icr_low, self._icr_high)
        if message is None:
            return
        has_vector = message.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
        if has_vector and message.vector < FIRST_LEGAL_VECTOR:
            self._error(ApicError.SEND_ILLEGAL_VECTOR)
            if message.shorthand is Shorthand.SELF:
                self._error(ApicError.RECEIVE_ILLEGAL_VECTOR)
            return
        self._bus.send(message, self)


def _mode(entry: int) -> DeliveryMode:
    """An LVT entry's delivery mode."""
    return DeliveryMode(entry >> 8 & 7)


def _timer_mode(entry: int) -> dict[str, bool]:
    """The timer's LVT entry, as the timer wants it."""
    return {"periodic": bool(entry & Lvt.PERIODIC), "wanted": not entry & Lvt.MASKED}


def _registers(offset: int, size: int) -> range:
    """The registers whose 32 bits an access covers."""
    return range(-(-offset // 16) * 16, offset + size - 3, 16)
