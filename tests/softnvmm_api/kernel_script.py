# SPDX-License-Identifier: BSD-2-Clause
"""Measured scripts of the kernel driver as commands for kernel.c.

golden/kernel-*.jsonl.gz say what each step did.  What a script set up beyond that stands
in its description and in `setup` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .kernel_guest import (
    ALL,
    BIG_DATA,
    CODE,
    CODE32,
    CODE64,
    CRS,
    DATA32,
    DATA64,
    FLAT,
    FPU_AT,
    GDTR,
    GPRS,
    INTR,
    INTR_AT,
    INTR_NAMES,
    MSRS,
    PLACES,
    REAL_DATA,
    REGISTERS,
    SEGS,
    SPARE,
    STACK,
    TABLE_COPY,
    TR,
    USER_CODE,
    USER_DATA,
    Segment,
    Step,
    little,
    memory,
    number,
    patch,
    put,
    put_fpu,
    put_segs,
    registers,
    seg,
    segment,
    table,
)

# --- what single scripts set up ---------------------------------------------------------


def first_run(script: list[Step]) -> int:
    return next(i for i, s in enumerate(script) if s["op"] == "run")


def whole_state(dump: Step) -> list[str]:
    """A state as a getstate line shows it."""
    lines = [
        segment(name, tuple(number(v) for v in s.values()))  # type: ignore[arg-type]
        for name, s in dump["segs"].items()
    ]
    for group, names, _, base in PLACES:
        lines += [patch(base + 8 * i, number(dump[group][n])) for i, n in enumerate(names)]
    f = dump["fpu"]
    lines += [
        patch(FPU_AT, number(f["cw"]), 2),
        patch(FPU_AT + 2, number(f["sw"]), 2),
        patch(FPU_AT + 4, number(f["tw"]), 1),
        patch(FPU_AT + 5, 0, 1),
        patch(FPU_AT + 6, number(f["opcode"]), 2),
        patch(FPU_AT + 24, number(f["mxcsr"]), 4),
        patch(FPU_AT + 28, number(f["mxcsr_mask"]), 4),
        f"patch {FPU_AT + 32:x} {f['st0']}",
        f"patch {FPU_AT + 160:x} {f['xmm0']}",
        f"patch {FPU_AT + 400:x} {f['xmm15']}",
    ]
    return [*lines, f"commit {ALL:x}"]


OSXSAVE = 0x40000
LONG_IDT = {
    "real16": seg(0, 0x80000, 0xFFFF, 2),
    "prot32": seg(0, 0x80000, 0x7FF, 2),
    "long64": seg(0, 0x80000, 0xFFF, 2),
}
LIMIT0 = {"real16": seg(0, 0, 0, 2), "prot32": seg(0, 0x2000, 0, 2), "long64": seg(0, 0x2000, 0, 2)}


def bad_state(what: str, mode: str) -> list[str]:
    """The scripts bad.*: one illegal thing each."""
    cr0, cr4 = {"real16": (0x10, 0), "prot32": (0x33, 0x600), "long64": (0x80000033, 0x620)}[mode]
    efer = 0x500 if mode == "long64" else 0
    code = {"real16": REAL_DATA, "prot32": CODE32, "long64": CODE64}[mode]
    data = {"real16": REAL_DATA, "prot32": DATA32, "long64": DATA64}[mode]
    tr = seg(0, 0, 0xFFFF, 3, s=0) if mode == "real16" else TR
    gdt = seg(0, 0, 0xFFFF, 2) if mode == "real16" else GDTR

    def but(s: Segment, **fields: int) -> Segment:
        names = (
            "selector",
            "base",
            "limit",
            "kind",
            "s",
            "dpl",
            "p",
            "avl",
            "long",
            "default",
            "g",
        )
        return seg(**(dict(zip(names, s, strict=True)) | fields))

    return {
        "first": put(cr0=cr0 | 1 << 32),
        "later": [],
        "first2": put(efer=efer | 1 << 32),
        "pgnope": put(cr0=cr0 & ~1 | 1 << 31),
        "nwnocd": put(cr0=cr0 | 1 << 29),
        "cr0hi": put(cr0=cr0 | 1 << 32),
        "cr0rsv": put(cr0=cr0 | 1 << 6),
        "efersv": put(efer=efer | 2),
        "eferhi": put(efer=efer | 1 << 32),
        "dr6hi": put(dr6=0x1FFFF0FF0),
        "dr7hi": put(dr7=0x100000400),
        "rflagsvm": put(rflags=0x20002),
        "cr4rsv": put(cr4=cr4 | 1 << 31),
        "cr4b13": put(cr4=cr4 | 1 << 13),
        "cet": put(cr4=cr4 | 1 << 23),
        "la57": put(cr4=cr4 | 1 << 12),
        "csnp": put_segs(cs=but(code, p=0)),
        "csdata": put_segs(cs=but(code, kind=3)),
        "trtype": put_segs(tr=but(tr, kind=2)),
        "trnp": put_segs(tr=but(tr, p=0)),
        "nullss": put_segs(ss=seg(0, 0, 0, 0, s=0, p=0)),
        "gdtlim": put_segs(gdt=but(gdt, limit=0xFFFFF)),
        "pat": put(pat=0x0202020202020202),
        "svme": put(efer=efer | 0x1000),
        "xcr0": put(xcr0=0xFF),
        "limg": put_segs(ds=but(data, limit=FLAT, g=0)),
        "cplmis": put_segs(ss=but(data, dpl=3)),
        "fsnoncan": put_segs(fs=but(data, base=0x8000000000000000)),
        "lmenopg": put(efer=0x100, cr0=cr0 & ~(1 << 31)),
        "rflags0": put(rflags=0),
        "rflagsrsv": put(rflags=0x802A),
        "pgnolme": put(cr0=cr0 | 1 << 31),
        "lmenopae": put(cr4=cr4 & ~0x20),
        "lma_nolme": put(efer=0x400),
        "lma_nopg": put(cr0=cr0 & ~(1 << 31)),
        "ld": put_segs(cs=but(code, default=1)),
        "cr3hi": put(cr3=0x8000000000010000),
        "noncan": put(rip=0x8000000000001000),
    }[what]


def map_table(mode: str) -> list[str]:
    return [f"gmap {TABLE_COPY:x} 80000 1000 7"]


def setup(base: str, mode: str, script: list[Step]) -> dict[int, list[str]]:
    """Commands before the step of that number."""
    run = first_run(script) if any(s["op"] == "run" for s in script) else 0
    kind, _, rest = base.partition(".")
    if kind == "bad":
        before = {1: bad_state(rest, mode)}
        if rest in ("first", "first2", "later"):
            repair = put(efer=0) if rest == "first2" else put(cr0=0x10)
            if mode != "real16":
                repair = (
                    put(efer=0x500 if mode == "long64" else 0)
                    if rest == "first2"
                    else put(cr0=0x33 if mode == "prot32" else 0x80000033)
                )
            before[2] = repair
            if rest == "later":
                before[2], before[3] = bad_state("cr0hi", mode), repair
        return before
    if kind == "cpl3":
        lines = put_segs(cs=USER_CODE, ss=USER_DATA)
        if rest == "ssdpl":
            lines = put_segs(cs=USER_CODE)
        elif rest == "csdpl0":
            lines = put_segs(ss=USER_DATA)
        elif rest == "out.iopl3":
            lines += put(rflags=0x3002)
        elif rest == "xsetbv.osxsave":
            lines += put(cr4=0x620 | OSXSAVE, rax=1)
        return {1: lines}
    if kind == "mem" and rest != "push":
        before = {1: [f"mem {SPARE + 0x123:x} 99"]}
        if mode == "real16":
            before[1] += put_segs(ds=BIG_DATA, es=BIG_DATA)
        for step, lines in MEM_SETUP.get(rest, {}).items():
            before[step] = before.get(step, []) + lines
        return before
    if kind == "cr8" and rest.startswith("set."):
        return {3: put(rip=CODE, cr8=2)}
    if base.startswith("inj.badexcp") or base in ("inj.badtype", "stop.before"):
        return {1: put(rax=0x42)}
    if base in (
        "inj.pend",
        "inj.pend.replace",
        "inj.pend.excp",
        "inj.swint.pend",
        "inj.udint.pend",
    ):
        before = {1: [*put_segs(idt=LONG_IDT[mode]), f"mem {TABLE_COPY:x} {table(mode)}"]}
        if base != "inj.pend":
            second = [i for i, s in enumerate(script) if s["op"] == "run"][1]
            before[second] = map_table(mode)
        return before
    if base.startswith("misc.xsetbv") and rest != "xsetbv.noosxsave":
        cr4 = {"real16": 0, "prot32": 0x600, "long64": 0x620}[mode]
        return {1: put(cr4=cr4 | OSXSAVE)}
    if base in ("misc.xgetbv", "misc.xcr0.0"):
        cr4 = {"real16": 0, "prot32": 0x600, "long64": 0x620}[mode]
        return {1: put(cr4=cr4 | OSXSAVE, xcr0=7 if base == "misc.xgetbv" else 0)}
    if base in SETUP:
        return SETUP[base](mode, run)
    if base == "state.masks":
        return {1: [f"fetch {ALL:x}", *whole_state(script[1])]}
    return {}


def pend_stack(mode: str, run: int) -> dict[int, list[str]]:
    if mode == "real16":
        return {1: put_segs(ss=seg(0, 0x80000, 0xFFFF, 3))}
    return {1: put(rsp=0x80800)}


def tables(at: int, entry: int) -> list[str]:
    """A page directory for linear 1 GiB, at `at`, whose first entry is `entry`."""
    lines = [f"mem 11008 {little(at | 7, 8)}"]
    return [*lines, f"mem {at:x} {little(entry, 8)}"] if at < 0x80000 else lines


MEM_SETUP = {
    "pt.unmapped": {1: tables(0x90000, 0)},
    "pt.readonly": {1: tables(0x50000, 0x83)},
    "gpa.maxram": {1: tables(0x13000, 0x2000000087)},
    "cr3.unmapped": {1: put(cr3=0x90000)},
    "map_after": {6: put(rip=CODE)},
    "x.rx": {1: ["mem 50010 f4"]},
    "x.x": {1: ["mem 54010 f4"]},
    "alias": {8: [f"mem {CODE:x} 8a8600400000f4", *put(rip=CODE)]},
    "hva_unmap": {2: [f"mem {0x100000 + 0x10:x} 77"]},
    "unmap.part": {6: put(rip=CODE), 8: put(rip=CODE)},
}
TO_LONG = [f"mem 4000 7f00{little(0x3000, 4)}"]
# The TSS that selector 48 names: EIP to SS, DS to GS, no LDT.
TASK = [
    "mem 3920 " + "".join(little(v, 4) for v in (0x5000, 2, 0x7777, 0, 0, 0, 0x8800)),
    "mem 3948 " + "".join(little(v, 4) for v in (0x10, 8, 0x10, 0x10, 0x10, 0x10, 0)),
    "mem 5000 f4",
]
BUSY32 = seg(0, 0, 0xFFFF, 11, s=0)
SETUP: dict[str, Any] = {
    "mem.push": lambda mode, run: pend_stack(mode, run) if mode == "real16" else {},
    "inj.pend.stack": lambda mode, run: pend_stack(mode, run),
    "inj.pf": lambda mode, run: {1: put(cr2=0xABCD000)},
    "inj.gprs": lambda mode, run: {run: put(rip=CODE + 1, rflags=0x202)},
    "inj.bad.prefill": lambda mode, run: {run: ["prefill"]},
    "shutdown": lambda mode, run: {1: put_segs(idt=LIMIT0[mode])},
    "misc.dr": lambda mode, run: {1: put(dr0=0x1111, dr1=0x2222, dr2=0x3333, dr3=0x4444)},
    "misc.hwbp": lambda mode, run: {1: put(dr0=CODE + 1, dr7=0x401)},
    "cpuid.tf": lambda mode, run: {1: put(rflags=0x102)},
    "cpuid.rf": lambda mode, run: {1: put(rflags=0x10002)},
    "misc.tolong": lambda mode, run: {1: TO_LONG + put_segs(tr=BUSY32)},
    "misc.tolong.cd": lambda mode, run: {1: TO_LONG + put_segs(tr=BUSY32)},
    "misc.tolong.tr3": lambda mode, run: {1: TO_LONG},
    "state.dr6.high": lambda mode, run: {1: put(dr6=0x1FFFF0FF0)},
    "state.mxcsr.mask0": lambda mode, run: {1: put_fpu(0x1F80, 0)},
    "state.mxcsr.full": lambda mode, run: {
        1: put_fpu(0x1F80, FLAT, f"patch {FPU_AT + 160:x} feca0000")
    },
    "state.mxcsr.high": lambda mode, run: {1: put_fpu(FLAT, FLAT)},
    "state.mxcsr.maskpart": lambda mode, run: {1: put_fpu(0x1F80, 0x1000)},
    "life.conf.recreate": lambda mode, run: {
        2: ["life vdestroy 0 0", "life vcreate 0 0", *registers(mode), f"commit {ALL:x}"]
    },
    "taskswitch": lambda mode, run: {1: TASK},
    "state.groups": lambda mode, run: {
        2: [
            f"fetch {ALL:x}",
            patch(REGISTERS["cr2"][1], 0x1234),
            patch(REGISTERS["star"][1], 0x1234),
            *put(rax=0x77),
        ]
    },
    "state.tsc": lambda mode, run: {
        1: put(tsc=0x40000000),
        4: put(rip=CODE),
        6: [*put(rip=CODE), f"fetch {MSRS:x}", f"commit {MSRS:x}"],
        8: put(rip=CODE, tsc=0),
    },
    "ret.none": lambda mode, run: {1: put(rax=0x42), run: ["want 1 0"]},
    "ret.hlt": lambda mode, run: {3: [*put(rip=CODE), "want 2 0"]},
    "ret.io": lambda mode, run: {2: ["want 2 0"]},
    "ret.win": lambda mode, run: {3: put(rip=CODE), 4: ["want 2 0"]},
    "ret.cpuid": lambda mode, run: {3: put(rip=CODE), 4: ["want 2 0"]},
    "ret.npf.pagein": lambda mode, run: {1: ["want 2 0"]},
    "ret.npf": lambda mode, run: {
        1: put_segs(ds=BIG_DATA) if mode == "real16" else [],
        3: ["want 2 0"],
    },
    "win.cr8": lambda mode, run: {1: put(cr8=15)},
    "inj.intr.cr8": lambda mode, run: {1: put(cr8=15)},
    "stop.hlt": lambda mode, run: {3: [*put(rip=CODE), "want 2 1"]},
}


# --- a script's lines ---------------------------------------------------------------------

UNSET = {
    "reset.vector": 0,
    "misc.mxcsr0": SEGS | GPRS | CRS,
    "state.tsc.fresh": SEGS | GPRS | CRS,
    "state.wanted_ioctl": 0,
}


def begin(step: Step) -> Iterator[str]:
    base = step["script"].removesuffix("." + step["mode"])
    yield "script"
    if base.startswith("cpuid.vcpu3"):
        yield "select 3"
    yield from memory(
        step["mode"], step["guest"], user=base.startswith("cpl3") or base == "bad.cplmis"
    )
    if base == "reset.vector":
        yield f"mem {SPARE + 0xFF0:x} {step['guest']}"
        yield f"gmap {SPARE:x} fffff000 1000 7"
    if base not in UNSET:
        yield from registers(step["mode"])
        yield f"commit {ALL:x}"
    elif UNSET[base]:
        yield from fresh_registers(step["mode"])
        yield f"commit {UNSET[base]:x}"


def fresh_registers(mode: str) -> Iterator[str]:
    """The reset state, made to run at CODE."""
    yield segment("cs", seg(0, 0, 0xFFFF, 3))
    yield patch(REGISTERS["rip"][1], CODE)
    if mode == "real16":
        yield patch(REGISTERS["cr0"][1], 0x10)


EVENT_TYPES = {"EXCP": 0, "INTR": 1}


def one(step: Step) -> Iterator[str]:
    """The commands of one step."""
    op = step["op"]
    if op == "setreg":
        yield from put(**{step["reg"]: number(step["value"])})
    elif op == "setregs" and "note" in step:
        yield from put(rip=CODE, rsp=STACK, rflags=2)
    elif op == "setregs":
        yield from put(rip=CODE, **{n: number(step[n]) for n in ("rax", "rbx", "rcx", "rdx")})
    elif op in ("setcr4", "setcr8"):
        yield from put(**{op[3:]: number(step["value"])})
    elif op == "setcr4_osxsave":
        yield from put(cr4={"real16": 0, "prot32": 0x600, "long64": 0x620}[step["mode"]] | OSXSAVE)
    elif op == "setstate_intr":
        bits = sum(step[name] << i for i, name in enumerate(INTR_NAMES[:3]))
        yield from (f"fetch {INTR:x}", patch(INTR_AT, bits), f"commit {INTR:x}")
    elif op == "setcode":
        yield f"mem {CODE:x} {step['bytes']}"
    elif op == "inject":
        kind = step.get("type_value", EVENT_TYPES.get(step["type"]))
        yield f"event {kind:x} {step['vector']:x} {number(step['error']):x}"
        yield "inject"
    elif op == "stop":
        yield "stop"
    elif op == "run":
        yield "run"
    elif op == "cache":
        yield "get 0"
    elif op == "ioctl_getstate":  # libnvmm makes the call when nothing is cached
        yield from ("cache 0", "get 80")
    elif op == "getstate":
        if step["state_cached_before"] == "0x0":
            yield "cache 0"
        yield f"get {number(step['flags']):x}"
    elif op == "configure_cpuid":
        yield "cpuid " + configuration(step)
    elif op == "vcpu_configure":
        yield "tpr 1"
    elif op == "gpa_map" and step["script"].startswith("mem.hva_unmap"):
        yield f"gmap {EXTRA:x} 80000 1000 7"
    elif op in MEMORY:
        yield MEMORY[op][step["args"]]


def configuration(step: Step) -> str:
    values = [*step.get("set", [0] * 4), *step.get("del", [0] * 4)]
    return f"{step['mask']:x} {step['exit']:x} {number(step['leaf']):x} " + " ".join(
        f"{number(v):x}" for v in values
    )


EXTRA = 0x100000  # the upper half of kernel.c's memory: not mapped at the start
MEMORY = {
    "gpa_map": {
        "0x80000 -> ram": f"gmap {SPARE:x} 80000 1000 7",
        "0x80000 -> ram with a copy of the table": f"gmap {TABLE_COPY:x} 80000 1000 7",
        "map stack": f"gmap {SPARE:x} 80000 9000 7",
        "0x80000": f"gmap {SPARE:x} 80000 1000 7",
        "0x90000, same hva": f"gmap {SPARE:x} 90000 1000 7",
        # In pieces: libnvmm unmaps only what was mapped as one (L-GPA-6).
        "0x80000 three pages": "\n".join(
            f"gmap {SPARE + 0x1000 * i:x} {0x80 + i:x}000 1000 7" for i in range(3)
        ),
    },
    "gpa_unmap": {
        "0x80000": f"gunmap {SPARE:x} 80000 1000",
        "0x81000 one page": f"gunmap {SPARE + 0x1000:x} 81000 1000",
    },
    "hva_map": {"extra page": f"hmap {EXTRA:x} 1000"},
    "hva_unmap": {"extra page": f"hunmap {EXTRA:x} 1000"},
}


def commands(script: list[Step]) -> Iterator[str]:
    """All of a script; the first line is its begin."""
    mode = script[0]["mode"]
    base = script[0]["script"].removesuffix("." + mode)
    before = setup(base, mode, script)
    yield "step 0"
    yield from begin(script[0])
    for index, step in enumerate(script[1:], 1):
        yield from before.get(index, [])
        yield f"step {index:x}"
        yield from one({**step, "mode": mode})
