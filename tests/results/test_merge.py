# SPDX-License-Identifier: BSD-2-Clause
"""What a run that did not end well comes to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from nvmmconf.results import (
    Ended,
    Planned,
    RecordWriter,
    ResultsError,
    RunHeader,
    Started,
    Verdict,
    find_runs,
    load_run,
    merge_run,
    save_run,
    worker_file,
)
from nvmmconf.results.codec import Record, encode

HEADER = RunHeader(
    "20260102T030405Z-ab12", "2026-01-02T03:04:05+00:00", "0.1", "", "lib", "asked", (), {}, (), 2
)
A, B, C = "pio/a@v1-svm", "pio/b@v1-svm", "hlt/c@v1-svm"


def plan(case: str) -> Planned:
    return Planned(case, "v1-svm", case.split("/")[0], "Does it.", ("A-EXIT-6",), f"x.py::{case}")


def started(case: str, worker: str = "gw0") -> Started:
    return Started(case, worker, "2026-01-02T03:04:06+00:00")


def ended(case: str, verdict: Verdict = Verdict.PASS, worker: str = "gw0") -> Ended:
    return Ended(case, worker, verdict, 0.25, "" if verdict is Verdict.PASS else f"{verdict} it")


def write(path: Path, *records: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode, records)))


def make(folder: Path, **workers: tuple[Record, ...]) -> Path:
    write(folder / "controller.jsonl", HEADER, plan(A), plan(B), plan(C))
    for worker, records in workers.items():
        write(folder / worker_file(worker), *records)
    return folder


def ends(folder: Path, crashed: Mapping[str, str] | None = None) -> dict[str, Ended]:
    run = merge_run(folder, crashed or {})
    assert [result.planned.case for result in run.results] == [A, B, C]
    assert all(result.ended.case == result.planned.case for result in run.results)
    return {result.planned.case: result.ended for result in run.results}


def test_every_planned_case_has_one_end(tmp_path: Path) -> None:
    make(tmp_path, gw0=(started(A), ended(A), started(C)), gw1=())
    found = ends(tmp_path)
    assert found[A] == ended(A)
    assert found[B].verdict is Verdict.MISSING
    assert found[B].message == "planned, but the run ended before it started"
    assert found[C].verdict is Verdict.CRASH
    assert found[C].message == "worker gw0 died in this case"
    assert found[C].worker == "gw0"


def test_the_controller_can_say_how_a_worker_died(tmp_path: Path) -> None:
    make(tmp_path, gw0=(started(A),))
    found = ends(tmp_path, {A: "killed by SIGSEGV", B: "killed in its setup"})
    assert found[A].message == "worker gw0 died in this case: killed by SIGSEGV"
    assert found[B].verdict is Verdict.CRASH
    assert found[B].message == "a worker died in this case: killed in its setup"


def test_a_death_after_the_end_was_written_is_no_pass(tmp_path: Path) -> None:
    failed = ended(B, Verdict.ERROR)
    make(tmp_path, gw0=(started(A), ended(A), started(B), failed))
    found = ends(tmp_path, {A: "killed by SIGKILL", B: "killed by SIGKILL"})
    assert found[A].verdict is Verdict.CRASH
    assert found[A].message == "worker gw0 died in this case: killed by SIGKILL"
    assert found[A].seconds == ended(A).seconds
    assert found[B] == failed


def test_the_most_severe_of_several_ends_wins(tmp_path: Path) -> None:
    for one, other in itertools.product(Verdict, repeat=2):
        make(tmp_path, gw0=(ended(A, one),), gw1=(ended(A, other, "gw1"),))
        assert ends(tmp_path)[A].verdict.severity == max(one.severity, other.severity)


def test_a_crash_is_not_hidden_by_another_workers_pass(tmp_path: Path) -> None:
    make(tmp_path, gw0=(started(A),), gw1=(started(A, "gw1"), ended(A, worker="gw1")))
    assert ends(tmp_path)[A].message == "worker gw0 died in this case"


def test_a_second_start_on_the_same_worker_is_seen(tmp_path: Path) -> None:
    make(tmp_path, gw0=(started(A), ended(A), started(A)))
    assert ends(tmp_path)[A].verdict is Verdict.CRASH


def test_a_tail_torn_at_any_byte_loses_at_most_the_last_record(tmp_path: Path) -> None:
    records = (started(A), ended(A), started(B), ended(B, Verdict.FAIL), started(C), ended(C))
    make(tmp_path, gw0=records)
    path = tmp_path / worker_file("gw0")
    whole = path.read_bytes()
    ends_of_lines = list(itertools.accumulate(len(encode(record)) for record in records))
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends_of_lines)
        found = ends(tmp_path)
        for position, case in enumerate((A, B, C)):
            if kept >= 2 * position + 2:
                assert found[case] == records[2 * position + 1]
            elif kept == 2 * position + 1:
                assert found[case].verdict is Verdict.CRASH
            else:
                assert found[case].verdict is Verdict.MISSING


def test_blocks_that_the_host_never_wrote_count_as_nothing(tmp_path: Path) -> None:
    make(tmp_path, gw0=(started(A), ended(A)))
    with (tmp_path / worker_file("gw0")).open("ab") as file:
        file.write(bytes(4096))
    assert ends(tmp_path)[A] == ended(A)


def test_a_writer_that_comes_back_drops_the_torn_tail(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / worker_file("gw0")
    path.write_bytes(encode(started(A)) + encode(ended(A))[:-9])
    with RecordWriter(path) as writer:
        writer.write(ended(A))
    assert path.read_bytes() == encode(started(A)) + encode(ended(A))
    assert ends(tmp_path)[A] == ended(A)


def test_a_record_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "worker-gw0.jsonl"
    writer = RecordWriter(path)
    written = b""
    for record in (HEADER, plan(A), started(A), ended(A)):
        writer.write(record)
        written += encode(record)
        assert path.read_bytes() == written
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("worker-gw0.jsonl", b"not json\n", "JSON"),
        ("worker-gw0.jsonl", b'{"record": "started", "case": "x"}\n', "missing fields"),
        ("worker-gw0.jsonl", encode(ended("pio/z@v1-svm")), "'pio/z@v1-svm' was not planned"),
        ("worker-gw0.jsonl", encode(started("pio/z@v1-svm")), "'pio/z@v1-svm' was not planned"),
        ("worker-gw0.jsonl", encode(plan(A)), "only starts and ends"),
        ("controller.jsonl", encode(plan(A)), "planned twice"),
        ("controller.jsonl", encode(HEADER), "only what it planned"),
        ("controller.jsonl", encode(ended(A)), "only what it planned"),
        ("controller.jsonl", b"\x1b[31m\n", "JSON"),
        ("controller.jsonl", b'{"record": "pla', "half-written"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, line: bytes, problem: str) -> None:
    make(tmp_path, gw0=(started(A), ended(A)))
    with (tmp_path / name).open("ab") as file:
        file.write(line)
    number = (tmp_path / name).read_bytes().rstrip(b"\n").count(b"\n") + 1
    with pytest.raises(ResultsError) as caught:
        merge_run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}:{number}: ")
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_malformed_line_in_the_middle_is_no_torn_tail(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / worker_file("gw0")
    path.write_bytes(encode(started(A)) + encode(ended(A))[:20] + b"\n" + encode(started(B)))
    with pytest.raises(ResultsError, match=r"worker-gw0\.jsonl:2: not a line of JSON"):
        merge_run(tmp_path)


def test_no_controller_file_or_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="No such file"):
        merge_run(tmp_path)
    (tmp_path / "controller.jsonl").touch()
    with pytest.raises(ResultsError, match="empty"):
        merge_run(tmp_path)
    write(tmp_path / "controller.jsonl", plan(A))
    with pytest.raises(ResultsError, match=r"controller\.jsonl:1: the first record is no header"):
        merge_run(tmp_path)


def test_a_run_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    make(tmp_path, gw0=(ended(A), ended(B), ended(C)))
    path = save_run(merge_run(tmp_path), tmp_path)
    whole = path.read_bytes()
    header_only = len(encode(HEADER))
    for size in range(len(whole)):
        if size == header_only:
            continue  # a run of no cases is a run
        path.write_bytes(whole[:size])
        with pytest.raises(ResultsError) as caught:
            load_run(tmp_path)
        assert caught.value.path == path
    path.write_bytes(whole)
    assert load_run(tmp_path) == merge_run(tmp_path)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ((HEADER, plan(A), started(A)), r"run\.jsonl:3: after the plan a run has only ends"),
        ((HEADER, plan(A), ended(B)), r"run\.jsonl:3: case 'pio/b@v1-svm' was not planned"),
        ((HEADER, plan(A), ended(A), ended(A)), r"run\.jsonl:4: case 'pio/a@v1-svm' ends twice"),
        ((HEADER, plan(A), ended(A), plan(B)), r"run\.jsonl:4: after the plan"),
        ((HEADER, plan(A), plan(B), ended(A)), r"run\.jsonl: half-written: 1 planned"),
        ((plan(A),), r"run\.jsonl:1: the first record is no header"),
    ],
)
def test_a_foreign_run_file(tmp_path: Path, records: tuple[Record, ...], problem: str) -> None:
    write(tmp_path / "run.jsonl", *records)
    with pytest.raises(ResultsError, match=problem):
        load_run(tmp_path / "run.jsonl")


def test_saving_replaces_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    make(tmp_path, gw0=(ended(A),))
    run = merge_run(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    save_run(run, tmp_path)
    save_run(run, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before | {"run.jsonl"}


def test_runs_are_found_newest_first_and_others_passed_over(tmp_path: Path) -> None:
    assert find_runs(tmp_path) == []
    names = ["20260102T030405Z-ab12", "20251231T235959Z-ffff", "20260102T030405Z-ac00"]
    for name in names:
        make(tmp_path / "runs" / name)
    (tmp_path / "runs" / "20270101T000000Z-0000").mkdir()  # nothing in it
    make(tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "20270101T000000Z-0001").write_text("a file")
    found = find_runs(tmp_path)
    assert [path.name for path in found] == sorted(names, reverse=True)
    assert all(load_run(path).header == HEADER for path in found)
