# SPDX-License-Identifier: BSD-2-Clause
"""A profile has its vendor's processor, by name and by deed, unless the host is another."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Client = Callable[..., Path]
# nvmm-kernel.md 7: the vendor string is the host's; SVM clamps at D and 8000001F, VMX at 16 and
# 80000008.  SDM 2B and APM 3, SYSENTER: in long mode it is Intel's alone.
AMD = ["AuthenticAMD d", "80000008", "#UD"]
INTEL = ["GenuineIntel 16", "80000008", "sysenter"]
# Without a width of addresses VMX refuses every CR3.
WIDTH = "cpuid 80000000 0 80000008 0 0 0\ncpuid 80000008 0 3030 0 0 0\n"
# Vendor strings in the order EBX, ECX, EDX, as in the file.
NAMES = {
    "amd": "68747541 444d4163 69746e65",
    "intel": "756e6547 6c65746e 49656e69",
    "none": "0 0 0",
}


def shown(program: Path, profile: str, host: str = "") -> list[str]:
    env = {**os.environ, "NVMM_SOFT_PROFILE": profile, "NVMM_SOFT_HOST": host}
    for variable in ("QUIRK", "FAULT", "CHAOS"):
        env[f"NVMM_SOFT_{variable}"] = ""
    done = subprocess.run([program, "vendor"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("profile", ["ideal", "v1-svm", "v2-svm", "v3-svm"])
def test_amd(client: Client, profile: str) -> None:
    assert shown(client("vendor.c"), profile) == AMD


@pytest.mark.parametrize("profile", ["v1-vmx", "v2-vmx", "v3-vmx"])
def test_intel(client: Client, profile: str) -> None:
    assert shown(client("vendor.c"), profile) == INTEL


@pytest.mark.parametrize("profile", ["v2-svm", "v2-vmx"])
@pytest.mark.parametrize(("named", "can"), [("amd", "#UD"), ("intel", "sysenter")])
def test_the_host_decides(
    client: Client, tmp_path: Path, profile: str, named: str, can: str
) -> None:
    host = tmp_path / "host"
    host.write_text(f"cpuid 0 0 d {NAMES[named]}\n{WIDTH}")
    assert shown(client("vendor.c"), profile, str(host))[2] == can


@pytest.mark.parametrize(("profile", "can"), [("v2-svm", "#UD"), ("v2-vmx", "sysenter")])
@pytest.mark.parametrize("lines", ["mxcsr_mask ffff\n", f"cpuid 0 0 d {NAMES['none']}\n{WIDTH}"])
def test_a_host_that_names_no_vendor_is_the_backends(
    client: Client, tmp_path: Path, profile: str, can: str, lines: str
) -> None:
    host = tmp_path / "host"
    host.write_text(lines)
    assert shown(client("vendor.c"), profile, str(host))[2] == can
