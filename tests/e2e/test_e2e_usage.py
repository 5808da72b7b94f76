# SPDX-License-Identifier: BSD-2-Clause
"""What a user gets wrong: one line that says what, exit status 4, and nothing left behind."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import pytest

from nvmmconf.abi import bundled_path
from nvmmconf.results import Verdict

from .project import Finished, Project

CASE = """
@requirement("K-HLT-1")
def test_halts(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
"""


@pytest.fixture
def ready(project: Project) -> Project:
    """A project with a case that would pass, and some files that are no libnvmm."""
    project.cases(CASE)
    (project.root / "empty").touch()
    (project.root / "text").write_text("no library\n")
    return project


def refused(finished: Finished, *words: str) -> None:
    assert finished.status == 4
    finished.told_without_traceback()
    # The libnvmm in software says itself, to any client, what is wrong with its variables.
    lines = finished.err.strip().splitlines()
    (line,) = [line for line in lines if not line.startswith("softnvmm: NVMM_SOFT_")]
    assert line.startswith("ERROR: nvmmconf: ")
    for word in words:
        assert word in line
    assert finished.out == ""
    assert finished.runs == []


@pytest.mark.parametrize("joined", [False, True], ids=["two words", "one word"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nonexistent", "No such file"),
        ("no such/libnvmm.so", "No such file"),
        ("libm", "no libnvmm: it has no function nvmm_"),
        ("cases", ""),
        ("empty", ""),
        ("text", ""),
    ],
)
def test_library_that_cannot_be_used(ready: Project, path: str, why: str, joined: bool) -> None:
    if path == "libm":
        path = next((str(one) for one in Path("/lib").rglob("libm.so.*")), "")
        if not path:
            pytest.skip(f"no libm found below /lib ({ctypes.util.find_library('m')})")
    arguments = [f"--nvmm-lib={path}"] if joined else ["--nvmm-lib", path]
    refused(ready.pytest(*arguments), str(ready.root / path), "--nvmm-lib", why)


def test_library_that_cannot_be_used_with_workers(ready: Project) -> None:
    refused(ready.pytest("-n2", "--nvmm-lib", "/nonexistent"), "/nonexistent")


def test_library_of_the_environment(ready: Project) -> None:
    refused(ready.pytest(NVMMCONF_LIB="/nonexistent"), "/nonexistent", "NVMMCONF_LIB")


def test_empty_names_of_a_library(ready: Project) -> None:
    refused(ready.pytest("--nvmm-lib", ""), "--nvmm-lib is empty")
    refused(ready.pytest(NVMMCONF_LIB=""), "NVMMCONF_LIB is empty")


def test_profile_that_does_not_exist(ready: Project) -> None:
    line = "has no profile 'v9' (it has: ideal, v1-svm"
    refused(ready.pytest("--nvmm-profile", "v9"), line)
    refused(ready.pytest("--nvmm-profile=v1-svm", "--nvmm-profile=v9"), line)
    refused(ready.pytest(NVMM_SOFT_PROFILE="v9"), line)


def test_fault_that_does_not_exist(ready: Project) -> None:
    finished = ready.pytest(NVMM_SOFT_FAULT="hlt-rip-not-advanced,no-such")
    refused(finished, "NVMM_SOFT_FAULT: there is no 'no-such'")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_timeout_that_is_none(ready: Project, seconds: str) -> None:
    refused(ready.pytest(f"--nvmm-timeout={seconds}"), "--nvmm-timeout must be more than 0")


@pytest.mark.parametrize("option", ["-n0", "-n2"])
def test_reports_where_none_can_be(ready: Project, option: str) -> None:
    finished = ready.pytest(option, "--nvmm-reports", "empty/reports")
    assert finished.status == 4
    finished.told_without_traceback()
    assert finished.err.strip().splitlines()[-1].startswith("ERROR: nvmmconf: no run can be kept")


def test_library_by_name_and_path_runs(ready: Project) -> None:
    """The option goes before the environment, and an existing path is no folder of tests."""
    lib = str(bundled_path())
    finished = ready.pytest(
        "--nvmm-lib", lib, "--nvmm-profile", "v2-svm", NVMMCONF_LIB="/nonexistent"
    )
    assert finished.status == 0
    assert finished.run.header.library == lib
    assert finished.run.header.library_reason == "named by --nvmm-lib"
    assert set(finished.verdicts) == {
        "it/halts[real16]@v2-svm",
        "it/halts[long64]@v2-svm",
    }
    assert set(finished.verdicts.values()) == {Verdict.PASS}


def test_profile_of_the_environment(ready: Project) -> None:
    finished = ready.pytest("--nvmm-lib=bundled", NVMM_SOFT_PROFILE="v1-svm")
    assert finished.status == 0
    assert {target.name for target in finished.run.header.targets} == {"v1-svm"}
