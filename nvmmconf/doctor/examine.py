# SPDX-License-Identifier: BSD-2-Clause
"""From surroundings to a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvmmconf.doctor import host, kernel
from nvmmconf.doctor.findings import Diagnosis, Finding, Level, problem
from nvmmconf.doctor.surroundings import Surroundings

if TYPE_CHECKING:
    from nvmmconf.doctor.opening import Opening


def examine(around: Surroundings, option: str | None = None) -> Diagnosis:
    """Say whether the suite can run in `around`, on what, and what is to be done.

    `option` is what would be given as `--nvmm-lib`. The libnvmm is opened, and a
    machine made and destroyed; nothing else is touched.
    """
    early = [*host.python(around)]
    try:
        # Not before the packages were looked for: it needs them.
        from nvmmconf.doctor.opening import open_libnvmm
    except ImportError as error:
        findings = [host.system(around), *early, problem("library", f"not looked for: {error}")]
        return Diagnosis(tuple(findings), "The suite cannot run here yet.")
    opening = open_libnvmm(around, option)
    library = opening.library
    soft = library is not None and library.has_soft
    answers = opening.opened and not soft
    findings = [host.system(around), host.processor(around, opened=answers or soft)]
    if around.is_netbsd and not soft:
        findings += _kernel(around, answers)
    findings += [*opening.findings, *early, host.assembler(around)]
    can_run = all(one.level is not Level.PROBLEM for one in findings)
    return Diagnosis(tuple(findings), _conclusion(around, opening, can_run))


def _kernel(around: Surroundings, opened: bool) -> list[Finding]:
    return [kernel.module(around, opened=opened), kernel.device(around, opened=opened)]


def _conclusion(around: Surroundings, opening: Opening, can_run: bool) -> str:
    if not can_run or opening.library is None:
        return "The suite cannot run here yet: see each PROBLEM."
    names = ", ".join(target.name for target in opening.targets)
    if opening.library.has_soft:
        here = " It says nothing of this kernel's NVMM." if around.is_netbsd else ""
        return f"The suite can run here, on softnvmm, the libnvmm in software: {names}.{here}"
    whose = "this kernel's NVMM" if around.is_netbsd else f"the NVMM behind {opening.library.path}"
    return f"The suite can run here, on {whose}: {names}."
