# SPDX-License-Identifier: BSD-2-Clause
"""Cases that cannot be collected are named with the reason, and then nothing is run."""

from __future__ import annotations

import pytest

from .project import Project

GOOD = """
@requirement("K-HLT-1")
def test_good(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
"""

BAD = {
    "unknown_id": (
        '@requirement("K-HLT-99")\ndef test_bad(vm):\n    vm.boot("hlt")\n',
        "no requirement 'K-HLT-99'; near: K-HLT-",
    ),
    "odd_id": (
        '@requirement("K-HLT-1", 7)\ndef test_bad(vm):\n    vm.boot("hlt")\n',
        "7 is no requirement's id",
    ),
    "no_requirement": (
        'def test_bad(vm):\n    vm.boot("hlt")\n',
        "a case names what it proves: add @requirement(...)",
    ),
    "empty_requirement": (
        '@requirement()\ndef test_bad(vm):\n    vm.boot("hlt")\n',
        "a case names what it proves: add @requirement(...)",
    ),
    "no_boot": (
        '@requirement("K-HLT-1")\ndef test_bad(vm):\n    pass\n',
        'nothing says its modes: write vm.boot("name"), or use @modes',
    ),
    "no_literal": (
        'NAME = "hlt"\n@requirement("K-HLT-1")\ndef test_bad(vm):\n    vm.boot(NAME)\n',
        'its line 3: write the name there, vm.boot("hlt")',
    ),
    "unknown_guest": (
        '@requirement("K-HLT-1")\ndef test_bad(vm):\n    vm.boot("htl")\n',
        "guests/htl.S: no such guest (there are: ",
    ),
    "no_common_mode": (
        '@requirement("K-HLT-1")\ndef test_bad(vm):\n'
        '    vm.boot("only16")\n    vm.boot("only64")\n',
        "guests only16, only64 have no mode in common",
    ),
    "same_id": (
        GOOD.replace("good", "twin"),
        "its case id is that of cases/more/test_same_id.py::test_twin, too: same_id/twin",
    ),
}


@pytest.mark.parametrize("option", ["-n0", "-n2"])
def test_each_is_named_and_nothing_runs(project: Project, option: str) -> None:
    project.guest("only16", "    hlt\n", modes="real16")
    project.guest("only64", "    hlt\n", modes="long64")
    project.cases(GOOD)
    for name, (text, _) in BAD.items():
        project.cases(text, f"test_{name}.py")
    # Packages, or pytest itself refuses two modules of one name.
    for package in ("", "more/"):
        (project.root / "cases" / package).mkdir(exist_ok=True)
        (project.root / "cases" / package / "__init__.py").touch()
    project.cases(BAD["same_id"][0], "more/test_same_id.py")

    finished = project.pytest(option)

    assert finished.status == 2
    finished.told_without_traceback()
    told = finished.out.splitlines()
    for name, (_, why) in BAD.items():
        function = "test_twin" if name == "same_id" else "test_bad"
        assert any(
            line.startswith(f"cases/test_{name}.py::{function}: ") and why in line for line in told
        ), name
    assert "Interrupted: 9 errors during collection" in finished.out
    assert "_pytest/" not in finished.out
    assert "pluggy/" not in finished.out
    assert finished.runs == []
    assert not (finished.reports / "html").exists()


@pytest.mark.parametrize("option", ["-n0", "-n2"])
def test_rest_runs_where_that_is_wanted(project: Project, option: str) -> None:
    project.cases(GOOD)
    project.cases(BAD["no_boot"][0], "test_bad.py")
    finished = project.pytest(option, "--continue-on-collection-errors", "--nvmm-profile=v1-svm")
    assert finished.status == 1
    assert set(finished.verdicts) == {"it/good[real16]@v1-svm", "it/good[long64]@v1-svm"}


def test_function_without_vm_is_no_case(project: Project) -> None:
    """Like the project's own tests: it runs, and leaves no run."""
    project.cases("def test_plain() -> None:\n    assert True\n")
    finished = project.pytest()
    assert finished.status == 0
    assert "1 passed" in finished.out
    assert finished.runs == []
    assert "report:" not in finished.out


IDS = '''
WORDS = ["plain", "x/y", "real16@v1-svm", "a[b]", "it's"]

@requirement("K-HLT-1")
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("number", [7])
def test_both(vm: VirtualMachine, number: int, word: str) -> None:
    """What it is,
    in one paragraph.

    And more.
    """
    assert vm.boot("hlt")

class TestOne:
    @requirement("K-HLT-5", "K-HLT-1")
    def test_same_name(self, vm: VirtualMachine) -> None:
        assert vm.boot("hlt")

@requirement("K-HLT-1")
class TestOther:
    @requirement("K-RUN-13")
    def test_same_name(self, vm: VirtualMachine) -> None:
        assert vm.boot("hlt")
'''

WORDS = ["plain", "x/y", "real16@v1-svm", "a[b]", "it's"]


def ids_on(target: str) -> set[str]:
    both = {f"it/both[{mode}-7-{word}]" for mode in ("real16", "long64") for word in WORDS}
    same = {
        f"it/{group}.same_name[{mode}]"
        for group in ("One", "Other")
        for mode in ("real16", "long64")
    }
    return {f"{case}@{target}" for case in both | same}


def test_ids_are_those_of_no_other_case(project: Project) -> None:
    """And the same on every target, but for what follows the last @."""
    project.cases(IDS)
    finished = project.pytest("--nvmm-profile=v1-svm", "--nvmm-profile=v2-svm")
    assert finished.status == 0
    assert set(finished.verdicts) == ids_on("v1-svm") | ids_on("v2-svm")
    assert len(finished.run.results) == len(ids_on("v1-svm")) * 2

    planned = finished.result("it/both[real16-7-plain]@v1-svm").planned
    assert (planned.area, planned.target) == ("it", "v1-svm")
    assert planned.title == "What it is, in one paragraph."
    assert planned.requirements == ("K-HLT-1",)
    untitled = finished.result("it/One.same_name[real16]@v1-svm").planned
    assert untitled.title == "Same name"
    assert untitled.requirements == ("K-HLT-5", "K-HLT-1")
    other = finished.result("it/Other.same_name[real16]@v2-svm").planned
    assert set(other.requirements) == {"K-HLT-1", "K-RUN-13"}


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["-k", "Other and long64 and v2-svm"], {"it/Other.same_name[long64]@v2-svm"}),
        (
            ["cases/test_it.py::TestOne::test_same_name[real16@v1-svm]"],
            {"it/One.same_name[real16]@v1-svm"},
        ),
        (
            ["cases/test_it.py::test_both[real16@v1-svm-7-a[b]]"],
            {"it/both[real16-7-a[b]]@v1-svm"},
        ),
    ],
)
def test_selection(project: Project, arguments: list[str], chosen: set[str]) -> None:
    project.cases(IDS)
    finished = project.pytest(*arguments)
    assert finished.status == 0
    assert set(finished.verdicts) == chosen
