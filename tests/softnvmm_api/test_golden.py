# SPDX-License-Identifier: BSD-2-Clause
"""Every measured case of the real library, replayed (golden/, replay.c)."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]
GOLDEN = Path(__file__).resolve().parent / "golden"
GPRS_COMMITTED = "2"


def load(name: str) -> list[Case]:
    with gzip.open(GOLDEN / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def words(case: Case, kind: str) -> Iterator[str]:
    """One case as replay.c reads it."""
    given = case["in"]
    yield f"case {case['id']} {kind}"
    if "gprs" in given:
        yield "gprs " + " ".join(given["gprs"])
    yield "crs " + " ".join(given["crs"])
    yield f"efer {given['efer']}"
    for index, segment in enumerate(given.get("segs", [])):
        yield f"seg {index:x} " + " ".join(segment)
    for gpa, size, prot in given["areas"]:
        yield f"area {gpa} {size} {prot:x}"
    for gpa, data in given["mem"]:
        yield f"mem {gpa} {data}"
    for gpa, data in given.get("dev", []):
        yield f"dev {gpa} {data}"
    if kind == "walk":
        yield f"gva {given['gva']}"
    else:
        names = (
            "reason prot gpa inst_len inst_bytes"
            if kind == "mem"
            else "reason in port seg address_size operand_size rep str npc"
        ).split()
        values = (given["exit"][name] for name in names)
        yield "exit " + " ".join(v if isinstance(v, str) else f"{v:x}" for v in values)
    yield "end"


def replay(program: Path, profile: str, kind: str, cases: list[Case]) -> dict[str, Case]:
    """Run all cases; what happened, by case id."""
    text = "\n".join(line for case in cases for line in words(case, kind)) + "\n"
    env = {**os.environ, "NVMM_SOFT_PROFILE": profile}
    done = subprocess.run(
        [program], input=text, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Case] = {}
    now: Case = {}
    for line in done.stdout.splitlines():
        key, *rest = line.split(" ")
        if key == "case":
            now = results[rest[0]] = {"cb": [], "mem": {}}
        elif key == "cb":
            now["cb"].append([rest[0], rest[1], int(rest[2]), rest[3]])
        elif key == "mem":
            now["mem"].update(spread([rest]))
        else:
            now[key] = rest
    return results


def spread(pieces: list[list[str]]) -> dict[int, int]:
    """Bytes by address, however they were cut into pieces."""
    return {
        int(gpa, 16) + i: byte for gpa, data in pieces for i, byte in enumerate(bytes.fromhex(data))
    }


def differences(case: Case, kind: str, got: Case) -> list[str]:
    want = case["out"]
    number = 0 if want["errno"] is None else getattr(errno, want["errno"])
    pairs: list[tuple[str, Any, Any]] = [("ret", [str(want["ret"]), str(number)], got["ret"])]
    if kind == "walk":
        if want["ret"] == 0:
            pairs.append(("gpa, prot", [want["gpa"], f"{want['prot']:x}"], got["walk"]))
        pairs.append(("commit", "0", got["commit"][0]))
    else:
        committed = GPRS_COMMITTED if want["ret"] == 0 else "0"
        pairs += [
            ("gprs", want["gprs"], got["gprs"]),
            ("cb", want["cb"], got["cb"]),
            ("mem", spread(want["mem"]), got["mem"]),
            ("commit", committed, got["commit"][0]),
        ]
    if kind == "mem":
        given = case["in"]["exit"]
        inst = want.get("inst", [given["inst_len"], given["inst_bytes"]])
        pairs.append(("inst", [f"{int(inst[0]):x}", inst[1]], got["inst"]))
    return [
        f"{case['id']} ({case.get('cls', case.get('kind'))}, q={case['q']}) "
        f"{name}: {a} expected, {b} got"
        for name, a, b in pairs
        if a != b
    ]


# Where "ideal" differs though no `q` says so: fetches of an instruction's own bytes only, limits of
# a batch, 32-bit linear addresses (L-GM-7), and tables that two deviations refuse at once.
BEYOND_Q = {
    "fetchseg",
    "limit",
    "wrap",
    "fetch-odd",
    "movs-limit",
    "movs-basewrap",
    "index-wrap",
    "movs-wrap",
}


def promised(case: Case) -> bool:
    """Whether the manuals want what was measured."""
    return (
        not case["q"]
        and case.get("cls") not in BEYOND_Q
        and not {"ps-nopse", "bit7-last"} <= set(case.get("tags", []))
    )


FILES = [("assist-io", "io"), ("gva-to-gpa", "walk"), ("assist-mem", "mem")]


@pytest.mark.parametrize(
    ("profile", "name", "kind"),
    [
        *[("v1-svm", *file) for file in FILES],
        *[("v2-svm", *file) for file in FILES],
        ("v2-svm", "assist-mem-cmps", "mem"),  # NetBSD 10 only
        *[("ideal", *file) for file in FILES],
        ("ideal", "assist-mem-cmps", "mem"),
    ],
)
def test_golden(client: Callable[..., Path], profile: str, name: str, kind: str) -> None:
    cases = [case for case in load(name) if profile != "ideal" or promised(case)]
    results = replay(client("replay.c"), profile, kind, cases)
    wrong = {case["id"]: d for case in cases if (d := differences(case, kind, results[case["id"]]))}
    print(f"\n{name} on {profile}: {len(cases) - len(wrong)} of {len(cases)} as measured")
    assert not wrong, "\n".join(lines[0] for lines in list(wrong.values())[:10])
