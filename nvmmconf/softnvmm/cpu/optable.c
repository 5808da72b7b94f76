/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The opcode maps (SDM 2D, appendix A; APM 3, appendix A).
 *
 * A row without a routine is no instruction on this processor: #UD.  A row
 * GAP(name) is an instruction that is still to be written: #UD too, but
 * counted in cpu->unimplemented.  ABSENT(name) is of an extension that this
 * processor's CPUID does not show: #UD as it should be, and counted only where
 * another's CPUID answers.
 */
#include "optable.h"

void
op_gap(struct exec *x)
{
	unimplemented(x);
}

void
op_absent(struct exec *x)
{
	if (x->cpu->intercepts & CPU_CPUID_FOREIGN)
		unimplemented(x);
	ud(x);
}

#define R0(h, f)		{ .execute = op_##h, .flags = (f) }
#define R1(h, f, a)		{ .execute = op_##h, .flags = (f), .operand = { a } }
#define R2(h, f, a, b)		{ .execute = op_##h, .flags = (f), .operand = { a, b } }
#define R3(h, f, a, b, c)	{ .execute = op_##h, .flags = (f), .operand = { a, b, c } }
#define GAP(name)		{ .execute = op_gap }
#define ABSENT(name)		{ .execute = op_absent }
#define SUB(how, t)		{ .by = (how), .table = (t) }
/* A group whose rows share their operands. */
#define GROUP(t, ...)		{ .by = BY_REG, .table = (t), .operand = { __VA_ARGS__ } }

#define LOCK	OP_LOCK
#define D64	OP_D64
#define F64	(OP_D64 | OP_F64)
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
	R1(call_indirect, F64, Ev), R1(call_far_m, OP_MEMORY, M),
	R1(jmp_indirect, F64, Ev), R1(jmp_far_m, OP_MEMORY, M),
	R1(push, D64, Ev)
};

static const struct opcode group6[8] = {
	R1(sldt, OP_PROT | OP_UMIP, Ms), R1(str, OP_PROT | OP_UMIP, Ms),
	R1(lldt, OP_PROT | CPL0, Ew), R1(ltr, OP_PROT | CPL0, Ew),
	R1(verr, OP_PROT, Ew), R1(verw, OP_PROT, Ew)
};

static const struct opcode group7_rm1[8] = {
	R0(monitor, 0), R0(mwait, 0), R0(clac, 0), R0(stac, 0)
};

/* No prefix 66, F3 or F2 with these. */
#define NP(...)	{ .by = BY_PREFIX, .table = (const struct opcode[4]){ __VA_ARGS__ } }

static const struct opcode group7_rm2[8] = { NP(R0(xgetbv, 0)), NP(R0(xsetbv, 0)) };

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

static const struct opcode group7_mod1[2] = { R1(sidt, OP_UMIP, M), SUB(BY_RM, group7_rm1) };
static const struct opcode group7_mod2[2] = { R1(lgdt, CPL0, M), SUB(BY_RM, group7_rm2) };
static const struct opcode group7_mod7[2] = { R1(invlpg, CPL0, M), SUB(BY_RM, group7_rm7) };
static const struct opcode group7_mod0[2] = { R1(sgdt, OP_UMIP, M), SUB(BY_RM, group7_rm0) };
static const struct opcode group7_mod3[2] = { R1(lidt, CPL0, M), SUB(BY_RM, group7_rm3) };

static const struct opcode group7[8] = {
	SUB(BY_MOD, group7_mod0), SUB(BY_MOD, group7_mod1),
	SUB(BY_MOD, group7_mod2), SUB(BY_MOD, group7_mod3),
	R1(smsw, OP_UMIP, Ms), { .execute = NULL },
	R1(lmsw, CPL0, Ew), SUB(BY_MOD, group7_mod7)
};

static const struct opcode group8[8] = {
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	R0(bt, 0), R0(bts, LOCK), R0(btr, LOCK), R0(btc, LOCK)
};

/* By prefix: memory VMPTRLD, VMCLEAR, VMXON and VMPTRST, registers RDRAND and
 * RDSEED, which take 66 as an operand size. */
static const struct opcode group9_6_mem[4] = {
	R0(vmx, 0), R0(vmx, 0), R0(vmx, 0), { .execute = NULL }
};
static const struct opcode group9_6_reg[4] = {
	ABSENT(RDRAND), ABSENT(RDRAND), { .execute = NULL }, { .execute = NULL }
};
static const struct opcode group9_7_mem[4] = { R0(vmx, 0) };
static const struct opcode group9_7_reg[4] = { ABSENT(RDSEED), ABSENT(RDSEED) };
static const struct opcode group9_6[2] = {
	SUB(BY_PREFIX, group9_6_mem), SUB(BY_PREFIX, group9_6_reg)
};
static const struct opcode group9_7[2] = {
	SUB(BY_PREFIX, group9_7_mem), SUB(BY_PREFIX, group9_7_reg)
};

static const struct opcode group9[8] = {
	{ .execute = NULL }, R1(cmpxchg8b, LOCK | OP_MEMORY, M),
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	SUB(BY_MOD, group9_6), SUB(BY_MOD, group9_7)
};

static const struct opcode group11b[8] = { R2(mov, 0, Eb, Ib) };
static const struct opcode group11v[8] = { R2(mov, 0, Ev, Iz) };

static const struct opcode group15_mem[8] = {
	R0(fxsave, OP_X87_NOWAIT | OP_MEMORY), R0(fxrstor, OP_X87_NOWAIT | OP_MEMORY),
	R1(ldmxcsr, OP_SSE, Md), R1(stmxcsr, OP_SSE, Md),
	R0(xsave, OP_XSAVE | OP_MEMORY), R0(xrstor, OP_XSAVE | OP_MEMORY),
	R0(xsaveopt, OP_XSAVE | OP_MEMORY), R1(clflush, OP_MEMORY, Mb)
};

/* With 66 CLFLUSHOPT, and CLWB, which is not here. */
static const struct opcode group15_mem66[8] = {
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	{ .execute = NULL }, { .execute = NULL }, { .execute = NULL },
	R1(clflush, OP_MEMORY, Mb)
};

static const struct opcode group15_mem_by[4] = {
	SUB(BY_REG, group15_mem), SUB(BY_REG, group15_mem66)
};

/* F3 is a part of these. */
#define FSGS(h)	{ { .execute = NULL }, { .execute = NULL }, R1(h, OP_O64, Ey), { .execute = NULL } }
static const struct opcode prefixed_rdfsbase[4] = FSGS(rdfsbase);
static const struct opcode prefixed_rdgsbase[4] = FSGS(rdgsbase);
static const struct opcode prefixed_wrfsbase[4] = FSGS(wrfsbase);
static const struct opcode prefixed_wrgsbase[4] = FSGS(wrgsbase);

static const struct opcode group15_reg[8] = {
	SUB(BY_PREFIX, prefixed_rdfsbase), SUB(BY_PREFIX, prefixed_rdgsbase),
	SUB(BY_PREFIX, prefixed_wrfsbase), SUB(BY_PREFIX, prefixed_wrgsbase),
	{ .execute = NULL },
	NP(R0(fence, 0)) /* LFENCE */, NP(R0(fence, 0)) /* MFENCE */, NP(R0(fence, 0)) /* SFENCE */
};

static const struct opcode group15[2] = {
	SUB(BY_PREFIX, group15_mem_by), SUB(BY_REG, group15_reg)
};

/* POPCNT has F3 as a part of its opcode. */
static const struct opcode prefixed_b8[4] = {
	{ .execute = NULL }, { .execute = NULL }, R2(popcnt, 0, Gv, Ev), { .execute = NULL }
};

/* MOVBE with F2 is CRC32. */
static const struct opcode prefixed_38f0[4] = {
	R2(movbe, OP_MEMORY, Gv, Mv), R2(movbe, OP_MEMORY, Gv, Mv),
	{ .execute = NULL }, R2(crc32, 0, Gy, Eb)
};
static const struct opcode prefixed_38f1[4] = {
	R2(movbe, OP_MEMORY, Mv, Gv), R2(movbe, OP_MEMORY, Mv, Gv),
	{ .execute = NULL }, R2(crc32, 0, Gy, Ev)
};
static const struct opcode prefixed_38f6[4] = {
	{ .execute = NULL }, R2(adcx, 0, Gy, Ey), R2(adox, 0, Gy, Ey), { .execute = NULL }
};
/* TZCNT and LZCNT are BSF and BSR with F3. */
static const struct opcode prefixed_bc[4] = {
	R2(bsf, 0, Gv, Ev), R2(bsf, 0, Gv, Ev), R2(tzcnt, 0, Gv, Ev), R2(bsf, 0, Gv, Ev)
};
static const struct opcode prefixed_bd[4] = {
	R2(bsr, 0, Gv, Ev), R2(bsr, 0, Gv, Ev), R2(lzcnt, 0, Gv, Ev), R2(bsr, 0, Gv, Ev)
};


static const struct opcode opcode_63[2] = { R2(arpl, OP_PROT, Ew, Gw), R2(movsx, 0, Gv, Exd) };
static const struct opcode bound_mod[2] = { R2(bound, 0, Gv, M), ABSENT(EVEX) };
static const struct opcode opcode_62[2] = { SUB(BY_MOD, bound_mod), ABSENT(EVEX) };

/* MMX and SSE: rows by prefix, in the order of enum by. */
#define NONE		{ .execute = NULL }
#define SSEU		(OP_SSE | OP_UNALIGNED)
#define PREFIXED(...)	{ .by = BY_PREFIX, .table = (const struct opcode[4]){ __VA_ARGS__ } }
#define BY_MODE(...)	{ .by = BY_MOD, .table = (const struct opcode[2]){ __VA_ARGS__ } }
#define PACKED(h)	PREFIXED(R2(h, OP_MMX, Pq, Qq), R2(h, OP_SSE, Vx, Wx), NONE, NONE)
#define XMM66(...)	PREFIXED(NONE, __VA_ARGS__, NONE, NONE)
#define XMM_PS_PD(h)	PREFIXED(R2(h, OP_SSE, Vx, Wx), R2(h, OP_SSE, Vx, Wx), NONE, NONE)
/* Shifts by an immediate. */
#define SHIFT(h)	PREFIXED(R2(h, OP_MMX | OP_REGISTER, Nq, Ib),		\
			    R2(h, OP_SSE | OP_REGISTER, Ux, Ib), NONE, NONE)

static const struct opcode group12[8] = {
	NONE, NONE, SHIFT(psrlw), NONE, SHIFT(psraw), NONE, SHIFT(psllw), NONE
};
static const struct opcode group13[8] = {
	NONE, NONE, SHIFT(psrld), NONE, SHIFT(psrad), NONE, SHIFT(pslld), NONE
};
static const struct opcode group14[8] = {
	NONE, NONE, SHIFT(psrlq), XMM66(R2(psrldq, OP_SSE | OP_REGISTER, Ux, Ib)),
	NONE, NONE, SHIFT(psllq), XMM66(R2(pslldq, OP_SSE | OP_REGISTER, Ux, Ib))
};

/* BMI: by VEX.L, which must be 0, then by VEX.pp. */
#define VEX(...)	{ .by = BY_L, .table = (const struct opcode[2]){ PREFIXED(__VA_ARGS__), NONE } }

static const struct opcode group17[8] = {
	NONE, R2(blsr, 0, By, Ey), R2(blsmsk, 0, By, Ey), R2(blsi, 0, By, Ey)
};

const struct opcode opcode_vex_0f38[256] = {
	[0xF2] = VEX(R3(andn, 0, Gy, By, Ey), NONE, NONE, NONE),
	[0xF3] = VEX(SUB(BY_REG, group17), NONE, NONE, NONE),
	[0xF5] = VEX(R3(bzhi, 0, Gy, Ey, By), NONE, R3(pext, 0, Gy, By, Ey),
	    R3(pdep, 0, Gy, By, Ey)),
	[0xF6] = VEX(NONE, NONE, NONE, R3(mulx, 0, Gy, By, Ey)),
	[0xF7] = VEX(R3(bextr, 0, Gy, Ey, By), R3(shlx, 0, Gy, Ey, By),
	    R3(sarx, 0, Gy, Ey, By), R3(shrx, 0, Gy, Ey, By))
};

const struct opcode opcode_vex_0f3a[256] = {
	[0xF0] = VEX(NONE, NONE, NONE, R3(rorx, 0, Gy, Ey, Ib))
};

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
	SIXTEEN(0x70, R1(jcc, F64, Jb)),
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
	[0x9B] = R0(fwait, 0),
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
	[0xC2] = R1(ret_imm, F64, Iw), [0xC3] = R0(ret, F64),
	/* C4 and C5 are VEX in 64-bit mode, and in others with mod 3. */
	[0xC4] = R1(load_far_pointer, I64 | OP_MEMORY, Gv),
	[0xC5] = R1(load_far_pointer, I64 | OP_MEMORY, Gv),
	[0xC6] = SUB(BY_REG, group11b), [0xC7] = SUB(BY_REG, group11v),
	[0xC8] = R2(enter, D64, Iw, Ib2), [0xC9] = R0(leave, D64),
	[0xCA] = R1(retf_imm, 0, Iw), [0xCB] = R0(retf, 0),
	[0xCC] = R0(int3, 0), [0xCD] = R1(int_n, 0, Ib), [0xCE] = R0(into, I64),
	[0xCF] = R0(iret, 0),
	[0xD0] = GROUP(group2, Eb, ONE), [0xD1] = GROUP(group2, Ev, ONE),
	[0xD2] = GROUP(group2, Eb, CL), [0xD3] = GROUP(group2, Ev, CL),
	[0xD4] = R1(aam, I64, Ib), [0xD5] = R1(aad, I64, Ib),
	[0xD7] = R0(xlat, 0),
	[0xD8] = SUB(BY_MOD, opcode_d8), [0xD9] = SUB(BY_MOD, opcode_d9),
	[0xDA] = SUB(BY_MOD, opcode_da), [0xDB] = SUB(BY_MOD, opcode_db),
	[0xDC] = SUB(BY_MOD, opcode_dc), [0xDD] = SUB(BY_MOD, opcode_dd),
	[0xDE] = SUB(BY_MOD, opcode_de), [0xDF] = SUB(BY_MOD, opcode_df),
	[0xE0] = R1(loopne, F64, Jb), [0xE1] = R1(loope, F64, Jb),
	[0xE2] = R1(loop, F64, Jb), [0xE3] = R1(jrcxz, F64, Jb),
	[0xE4] = R2(in, 0, AL, Ib), [0xE5] = R2(in, 0, eAX, Ib),
	[0xE6] = R2(out, 0, AL, Ib), [0xE7] = R2(out, 0, eAX, Ib),
	[0xE8] = R1(call, F64, Jz), [0xE9] = R1(jmp, F64, Jz),
	[0xEA] = R1(jmp_far, I64, Ap), [0xEB] = R1(jmp, F64, Jb),
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
	[0x05] = R0(syscall, 0), [0x06] = R0(clts, CPL0), [0x07] = R0(sysret, 0),
	[0x08] = R0(invd, CPL0), [0x09] = R0(wbinvd, CPL0),
	[0x0D] = R0(nop, OP_MEMORY) /* PREFETCHW */,
	[0x0E] = ABSENT(FEMMS), [0x0F] = ABSENT(3DNow),
	[0x10] = PREFIXED(R2(movv, SSEU, Vx, Wx), R2(movv, SSEU, Vx, Wx),
	    R2(movss, OP_SSE, Vx, Wd), R2(movsd, OP_SSE, Vx, Wq)),
	[0x11] = PREFIXED(R2(movv, SSEU, Wx, Vx), R2(movv, SSEU, Wx, Vx),
	    R2(movss, OP_SSE, Wd, Vx), R2(movsd, OP_SSE, Wq, Vx)),
	[0x12] = PREFIXED(BY_MODE(R2(movlps, OP_SSE, Vx, Mq), R2(movhlps, OP_SSE, Vx, Ux)),
	    R2(movlps, OP_SSE | OP_MEMORY, Vx, Mq), R2(movsldup, OP_SSE, Vx, Wx),
	    R2(movddup, OP_SSE, Vx, Wq)),
	[0x13] = PREFIXED(R2(movv, OP_SSE | OP_MEMORY, Mq, Vx),
	    R2(movv, OP_SSE | OP_MEMORY, Mq, Vx), NONE, NONE),
	[0x14] = PREFIXED(R2(punpckldq, OP_SSE, Vx, Wx), R2(punpcklqdq, OP_SSE, Vx, Wx), NONE, NONE),
	[0x15] = PREFIXED(R2(punpckhdq, OP_SSE, Vx, Wx), R2(punpckhqdq, OP_SSE, Vx, Wx), NONE, NONE),
	[0x16] = PREFIXED(R2(movhps, OP_SSE, Vx, Wq), R2(movhps, OP_SSE | OP_MEMORY, Vx, Mq),
	    R2(movshdup, OP_SSE, Vx, Wx), NONE),
	[0x17] = PREFIXED(R2(movhps_store, OP_SSE | OP_MEMORY, Mq, Vx),
	    R2(movhps_store, OP_SSE | OP_MEMORY, Mq, Vx), NONE, NONE),
	/* Hints (PREFETCHh, ENDBR, NOP): an address, no access. */
	EIGHT(0x18, R0(nop, OP_MODRM)),
	/* The registers that are not there are #UD at any CPL. */
	[0x20] = R1(mov_from_cr, OP_CR | CPL0, Ry), [0x21] = R1(mov_from_dr, OP_DR | CPL0, Ry),
	[0x22] = R1(mov_to_cr, OP_CR | CPL0, Ry), [0x23] = R1(mov_to_dr, OP_DR | CPL0, Ry),
	[0x28] = PREFIXED(R2(movv, OP_SSE, Vx, Wx), R2(movv, OP_SSE, Vx, Wx), NONE, NONE),
	[0x29] = PREFIXED(R2(movv, OP_SSE, Wx, Vx), R2(movv, OP_SSE, Wx, Vx), NONE, NONE),
	[0x2A] = GAP(CVTPI2PS), [0x2C] = GAP(CVTTPS2PI), [0x2D] = GAP(CVTPS2PI),
	[0x2B] = PREFIXED(R2(movv, OP_SSE | OP_MEMORY, Mx, Vx),
	    R2(movv, OP_SSE | OP_MEMORY, Mx, Vx), NONE, NONE),
	[0x2E] = GAP(UCOMISS), [0x2F] = GAP(COMISS),
	[0x30] = R0(wrmsr, CPL0), [0x31] = R0(rdtsc, 0),
	[0x32] = R0(rdmsr, CPL0), [0x33] = R0(rdpmc, 0),
	[0x34] = R0(sysenter, 0), [0x35] = R0(sysexit, CPL0),
	SIXTEEN(0x40, R2(cmovcc, 0, Gv, Ev)),
	[0x50] = PREFIXED(R2(movmskps, OP_SSE | OP_REGISTER, Gd, Ux),
	    R2(movmskpd, OP_SSE | OP_REGISTER, Gd, Ux), NONE, NONE),
	[0x51] = GAP(SQRTPS), [0x52] = GAP(RSQRTPS), [0x53] = GAP(RCPPS),
	[0x54] = XMM_PS_PD(pand), [0x55] = XMM_PS_PD(pandn),
	[0x56] = XMM_PS_PD(por), [0x57] = XMM_PS_PD(pxor),
	EIGHT(0x58, GAP(ADDPS)),
	[0x60] = PREFIXED(R2(punpcklbw, OP_MMX, Pq, Qd), R2(punpcklbw, OP_SSE, Vx, Wx), NONE, NONE),
	[0x61] = PREFIXED(R2(punpcklwd, OP_MMX, Pq, Qd), R2(punpcklwd, OP_SSE, Vx, Wx), NONE, NONE),
	[0x62] = PREFIXED(R2(punpckldq, OP_MMX, Pq, Qd), R2(punpckldq, OP_SSE, Vx, Wx), NONE, NONE),
	[0x63] = PACKED(packsswb), [0x64] = PACKED(pcmpgtb), [0x65] = PACKED(pcmpgtw),
	[0x66] = PACKED(pcmpgtd), [0x67] = PACKED(packuswb), [0x68] = PACKED(punpckhbw),
	[0x69] = PACKED(punpckhwd), [0x6A] = PACKED(punpckhdq), [0x6B] = PACKED(packssdw),
	[0x6C] = XMM66(R2(punpcklqdq, OP_SSE, Vx, Wx)),
	[0x6D] = XMM66(R2(punpckhqdq, OP_SSE, Vx, Wx)),
	[0x6E] = PREFIXED(R2(movv, OP_MMX, Pq, Ey), R2(movv, OP_SSE, Vx, Ey), NONE, NONE),
	[0x6F] = PREFIXED(R2(movv, OP_MMX, Pq, Qq), R2(movv, OP_SSE, Vx, Wx),
	    R2(movv, SSEU, Vx, Wx), NONE),
	[0x70] = PREFIXED(R3(pshuflw, OP_MMX, Pq, Qq, Ib), R3(pshufd, OP_SSE, Vx, Wx, Ib),
	    R3(pshufhw, OP_SSE, Vx, Wx, Ib), R3(pshuflw, OP_SSE, Vx, Wx, Ib)),
	[0x71] = SUB(BY_REG, group12), [0x72] = SUB(BY_REG, group13), [0x73] = SUB(BY_REG, group14),
	[0x78] = R0(vmx, OP_MODRM), [0x79] = R0(vmx, OP_MODRM) /* VMREAD, VMWRITE */,
	[0x74] = PACKED(pcmpeqb), [0x75] = PACKED(pcmpeqw), [0x76] = PACKED(pcmpeqd),
	[0x77] = PREFIXED(R0(emms, OP_MMX), NONE, NONE, NONE),
	[0x7C] = GAP(HADDPD), [0x7D] = GAP(HSUBPD),
	[0x7E] = PREFIXED(R2(movv, OP_MMX, Ey, Pq), R2(movv, OP_SSE, Ey, Vx),
	    R2(movq_low, OP_SSE, Vx, Wq), NONE),
	[0x7F] = PREFIXED(R2(movv, OP_MMX, Qq, Pq), R2(movv, OP_SSE, Wx, Vx),
	    R2(movv, SSEU, Wx, Vx), NONE),
	SIXTEEN(0x80, R1(jcc, F64, Jz)),
	SIXTEEN(0x90, R1(setcc, 0, Eb)),
	[0xA0] = R0(push_sreg, D64), [0xA1] = R0(pop_sreg, D64),
	[0xA2] = R0(cpuid, 0), [0xA3] = R2(bt, 0, Ev, Gv),
	[0xA4] = R3(shld, 0, Ev, Gv, Ib), [0xA5] = R3(shld, 0, Ev, Gv, CL),
	[0xA8] = R0(push_sreg, D64), [0xA9] = R0(pop_sreg, D64),
	/* AA is RSM, #UD outside SMM. */
	[0xAB] = R2(bts, LOCK, Ev, Gv),
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
	[0xBC] = SUB(BY_PREFIX, prefixed_bc), [0xBD] = SUB(BY_PREFIX, prefixed_bd),
	[0xBE] = R2(movsx, 0, Gv, Eb), [0xBF] = R2(movsx, 0, Gv, Ew),
	[0xC0] = R2(xadd, LOCK, Eb, Gb), [0xC1] = R2(xadd, LOCK, Ev, Gv),
	[0xC2] = GAP(CMPPS), [0xC3] = PREFIXED(R2(mov, OP_MEMORY, My, Gy), NONE, NONE, NONE),
	[0xC4] = PREFIXED(R3(pinsrw, OP_MMX, Pq, Mw_Rd, Ib), R3(pinsrw, OP_SSE, Vx, Mw_Rd, Ib),
	    NONE, NONE),
	[0xC5] = PREFIXED(R3(pextrw, OP_MMX | OP_REGISTER, Gd, Nq, Ib),
	    R3(pextrw, OP_SSE | OP_REGISTER, Gd, Ux, Ib), NONE, NONE),
	[0xC6] = PREFIXED(R3(shufps, OP_SSE, Vx, Wx, Ib), R3(shufpd, OP_SSE, Vx, Wx, Ib),
	    NONE, NONE),
	[0xC7] = SUB(BY_REG, group9),
	EIGHT(0xC8, R1(bswap, 0, Zv)),
	[0xD0] = GAP(ADDSUBPD), [0xD1] = PACKED(psrlw), [0xD2] = PACKED(psrld),
	[0xD3] = PACKED(psrlq), [0xD4] = PACKED(paddq), [0xD5] = PACKED(pmullw),
	[0xD6] = PREFIXED(NONE, R2(movq_low, OP_SSE, Wq, Vx),
	    R2(movq_low, OP_SSE | OP_MMX | OP_REGISTER, Vx, Nq),
	    R2(movq_low, OP_SSE | OP_MMX | OP_REGISTER, Pq, Ux)),
	[0xD7] = PREFIXED(R2(pmovmskb, OP_MMX | OP_REGISTER, Gd, Nq),
	    R2(pmovmskb, OP_SSE | OP_REGISTER, Gd, Ux), NONE, NONE),
	[0xD8] = PACKED(psubusb), [0xD9] = PACKED(psubusw), [0xDA] = PACKED(pminub),
	[0xDB] = PACKED(pand), [0xDC] = PACKED(paddusb), [0xDD] = PACKED(paddusw),
	[0xDE] = PACKED(pmaxub), [0xDF] = PACKED(pandn), [0xE0] = PACKED(pavgb),
	[0xE1] = PACKED(psraw), [0xE2] = PACKED(psrad), [0xE3] = PACKED(pavgw),
	[0xE4] = PACKED(pmulhuw), [0xE5] = PACKED(pmulhw), [0xE6] = GAP(CVTPD2DQ),
	[0xE7] = PREFIXED(R2(movv, OP_MMX | OP_MEMORY, Mq, Pq),
	    R2(movv, OP_SSE | OP_MEMORY, Mx, Vx), NONE, NONE),
	[0xE8] = PACKED(psubsb), [0xE9] = PACKED(psubsw), [0xEA] = PACKED(pminsw),
	[0xEB] = PACKED(por), [0xEC] = PACKED(paddsb), [0xED] = PACKED(paddsw),
	[0xEE] = PACKED(pmaxsw), [0xEF] = PACKED(pxor),
	[0xF0] = PREFIXED(NONE, NONE, NONE, R2(movv, SSEU | OP_MEMORY, Vx, Mx)),
	[0xF1] = PACKED(psllw), [0xF2] = PACKED(pslld), [0xF3] = PACKED(psllq),
	[0xF4] = PACKED(pmuludq), [0xF5] = PACKED(pmaddwd), [0xF6] = PACKED(psadbw),
	[0xF7] = PREFIXED(R2(maskmov, OP_MMX | OP_REGISTER, Pq, Nq),
	    R2(maskmov, OP_SSE | OP_REGISTER, Vx, Ux), NONE, NONE),
	[0xF8] = PACKED(psubb), [0xF9] = PACKED(psubw), [0xFA] = PACKED(psubd),
	[0xFB] = PACKED(psubq), [0xFC] = PACKED(paddb), [0xFD] = PACKED(paddw),
	[0xFE] = PACKED(paddd)
};

const struct opcode opcode_map_0f38[256] = {
	SIXTEEN(0x00, ABSENT(SSSE3)), SIXTEEN(0x10, ABSENT(SSE4)), SIXTEEN(0x20, ABSENT(SSE4)),
	SIXTEEN(0x30, ABSENT(SSE4)),
	[0x40] = ABSENT(SSE4), [0x41] = ABSENT(SSE4),
	[0xDB] = ABSENT(AES), [0xDC] = ABSENT(AES), [0xDD] = ABSENT(AES),
	[0xDE] = ABSENT(AES), [0xDF] = ABSENT(AES),
	[0xF0] = SUB(BY_PREFIX, prefixed_38f0), [0xF1] = SUB(BY_PREFIX, prefixed_38f1),
	[0xF6] = SUB(BY_PREFIX, prefixed_38f6)
};

const struct opcode opcode_map_0f3a[256] = {
	SIXTEEN(0x00, ABSENT(SSE4)), SIXTEEN(0x10, ABSENT(SSE4)), SIXTEEN(0x20, ABSENT(SSE4)),
	SIXTEEN(0x60, ABSENT(SSE4)),
	[0xDF] = ABSENT(AES)
};
