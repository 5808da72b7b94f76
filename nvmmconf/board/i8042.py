# SPDX-License-Identifier: BSD-2-Clause
"""The keyboard controller (IBM PS/2 Hardware Interface Technical Reference, keyboard controller).

Left out: an auxiliary device (a mouse) and scan code translation: `key` is given the
codes as the guest reads them.  A command has been carried out when the next access comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.irq import Line, unconnected
from nvmmconf.board.ports import PortSpace

DATA_PORT = 0x60
COMMAND_PORT = 0x64

STATUS_OBF = 1 << 0
STATUS_SYS = 1 << 2
STATUS_COMMAND = 1 << 3
STATUS_UNLOCKED = 1 << 4
STATUS_AUX = 1 << 5
STATUS_TIMEOUT = 1 << 6

MODE_IRQ1 = 1 << 0
MODE_IRQ12 = 1 << 1
MODE_SYS = 1 << 2
MODE_KEYBOARD_OFF = 1 << 4
MODE_AUX_OFF = 1 << 5

OUTPUT_NO_RESET = 1 << 0
OUTPUT_A20 = 1 << 1
OUTPUT_IRQ1 = 1 << 4
OUTPUT_IRQ12 = 1 << 5

SELF_TEST_PASSED = 0x55
INTERFACE_GOOD = 0x00
INTERFACE_ABSENT = 0xFF
INPUT_PORT = 0x80
"""Keyboard not locked."""

RESEND = 0xFE
ACK = 0xFA
KEYBOARD_PASSED = 0xAA
KEYBOARD_ID = (0xAB, 0x83)
KEYBOARD_WITH_ARGUMENT = (0xED, 0xF0, 0xF3)


@dataclass(frozen=True)
class I8042State:
    """The controller's registers and what it holds."""

    mode: int = MODE_KEYBOARD_OFF
    """The command byte."""
    ram: bytes = bytes(31)
    """Bytes 0x21 to 0x3F of its memory."""
    output_port: int = OUTPUT_NO_RESET | OUTPUT_A20
    last_was_command: bool = True
    pending: int | None = None
    """The command that waits for its data."""
    argument: bool = False
    """The keyboard waits for a command's argument."""
    output: tuple[tuple[int, int], ...] = ()
    """Bytes to read, each with the bits of the status that come with it."""
    keys: bytes = b""
    """What the keyboard has to send."""


class I8042:
    """Ports 0x60 and 0x64.

    Without `keyboard`, what is sent to one ends in a time-out, with RESEND to read, as
    on a PC that has none plugged in.  With it, a keyboard acknowledges its commands.
    `on_reset` is called for a pulse on output port bit 0, `a20` told of bit 1.
    """

    max_size = 1

    def __init__(
        self,
        on_reset: Callable[[], None],
        irq1: Line = unconnected,
        irq12: Line = unconnected,
        a20: Line = unconnected,
        keyboard: bool = False,
    ) -> None:
        self._on_reset = on_reset
        self._irq1 = irq1
        self._irq12 = irq12
        self._a20 = a20
        self._keyboard = keyboard
        self._command = _CommandPort(self)
        self.reset()

    def connect(self, ports: PortSpace) -> None:
        """Claim both ports."""
        ports.claim(DATA_PORT, 1, self)
        ports.claim(COMMAND_PORT, 1, self._command)

    @property
    def a20(self) -> bool:
        """Whether the output port asks for address line 20."""
        return bool(self._output_port & OUTPUT_A20)

    def reset(self) -> None:
        """Power on; address line 20 is open, as firmware expects of today's machines."""
        self.load(I8042State())

    def save(self) -> I8042State:
        """All of it."""
        return I8042State(
            mode=self._mode,
            ram=bytes(self._ram),
            output_port=self._output_port,
            last_was_command=self._last_was_command,
            pending=self._pending,
            argument=self._argument,
            output=tuple(self._output),
            keys=bytes(self._keys),
        )

    def load(self, state: I8042State) -> None:
        """Take `state` over and drive the lines; resets nothing."""
        self._mode = state.mode
        self._ram = bytearray(state.ram)
        self._output_port = state.output_port
        self._last_was_command = state.last_was_command
        self._pending = state.pending
        self._argument = state.argument
        self._output = deque(state.output)
        self._keys = deque(state.keys)
        self._a20(self.a20)
        self._update()

    def key(self, codes: bytes) -> None:
        """The keyboard sends `codes`.  Raises ValueError where there is no keyboard."""
        if not self._keyboard:
            raise ValueError("there is no keyboard: make the controller with keyboard=True")
        self._keys.extend(codes)
        self._update()

    # ---- the output buffer -----------------------------------------------------------------

    def _update(self) -> None:
        """Let the keyboard send, and drive the interrupts."""
        if self._keys and not self._output and not self._mode & MODE_KEYBOARD_OFF:
            self._output.append((self._keys.popleft(), 0))
        full = bool(self._output)
        aux = full and bool(self._output[0][1] & STATUS_AUX)
        self._irq1(full and not aux and bool(self._mode & MODE_IRQ1))
        self._irq12(aux and bool(self._mode & MODE_IRQ12))

    def _answer(self, byte: int, status: int = 0) -> None:
        """The controller's own byte takes the buffer, whatever is there."""
        self._output.clear()
        self._output.append((byte, status))

    def read_status(self) -> int:
        """Port 0x64."""
        status = STATUS_UNLOCKED
        if self._output:
            status |= STATUS_OBF | self._output[0][1]
        if self._mode & MODE_SYS:
            status |= STATUS_SYS
        if self._last_was_command:
            status |= STATUS_COMMAND
        return status

    def port_read(self, offset: int, size: int) -> int:
        """Port 0x60: the output buffer, 0 where it is empty."""
        byte = self._output.popleft()[0] if self._output else 0
        # The line falls between two bytes, or a controller of edges misses the second.
        self._irq1(False)
        self._irq12(False)
        self._update()
        return byte

    # ---- data -------------------------------------------------------------------------------

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Port 0x60: a command's data, or a byte for the keyboard."""
        self._last_was_command = False
        command, self._pending = self._pending, None
        if command is None:
            self._to_keyboard(value)
        elif command == 0x60:
            self._mode = value
        elif 0x61 <= command <= 0x7F:
            self._ram[command - 0x61] = value
        elif command == 0xD1:
            self._write_output_port(value)
        elif command == 0xD2:
            self._answer(value)
        elif command == 0xD3:
            self._answer(value, STATUS_AUX)
        elif command == 0xD4:
            self._answer(RESEND, STATUS_AUX | STATUS_TIMEOUT)
        self._update()

    def _to_keyboard(self, value: int) -> None:
        # Sending to the keyboard opens its interface.
        self._mode &= ~MODE_KEYBOARD_OFF
        if not self._keyboard:
            self._answer(RESEND, STATUS_TIMEOUT)
            return
        if self._argument:
            self._argument = False
            self._keys.append(ACK)
            return
        # A command ends what the keyboard was about to send.
        self._keys.clear()
        answers = {0xEE: (0xEE,), 0xF2: (ACK, *KEYBOARD_ID), 0xFF: (ACK, KEYBOARD_PASSED)}
        self._keys.extend(answers.get(value, (ACK,) if value >= 0xED else (RESEND,)))
        self._argument = value in KEYBOARD_WITH_ARGUMENT

    # ---- commands ---------------------------------------------------------------------------

    def command(self, value: int) -> None:
        """Port 0x64."""
        self._last_was_command = True
        self._pending = None
        if 0x20 <= value <= 0x3F:
            self._answer(self._mode if value == 0x20 else self._ram[value - 0x21])
        elif 0x60 <= value <= 0x7F or value in (0xD1, 0xD2, 0xD3, 0xD4):
            self._pending = value
        elif value >= 0xF0:
            self._pulse(value)
        else:
            self._simple(value)
        self._update()

    def _simple(self, value: int) -> None:
        """A command without data; an unknown one is ignored, as by the controller."""
        match value:
            case 0xA7:
                self._mode |= MODE_AUX_OFF
            case 0xA8:
                self._mode &= ~MODE_AUX_OFF
            case 0xA9:
                self._answer(INTERFACE_ABSENT)
            case 0xAA:
                self._mode |= MODE_SYS | MODE_KEYBOARD_OFF | MODE_AUX_OFF
                self._answer(SELF_TEST_PASSED)
            case 0xAB:
                self._answer(INTERFACE_GOOD)
            case 0xAD:
                self._mode |= MODE_KEYBOARD_OFF
            case 0xAE:
                self._mode &= ~MODE_KEYBOARD_OFF
            case 0xC0:
                self._answer(INPUT_PORT)
            case 0xD0:
                self._answer(self._read_output_port())
            case 0xDD:
                self._write_output_port(self._output_port & ~OUTPUT_A20)
            case 0xDF:
                self._write_output_port(self._output_port | OUTPUT_A20)

    def _read_output_port(self) -> int:
        value = self._output_port & (OUTPUT_NO_RESET | OUTPUT_A20)
        if self._output:
            value |= OUTPUT_IRQ12 if self._output[0][1] & STATUS_AUX else OUTPUT_IRQ1
        return value

    def _write_output_port(self, value: int) -> None:
        self._output_port = value & (OUTPUT_NO_RESET | OUTPUT_A20)
        self._a20(self.a20)
        if not value & OUTPUT_NO_RESET:
            # Nothing would ever release a CPU that is held in reset.
            self._output_port |= OUTPUT_NO_RESET
            self._on_reset()

    def _pulse(self, value: int) -> None:
        """F0 to FF: the output bits whose bit here is 0 go low for 6 us; bit 0 is reset."""
        if not value & OUTPUT_NO_RESET:
            self._on_reset()


class _CommandPort:
    """Port 0x64."""

    max_size = 1

    def __init__(self, controller: I8042) -> None:
        self._controller = controller

    def port_read(self, offset: int, size: int) -> int:
        return self._controller.read_status()

    def port_write(self, offset: int, size: int, value: int) -> None:
        self._controller.command(value)
