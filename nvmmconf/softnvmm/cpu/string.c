/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * String instructions (SDM 1, 7.3.9; REP in SDM 2B).
 *
 * Each iteration is complete before the next starts: a fault in one leaves
 * the registers as after the one before, and RIP on the instruction.
 */
#include "internal.h"

static uint64_t
offset(const struct exec *x, unsigned reg)
{
	return x->cpu->gpr[reg] & mask_of(x->in.asize);
}

static void
advance(struct exec *x, unsigned reg)
{
	struct cpu *cpu = x->cpu;
	uint64_t size = x->in.operand[0].size;

	set_gpr(cpu, reg, x->in.asize,
	    cpu->gpr[reg] + (cpu->rflags & FLAG_DF ? -size : size));
}

/*
 * Runs `once` under the REP prefix.  With `compare`, ZF can end it.  Stops
 * early for the hypervisor's sake and for debug traps, which come after each
 * iteration (SDM 3B 17.3.1.2 and 17.3.1.4): RIP stays, the next step goes on.
 */
static void
repeat(struct exec *x, void (*once)(struct exec *), bool compare)
{
	struct cpu *cpu = x->cpu;
	unsigned asize = x->in.asize;

	if (x->in.rep == 0) {
		once(x);
		return;
	}
	while ((cpu->gpr[CPU_RCX] & mask_of(asize)) != 0) {
		bool zf;

		once(x);
		set_gpr(cpu, CPU_RCX, asize, cpu->gpr[CPU_RCX] - 1);
		zf = (cpu->rflags & FLAG_ZF) != 0;
		if ((cpu->gpr[CPU_RCX] & mask_of(asize)) == 0 ||
		    (compare && zf != (x->in.rep == 0xF3)))
			return;
		if ((cpu->rflags & FLAG_TF) || x->data_hits != 0 || should_stop(x)) {
			cpu->rip = x->start.rip;
			x->keep_rf = true;
			return;
		}
		cpu->rip = x->start.rip;
		checkpoint(x);
		cpu->rip = x->next_rip;
	}
}

static void
movs(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t value = mem_read(x, x->in.seg, offset(x, CPU_RSI), size);

	mem_write(x, CPU_ES, offset(x, CPU_RDI), size, value);
	advance(x, CPU_RSI);
	advance(x, CPU_RDI);
}

static void
stos(struct exec *x)
{
	unsigned size = x->in.operand[0].size;

	mem_write(x, CPU_ES, offset(x, CPU_RDI), size, x->cpu->gpr[CPU_RAX]);
	advance(x, CPU_RDI);
}

static void
lods(struct exec *x)
{
	unsigned size = x->in.operand[0].size;

	set_gpr(x->cpu, CPU_RAX, size, mem_read(x, x->in.seg, offset(x, CPU_RSI), size));
	advance(x, CPU_RSI);
}

static void
cmps(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t a = mem_read(x, x->in.seg, offset(x, CPU_RSI), size);
	uint64_t b = mem_read(x, CPU_ES, offset(x, CPU_RDI), size);

	compare(x, a, b, size);
	advance(x, CPU_RSI);
	advance(x, CPU_RDI);
}

static void
scas(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t b = mem_read(x, CPU_ES, offset(x, CPU_RDI), size);

	compare(x, x->cpu->gpr[CPU_RAX] & mask_of(size), b, size);
	advance(x, CPU_RDI);
}

void
op_movs(struct exec *x)
{
	repeat(x, movs, false);
}

void
op_stos(struct exec *x)
{
	repeat(x, stos, false);
}

void
op_lods(struct exec *x)
{
	repeat(x, lods, false);
}

void
op_cmps(struct exec *x)
{
	repeat(x, cmps, true);
}

void
op_scas(struct exec *x)
{
	repeat(x, scas, true);
}
