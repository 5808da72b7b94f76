# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf boot`: a foreign image on the accelerator and the PC."""

from __future__ import annotations

import argparse
import contextlib
import enum
import math
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nvmmconf.abi import LibraryError, choose_library, open_library
from nvmmconf.accel import AcceleratorError, Outcome, Stop
from nvmmconf.boot import (
    BiosPlan,
    BootError,
    BootPlan,
    FlatMode,
    Module,
    find_header,
    is_linux,
    load_bios,
    load_flat,
    load_linux,
    load_multiboot,
)
from nvmmconf.boot.bios import LARGEST as LARGEST_BIOS
from nvmmconf.boot.console import Console
from nvmmconf.boot.machine import BootMachine, MachineSize
from nvmmconf.guest import GuestError, Mode, Toolchain
from nvmmconf.guest.assemble import Artifacts
from nvmmconf.suite.target import Target, TargetError, find_targets
from nvmmconf.trace import Trace

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_TRACED = 100_000
"""Exits that --trace keeps: the last."""

_LONGEST = 1e6
"""Seconds; what a thread can wait for is not much more on some systems."""

_PIECE = 1 << 20

_UNITS = {"K": 10, "M": 20, "G": 30}

_DESCRIPTION = """\
Boot an image on the NVMM accelerator, in a PC without PCI, disk and VGA. What IMAGE is
is seen from its bytes: a Multiboot 1 kernel (ELF or with address fields) or a kernel
with the Linux/x86 boot protocol. A flat binary needs --at and --mode, a BIOS --bios.

What the guest prints (ports 0xE9 and 0x402, COM1 at 0x3F8) goes to standard output.
It ends by writing v to port 0xF4: the exit status is then (v << 1) | 1, always odd.
Ctrl-C stops it and shows where it was."""

_EPILOG = """\
exit status:
  odd  the guest's own: (v << 1) | 1, of which the system keeps 8 bits
  0    the guest halted, and nothing will wake it
  2    no guest was run: bad usage, a bad image, no NVMM
  4    the guest asked for a reset, or triple-faulted (--reboot: it is started again)
  6    NVMM or a device failed, or standard output
  124  --timeout was up
  130  Ctrl-C

examples:
  nvmmconf boot build/guests/hello.long64-...    (the folder of a guest that a run has left)
  nvmmconf boot kernel.elf --append "-v" --module "disk.img root" --smp 4
  nvmmconf boot sector.bin --at 0x7c00 --mode real16
  nvmmconf boot --bios /usr/share/seabios/bios-256k.bin --timeout 20
  nvmmconf boot /boot/memtest86+x64.bin --append console=ttyS0 --timeout 60 --screen"""


class Status(enum.IntEnum):
    """Exit statuses that are not the guest's: all even."""

    HALTED = 0
    NOT_RUN = 2
    RESET = 4
    FAILED = 6
    TIMEOUT = 124
    INTERRUPTED = 130


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_parser(
        "boot",
        help="boot a Multiboot or Linux kernel, a flat binary or a BIOS",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("image", type=Path, metavar="IMAGE", help="what to boot")
    image = command.add_argument_group("the image")
    image.add_argument("--append", default="", metavar="TEXT", help="the kernel's command line")
    image.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="FILE",
        help='a Multiboot module; "FILE ARGS" is what the kernel is told of it; repeatable',
    )
    image.add_argument(
        "--initrd", type=Path, metavar="FILE", help="the initial RAM disk of a Linux kernel"
    )
    image.add_argument("--bios", action="store_true", help="IMAGE is a BIOS, started by RESET")
    image.add_argument(
        "--at", type=_address, metavar="ADDR", help="IMAGE is a flat binary, to be put at ADDR"
    )
    image.add_argument(
        "--mode",
        type=_mode,
        metavar="MODE",
        help="and started there in real16, prot32 or long64",
    )
    machine = command.add_argument_group("the machine")
    machine.add_argument(
        "--memory", type=_size, default=_size("128M"), metavar="SIZE", help="default: 128M"
    )
    machine.add_argument("--smp", type=_count, default=1, metavar="N", help="CPUs; default: 1")
    machine.add_argument(
        "--profile", metavar="P", help="which NVMM a libnvmm in software is; default: ideal"
    )
    machine.add_argument(
        "--nvmm-lib",
        metavar="PATH",
        help="the libnvmm: a path, 'system' or 'bundled'; default: the system's, else the bundled",
    )
    run = command.add_argument_group("the run")
    run.add_argument("--timeout", type=_seconds, metavar="S", help="stop the guest after S seconds")
    run.add_argument(
        "--reboot", action="store_true", help="start it again when it asks for a reset"
    )
    run.add_argument(
        "--trace", type=Path, metavar="FILE", help=f"write the last {_TRACED} exits to FILE"
    )
    run.add_argument(
        "--screen", action="store_true", help="show the text screen (0xB8000) at the end"
    )
    command.set_defaults(act=_boot, usage=command.error)


# ---- arguments ----


def _number(text: str, what: str) -> int:
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", text, re.ASCII) and len(text) < 30:
        return int(text, 16 if text[:2].lower() == "0x" else 10)
    raise argparse.ArgumentTypeError(f"{text!r} is no {what}")


def _address(text: str) -> int:
    return _number(text, "address: decimal, or hexadecimal as 0x7c00")


def _mode(text: str) -> FlatMode:
    try:
        return FlatMode(text)
    except ValueError:
        names = ", ".join(mode.value for mode in FlatMode)
        raise argparse.ArgumentTypeError(f"{text!r} is no mode: {names}") from None


def _count(text: str) -> int:
    return _number(text, "number of CPUs")


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].upper())
    if unit is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no unit: K, M or G, as in 128M")
    return _number(text[:-1], "size, as 128M") << unit


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


# ---- the image ----

_THE_MEMORY = "the machine's memory (--memory)"


def _read(path: Path, most: int, limit: str) -> bytes:
    """Return the file's bytes.  Raises BootError above `most`, which is `limit`; OSError."""
    data = bytearray()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            data += piece
            if len(data) > most:
                raise BootError(f"larger than {limit}: {most >> 20} MiB")
    return bytes(data)


def _plan(arguments: argparse.Namespace, size: MachineSize) -> BootPlan | BiosPlan:
    image = _file(arguments.image)
    flat = arguments.at is not None or arguments.mode is not None
    _refuse_what_does_not_go_together(arguments, flat)
    if arguments.bios:
        return load_bios(_read(image, LARGEST_BIOS, "any BIOS"))
    data = _read(image, size.memory, _THE_MEMORY)
    if flat:
        return load_flat(data, arguments.at, arguments.mode, size.ram)
    if find_header(data) is not None:
        if arguments.initrd is not None:
            raise BootError("--initrd is for Linux kernels, and this is a Multiboot one: --module")
        line = f"{arguments.image.name} {arguments.append}".rstrip()
        modules = [_module(text, size) for text in arguments.module]
        return load_multiboot(data, size.ram, size.memory_map, command_line=line, modules=modules)
    if is_linux(data):
        if arguments.module:
            raise BootError("--module is for Multiboot kernels, and this is a Linux one: --initrd")
        initrd = b""
        if arguments.initrd is not None:
            initrd = _read(arguments.initrd, size.memory, _THE_MEMORY)
        return load_linux(
            data, size.ram, size.memory_map, command_line=arguments.append, initrd=initrd
        )
    raise BootError(
        "neither a Multiboot nor a Linux kernel; a flat binary needs --at ADDR --mode MODE,"
        " a BIOS --bios"
    )


def _file(path: Path) -> Path:
    """Return `path`, or the ELF file of the guest whose folder in build/guests it is."""
    made = path / "image.elf"
    if made.is_file():
        return made
    name, _, rest = path.name.partition(".")
    mode = rest.partition("-")[0]
    if not (path / "image.o").is_file() or mode not in {one.value for one in Mode}:
        return path
    return Artifacts(path.absolute(), Mode(mode), name, Toolchain.find()).elf


def _refuse_what_does_not_go_together(arguments: argparse.Namespace, flat: bool) -> None:
    if (arguments.at is None) != (arguments.mode is None):
        arguments.usage("a flat binary needs both, --at ADDR and --mode MODE")
    for name, given in (("--append", arguments.append), ("--module", arguments.module)):
        if given and (flat or arguments.bios):
            arguments.usage(f"{name} is for kernels: not with --bios, --at and --mode")
    if arguments.initrd is not None and (flat or arguments.bios):
        arguments.usage("--initrd is for kernels: not with --bios, --at and --mode")
    if flat and arguments.bios:
        arguments.usage("--bios and --at: IMAGE is one or the other")


def _module(text: str, size: MachineSize) -> Module:
    name, _, _ = text.partition(" ")
    if not name:
        raise BootError(f"--module {text!r}: a file's name comes first")
    return Module(_read(Path(name), size.memory, _THE_MEMORY), text)


# ---- the run ----


def _boot(arguments: argparse.Namespace) -> int:
    """Run the command; the result is its exit status."""
    try:
        size = MachineSize(arguments.memory, arguments.smp)
        target = _target(arguments)
        size.check(target)
        try:
            plan = _plan(arguments, size)
        except (BootError, GuestError) as error:
            return _refused(f"{arguments.image}: {error}")
        return _run(arguments, size, target, plan)
    except (AcceleratorError, BootError, LibraryError, TargetError, MemoryError) as error:
        return _refused(str(error) or "not enough memory")
    except KeyboardInterrupt:  # before there was a guest
        return Status.INTERRUPTED
    except OSError as error:
        return _refused(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _refused(message: str) -> int:
    print(f"nvmmconf: {message}", file=sys.stderr)
    return Status.NOT_RUN


def _target(arguments: argparse.Namespace) -> Target:
    library = open_library(choose_library(arguments.nvmm_lib))
    return find_targets(library, [arguments.profile] if arguments.profile else [])[0]


def _run(
    arguments: argparse.Namespace, size: MachineSize, target: Target, plan: BootPlan | BiosPlan
) -> int:
    trace = None if arguments.trace is None else Trace(_TRACED)
    with contextlib.ExitStack() as resources:
        console = resources.enter_context(Console(sys.stdout.buffer))
        machine = BootMachine(target, size, plan, console, trace)
        resources.enter_context(_interruptible(machine))
        resources.enter_context(machine)
        console.gone = machine.stop
        if arguments.trace is not None:
            arguments.trace.write_text("")  # known now whether it can be
        _say(f"{plan.what}; {size.memory >> 20} MiB, {_cpus(size.cpus)}, {target.name}")
        outcome = _go(arguments, machine, console)
        console.end_line()
        status = _tell(outcome, machine, console)
        if arguments.screen:
            text = f"{machine.pc.screen()}\n"
            console.show(text.encode(sys.stdout.encoding, "replace"))
        if trace is not None:
            _write_trace(arguments.trace, trace)
        if console.failure is not None:
            _say(f"cannot write to standard output: {console.failure.strerror}")
            return Status.FAILED
        return status


@contextlib.contextmanager
def _interruptible(machine: BootMachine) -> Iterator[None]:
    """Have Ctrl-C, however often, ask the machine to stop: no exception that comes at any point."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as a shell's background jobs have it
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: machine.stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cpus(count: int) -> str:
    return f"{count} CPU{'s' if count > 1 else ''}"


def _go(arguments: argparse.Namespace, machine: BootMachine, console: Console) -> Outcome:
    end = math.inf if arguments.timeout is None else time.monotonic() + arguments.timeout
    while True:
        left = None if arguments.timeout is None else max(end - time.monotonic(), 0.001)
        outcome = machine.run(left)
        if outcome.reason is not Stop.RESET or not arguments.reboot:
            return outcome
        console.end_line()
        _say("the guest asked for a reset: starting again")
        machine.reboot()


def _tell(outcome: Outcome, machine: BootMachine, console: Console) -> int:
    """Say how it ended, and where the guest is if that is not its own doing; the exit status."""
    missing = machine.unimplemented()
    if missing:
        _say(missing)
    if outcome.reason is Stop.EXITED:
        assert outcome.status is not None
        return outcome.status & 0xFF
    if console.closed:
        return Status.INTERRUPTED
    if outcome.reason is Stop.STOPPED:
        _say("stopped by Ctrl-C\n" + machine.where())
        return Status.INTERRUPTED
    words, status = _ENDS.get(outcome.reason, (str(outcome), Status.FAILED))
    if outcome.message:
        words += f": {outcome.message}"
    _say(f"{words}\n{machine.where()}")
    return status


_ENDS = {
    Stop.HALTED: ("the guest halted for good", Status.HALTED),
    Stop.RESET: (
        "the guest asked for a reset, or triple-faulted (--reboot starts it again)",
        Status.RESET,
    ),
    Stop.PANIC: ("the guest cannot go on", Status.FAILED),
    Stop.HANG: ("stopped: --timeout was up", Status.TIMEOUT),
}


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"nvmmconf: {text}", file=sys.stderr, flush=True)


def _write_trace(path: Path, trace: Trace) -> None:
    """One line an exit: number, vCPU, RIP, reason, detail."""
    with path.open("w", encoding="utf-8") as file:
        if trace.dropped:
            print(f"# the first {trace.dropped} exits are left out", file=file)
        for one in trace.exits:
            rip = "-" if one.rip is None else f"{one.rip:#x}"
            event = f" after {one.event}" if one.event is not None else ""
            what = f"{one.exit.reason_name} {one.exit.detail()}".rstrip()
            line = f"{one.sequence} cpu{one.vcpu} {rip} {what}{event}"
            print(line, file=file)
