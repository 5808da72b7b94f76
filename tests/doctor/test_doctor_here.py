# SPDX-License-Identifier: BSD-2-Clause
"""The doctor on the machine that the tests run on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nvmmconf.abi import SoftKind, list_soft, open_library
from nvmmconf.abi.library import LibraryChoice, bundled_path
from nvmmconf.cli import main
from nvmmconf.doctor import Level, Surroundings, examine, look_around
from nvmmconf.doctor.host import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]


def test_it_looks_for_what_the_project_depends_on() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = {one.partition(">")[0] for one in project["dependencies"]}
    assert set(PACKAGES) == names


def test_what_it_sees() -> None:
    seen = look_around(("pytest", "no-such-package"), Path("/dev/null"))
    uname = os.uname()
    assert (seen.system, seen.release, seen.machine) == (
        uname.sysname,
        uname.release,
        uname.machine,
    )
    assert seen.python == sys.version_info[:3]
    assert seen.packages == {"pytest": pytest.__version__, "no-such-package": None}
    assert seen.device is not None
    assert seen.device.is_device
    assert stat.S_IMODE(seen.device.mode) == stat.S_IMODE(Path("/dev/null").stat().st_mode)
    assert seen.device.readable
    assert look_around((), Path("/dev/none")).device is None
    for option, what in (("-Gn", set(seen.groups)), ("-un", {seen.user})):
        said = subprocess.run(["id", option], capture_output=True, text=True, check=True).stdout
        assert what == set(said.split())


def test_on_another_system_it_names_the_profiles(
    netbsd: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVMM_SOFT_PROFILE", raising=False)
    diagnosis = examine(look_around(tuple(PACKAGES)), "bundled")
    library = open_library(LibraryChoice(str(bundled_path()), "the tests'"))
    assert diagnosis.can_run
    assert {one.level for one in diagnosis.findings} == {Level.OK}
    for profile in list_soft(library, SoftKind.PROFILE):
        assert profile.name in diagnosis.conclusion
    assert not {"module", "device"} & {one.topic for one in diagnosis.findings}


def test_exit_status(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--nvmm-lib", "bundled"]) == 0
    assert "The suite can run here, on softnvmm" in capsys.readouterr().out
    assert main(["doctor", "--nvmm-lib", str(tmp_path / "none.so")]) == 1
    said = capsys.readouterr()
    assert "PROBLEM  library" in said.out
    assert said.err == ""


def test_without_a_package_it_still_speaks(tmp_path: Path) -> None:
    """`nvmmconf` itself cannot even start then."""
    (tmp_path / "_cffi_backend.py").write_text("raise ImportError('there is none')\n")
    done = subprocess.run(
        [sys.executable, "-m", "nvmmconf.doctor"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "PROBLEM  library" in done.stdout
    assert "there is none" in done.stdout
