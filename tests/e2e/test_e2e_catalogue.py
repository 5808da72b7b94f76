# SPDX-License-Identifier: BSD-2-Clause
"""nvmmconf list, show and faults."""

from __future__ import annotations

import json

import pytest

from .project import Project

CASES = '''
@requirement("K-HLT-1", level=Level.SHOULD)
def test_halts(vm: VirtualMachine) -> None:
    """HLT halts.

    And more.
    """
    run = vm.boot("hlt")
    assert run.reason is Stop.HALTED
    assert run.rip == run.symbol("after_hlt")


@requirement("K-HLT-1", level=Level.INFO)
def test_never_red(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").status == 1


@requirement("L-VCPU-2")
@pytest.mark.parametrize("n", [1, 0x300])
def test_vcpu(machine: Machine, n: int) -> None:
    """A vCPU is made."""
    check(machine.create_vcpu(0), "made")
'''

OTHER = '''
@requirement("K-HLT-1")
def test_always_fails(vm: VirtualMachine) -> None:
    """Not on any fault."""
    assert vm.boot("hlt").status == 1
'''


@pytest.fixture
def ready(project: Project) -> Project:
    project.cases(CASES, "test_hlt.py")
    return project


def test_list_is_a_line_each(ready: Project) -> None:
    done = ready.nvmmconf("list")
    assert done.status == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows == [
        ["hlt/halts[real16]", "should", "hlt", "K-HLT-1"],
        ["hlt/halts[long64]", "should", "hlt", "K-HLT-1"],
        ["hlt/never_red[real16]", "info", "hlt", "K-HLT-1"],
        ["hlt/never_red[long64]", "info", "hlt", "K-HLT-1"],
        ["hlt/vcpu[1]", "must", "hlt", "L-VCPU-2"],
        ["hlt/vcpu[0x300]", "must", "hlt", "L-VCPU-2"],
    ]
    assert done.runs == []


@pytest.mark.parametrize(
    ("pattern", "number"), [("hlt/*", 6), ("hlt/vcpu[*]", 2), ("long64", 2), ("*[real16]", 2)]
)
def test_list_by_pattern(ready: Project, pattern: str, number: int) -> None:
    assert len(ready.nvmmconf("list", pattern).out.splitlines()) == number


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["list", "nothing"], "no case matches 'nothing'"),
        (["show", "hlt/hallts"], "there is no case 'hlt/hallts'; near: hlt/halts["),
        (["show", "hlt"], "6 cases match 'hlt': hlt/halts[real16], "),
        (["faults", "--fault", "no-such"], "there is no fault 'no-such'"),
        (["faults", "--profile", "v9"], "there is no profile 'v9'"),
    ],
)
def test_mistakes_are_one_line(ready: Project, words: list[str], why: str) -> None:
    done = ready.nvmmconf(*words)
    assert done.status == 1
    assert why in done.err
    assert len(done.err.splitlines()) == 1
    done.told_without_traceback()


def test_show(ready: Project) -> None:
    done = ready.nvmmconf("show", "hlt/halts[long64]@v2-svm")
    assert done.status == 0, done.err
    for words in (
        "hlt/halts[long64]    SHOULD",
        "HLT halts.",
        "And more.",
        "K-HLT-1: HLT exits HALTED",
        "cases/test_hlt.py:",
        'run = vm.boot("hlt")',
        "# Halts with interrupts off",
        "after_hlt:",
        "f4                        hlt",
        "to pass on every target",
        "in no run that is kept here",
    ):
        assert words in done.out
    assert done.runs == []


def test_show_knows_expectations_and_failures(ready: Project) -> None:
    (ready.root / "expectations").mkdir()
    entry = '[[known]]\ncase = "hlt/halts*"\nreason = "So."\nid = "BH-1"\n'
    (ready.root / "expectations/v1.toml").write_text(entry)
    ready.pytest("--nvmm-profile=v1-svm", "-k", "halts")  # unexpected passes
    done = ready.nvmmconf("show", "hlt/halts[long64]")
    assert "v1-vmx: known (BH-1: So.)" in done.out
    assert "v2-svm: known" not in done.out
    assert "fixed on v1-svm: it passes: remove its entry" in done.out


def test_a_case_that_cannot_be_collected_is_named(ready: Project) -> None:
    ready.cases("def test_bad(vm):\n    pass\n", "test_bad.py")
    for words in (["list"], ["show", "hlt/halts"], ["faults"]):
        done = ready.nvmmconf(*words)
        assert done.status == 1
        assert "test_bad: a case names what it proves: add @requirement(...)" in done.err
        done.told_without_traceback()


def test_faults(ready: Project) -> None:
    """One fault that the case is about, and one that it has nothing to do with."""
    ready.cases(OTHER, "test_other.py")
    faults = ("--fault=hlt-rip-not-advanced", "--fault=mem-xchg-refused")
    done = ready.nvmmconf("faults", *faults, "--profile=ideal", "--profile=v2-svm")
    assert done.status == 1
    assert done.err.strip() == "nvmmconf: survived: mem-xchg-refused"
    assert "1 of 2 faults killed (50.0 %)" in done.out
    assert "do not end as they are known to: other/always_fails[" in done.out
    content = json.loads((ready.reports / "faults/latest.json").read_text())
    killed, survived = content["faults"]
    assert killed["fault"] == "hlt-rip-not-advanced"
    assert killed["profiles"] == ["ideal"]
    (kill,) = killed["kills"]
    assert (kill["area"], kill["case"].split("[")[0]) == ("hlt", "hlt/halts")
    assert "after_hlt" in kill["message"]
    assert survived["profiles"] == ["ideal", "v2-svm"]
    assert survived["kills"] == []
    assert survived["cases"] == 8  # of both profiles; info kills nothing
    assert done.runs == []
    assert ready.nvmmconf("faults", faults[0]).status == 0


def test_complete_kills(ready: Project) -> None:
    done = ready.nvmmconf("faults", "--fault=hlt-rip-not-advanced", "--complete", "--profile=ideal")
    assert done.status == 0
    content = json.loads((ready.reports / "faults/latest.json").read_text())
    kills = {kill["case"] for kill in content["faults"][0]["kills"]}
    assert kills == {"hlt/halts[real16]@ideal", "hlt/halts[long64]@ideal"}
