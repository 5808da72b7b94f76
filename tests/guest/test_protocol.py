# SPDX-License-Identifier: BSD-2-Clause
"""The guest protocol: the same image under QEMU, as text, and here, as events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvmmconf.abi import Libnvmm, LibraryChoice, bundled_path, open_library
from nvmmconf.board import GuestDone, GuestEvent, GuestFailure, GuestLog, GuestSync, guestport
from nvmmconf.guest import GuestLibrary, Mode
from tests.guest import software
from tests.guest.qemu import boot, needs_qemu

ALL = (1 << 64) - 1

# A line of its own for each, so that lines can be counted here.
BODY = """\
start:
    mov     {{ ax }}, 0x1234
    LOG     "hello, world: 100%"
    LOG     "value", {{ ax }}
here: LOG   "behind a label"
    SYNC    12
    CHECK_EQ {{ ax }}, 0x1234, "holds"
    CHECK_SAME ax, ax, "holds"
    CHECK_MEM word, [there + 2], 0x8765, "holds"
{% for n in (1, 2) %}
    CHECK_EQ al, {{ n }}, "al is {{ n }}"
{% endfor %}
    CHECK_SAME al, ah, "al is ah"
    CHECK_MEM byte, [there], 0, "holds"
    CHECK_MEM dword, [there], 1, "dword"
    FAIL    "never", 1, 0xFFFFFFFFFFFFFFFF
    LOG     "last"
    DONE
    .data
there:
    .long   0x87651100
"""
EVENTS: tuple[GuestEvent, ...] = (
    GuestLog("talks.S", 3, "hello, world: 100%"),
    GuestLog("talks.S", 4, "value", (0x1234,)),
    GuestLog("talks.S", 5, "behind a label"),
    GuestSync("talks.S", 6, 12),
    GuestFailure("talks.S", 11, "al is 1", 1, 0x34),
    GuestFailure("talks.S", 11, "al is 2", 2, 0x34),
    GuestFailure("talks.S", 13, "al is ah", 0x12, 0x34),
    GuestFailure("talks.S", 15, "dword", 1, 0x87651100),
    GuestFailure("talks.S", 16, "never", 1, ALL),
    GuestLog("talks.S", 17, "last"),
    GuestDone("talks.S", 18, 1),
)

LINE = re.compile(r"(LOG|SYNC|FAIL|DONE) +([^:]+):(\d+): (.*)")
FAILURE = re.compile(r"(.*): want (0x[0-9a-f]{16}) got (0x[0-9a-f]{16})")


def parse(line: str) -> GuestEvent:
    """The event that a line of the text tells, by the form in guests/README.md."""
    match = LINE.fullmatch(line)
    assert match, line
    kind, file, number, rest = match.groups()
    at = (file, int(number))
    if kind == "SYNC":
        return GuestSync(*at, int(rest))
    if kind == "DONE":
        return GuestDone(*at, int(rest))
    if kind == "LOG":
        text, *value = re.split(r" (?=0x[0-9a-f]{16}$)", rest)
        return GuestLog(*at, text, tuple(int(word, 16) for word in value))
    failure = FAILURE.fullmatch(rest)
    assert failure, line
    return GuestFailure(*at, failure[1], int(failure[2], 16), int(failure[3], 16))


@pytest.fixture(scope="module")
def bundled() -> Libnvmm:
    return open_library(LibraryChoice(str(bundled_path()), "the tests'"))


def test_templates_and_device_agree_on_the_port() -> None:
    for mode in Mode:
        said = mode.variables()
        assert int(str(said["guest_port"]), 0) == guestport.PORT
        assert int(str(said["guest_signature"]), 0) == guestport.SIGNATURE


@pytest.mark.parametrize("mode", list(Mode))
def test_events_at_the_port(library: GuestLibrary, bundled: Libnvmm, mode: Mode) -> None:
    ended = software.run(library.inline(BODY, mode, name="talks"), bundled)
    assert ended.events == EVENTS
    assert ended.console == ""
    assert ended.outcome.status == 3
    # One exit each, and one to find the port.
    assert ended.port_accesses == [(guestport.PORT, 4)] * (len(EVENTS) + 1)


@pytest.mark.parametrize("mode", list(Mode))
def test_text_without_the_port(library: GuestLibrary, bundled: Libnvmm, mode: Mode) -> None:
    ended = software.run(library.inline(BODY, mode, name="talks"), bundled, port=False)
    assert tuple(map(parse, ended.console.splitlines())) == EVENTS
    assert ended.outcome.status == 3


@needs_qemu
@pytest.mark.parametrize("mode", list(Mode))
def test_text_under_qemu(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    ended = boot(library.inline(BODY, mode, name="talks"), tmp_path)
    assert tuple(map(parse, ended.console.decode().splitlines())) == EVENTS
    assert ended.status == 3


QUIET = """\
    mov     {{ wide }}bx, {{ wide }}sp
    .irp    register, ax, cx, dx, si, bp
    mov     {{ wide }}\\register, 0x89ABCDEF
    .endr
    pushf
    pop     {{ di }}
    or      {{ di }}, 0x4D5             # CF PF AF ZF SF DF
    push    {{ di }}
    popf
    {{ report }}
    pushf
    .irp    register, ax, cx, dx, si, bp
    cmp     e\\register, 0x89ABCDEF
    jne     wrong
    .endr
    pop     {{ bp }}
    cmp     {{ bp }}, {{ di }}
    jne     wrong
    cmp     {{ wide }}bx, {{ wide }}sp
    jne     wrong
    EXIT    0x55
wrong:
    EXIT    0x66
"""


@pytest.mark.parametrize("port", [True, False])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    "report",
    [
        'LOG "text"', 'LOG "text", eax', "SYNC 1", 'CHECK_EQ eax, 0x89ABCDEF, "holds"',
        'CHECK_EQ eax, 1, "fails"', 'CHECK_SAME eax, ecx, "holds"', 'FAIL "text", 1, 2',
        'CHECK_MEM dword, [start], 1, "fails"',
    ],
)  # fmt: skip
def test_reports_change_no_register_and_no_flag(
    library: GuestLibrary, bundled: Libnvmm, mode: Mode, report: str, port: bool
) -> None:
    image = library.inline(QUIET, mode, name="quiet", report=report)
    assert software.run(image, bundled, port=port).outcome.status == 0x55 << 1 | 1


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("check", "status"), [("al, 5", 1), ("al, 6", 3)])
def test_done_has_failed_exactly_when_a_check_has(
    library: GuestLibrary, bundled: Libnvmm, mode: Mode, check: str, status: int
) -> None:
    body = 'mov al, 5\nCHECK_EQ {{ check }}, "al"\nDONE\n'
    for port in (True, False):
        ended = software.run(library.inline(body, mode, check=check), bundled, port=port)
        assert ended.outcome.status == status


@pytest.mark.parametrize("mode", list(Mode))
def test_a_guest_that_reports_nothing_has_no_code_for_it(library: GuestLibrary, mode: Mode) -> None:
    symbols = library.image("hlt", mode).symbols
    assert not [name for name in symbols if name.startswith("guest_") and name != "guest_end"]
