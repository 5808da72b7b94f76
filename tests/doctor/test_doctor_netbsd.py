# SPDX-License-Identifier: BSD-2-Clause
"""The doctor on NetBSD machines: what is wrong is found, and what helps is said."""

from __future__ import annotations

import dataclasses
import errno
import stat
from pathlib import Path

import pytest
from lookalike import FUNCTIONS, LookAlike, stub

from nvmmconf.abi import Libnvmm
from nvmmconf.abi import library as library_module
from nvmmconf.doctor import Diagnosis, Finding, Level, Node, Surroundings, examine
from nvmmconf.doctor.opening import _found
from nvmmconf.doctor.surroundings import _modules
from nvmmconf.doctor.words import lines
from nvmmconf.nvmm.errors import EPROGMISMATCH


def of(diagnosis: Diagnosis, topic: str) -> Finding:
    (found,) = [one for one in diagnosis.findings if one.topic == topic]
    return found


def problems(diagnosis: Diagnosis) -> list[str]:
    return [one.topic for one in diagnosis.findings if one.level is Level.PROBLEM]


def test_everything_is_there(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-VER-2, L-INIT-1: NetBSD 10 is version 2; what was made is destroyed."""
    diagnosis = examine(netbsd)
    assert {one.level for one in diagnosis.findings} == {Level.OK}
    assert diagnosis.can_run
    assert diagnosis.conclusion == "The suite can run here, on this kernel's NVMM: nvmm-v2."
    topics = [one.topic for one in diagnosis.findings]
    assert topics == [
        *("system", "processor", "module", "device", "library", "capability", "machine"),
        *("python", "packages", "assembler"),
    ]
    assert "NVMM version 2; 128 machines" in of(diagnosis, "capability").text
    called = [line.split()[0] for line in looks.calls]
    assert called.count("machine_create") == called.count("machine_destroy") > 0
    assert called.count("vcpu_create") == called.count("vcpu_destroy") > 0


def test_the_module_is_not_loaded(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-INIT-5: ENXIO."""
    looks.fail("init", errno.ENXIO)
    diagnosis = examine(dataclasses.replace(netbsd, modules=("compat_90",)))
    assert problems(diagnosis) == ["module", "open"]
    assert not diagnosis.can_run
    assert "as root: modload nvmm" in of(diagnosis, "module").advice
    assert "nvmm_init(): ENXIO" in of(diagnosis, "open").text
    assert [line.split()[0] for line in looks.calls] == ["init"]  # and nothing after it


def test_the_user_is_not_in_the_group(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-INIT-2, L-INIT-5: EACCES; root:nvmm 0640."""
    looks.fail("init", errno.EACCES)
    device = Node(stat.S_IFCHR | 0o640, "root", "nvmm", readable=False)
    diagnosis = examine(dataclasses.replace(netbsd, device=device, groups=("users",)))
    assert problems(diagnosis) == ["device", "open"]
    found = of(diagnosis, "device")
    assert found.text == "/dev/nvmm is crw-r----- root:nvmm, and jane is not in the group nvmm"
    assert found.advice == ("as root: usermod -G nvmm jane; then log in again",)
    assert "EACCES" in of(diagnosis, "open").text


@pytest.mark.parametrize(
    ("mode", "group", "text", "advice"),
    [
        (stat.S_IFCHR | 0o600, "nvmm", "which may not read it", "chmod g+r /dev/nvmm"),
        (stat.S_IFCHR | 0o640, "wheel", "not the group nvmm's", "chgrp nvmm /dev/nvmm"),
        (stat.S_IFREG | 0o644, "wheel", "no device", "sh MAKEDEV nvmm"),
    ],
)
def test_a_device_with_other_permissions(
    netbsd: Surroundings, looks: LookAlike, mode: int, group: str, text: str, advice: str
) -> None:
    looks.fail("init", errno.EACCES)
    device = Node(mode, "root", group, readable=False)
    found = of(examine(dataclasses.replace(netbsd, device=device)), "device")
    assert found.level is Level.PROBLEM
    assert text in found.text
    assert any(advice in one for one in found.advice)
    if group == "wheel" and stat.S_ISCHR(mode):
        assert any("usermod -G nvmm jane;" in one for one in found.advice)


def test_there_is_no_device(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-INIT-5: ENOENT."""
    looks.fail("init", errno.ENOENT)
    diagnosis = examine(dataclasses.replace(netbsd, device=None))
    assert problems(diagnosis) == ["device", "open"]
    assert of(diagnosis, "device").advice == ("as root: cd /dev && sh MAKEDEV nvmm",)


@pytest.mark.parametrize("number", [EPROGMISMATCH, errno.ENOSYS])
def test_kernel_and_library_of_different_versions(
    netbsd: Surroundings, looks: LookAlike, number: int
) -> None:
    """L-INIT-4: either errno means that."""
    looks.fail("init", number)
    diagnosis = examine(netbsd)
    assert problems(diagnosis) == ["open"]
    assert "different releases" in of(diagnosis, "open").advice[0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("version", 0, "NVMM version 0 is older than 1"), ("state_size", 992, "992 bytes, not 1008")],
)
def test_an_nvmm_that_is_not_the_one_written_for(
    netbsd: Surroundings, looks: LookAlike, name: str, value: int, text: str
) -> None:
    """A-INIT-3, A-INIT-4: in the accelerator's own words."""
    looks.set_int(name, value)
    diagnosis = examine(netbsd)
    assert problems(diagnosis) == ["capability"]
    assert of(diagnosis, "capability").text.endswith(text)
    assert "machine_create" not in "".join(looks.calls).split()


def test_capability_fails(netbsd: Surroundings, looks: LookAlike) -> None:
    looks.fail("capability", errno.EBADF)
    diagnosis = examine(netbsd)
    assert problems(diagnosis) == ["capability"]
    assert "nvmm_capability(): EBADF" in of(diagnosis, "capability").text


def test_every_machine_is_taken(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-MACH-3: ENOBUFS."""
    looks.fail("machine_create", errno.ENOBUFS)
    diagnosis = examine(netbsd)
    assert problems(diagnosis) == ["machine"]
    assert any("nvmmctl list" in one for one in of(diagnosis, "machine").advice)


def test_a_system_library_that_lacks_a_function(
    netbsd: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would take softnvmm then; nobody may take that for the kernel."""
    path = stub(tmp_path, tuple(name for name in FUNCTIONS if name != "vcpu_run"))
    monkeypatch.setattr(library_module, "SYSTEM_NAMES", (str(path),))
    diagnosis = examine(netbsd)
    assert diagnosis.can_run
    first = next(one for one in diagnosis.findings if one.topic == "library")
    assert first.level is Level.NOTE
    assert any("it has no function nvmm_vcpu_run" in one for one in first.advice)
    assert "on softnvmm" in diagnosis.conclusion
    assert "says nothing of this kernel's NVMM" in diagnosis.conclusion
    assert problems(examine(netbsd, "system")) == ["library"]
    named = examine(netbsd, str(path))
    assert problems(named) == ["library"]
    assert "it has no function nvmm_vcpu_run" in of(named, "library").text


def test_a_library_of_version_1(
    netbsd: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-VER-1: NetBSD 9's has no nvmm_vcpu_stop, and that is right."""
    monkeypatch.delenv("NVMM_SOFT_PROFILE", raising=False)
    looks = LookAlike(tmp_path, "-DWITHOUT_SOFT", "-DWITHOUT_STOP")
    looks.set_int("version", 1)
    diagnosis = examine(dataclasses.replace(netbsd, release="9.3_STABLE"), str(looks.path))
    assert diagnosis.can_run
    assert "has NVMM version 1" in of(diagnosis, "system").text
    assert "API version 1 (has no nvmm_vcpu_stop)" in of(diagnosis, "library").text
    assert diagnosis.conclusion.endswith("NVMM: nvmm-v1.")


def test_the_file_behind_the_name(netbsd: Surroundings, looks: LookAlike) -> None:
    """L-VER-6: dlopen(3) is asked for a name; major and minor are in the file's."""
    library = Libnvmm("libnvmm.so", "the system's", looks.library.table)
    text = _found(library, netbsd).text
    assert text.startswith("libnvmm.so = /usr/lib/libnvmm.so.0.1 (the system's), API version 2")


@pytest.mark.parametrize(
    ("release", "machine", "level", "text"),
    [
        ("9.4", "amd64", Level.OK, "has NVMM version 1"),
        ("10.1_STABLE", "amd64", Level.OK, "has NVMM version 2"),
        ("10.99.12", "amd64", Level.OK, "newer than NetBSD 10"),
        ("11.0", "amd64", Level.OK, "newer than NetBSD 10"),
        ("8.2", "amd64", Level.NOTE, "first came with NetBSD 9"),
        ("10.1", "evbarm", Level.PROBLEM, "x86-64"),
    ],
)
def test_releases(
    netbsd: Surroundings, looks: LookAlike, release: str, machine: str, level: Level, text: str
) -> None:
    """L-VER-1, L-VER-2, L-VER-7."""
    found = of(examine(dataclasses.replace(netbsd, release=release, machine=machine)), "system")
    assert found.level is level
    assert text in found.text


@pytest.mark.parametrize(
    ("text", "works", "level", "says"),
    [
        (
            'cpu0: "Intel(R) Xeon(R) E-2236"\ncpu0: features1 0x1<SSE3,VMX,SMX>\n',
            True,
            Level.OK,
            "Intel, with VMX",
        ),
        (
            'cpu0: "Intel(R) Atom"\ncpu0: features1 0x1<SSE3>\n',
            False,
            Level.PROBLEM,
            "names neither",
        ),
        ('cpu0: "Intel(R) Atom"\ncpu0: features1 0x1<SSE3>\n', True, Level.NOTE, "names neither"),
        (None, True, Level.NOTE, "unknown"),
    ],
)
def test_processors(
    netbsd: Surroundings, looks: LookAlike, text: str | None, works: bool, level: Level, says: str
) -> None:
    if not works:
        looks.fail("init", errno.ENXIO)
    found = of(examine(dataclasses.replace(netbsd, processor=text)), "processor")
    assert (found.level, says in found.text) == (level, True)


def test_packages_are_named_as_pkgsrc_does(netbsd: Surroundings, looks: LookAlike) -> None:
    packages = {**netbsd.packages, "rich": None, "pytest-xdist": None}
    diagnosis = examine(dataclasses.replace(netbsd, packages=packages))
    assert problems(diagnosis) == ["packages"]
    found = of(diagnosis, "packages")
    assert found.text == "missing: pytest-xdist, rich"
    assert found.advice[0] == (
        "pkgin install py312-test-xdist py312-rich (pkgsrc: devel/py-test-xdist, comms/py-rich)"
    )


def test_python_is_too_old(netbsd: Surroundings, looks: LookAlike) -> None:
    diagnosis = examine(dataclasses.replace(netbsd, python=(3, 10, 9)))
    assert problems(diagnosis) == ["python"]
    assert of(diagnosis, "python").advice == ("pkgin install python311",)


def test_no_assembler(netbsd: Surroundings, looks: LookAlike, tmp_path: Path) -> None:
    diagnosis = examine(dataclasses.replace(netbsd, environment={"PATH": str(tmp_path)}))
    assert problems(diagnosis) == ["assembler"]
    assert "NetBSD: the 'comp' set" in of(diagnosis, "assembler").text


def test_modstat() -> None:
    """A heading, then a module a line, its name first."""
    text = (
        "NAME             CLASS    SOURCE   FLAG  REFS SIZE    REQUIRES\n"
        "acpicpu          driver   builtin  -        0       - -\n"
        "nvmm             driver   filesys  -        0   49152 -\n\n"
    )
    assert _modules(text) == ("acpicpu", "nvmm")


@pytest.mark.parametrize("width", [10, 60, 80, 10_000])
def test_words_stay_whole(netbsd: Surroundings, looks: LookAlike, width: int) -> None:
    """What is to be typed can be copied from a narrow terminal, too."""
    looks.fail("init", errno.ENXIO)
    diagnosis = examine(dataclasses.replace(netbsd, modules=()))
    printed = list(lines(diagnosis, width))
    words = " ".join(printed).split()
    for one in diagnosis.findings:
        for text in (one.text, *one.advice):
            assert set(text.split()) <= set(words)
    at = next(number for number, line in enumerate(printed) if line.startswith("PROBLEM  module"))
    assert any("-> as root: modload" in line for line in printed[at : at + 8])
    assert printed[-1].split()[-1] == "PROBLEM."
