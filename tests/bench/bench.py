# SPDX-License-Identifier: BSD-2-Clause
"""What things cost, as ratios of two ways measured in turns within one run.

    make bench

Each line compares one way (A) with another (B): the two alternate, so that
whatever else the machine does hits both; medians, and the ratio of each pair
as median and range.  Figures of different runs are not to be compared.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nvmmconf.abi import LibraryChoice, Prot, StateFlag, bundled_path, include_path, open_library
from nvmmconf.accel.registers import set_registers
from nvmmconf.guest import GuestLibrary, Image, Mode
from nvmmconf.nvmm import BareExit, HostMemory, IoExit, Machine, init
from nvmmconf.suite.entry import entry_registers
from nvmmconf.suite.prepared import RAM_SIZE
from nvmmconf.suite.target import Target, find_targets
from nvmmconf.suite.vm import VirtualMachine

ROOT = Path(__file__).parents[2]
OUTS = 2000

EXIT_STORM = f"""
    mov     cx, {OUTS}
again:
    out     0x80, al
    loop    again
    EXIT    0
"""


@dataclass(frozen=True)
class Pair:
    """Two ways to do one thing; a timing of either is divided by `count`."""

    what: str
    a: str
    b: str
    run_a: Callable[[], object]
    run_b: Callable[[], object]
    rounds: int
    count: int = 1


def seconds(act: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def bare_life(target: Target, image: Image) -> None:
    """A machine from creation to destruction with libnvmm's calls and nothing else."""
    with target.chosen(), HostMemory(RAM_SIZE) as memory, Machine(target.library) as machine:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, 0, RAM_SIZE, Prot.READ | Prot.WRITE | Prot.EXEC)
        for segment in image.segments:
            memory.data[segment.gpa : segment.gpa + len(segment.data)] = segment.data
        vcpu = machine.create_vcpu(0)
        set_registers(vcpu, entry_registers(image.entry_state), 0)
        vcpu.configure_callbacks(lambda access: None, lambda access: None)
        for _ in range(2 * OUTS):
            taken = vcpu.run()
            if not isinstance(taken, IoExit):
                assert isinstance(taken, BareExit)
                return
            vcpu.assist_io()
            vcpu.getstate(StateFlag.GPRS)


def whole_life(target: Target, guests: GuestLibrary, image: Image) -> None:
    """The same with the accelerator, the board and a trace."""
    with VirtualMachine(target, image.mode, guests) as vm:
        vm.boot_image(image)


def qemu(image: Image) -> None:
    """The same image under QEMU."""
    subprocess.run(
        [
            *("qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-no-reboot"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-kernel", str(image.elf)),
        ],
        check=False,
        capture_output=True,
    )


def pairs(target: Target, guests: GuestLibrary) -> list[Pair]:
    """Everything that is compared."""
    hello = guests.image("hello", Mode.LONG64)
    hlt = guests.image("hlt", Mode.LONG64)
    storm = guests.image_from_text("storm", Mode.LONG64, EXIT_STORM)
    found = [
        Pair(
            "one guest: create, load, HLT, destroy",
            "accelerator",
            "libnvmm alone",
            lambda: whole_life(target, guests, hlt),
            lambda: bare_life(target, hlt),
            rounds=100,
        ),
        Pair(
            "one port I/O exit",
            "accelerator",
            "libnvmm alone",
            lambda: whole_life(target, guests, storm),
            lambda: bare_life(target, storm),
            rounds=10,
            count=OUTS,
        ),
    ]
    if shutil.which("qemu-system-x86_64"):
        found.append(
            Pair(
                "guest hello, start to exit",
                "qemu-system-x86_64",
                "accelerator",
                lambda: qemu(hello),
                lambda: whole_life(target, guests, hello),
                rounds=10,
            )
        )
    return found


def c_exits() -> None:
    """exits.c: the C API beside a system call and KVM, without Python."""
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        print("no C compiler: exits through the C API are not measured")
        return
    library = bundled_path()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "exits"
        source = Path(__file__).with_name("exits.c")
        subprocess.run(
            [cc, "-std=gnu11", "-O2", f"-I{include_path()}", source, "-o", program, library,
             f"-Wl,-rpath,{library.parent}"],
            check=True,
        )  # fmt: skip
        printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found = dict(line.split(maxsplit=1) for line in printed.splitlines())
    pio, call = int(found["pio"]), int(found["getppid"])
    print(f"C API: one port I/O exit (run, assist, callback) {pio} ns;", end=" ")
    print(f"getppid {call} ns, {pio / call:.1f} of them;", end=" ")
    if "kvm" in found:
        kvm = int(found["kvm"])
        print(f"KVM's own exit {kvm} ns, {pio / kvm:.2f} of it")
    else:
        print(f"KVM: {found['no-kvm']}")
    print(f"C API: create, map 1 MiB, run to HLT, destroy: {int(found['life']) / 1000:.0f} µs")


def main() -> None:
    """Measure and print."""
    library = open_library(LibraryChoice(str(bundled_path()), "the bundled one"))
    init(library)
    target = find_targets(library)[-1]
    table = Table("what", "A", "B", "A, µs", "B, µs", "A / B", box=None, pad_edge=False)
    with tempfile.TemporaryDirectory() as cache:
        for pair in pairs(target, GuestLibrary(ROOT / "guests", Path(cache))):
            pair.run_a()
            pair.run_b()
            times = [(seconds(pair.run_a), seconds(pair.run_b)) for _ in range(pair.rounds)]
            ratios = sorted(a / b for a, b in times)
            table.add_row(
                pair.what,
                pair.a,
                pair.b,
                f"{statistics.median(a for a, _ in times) / pair.count * 1e6:.1f}",
                f"{statistics.median(b for _, b in times) / pair.count * 1e6:.1f}",
                f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})",
            )
    Console(highlight=False, width=110).print(table)
    print(f"target {target.name}; medians, and the range of the pairs' ratios")
    c_exits()


if __name__ == "__main__":
    main()
