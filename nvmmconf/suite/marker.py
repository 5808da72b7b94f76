# SPDX-License-Identifier: BSD-2-Clause
"""What a case says of itself: what it proves, how strictly, what it needs, in which modes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest

from nvmmconf.abi import VcpuConfSupport
from nvmmconf.guest import Mode
from nvmmconf.requirements import Requirement, UnknownRequirementError, requirement_row
from nvmmconf.suite.target import Target

MARKER = "requirement"
NEEDS = "needs"
MODES = "modes"

MARKERS = (
    f"{MARKER}(id, ..., level=Level.MUST): the requirements that a case proves",
    f"{NEEDS}(bit, ..., version=1, stop=False): what a target must have for a case",
    f"{MODES}(mode, ...): the modes in which a case runs",
)
"""For pytest's `markers` setting."""


class Level(enum.Enum):
    """How strictly a promise binds (the words of RFC 2119)."""

    MUST = "must"
    SHOULD = "should"
    """To be kept unless there is a reason; a failure is red all the same."""
    INFO = "info"
    """The kernel is free; what it did is recorded, and never fails the run."""


def requirement(*identifiers: str, level: Level = Level.MUST) -> pytest.MarkDecorator:
    """Mark a case with the requirements that it proves, `"K-HLT-1", "A-EXIT-6"`.

    An id that the requirement table does not have is an error at collection.
    """
    if level is Level.MUST:
        return pytest.mark.requirement(*identifiers)
    return pytest.mark.requirement(*identifiers, level=level)


def needs(*bits: VcpuConfSupport, version: int = 1, stop: bool = False) -> pytest.MarkDecorator:
    """Mark a case with what it needs of a target; without it, it is unsupported there.

    `bits` of capability.arch.vcpu_conf_support, the least NVMM `version`, and
    whether nvmm_vcpu_stop() is called.
    """
    return pytest.mark.needs(*bits, version=version, stop=stop)


def modes(*names: Mode) -> pytest.MarkDecorator:
    """Mark a case with the modes in which it runs, where no guest's name says it."""
    return pytest.mark.modes(*names)


def cited(item: pytest.Item) -> tuple[Requirement, ...]:
    """Return the requirements that a case cites, in its order.

    Raises pytest.UsageError where there is none, or one that does not exist.
    """
    identifiers = [
        identifier for mark in reversed(list(item.iter_markers(MARKER))) for identifier in mark.args
    ]
    if not identifiers:
        raise pytest.UsageError(
            f"{item.nodeid}: a case names what it proves: add @requirement(...)"
        )
    strange = [one for one in identifiers if not isinstance(one, str)]
    if strange:
        raise pytest.UsageError(f"{item.nodeid}: {strange[0]!r} is no requirement's id")
    try:
        return tuple(requirement_row(identifier) for identifier in dict.fromkeys(identifiers))
    except UnknownRequirementError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def level_of(item: pytest.Item) -> Level:
    """Return the level of a case: the least of its marks'."""
    order = list(Level)
    found = [mark.kwargs.get("level", Level.MUST) for mark in item.iter_markers(MARKER)]
    for one in found:
        if not isinstance(one, Level):
            raise pytest.UsageError(f"{item.nodeid}: {one!r} is no Level")
    return max(found, key=order.index, default=Level.MUST)


def modes_of(item: pytest.Item) -> tuple[Mode, ...] | None:
    """Return the modes that a case names, in the order of `Mode`; None where it names none.

    Raises ValueError where they are none, or something else.
    """
    mark = item.get_closest_marker(MODES)
    if mark is None:
        return None
    strange = [one for one in mark.args if not isinstance(one, Mode)]
    if strange or not mark.args:
        raise ValueError(f"@modes takes modes, Mode.LONG64, not {strange or 'nothing'}")
    return tuple(mode for mode in Mode if mode in mark.args)


@dataclass(frozen=True)
class Needs:
    """What a case needs of a target."""

    bits: VcpuConfSupport
    version: int
    stop: bool

    def missing(self, target: Target) -> str:
        """What the target lacks, in words; empty where it has everything."""
        capability = target.capability
        lacking = self.bits & ~capability.vcpu_conf_support
        words = [f"capability {bit.name}" for bit in VcpuConfSupport if bit in lacking]
        if capability.version < self.version:
            words.append(f"NVMM version {self.version} (it is {capability.version})")
        if self.stop and not target.has_stop:
            words.append("nvmm_vcpu_stop()")
        return ", ".join(words)


def needs_of(item: pytest.Item) -> Needs:
    """Return everything that the marks of a case ask for; ValueError for what is no capability."""
    bits, version, stop = VcpuConfSupport(0), 1, False
    for mark in item.iter_markers(NEEDS):
        for bit in mark.args:
            if not isinstance(bit, VcpuConfSupport):
                raise ValueError(f"@needs takes bits of VcpuConfSupport, not {bit!r}")
            bits |= bit
        version = max(version, mark.kwargs.get("version", 1))
        stop = stop or mark.kwargs.get("stop", False)
    return Needs(bits, version, stop)
