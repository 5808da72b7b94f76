# SPDX-License-Identifier: BSD-2-Clause
"""What kernel.c printed, in the words of the measured steps, and the differences."""

from __future__ import annotations

import errno
import struct
from typing import Any

from .kernel_guest import (
    CR_NAMES,
    DR_NAMES,
    FPU_AT,
    GPR_NAMES,
    INTR_AT,
    INTR_NAMES,
    MSR_NAMES,
    PLACES,
    SEG_NAMES,
    STACK,
    Step,
    number,
)

REASONS = {
    0: "NONE",
    1: "MEMORY",
    2: "IO",
    0x1000: "SHUTDOWN",
    0x1001: "INT_READY",
    0x1002: "NMI_READY",
    0x1003: "HALTED",
    0x1004: "TPR_CHANGED",
    0x2000: "RDMSR",
    0x2001: "WRMSR",
    0x2002: "MONITOR",
    0x2003: "MWAIT",
    0x2004: "CPUID",
    (1 << 64) - 2: "STOPPED",
    (1 << 64) - 1: "INVALID",
    0xAAAAAAAAAAAAAAAA: "UNTOUCHED",
}
INSN = ("MONITOR", "MWAIT", "CPUID")
MODES = {"real16": 2, "prot32": 4, "long64": 8}


def error_name(value: str) -> str:
    if value == "-1":
        return "errno kept"
    return "0" if value == "0" else errno.errorcode[int(value)]


def payload(raw: bytes, reason: str) -> dict[str, Any]:
    u = raw[8:40]
    if reason == "MEMORY":
        prot, gpa, length = struct.unpack_from("<i4xQB", u)
        return {"mem": {"prot": prot, "gpa": gpa, "inst_len": length, "inst_bytes": u[17:32].hex()}}
    if reason == "IO":
        names = ("in", "port", "seg", "address_size", "operand_size", "rep", "str", "npc")
        return {"io": dict(zip(names, struct.unpack_from("<?xHbBB??7xQ", u), strict=True))}
    if reason == "RDMSR":
        return {"rdmsr": dict(zip(("msr", "npc"), struct.unpack_from("<I4xQ", u), strict=True))}
    if reason == "WRMSR":
        values = struct.unpack_from("<I4xQQ", u)
        return {"wrmsr": dict(zip(("msr", "val", "npc"), values, strict=True))}
    if reason in INSN:
        return {"insn": {"npc": struct.unpack_from("<Q", u)[0]}}
    if reason == "INVALID":
        return {"inv": {"hwcode": struct.unpack_from("<Q", u)[0]}}
    return {}


def bits(raw: bytes, at: int) -> dict[str, int]:
    word = struct.unpack_from("<Q", raw, at)[0]
    return {name: word >> i & 1 for i, name in enumerate(INTR_NAMES)}


def segments(raw: bytes) -> dict[str, dict[str, int]]:
    out = {}
    for i, name in enumerate(SEG_NAMES):
        selector, attrib, limit, base = struct.unpack_from("<HHIQ", raw, 16 * i)
        out[name] = {
            "selector": selector,
            "base": base,
            "limit": limit,
            "type": attrib & 15,
            "s": attrib >> 4 & 1,
            "dpl": attrib >> 5 & 3,
            "p": attrib >> 7 & 1,
            "avl": attrib >> 8 & 1,
            "l": attrib >> 9 & 1,
            "def": attrib >> 10 & 1,
            "g": attrib >> 11 & 1,
        }
    return out


def group(raw: bytes, names: tuple[str, ...]) -> dict[str, int]:
    at = next(at for _, n, _, at in PLACES if n is names)
    return dict(zip(names, struct.unpack_from(f"<{len(names)}Q", raw, at), strict=True))


def fpu(raw: bytes) -> dict[str, Any]:
    cw, sw, tw, byte5, opcode = struct.unpack_from("<HHBBH", raw, FPU_AT)
    mxcsr, mask = struct.unpack_from("<II", raw, FPU_AT + 24)
    return {
        "cw": cw,
        "sw": sw,
        "tw": tw,
        "byte5": byte5,
        "opcode": opcode,
        "mxcsr": mxcsr,
        "mxcsr_mask": mask,
        "st0": raw[FPU_AT + 32 : FPU_AT + 48].hex(),
        "xmm0": raw[FPU_AT + 160 : FPU_AT + 176].hex(),
        "xmm15": raw[FPU_AT + 400 : FPU_AT + 416].hex(),
    }


def state(raw: bytes) -> dict[str, Any]:
    return {
        "segs": segments(raw),
        "gprs": group(raw, GPR_NAMES),
        "crs": group(raw, CR_NAMES),
        "drs": group(raw, DR_NAMES),
        "msrs": group(raw, MSR_NAMES),
        "intr": bits(raw, INTR_AT),
        "fpu": fpu(raw),
    }


def run_line(words: dict[str, str], mode: str) -> dict[str, Any]:
    """A run as the measured files write it; numbers are numbers."""
    raw = bytes.fromhex(words["exit"])
    reason = REASONS.get(struct.unpack_from("<Q", raw)[0], "?")
    now = state(bytes.fromhex(words["state"]))
    gprs, segs = now["gprs"], now["segs"]
    kind, vector, error = struct.unpack("<IB3xQ", bytes.fromhex(words["event"]))
    rflags, cr8 = struct.unpack_from("<QQ", raw, 40)
    out: dict[str, Any] = {
        "commit_in": int(words["commit"], 16),
        "event_in": int(words["event_in"]),
        "ret": error_name(words["ret"]),
        "reason": reason,
        **payload(raw, reason),
        "exitstate": {"rflags": rflags, "cr8": cr8, **bits(raw, 56)},
        "comm": {
            "state_wanted": int(words["wanted"], 16),
            "state_cached": int(words["cached"], 16),
            "state_commit": int(words["committed"], 16),
            "event_commit": int(words["pending"]),
            "event_type": kind,
            "event_vector": vector,
            "event_error": error,
            "stop": int(words["stop"]),
        },
        "regs": gprs,
        "cr": now["crs"],
        "intr": now["intr"],
        "cs": segs["cs"]["selector"],
        "cpl": segs["ss"]["dpl"] if gprs is not None else 0,
    }
    if 0x6000 <= gprs["rip"] < 0x6400:
        out["handler"] = (gprs["rip"] - 0x6000) // 4
        size = MODES[mode]
        stack = bytes.fromhex(words.get("stack", ""))
        count = min(6, max(0, (STACK - gprs["rsp"]) // size), len(stack) // size)
        out["frame"] = [
            int.from_bytes(stack[i * size : (i + 1) * size], "little") for i in range(count)
        ]
    return out


def plain(value: Any) -> Any:
    """A measured value with its hexadecimal strings as numbers."""
    if isinstance(value, dict):
        return {
            k: v if k in ("inst_bytes", "st0", "xmm0", "xmm15") else plain(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, str) and value.startswith("0x") and " " not in value and "," not in value:
        return number(value)
    return value


# What the interface does not show: entries and pages are the measuring rig's counts, hw_last its
# reading of the hardware; a payload without a reason is promised to nobody (kernel spec 9).
UNSEEN = {
    "script",
    "step",
    "op",
    "note",
    "why",
    "entries",
    "pageins",
    "u_leftover",
    "hw_last",
    "args",
    "reason_value",
    "u_raw",
}


def unequal(want: Any, got: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields that differ, by full path: the value measured and ours (None: there is none)."""
    if isinstance(want, list):
        want = {str(i): value for i, value in enumerate(want)}
        got = {str(i): value for i, value in enumerate(got)} if isinstance(got, list) else None
    if isinstance(want, dict):
        out: dict[str, tuple[Any, Any]] = {}
        for key, value in want.items():
            below = f"{path}.{key}" if path else key
            there = isinstance(got, dict) and key in got
            out |= unequal(value, got[key] if there else None, below)
        return out
    return {} if want == got else {path: (want, got)}


def expected(step: Step) -> dict[str, Any]:
    want = {k: plain(v) for k, v in step.items() if k not in UNSEEN}
    if step["op"] == "run":
        want.setdefault("commit_in", 0)
        want.setdefault("event_in", 0)
        want["regs"] = dict.fromkeys(GPR_NAMES, 0) | want["regs"]
        if want.get("frame") == []:
            del want["frame"]
        if want["reason"] == "UNTOUCHED":
            del want["exitstate"]
    return want
