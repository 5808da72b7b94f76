# SPDX-License-Identifier: BSD-2-Clause
"""What is written is what is read, for any records at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.results import (
    CaseResult,
    Ended,
    Planned,
    RecordWriter,
    Run,
    Started,
    Verdict,
    judged,
    load_run,
    merge_run,
    save_run,
    worker_file,
)
from nvmmconf.results.codec import RecordError, decode, encode

from .records_strategy import any_text, headers, plans, record


@given(st.one_of(headers, record(Planned), record(Started), record(Ended)))
def test_a_record_survives_its_line(made: Any) -> None:
    line = encode(made)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == made


@st.composite
def finished_runs(draw: st.DrawFn) -> Run:
    return Run(
        draw(headers),
        tuple(
            CaseResult(planned, draw(record(Ended, case=st.just(planned.case))))
            for planned in draw(plans)
        ),
    )


def as_judged(result: CaseResult) -> CaseResult:
    return CaseResult(result.planned, judged(result.planned, result.ended))


@given(finished_runs(), st.data())
def test_write_merge_save_load(run: Run, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "deep", "run")
        with RecordWriter(folder / "controller.jsonl", durable=False) as controller:
            controller.write(run.header)
            for result in run.results:
                controller.write(result.planned)
        for result in data.draw(st.permutations(run.results)):
            worker = data.draw(st.sampled_from(["gw0", "gw1"]))
            with RecordWriter(folder / worker_file(worker), durable=False) as writer:
                writer.write(Started(result.planned.case, worker, "now"))
                writer.write(result.ended)
        merged = merge_run(folder)
        run = Run(run.header, tuple(map(as_judged, run.results)))
        assert merged == run
        assert load_run(folder) == run  # not merged on disk yet
        path = save_run(merged, folder)
        assert path == folder / "run.jsonl"
        assert load_run(path) == load_run(folder) == run
        kinds = [json.loads(line)["record"] for line in path.read_bytes().splitlines()]
        size = len(run.results)
        assert kinds == ["header"] + size * ["planned"] + size * ["ended"]


@given(st.one_of(headers, record(Planned), record(Started), record(Ended)), st.data())
def test_a_field_too_many_or_too_few_is_an_error(made: Any, data: st.DataObject) -> None:
    fields = json.loads(encode(made))
    wrong = dict(fields)
    if data.draw(st.booleans()):
        wrong[data.draw(any_text.filter(lambda name: name not in fields))] = "x"
    else:
        del wrong[data.draw(st.sampled_from(sorted(fields)))]
    with pytest.raises(RecordError):
        decode(json.dumps(wrong).encode())


JSON_KINDS: tuple[Any, ...] = (None, True, 1, 1.5, "text", [], {}, [1], {"a": 1}, [[]], [{}])


@given(st.one_of(headers, record(Planned), record(Started), record(Ended)), st.data())
def test_a_value_of_another_type_is_an_error(made: Any, data: st.DataObject) -> None:
    fields = json.loads(encode(made))
    name = data.draw(st.sampled_from(sorted(set(fields) - {"record"})))
    value = data.draw(st.sampled_from(JSON_KINDS))
    fields[name] = value
    try:
        back = decode(json.dumps(fields).encode())
    except RecordError:
        return
    # What is accepted is what it says: nothing was converted on the way.
    accepted = json.loads(encode(back))[name]
    assert accepted == value
    assert type(accepted) is type(value) or name == "seconds"


def test_numbers_that_json_lacks_are_refused_on_both_sides() -> None:
    ended = Ended("case", "gw0", Verdict.PASS, float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        encode(ended)
    line = encode(Ended("case", "gw0", Verdict.PASS, 1.5))
    for number in (b"NaN", b"Infinity", b"1e999", b"1" + 400 * b"0", b"1" + 5000 * b"0", b"true"):
        with pytest.raises(RecordError):
            decode(line.replace(b"1.5", number))
    seconds = decode(line.replace(b"1.5", b"2"))
    assert isinstance(seconds, Ended)
    assert type(seconds.seconds) is float


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"\0\0\0", b"{}", b'{"record": 3}', b"[" * 100_000],
)
def test_a_line_of_something_else_is_an_error(line: bytes) -> None:
    with pytest.raises(RecordError):
        decode(line)


def test_another_format_is_named_before_its_fields_are_looked_at() -> None:
    with pytest.raises(RecordError, match=r"record format 3; this nvmmconf reads 2"):
        decode(b'{"record": "header", "format": 3, "whatever": []}')
