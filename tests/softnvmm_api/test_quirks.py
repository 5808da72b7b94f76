# SPDX-License-Identifier: BSD-2-Clause
"""Profiles differ from "ideal" by their quirks, and each quirk changes what its scenario shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent.parent / "nvmmconf" / "softnvmm" / "quirk.c"
PROGRAMS = sorted(path.name for path in HERE.glob("quirks_*.c"))
Client = Callable[..., Path]
# What CPUID's raw leaves show must be something.
HOST = """cpuid 0 0 d 68747541 444d4163 69746e65
cpuid d 0 7 240 340 0
cpuid 40000001 0 11 22 33 44
cpuid 40000010 0 55 0 0 0
cpuid 80000000 0 80000008 0 0 0
cpuid 80000008 0 3030 0 0 0
"""


def quirks() -> list[str]:
    return re.findall(r'\[SOFT_Q_\w+\] = \{ "([\w-]+)"', TABLE.read_text())


def scenarios() -> dict[str, tuple[str, str]]:
    """Program and profile by scenario; a scenario has its quirk's name."""
    return {
        name.replace("_", "-"): (program, "v2-vmx" if macro == "ON_VMX" else "ideal")
        for program in PROGRAMS
        for macro, name in re.findall(
            r"^(TEST|ON_VMX)\((\w+)\)", (HERE / program).read_text(), re.MULTILINE
        )
        if name != "profiles"
    }


def play(program: Path, name: str, profile: str, quirk: str, host: Path) -> tuple[int, str]:
    """How a scenario ends and what it shows."""
    env = {
        **os.environ,
        "NVMM_SOFT_PROFILE": profile,
        "NVMM_SOFT_QUIRK": quirk,
        "NVMM_SOFT_FAULT": "",
        "NVMM_SOFT_CHAOS": "",
        "NVMM_SOFT_HOST": str(host) if name.startswith("cpuid") else "",
        "ASAN_OPTIONS": "handle_abort=0",
    }
    done = subprocess.run(
        [program, name.replace("-", "_")], env=env, capture_output=True, text=True, check=False
    )
    aborts = name in ("gpa-refusal-aborts", "gpa-unmap-not-at-top")
    assert done.returncode == 0 or (aborts and done.returncode == -signal.SIGABRT), done.stderr
    return done.returncode, done.stdout


def test_every_quirk_has_a_scenario() -> None:
    assert set(scenarios()) == set(quirks())


@pytest.mark.parametrize("quirk", sorted(quirks()))
def test_quirk_shows(client: Client, quirk: str, tmp_path: Path) -> None:
    source, profile = scenarios()[quirk]
    program, host = client(source), tmp_path / "host"
    host.write_text(HOST)
    with_it = play(program, quirk, profile, quirk, host)
    without = play(program, quirk, profile, f"-{quirk}", host)
    assert play(program, quirk, profile, f"-{quirk}", host) == without, "the scenario itself varies"
    assert with_it != without


# Where the profiles stand, beside what all real ones have.
CAPABILITY = {
    "ideal": "version 2 vcpus 256 ram 2000000000 conf 3",
    "v1-svm": "version 1 vcpus 256 ram 2000000000 conf 1",
    "v1-vmx": "version 1 vcpus 256 ram 2000000000 conf 3",
    "v2-svm": "version 2 vcpus 256 ram 2000000000 conf 1",
    "v2-vmx": "version 2 vcpus 256 ram 2000000000 conf 3",
    "v3-svm": "version 3 vcpus 128 ram 2000000000 conf 1",
    "v3-vmx": "version 3 vcpus 128 ram 2000000000 conf 3",
}
REAL = set(CAPABILITY) - {"ideal"}
SVM = {name for name in REAL if name.endswith("svm")}
VMX = REAL - SVM
V2 = {"v2-svm", "v2-vmx"}
V3 = {"v3-svm", "v3-vmx"}
NOT_ALL_REAL = {
    # kernel specification 14.3 and 9, libnvmm 11
    "return-check-overwrites-reason": V2,
    "stop-lost-at-return": V2,
    "hva-map-range-unchecked": REAL - V3,
    "provided-tsc-stale": REAL - V3,
    "tsc-by-offset": V3,
    "cpuid-64bit-input": REAL - V3,
    "excp-21-no-error-code": REAL - V3,
    # reachable only where there are hypervisor leaves above 0x40000000
    "cpuid-hypervisor-leaves-raw": V2,
    "cpuid-tsc-khz-raw": {"v2-svm"},
    "mem-cmps-swapped": V2,
    # kernel specification 14.1 and 14.2
    "nmi-ready-before-iret": SVM,
    "efer-mask-only": SVM,
    "nmi-page-in-kills": VMX,
    "cr8-64-bits": VMX,
    "cr0-nw-without-cd": VMX,
    "cr0-pg-off-keeps-long-entry": VMX,
    "first-entry-failed-for-good": VMX,
    "pae-pdptes-not-loaded": VMX,
    "task-switch-invalid": VMX,
    # of an emulated or an old processor
    "int-n-runs-twice": set(),
    "cr8-above-15-spills": set(),
    "no-decode-assists": set(),
}


def test_each_profile_has_its_quirks(client: Client, tmp_path: Path) -> None:
    _, shown = play(client("quirks_kernel.c"), "profiles", "", "", tmp_path)
    lines = set(shown.splitlines())
    want = {f"{name} {text}" for name, text in CAPABILITY.items()}
    for quirk in quirks():
        want |= {f"{name} {quirk}" for name in NOT_ALL_REAL.get(quirk, REAL)}
    assert lines == want


# Four plays each; under the sanitizers the quirks and scenarios have been played above.
@pytest.mark.parametrize("client", ["plain"], indirect=True)
@pytest.mark.parametrize("scenario", sorted(set(quirks())))
def test_v2_svm_is_ideal_but_for_its_quirks(client: Client, scenario: str, tmp_path: Path) -> None:
    source, _ = scenarios()[scenario]
    program, host = client(source), tmp_path / "host"
    host.write_text(HOST)
    none = ",".join(f"-{quirk}" for quirk in quirks())
    every = ",".join(q for q in quirks() if "v2-svm" in NOT_ALL_REAL.get(q, REAL))
    assert play(program, scenario, "v2-svm", none, host) == play(
        program, scenario, "ideal", "", host
    )
    assert play(program, scenario, "ideal", every, host) == play(
        program, scenario, "v2-svm", "", host
    )
