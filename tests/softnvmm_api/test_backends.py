# SPDX-License-Identifier: BSD-2-Clause
"""A quirk works on a backend or cannot be chosen there, and the list says which."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.abi import LibraryChoice, SoftKind, bundled_path, list_soft, open_library

from .test_quirks import HOST, play, quirks, scenarios

Client = Callable[..., Path]
# nvmm-kernel.md 14.1 (12, 13, 15, 18), 14.2 and 5: what the VMX driver and VMX do in their own way.
ONLY_ON_VMX = {
    "nmi-page-in-kills",
    "cr8-64-bits",
    "cr0-nw-without-cd",
    "cr0-pg-off-keeps-long-entry",
    "first-entry-failed-for-good",
    "pae-pdptes-not-loaded",
    "task-switch-invalid",
}
# 14.1 (8, 19), 10.1, 12: what SVM and its driver do, and "ideal", which is built like it.
NOT_ON_VMX = {
    "nmi-ready-before-iret",
    "efer-mask-only",
    "int-n-runs-twice",
    "cr8-above-15-spills",
}
# The exit for the guest's first page refreshes the counter that the scenario looks at.
HIDES = {"provided-tsc-stale": ",-page-filled-in-by-exit"}


def allowed(quirk: str, profile: str) -> bool:
    return quirk not in (NOT_ON_VMX if profile.endswith("vmx") else ONLY_ON_VMX)


def test_the_list_says_which() -> None:
    library = open_library(LibraryChoice(str(bundled_path()), "the bundled one"))
    for entry in list_soft(library, SoftKind.QUIRK):
        assert entry.summary.startswith("VMX only: ") == (entry.name in ONLY_ON_VMX)
        assert entry.summary.startswith("not VMX: ") == (entry.name in NOT_ON_VMX)


@pytest.mark.parametrize("profile", ["ideal", "v2-svm", "v2-vmx"])
@pytest.mark.parametrize("quirk", sorted(ONLY_ON_VMX | NOT_ON_VMX))
def test_what_would_change_nothing_is_refused(client: Client, quirk: str, profile: str) -> None:
    env = {**os.environ, "NVMM_SOFT_PROFILE": profile, "NVMM_SOFT_QUIRK": quirk}
    program = client("backend.c")
    done = subprocess.run([program, "init"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if allowed(quirk, profile):
        assert (done.stdout, done.stderr) == ("0 \n", "")
        return
    line = f"NVMM_SOFT_QUIRK: '{quirk}' changes nothing on {profile}"
    assert done.stdout == f"EINVAL {line}\n"
    assert done.stderr == f"softnvmm: {line}\n"
    env["NVMM_SOFT_QUIRK"] = f"-{quirk}"  # to be without it is no mistake
    done = subprocess.run([program, "init"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "0 \n"


@pytest.mark.parametrize("client", ["plain"], indirect=True)
@pytest.mark.parametrize("profile", ["ideal", "v2-svm", "v2-vmx"])
@pytest.mark.parametrize("quirk", sorted(quirks()))
def test_what_can_be_chosen_shows(client: Client, quirk: str, profile: str, tmp_path: Path) -> None:
    if not allowed(quirk, profile):
        return
    source, _ = scenarios()[quirk]
    program, host = client(source), tmp_path / "host"
    host.write_text(HOST)
    rest = HIDES.get(quirk, "")
    with_it = play(program, quirk, profile, quirk + rest, host)
    assert with_it != play(program, quirk, profile, f"-{quirk}{rest}", host)
