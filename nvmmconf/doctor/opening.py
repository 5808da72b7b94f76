# SPDX-License-Identifier: BSD-2-Clause
"""Opening the libnvmm that a run would use, as a run does it: how far one gets."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nvmmconf.abi import Libnvmm, LibraryChoice, LibraryError, choose_library, open_library
from nvmmconf.abi import library as abi_library
from nvmmconf.accel.accelerator import AcceleratorError, check_capability
from nvmmconf.doctor.findings import Finding, note, ok, problem
from nvmmconf.doctor.surroundings import Surroundings
from nvmmconf.nvmm import Capability, Machine, NvmmError, init
from nvmmconf.nvmm.errors import EPROGMISMATCH
from nvmmconf.suite.target import Target, TargetError, find_targets

_MIXED = (
    "kernel and userland are of different releases: upgrade both to the same one, and reboot",
)
_ADVICE: dict[int, tuple[str, ...]] = {
    errno.ENOENT: ("as root: cd /dev && sh MAKEDEV nvmm",),
    errno.ENXIO: ("as root: modload nvmm",),
    errno.EACCES: ("join the group nvmm; see 'device'",),
    EPROGMISMATCH: _MIXED,
    errno.ENOSYS: _MIXED,
}
"""What to do where nvmm_init() fails so (L-INIT-4, L-INIT-5)."""

_BUNDLED = "to run on softnvmm meanwhile: --nvmm-lib bundled"


@dataclass(frozen=True)
class Opening:
    """How far it came: a library, what it offers, and the findings on the way."""

    library: Libnvmm | None = None
    targets: tuple[Target, ...] = ()
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def opened(self) -> bool:
        """True where NVMM answered."""
        return bool(self.targets)


def open_libnvmm(around: Surroundings, option: str | None) -> Opening:
    """Choose, open, initialise, ask, and make a machine with one vCPU, which is destroyed again."""
    passed_over = tuple(_passed_over(around, option))
    try:
        choice = choose_library(option, around.environment)
        library = open_library(choice)
    except LibraryError as error:
        files = ", ".join(around.libraries) or "none"
        advice = [f"files named libnvmm in the system's folders: {files}"]
        if around.is_netbsd:
            advice.append("libnvmm is in the set base of NetBSD/amd64 9 and newer")
        return Opening(None, (), (*passed_over, problem("library", str(error), *advice, _BUNDLED)))
    findings = [*passed_over, _found(library, around)]
    try:
        init(library)
        targets = find_targets(library)
        for target in targets:
            check_capability(library, target.capability)
    except NvmmError as error:
        return Opening(library, (), (*findings, _refused(library, error)))
    except AcceleratorError as error:
        return Opening(library, (), (*findings, problem("capability", str(error), *_MIXED)))
    except TargetError as error:
        return Opening(library, (), (*findings, problem("capability", str(error))))
    findings += _capabilities(targets)
    findings.append(_machine(targets[0]))
    return Opening(library, targets, tuple(findings))


def _passed_over(around: Surroundings, option: str | None) -> Iterator[Finding]:
    """On NetBSD: why the system's libnvmm is not used where nothing else was asked for."""
    asked = option is not None or abi_library.ENVIRONMENT_VARIABLE in around.environment
    if asked or not around.is_netbsd:
        return
    reasons = []
    for name in abi_library.SYSTEM_NAMES:
        try:
            open_library(LibraryChoice(name, "the system's"))
        except LibraryError as error:
            reasons.append(str(error))
        else:
            return
    yield note(
        "library",
        "the system's libnvmm is not used",
        *reasons,
        "libnvmm is in the set base of NetBSD/amd64 9 and newer",
    )


def _found(library: Libnvmm, around: Surroundings) -> Finding:
    """Which one, and its version as far as it tells."""
    api = "2 or newer" if library.has_stop else "1"
    version = f"API version {api} ({'has' if library.has_stop else 'has no'} nvmm_vcpu_stop)"
    # dlopen(3) tells no path; the file that the name leads to says major and minor.
    files = [one for one in around.libraries if Path(one).name.startswith(Path(library.path).name)]
    where = f" = {', '.join(files)}" if files and "/" not in library.path else ""
    return ok("library", f"{library.path}{where} ({library.reason}), {version}")


def _refused(library: Libnvmm, error: NvmmError) -> Finding:
    advice = _ADVICE.get(error.errno or 0, ())
    return problem("open", f"{library.path}: {error}", *advice, _BUNDLED)


def _capabilities(targets: Sequence[Target]) -> Iterator[Finding]:
    """A line for all targets that say the same."""
    groups: dict[str, list[str]] = {}
    for target in targets:
        groups.setdefault(_limits(target.capability), []).append(target.name)
    for words, names in groups.items():
        yield ok("capability", f"{', '.join(names)}: {words}")


def _limits(capability: Capability) -> str:
    words = capability.in_words()
    return (
        f"NVMM version {words['version']}; {words['max_machines']} machines on the whole host,"
        f" {words['max_vcpus']} vCPUs and {capability.max_ram >> 30:,} GiB each;"
        f" vcpu_conf {words['vcpu_conf_support']}, xcr0 {words['xcr0_mask']}"
    )


def _machine(target: Target) -> Finding:
    """The proof: a machine and a vCPU."""
    try:
        with target.chosen(), Machine(target.library) as machine:
            machine.create_vcpu(0)
    except NvmmError as error:
        taken = ["every machine is taken: nvmmctl list tells by whom"]
        return problem("machine", str(error), *(taken if error.errno == errno.ENOBUFS else ()))
    return ok("machine", "one with a vCPU can be made")
