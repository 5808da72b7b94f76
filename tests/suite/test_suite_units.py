# SPDX-License-Identifier: BSD-2-Clause
"""The small parts: addresses, what is read off a case, citing, targets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.abi import Libnvmm
from nvmmconf.guest import GuestError, GuestLibrary, Mode
from nvmmconf.suite import Address, requirement
from nvmmconf.suite.collect import common_modes, guests_named
from nvmmconf.suite.target import Target, TargetError, find_targets, seeded_faults

# ---- Address ---------------------------------------------------------------------------


def test_address_is_a_number_with_words() -> None:
    one = Address(0x1003, "0x1003 <after_hlt>")
    assert one == 0x1003
    assert one + 1 == 0x1004
    assert hash(one) == hash(0x1003)
    assert {one: "found"}[0x1003] == "found"  # type: ignore[index]
    assert repr(one) == str(one) == f"{one}" == "0x1003 <after_hlt>"


def test_address_without_words_is_hex() -> None:
    assert repr(Address(4096)) == "0x1000"
    assert repr(Address(0)) == "0x0"


def test_words_do_not_count_in_a_comparison() -> None:
    assert Address(1, "a") == Address(1, "b")
    assert Address(1, "a") != Address(2, "a")


# ---- what is read off a case -------------------------------------------------------------


class Vm:
    """Has `boot`, as far as the functions below need one; they are never run."""

    def boot(self, name: object = "", **others: object) -> Vm:
        return self

    def resume(self) -> Vm:
        return self


def case_of_one(vm: Vm) -> None:
    vm.boot("hlt")


def case_of_several(vm: Vm) -> None:
    """In any place of the body; each once, in order."""
    first = [vm.boot("hello") for _ in range(2)]
    if first:
        with pytest.raises(ValueError, match="x"):
            vm.boot("hlt").resume()
    vm.boot("hello")


def case_of_others(vm: Vm, other: Vm) -> None:
    """What is booted on something else does not count."""
    other.boot("shutdown")
    vm.boot("hlt")


class Group:
    def case_in_class(self, vm: Vm) -> None:
        vm.boot("hello")


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (case_of_one, ("hlt",)),
        (case_of_several, ("hello", "hlt")),
        (case_of_others, ("hlt",)),
        (Group.case_in_class, ("hello",)),
    ],
)
def test_guests_named(function: Callable[..., object], names: tuple[str, ...]) -> None:
    assert guests_named(function) == names


def test_guests_named_of_another_fixture() -> None:
    assert guests_named(case_of_others, "other") == ("shutdown",)


NAME = "hlt"


def case_of_none(vm: Vm) -> None:
    vm.resume()


def test_no_guest_named() -> None:
    assert guests_named(case_of_none) == ()


def case_by_variable(vm: Vm) -> None:
    vm.boot("hlt")
    vm.boot(NAME)


def case_by_keyword(vm: Vm) -> None:
    vm.boot(name="hlt")


def case_by_number(vm: Vm) -> None:
    vm.boot(7)


def case_by_f_string(vm: Vm) -> None:
    vm.boot(f"{NAME}")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (case_by_variable, r'its line 3: write the name there, vm\.boot\("hlt"\)'),
        (case_by_keyword, "its line 2"),
        (case_by_number, "its line 2"),
        (case_by_f_string, "its line 2"),
    ],
)
def test_guests_not_named(function: Callable[..., object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guests_named(function)


@pytest.fixture
def few(tmp_path: Path) -> GuestLibrary:
    """Guests that differ in their modes; they are never built."""
    for name, modes in (
        ("both", "long64 real16"),
        ("only16", "real16"),
        ("only64", "long64"),
    ):
        (tmp_path / f"{name}.S").write_text(f"# Halts.\n#\n# area: hlt\n# modes: {modes}\n")
    return GuestLibrary(tmp_path, tmp_path / "cache", include=tmp_path)


def test_common_modes(few: GuestLibrary) -> None:
    assert common_modes(few, ["both"]) == (Mode.REAL16, Mode.LONG64)
    assert common_modes(few, ["both", "only64"]) == (Mode.LONG64,)
    assert common_modes(few, ["only16", "both", "only16"]) == (Mode.REAL16,)


def test_no_common_mode(few: GuestLibrary) -> None:
    with pytest.raises(ValueError, match=r"^guests only16, only64 have no mode in common$"):
        common_modes(few, ["only16", "only64"])


def test_modes_of_an_unknown_guest(few: GuestLibrary) -> None:
    with pytest.raises(GuestError, match=r"no such guest \(there are: both, only16, only64\)"):
        common_modes(few, ["both", "none"])


def test_requirement_is_a_mark_with_the_ids() -> None:
    mark = requirement("K-HLT-1", "A-EXIT-6")
    assert mark.name == "requirement"
    assert mark.args == ("K-HLT-1", "A-EXIT-6")


# ---- targets -------------------------------------------------------------------------------


def test_every_profile_is_a_target(targets: dict[str, Target]) -> None:
    assert {"v1-svm", "v2-svm"} <= set(targets)
    assert targets["v1-svm"].capability.version == 1
    assert targets["v2-svm"].capability.version == 2


def test_wanted_targets_come_in_the_library_s_order(library: Libnvmm) -> None:
    found = find_targets(library, ["v2-svm", "v1-svm", "v2-svm"])
    assert [target.name for target in found] == ["v1-svm", "v2-svm"]


def test_target_of_the_environment(library: Libnvmm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVMM_SOFT_PROFILE", "v1-svm")
    assert [target.name for target in find_targets(library)] == ["v1-svm"]
    # An option goes before it.
    assert [target.name for target in find_targets(library, ["v2-svm"])] == ["v2-svm"]
    assert os.environ["NVMM_SOFT_PROFILE"] == "v1-svm"


@pytest.mark.parametrize("before", [None, "", "v2-svm"])
def test_environment_is_put_back(
    library: Libnvmm, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is not None:
        monkeypatch.setenv("NVMM_SOFT_PROFILE", before)
    (target,) = find_targets(library, ["v1-svm"])
    assert os.environ.get("NVMM_SOFT_PROFILE") == before
    with target.chosen():
        assert os.environ["NVMM_SOFT_PROFILE"] == "v1-svm"
    assert os.environ.get("NVMM_SOFT_PROFILE") == before
    with pytest.raises(KeyError), target.chosen():
        raise KeyError
    assert os.environ.get("NVMM_SOFT_PROFILE") == before


def test_environment_is_put_back_whoever_took_it(library: Libnvmm) -> None:
    (target,) = find_targets(library, ["v1-svm"])
    with target.chosen():
        del os.environ["NVMM_SOFT_PROFILE"]
    assert "NVMM_SOFT_PROFILE" not in os.environ


def test_unknown_target_is_named_with_those_there_are(library: Libnvmm) -> None:
    with pytest.raises(TargetError, match=r"has no profile 'v7' \(it has: ideal, v1-svm") as told:
        find_targets(library, ["v1-svm", "v7"])
    assert "\n" not in str(told.value)
    assert "NVMM_SOFT_PROFILE" not in os.environ


def test_library_that_cannot_be_initialised(
    library: Libnvmm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVMM_SOFT_FAULT", "no-such")
    with pytest.raises(TargetError, match=r"nvmm_init\(\).*there is no 'no-such'"):
        find_targets(library)
    assert "NVMM_SOFT_PROFILE" not in os.environ


def test_target_in_words(targets: dict[str, Target]) -> None:
    info = targets["v2-svm"].info()
    assert (info.name, info.nvmm_version) == ("v2-svm", 2)
    assert info.capability


@pytest.mark.parametrize(
    ("value", "names"),
    [(None, ()), ("", ()), ("a", ("a",)), ("a,b", ("a", "b")), (",a,,", ("a",))],
)
def test_seeded_faults(
    monkeypatch: pytest.MonkeyPatch, value: str | None, names: tuple[str, ...]
) -> None:
    if value is not None:
        monkeypatch.setenv("NVMM_SOFT_FAULT", value)
    assert seeded_faults() == names
