# SPDX-License-Identifier: BSD-2-Clause
"""A PC on the bundled libnvmm, and guests to boot on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nvmmconf.abi import LibraryChoice, bundled_path, open_library
from nvmmconf.accel import Outcome
from nvmmconf.board.pc import Source
from nvmmconf.boot import BiosPlan, BootPlan, load_multiboot
from nvmmconf.boot.machine import BootMachine, MachineSize
from nvmmconf.guest import GuestLibrary, Mode
from nvmmconf.suite.target import Target, find_targets

GUESTS = Path(__file__).resolve().parents[2] / "guests"

PATIENCE = 100.0
"""Seconds after which a guest is given up: only a fault comes to that."""


def targets() -> tuple[Target, ...]:
    """Every profile of the bundled libnvmm."""
    return find_targets(open_library(LibraryChoice(str(bundled_path()), "the tests'")))


class Booted:
    """A machine, what its guest has printed, and how it ended."""

    def __init__(
        self, target: Target, size: MachineSize, plan: BootPlan | BiosPlan, until: bytes | None
    ) -> None:
        self.printed: dict[Source, bytearray] = {source: bytearray() for source in Source}
        self._until = until
        self.machine = BootMachine(target, size, plan, self._output)
        self.outcome: Outcome | None = None

    @property
    def console(self) -> str:
        """What was printed on port 0xE9."""
        return self.printed[Source.DEBUGCON].decode("ascii")

    def run(self) -> Booted:
        """Run the guest until it ends or has printed what was waited for."""
        self.outcome = self.machine.run(PATIENCE)
        return self

    def _output(self, source: Source, byte: int) -> None:
        self.printed[source].append(byte)
        if self._until is not None and self.printed[source].endswith(self._until):
            self.machine.stop()


Boot = Callable[..., Booted]


@pytest.fixture(scope="session")
def target() -> Target:
    """The ideal NVMM."""
    return targets()[0]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> GuestLibrary:
    """The project's own guests, built into a cache of this session."""
    return GuestLibrary(GUESTS, tmp_path_factory.mktemp("guest cache"))


@pytest.fixture
def boot(target: Target) -> Iterator[Boot]:
    """Boots a plan, or the bytes of a Multiboot image; the machine lives until the test ends."""
    with ExitStack() as machines:

        def make(
            what: BootPlan | BiosPlan | bytes,
            *,
            cpus: int = 1,
            memory: int = 4 << 20,
            on: Target = target,
            until: bytes | None = None,
        ) -> Booted:
            size = MachineSize(memory, cpus)
            plan = (
                load_multiboot(what, size.ram, size.memory_map) if isinstance(what, bytes) else what
            )
            booted = Booted(on, size, plan, until)
            machines.callback(booted.machine.close)
            return booted.run()

        yield make


@pytest.fixture
def guest(library: GuestLibrary) -> Callable[..., bytes]:
    """Builds a few instructions of a mode into a Multiboot image."""

    def build(text: str, mode: Mode = Mode.REAL16, **parameters: int) -> bytes:
        return library.inline(text, mode, **parameters).elf.read_bytes()

    return build
