/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * x87 data transfer (SDM 1, 8.3.3 to 8.3.5): what moves and converts values
 * without calculating.  Arithmetic is not here.
 */
#include "fpu.h"

static const struct f80 indefinite = { UINT64_C(3) << 62, 0xFFFF };

/* --- the stack --- */

static void
set_c1(struct cpu *cpu, bool on)
{
	fx_set16(cpu, FX_FSW, (fx_get16(cpu, FX_FSW) & ~FSW_C1) | (on ? FSW_C1 : 0));
}

/* Stack overflow or underflow (8.5.1.1).  True if masked: go on with a NaN. */
static bool
stack_fault(struct cpu *cpu, bool overflow)
{
	set_c1(cpu, overflow);
	fpu_raise(cpu, FSW_IE | FSW_SF);
	return fpu_masked(cpu, FSW_IE);
}

static void
push_st(struct cpu *cpu, struct f80 v)
{
	set_c1(cpu, false);
	if (!fpu_empty(cpu, 7)) {
		if (!stack_fault(cpu, true))
			return;
		v = indefinite;
	}
	fpu_set_top(cpu, fpu_top(cpu) - 1);
	fpu_set_st(cpu, 0, v);
	fpu_tag(cpu, 0, true);
}

static void
pop_st(struct cpu *cpu)
{
	fpu_tag(cpu, 0, false);
	fpu_set_top(cpu, fpu_top(cpu) + 1);
}

/* --- loads --- */

static bool
push_allowed(const struct cpu *cpu)
{
	return fpu_empty(cpu, 7);
}

/* FLD m32fp, m64fp. */
void
op_fld(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size, exceptions = 0;
	uint64_t bits = get(x, 0);
	struct f80 v;

	v = size == 4 ? f80_widen(bits, 23, 8, &exceptions) : f80_widen(bits, 52, 11, &exceptions);
	fpu_last(x);
	if (push_allowed(cpu) && exceptions != 0) {
		fpu_raise(cpu, exceptions);
		set_c1(cpu, false);
		/* An unmasked denormal is loaded nevertheless (SDM 1, 8.5.2). */
		if (!fpu_masked(cpu, exceptions & FSW_IE))
			return;
	}
	push_st(cpu, v);
}

void
op_fld_m80(struct exec *x)
{
	struct span s;
	struct f80 v;

	mem_span(x, 10, 1, ACCESS_READ, &s);
	v = (struct f80){ span_load(&s, 0, 8), (uint16_t)span_load(&s, 8, 2) };
	fpu_last(x);
	push_st(x->cpu, v);
}

void
op_fld_st(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned i = x->in.rm & 7;
	struct f80 v = fpu_st(cpu, i);

	fpu_last(x);
	set_c1(cpu, false);
	if (fpu_empty(cpu, i)) {	/* ahead of a full stack */
		if (!stack_fault(cpu, false))
			return;
		v = indefinite;
		fpu_set_top(cpu, fpu_top(cpu) - 1);
		fpu_set_st(cpu, 0, v);
		fpu_tag(cpu, 0, true);
		return;
	}
	push_st(cpu, v);
}

/* FILD m16int, m32int, m64int: always exact. */
void
op_fild(struct exec *x)
{
	uint64_t a = sign_extend(get(x, 0), x->in.operand[0].size);
	uint16_t sign = a >> 63 ? 0x8000 : 0;
	unsigned e = F80_BIAS + 63;

	fpu_last(x);
	if (sign)
		a = 0 - a;
	if (a == 0) {
		push_st(x->cpu, (struct f80){ 0, 0 });
		return;
	}
	for (; !(a & F80_INTEGER); e--)
		a <<= 1;
	push_st(x->cpu, (struct f80){ a, (uint16_t)(sign | e) });
}

/*
 * FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ.  The values are kept
 * with more bits than the format has, so RC counts (SDM 2A, FLD1): here the
 * truncated mantissa, and whether rounding to nearest goes up.
 */
void
op_fld_constant(struct exec *x)
{
	static const struct {
		uint64_t m;
		uint16_t se;
		bool exact, nearest_up;
	} table[7] = {
		{ UINT64_C(0x8000000000000000), 0x3FFF, true, false },	/* 1 */
		{ UINT64_C(0xD49A784BCD1B8AFE), 0x4000, false, false },	/* log2(10) */
		{ UINT64_C(0xB8AA3B295C17F0BB), 0x3FFF, false, true },	/* log2(e) */
		{ UINT64_C(0xC90FDAA22168C234), 0x4000, false, true },	/* pi */
		{ UINT64_C(0x9A209A84FBCFF798), 0x3FFD, false, true },	/* log10(2) */
		{ UINT64_C(0xB17217F7D1CF79AB), 0x3FFE, false, true },	/* ln(2) */
		{ 0, 0, true, false }					/* 0 */
	};
	struct cpu *cpu = x->cpu;
	unsigned i = x->in.rm & 7, rc = fx_get16(cpu, FX_FCW) >> 10 & 3;
	bool up = !table[i].exact && (rc == 2 || (rc == 0 && table[i].nearest_up));

	fpu_last(x);
	push_st(cpu, (struct f80){ table[i].m + up, table[i].se });
}

/* --- stores --- */

/* FST, FSTP m32fp, m64fp. */
static void
store_real(struct exec *x, bool pops)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size, exceptions = 0;
	uint64_t r = size == 4 ? 0xFFC00000 : UINT64_C(0xFFF8000000000000);
	bool up = false, empty = fpu_empty(cpu, 0);
	struct span unused;

	if (empty)
		exceptions = FSW_IE | FSW_SF;
	else if (size == 4)
		r = f80_narrow(cpu, fpu_st(cpu, 0), 23, 8, &exceptions, &up);
	else
		r = f80_narrow(cpu, fpu_st(cpu, 0), 52, 11, &exceptions, &up);
	/* Unmasked, these leave memory and stack alone (SDM 1, 8.5). */
	if (fpu_masked(cpu, exceptions & (FSW_IE | FSW_OE | FSW_UE))) {
		put(x, 0, r);
	} else {
		mem_span(x, size, 1, ACCESS_WRITE, &unused);
		exceptions &= ~(exceptions & (FSW_OE | FSW_UE) ? FSW_PE : 0);
		up = false;
		pops = false;
	}
	fpu_last(x);
	set_c1(cpu, up);
	fpu_raise(cpu, exceptions);
	if (pops)
		pop_st(cpu);
}

void
op_fst(struct exec *x)
{
	store_real(x, false);
}

void
op_fstp(struct exec *x)
{
	store_real(x, true);
}

void
op_fstp_m80(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct f80 v = fpu_st(cpu, 0);
	bool empty = fpu_empty(cpu, 0);
	struct span s;

	mem_span(x, 10, 1, ACCESS_WRITE, &s);
	fpu_last(x);
	set_c1(cpu, false);
	if (empty) {
		if (!stack_fault(cpu, false))
			return;
		v = indefinite;
	}
	span_store(&s, 0, 8, v.m);
	span_store(&s, 8, 2, v.se);
	pop_st(cpu);
}

/* FST ST(i), FSTP ST(i). */
static void
store_st(struct exec *x, bool pops)
{
	struct cpu *cpu = x->cpu;
	struct f80 v = fpu_st(cpu, 0);

	fpu_last(x);
	set_c1(cpu, false);
	if (fpu_empty(cpu, 0)) {
		if (!stack_fault(cpu, false))
			return;
		v = indefinite;
	}
	fpu_set_st(cpu, x->in.rm & 7, v);
	fpu_tag(cpu, x->in.rm & 7, true);
	if (pops)
		pop_st(cpu);
}

void
op_fst_st(struct exec *x)
{
	store_st(x, false);
}

void
op_fstp_st(struct exec *x)
{
	store_st(x, true);
}

static void
store_integer(struct exec *x, bool truncate, bool pops)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size, exceptions = 0;
	uint64_t r = sign_of(size);
	struct span unused;
	bool up = false;

	if (fpu_empty(cpu, 0))
		exceptions = FSW_IE | FSW_SF;
	else
		r = f80_to_integer(cpu, fpu_st(cpu, 0), size, truncate, &exceptions, &up);
	if (fpu_masked(cpu, exceptions & FSW_IE)) {
		put(x, 0, r);
	} else {
		mem_span(x, size, 1, ACCESS_WRITE, &unused);
		pops = false;
	}
	fpu_last(x);
	set_c1(cpu, up);
	fpu_raise(cpu, exceptions);
	if (pops)
		pop_st(cpu);
}

void
op_fist(struct exec *x)
{
	store_integer(x, false, false);
}

void
op_fistp(struct exec *x)
{
	store_integer(x, false, true);
}

void
op_fisttp(struct exec *x)
{
	store_integer(x, true, true);
}

/* --- between registers --- */

/* Empty registers are exchanged as NaNs if that is masked. */
void
op_fxch(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned i = x->in.rm & 7;
	struct f80 a = fpu_st(cpu, 0), b = fpu_st(cpu, i);
	bool no_a = fpu_empty(cpu, 0), no_b = fpu_empty(cpu, i);

	fpu_last(x);
	set_c1(cpu, false);
	if (no_a || no_b) {
		if (!stack_fault(cpu, false))
			return;
		a = no_a ? indefinite : a;
		b = no_b ? indefinite : b;
	}
	fpu_set_st(cpu, 0, b);
	fpu_set_st(cpu, i, a);
	fpu_tag(cpu, 0, true);
	fpu_tag(cpu, i, true);
}

/* FCMOVcc: B, E, BE, U at DA, their opposites at DB. */
void
op_fcmovcc(struct exec *x)
{
	static const unsigned flags[4] = { FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_PF };
	struct cpu *cpu = x->cpu;
	unsigned i = x->in.rm & 7;
	bool met = (cpu->rflags & flags[x->in.reg & 3]) != 0;

	fpu_last(x);
	if (fpu_empty(cpu, 0) || fpu_empty(cpu, i)) {
		if (stack_fault(cpu, false)) {
			fpu_set_st(cpu, 0, indefinite);
			fpu_tag(cpu, 0, true);
		}
		return;
	}
	if (met != (x->in.opcode & 1))
		fpu_set_st(cpu, 0, fpu_st(cpu, i));
}

static void
change_sign(struct exec *x, uint16_t keep, uint16_t flip)
{
	struct cpu *cpu = x->cpu;
	struct f80 v = fpu_st(cpu, 0);

	fpu_last(x);
	set_c1(cpu, false);
	if (fpu_empty(cpu, 0)) {
		if (!stack_fault(cpu, false))
			return;
		v = indefinite;
		fpu_tag(cpu, 0, true);
	} else {
		v.se = (uint16_t)((v.se & keep) ^ flip);
	}
	fpu_set_st(cpu, 0, v);
}

void
op_fabs(struct exec *x)
{
	change_sign(x, 0x7FFF, 0);
}

void
op_fchs(struct exec *x)
{
	change_sign(x, 0xFFFF, 0x8000);
}

/* The class of ST(0) in C3, C2 and C0, its sign in C1 (SDM 2A, FXAM). */
void
op_fxam(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct f80 v = fpu_st(cpu, 0);
	unsigned e = v.se & F80_EXP_MAX, class;

	if (fpu_empty(cpu, 0))
		class = FSW_C3 | FSW_C0;
	else if (f80_unsupported(v))
		class = 0;
	else if (e == F80_EXP_MAX)
		class = v.m == F80_INTEGER ? FSW_C2 | FSW_C0 : FSW_C0;
	else if (e == 0)
		class = v.m == 0 ? FSW_C3 : FSW_C3 | FSW_C2;
	else
		class = FSW_C2;
	fpu_last(x);
	fx_set16(cpu, FX_FSW, (fx_get16(cpu, FX_FSW) & ~(FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)) |
	    class | (v.se >> 15 ? FSW_C1 : 0));
}

void
op_ffree(struct exec *x)
{
	fpu_last(x);
	set_c1(x->cpu, false);
	fpu_tag(x->cpu, x->in.rm & 7, false);
}

/* FFREEP: what no manual has and every processor does. */
void
op_ffreep(struct exec *x)
{
	op_ffree(x);
	pop_st(x->cpu);
}

void
op_fincstp(struct exec *x)
{
	fpu_last(x);
	set_c1(x->cpu, false);
	fpu_set_top(x->cpu, fpu_top(x->cpu) + 1);
}

void
op_fdecstp(struct exec *x)
{
	fpu_last(x);
	set_c1(x->cpu, false);
	fpu_set_top(x->cpu, fpu_top(x->cpu) - 1);
}

void
op_fnop(struct exec *x)
{
	fpu_last(x);
}
