# SPDX-License-Identifier: BSD-2-Clause
"""MMIO, how operands are told: registers, addressing forms, prefixes.

SDM 2 chapter 2: prefixes (2.1.1), REX (2.2.1), ModR/M and SIB (2.1.5, tables 2-1 to
2-3).  A wrong length shows, as the next instruction is not executed then; a wrong
register or size in what the device sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from arithmetic import mask
from mmio_bench import DEVICE, Bench, pattern

from nvmmconf.suite import Gpr, Mode, Segment, VirtualMachine, check, modes, requirement

OFFSET = 0x128
TARGET = DEVICE + OFFSET
OLD = 0x0123456789ABCDEF
"""What the device has there."""

_NAMES = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_GPRS = (Gpr.RAX, Gpr.RCX, Gpr.RDX, Gpr.RBX, Gpr.RSP, Gpr.RBP, Gpr.RSI, Gpr.RDI)


def snippets(instructions: dict[str, str]) -> str:
    """A guest with these instructions by label, each followed by HLT."""
    return "".join(
        f"{label}:\n{text}\n1:  hlt\n{label}_after:\n    jmp 1b\n"
        for label, text in instructions.items()
    )


# ---- registers ----------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A register as instructions name it: bits [8*size + shift - 1 : shift] of `gpr`."""

    gpr: Gpr
    size: int
    shift: int = 0


def _registers(wide: bool) -> dict[str, Named]:
    named = {}
    for number, (name, gpr) in enumerate(zip(_NAMES, _GPRS, strict=True)):
        if number < 4:
            named[f"{name[0]}l"] = Named(gpr, 1)
            named[f"{name[0]}h"] = Named(gpr, 1, 8)
        elif wide:
            named[f"{name}l"] = Named(gpr, 1)
        named[name] = Named(gpr, 2)
        named[f"e{name}"] = Named(gpr, 4)
        if wide:
            named[f"r{name}"] = Named(gpr, 8)
    for number in range(8, 16) if wide else ():
        for suffix, size in (("b", 1), ("w", 2), ("d", 4), ("", 8)):
            named[f"r{number}{suffix}"] = Named(Gpr(number), size)
    return named


LEGACY = _registers(wide=False)
ALL = _registers(wide=True)


def _register_source(names: dict[str, Named]) -> str:
    at = f"ds:[{TARGET:#x}]"
    text = snippets({f"store_{name}": f"mov {at}, {name}" for name in names})
    return text + snippets({f"xchg_{name}": f"xchg {at}, {name}" for name in names})


LEGACY_REGISTERS = _register_source(LEGACY)
ALL_REGISTERS = _register_source(ALL)


def _uses_register(vm: VirtualMachine, source: str, named: Named, name: str) -> None:
    bench = Bench(vm, source, code=True)
    registers = pattern(vm.mode)
    registers[Gpr.RSP] = 0x1A2B3C4D  # no instruction here needs a stack
    value = registers[named.gpr] >> named.shift & mask(named.size)
    bench.put(OFFSET, OLD, 8)
    old = OLD & mask(named.size)
    stored = [bench.writes(OFFSET, value, named.size)]
    effect = bench.execute(f"store_{name}", registers)
    bench.verify(effect, f"mov [device], {name}", accesses=stored)
    if named.size == 4 and vm.mode is Mode.LONG64:
        after = old
    else:
        after = registers[named.gpr] & ~(mask(named.size) << named.shift) | old << named.shift
    effect = bench.execute(f"xchg_{name}", registers)
    bench.verify(
        effect,
        f"xchg [device], {name}",
        accesses=[bench.reads(OFFSET, old, named.size), *stored],
        registers={named.gpr: after},
    )


@requirement("L-DEC-9", "L-DAT-1", "L-DEC-1")
@modes(Mode.PROT32)
@pytest.mark.parametrize("register", LEGACY)
def test_register_without_rex(vm: VirtualMachine, register: str) -> None:
    """The bytes 4 to 7 are AH to BH without REX; of a register no other bit is used or changed."""
    _uses_register(vm, LEGACY_REGISTERS, LEGACY[register], register)


@requirement("L-DEC-9", "L-DAT-1", "L-DEC-1", "L-DEC-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("register", ALL)
def test_register_in_64_bit_mode(vm: VirtualMachine, register: str) -> None:
    """Each of the 68 registers is the one that REX and ModR/M name, SPL to DIL with a REX."""
    _uses_register(vm, ALL_REGISTERS, ALL[register], register)


_WIDE = "{{% if bits == 64 %}}\n{}\n{{% endif %}}"
MOVZX = snippets(
    {
        f"movzx_{name}": ("{}" if name in LEGACY else _WIDE).format(
            f"movzx {name}, byte ptr ds:[{TARGET:#x}]"
        )
        for name in ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r15d")
    }
)


@requirement("L-DAT-3", "L-DAT-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("register", ["esp", "ebp", "esi", "edi"])
def test_movzx_to_the_registers_4_to_7(vm: VirtualMachine, register: str) -> None:
    """MOVZX of a byte to ESP, EBP, ESI, EDI changes that register, not AH, CH, DH, BH."""
    _movzx(vm, register)


@requirement("L-DAT-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("register", ["eax", "ecx", "edx", "ebx"])
def test_movzx_to_the_registers_0_to_3(vm: VirtualMachine, register: str) -> None:
    """MOVZX of a byte to EAX, ECX, EDX, EBX changes that register, and all of it."""
    _movzx(vm, register)


@requirement("L-DAT-2", "L-DEC-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("register", ["r8d", "r15d"])
def test_movzx_to_the_registers_8_to_15(vm: VirtualMachine, register: str) -> None:
    """MOVZX of a byte with REX.R."""
    _movzx(vm, register)


def _movzx(vm: VirtualMachine, register: str) -> None:
    bench = Bench(vm, MOVZX, code=True)
    registers = pattern(vm.mode)
    registers[Gpr.RSP] = 0x1A2B3C4D
    bench.put(OFFSET, 0xC3, 1)
    effect = bench.execute(f"movzx_{register}", registers)
    bench.verify(
        effect,
        f"movzx {register}, byte",
        accesses=[bench.reads(OFFSET, 0xC3, 1)],
        registers={ALL[register].gpr: 0xC3},
    )


# ---- addressing forms ---------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """base + index * scale + displacement."""

    base: str = ""
    index: str = ""
    scale: int = 1
    displacement: int = 0

    @property
    def label(self) -> str:
        """A word for it."""
        scale = f"x{self.scale}" if self.index and self.scale > 1 else ""
        sign = "m" if self.displacement < 0 else "p"
        tail = f"{sign}{abs(self.displacement):x}" if self.displacement else ""
        return "_".join(part for part in (self.base, self.index + scale, tail) if part)

    @property
    def text(self) -> str:
        """In the assembler's words."""
        parts = [self.base] if self.base else []
        if self.index:
            parts.append(f"{self.index}*{self.scale}" if self.scale > 1 else self.index)
        text = "+".join(parts)
        if self.displacement or not parts:
            text += f"{self.displacement:+#x}" if parts else f"{self.displacement:#x}"
        return f"[{text}]" if parts else f"ds:[{text}]"

    def registers(self, target: int) -> dict[Gpr, int]:
        """Values of base and index with which it means `target`."""
        values = {}
        left = target - self.displacement
        width = mask(ALL[(self.base or self.index)].size) if self.base or self.index else 0
        if self.index and self.base != self.index:
            step = 0x24 if self.base else left // self.scale
            values[ALL[self.index].gpr] = step
            left -= step * self.scale
        if self.base:
            values[ALL[self.base].gpr] = (
                left // (1 + self.scale) if self.index == self.base else left
            ) & width
        return values


def _two_registers() -> list[Form]:
    pairs = [("bx", "si"), ("bx", "di"), ("bp", "si"), ("bp", "di")]
    pairs += [("si", ""), ("di", ""), ("bp", ""), ("bx", "")]
    forms = [Form(base, index, 1, d) for base, index in pairs for d in (0, 0x12, -2, 0x1234)]
    return [*forms, Form(displacement=TARGET)]


def _by_sib(bases: tuple[str, ...]) -> list[Form]:
    forms = [Form(base, "", 1, d) for base in bases for d in (0, -2, 0x1234)]
    indexes = [one for one in bases if one not in ("esp", "rsp")]
    for number, index in enumerate(indexes):
        base = bases[(number * 5 + 3) % len(bases)]
        base = base if base != index else bases[0]
        forms.append(Form(base, index, (1, 2, 4, 8)[number % 4] if base[1:] != "sp" else 2, 0))
        forms.append(Form(base, index, 8, 0x12))
        forms.append(Form(base, index, 4, -0x1234))
    forms += [Form("", index, 4, 0x128) for index in indexes[:4]]
    return [*forms, Form(displacement=TARGET)]


_E = tuple(f"e{name}" for name in _NAMES)
_R = tuple(f"r{name}" for name in _NAMES) + tuple(f"r{number}" for number in range(8, 16))
FORMS_16 = {form.label: form for form in _two_registers()}
FORMS_32 = {form.label: form for form in _by_sib(_E)}
FORMS_64 = {form.label: form for form in _by_sib(_R)}


def _address_source(forms: dict[str, Form]) -> str:
    return snippets(
        {f"at_{label}": f"mov byte ptr {form.text}, 0x5A" for label, form in forms.items()}
    )


SOURCE_16 = _address_source(FORMS_16)
SOURCE_32 = _address_source(FORMS_32)
SOURCE_64 = _address_source(FORMS_64)
# 16-bit forms where addresses are of 32 bits, and so on: with a prefix 67.
PREFIXED = dict(list(FORMS_16.items())[::3])


def _addresses(vm: VirtualMachine, source: str, form: Form) -> None:
    bench = Bench(vm, source, code=True)
    registers = {Gpr.RSP: 0x1A2B3C4D, **form.registers(TARGET)}
    effect = bench.execute(f"at_{form.label}", registers)
    bench.verify(effect, form.text, accesses=[bench.writes(OFFSET, 0x5A, 1)])


# NetBSD mem_assist, real mode: 1 MOV single, 2 dual, 3 dual+disp, 5 disp16-only.


@requirement("L-DEC-6", "L-MEM-6", "K-MEMX-2")
@modes(Mode.REAL16)
@pytest.mark.parametrize("form", FORMS_16)
def test_16_bit_addressing(vm: VirtualMachine, form: str) -> None:
    """Each 16-bit form (SDM table 2-1): the access is where it points, and RIP after it."""
    _addresses(vm, SOURCE_16, FORMS_16[form])


@requirement("L-DEC-6", "L-MEM-6", "K-MEMX-2")
@modes(Mode.PROT32)
@pytest.mark.parametrize("form", FORMS_32)
def test_32_bit_addressing(vm: VirtualMachine, form: str) -> None:
    """Each 32-bit form (SDM tables 2-2, 2-3), SIB and displacements among them."""
    _addresses(vm, SOURCE_32, FORMS_32[form])


@requirement("L-DEC-6", "L-MEM-6", "K-MEMX-2", "L-DEC-2", "L-DEC-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("form", FORMS_64)
def test_64_bit_addressing(vm: VirtualMachine, form: str) -> None:
    """Each 64-bit form, with REX.X and REX.B; R12 needs a SIB, R13 a displacement."""
    _addresses(vm, SOURCE_64, FORMS_64[form])


# NetBSD mem_assist 5 Address Sizes.


@requirement("L-DEC-5", "L-DEC-6")
@modes(Mode.PROT32)
@pytest.mark.parametrize("form", PREFIXED)
def test_16_bit_addressing_by_prefix(vm: VirtualMachine, form: str) -> None:
    """With prefix 67 in 32-bit code, the form is a 16-bit one."""
    _addresses(vm, SOURCE_16, FORMS_16[form])


@requirement("L-DEC-5", "L-DEC-6")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("form", list(FORMS_32)[::3])
def test_32_bit_addressing_by_prefix(vm: VirtualMachine, form: str) -> None:
    """With prefix 67 in 16-bit and in 64-bit code, the form is a 32-bit one."""
    _addresses(vm, SOURCE_32, FORMS_32[form])


@requirement("L-DEC-5", "K-MEMX-1")
@modes(Mode.LONG64)
def test_prefix_67_cuts_the_address(vm: VirtualMachine) -> None:
    """With prefix 67 in 64-bit mode bits 63:32 of the registers do not count."""
    bench = Bench(vm, snippets({"insn": "mov byte ptr [eax+ebx], 0x77"}), code=True)
    registers = {Gpr.RAX: 0xFFFFFFFF_00000000 | TARGET, Gpr.RBX: 0x1234_00000000}
    effect = bench.execute("insn", registers)
    bench.verify(effect, "mov [eax+ebx]", accesses=[bench.writes(OFFSET, 0x77, 1)])


@requirement("L-DEC-6", "L-MEM-6", "L-DEC-10")
@modes(Mode.LONG64)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_rip_relative_addressing(vm: VirtualMachine, size: int) -> None:
    """RIP-relative is relative to the next instruction, also where an immediate follows."""
    word = {1: "byte", 2: "word", 4: "dword", 8: "qword"}[size]
    bench = Bench(vm, snippets({"insn": f"mov {word} ptr [rip], 0x5A\ninsn_end:"}), code=True)
    end = bench.guest.symbol("insn_end")
    place = end - min(size, 4) - 4
    bench.guest.write(place, (TARGET - end).to_bytes(4, "little", signed=True))
    effect = bench.execute("insn", {})
    bench.verify(effect, "mov [rip+d]", accesses=[bench.writes(OFFSET, 0x5A, size)])


# ---- prefixes -----------------------------------------------------------------------

# mov [rbx], ecx (89 0B) behind prefixes: how many bytes it writes.
PREFIXES = {
    "66": 2, "67": 4, "6667": 2, "6766": 2, "6666": 2, "2e": 4, "36": 4, "3e": 4,
    "26": 4, "64": 4, "65": 4, "2e3e2664": 4, "6664": 2, "6466": 2, "40": 4, "48": 8,
    "6648": 8, "6740": 4, "6640": 2, "2e48": 8, "664a": 8, "66666666666666666666666666": 2,
    "2e2e2e2e2e2e2e2e2e2e2e2e48": 8,
}  # fmt: skip

PREFIX_SOURCE = snippets(
    {f"p{code}": f".byte {', '.join(f'0x{b:02x}' for b in bytes.fromhex(code))}, 0x89, 0x0B"
     for code in PREFIXES}
)  # fmt: skip


@requirement("L-DEC-2", "L-DEC-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("prefixes", PREFIXES)
def test_prefixes_in_any_order_and_number(vm: VirtualMachine, prefixes: str) -> None:
    """Legacy prefixes may come in any order, and more than once; REX is last; REX.W beats 66."""
    bench = Bench(vm, PREFIX_SOURCE, code=True)
    registers = pattern(vm.mode) | {Gpr.RBX: TARGET}
    size = PREFIXES[prefixes]
    effect = bench.execute(f"p{prefixes}", registers)
    written = [bench.writes(OFFSET, registers[Gpr.RCX] & mask(size), size)]
    bench.verify(effect, f"{prefixes} mov [rbx], ecx", accesses=written)


@requirement("L-DEC-14")
@modes(Mode.LONG64)
@pytest.mark.parametrize("rex", [0x41, 0x44, 0x45])
def test_accumulator_has_no_rex(vm: VirtualMachine, rex: int) -> None:
    """MOV with an offset, STOS and LODS mean rAX whatever REX.R and REX.B say."""
    offset = ", ".join(f"{byte:#x}" for byte in TARGET.to_bytes(8, "little"))
    codes = {"load": f"0xA1, {offset}", "store": f"0xA3, {offset}", "stos": "0xAB", "lods": "0xAD"}
    bench = Bench(
        vm, snippets({name: f".byte {rex:#x}, {code}" for name, code in codes.items()}), code=True
    )
    registers = pattern(vm.mode) | {Gpr.RSI: TARGET, Gpr.RDI: TARGET}
    bench.put(OFFSET, OLD, 8)
    old, new = OLD & mask(4), registers[Gpr.RAX] & mask(4)
    for name in codes:
        effect = bench.execute(name, registers)
        loads = name in ("load", "lods")
        changed = {Gpr.RAX: old} if loads else {}
        if name in ("stos", "lods"):
            changed[Gpr.RDI if name == "stos" else Gpr.RSI] = TARGET + 4
        access = bench.reads(OFFSET, old, 4) if loads else bench.writes(OFFSET, new, 4)
        bench.verify(effect, name, accesses=[access], registers=changed)


@requirement("L-DEC-2", "K-MEMX-2", "L-MEM-6")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("segment", [Segment.ES, Segment.FS, Segment.GS])
def test_segment_override_moves_the_access(vm: VirtualMachine, segment: Segment) -> None:
    """The access is where the segment's base puts it: the exit's address is the operand's."""
    base = DEVICE if vm.mode is not Mode.LONG64 or segment is not Segment.ES else 0
    source = f"insn: mov byte ptr {segment.name.lower()}:[{{{{ bx }}}}], 0x5A\n1: hlt\n jmp 1b"
    bench = Bench(vm, source, code=True)
    register = bench.guest.registers.seg[segment]
    # In 64-bit mode the base of ES counts as 0.
    register.base = vm.mode.code_base + DEVICE
    bench.guest.registers.gpr[Gpr.RBX] = OFFSET if base else TARGET
    run = bench.guest.run()
    check.equal(run.mmio, (bench.writes(OFFSET, 0x5A, 1),), "the device")


@requirement("L-DAT-9", "L-MEM-6")
@modes(Mode.REAL16, Mode.PROT32)
def test_stack_registers_address_the_stack_segment(vm: VirtualMachine) -> None:
    """An operand based on BP is in SS."""
    bench = Bench(vm, "    mov byte ptr [{{ bp }}+0x28], 0x5A\n1:  hlt\n    jmp 1b", code=True)
    bench.guest.registers.seg[Segment.SS].base = vm.mode.code_base + DEVICE
    bench.guest.registers.gpr[Gpr.RBP] = OFFSET - 0x28
    run = bench.guest.run()
    check.equal(run.mmio, (bench.writes(OFFSET, 0x5A, 1),), "the device")
