/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The x87 opcodes D8 to DF (SDM 2D, A.5).  With memory the reg field tells
 * them apart; with registers reg, and in some rows rm.
 */
#include "optable.h"

#define X87	OP_X87
#define NOWAIT	OP_X87_NOWAIT

/* Arithmetic: #UD, and counted. */
#define GAP(name)	{ .execute = op_gap }
#define M(h, size)	{ .execute = op_##h, .flags = X87, .operand = { size } }
#define C(h, ...)	{ .execute = op_##h, .flags = NOWAIT, .operand = { __VA_ARGS__ } }
#define R(h)		{ .execute = op_##h, .flags = X87 | OP_MODRM }
#define RC(h)		{ .execute = op_##h, .flags = NOWAIT | OP_MODRM }
#define SUB(t)		{ .by = BY_RM, .table = (t) }
#define NONE		{ .execute = NULL }

static const struct opcode d8_mem[8] = {
	GAP(FADD), GAP(FMUL), GAP(FCOM), GAP(FCOMP),
	GAP(FSUB), GAP(FSUBR), GAP(FDIV), GAP(FDIVR)
};
static const struct opcode d8_reg[8] = {
	GAP(FADD), GAP(FMUL), GAP(FCOM), GAP(FCOMP),
	GAP(FSUB), GAP(FSUBR), GAP(FDIV), GAP(FDIVR)
};

static const struct opcode d9_mem[8] = {
	M(fld, Md), NONE, M(fst, Md), M(fstp, Md),
	{ .execute = op_fldenv, .flags = X87 | OP_MEMORY }, M(fldcw, Mw),
	C(fnstenv, Mb), C(fnstcw, Mw)
};
static const struct opcode d9_d0[8] = { R(fnop) };
static const struct opcode d9_e0[8] = {
	R(fchs), R(fabs), NONE, NONE, GAP(FTST), R(fxam), NONE, NONE
};
static const struct opcode d9_e8[8] = {
	R(fld_constant), R(fld_constant), R(fld_constant), R(fld_constant),
	R(fld_constant), R(fld_constant), R(fld_constant), NONE
};
static const struct opcode d9_f0[8] = {
	GAP(F2XM1), GAP(FYL2X), GAP(FPTAN), GAP(FPATAN),
	GAP(FXTRACT), GAP(FPREM1), R(fdecstp), R(fincstp)
};
static const struct opcode d9_f8[8] = {
	GAP(FPREM), GAP(FYL2XP1), GAP(FSQRT), GAP(FSINCOS),
	GAP(FRNDINT), GAP(FSCALE), GAP(FSIN), GAP(FCOS)
};
static const struct opcode d9_reg[8] = {
	R(fld_st), R(fxch), SUB(d9_d0), GAP(FSTP1),
	SUB(d9_e0), SUB(d9_e8), SUB(d9_f0), SUB(d9_f8)
};

static const struct opcode da_mem[8] = {
	GAP(FIADD), GAP(FIMUL), GAP(FICOM), GAP(FICOMP),
	GAP(FISUB), GAP(FISUBR), GAP(FIDIV), GAP(FIDIVR)
};
static const struct opcode da_e8[8] = { NONE, GAP(FUCOMPP) };
static const struct opcode da_reg[8] = {
	R(fcmovcc), R(fcmovcc), R(fcmovcc), R(fcmovcc),
	NONE, SUB(da_e8), NONE, NONE
};

static const struct opcode db_mem[8] = {
	M(fild, Md), M(fisttp, Md), M(fist, Md), M(fistp, Md),
	NONE, M(fld_m80, Mt), NONE, M(fstp_m80, Mt)
};
/* FENI, FDISI and FSETPM of the 8087 and 80287 do nothing now. */
static const struct opcode db_e0[8] = {
	RC(nop), RC(nop), RC(fnclex), RC(fninit), RC(nop), NONE, NONE, NONE
};
static const struct opcode db_reg[8] = {
	R(fcmovcc), R(fcmovcc), R(fcmovcc), R(fcmovcc),
	SUB(db_e0), GAP(FUCOMI), GAP(FCOMI), NONE
};

static const struct opcode dc_reg[8] = {
	GAP(FADD), GAP(FMUL), GAP(FCOM2), GAP(FCOMP3),
	GAP(FSUBR), GAP(FSUB), GAP(FDIVR), GAP(FDIV)
};

static const struct opcode dd_mem[8] = {
	M(fld, Mq), M(fisttp, Mq), M(fst, Mq), M(fstp, Mq),
	{ .execute = op_frstor, .flags = X87 | OP_MEMORY }, NONE,
	C(fnsave, Mb), C(fnstsw, Mw)
};
static const struct opcode dd_reg[8] = {
	R(ffree), R(fxch), R(fst_st), R(fstp_st),
	GAP(FUCOM), GAP(FUCOMP), NONE, NONE
};

static const struct opcode de_d8[8] = { NONE, GAP(FCOMPP) };
static const struct opcode de_reg[8] = {
	GAP(FADDP), GAP(FMULP), GAP(FCOMP5), SUB(de_d8),
	GAP(FSUBRP), GAP(FSUBP), GAP(FDIVRP), GAP(FDIVP)
};

static const struct opcode df_mem[8] = {
	M(fild, Mw), M(fisttp, Mw), M(fist, Mw), M(fistp, Mw),
	GAP(FBLD), M(fild, Mq), GAP(FBSTP), M(fistp, Mq)
};
static const struct opcode df_e0[8] = { C(fnstsw, AX) };
static const struct opcode df_reg[8] = {
	R(ffreep), R(fxch), R(fstp_st), R(fstp_st),	/* aliases */
	SUB(df_e0), GAP(FUCOMIP), GAP(FCOMIP), NONE
};

#define BOTH(n, mem, reg)						\
	const struct opcode opcode_##n[2] = {				\
		{ .by = BY_REG, .table = (mem) }, { .by = BY_REG, .table = (reg) } \
	}

BOTH(d8, d8_mem, d8_reg);
BOTH(d9, d9_mem, d9_reg);
BOTH(da, da_mem, da_reg);
BOTH(db, db_mem, db_reg);
BOTH(dc, d8_mem, dc_reg);
BOTH(dd, dd_mem, dd_reg);
BOTH(de, da_mem, de_reg);
BOTH(df, df_mem, df_reg);
