# SPDX-License-Identifier: BSD-2-Clause
"""A run as JUnit XML and as TAP 14, for the tools that read those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.etree import ElementTree

from nvmmconf.report.text import visible
from nvmmconf.results import CaseResult, Run, Verdict
from nvmmconf.results.summary import case_name, targets

_SKIPPED = (Verdict.OBSERVED, Verdict.UNSUPPORTED, Verdict.KNOWN)
_ERRORS = (Verdict.CRASH, Verdict.ERROR, Verdict.MISSING)


def junit(run: Run) -> bytes:
    """`run` as JUnit XML, a test suite a target.

    What is expected to fail is `skipped` with its verdict as type, so that it is
    neither among the passed nor among the failed; `fixed` is a failure.
    """
    root = ElementTree.Element("testsuites", name="nvmmconf")
    for target in targets(run):
        results = [one for one in run.results if one.planned.target == target.name]
        _suite(root, run, target.name, results)
    ElementTree.indent(root, " ")
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _suite(root: ElementTree.Element, run: Run, target: str, results: list[CaseResult]) -> None:
    verdicts = [one.ended.verdict for one in results]
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=visible(target),
        timestamp=visible(run.header.started_at.partition("+")[0].partition("Z")[0]),
        hostname=visible(run.header.host.get("host", "")),
        tests=str(len(results)),
        failures=str(sum(not v.is_good and v not in _ERRORS for v in verdicts)),
        errors=str(sum(v in _ERRORS for v in verdicts)),
        skipped=str(sum(v in _SKIPPED for v in verdicts)),
        time=f"{sum(one.ended.seconds for one in results):.6f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("run", run.header.run_id),
        ("library", run.header.library),
        ("revision", run.header.suite_revision),
        ("faults", ",".join(run.header.faults)),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=visible(value))
    for one in results:
        _testcase(suite, one)


def _testcase(suite: ElementTree.Element, one: CaseResult) -> None:
    ended, planned = one.ended, one.planned
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=visible(planned.area),
        name=visible(planned.case),
        time=f"{ended.seconds:.6f}",
    )
    if ended.verdict is Verdict.PASS:
        return
    kind = "failure"
    if ended.verdict in _SKIPPED:
        kind = "skipped"
    elif ended.verdict in _ERRORS:
        kind = "error"
    message = ended.message
    if ended.verdict is Verdict.KNOWN:
        message = f"{one.expectation}: {message}"
    told = ElementTree.SubElement(case, kind, type=ended.verdict.value, message=visible(message))
    if kind != "skipped":
        told.text = visible(ended.details, keep="\n\t")


def tap(run: Run) -> str:
    """`run` as TAP 14: what is known or only observed is TODO, what is unsupported SKIP."""
    return "".join(f"{line}\n" for line in _tap_lines(run))


def _tap_lines(run: Run) -> Iterator[str]:
    yield "TAP version 14"
    yield f"1..{len(run.results)}"
    for number, one in enumerate(run.results, start=1):
        ended = one.ended
        passed = ended.verdict in (Verdict.PASS, Verdict.UNSUPPORTED)
        line = f"{'ok' if passed else 'not ok'} {number} - {_tap_text(one.planned.case)}"
        if ended.verdict is Verdict.UNSUPPORTED:
            line += f" # SKIP {_tap_text(ended.message)}"
        elif ended.verdict is Verdict.KNOWN:
            line += f" # TODO {_tap_text(one.expectation)}"
        elif ended.verdict is Verdict.OBSERVED:
            line += f" # TODO observed: {_tap_text(ended.message)}"
        yield line
        if ended.verdict in (Verdict.PASS, Verdict.UNSUPPORTED):
            continue
        yield "  ---"
        yield f"  verdict: {ended.verdict.value}"
        # A string of JSON is one of YAML.
        yield f"  message: {json.dumps(visible(ended.message))}"
        yield f"  case: {json.dumps(visible(case_name(one.planned)))}"
        yield f"  seconds: {ended.seconds}"
        for comparison in ended.comparisons[:1]:
            yield f"  wanted: {json.dumps(visible(comparison.expected))}"
            yield f"  got: {json.dumps(visible(comparison.observed))}"
        yield "  ..."


def _tap_text(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace("#", "\\#")
