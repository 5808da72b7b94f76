/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Decimal arithmetic (SDM 1, 7.3.4.3 and 7.3.4.4); not in 64-bit mode.
 */
#include "internal.h"

static void
set_al_flags(struct exec *x, uint64_t al, bool cf, bool af)
{
	set_gpr(x->cpu, CPU_RAX, 1, al);
	set_flags(x->cpu, FLAG_STATUS, flags_of(al, 1) | (cf ? FLAG_CF : 0) |
	    (af ? FLAG_AF : 0));
}

static bool
adjust_low(const struct exec *x, uint64_t al)
{
	return (al & 0xF) > 9 || (x->cpu->rflags & FLAG_AF);
}

void
op_daa(struct exec *x)
{
	uint64_t old = x->cpu->gpr[CPU_RAX] & 0xFF, al = old;
	bool low = adjust_low(x, old), high = old > 0x99 || (x->cpu->rflags & FLAG_CF);

	if (low)
		al += 6;
	if (high)
		al += 0x60;
	set_al_flags(x, al & 0xFF, high, low);
}

/* A borrow out of the low digit's adjustment sets CF too. */
void
op_das(struct exec *x)
{
	uint64_t old = x->cpu->gpr[CPU_RAX] & 0xFF, al = old;
	bool low = adjust_low(x, old), high = old > 0x99 || (x->cpu->rflags & FLAG_CF);

	if (low)
		al -= 6;
	if (high)
		al -= 0x60;
	set_al_flags(x, al & 0xFF, high || (low && old < 6), low);
}

/* AAA and AAS: by is 0x106 up or down; only the low digit stays in AL. */
static void
ascii_adjust(struct exec *x, uint64_t by)
{
	struct cpu *cpu = x->cpu;
	uint64_t ax = cpu->gpr[CPU_RAX] & 0xFFFF;
	bool adjust = adjust_low(x, ax);

	if (adjust)
		ax += by;
	set_gpr(cpu, CPU_RAX, 2, ax & 0xFF0F);
	set_flags(cpu, FLAG_CF | FLAG_AF, adjust ? FLAG_CF | FLAG_AF : 0);
}

void
op_aaa(struct exec *x)
{
	ascii_adjust(x, 0x106);
}

void
op_aas(struct exec *x)
{
	ascii_adjust(x, (uint64_t)0 - 0x106);
}

/* AH, AL := AL / imm, AL % imm. */
void
op_aam(struct exec *x)
{
	uint64_t by = get(x, 0), al = x->cpu->gpr[CPU_RAX] & 0xFF;

	if (by == 0)
		fault(x, EXC_DE, 0);
	set_gpr(x->cpu, CPU_RAX, 2, al / by << 8);
	set_al_flags(x, al % by, false, false);
}

/* AL := AH * imm + AL, AH := 0. */
void
op_aad(struct exec *x)
{
	uint64_t ax = x->cpu->gpr[CPU_RAX], al = (ax >> 8 & 0xFF) * get(x, 0) + ax;

	set_gpr(x->cpu, CPU_RAX, 2, 0);
	set_al_flags(x, al & 0xFF, false, false);
}
