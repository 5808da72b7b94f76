# SPDX-License-Identifier: BSD-2-Clause
"""Every way in which a case can end, as record, on the terminal and on its page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nvmmconf.results import Ended, Verdict

from .conftest import Once
from .html import Page, case_page
from .project import Finished, Project

# In this order: what comes after shows that what went before did no harm.
CASES = {
    "spins": (
        Verdict.HANG,
        """
        assert vm.boot("spin")
        """,
    ),
    "spins_in_io": (
        Verdict.HANG,
        """
        assert vm.boot("chatter")
        """,
    ),
    "passes": (
        Verdict.PASS,
        """
        assert vm.boot("hlt").reason is Stop.HALTED
        """,
    ),
    "asserts": (
        Verdict.FAIL,
        """
        run = vm.boot("hlt")
        assert run.rip == run.symbol("hlt_insn"), "RIP stays"
        """,
    ),
    "says_fail": (
        Verdict.FAIL,
        """
        assert vm.boot("hlt")
        pytest.fail("because it is so")
        """,
    ),
    "expects_failure": (
        Verdict.FAIL,
        """
        assert vm.boot("hlt")
        pytest.xfail("it always did")
        """,
    ),
    "skips": (
        Verdict.UNSUPPORTED,
        """
        pytest.skip("no such capability")
        assert vm.boot("hlt")
        """,
    ),
    "mistaken": (
        Verdict.ERROR,
        """
        vm.boot("hlt").nothing
        """,
    ),
    "misspelt_symbol": (
        Verdict.ERROR,
        """
        vm.boot("hlt").symbol("after_htl")
        """,
    ),
    "not_assembled": (
        Verdict.ERROR,
        """
        assert vm.boot("nonsense")
        """,
    ),
    "exits": (
        Verdict.ERROR,
        """
        assert vm.boot("hlt")
        raise SystemExit("done")
        """,
    ),
}

FIXTURES = """
@pytest.fixture
def broken():
    raise OSError("no disk")

@pytest.fixture
def untidy():
    yield
    assert False, "left open"

@requirement("K-HLT-1")
def test_without_setup(vm: VirtualMachine, broken: None) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
def test_untidy(vm: VirtualMachine, untidy: None) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
def test_fails_and_untidy(vm: VirtualMachine, untidy: None) -> None:
    assert vm.boot("hlt").console == "x"

@requirement("K-HLT-1")
def test_mistaken_and_untidy(vm: VirtualMachine, untidy: None) -> None:
    vm.boot("hlt").nothing

@requirement("K-HLT-1")
@pytest.mark.xfail(reason="known", strict=False)
def test_marked_xfail(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").console == "x"

@requirement("K-HLT-1")
@pytest.mark.xfail(reason="known", strict=True)
def test_marked_xfail_passes(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
@pytest.mark.skip(reason="not today")
def test_marked_skip(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
def test_last(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").status is None
"""

MARKED = {
    "without_setup": Verdict.ERROR,
    "untidy": Verdict.ERROR,
    "fails_and_untidy": Verdict.ERROR,
    "mistaken_and_untidy": Verdict.ERROR,
    "marked_xfail": Verdict.FAIL,
    "marked_xfail_passes": Verdict.FAIL,
    "marked_skip": Verdict.UNSUPPORTED,
    "last": Verdict.PASS,
}

EXPECTED = {name: verdict for name, (verdict, _) in CASES.items()} | MARKED


def run(root: Path) -> Finished:
    project = Project.make(root)
    project.guest("spin", "    nop\nspin:\n    jmp     spin\n")
    project.guest("chatter", "again:\n    out     0xE9, al\n    jmp     again\n")
    project.guest("nonsense", "    mov     nothing, at, all\n")
    functions = [
        f'@requirement("K-HLT-1")\ndef test_{name}(vm: VirtualMachine) -> None:\n{body}'
        for name, (_, body) in CASES.items()
    ]
    project.cases("\n".join(functions) + FIXTURES)
    # Not "real16": version 2 in the one mode, version 1 in the other is all there is to see.
    return project.pytest("--nvmm-timeout=0.3", "-k", "real16 and v1-svm or long64 and v2-svm")


@pytest.fixture(scope="module")
def finished(once: Once) -> Finished:
    return once("verdicts", run)


IDS = ("[real16]@v1-svm", "[long64]@v2-svm")


def ended(finished: Finished, name: str, where: str = IDS[0]) -> Ended:
    return finished.result(f"it/{name}{where}").ended


def test_verdicts(finished: Finished) -> None:
    assert finished.status == 1
    assert finished.verdicts == {
        f"it/{name}{where}": verdict for name, verdict in EXPECTED.items() for where in IDS
    }


def test_counts_tell_skipped_from_passed(finished: Finished) -> None:
    number = Counter(EXPECTED.values())
    counts = ", ".join(f"{2 * number[v]} {v.value}" for v in Verdict if number[v])
    assert f"{2 * len(EXPECTED)} cases on 2 targets: {counts}" in finished.out.splitlines()
    page = Page(finished.reports / "html/index.html")
    assert f"{2 * number[Verdict.UNSUPPORTED]} could not be checked (unsupported)" in page
    assert f"{2 * number[Verdict.PASS]} passed" in page


@pytest.mark.parametrize("where", IDS)
def test_hang_is_stopped_and_shown(finished: Finished, where: str) -> None:
    one = ended(finished, "spins", where)
    (run,) = one.runs
    assert (
        one.message == f"spin ({run.mode}) ran for 0.3 s and was stopped at RIP {rip(one.message)}"
    )
    assert rip(one.message).endswith(" <spin>")
    assert run.outcome == "HANG"
    labels = {row.label: row.address for row in run.listing if row.label}
    assert run.rip == labels["spin"]
    assert one.message in case_page(finished.reports, one.case)


def rip(message: str) -> str:
    return message.partition("RIP ")[2]


@pytest.mark.parametrize("where", IDS)
def test_hang_full_of_exits_keeps_the_last_ones(finished: Finished, where: str) -> None:
    (run,) = ended(finished, "spins_in_io", where).runs
    assert run.outcome == "HANG"
    assert run.trace
    last = run.trace[-1]
    assert last.sequence == run.dropped + len(run.trace)
    assert run.console


def test_assertion_keeps_both_sides(finished: Finished) -> None:
    one = ended(finished, "asserts")
    assert one.message == "RIP stays"
    (comparison,) = one.comparisons
    assert comparison.expression.startswith('assert run.rip == run.symbol("hlt_insn")')
    assert comparison.operator == "=="
    assert (comparison.observed, comparison.expected) == ("0x1 <after_hlt>", "0x0 <hlt_insn>")
    assert "test_it.py" in one.details


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("passes", ""),
        ("says_fail", "because it is so"),
        ("expects_failure", "it always did"),
        ("skips", "no such capability"),
        ("mistaken", "AttributeError: 'VmRun' object has no attribute 'nothing'"),
        (
            "misspelt_symbol",
            "GuestError: guest hlt (real16) has no symbol 'after_htl'; near: after_hlt",
        ),
        ("exits", "SystemExit: done"),
        ("without_setup", "OSError: no disk"),
        ("untidy", "AssertionError: left open"),
        ("fails_and_untidy", "AssertionError: left open"),
        # Of two that are as bad, the first is the cause.
        ("mistaken_and_untidy", "AttributeError: 'VmRun' object has no attribute 'nothing'"),
        ("marked_xfail_passes", "[XPASS(strict)] known"),
        ("marked_skip", "not today"),
    ],
)
def test_message_is_one_line_that_says_why(finished: Finished, name: str, message: str) -> None:
    one = ended(finished, name)
    lines = one.message.splitlines()
    assert lines[:1] == ([message] if message else [])
    assert len(lines) <= 1
    if message:
        assert message in case_page(finished.reports, one.case)


def test_assembler_s_message_names_the_line_of_the_guest(finished: Finished) -> None:
    assert "guests/nonsense.S:8: " in ended(finished, "not_assembled").message


def test_evidence_is_kept_unless_no_guest_ran(finished: Finished) -> None:
    without = {"skips", "not_assembled", "without_setup", "marked_skip"}
    for name in EXPECTED:
        assert bool(ended(finished, name).runs) is (name not in without), name


def test_only_a_fail_has_comparisons(finished: Finished) -> None:
    for one in finished.run.results:
        if one.ended.comparisons:
            assert one.ended.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('pytest.xfail("it always did")', 1),
        ('pytest.skip("no such capability")', 0),
    ],
)
def test_exit_status_is_that_of_the_verdicts(project: Project, body: str, status: int) -> None:
    """Also where pytest itself is content."""
    project.cases(f"""
@requirement("K-HLT-1")
def test_one(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
    {body}
""")
    finished = project.pytest("--nvmm-profile=v1-svm")
    assert finished.status == status
    assert Verdict.PASS not in finished.verdicts.values()
