# SPDX-License-Identifier: BSD-2-Clause
"""Traces as data: registers that changed, files, comparing, printing."""

from __future__ import annotations

import dataclasses
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.abi import EventType, ExitReason, Gpr, Prot, Segment
from nvmmconf.nvmm import (
    BareExit,
    Exit,
    ExitState,
    InsnExit,
    InvalidExit,
    IoExit,
    MemoryExit,
    RdmsrExit,
    WrmsrExit,
)
from nvmmconf.trace import (
    Event,
    Trace,
    TracedExit,
    TraceFileError,
    first_difference,
    line,
    lines,
    load_trace,
    save_trace,
)
from nvmmconf.trace.image import registers_of

U64 = st.integers(0, 2**64 - 1)
STATE = ExitState(0x202, 3, True, False, True, False)
HALT = BareExit(ExitReason.HALTED, STATE)
NONE = BareExit(ExitReason.NONE, STATE)
STOPPED = BareExit(ExitReason.STOPPED, STATE)


def out(port: int = 0xE9) -> IoExit:
    return IoExit(ExitReason.IO, STATE, False, port, None, 8, 1, False, False, 0x7C02)


STATES = st.builds(
    ExitState, U64, st.integers(0, 15), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)
EXITS: st.SearchStrategy[Exit] = st.one_of(
    st.builds(
        BareExit,
        st.one_of(
            st.sampled_from([ExitReason.NONE, ExitReason.SHUTDOWN, ExitReason.STOPPED]),
            st.just(0x7777),
        ),
        STATES,
    ),
    st.builds(
        MemoryExit,
        st.just(ExitReason.MEMORY),
        STATES,
        st.sampled_from([Prot.READ, Prot.WRITE, Prot.EXEC]),
        U64,
        st.binary(max_size=15),
    ),
    st.builds(
        IoExit,
        st.just(ExitReason.IO),
        STATES,
        st.booleans(),
        st.integers(0, 0xFFFF),
        st.one_of(st.none(), st.sampled_from(list(Segment)), st.just(100)),
        st.sampled_from([2, 4, 8]),
        st.sampled_from([1, 2, 4]),
        st.booleans(),
        st.booleans(),
        U64,
    ),
    st.builds(RdmsrExit, st.just(ExitReason.RDMSR), STATES, st.integers(0, 2**32 - 1), U64),
    st.builds(WrmsrExit, st.just(ExitReason.WRMSR), STATES, st.integers(0, 2**32 - 1), U64, U64),
    st.builds(InsnExit, st.just(ExitReason.MONITOR), STATES, U64),
    st.builds(InvalidExit, st.just(ExitReason.INVALID), STATES, U64),
)
TRACED = st.builds(
    TracedExit,
    st.integers(1, 10**9),
    st.integers(0, 255),
    st.one_of(st.none(), U64),
    EXITS,
    st.integers(0, 2**63),
    st.one_of(st.none(), st.builds(Event, st.sampled_from(list(EventType)), st.integers(0, 255))),
    st.one_of(st.none(), st.dictionaries(st.sampled_from(["RAX", "CR0", "XMM1"]), U64)),
)


def gprs(**values: int) -> bytes:
    """As libnvmm lays them out: eighteen 64-bit numbers (spec libnvmm 2.3)."""
    order = [
        "RAX",
        "RCX",
        "RDX",
        "RBX",
        "RSP",
        "RBP",
        "RSI",
        "RDI",
        "R8",
        "R9",
        "R10",
        "R11",
        "R12",
        "R13",
        "R14",
        "R15",
        "RIP",
        "RFLAGS",
    ]
    return struct.pack("<18Q", *(values.get(name, 0) for name in order))


def trace_of(*exits: tuple[int, Exit, Any]) -> tuple[TracedExit, ...]:
    trace = Trace()
    for vcpu, taken, image in exits:
        trace.record(vcpu, taken, image)
    return trace.exits


# ---- registers ---------------------------------------------------------------------------


def test_what_changed_since_the_vcpus_exit_before() -> None:
    first, other, second, third = trace_of(
        (0, out(), gprs(RAX=1, RIP=0x10)),
        (1, out(), gprs(RAX=9, RIP=0x99)),
        (0, out(), gprs(RAX=1, RBX=5, RIP=0x12)),
        (0, out(), gprs(RAX=1, RBX=5, RIP=0x12)),
    )
    assert first.changed is not None
    assert len(first.changed) == 18
    assert (first.rip, other.rip) == (0x10, 0x99)
    assert second.changed == {"RBX": 5, "RIP": 0x12}
    assert third.changed == {}


def test_an_exit_that_tells_no_registers() -> None:
    one, two = trace_of((0, HALT, None), (0, HALT, 0x7C00))
    assert (one.rip, one.changed) == (None, None)
    assert (two.rip, two.changed) == (0x7C00, None)


@given(data=st.binary(min_size=1008, max_size=1008))
@settings(deadline=None, max_examples=30)
def test_every_register_of_the_whole_state_by_its_offset(data: bytes) -> None:
    """The offsets of spec libnvmm section 3."""
    found = registers_of(data)

    def number(offset: int, size: int = 8) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    assert found["RAX"] == number(160)
    assert found["RIP"] == number(160 + 16 * 8)
    assert found["CS.selector"] == number(16, 2)
    assert found["TR.base"] == number(9 * 16 + 8)
    assert found["CR0"] == number(304)
    assert found["DR7"] == number(352 + 40)
    assert found["EFER"] == number(400)
    assert found["TSC"] == number(400 + 80)
    assert found["INTR"] == number(488)
    assert found["FCW"] == number(496, 2)
    assert found["MXCSR"] == number(496 + 24, 4)
    assert found["ST7"] == number(496 + 32 + 7 * 16, 10)
    assert found["XMM15"] == number(496 + 160 + 15 * 16, 16)
    assert len(found) == 18 + 40 + 6 + 6 + 11 + 1 + 8 + 8 + 16


def test_other_sizes_are_no_state() -> None:
    with pytest.raises(ValueError, match="1007 bytes"):
        registers_of(bytes(1007))


def test_threads_may_record_at_once() -> None:
    trace = Trace(keep=10**6)
    threads = [
        threading.Thread(target=lambda n=n: [trace.record(n, HALT) for _ in range(5000)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.sequence for one in trace.exits] == list(range(1, 20001))
    assert trace.dropped == 0


# ---- files -------------------------------------------------------------------------------


@given(exits=st.lists(TRACED, max_size=5), dropped=st.integers(0, 10**9))
@settings(deadline=None, max_examples=100)
def test_a_file_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, exits: list[TracedExit], dropped: int
) -> None:
    path = tmp_path_factory.mktemp("trace") / "a.jsonl"
    save_trace(path, exits, dropped)
    found = load_trace(path)
    assert (found.exits, found.dropped) == (tuple(exits), dropped)
    assert [one.time for one in found.exits] == [one.time for one in exits]
    for one, before in zip(found.exits, exits, strict=True):
        assert type(one.exit) is type(before.exit)
        assert type(one.exit.reason) is type(before.exit.reason)


def test_each_line_is_json_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save_trace(path, trace_of((0, out(), gprs(RIP=5))), 7)
    head, row = (json.loads(text) for text in path.read_text().splitlines())
    assert head == {"format": "nvmmconf trace", "version": 1, "dropped": 7}
    assert (row["rip"], row["exit"]["port"]) == (5, 0xE9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("not json\n", "line 1"),
        ('{"format": "other", "version": 1, "dropped": 0}\n', "format 'other'"),
        ('{"format": "nvmmconf trace", "version": 9, "dropped": 0}\n', "version 9"),
        ('{"format": "nvmmconf trace", "version": 1, "dropped": 0}\n{"sequence": 1}\n', "line 2"),
        ('{"format": "nvmmconf trace", "version": 1, "dropped": 0}\n[1]\n', "line 2"),
        ("[]\n", "line 1"),
    ],
)
def test_what_is_no_trace_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(TraceFileError, match=said) as raised:
        load_trace(path)
    assert str(path) in str(raised.value)


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save_trace(path, [], 3)
    with pytest.raises(TypeError):
        save_trace(path, [dataclasses.replace(TracedExit(1, 0, None, HALT), rip=object())])
    assert load_trace(path).dropped == 3
    assert list(tmp_path.iterdir()) == [path]


# ---- comparing ----------------------------------------------------------------------------


def test_equal_traces_have_no_difference() -> None:
    """The host's exits, the times and the interleaving do not count."""
    one = trace_of((0, out(), gprs(RIP=1)), (1, HALT, None), (0, HALT, None))
    two = trace_of(
        (1, NONE, None), (1, HALT, None), (0, STOPPED, None), (0, out(), gprs(RIP=1)),
        (0, NONE, None), (0, HALT, None),
    )  # fmt: skip
    assert first_difference(one, two) is None


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ((0, out(0xEA), gprs(RIP=2)), "port"),
        ((0, out(), gprs(RIP=3)), "rip"),
        ((0, out(), gprs(RIP=2, RAX=4)), "changed"),
        ((0, HALT, gprs(RIP=2)), "reason"),
        ((0, dataclasses.replace(out(), state=ExitState(2, 0, 0, 0, 0, 0)), gprs(RIP=2)), "state"),
    ],
)
def test_the_first_difference_and_what_it_is(changed: Any, what: str) -> None:
    same = (0, out(), gprs(RIP=1))
    plain = (0, out(), gprs(RIP=2))
    one = trace_of(same, plain, (0, HALT, None))
    two = trace_of(same, (0, NONE, None), changed, (0, HALT, None))
    found = first_difference(one, two)
    assert found is not None
    assert (found.vcpu, found.position) == (0, 1)
    assert what in found.what
    assert (found.first, found.second) == (one[1], two[2])
    assert len(str(found).splitlines()) == 3


def test_a_trace_that_ends_first() -> None:
    one = trace_of((0, out(), None), (0, HALT, None))
    found = first_difference(one, one[:1])
    assert found is not None
    assert (found.position, found.what, found.second) == (1, ("end",), None)
    assert "no more exits" in str(found)
    back = first_difference(one[:1], one)
    assert back is not None
    assert back.first is None


def test_of_several_vcpus_the_one_that_parted_first() -> None:
    one = trace_of((0, out(), None), (1, out(), None), (0, HALT, None))
    two = trace_of((0, out(), None), (1, out(1), None), (0, out(2), None))
    found = first_difference(one, two)
    assert found is not None
    assert found.vcpu == 1


def test_an_event_injected_in_one_only() -> None:
    one = (TracedExit(1, 0, None, HALT, 0, Event(EventType.INTR, 0x20)),)
    two = (TracedExit(1, 0, None, HALT),)
    found = first_difference(one, two)
    assert found is not None
    assert found.what == ("event",)


# ---- printing ------------------------------------------------------------------------------


def test_a_line_an_exit() -> None:
    first, second = trace_of((0, out(), gprs(RIP=0x7C00)), (0, out(), gprs(RIP=0x7C02, RAX=7)))
    told = line(dataclasses.replace(second, event=Event(EventType.INTR, 0x20)))
    assert "cpu0 at 0x7c02 IO out port 0xe9" in told
    assert "injected INTR 0x20" in told
    assert told.endswith("RAX=0x7")
    assert "\n" not in line(first)
    assert "and 11 more" in line(first)
    assert "at start" in line(first, lambda rip: "start" if rip == 0x7C00 else "?")


def test_lines_tell_time_from_the_first_and_what_is_missing() -> None:
    trace = Trace(keep=2)
    for time in (1000, 5000, 8500):
        trace.record(0, HALT, None, time)
    told = list(lines(trace.exits, trace.dropped))
    assert told[0] == "(the first 1 exits were not kept)"
    assert [text.split()[0] for text in told[1:]] == ["0.0", "3.5"]
    assert Gpr.RIP == 16
