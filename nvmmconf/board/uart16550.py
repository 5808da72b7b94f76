# SPDX-License-Identifier: BSD-2-Clause
"""A serial port (National Semiconductor PC16550D datasheet).

Characters take no time: what is written to THR has been sent, and the four character
times of the time-out interrupt have always passed.  Left out, as there is no wire: baud
rate, word length, parity, break and DMA, whose registers are kept only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.irq import Line, unconnected
from nvmmconf.board.ports import PortSpace

COM1 = 0x3F8
PORT_COUNT = 8

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR = 3
MCR = 4
LSR = 5
MSR = 6
SCR = 7

IER_RX = 1 << 0
IER_THRE = 1 << 1
IER_LINE = 1 << 2
IER_MODEM = 1 << 3

IIR_NONE = 0x01
IIR_LINE = 0x06
IIR_RX = 0x04
IIR_TIMEOUT = 0x0C
IIR_THRE = 0x02
IIR_MODEM = 0x00
IIR_FIFOS = 0xC0

FCR_ENABLE = 1 << 0
FCR_CLEAR_RX = 1 << 1
FCR_KEPT = 0xC9

LCR_DLAB = 1 << 7

MCR_DTR = 1 << 0
MCR_RTS = 1 << 1
MCR_OUT1 = 1 << 2
MCR_OUT2 = 1 << 3
MCR_LOOP = 1 << 4

LSR_DR = 1 << 0
LSR_OE = 1 << 1
LSR_THRE = 1 << 5
LSR_TEMT = 1 << 6

MSR_DCTS = 1 << 0
MSR_DDSR = 1 << 1
MSR_TERI = 1 << 2
MSR_DDCD = 1 << 3
MSR_CTS = 1 << 4
MSR_DSR = 1 << 5
MSR_RI = 1 << 6
MSR_DCD = 1 << 7

FIFO_SIZE = 16
TRIGGERS = (1, 4, 8, 14)
"""Characters in the receiver's FIFO that FCR's bits 7 and 6 ask for."""


@dataclass(frozen=True)
class UartState:
    """The registers; what was printed is not among them."""

    ier: int = 0
    fcr: int = 0
    lcr: int = 0
    mcr: int = 0
    scr: int = 0
    divisor: int = 0
    overrun: bool = False
    thre_pending: bool = False
    modem_lines: int = MSR_CTS | MSR_DSR | MSR_DCD
    modem_changes: int = 0
    received: bytes = b""
    """In RBR or in the receiver's FIFO."""
    waiting: bytes = b""
    """Still on the other side of the wire."""


class Uart16550:
    """A PC16550D; `irq` is its interrupt as a PC wires it, through the gate of OUT2.

    `send` is given each byte that leaves; without it they are in `output`, at most
    `limit`, the rest is counted in `dropped`.  The other side is connected (CTS, DSR, DCD).
    """

    max_size = 1

    def __init__(
        self,
        irq: Line = unconnected,
        send: Callable[[int], None] | None = None,
        limit: int = 1 << 20,
    ) -> None:
        self._irq = irq
        self._send = send
        self._limit = limit
        self.output = bytearray()
        self.dropped = 0
        """Bytes sent beyond the limit."""
        self._received: deque[int] = deque()
        self._waiting: deque[int] = deque()
        self.reset()

    def connect(self, ports: PortSpace, first: int = COM1) -> None:
        """Claim eight ports."""
        ports.claim(first, PORT_COUNT, self)

    @property
    def text(self) -> str:
        """The output as text; bytes that are not ASCII come out as escapes."""
        return self.output.decode("ascii", errors="backslashreplace")

    def reset(self) -> None:
        """Master reset; what the other side has not sent yet is not lost."""
        self.load(UartState(waiting=bytes(self._waiting)))

    def save(self) -> UartState:
        """The registers."""
        return UartState(
            ier=self._ier,
            fcr=self._fcr,
            lcr=self._lcr,
            mcr=self._mcr,
            scr=self._scr,
            divisor=self._divisor,
            overrun=self._overrun,
            thre_pending=self._thre_pending,
            modem_lines=self._modem_lines,
            modem_changes=self._modem_changes,
            received=bytes(self._received),
            waiting=bytes(self._waiting),
        )

    def load(self, state: UartState) -> None:
        """Take the registers over and drive the interrupt."""
        self._ier = state.ier
        self._fcr = state.fcr
        self._lcr = state.lcr
        self._mcr = state.mcr
        self._scr = state.scr
        self._divisor = state.divisor
        self._overrun = state.overrun
        self._thre_pending = state.thre_pending
        self._modem_lines = state.modem_lines
        self._modem_changes = state.modem_changes
        self._received = deque(state.received)
        self._waiting = deque(state.waiting)
        self._update()

    # ---- the wire ------------------------------------------------------------------------

    @property
    def _capacity(self) -> int:
        return FIFO_SIZE if self._fcr & FCR_ENABLE else 1

    def receive(self, data: bytes) -> None:
        """The other side sends `data`, at the pace at which the guest reads: none is lost."""
        self._waiting.extend(data)
        self._take_in()
        self._update()

    def _take_in(self) -> None:
        # In loopback SIN leads nowhere; the other side waits here, too.
        while self._waiting and not self._mcr & MCR_LOOP and len(self._received) < self._capacity:
            self._received.append(self._waiting.popleft())

    def _loop(self, byte: int) -> None:
        """A sent byte comes back.  A full FIFO keeps what it has, a full RBR does not."""
        if len(self._received) >= self._capacity:
            self._overrun = True
            if self._fcr & FCR_ENABLE:
                return
            self._received.clear()
        self._received.append(byte)

    def _transmit(self, byte: int) -> None:
        self._thre_pending = True
        if self._mcr & MCR_LOOP:
            self._loop(byte)
        elif self._send is not None:
            self._send(byte)
        elif len(self.output) < self._limit:
            self.output.append(byte)
        else:
            self.dropped += 1

    # ---- interrupts ----------------------------------------------------------------------

    def _identify(self) -> int:
        """The pending interrupt of the highest priority."""
        count = len(self._received)
        if self._ier & IER_LINE and self._overrun:
            return IIR_LINE
        if self._ier & IER_RX and count:
            if self._fcr & FCR_ENABLE and count < TRIGGERS[self._fcr >> 6]:
                return IIR_TIMEOUT
            return IIR_RX
        if self._ier & IER_THRE and self._thre_pending:
            return IIR_THRE
        if self._ier & IER_MODEM and self._modem_changes:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        # In loopback the pin of OUT2 is inactive, whatever MCR says.
        gate = self._mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
        self._irq(gate and self._identify() != IIR_NONE)

    def _modem(self) -> int:
        """The four modem inputs, which loopback takes from the outputs."""
        if not self._mcr & MCR_LOOP:
            return self._modem_lines
        return (
            MSR_CTS * bool(self._mcr & MCR_RTS)
            | MSR_DSR * bool(self._mcr & MCR_DTR)
            | MSR_RI * bool(self._mcr & MCR_OUT1)
            | MSR_DCD * bool(self._mcr & MCR_OUT2)
        )

    # ---- registers -----------------------------------------------------------------------

    def port_read(self, offset: int, size: int) -> int:
        """A register; some reads end an interrupt."""
        value = self._read(offset)
        self._update()
        return value

    def _read(self, offset: int) -> int:
        if self._lcr & LCR_DLAB and offset in (DLL, DLM):
            return self._divisor >> 8 * offset & 0xFF
        match offset:
            case 0:
                byte = self._received.popleft() if self._received else 0
                self._take_in()
                return byte
            case 1:
                return self._ier
            case 2:
                source = self._identify()
                if source == IIR_THRE:
                    self._thre_pending = False
                return source | (IIR_FIFOS if self._fcr & FCR_ENABLE else 0)
            case 3:
                return self._lcr
            case 4:
                return self._mcr
            case 5:
                status = LSR_THRE | LSR_TEMT
                status |= LSR_DR * bool(self._received) | LSR_OE * self._overrun
                self._overrun = False
                return status
            case 6:
                changes, self._modem_changes = self._modem_changes, 0
                return self._modem() | changes
            case _:
                return self._scr

    def port_write(self, offset: int, size: int, value: int) -> None:
        """A register."""
        if self._lcr & LCR_DLAB and offset in (DLL, DLM):
            kept = self._divisor & ~(0xFF << 8 * offset)
            self._divisor = kept | value << 8 * offset
            return
        match offset:
            case 0:
                self._transmit(value)
            case 1:
                # Enabling it while THR is empty is an interrupt at once.
                self._thre_pending |= bool(value & ~self._ier & IER_THRE)
                self._ier = value & 0x0F
            case 2:
                self._write_fcr(value)
            case 3:
                self._lcr = value
            case 4:
                self._write_mcr(value & 0x1F)
            case 7:
                self._scr = value
        self._update()

    def _write_fcr(self, value: int) -> None:
        """FCR; changing the enable bit empties the FIFO, and without it no bit is taken."""
        if (value ^ self._fcr) & FCR_ENABLE or value & (FCR_ENABLE | FCR_CLEAR_RX) == 3:
            self._received.clear()
        self._fcr = value & FCR_KEPT if value & FCR_ENABLE else 0
        self._take_in()

    def _write_mcr(self, value: int) -> None:
        before = self._modem()
        self._mcr = value
        changed = self._modem() ^ before
        # RI counts when it ends, the others at any change.
        fell = changed & before & MSR_RI
        self._modem_changes |= (changed & ~MSR_RI | fell) >> 4
        self._take_in()
