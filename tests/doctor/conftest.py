# SPDX-License-Identifier: BSD-2-Clause
"""Machines as data; what is opened is a real library, which can be told to fail."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "abi"))
from lookalike import LookAlike, NoCompilerError

from nvmmconf.abi import library as library_module
from nvmmconf.doctor import Node, Surroundings
from nvmmconf.doctor.host import PACKAGES

# As cpuctl(8) of NetBSD writes it, shortened.
AMD = """\
cpu0: highest basic info 00000010
cpu0: "AMD EPYC 7302P 16-Core Processor"
cpu0: AMD Family 17h (686-class), 3000.00 MHz
cpu0: features3 0x35c233ff<LAHF,CMPLEGACY,SVM,EAPIC,ALTMOVCR0,LZCNT>
"""


@pytest.fixture(scope="session")
def _looks(tmp_path_factory: pytest.TempPathFactory) -> LookAlike:
    try:
        return LookAlike(tmp_path_factory.mktemp("look alike"), "-DWITHOUT_SOFT")
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture
def looks(_looks: LookAlike, monkeypatch: pytest.MonkeyPatch) -> Iterator[LookAlike]:
    """What dlopen(3) finds as the system's libnvmm: a kernel's, as far as anybody can tell."""
    monkeypatch.setattr(library_module, "SYSTEM_NAMES", (str(_looks.path),))
    monkeypatch.delenv("NVMM_SOFT_PROFILE", raising=False)
    _looks.reset()
    yield _looks
    _looks.reset()


@pytest.fixture
def netbsd() -> Surroundings:
    """A machine with NetBSD 10 on which everything is as it should be."""
    return Surroundings(
        system="NetBSD",
        release="10.1",
        machine="amd64",
        user="jane",
        groups=("users", "nvmm"),
        device=Node(stat.S_IFCHR | 0o640, "root", "nvmm", readable=True),
        modules=("nvmm", "compat_90"),
        processor=AMD,
        libraries=("/usr/lib/libnvmm.so.0.1",),
        python=(3, 12, 4),
        packages=dict.fromkeys(PACKAGES, "1.0"),
        environment={"PATH": os.environ["PATH"]},
    )
