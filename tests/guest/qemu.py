# SPDX-License-Identifier: BSD-2-Clause
"""Images in a QEMU: booted, or held at an address with their registers and memory shown."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nvmmconf.guest import Image

QEMU = "qemu-system-x86_64"
BACKSTOP = 60.0  # seconds; only a hung QEMU takes this long

needs_qemu = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (Debian: qemu-system-x86)"
)


def command(image: Image, folder: Path, cpus: int = 1) -> list[str]:
    # A comma in the name of a file is doubled for QEMU; a space is itself.
    console, log = (str(folder / name).replace(",", ",,") for name in ("console", "log"))
    return [
        *(QEMU, "-nodefaults", "-accel", "tcg", "-m", "16", "-display", "none", "-no-reboot"),
        *("-smp", str(cpus), "-kernel", str(image.elf).replace(",", ",,")),
        *("-debugcon", f"file:{console}"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
        *("-d", "cpu_reset", "-D", log),
    ]


@dataclass(frozen=True)
class Ended:
    """What became of it."""

    status: int
    console: bytes
    log: str


def boot(image: Image, folder: Path, cpus: int = 1) -> Ended:
    """Run the image until it ends the run."""
    done = subprocess.run(
        command(image, folder, cpus), stdin=subprocess.DEVNULL, timeout=BACKSTOP, check=False
    )
    log = folder / "log"
    return Ended(
        done.returncode,
        (folder / "console").read_bytes(),
        log.read_text() if log.exists() else "",
    )


class Monitor:
    """QEMU's machine protocol, over its standard streams."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        assert "QMP" in json.loads(self._stdout.readline())
        self.execute("qmp_capabilities")

    def execute(self, name: str, **arguments: str) -> object:
        self._stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._stdin.flush()
        while True:
            answer = json.loads(self._stdout.readline())
            if "event" not in answer:
                return answer["return"]

    def registers(self) -> str:
        command_line = "info registers"
        answer = self.execute("human-monitor-command", **{"command-line": command_line})
        assert isinstance(answer, str)
        return answer


class Debugger:
    """As much of GDB's remote protocol as it takes to stop at an address and look at memory."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb", buffering=0)

    def ask(self, text: str) -> str:
        data = text.encode()
        self._file.write(b"$" + data + b"#%02x" % (sum(data) & 0xFF))
        answer = bytearray()
        while not re.search(rb"\$([^#]*)#..$", answer):
            byte = self._file.read(1)
            assert byte, "QEMU closed the connection"
            answer += byte
        self._file.write(b"+")
        return answer.decode().rpartition("$")[2][:-3]

    def run_to(self, address: int) -> None:
        # A hardware breakpoint, which leaves memory as it is.
        assert self.ask(f"Z1,{address:x},1") == "OK"
        assert self.ask("c").startswith("T05")
        assert self.ask(f"z1,{address:x},1") == "OK"

    def scramble(self) -> None:
        """Put into registers what a loader may leave there: anything."""
        # QEMU lets those write a register who have asked for its description.
        assert self.ask("qXfer:features:read:target.xml:0,ffb")[:1] in ("l", "m")
        # By QEMU's numbers: EAX to EBP but not ESP, EFLAGS, CR2, EFER (with NXE).
        junk = dict.fromkeys((0, 1, 2, 3, 4, 5, 6), 0xDEADBEEF)
        junk |= {17: 0x8D7, 28: 0x12345678, 32: 0x800}
        for register, value in junk.items():
            assert self.ask(f"P{register:x}={value.to_bytes(8, 'little').hex()}") == "OK"

    def memory(self, address: int, size: int) -> bytes:
        pieces = []
        for at in range(address, address + size, 1024):
            pieces.append(bytes.fromhex(self.ask(f"m{at:x},{min(1024, address + size - at):x}")))
        return b"".join(pieces)


@contextmanager
def stopped(image: Image, folder: Path) -> Iterator[tuple[Monitor, Debugger]]:
    """The image in a QEMU that has not begun to run it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(BACKSTOP)
    with ours, theirs:
        process = subprocess.Popen(
            [
                *command(image, folder),
                *("-S", "-qmp", "stdio"),
                *("-chardev", f"socket,id=debugger,fd={theirs.fileno()}"),
                *("-gdb", "chardev:debugger"),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        with process:
            try:
                yield Monitor(process), Debugger(ours)
            finally:
                process.kill()
