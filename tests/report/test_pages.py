# SPDX-License-Identifier: BSD-2-Clause
"""What the pages say, against what the run says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nvmmconf.report import write_report
from nvmmconf.results import CaseResult, ExitRow, GuestRun, InsnRow, Run, Verdict

from .pages import Element, parse
from .samples import CASES, LISTING, TARGETS, all_pass, guest_run, of_everything, sample_run


def index_of(tmp_path: Path, *runs: Run) -> Element:
    return parse(write_report(runs, tmp_path))


def matrix_of(tmp_path: Path, *runs: Run) -> Element:
    write_report(runs, tmp_path)
    return parse(tmp_path / f"runs/{runs[0].header.run_id}/matrix.html")


def case_rows(page: Element) -> list[Element]:
    tables = page.all("table", class_="cases")
    return [row for table in tables for row in table.all("tr") if "id" in row.attributes]


def with_guest(**changes: Any) -> Run:
    """A run of one case with one guest."""
    run = sample_run(choose=all_pass)
    first = run.results[0]
    guest = guest_run(**{"rip": 0x100B, **changes})
    end = dataclasses.replace(first.ended, verdict=Verdict.FAIL, runs=(guest,))
    return Run(run.header, (CaseResult(first.planned, end),))


def only_case_page(tmp_path: Path, run: Run) -> Element:
    write_report([run], tmp_path)
    matrix = tmp_path / "runs" / run.header.run_id / "matrix.html"
    (link,) = parse(matrix).all("a", class_="v")
    return parse(matrix.parent / link.attributes["href"])


def case_page(tmp_path: Path, name: str, target: str, run: Run | None = None) -> Element:
    """The page that the cell of `name` and `target` leads to."""
    run = run or sample_run()
    page = matrix_of(tmp_path, run)
    (row,) = [row for row in case_rows(page) if row.one("a", class_="name").text == name]
    cell = row.all("td")[[t.name for t in TARGETS].index(target)]
    return parse(tmp_path / "runs" / run.header.run_id / cell.one("a").attributes["href"])


def test_a_row_per_case_and_a_column_per_target(tmp_path: Path) -> None:
    page = matrix_of(tmp_path, sample_run())
    for table in page.all("table", class_="cases"):
        heads = table.one("thead").all("th")
        assert [head.words for head in heads] == ["Case", "NVMM v1v1-svm", "NVMM v2v2-svm"]
        assert all(len(head.all("br")) == 1 for head in heads[1:])
    rows = case_rows(page)
    shown = {
        (row.one("a", class_="name").text, target.name): cell.words
        for row in rows
        for target, cell in zip(TARGETS, row.all("td"), strict=True)
    }
    assert len(rows) == len(CASES)
    assert shown == {
        (name, target.name): of_everything(name, target.name).value
        for name, _, _ in CASES
        for target in TARGETS
    }


def test_failures_come_first_and_the_rest_in_plan_order(tmp_path: Path) -> None:
    rows = [row for row in case_rows(matrix_of(tmp_path, sample_run())) if "is:bad" in words(row)]
    severity = []
    for row in rows:
        shown = [cell.words for cell in row.all("td")]
        severity.append(max(Verdict(word).severity for word in shown))
    assert severity == sorted(severity, reverse=True)
    assert len(severity) == 5


def words(row: Element) -> list[str]:
    return row.attributes["data-find"].split()


def test_what_is_as_required_is_folded_by_area(tmp_path: Path) -> None:
    folds = matrix_of(tmp_path, sample_run()).all("details", class_="area")
    assert all("open" not in fold.attributes for fold in folds)
    shown = {
        fold.one("h3").words: [row.one("a", class_="name").text for row in case_rows(fold)]
        for fold in folds
    }
    assert shown == {
        "pio": ["pio/out[long64]", "pio/out[real16]", "pio/rep-outs[real16]"],
        "shutdown": ["shutdown/triple[long64]"],
    }
    assert "3 cases, 1 more above" in folds[0].one("summary").words


def test_the_first_sentences_count_right(tmp_path: Path) -> None:
    lead = index_of(tmp_path, sample_run()).one("p", class_="lead").words
    assert lead == (
        "9 cases on NVMM v1 (v1-svm) and NVMM v2 (v2-svm): 18 results. 7 not as required "
        "(1 missing, 1 error, 1 crash, 1 hang and 3 fail); 10 passed; "
        "1 could not be checked (unsupported)."
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.PASS, "All passed."),
        (Verdict.UNSUPPORTED, "18 could not be checked (unsupported)."),
        (Verdict.CRASH, "18 not as required (18 crash)."),
    ],
)
def test_how_a_uniform_run_ended(tmp_path: Path, verdict: Verdict, words: str) -> None:
    page = index_of(tmp_path, sample_run(choose=lambda name, target: verdict))
    assert page.one("p", class_="lead").one("strong").words == words


def test_the_matrix_counts_by_area_and_target(tmp_path: Path) -> None:
    table = index_of(tmp_path, sample_run()).one("table", class_="matrix")
    assert {
        row.all("th")[0].words: [cell.words for cell in row.all("td")]
        for row in table.all("tr")[1:]
    } == {
        "hlt": ["1 hang 1 fail 1 pass", "2 fail 1 pass"],
        "pio": ["1 unsupported 3 pass", "1 crash 3 pass"],
        "shutdown": ["1 error 1 pass", "1 missing 1 pass"],
        "all areas": [
            "1 error 1 hang 1 fail 1 unsupported 5 pass",
            "1 missing 1 crash 2 fail 5 pass",
        ],
    }


def test_the_legend_has_every_verdict_in_words(tmp_path: Path) -> None:
    rows = index_of(tmp_path, sample_run()).one("table", class_="legend").one("tbody").all("tr")
    assert [row.all("th")[0].words for row in rows] == [verdict.value for verdict in Verdict]
    assert all(len(row.all("td")[0].words) > 20 for row in rows)
    assert [row.all("td")[1].words for row in rows] == [
        "10",
        "0",
        "1",
        "0",
        "0",
        "3",
        "1",
        "1",
        "1",
        "1",
    ]


def test_the_environment_is_all_there(tmp_path: Path) -> None:
    run = sample_run(faults=("hlt-rip-not-advanced", "io-twice"))
    text = index_of(tmp_path, run).words
    header = run.header
    for word in (
        header.run_id, header.suite_version, header.suite_revision, header.library,
        header.library_reason, *header.arguments, *header.faults, *header.host,
        *header.host.values(), *TARGETS[0].capability, *TARGETS[0].capability.values(),
        "2026-11-22 10:15:00 UTC",
    ):  # fmt: skip
        assert word in text


def test_seeded_faults_are_announced_on_every_page_of_their_run_and_on_no_other(
    tmp_path: Path,
) -> None:
    runs = [sample_run(), sample_run("20261121T101500Z-0001", faults=("hlt-rip-not-advanced",))]
    write_report(runs, tmp_path)
    for path in tmp_path.rglob("*.html"):
        banners = parse(path).all("div", role="note")
        if "20261121T101500Z-0001" in path.parts:
            assert "hlt-rip-not-advanced" in banners[0].words
        else:
            assert banners == []


def test_anchors_depend_on_the_case_alone(tmp_path: Path) -> None:
    def anchors(run: Run, folder: str) -> dict[str, str]:
        rows = case_rows(matrix_of(tmp_path / folder, run))
        return {row.one("a", class_="name").text: row.attributes["id"] for row in rows}

    whole = anchors(sample_run(), "a")
    part = anchors(Run(sample_run(choose=all_pass).header, sample_run().results[4:7]), "b")
    assert part.items() <= whole.items()
    assert all(anchor.startswith("case-") for anchor in whole.values())
    assert len(set(whole.values())) == len(whole)


def test_all_runs_are_listed_newest_first(tmp_path: Path) -> None:
    runs = [sample_run(), sample_run("20261121T101500Z-0001", all_pass)]
    rows = index_of(tmp_path, *runs).one("table", class_="runs").one("tbody").all("tr")
    assert [row.one("a").text for row in rows] == [run.header.run_id for run in runs]
    assert rows[1].all("td")[-1].words == "18 pass"


def test_no_runs_at_all(tmp_path: Path) -> None:
    assert "There are no runs yet." in index_of(tmp_path).words


def test_a_run_of_nothing(tmp_path: Path) -> None:
    page = index_of(tmp_path, Run(sample_run().header))
    assert "Nothing was planned" in page.one("p", class_="lead").words


def test_a_case_that_was_not_planned_for_a_target(tmp_path: Path) -> None:
    run = sample_run(choose=all_pass)
    (row,) = case_rows(matrix_of(tmp_path, Run(run.header, run.results[:1])))
    assert [cell.words for cell in row.all("td")] == ["pass", "not planned"]


def test_a_target_that_the_header_forgot_has_a_column(tmp_path: Path) -> None:
    run = sample_run(choose=all_pass)
    header = dataclasses.replace(run.header, targets=TARGETS[:1])
    page = matrix_of(tmp_path, Run(header, run.results))
    assert all(len(row.all("td")) == 2 for row in case_rows(page))


def test_a_failed_case_says_what_was_wanted_and_what_was_got(tmp_path: Path) -> None:
    page = case_page(tmp_path, "hlt/halts[real16]", "v1-svm")
    assert page.one("h1").words == "HLT with nothing pending halts the vCPU."
    assert page.one("p", class_="message").words == (
        "RIP after HLT: wanted 0x100b <after_hlt>, got 0x100a <wait_here+1>"
    )
    (row,) = page.one("table", class_="comparisons").one("tbody").all("tr")
    assert row.one("th").words == "run.rip == run.symbol('after_hlt')"
    assert row.one("code", class_="wanted").words == "0x100b <after_hlt>"
    assert row.one("code", class_="got").words == "0x100a <wait_here+1>"
    requirements = page.one("table", class_="requirements").one("tbody").all("tr")
    assert [row.all("th")[0].words for row in requirements] == ["K-HLT-1", "A-EXIT-6"]
    assert requirements[0].all("td")[0].words == "HLT exits HALTED with RIP after it."
    assert requirements[0].all("td")[1].words == "S,X exit_hlt"
    assert (
        page.one("code", id="rerun").text == "pytest 'cases/test_hlt.py::test_halts[real16-v1-svm]'"
    )
    assert "AssertionError" in page.text


def test_an_unknown_requirement_is_named_all_the_same(tmp_path: Path) -> None:
    table = case_page(tmp_path, "shutdown/triple[real16]", "v1-svm").one(
        "table", class_="requirements"
    )
    assert "K-SHUT-9 not in this run's tables" in " ".join(e.words for e in table.all())


def test_the_rerun_command_brings_back_faults_and_library(tmp_path: Path) -> None:
    run = sample_run(faults=("hlt-rip-not-advanced", "b"))
    header = dataclasses.replace(
        run.header, arguments=("-n", "2", "--nvmm-lib", "/tmp/it's here.so", "cases")
    )
    page = case_page(tmp_path, "hlt/halts[real16]", "v1-svm", Run(header, run.results))
    assert page.one("code", id="rerun").text == (
        "NVMM_SOFT_FAULT='hlt-rip-not-advanced,b' pytest --nvmm-lib '/tmp/it'\"'\"'s here.so' "
        "'cases/test_hlt.py::test_halts[real16-v1-svm]'"
    )


def test_cases_are_chained_in_the_order_of_the_table(tmp_path: Path) -> None:
    matrix = matrix_of(tmp_path, sample_run())
    links = [link for row in case_rows(matrix) for link in row.all("a", class_="v")]
    cells = [link for link in links if "#" not in link.attributes["href"]]
    assert [link.words for link in links if link not in cells] == ["missing", "unsupported"]
    order = [Path(link.attributes["href"]).name for link in cells]
    bad = [Path(link.attributes["href"]).name for link in cells if not Verdict(link.words).is_good]
    folder = tmp_path / "runs" / sample_run().header.run_id

    def walk(start: str, words: str) -> list[str]:
        found = [start]
        while True:
            links = [a for a in parse(folder / found[-1]).all("a") if a.words == words]
            if not links:
                return found
            after = links[0].attributes["href"]
            assert after not in found
            found.append(after)

    assert walk(order[0], "Next case") == order
    assert walk(order[-1], "Previous case") == order[::-1]
    assert walk(bad[0], "Next failure") == bad
    assert walk(order[-1], "Previous failure") == bad[::-1]


def test_a_case_leads_to_the_same_case_elsewhere_and_back(tmp_path: Path) -> None:
    page = case_page(tmp_path, "hlt/resumes[real16]", "v1-svm")
    (other,) = page.all("span", class_="other")
    assert other.words == "v2-svm pass"
    back = [link.attributes["href"] for link in page.all("a")]
    anchor = next(
        row.attributes["id"]
        for row in case_rows(matrix_of(tmp_path, sample_run()))
        if "hlt/resumes[real16]" in row.text
    )
    assert f"matrix.html#{anchor}" in back
    assert any(link.startswith("area-hlt-") and link.endswith(f"#{anchor}") for link in back)


def listing_rows(page: Element) -> list[Element]:
    return page.one("table", class_="listing").one("tbody").all("tr")


def marked(page: Element) -> list[str]:
    return [row.words for row in listing_rows(page) if "RIP at the end" in row.text]


@pytest.mark.parametrize("insn", LISTING, ids=lambda insn: f"{insn.address:#x}")
def test_the_final_rip_is_marked_where_it_is(tmp_path: Path, insn: InsnRow) -> None:
    page = only_case_page(tmp_path, with_guest(rip=insn.address))
    (row,) = page.all("tr", class_="rip")
    assert row.one("th").words == f"{insn.address:#x}"
    assert "← RIP at the end" in row.words
    assert insn.text in row.words
    assert row.attributes["aria-label"] == "The final RIP is here"
    assert len(marked(page)) == 1
    (link,) = page.one("dl", class_="facts").all("a")
    assert link.attributes["href"] == f"#{row.attributes['id']}"


def test_a_final_rip_inside_an_instruction(tmp_path: Path) -> None:
    (row,) = marked(only_case_page(tmp_path, with_guest(rip=0x1014)))
    assert row.startswith("0x100b")
    assert "0x1014, is inside this instruction" in row


def test_what_the_libnvmm_could_not_do_is_told(tmp_path: Path) -> None:
    """Or a reader takes the model's gap for the target's defect."""
    page = only_case_page(tmp_path / "a", with_guest(note="it lacks <fadd>"))
    assert "The libnvmm says: it lacks <fadd>." in page.words
    assert "The libnvmm says" not in only_case_page(tmp_path / "b", with_guest()).words


def test_a_final_rip_elsewhere_or_nowhere(tmp_path: Path) -> None:
    page = only_case_page(tmp_path / "a", with_guest(rip=0xFFF0))
    assert marked(page) == []
    assert "The final RIP, 0xfff0, is not in this listing." in page.words
    page = only_case_page(tmp_path / "b", with_guest(rip=None))
    assert marked(page) == []
    assert "the guest never got that far" in page.words


def test_labels_and_exits_stand_at_their_instructions(tmp_path: Path) -> None:
    page = only_case_page(tmp_path, with_guest())
    texts = [row.words for row in listing_rows(page)]
    position = texts.index("_start:")
    assert texts[position + 1].startswith("0x1000mov dx, 0xe9")
    assert sum("exit 4 IO" in text for text in texts) == 1
    assert "out dx, al" in next(text for text in texts if "exit 4 IO" in text)


def test_the_trace_says_what_was_not_kept(tmp_path: Path) -> None:
    page = only_case_page(tmp_path / "a", with_guest())
    rows = page.one("table", class_="trace").one("tbody").all("tr")
    assert [row.one("th").words for row in rows] == ["4", "5", "6"]
    assert [cell.words for cell in rows[0].all("td")] == [
        "IO",
        "0x1005",
        "OUT port 0xe9, 1 byte: 0x68",
    ]
    assert "3 older exits were not kept." in page.words
    assert (
        "1 older exit was not kept." in only_case_page(tmp_path / "b", with_guest(dropped=1)).words
    )
    assert "not kept" not in only_case_page(tmp_path / "c", with_guest(dropped=0)).words
    page = only_case_page(tmp_path / "d", with_guest(dropped=0, trace=()))
    assert "There were no exits." in page.words


def test_the_console_is_shown_with_its_controls_visible(tmp_path: Path) -> None:
    page = only_case_page(tmp_path, with_guest(console="\na\x1b[31m\r\nb\0\u202e\udc80\\x1b\n"))
    shown = page.one("pre", class_="console")
    assert shown.text == "\n\na\\x1b[31m\nb\\x00\\u202e\\udc80\\x1b\n"
    assert [e.text for e in shown.all("span")] == ["\\x1b", "\\x00", "\\u202e", "\\udc80"]


def test_registers_are_all_there(tmp_path: Path) -> None:
    run = with_guest()
    shown = only_case_page(tmp_path, run).one("dl", class_="registers")
    pairs = zip(shown.all("dt"), shown.all("dd"), strict=True)
    assert {name.text: value.text for name, value in pairs} == run.results[0].ended.runs[
        0
    ].registers


def test_a_huge_guest_makes_a_page_of_bounded_size(tmp_path: Path) -> None:
    huge = with_guest(
        rip=9000,
        console="x" * 1_000_000,
        trace=tuple(ExitRow(n, "IO", f"{n:#x}", "d") for n in range(1, 20_001)),
        listing=tuple(InsnRow(n, "90", "nop") for n in range(10_000)),
    )
    page = only_case_page(tmp_path, huge)
    assert "The last 20,000 of 1,000,000 characters are shown." in page.words
    assert "The last 200 of 20,000 kept exits are shown." in page.words
    assert "120 of 10,000 instructions are shown, from number 8,941." in page.words
    (row,) = marked(page)
    assert row.startswith(f"{9000:#x}")


def test_two_boots_in_one_case(tmp_path: Path) -> None:
    run = with_guest()
    guests: tuple[GuestRun, ...] = (guest_run(0x100A), guest_run(0x100B, mode="long64"))
    end = dataclasses.replace(run.results[0].ended, verdict=Verdict.FAIL, runs=guests)
    page = only_case_page(tmp_path, Run(run.header, (CaseResult(run.results[0].planned, end),)))
    heads = [section.all("h2")[0].words for section in page.all("section", class_="guest")]
    assert heads == ["Guest hlt, real16 (boot 1 of 2)", "Guest hlt, long64 (boot 2 of 2)"]


@pytest.mark.parametrize(
    ("encoding", "words"), [("0f0b", "0f 0b"), ("66 90", "66 90"), ("(bad)", "(bad)"), ("", "")]
)
def test_bytes_stand_apart(tmp_path: Path, encoding: str, words: str) -> None:
    page = only_case_page(tmp_path, with_guest(listing=(InsnRow(0x1000, encoding, "x"),)))
    assert page.one("code", class_="bytes").text == words
