# SPDX-License-Identifier: BSD-2-Clause
"""JUnit XML and TAP 14, by their own readers and by the words of their definitions."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from nvmmconf.report.export import junit, tap
from nvmmconf.results import CaseResult, Run, Verdict

from .samples import all_pass, sample_run
from .test_hostile import HOSTILE, with_text


def with_known() -> Run:
    """Something of everything, and one each of known, fixed and observed."""
    run = sample_run()
    results = list(run.results)
    passes = [n for n, one in enumerate(results) if one.ended.verdict is Verdict.PASS]
    for n, verdict in zip(passes, (Verdict.KNOWN, Verdict.FIXED, Verdict.OBSERVED), strict=False):
        planned = dataclasses.replace(results[n].planned, known="BH-7: so it is")
        ended = dataclasses.replace(results[n].ended, verdict=verdict, message="it was so")
        results[n] = CaseResult(planned, ended)
    return Run(run.header, tuple(results))


def test_junit_keeps_expected_failures_apart() -> None:
    root = ElementTree.fromstring(junit(with_known()))
    kinds = Counter(
        (child.tag, child.get("type")) for case in root.iter("testcase") for child in case
    )
    assert kinds == {
        ("skipped", "known"): 1, ("skipped", "observed"): 1, ("skipped", "unsupported"): 1,
        ("failure", "fixed"): 1, ("failure", "fail"): 3, ("failure", "hang"): 1,
        ("error", "crash"): 1, ("error", "error"): 1, ("error", "missing"): 1,
    }  # fmt: skip
    (known,) = [one for one in root.iter("skipped") if one.get("type") == "known"]
    assert known.get("message") == "known (BH-7: so it is): it was so"


def test_junit_counts_what_is_there() -> None:
    for suite in ElementTree.fromstring(junit(with_known())):
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for attribute, tag in [
            ("failures", "failure"), ("errors", "error"), ("skipped", "skipped"),
        ]:  # fmt: skip
            assert suite.get(attribute) == str(len(suite.findall(f"testcase/{tag}")))


@pytest.mark.parametrize("evil", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_well_formed_everywhere(evil: str) -> None:
    run = with_text(with_known(), lambda text: f"{text} {evil}")
    root = ElementTree.fromstring(junit(run))
    assert len(list(root.iter("testcase"))) == 18
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase",
        "failure", "error", "skipped",
    }  # fmt: skip
    lines = tap(run).split("\n")
    assert len([line for line in lines if re.match(r"(not )?ok \d+ - ", line)]) == 18
    assert all(re.match(r"TAP version 14$|1\.\.18$|(not )?ok \d+ |  \S|$", one) for one in lines)


def test_tap_numbers_directives_and_diagnostics() -> None:
    run = with_known()
    text = tap(run)
    assert text.startswith("TAP version 14\n1..18\n")
    points = re.findall(r"^(ok|not ok) (\d+) - (.*?)(?: # (TODO|SKIP) .*)?$", text, re.MULTILINE)
    assert [int(number) for _, number, _, _ in points] == list(range(1, 19))
    for (status, _, name, directive), one in zip(points, run.results, strict=True):
        verdict = one.ended.verdict
        assert name == one.planned.case
        # A harness goes red for a "not ok" that is no TODO, and for nothing else.
        red = status == "not ok" and directive != "TODO"
        assert red == (not verdict.is_good)
        assert (directive == "SKIP") == (verdict is Verdict.UNSUPPORTED)
    assert text.count("\n  ---\n") == text.count("\n  ...\n") == 10


def test_all_pass_has_no_diagnostics() -> None:
    assert "---" not in tap(sample_run(choose=all_pass))
    assert b"<failure" not in junit(sample_run(choose=all_pass))
