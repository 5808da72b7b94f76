# SPDX-License-Identifier: BSD-2-Clause
"""The history: a run is there once, whatever is done twice; what is no history is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from report.samples import all_pass, sample_run

from nvmmconf.results import ResultsError, Run, Verdict, save_run
from nvmmconf.results.history import HISTORY_FILE, History
from nvmmconf.results.summary import count

OLDER = "20261121T101500Z-0001"


def test_what_goes_in_comes_out() -> None:
    run = sample_run()
    with History(None) as history:
        assert history.add(run)
        (past,) = history.runs()
        outcomes = history.outcomes(run.header.run_id)
    assert past.header == run.header
    assert past.total == count(run.results)
    for target in run.header.targets:
        mine = [one for one in run.results if one.planned.target == target.name]
        assert past.counts[target.name] == count(mine)
    assert {case: (one.verdict, one.message) for case, one in outcomes.items()} == {
        one.planned.case: (one.ended.verdict, one.ended.message) for one in run.results
    }


def test_the_same_run_twice_is_one_run_and_a_changed_one_takes_its_place() -> None:
    with History(None) as history:
        assert history.add(sample_run())
        assert not history.add(sample_run())
        assert history.add(sample_run(choose=all_pass))
        (past,) = history.runs()
    assert dict(past.total.of) == {Verdict.PASS: 18}


def test_runs_are_newest_first_and_the_digest_tells_them_apart() -> None:
    with History(None) as history:
        history.add(sample_run())
        history.add(sample_run(OLDER))
        newest, older = history.runs()
    assert older.header.run_id == OLDER
    assert newest.digest != older.digest


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    """A run file that cannot be read any more is not looked at, as long as it is as it was."""
    folder = tmp_path / "runs" / OLDER
    path = save_run(sample_run(OLDER), folder)
    with History(tmp_path / HISTORY_FILE) as history:
        assert history.sync(tmp_path) == []
    path.chmod(0)
    stat = path.stat()
    with History(tmp_path / HISTORY_FILE) as history:
        assert history.sync(tmp_path) == []
        path.chmod(0o600)
        path.write_bytes(b"spoilt\n")
        assert path.stat().st_size != stat.st_size
        (problem,) = history.sync(tmp_path)
    assert str(path) in problem


def test_verdicts_stay_when_records_go_and_go_when_forgotten(tmp_path: Path) -> None:
    path = save_run(sample_run(OLDER), tmp_path / "runs" / OLDER)
    with History(tmp_path / HISTORY_FILE) as history:
        history.sync(tmp_path)
        path.unlink()
        history.sync(tmp_path)
        assert len(history.outcomes(OLDER)) == 18
        history.forget(OLDER)
        assert history.runs() == ()
        assert history.outcomes(OLDER) == {}


def test_verdicts_of_several_runs_by_case() -> None:
    first = sample_run(OLDER, all_pass)
    second = Run(sample_run().header, sample_run().results[:1])
    with History(None) as history:
        history.add(first)
        history.add(second)
        found = history.verdicts([OLDER, second.header.run_id])
    case = second.results[0].planned.case
    assert found[case] == ((0, Verdict.PASS), (1, Verdict.FAIL))
    assert all(line == ((0, Verdict.PASS),) for name, line in found.items() if name != case)


def test_a_text_that_no_encoding_writes_is_kept() -> None:
    run = sample_run("20261122T101500Z-\udc80")
    with History(None) as history:
        history.add(run)
        assert history.runs()[0].header == run.header
        assert len(history.outcomes(run.header.run_id)) == 18


@pytest.mark.parametrize("content", [b"something else", b"SQLite format 3\0spoilt" + bytes(200)])
def test_what_is_no_database_is_told_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / HISTORY_FILE
    path.write_bytes(content)
    told(path)
    assert path.read_bytes() == content


def test_somebody_else_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE runs (mine TEXT)")
    before = path.read_bytes()
    told(path)
    assert path.read_bytes() == before


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    with History(path):
        pass
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    told(path, "99")


def told(path: Path, *words: str) -> None:
    with pytest.raises(ResultsError) as caught:
        History(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)
