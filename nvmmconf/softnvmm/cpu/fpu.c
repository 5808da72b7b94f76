/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What all x87, MMX and SSE instructions share: who may execute, the register
 * stack, pending exceptions, vector operands.
 */
#include "fpu.h"

/* --- who may execute --- */

/*
 * A pending x87 exception (SDM 3A 6.15, interrupt 16).  With CR0.NE clear a
 * PC has IRQ 13 for it; there is no such pin here, so then it is ignored, as
 * with IGNNE#.
 */
static void
check_pending(struct exec *x)
{
	if ((fx_get16(x->cpu, FX_FSW) & FSW_ES) && (x->cpu->cr0 & CR0_NE))
		fault(x, EXC_MF, 0);
}

/* SDM 3A, tables 2-2, 12-1 and 13-1. */
void
fpu_check(struct exec *x, unsigned flags)
{
	const struct cpu *cpu = x->cpu;

	if (flags & (OP_X87 | OP_X87_NOWAIT)) {
		if (cpu->cr0 & (CR0_EM | CR0_TS))
			fault(x, EXC_NM, 0);
		if (flags & OP_X87)
			check_pending(x);
		return;
	}
	if ((flags & OP_XSAVE) && !(cpu->cr4 & CR4_OSXSAVE))
		ud(x);
	if ((flags & (OP_MMX | OP_SSE)) && (cpu->cr0 & CR0_EM))
		ud(x);
	if ((flags & OP_SSE) && !(cpu->cr4 & CR4_OSFXSR))
		ud(x);
	if (cpu->cr0 & CR0_TS)
		fault(x, EXC_NM, 0);
	if (flags & OP_MMX)
		check_pending(x);
}

/* WAIT looks at TS only together with MP. */
void
op_fwait(struct exec *x)
{
	if ((x->cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		fault(x, EXC_NM, 0);
	check_pending(x);
}

/* --- the x87 stack --- */

void
fpu_set_top(struct cpu *cpu, unsigned top)
{
	uint8_t old[128];
	unsigned by = (top - fpu_top(cpu)) & 7, i;

	memcpy(old, cpu->fxsave + FX_ST, sizeof(old));
	for (i = 0; i < 8; i++)
		memcpy(cpu->fxsave + FX_ST + 16 * i, old + 16 * ((i + by) & 7), 16);
	fx_set16(cpu, FX_FSW, (fx_get16(cpu, FX_FSW) & ~FSW_TOP) | (top & 7) << 11);
}

void
fpu_summary(struct cpu *cpu)
{
	unsigned fsw = fx_get16(cpu, FX_FSW) & ~(FSW_ES | FSW_B);

	if (fsw & ~fx_get16(cpu, FX_FCW) & FSW_EXCEPTIONS)
		fsw |= FSW_ES | FSW_B;
	fx_set16(cpu, FX_FSW, fsw);
}

void
fpu_raise(struct cpu *cpu, unsigned exceptions)
{
	fx_set16(cpu, FX_FSW, fx_get16(cpu, FX_FSW) | exceptions);
	fpu_summary(cpu);
}

/* Whether exceptions that would come have their default response. */
bool
fpu_masked(const struct cpu *cpu, unsigned exceptions)
{
	return !(exceptions & ~fx_get16(cpu, FX_FCW) & FSW_EXCEPTIONS);
}

/* SDM 1, 8.1.8 and 8.1.9.  The selectors are kept only outside 64-bit mode. */
void
fpu_last(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	const struct insn *in = &x->in;
	bool memory = in->mod != 3;
	uint64_t fip = x->start.rip, fdp = in->ea;

	if (!mode64(cpu)) {
		fip = (uint32_t)fip | (uint64_t)cpu->seg[CPU_CS].selector << 32;
		fdp = (uint32_t)fdp | (uint64_t)cpu->seg[in->seg].selector << 32;
	}
	fx_set64(cpu, FX_FIP, fip);
	fx_set16(cpu, FX_FOP, (in->opcode & 7u) << 8 | in->bytes[in->modrm_at]);
	if (memory)
		fx_set64(cpu, FX_FDP, fdp);
}

struct f80
fpu_st(const struct cpu *cpu, unsigned i)
{
	unsigned at = FX_ST + 16 * i;

	return (struct f80){ fx_get64(cpu, at), fx_get16(cpu, at + 8) };
}

void
fpu_set_st(struct cpu *cpu, unsigned i, struct f80 v)
{
	unsigned at = FX_ST + 16 * i;

	fx_set64(cpu, at, v.m);
	fx_set16(cpu, at + 8, v.se);
}

bool
fpu_empty(const struct cpu *cpu, unsigned i)
{
	return !(cpu->fxsave[FX_FTW] >> ((fpu_top(cpu) + i) & 7) & 1);
}

void
fpu_tag(struct cpu *cpu, unsigned i, bool valid)
{
	uint8_t bit = (uint8_t)(1u << ((fpu_top(cpu) + i) & 7));

	if (valid)
		cpu->fxsave[FX_FTW] |= bit;
	else
		cpu->fxsave[FX_FTW] &= (uint8_t)~bit;
}

/* --- vectors --- */

void
mem_span(struct exec *x, unsigned len, unsigned align, enum access how, struct span *s)
{
	uint64_t linear = x->in.ea;

	/* Ahead of the limit, as AMD mostly has it (with SS that is #SS). */
	if (!mode64(x->cpu) || x->in.seg >= CPU_FS)
		linear += x->cpu->seg[x->in.seg].base;
	if ((linear & (align - 1)) != 0)
		gp0(x);
	linear = linear_address(x, x->in.seg, x->in.ea, len, how);
	span_of(x, linear, len, how, RANK_CPL, s);
}

/* Memory of 16 bytes is aligned but where MOVU and its like say otherwise. */
static unsigned
alignment(const struct exec *x, unsigned size)
{
	return size == 16 && !(x->in.flags & OP_UNALIGNED) ? 16 : 1;
}

struct vec
get_vec(struct exec *x, unsigned i)
{
	const struct cpu *cpu = x->cpu;
	const struct operand *o = &x->in.operand[i];
	struct vec v = { { 0, 0 } };
	unsigned at;
	struct span s;

	switch (o->kind) {
	case OPERAND_XMM:
		at = FX_XMM + 16u * o->reg;
		v.q[0] = fx_get64(cpu, at);
		v.q[1] = fx_get64(cpu, at + 8);
		break;
	case OPERAND_MM:	/* MMi is physical register i, TOP or no TOP */
		at = FX_ST + 16u * ((o->reg - fpu_top(cpu)) & 7);
		v.q[0] = fx_get64(cpu, at);
		break;
	case OPERAND_MEM:
		mem_span(x, o->size, alignment(x, o->size), ACCESS_READ, &s);
		v.q[0] = span_load(&s, 0, o->size < 8 ? o->size : 8);
		if (o->size == 16)
			v.q[1] = span_load(&s, 8, 8);
		break;
	default:
		v.q[0] = get(x, i);
		break;
	}
	return v;
}

/*
 * Any MMX instruction makes all registers valid and TOP 0; a register written
 * has ones above the 64 bits (SDM 1, 9.5).
 */
void
fpu_enter_mmx(struct cpu *cpu)
{
	fpu_set_top(cpu, 0);
	cpu->fxsave[FX_FTW] = 0xFF;
}

void
put_vec(struct exec *x, unsigned i, struct vec v)
{
	struct cpu *cpu = x->cpu;
	const struct operand *o = &x->in.operand[i];
	struct span s;

	if (o->kind == OPERAND_MEM) {
		mem_span(x, o->size, alignment(x, o->size), ACCESS_WRITE, &s);
		span_store(&s, 0, o->size < 8 ? o->size : 8, v.q[0]);
		if (o->size == 16)
			span_store(&s, 8, 8, v.q[1]);
	}
	if (x->in.flags & OP_MMX)
		fpu_enter_mmx(cpu);
	if (o->kind == OPERAND_XMM) {
		fx_set64(cpu, FX_XMM + 16u * o->reg, v.q[0]);
		fx_set64(cpu, FX_XMM + 16u * o->reg + 8, v.q[1]);
	} else if (o->kind == OPERAND_MM) {
		fpu_set_st(cpu, o->reg, (struct f80){ v.q[0], 0xFFFF });
	} else if (o->kind == OPERAND_REG) {
		put(x, i, v.q[0]);
	}
}
