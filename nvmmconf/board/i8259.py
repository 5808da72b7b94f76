# SPDX-License-Identifier: BSD-2-Clause
"""The pair of 8259A interrupt controllers (Intel 8259A datasheet, order number 231468).

The edge/level control registers are those of Intel's 82357 and PIIX.  Left out: the MCS-80
mode (ICW4 bit 0 clear), whose acknowledge cycle no x86 makes, and buffered mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.irq import Line, unconnected
from nvmmconf.board.ports import PortSpace

MASTER_PORT = 0x20
SLAVE_PORT = 0xA0
ELCR_PORT = 0x4D0
CASCADE = 2
"""The master's input that the slave's output is wired to."""
SPURIOUS = 7
"""The input whose vector a controller gives where no input asks any more."""

EDGE_ONLY = (0x07, 0x21)
"""Inputs that ELCR cannot make level-triggered: IRQ 0, 1, 2, 8 and 13."""

ICW1 = 1 << 4
ICW1_IC4 = 1 << 0
ICW1_SNGL = 1 << 1
ICW1_LTIM = 1 << 3
ICW4_AEOI = 1 << 1
ICW4_SFNM = 1 << 4

OCW2_ROTATE = 1 << 7
OCW2_SPECIFIC = 1 << 6
OCW2_EOI = 1 << 5

OCW3 = 1 << 3
OCW3_RIS = 1 << 0
OCW3_RR = 1 << 1
OCW3_POLL = 1 << 2
OCW3_SMM = 1 << 5
OCW3_ESMM = 1 << 6

POLL_REQUEST = 1 << 7


@dataclass(frozen=True)
class I8259State:
    """One controller's registers and what its inputs last were."""

    irr: int = 0
    isr: int = 0
    imr: int = 0
    lines: int = 0
    level_triggered: int = 0
    """ELCR's bits."""
    base: int = 0
    """ICW2's vector bits."""
    icw1: int = 0
    icw4: int = 0
    next_icw: int = 1
    """The initialisation word that is waited for; 0 for none, 1 since power on."""
    lowest: int = 7
    """The input of the lowest priority."""
    read_isr: bool = False
    poll: bool = False
    special_mask: bool = False
    rotate_aeoi: bool = False


@dataclass(frozen=True)
class I8259PairState:
    """Both controllers."""

    master: I8259State
    slave: I8259State


class I8259:
    """One 8259A: eight inputs, `output` is its INT.

    `cascade` is a mask of the inputs that slaves are at; 0 in a slave.
    """

    max_size = 1

    def __init__(self, output: Line, cascade: int = 0, edge_only: int = 0) -> None:
        self._output = output
        self._cascade = cascade
        self._edge_only = edge_only
        self._int = False
        self._set(I8259State())

    def _set(self, state: I8259State) -> None:
        self._irr = state.irr
        self._isr = state.isr
        self._imr = state.imr
        self._lines = state.lines
        self._elcr = state.level_triggered
        self._base = state.base
        self._icw1 = state.icw1
        self._icw4 = state.icw4
        self._next_icw = state.next_icw
        self._lowest = state.lowest
        self._read_isr = state.read_isr
        self._poll = state.poll
        self._special_mask = state.special_mask
        self._rotate_aeoi = state.rotate_aeoi

    def save(self) -> I8259State:
        """All that there is to keep."""
        return I8259State(
            irr=self._irr,
            isr=self._isr,
            imr=self._imr,
            lines=self._lines,
            level_triggered=self._elcr,
            base=self._base,
            icw1=self._icw1,
            icw4=self._icw4,
            next_icw=self._next_icw,
            lowest=self._lowest,
            read_isr=self._read_isr,
            poll=self._poll,
            special_mask=self._special_mask,
            rotate_aeoi=self._rotate_aeoi,
        )

    def load(self, state: I8259State) -> None:
        """Take `state` over and drive INT."""
        self._set(state)
        self._int = self._best() is not None
        self._output(self._int)

    def reset(self) -> None:
        """Power on.  The inputs keep their levels: they are others' outputs."""
        self.load(I8259State(lines=self._lines))

    # ---- inputs and output ---------------------------------------------------------

    @property
    def _levels(self) -> int:
        """Which inputs are level-triggered."""
        return 0xFF if self._icw1 & ICW1_LTIM else self._elcr

    def input(self, number: int, level: bool) -> None:
        """Input `number` (0 to 7) has `level`.

        A request whose input goes low before the acknowledge is withdrawn, in either mode.
        """
        bit = 1 << number
        if not level:
            self._lines &= ~bit
            self._irr &= ~bit
        else:
            if self._levels & bit or not self._lines & bit:
                self._irr |= bit
            self._lines |= bit
        self._update()

    def _priority(self, mask: int) -> int | None:
        """The input of the highest priority in `mask`."""
        for step in range(1, 9):
            number = (self._lowest + step) & 7
            if mask & 1 << number:
                return number
        return None

    def _best(self) -> int | None:
        """The input that INT is raised for."""
        if self._next_icw:
            return None
        request = self._priority(self._irr & ~self._imr)
        if request is None:
            return None
        blocking = self._isr
        if self._special_mask:
            blocking &= ~self._imr
        if self._icw4 & ICW4_SFNM:
            # A slave that is in service may ask again, for an input of a higher priority.
            blocking &= ~(self._cascade & 1 << request)
        served = self._priority(blocking)
        if served is not None and self._rank(served) <= self._rank(request):
            return None
        return request

    def _rank(self, number: int) -> int:
        """0 for the highest priority."""
        return (number - self._lowest - 1) & 7

    def _update(self) -> None:
        level = self._best() is not None
        if level != self._int:
            self._int = level
            self._output(level)

    def acknowledge(self) -> int:
        """The INTA cycle: return the number of the input that goes into service.

        7, and nothing goes into service, where none asks any more.
        """
        number = self._best()
        if number is None:
            return SPURIOUS
        bit = 1 << number
        if not self._levels & bit:
            self._irr &= ~bit
        if not self._icw4 & ICW4_AEOI:
            self._isr |= bit
        elif self._rotate_aeoi:
            self._lowest = number
        # INT falls in any case, or a master that sees edges would miss what is left.
        if self._int:
            self._int = False
            self._output(False)
        self._update()
        return number

    def vector(self, number: int) -> int:
        """What this controller puts on the bus for input `number`."""
        return self._base | number

    # ---- registers ---------------------------------------------------------------------

    def port_read(self, offset: int, size: int) -> int:
        """A poll's answer; else IRR or ISR at the even port and IMR at the odd one."""
        if self._poll:
            self._poll = False
            if self._best() is None:
                return SPURIOUS
            return POLL_REQUEST | self.acknowledge()
        if offset:
            return self._imr
        return self._isr if self._read_isr else self._irr

    def port_write(self, offset: int, size: int, value: int) -> None:
        """An initialisation or an operation command word."""
        if offset:
            self._write_odd(value)
        elif value & ICW1:
            self._initialise(value)
        elif value & OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)
        self._update()

    def _initialise(self, value: int) -> None:
        """ICW1.  An input that is high must go low before an edge is seen again."""
        self._icw1 = value
        self._icw4 = 0
        self._next_icw = 2
        self._irr = self._lines & self._levels
        self._imr = 0
        self._isr = 0
        self._lowest = 7
        self._special_mask = self._read_isr = self._poll = self._rotate_aeoi = False

    def _write_odd(self, value: int) -> None:
        if self._next_icw in (0, 1):
            self._imr = value
            return
        if self._next_icw == 2:
            self._base = value & 0xF8
        elif self._next_icw == 4:
            self._icw4 = value
        # ICW3 says who is wired to whom, which is not for software to change.
        wanted = {3: not self._icw1 & ICW1_SNGL, 4: bool(self._icw1 & ICW1_IC4)}
        later = (word for word in (3, 4) if word > self._next_icw and wanted[word])
        self._next_icw = next(later, 0)

    def _write_ocw2(self, value: int) -> None:
        rotate, specific, level = value & OCW2_ROTATE, value & OCW2_SPECIFIC, value & 7
        if value & OCW2_EOI:
            # In special mask mode, an unspecific EOI does not end what is masked.
            ended: int | None = level
            if not specific:
                ended = self._priority(self._isr & ~self._imr if self._special_mask else self._isr)
            if ended is not None:
                self._isr &= ~(1 << ended)
                if rotate:
                    self._lowest = ended
        elif specific:
            if rotate:
                self._lowest = level
        else:
            self._rotate_aeoi = bool(rotate)

    def _write_ocw3(self, value: int) -> None:
        if value & OCW3_ESMM:
            self._special_mask = bool(value & OCW3_SMM)
        # Until a read comes, whatever is written meanwhile.
        self._poll |= bool(value & OCW3_POLL)
        if value & OCW3_RR:
            self._read_isr = bool(value & OCW3_RIS)

    @property
    def elcr(self) -> int:
        """The edge/level control register: 1 for level-triggered."""
        return self._elcr

    @elcr.setter
    def elcr(self, value: int) -> None:
        self._elcr = value & ~self._edge_only & 0xFF
        # A level-triggered input asks by its level alone.
        levels = self._levels
        self._irr = self._irr & ~levels | self._lines & levels
        self._update()


class _Elcr:
    """The two edge/level control registers."""

    max_size = 1

    def __init__(self, *chips: I8259) -> None:
        self._chips = chips

    def port_read(self, offset: int, size: int) -> int:
        return self._chips[offset].elcr

    def port_write(self, offset: int, size: int, value: int) -> None:
        self._chips[offset].elcr = value


class I8259Pair:
    """IRQ 0 to 15; `intr` is the master's INT, the slave is at its input 2."""

    def __init__(self, intr: Line = unconnected) -> None:
        self.master = I8259(intr, cascade=1 << CASCADE, edge_only=EDGE_ONLY[0])
        self.slave = I8259(lambda level: self.master.input(CASCADE, level), edge_only=EDGE_ONLY[1])
        self.elcr = _Elcr(self.master, self.slave)

    def connect(self, ports: PortSpace) -> None:
        """Claim the ports of both and of the edge/level control registers."""
        ports.claim(MASTER_PORT, 2, self.master)
        ports.claim(SLAVE_PORT, 2, self.slave)
        ports.claim(ELCR_PORT, 2, self.elcr)

    def line(self, irq: int) -> Callable[[bool], None]:
        """Return the wire to `irq`.  Raises ValueError for 2 and beyond 15."""
        if irq == CASCADE or not 0 <= irq < 16:
            raise ValueError(f"IRQ {irq} has no wire: there are 0 to 15 without {CASCADE}")
        chip, number = (self.slave if irq >= 8 else self.master), irq & 7
        return lambda level: chip.input(number, level)

    def acknowledge(self) -> int:
        """Carry out an INTA cycle and return its vector.

        Also where INTR is low by now: then it is the vector of IRQ 7, or of IRQ 15
        where the master has a request of the slave's and the slave none.
        """
        number = self.master.acknowledge()
        if number == CASCADE:
            return self.slave.vector(self.slave.acknowledge())
        return self.master.vector(number)

    def reset(self) -> None:
        """Power on."""
        self.master.reset()
        self.slave.reset()

    def save(self) -> I8259PairState:
        """Both controllers."""
        return I8259PairState(self.master.save(), self.slave.save())

    def load(self, state: I8259PairState) -> None:
        """Take both over and drive INTR."""
        self.slave.load(state.slave)
        self.master.load(state.master)
