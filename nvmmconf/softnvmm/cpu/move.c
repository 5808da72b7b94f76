/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Data transfer and flag control (SDM 1, 7.3.1, 7.3.13 and 7.3.14).
 */
#include "internal.h"

void
op_mov(struct exec *x)
{
	put(x, 0, get(x, 1));
}

void
op_movzx(struct exec *x)
{
	put(x, 0, get(x, 1));
}

/* MOVSX, MOVSXD. */
void
op_movsx(struct exec *x)
{
	put(x, 0, sign_extend(get(x, 1), x->in.operand[1].size));
}

void
op_lea(struct exec *x)
{
	put(x, 0, x->in.ea);
}

void
op_xchg(struct exec *x)
{
	uint64_t a = get_rmw(x, 0), b = get(x, 1);

	/* With memory locked whether there is a prefix or not. */
	x->in.lock = true;
	/* 90 without REX.B is NOP: EAX keeps its upper half (SDM 2B, NOP). */
	if (x->in.opcode == 0x90 && x->in.operand[0].reg == CPU_RAX)
		return;
	put(x, 1, a);
	put(x, 0, b);
}

static uint64_t
swap_bytes(uint64_t value, unsigned size)
{
	uint64_t r = 0;
	unsigned i;

	for (i = 0; i < size; i++, value >>= 8)
		r = r << 8 | (value & 0xFF);
	return r;
}

/* With 16 bits the result is undefined; processors clear it. */
void
op_bswap(struct exec *x)
{
	unsigned size = x->in.operand[0].size;

	put(x, 0, size == 2 ? 0 : swap_bytes(get(x, 0), size));
}

void
op_movbe(struct exec *x)
{
	put(x, 0, swap_bytes(get(x, 1), x->in.operand[1].size));
}

/* The source is read, and the upper half cleared, whatever the condition. */
void
op_cmovcc(struct exec *x)
{
	uint64_t value = get(x, 1);

	put(x, 0, condition(x->cpu, x->in.opcode & 0xF) ? value : get(x, 0));
}

void
op_setcc(struct exec *x)
{
	put(x, 0, condition(x->cpu, x->in.opcode & 0xF));
}

void
op_xlat(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t at = (cpu->gpr[CPU_RBX] + (cpu->gpr[CPU_RAX] & 0xFF)) & mask_of(x->in.asize);

	set_gpr(cpu, CPU_RAX, 1, mem_read(x, x->in.seg, at, 1));
}

/* NOP, PAUSE, prefetches. */
void
op_nop(struct exec *x)
{
	(void)x;
}

/* CLFLUSH, CLFLUSHOPT: there is no cache, but the byte must be readable. */
void
op_clflush(struct exec *x)
{
	(void)get(x, 0);
}

#define FLAGS_AH	(FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF)

void
op_lahf(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t ah = (cpu->rflags & FLAGS_AH) | FLAG_ONE;

	cpu->gpr[CPU_RAX] = (cpu->gpr[CPU_RAX] & ~UINT64_C(0xFF00)) | ah << 8;
}

void
op_sahf(struct exec *x)
{
	set_flags(x->cpu, FLAGS_AH, x->cpu->gpr[CPU_RAX] >> 8);
}

void
op_clc(struct exec *x)
{
	x->cpu->rflags &= ~(uint64_t)FLAG_CF;
}

void
op_stc(struct exec *x)
{
	x->cpu->rflags |= FLAG_CF;
}

void
op_cmc(struct exec *x)
{
	x->cpu->rflags ^= FLAG_CF;
}

void
op_cld(struct exec *x)
{
	x->cpu->rflags &= ~(uint64_t)FLAG_DF;
}

void
op_std(struct exec *x)
{
	x->cpu->rflags |= FLAG_DF;
}
