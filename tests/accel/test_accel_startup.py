# SPDX-License-Identifier: BSD-2-Clause
"""Section 1: start-up (A-INIT)."""

from __future__ import annotations

import errno
import logging
import signal
import threading
from collections.abc import Iterator

import pytest
from lookalike import LookAlike

from nvmmconf.abi import Libnvmm
from nvmmconf.accel import Accelerator, AcceleratorError, Control
from nvmmconf.accel.kick import KICK_SIGNAL
from nvmmconf.board import AddressSpace, PortSpace
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind
from nvmmconf.nvmm import PAGE_SIZE, HostMemory
from nvmmconf.nvmm.errors import EPROGMISMATCH


class Board:
    """Buses and two pages of RAM that are not mapped yet."""

    def __init__(self) -> None:
        self.ports = PortSpace()
        self.memory = AddressSpace()
        self.control = Control()
        self.ram = HostMemory(2 * PAGE_SIZE)
        self.block = RamBlock(self.ram, self.ram.size)

    def add_ram(self) -> None:
        self.memory.add_block(self.block)
        self.memory.map(Region("ram", RegionKind.RAM, 0, self.ram.size, self.block))

    def start(self, library: Libnvmm) -> Accelerator:
        return Accelerator(library, self.ports, self.memory, self.control)


@pytest.fixture
def board(profile: str) -> Iterator[Board]:
    board = Board()
    yield board
    board.ram.close()


def words(looks: LookAlike) -> list[str]:
    return [line.split()[0] for line in looks.calls]


def nothing_is_left(board: Board, looks: LookAlike, before: object) -> None:
    """No machine, no listener, no signal handler, nobody to kick."""
    calls = words(looks)
    failed = looks.failing == "machine_create"
    assert calls.count("machine_create") - failed == calls.count("machine_destroy")
    looks.forget()
    board.add_ram()
    assert looks.calls == []
    assert signal.getsignal(KICK_SIGNAL) is before
    assert board.control._subscribers == []


def test_a_init_1_the_order_of_calls(board: Board, looks: LookAlike) -> None:
    board.add_ram()
    with board.start(looks.library):
        assert words(looks) == ["init", "capability", "machine_create", "hva_map", "gpa_map"]


def test_a_init_1_listens_to_what_comes_later(board: Board, looks: LookAlike) -> None:
    with board.start(looks.library):
        assert words(looks) == ["init", "capability", "machine_create"]
        board.add_ram()
        assert words(looks)[3:] == ["hva_map", "gpa_map"]


@pytest.mark.parametrize("call", ["init", "capability", "machine_create"])
@pytest.mark.parametrize("number", [errno.ENXIO, errno.EACCES])
def test_a_init_2_a_failing_call(board: Board, looks: LookAlike, call: str, number: int) -> None:
    before = signal.getsignal(KICK_SIGNAL)
    looks.fail(call, number)
    with pytest.raises(AcceleratorError) as raised:
        board.start(looks.library)
    assert raised.value.number == number
    assert f"nvmm_{call}(): {errno.errorcode[number]} (" in str(raised.value)
    assert words(looks)[-1] == call  # nothing after it
    nothing_is_left(board, looks, before)


def test_a_init_2_no_kick_handler(board: Board, looks: LookAlike) -> None:
    """Python installs handlers on the main thread only; the machine must not stay."""
    before = signal.getsignal(KICK_SIGNAL)
    errors: list[AcceleratorError] = []

    def start() -> None:
        try:
            board.start(looks.library).close()
        except AcceleratorError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [error.number for error in errors] == [errno.EPERM]
    assert "main thread" in str(errors[0])
    nothing_is_left(board, looks, before)


def test_a_init_3_an_older_version(board: Board, looks: LookAlike) -> None:
    before = signal.getsignal(KICK_SIGNAL)
    looks.set_int("version", 0)
    with pytest.raises(AcceleratorError, match=r"NVMM version 0 is older than 1$") as raised:
        board.start(looks.library)
    assert raised.value.number == EPROGMISMATCH
    assert words(looks) == ["init", "capability"]
    nothing_is_left(board, looks, before)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_init_3_a_newer_version_is_taken(
    board: Board, looks: LookAlike, version: int, profile: str
) -> None:
    """Whether there is a stop word is the vCPU's to tell, whatever number is claimed."""
    looks.set_int("version", version)
    with board.start(looks.library) as accelerator:
        assert accelerator.capability.version == version
        assert accelerator.create_vcpu(0).vcpu.has_stop is (profile == "v2-svm")


@pytest.mark.parametrize("size", [0, 992, 1007, 1009, 2048])
def test_a_init_4_another_state_size(board: Board, looks: LookAlike, size: int) -> None:
    before = signal.getsignal(KICK_SIGNAL)
    looks.set_int("state_size", size)
    with pytest.raises(AcceleratorError, match=rf"state has {size} bytes, not 1008$") as raised:
        board.start(looks.library)
    assert raised.value.number == EPROGMISMATCH
    assert words(looks) == ["init", "capability"]
    nothing_is_left(board, looks, before)


def test_a_init_5_says_once_that_it_is_operational(
    board: Board, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with board.start(looks.library) as accelerator:
        accelerator.create_vcpu(0)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["NetBSD Virtual Machine Monitor accelerator is operational"]


def test_a_init_5_says_nothing_of_the_kind_on_failure(
    board: Board, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    looks.fail("machine_create", errno.ENOBUFS)
    with pytest.raises(AcceleratorError):
        board.start(looks.library)
    assert "operational" not in caplog.text


def test_a_init_6_name() -> None:
    """Being off until chosen is its being an object that somebody makes."""
    assert Accelerator.name == "NVMM"


def test_closing_destroys_everything_once(board: Board, looks: LookAlike) -> None:
    before = signal.getsignal(KICK_SIGNAL)
    accelerator = board.start(looks.library)
    accelerator.create_vcpu(0)
    accelerator.create_vcpu(1)
    assert signal.getsignal(KICK_SIGNAL) is not before
    looks.forget()
    accelerator.close()
    accelerator.close()
    *vcpus, machine = looks.calls  # the machine last (L-MACH-2)
    assert (sorted(vcpus), machine) == (["vcpu_destroy 0", "vcpu_destroy 1"], "machine_destroy")
    assert signal.getsignal(KICK_SIGNAL) is before


def test_a_library_without_stop_is_used_as_version_1(
    board: Board, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = LookAlike(tmp_path, "-DWITHOUT_STOP")  # type: ignore[arg-type]
    with board.start(look.library) as accelerator:
        assert not accelerator.create_vcpu(0).vcpu.has_stop


@pytest.mark.parametrize("outer_first", [True, False])
def test_two_accelerators_share_the_kick_handler(
    board: Board, looks: LookAlike, outer_first: bool
) -> None:
    before = signal.getsignal(KICK_SIGNAL)
    other = Board()
    pair = [board.start(looks.library), other.start(looks.library)]
    handler = signal.getsignal(KICK_SIGNAL)
    pair.pop(0 if outer_first else 1).close()
    assert signal.getsignal(KICK_SIGNAL) is handler
    pair.pop().close()
    other.ram.close()
    assert signal.getsignal(KICK_SIGNAL) is before
