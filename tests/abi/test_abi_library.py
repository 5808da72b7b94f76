# SPDX-License-Identifier: BSD-2-Clause
"""Which libnvmm is taken and why, and what is said of one that cannot be."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

import pytest
from lookalike import FUNCTIONS, LookAlike, NoCompilerError, shared_object, stub

from nvmmconf.abi import (
    Gpr,
    Libnvmm,
    LibraryChoice,
    LibraryError,
    Prot,
    SoftKind,
    StateFlag,
    bundled_path,
    choose_library,
    ffi,
    lib,
    list_soft,
    open_library,
    soft_problem,
)
from nvmmconf.abi import library as library_module
from nvmmconf.nvmm import HostMemory, Machine, NvmmError, init, query_capability

BUNDLED = str(bundled_path())


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")


def opened(path: Path, reason: str = "the tests'") -> str:
    """The message that opening gives; fails where it opens."""
    with pytest.raises(LibraryError) as raised:
        open_library(LibraryChoice(str(path), reason))
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library that dlopen(3) finds as the system's; its name."""
    path = stub(tmp_path, (*FUNCTIONS, "vcpu_stop"))
    monkeypatch.setattr(library_module, "SYSTEM_NAMES", ("libnvmmconf-none.so", str(path)))
    return str(path)


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        library_module, "SYSTEM_NAMES", ("libnvmmconf-none.so", "libnvmmconf-none.so.0")
    )


# ---- order and reasons -------------------------------------------------------


def test_the_option_goes_first(system: str) -> None:
    choice = choose_library("/a/lib.so", {"NVMMCONF_LIB": "/b/lib.so"})
    assert choice == LibraryChoice("/a/lib.so", "named by --nvmm-lib")


def test_the_environment_goes_second(system: str) -> None:
    choice = choose_library(None, {"NVMMCONF_LIB": "/b/lib.so"})
    assert choice == LibraryChoice("/b/lib.so", "named by NVMMCONF_LIB")


def test_the_system_goes_third(system: str) -> None:
    assert choose_library(None, {}) == LibraryChoice(system, "the system's")


def test_the_bundled_one_goes_last(no_system: None) -> None:
    expected = LibraryChoice(BUNDLED, "the bundled one: this system has no libnvmm")
    assert choose_library(None, {}) == expected


def test_a_system_library_that_is_none_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stub(tmp_path, FUNCTIONS[:-1])
    monkeypatch.setattr(library_module, "SYSTEM_NAMES", (str(path),))
    assert choose_library(None, {}).path == BUNDLED


@pytest.mark.parametrize(
    ("option", "environment", "origin"),
    [
        ("bundled", {"NVMMCONF_LIB": "/b/lib.so"}, "--nvmm-lib"),
        (None, {"NVMMCONF_LIB": "bundled"}, "NVMMCONF_LIB"),
    ],
)
def test_bundled_by_name(
    system: str, option: str | None, environment: dict[str, str], origin: str
) -> None:
    expected = LibraryChoice(BUNDLED, f"the bundled one, by {origin}")
    assert choose_library(option, environment) == expected


@pytest.mark.parametrize(
    ("option", "environment", "origin"),
    [("system", {}, "--nvmm-lib"), (None, {"NVMMCONF_LIB": "system"}, "NVMMCONF_LIB")],
)
def test_system_by_name(
    system: str, option: str | None, environment: dict[str, str], origin: str
) -> None:
    expected = LibraryChoice(system, f"the system's, by {origin}")
    assert choose_library(option, environment) == expected


def test_system_by_name_where_there_is_none(no_system: None) -> None:
    with pytest.raises(LibraryError) as raised:
        choose_library("system", {})
    assert str(raised.value) == (
        "--nvmm-lib asks for the system's libnvmm, and dlopen finds none of"
        " libnvmmconf-none.so, libnvmmconf-none.so.0"
    )


@pytest.mark.parametrize(
    ("option", "environment", "origin"),
    [("", {}, "--nvmm-lib"), (None, {"NVMMCONF_LIB": ""}, "NVMMCONF_LIB")],
)
def test_empty_is_an_error(option: str | None, environment: dict[str, str], origin: str) -> None:
    with pytest.raises(LibraryError) as raised:
        choose_library(option, environment)
    assert str(raised.value) == f"{origin} is empty: give a path, 'system' or 'bundled'"


def test_a_relative_path_is_taken_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a slash dlopen(3) would look in the system's folders instead."""
    stub(tmp_path, FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    choice = choose_library("libnvmm.so", {})
    assert choice.path == str(tmp_path / "libnvmm.so")
    assert open_library(choice).path == choice.path


# ---- what cannot be opened ---------------------------------------------------


def check_cause(message: str, path: Path, reason: str, glibc: str) -> None:
    """The cause is dlerror(3)'s, so its wording is known for one system only."""
    head = f"cannot use {path} ({reason}): "
    assert message.startswith(head)
    assert len(message) > len(head)
    if sys.platform == "linux":
        assert message == head + glibc


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.so"
    reason = "named by --nvmm-lib"
    message = opened(path, reason)
    cause = "cannot open shared object file: No such file or directory"
    check_cause(message, path, reason, cause)


def test_directory(tmp_path: Path) -> None:
    cause = "cannot read file data: Is a directory"
    check_cause(opened(tmp_path), tmp_path, "the tests'", cause)


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "file too short"), (b"#!/bin/sh\necho this is no library\n" * 10, "invalid ELF header")],
)
def test_no_shared_object(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "some file.so"
    path.write_bytes(content)
    check_cause(opened(path), path, "the tests'", cause)


def test_a_library_that_is_no_libnvmm(tmp_path: Path) -> None:
    path = shared_object(tmp_path, "int answer(void) { return 42; }\n")
    assert opened(path) == (
        f"cannot use {path} (the tests'): it is no libnvmm: it has no function nvmm_init"
    )


@pytest.mark.parametrize("missing", FUNCTIONS)
def test_each_missing_function_is_named(tmp_path: Path, missing: str) -> None:
    path = stub(tmp_path, tuple(name for name in FUNCTIONS if name != missing))
    assert opened(path).endswith(f": it is no libnvmm: it has no function nvmm_{missing}")


# ---- what a libnvmm need not have ----------------------------------------------


def test_the_bundled_one_has_everything() -> None:
    library = open_library(LibraryChoice(BUNDLED, "the tests'"))
    assert library.has_stop
    assert library.has_soft
    assert (library.path, library.reason) == (BUNDLED, "the tests'")
    assert {"v1-svm", "v2-svm"} <= {one.name for one in list_soft(library, SoftKind.PROFILE)}
    for kind in SoftKind:
        entries = list_soft(library, kind)
        assert entries
        assert all(one.name and one.summary for one in entries)


def test_the_reason_of_the_librarys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    library = open_library(LibraryChoice(BUNDLED, "the tests'"))
    monkeypatch.setenv("NVMM_SOFT_PROFILE", "no-such")
    with pytest.raises(NvmmError, match=r"nvmm_init\(\): EINVAL .*no profile named 'no-such'"):
        init(library)
    assert "no-such" in soft_problem(library)
    monkeypatch.delenv("NVMM_SOFT_PROFILE")
    init(library)
    assert soft_problem(library) == ""


def works(library: Libnvmm) -> None:
    """A machine with memory and a vCPU can be made on it, and its state read."""
    init(library)
    assert query_capability(library).state_size == 1008
    with HostMemory(4096) as memory, Machine(library) as machine:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, 0x1000, 4096, Prot.READ)
        assert machine.gpa_to_hva(0x1008) == (memory.hva + 8, Prot.READ)
        vcpu = machine.create_vcpu(0)
        vcpu.getstate(StateFlag.ALL)
        assert vcpu.state.gprs[Gpr.RIP] == 0xFFF0


def look_alike(where: Path, *options: str) -> LookAlike:
    try:
        return LookAlike(where, *options)
    except NoCompilerError as error:
        pytest.skip(str(error))


def test_a_library_without_stop(tmp_path: Path) -> None:
    library = look_alike(tmp_path, "-DWITHOUT_STOP").library
    assert not library.has_stop
    assert library.has_soft
    works(library)
    with Machine(library) as machine:
        vcpu = machine.create_vcpu(0)
        with pytest.raises(NvmmError) as raised:
            vcpu.stop()
        assert (raised.value.errno, raised.value.call) == (errno.ENOSYS, "nvmm_vcpu_stop")


def test_a_library_without_the_soft_functions(tmp_path: Path) -> None:
    library = look_alike(tmp_path, "-DWITHOUT_SOFT").library
    assert library.has_stop
    assert not library.has_soft
    assert all(list_soft(library, kind) == () for kind in SoftKind)
    assert soft_problem(library) == ""
    works(library)
    with Machine(library) as machine:
        vcpu = machine.create_vcpu(0)
        assert vcpu.soft_diagnostic() is None
        vcpu.stop()


def test_errno_of_the_absent(tmp_path: Path) -> None:
    library = look_alike(tmp_path, "-DWITHOUT_SOFT").library
    pointers = ffi.new("char const *[2]")
    assert lib.call_soft_list(library.table, 0, 0, pointers, pointers + 1) == -1
    assert ffi.errno == errno.ENOSYS
