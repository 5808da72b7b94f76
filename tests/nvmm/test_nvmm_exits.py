# SPDX-License-Identifier: BSD-2-Clause
"""Exits as values: a raw structure is filled, the value compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.abi import ExitReason, Prot, Segment, ffi
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
from nvmmconf.nvmm.exits import decode_exit

EXAMPLES = settings(deadline=None)  # the machine may be busy
U64 = st.integers(0, 2**64 - 1)
NOTHING = ExitState(0, 0, False, False, False, False)


def raw(reason: int) -> Any:
    """An exit structure whose every other byte is noise."""
    record = ffi.new("struct nvmm_x86_exit *")
    ffi.memmove(record, b"\xa5" * ffi.sizeof(record[0]), ffi.sizeof(record[0]))
    record.reason = reason
    ffi.memmove(ffi.addressof(record.exitstate), bytes(24), 24)
    return record


def fill(target: Any, **values: int | bytes) -> None:
    for name, value in values.items():
        setattr(target, {"is_in": "in"}.get(name, name), value)


BARE = (
    *(ExitReason.NONE, ExitReason.SHUTDOWN, ExitReason.INT_READY, ExitReason.NMI_READY),
    *(ExitReason.HALTED, ExitReason.TPR_CHANGED, ExitReason.STOPPED),
)


@pytest.mark.parametrize("reason", BARE)
def test_without_payload(reason: ExitReason) -> None:
    taken = decode_exit(raw(reason))
    assert taken == BareExit(reason, NOTHING)
    assert (taken.detail(), taken.reason_name) == ("", reason.name)


def test_every_reason_has_a_test() -> None:
    payload = {
        *(ExitReason.MEMORY, ExitReason.IO, ExitReason.RDMSR, ExitReason.WRMSR),
        *(ExitReason.MONITOR, ExitReason.MWAIT, ExitReason.CPUID, ExitReason.INVALID),
    }
    assert {*BARE, *payload} == set(ExitReason)


def test_a_reason_that_the_header_does_not_know() -> None:
    taken = decode_exit(raw(0x7777))
    assert taken == BareExit(0x7777, NOTHING)
    assert taken.reason_name == "0x7777"


@pytest.mark.parametrize(
    ("bit", "name"),
    [(0, "int_shadow"), (1, "int_window_exiting"), (2, "nmi_window_exiting"), (3, "evt_pending")],
)
def test_each_bit_of_exitstate(bit: int, name: str) -> None:
    """Bits 0 to 3 of the last word (section 3)."""
    record = raw(ExitReason.NONE)
    words = ffi.cast("uint64_t *", ffi.addressof(record.exitstate))
    words[2] = 1 << bit
    assert decode_exit(record).state == dataclasses.replace(NOTHING, **{name: True})
    words[2] = ~(1 << bit) & (1 << 64) - 1
    assert getattr(decode_exit(record).state, name) is False


@EXAMPLES
@given(rflags=U64, cr8=U64)
def test_rflags_and_cr8(rflags: int, cr8: int) -> None:
    record = raw(ExitReason.HALTED)
    words = ffi.cast("uint64_t *", record)
    words[5], words[6] = rflags, cr8
    assert decode_exit(record).state == dataclasses.replace(NOTHING, rflags=rflags, cr8=cr8)


@EXAMPLES
@given(
    prot=st.sampled_from([Prot.READ, Prot.WRITE, Prot.EXEC]),
    gpa=U64,
    code=st.binary(max_size=15),
)
def test_memory(prot: Prot, gpa: int, code: bytes) -> None:
    record = raw(ExitReason.MEMORY)
    fill(record.u.mem, prot=int(prot), gpa=gpa, inst_len=len(code))
    ffi.memmove(record.u.mem.inst_bytes, code, len(code))
    taken = decode_exit(record)
    assert taken == MemoryExit(ExitReason.MEMORY, NOTHING, prot, gpa, code)
    verb = {Prot.READ: "read", Prot.WRITE: "write", Prot.EXEC: "fetch"}[prot]
    assert taken.detail().startswith(f"{verb} at GPA {gpa:#x}")
    assert taken.detail().endswith(code.hex(" ") if code else f"{gpa:#x}")


@EXAMPLES
@given(
    is_in=st.booleans(),
    port=st.integers(0, 0xFFFF),
    seg=st.integers(-1, 5),
    address=st.sampled_from([2, 4, 8]),
    operand=st.sampled_from([1, 2, 4]),
    rep=st.booleans(),
    string=st.booleans(),
    npc=U64,
)
def test_io(
    is_in: bool,
    port: int,
    seg: int,
    address: int,
    operand: int,
    rep: bool,
    string: bool,
    npc: int,
) -> None:
    record = raw(ExitReason.IO)
    fill(record.u.io, is_in=is_in, port=port, seg=seg, address_size=address)
    fill(record.u.io, operand_size=operand, rep=rep, str=string, npc=npc)
    segment = Segment(seg) if string and seg != -1 else None
    taken = decode_exit(record)
    assert taken == IoExit(
        ExitReason.IO,
        NOTHING,
        is_in,
        port,
        segment,
        address,
        operand,
        rep,
        string,
        npc,
    )
    assert isinstance(taken, IoExit)
    assert (taken.is_in, taken.rep, taken.string) == (is_in, rep, string)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"port": 0xE9, "operand_size": 1}, "out port 0xe9, 1 byte, npc 0x10"),
        ({"is_in": 1, "port": 0x40, "operand_size": 4}, "in port 0x40, 4 bytes, npc 0x10"),
        (
            {"rep": 1, "str": 1, "seg": 3, "port": 2, "operand_size": 2},
            "rep outs port 0x2, 2 bytes, segment DS, npc 0x10",
        ),
        (
            {"is_in": 1, "str": 1, "seg": -1, "port": 2, "operand_size": 1},
            "ins port 0x2, 1 byte, segment unknown, npc 0x10",
        ),
    ],
)
def test_io_in_words(values: dict[str, int], text: str) -> None:
    record = ffi.new("struct nvmm_x86_exit *")
    record.reason = ExitReason.IO
    fill(record.u.io, npc=0x10, **values)
    assert decode_exit(record).detail() == text


@EXAMPLES
@given(msr=st.integers(0, 2**32 - 1), value=U64, npc=U64)
def test_msrs(msr: int, value: int, npc: int) -> None:
    record = raw(ExitReason.RDMSR)
    fill(record.u.rdmsr, msr=msr, npc=npc)
    taken: Exit = decode_exit(record)
    assert taken == RdmsrExit(ExitReason.RDMSR, NOTHING, msr, npc)
    assert taken.detail() == f"MSR {msr:#x}, npc {npc:#x}"
    record = raw(ExitReason.WRMSR)
    fill(record.u.wrmsr, msr=msr, val=value, npc=npc)
    taken = decode_exit(record)
    assert taken == WrmsrExit(ExitReason.WRMSR, NOTHING, msr, value, npc)
    assert taken.detail() == f"MSR {msr:#x} := {value:#x}, npc {npc:#x}"


@pytest.mark.parametrize("reason", [ExitReason.MONITOR, ExitReason.MWAIT, ExitReason.CPUID])
def test_instructions(reason: ExitReason) -> None:
    record = raw(reason)
    record.u.insn.npc = 0xFFFF800000001234
    taken = decode_exit(record)
    assert taken == InsnExit(reason, NOTHING, 0xFFFF800000001234)
    assert taken.detail() == "npc 0xffff800000001234"


def test_invalid() -> None:
    record = raw(ExitReason.INVALID)
    record.u.inv.hwcode = 0x400
    taken = decode_exit(record)
    assert taken == InvalidExit(ExitReason.INVALID, NOTHING, 0x400)
    assert taken.detail() == "hardware code 0x400"


def test_an_exit_is_a_copy() -> None:
    """The next run overwrites the structure."""
    record = raw(ExitReason.MEMORY)
    fill(record.u.mem, prot=1, gpa=1, inst_len=15)
    taken = decode_exit(record)
    before = repr(taken)
    ffi.memmove(record, bytes(64), 64)
    assert repr(taken) == before
