# SPDX-License-Identifier: BSD-2-Clause
"""The fixtures of a case; the plugin takes them over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import pytest

from nvmmconf.abi import Libnvmm
from nvmmconf.guest import Mode
from nvmmconf.nvmm import Capability, Machine, Vcpu
from nvmmconf.suite.errors import GuestHangError
from nvmmconf.suite.target import Target

PLACE = "nvmm_place"
"""The fixture that is parametrised: where a case runs."""


@dataclass(frozen=True)
class Place:
    """Where a case runs: the target, and the mode where it has one."""

    target: Target
    mode: Mode | None = None

    @property
    def id(self) -> str:
        """Its part of a parameter's id: `real16@v2-svm`, `@v2-svm`."""
        return f"{self.mode.value if self.mode else ''}@{self.target.name}"


@pytest.fixture
def nvmm_place(request: pytest.FixtureRequest) -> Place:
    """Where the case runs; the plugin's parameter."""
    place = request.param
    assert isinstance(place, Place)
    return place


@pytest.fixture
def target(nvmm_place: Place) -> Iterator[Target]:
    """The target that the case runs on; machines made in the case are its."""
    with nvmm_place.target.chosen():
        yield nvmm_place.target


@pytest.fixture
def library(target: Target) -> Libnvmm:
    """The libnvmm, for `Machine(library)`; what is made is the target's."""
    return target.library


@pytest.fixture
def capability(target: Target) -> Capability:
    """What the target says of itself."""
    return target.capability


@pytest.fixture
def machine(library: Libnvmm) -> Iterator[Machine]:
    """A new machine without memory."""
    with Machine(library) as one:
        yield one


@pytest.fixture
def vcpu(machine: Machine) -> Vcpu:
    """vCPU 0 of `machine`, as nvmm_vcpu_create() leaves it."""
    return machine.create_vcpu(0)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Within this context GuestHangError is raised on the main thread after `seconds`.

    For calls of libnvmm that a case makes itself: the signal makes
    nvmm_vcpu_run() return.
    """

    def ring(number: int, frame: FrameType | None) -> None:
        raise GuestHangError(f"the case's own calls did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
