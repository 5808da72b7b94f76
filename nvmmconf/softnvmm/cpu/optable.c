/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The opcode maps (SDM 2D, appendix A; APM 3, appendix A).
 *
 * A row without a routine is no instruction on this processor: #UD.  A row
 * GAP(name) is an instruction that is still to be written: #UD too, but
 * counted in cpu->unimplemented.
 */
#include "optable.h"

static void
op_gap(struct exec *x)
{
	unimplemented(x);
}

#define R0(h, f)		{ .execute = op_##h, .flags = (f) }
#define R1(h, f, a)		{ .execute = op_##h, .flags = (f), .operand = { a } }
#define R2(h, f, a, b)		{ .execute = op_##h, .flags = (f), .operand = { a, b } }
#define R3(h, f, a, b, c)	{ .execute = op_##h, .flags = (f), .operand = { a, b, c } }
#define GAP(name)		{ .execute = op_gap }
#define SUB(how, t)		{ .by = (how), .table = (t) }
/* A group whose rows share their operands. */
#define GROUP(t, ...)		{ .by = BY_REG, .table = (t), .operand = { __VA_ARGS__ } }

#define LOCK	OP_LOCK
#define D64	OP_D64
#define I64	OP_I64
#define CPL0	OP_CPL0

static const struct opcode group1[8] = {
	R0(add, LOCK), R0(or, LOCK), R0(adc, LOCK), R0(sbb, LOCK),
	R0(and, LOCK), R0(sub, LOCK), R0(xor, LOCK), R0(cmp, 0)
};

static const struct opcode group1a[8] = { R1(pop, D64, Ev) };

static const struct opcode group2[8] = {
	R0(rol, 0), R0(ror, 0), R0(rcl, 0), R0(rcr, 0),
	R0(shl, 0), R0(shr, 0), R0(shl, 0), R0(sar, 0)
};

static const struct opcode group3b[8] = {
	R2(test, 0, Eb, Ib), R2(test, 0, Eb, Ib), R1(not, LOCK, Eb), R1(neg, LOCK, Eb),
	R1(mul, 0, Eb), R1(imul, 0, Eb), R1(div, 0, Eb), R1(idiv, 0, Eb)
};

static const struct opcode group3v[8] = {
	R2(test, 0, Ev, Iz), R2(test, 0, Ev, Iz), R1(not, LOCK, Ev), R1(neg, LOCK, Ev),
	R1(mul, 0, Ev), R1(imul, 0, Ev), R1(div, 0, Ev), R1(idiv, 0, Ev)
};

static const struct opcode group4[8] = { R1(inc, LOCK, Eb), R1(dec, LOCK, Eb) };

static const struct opcode group5[8] = {
	R1(inc, LOCK, Ev), R1(dec, LOCK, Ev),
	R1(call_indirect, D64, Ev), R1(call_far_m, OP_MEMORY, M),
	R1(jmp_indirect, D64, Ev), R1(jmp_far_m, OP_MEMORY, M),
	R1(push, D64, Ev)
};

static const struct opcode group6[8] = {
	R1(sldt, OP_PROT, Ms), R1(str, OP_PROT, Ms),
	R1(lldt, OP_PROT | CPL0, Ew), R1(ltr, OP_PROT | CPL0, Ew),
	R1(verr, OP_PROT, Ew), R1(verw, OP_PROT, Ew)
};

static const struct opcode group7_rm1[8] = {
	R0(monitor, 0), R0(mwait, 0), GAP(CLAC), GAP(STAC)
};

static const struct opcode group7_rm2[8] = { GAP(XGETBV), R0(xsetbv, 0) };

static const struct opcode group7_rm7[8] = {
	R0(swapgs, OP_O64 | CPL0), R0(rdtscp, 0)
};

/* VMCALL, VMLAUNCH, VMRESUME, VMXOFF; VMRUN to INVLPGA. */
static const struct opcode group7_rm0[8] = {
	{ .execute = NULL }, R0(vmcall, 0), R0(vmx, 0), R0(vmx, 0), R0(vmx, 0)
};
static const struct opcode group7_rm3[8] = {
	R0(svm, 0), R0(vmmcall, 0), R0(svm, 0), R0(svm, 0),
	R0(svm, 0), R0(svm, 0), R0(svm, 0), R0(svm, 0)
};

static const struct opcode group7_mod1[2] = { R1(sidt, 0, M), SUB(BY_RM, group7_rm1) };
static const struct opcode group7_mod2[2] = { R1(lgdt, CPL0, M), SUB(BY_RM, group7_rm2) };
static const struct opcode group7_mod7[2] = { R1(invlpg, CPL0, M), SUB(BY_RM, group7_rm7) };
static const struct opcode group7_mod0[2] = { R1(sgdt, 0, M), SUB(BY_RM, group7_rm0) };
static const struct opcode group7_mod3[2] = { R1(lidt, CPL0, M), SUB(BY_RM, group7_rm3) };

static const struct opcode group7[8] = {
	SUB(BY_MOD, group7_mod0), SUB(BY_MOD, group7_mod1),
	SUB(BY_MOD, group7_mod2), SUB(BY_MOD, group7_mod3),
	R1(smsw, 0, Ms), { .execute = NULL },
	R1(lmsw, CPL0, Ew), SUB(BY_MOD, group7_mod7)
};

static const struct opcode group8[8] = {
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	R0(bt, 0), R0(bts, LOCK), R0(btr, LOCK), R0(btc, LOCK)
};

static const struct opcode group9[8] = {
	{ .execute = NULL }, R1(cmpxchg8b, LOCK | OP_MEMORY, M),
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	GAP(RDRAND), GAP(RDSEED)
};

static const struct opcode group11b[8] = { R2(mov, 0, Eb, Ib) };
static const struct opcode group11v[8] = { R2(mov, 0, Ev, Iz) };

static const struct opcode group15_mem[8] = {
	GAP(FXSAVE), GAP(FXRSTOR), GAP(LDMXCSR), GAP(STMXCSR),
	GAP(XSAVE), GAP(XRSTOR), GAP(XSAVEOPT), GAP(CLFLUSH)
};

static const struct opcode group15_reg[8] = {
	GAP(RDFSBASE), GAP(RDGSBASE), GAP(WRFSBASE), GAP(WRGSBASE),
	{ .execute = NULL },
	R0(nop, 0) /* LFENCE */, R0(nop, 0) /* MFENCE */, R0(nop, 0) /* SFENCE */
};

static const struct opcode group15[2] = {
	SUB(BY_REG, group15_mem), SUB(BY_REG, group15_reg)
};

/* POPCNT has F3 as a part of its opcode. */
static const struct opcode prefixed_b8[4] = {
	{ .execute = NULL }, { .execute = NULL }, R2(popcnt, 0, Gv, Ev), { .execute = NULL }
};

/* MOVBE with F2 is CRC32. */
static const struct opcode prefixed_38f0[4] = {
	R2(movbe, OP_MEMORY, Gv, Mv), R2(movbe, OP_MEMORY, Gv, Mv),
	R2(movbe, OP_MEMORY, Gv, Mv), GAP(CRC32)
};
static const struct opcode prefixed_38f1[4] = {
	R2(movbe, OP_MEMORY, Mv, Gv), R2(movbe, OP_MEMORY, Mv, Gv),
	R2(movbe, OP_MEMORY, Mv, Gv), GAP(CRC32)
};

/* MOVSXD reads 32 bits even for a 16-bit operand, as AMD does; Intel reads 16. */
static const struct opcode opcode_63[2] = { R2(arpl, OP_PROT, Ew, Gw), R2(movsx, 0, Gv, Ed) };
/* In 64-bit mode, and with two register operands in others, C4 and C5 are VEX. */
static const struct opcode les_mod[2] = { R1(load_far_pointer, 0, Gv), GAP(VEX) };
static const struct opcode lds_mod[2] = { R1(load_far_pointer, 0, Gv), GAP(VEX) };
static const struct opcode opcode_c4[2] = { SUB(BY_MOD, les_mod), GAP(VEX) };
static const struct opcode opcode_c5[2] = { SUB(BY_MOD, lds_mod), GAP(VEX) };
static const struct opcode bound_mod[2] = { R2(bound, 0, Gv, M), GAP(EVEX) };
static const struct opcode opcode_62[2] = { SUB(BY_MOD, bound_mod), GAP(EVEX) };

/* The six forms of an arithmetic instruction, at 00, 08, ... 38. */
#define ALU(at, name, lock)						\
	[(at) + 0] = R2(name, lock, Eb, Gb), [(at) + 1] = R2(name, lock, Ev, Gv), \
	[(at) + 2] = R2(name, 0, Gb, Eb), [(at) + 3] = R2(name, 0, Gv, Ev), \
	[(at) + 4] = R2(name, 0, AL, Ib), [(at) + 5] = R2(name, 0, rAX, Iz)
#define EIGHT(at, ...)							\
	[(at) + 0] = __VA_ARGS__, [(at) + 1] = __VA_ARGS__,		\
	[(at) + 2] = __VA_ARGS__, [(at) + 3] = __VA_ARGS__,		\
	[(at) + 4] = __VA_ARGS__, [(at) + 5] = __VA_ARGS__,		\
	[(at) + 6] = __VA_ARGS__, [(at) + 7] = __VA_ARGS__
#define SIXTEEN(at, ...)	EIGHT(at, __VA_ARGS__), EIGHT((at) + 8, __VA_ARGS__)

/* Prefixes (26 2E 36 3E 40-4F 64-67 F0 F2 F3) never get here; 0F is an escape. */
const struct opcode opcode_map_1[256] = {
	ALU(0x00, add, LOCK),
	[0x06] = R0(push_sreg, I64), [0x07] = R0(pop_sreg, I64),
	ALU(0x08, or, LOCK),
	[0x0E] = R0(push_sreg, I64),
	ALU(0x10, adc, LOCK),
	[0x16] = R0(push_sreg, I64), [0x17] = R0(pop_sreg, I64),
	ALU(0x18, sbb, LOCK),
	[0x1E] = R0(push_sreg, I64), [0x1F] = R0(pop_sreg, I64),
	ALU(0x20, and, LOCK),
	[0x27] = R0(daa, I64),
	ALU(0x28, sub, LOCK),
	[0x2F] = R0(das, I64),
	ALU(0x30, xor, LOCK),
	[0x37] = R0(aaa, I64),
	ALU(0x38, cmp, 0),
	[0x3F] = R0(aas, I64),
	EIGHT(0x40, R1(inc, I64, Zv)),
	EIGHT(0x48, R1(dec, I64, Zv)),
	EIGHT(0x50, R1(push, D64, Zv)),
	EIGHT(0x58, R1(pop, D64, Zv)),
	[0x60] = R0(pusha, I64), [0x61] = R0(popa, I64),
	[0x62] = SUB(BY_64, opcode_62),
	[0x63] = SUB(BY_64, opcode_63),
	[0x68] = R1(push, D64, Iz), [0x69] = R3(imul3, 0, Gv, Ev, Iz),
	[0x6A] = R1(push, D64, sIb), [0x6B] = R3(imul3, 0, Gv, Ev, sIb),
	[0x6C] = R1(ins, 0, Xb), [0x6D] = R1(ins, 0, Xv),
	[0x6E] = R1(outs, 0, Xb), [0x6F] = R1(outs, 0, Xv),
	SIXTEEN(0x70, R1(jcc, D64, Jb)),
	[0x80] = GROUP(group1, Eb, Ib), [0x81] = GROUP(group1, Ev, Iz),
	[0x82] = { .by = BY_REG, .table = group1, .operand = { Eb, Ib }, .flags = I64 },
	[0x83] = GROUP(group1, Ev, sIb),
	[0x84] = R2(test, 0, Eb, Gb), [0x85] = R2(test, 0, Ev, Gv),
	[0x86] = R2(xchg, LOCK, Eb, Gb), [0x87] = R2(xchg, LOCK, Ev, Gv),
	[0x88] = R2(mov, 0, Eb, Gb), [0x89] = R2(mov, 0, Ev, Gv),
	[0x8A] = R2(mov, 0, Gb, Eb), [0x8B] = R2(mov, 0, Gv, Ev),
	[0x8C] = R2(mov_from_sreg, 0, Ms, Sw),
	[0x8D] = R2(lea, OP_MEMORY, Gv, M),
	[0x8E] = R2(mov_to_sreg, 0, Sw, Ew),
	[0x8F] = SUB(BY_REG, group1a),
	/* 90 is XCHG with rAX, with REX.B too; NOP and PAUSE fall out of op_xchg. */
	EIGHT(0x90, R2(xchg, 0, Zv, rAX)),
	[0x98] = R0(cbw, 0), [0x99] = R0(cwd, 0),
	[0x9A] = R1(call_far, I64, Ap),
	[0x9B] = GAP(FWAIT),
	[0x9C] = R0(pushf, D64), [0x9D] = R0(popf, D64),
	[0x9E] = R0(sahf, 0), [0x9F] = R0(lahf, 0),
	[0xA0] = R2(mov, 0, AL, Ob), [0xA1] = R2(mov, 0, rAX, Ov),
	[0xA2] = R2(mov, 0, Ob, AL), [0xA3] = R2(mov, 0, Ov, rAX),
	[0xA4] = R1(movs, 0, Xb), [0xA5] = R1(movs, 0, Xv),
	[0xA6] = R1(cmps, 0, Xb), [0xA7] = R1(cmps, 0, Xv),
	[0xA8] = R2(test, 0, AL, Ib), [0xA9] = R2(test, 0, rAX, Iz),
	[0xAA] = R1(stos, 0, Xb), [0xAB] = R1(stos, 0, Xv),
	[0xAC] = R1(lods, 0, Xb), [0xAD] = R1(lods, 0, Xv),
	[0xAE] = R1(scas, 0, Xb), [0xAF] = R1(scas, 0, Xv),
	EIGHT(0xB0, R2(mov, 0, Zb, Ib)),
	EIGHT(0xB8, R2(mov, 0, Zv, Iv)),
	[0xC0] = GROUP(group2, Eb, Ib), [0xC1] = GROUP(group2, Ev, Ib),
	[0xC2] = R1(ret_imm, D64, Iw), [0xC3] = R0(ret, D64),
	[0xC4] = SUB(BY_64, opcode_c4), [0xC5] = SUB(BY_64, opcode_c5),
	[0xC6] = SUB(BY_REG, group11b), [0xC7] = SUB(BY_REG, group11v),
	[0xC8] = R2(enter, D64, Iw, Ib2), [0xC9] = R0(leave, D64),
	[0xCA] = R1(retf_imm, 0, Iw), [0xCB] = R0(retf, 0),
	[0xCC] = R0(int3, 0), [0xCD] = R1(int_n, 0, Ib), [0xCE] = R0(into, I64),
	[0xCF] = R0(iret, 0),
	[0xD0] = GROUP(group2, Eb, ONE), [0xD1] = GROUP(group2, Ev, ONE),
	[0xD2] = GROUP(group2, Eb, CL), [0xD3] = GROUP(group2, Ev, CL),
	[0xD4] = R1(aam, I64, Ib), [0xD5] = R1(aad, I64, Ib),
	[0xD7] = R0(xlat, 0),
	EIGHT(0xD8, GAP(x87)),
	[0xE0] = R1(loopne, D64, Jb), [0xE1] = R1(loope, D64, Jb),
	[0xE2] = R1(loop, D64, Jb), [0xE3] = R1(jrcxz, D64, Jb),
	[0xE4] = R2(in, 0, AL, Ib), [0xE5] = R2(in, 0, eAX, Ib),
	[0xE6] = R2(out, 0, AL, Ib), [0xE7] = R2(out, 0, eAX, Ib),
	[0xE8] = R1(call, D64, Jz), [0xE9] = R1(jmp, D64, Jz),
	[0xEA] = R1(jmp_far, I64, Ap), [0xEB] = R1(jmp, D64, Jb),
	[0xEC] = R2(in, 0, AL, DX), [0xED] = R2(in, 0, eAX, DX),
	[0xEE] = R2(out, 0, AL, DX), [0xEF] = R2(out, 0, eAX, DX),
	[0xF1] = R0(icebp, 0),
	[0xF4] = R0(hlt, CPL0), [0xF5] = R0(cmc, 0),
	[0xF6] = SUB(BY_REG, group3b), [0xF7] = SUB(BY_REG, group3v),
	[0xF8] = R0(clc, 0), [0xF9] = R0(stc, 0),
	[0xFA] = R0(cli, 0), [0xFB] = R0(sti, 0),
	[0xFC] = R0(cld, 0), [0xFD] = R0(std, 0),
	[0xFE] = SUB(BY_REG, group4), [0xFF] = SUB(BY_REG, group5)
};

const struct opcode opcode_map_0f[256] = {
	[0x00] = SUB(BY_REG, group6), [0x01] = SUB(BY_REG, group7),
	[0x02] = R2(lar, OP_PROT, Gv, Ew), [0x03] = R2(lsl, OP_PROT, Gv, Ew),
	[0x05] = R0(syscall, 0), [0x06] = R0(clts, CPL0), [0x07] = R0(sysret, CPL0),
	[0x08] = R0(invd, CPL0), [0x09] = R0(wbinvd, CPL0),
	[0x0D] = R1(nop, OP_MODRM, NO) /* PREFETCHW */,
	[0x0E] = GAP(FEMMS), [0x0F] = GAP(3DNow),
	EIGHT(0x10, GAP(SSE)),
	/* Hints (PREFETCHh, ENDBR, NOP): an address, no access. */
	EIGHT(0x18, R0(nop, OP_MODRM)),
	[0x20] = R2(mov_from_cr, CPL0, Ry, NO), [0x21] = R2(mov_from_dr, CPL0, Ry, NO),
	[0x22] = R2(mov_to_cr, CPL0, Ry, NO), [0x23] = R2(mov_to_dr, CPL0, Ry, NO),
	EIGHT(0x28, GAP(SSE)),
	[0x30] = R0(wrmsr, CPL0), [0x31] = R0(rdtsc, 0),
	[0x32] = R0(rdmsr, CPL0), [0x33] = R0(rdpmc, 0),
	[0x34] = R0(sysenter, 0), [0x35] = R0(sysexit, CPL0),
	SIXTEEN(0x40, R2(cmovcc, 0, Gv, Ev)),
	SIXTEEN(0x50, GAP(SSE)), SIXTEEN(0x60, GAP(SSE)),
	[0x78] = R0(vmx, OP_MODRM), [0x79] = R0(vmx, OP_MODRM) /* VMREAD, VMWRITE */,
	[0x70] = GAP(SSE), [0x71] = GAP(SSE), [0x72] = GAP(SSE), [0x73] = GAP(SSE),
	[0x74] = GAP(SSE), [0x75] = GAP(SSE), [0x76] = GAP(SSE), [0x77] = GAP(EMMS),
	[0x7C] = GAP(SSE), [0x7D] = GAP(SSE), [0x7E] = GAP(SSE), [0x7F] = GAP(SSE),
	SIXTEEN(0x80, R1(jcc, D64, Jz)),
	SIXTEEN(0x90, R1(setcc, 0, Eb)),
	[0xA0] = R0(push_sreg, D64), [0xA1] = R0(pop_sreg, D64),
	[0xA2] = R0(cpuid, 0), [0xA3] = R2(bt, 0, Ev, Gv),
	[0xA4] = R3(shld, 0, Ev, Gv, Ib), [0xA5] = R3(shld, 0, Ev, Gv, CL),
	[0xA8] = R0(push_sreg, D64), [0xA9] = R0(pop_sreg, D64),
	[0xAA] = GAP(RSM), [0xAB] = R2(bts, LOCK, Ev, Gv),
	[0xAC] = R3(shrd, 0, Ev, Gv, Ib), [0xAD] = R3(shrd, 0, Ev, Gv, CL),
	[0xAE] = SUB(BY_MOD, group15), [0xAF] = R2(imul2, 0, Gv, Ev),
	[0xB0] = R2(cmpxchg, LOCK, Eb, Gb), [0xB1] = R2(cmpxchg, LOCK, Ev, Gv),
	[0xB2] = R1(load_far_pointer, OP_MEMORY, Gv),
	[0xB3] = R2(btr, LOCK, Ev, Gv),
	[0xB4] = R1(load_far_pointer, OP_MEMORY, Gv),
	[0xB5] = R1(load_far_pointer, OP_MEMORY, Gv),
	[0xB6] = R2(movzx, 0, Gv, Eb), [0xB7] = R2(movzx, 0, Gv, Ew),
	[0xB8] = SUB(BY_PREFIX, prefixed_b8),
	[0xB9] = { .execute = NULL /* UD1 */ },
	[0xBA] = GROUP(group8, Ev, Ib), [0xBB] = R2(btc, LOCK, Ev, Gv),
	/* F3 makes TZCNT and LZCNT of these only where CPUID has them. */
	[0xBC] = R2(bsf, 0, Gv, Ev), [0xBD] = R2(bsr, 0, Gv, Ev),
	[0xBE] = R2(movsx, 0, Gv, Eb), [0xBF] = R2(movsx, 0, Gv, Ew),
	[0xC0] = R2(xadd, LOCK, Eb, Gb), [0xC1] = R2(xadd, LOCK, Ev, Gv),
	[0xC2] = GAP(SSE), [0xC3] = GAP(MOVNTI), [0xC4] = GAP(SSE), [0xC5] = GAP(SSE),
	[0xC6] = GAP(SSE), [0xC7] = SUB(BY_REG, group9),
	EIGHT(0xC8, R1(bswap, 0, Zv)),
	SIXTEEN(0xD0, GAP(SSE)), SIXTEEN(0xE0, GAP(SSE)),
	EIGHT(0xF0, GAP(SSE)),
	[0xF8] = GAP(SSE), [0xF9] = GAP(SSE), [0xFA] = GAP(SSE), [0xFB] = GAP(SSE),
	[0xFC] = GAP(SSE), [0xFD] = GAP(SSE), [0xFE] = GAP(SSE)
};

const struct opcode opcode_map_0f38[256] = {
	SIXTEEN(0x00, GAP(SSSE3)), SIXTEEN(0x10, GAP(SSE4)), SIXTEEN(0x20, GAP(SSE4)),
	SIXTEEN(0x30, GAP(SSE4)),
	[0x40] = GAP(SSE4), [0x41] = GAP(SSE4),
	[0x82] = GAP(INVPCID),
	[0xF0] = SUB(BY_PREFIX, prefixed_38f0), [0xF1] = SUB(BY_PREFIX, prefixed_38f1),
	[0xF6] = GAP(ADX)
};

const struct opcode opcode_map_0f3a[256] = {
	SIXTEEN(0x00, GAP(SSE4)), SIXTEEN(0x10, GAP(SSE4)), SIXTEEN(0x20, GAP(SSE4)),
	SIXTEEN(0x60, GAP(SSE4)),
	[0xDF] = GAP(AES)
};
