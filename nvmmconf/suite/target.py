# SPDX-License-Identifier: BSD-2-Clause
"""Targets: the NVMMs that one opened libnvmm lets cases run against.

A kernel's NVMM is one target.  A libnvmm in software may offer several
profiles; each is a target then, chosen by an environment variable that the
library reads when a machine is made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from nvmmconf.abi import Libnvmm, SoftKind, list_soft
from nvmmconf.abi.soft import FAULT_VARIABLE, PROFILE_VARIABLE
from nvmmconf.nvmm import Capability, Machine, NvmmError, init, query_capability
from nvmmconf.results import TargetInfo


class TargetError(Exception):
    """The library cannot be used, or has no such target; one line."""


@dataclass(frozen=True)
class Target:
    """One NVMM to run cases against: its name after the `@`, and how to reach it."""

    name: str
    library: Libnvmm
    capability: Capability
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Within this context, machines that are made are this target's."""
        with _environment(self.environment):
            yield

    @cached_property
    def has_stop(self) -> bool:
        """True where nvmm_vcpu_stop() works.  A vCPU tells: not every version has it (L-VER-4)."""
        if not self.library.has_stop:
            return False
        with self.chosen(), Machine(self.library) as machine:
            return machine.create_vcpu(0).has_stop

    def info(self) -> TargetInfo:
        """The target as a run's header has it."""
        return TargetInfo(self.name, self.capability.version, self.capability.in_words())


def find_targets(library: Libnvmm, wanted: Sequence[str] = ()) -> tuple[Target, ...]:
    """Return the targets of `library`: those `wanted`, else every profile it offers.

    A library without profiles has one target, named after its NVMM version.
    The profile that NVMM_SOFT_PROFILE names counts as wanted.  Raises TargetError
    where the library cannot be initialised or a wanted target does not exist.
    """
    offered = [entry.name for entry in list_soft(library, SoftKind.PROFILE)]
    if not wanted and os.environ.get(PROFILE_VARIABLE):
        wanted = [os.environ[PROFILE_VARIABLE]]
    names = [name for name in offered if name in wanted] if wanted else offered
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        known = ", ".join(offered) or "none: it is no libnvmm in software"
        raise TargetError(f"{library.path} has no profile {unknown[0]!r} (it has: {known})")
    if not offered:
        capability = _capability(library)
        return (Target(f"nvmm-v{capability.version}", library, capability),)
    return tuple(_profile(library, name) for name in names)


def _profile(library: Libnvmm, name: str) -> Target:
    environment = {PROFILE_VARIABLE: name}
    with _environment(environment):
        return Target(name, library, _capability(library), environment)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _capability(library: Libnvmm) -> Capability:
    try:
        init(library)
        return query_capability(library)
    except NvmmError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise TargetError(f"{library.path}: {error}{advice}") from None


_OR_BUNDLED = "or use softnvmm: --nvmm-lib=bundled"
_ADVICE = {
    errno.ENOENT: f"; make the device node /dev/nvmm, {_OR_BUNDLED}",
    errno.ENXIO: f"; load the driver (modload nvmm), {_OR_BUNDLED}",
    errno.EACCES: f"; you need to be in the group nvmm, {_OR_BUNDLED}",
}
"""What to do where /dev/nvmm cannot be opened (L-INIT-5)."""


def seeded_faults() -> tuple[str, ...]:
    """Return the names of the seeded faults that the environment switches on."""
    return tuple(name for name in os.environ.get(FAULT_VARIABLE, "").split(",") if name)
