/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Control transfer: jumps, calls, returns, loops (SDM 1, 7.3.8).
 */
#include "internal.h"

/* A new RIP, with the check that its use would fail. */
void
set_rip(struct exec *x, uint64_t rip, unsigned osize)
{
	struct cpu *cpu = x->cpu;

	rip &= mask_of(osize);
	if (mode64(cpu) ? !canonical(rip) : rip > cpu->seg[CPU_CS].limit)
		gp0(x);
	cpu->rip = rip;
}

static void
jump_relative(struct exec *x)
{
	set_rip(x, x->next_rip + x->in.imm, x->in.osize);
}

void
op_jcc(struct exec *x)
{
	if (condition(x->cpu, x->in.opcode & 0xF))
		jump_relative(x);
}

void
op_jmp(struct exec *x)
{
	jump_relative(x);
}

void
op_jmp_indirect(struct exec *x)
{
	set_rip(x, get(x, 0), x->in.osize);
}

void
op_call(struct exec *x)
{
	jump_relative(x);
	push(x, x->in.osize, x->next_rip);
}

void
op_call_indirect(struct exec *x)
{
	set_rip(x, get(x, 0), x->in.osize);
	push(x, x->in.osize, x->next_rip);
}

static void
near_return(struct exec *x, uint64_t release)
{
	set_rip(x, pop(x, x->in.osize), x->in.osize);
	stack_release(x, release);
}

void
op_ret(struct exec *x)
{
	near_return(x, 0);
}

void
op_ret_imm(struct exec *x)
{
	near_return(x, x->in.imm);
}

/* LOOP, LOOPE, LOOPNE count in CX, ECX or RCX by the address size. */
static void
loop(struct exec *x, bool also)
{
	struct cpu *cpu = x->cpu;
	uint64_t count = (cpu->gpr[CPU_RCX] - 1) & mask_of(x->in.asize);

	set_gpr(cpu, CPU_RCX, x->in.asize, count);
	if (count != 0 && also)
		jump_relative(x);
}

void
op_loop(struct exec *x)
{
	loop(x, true);
}

void
op_loope(struct exec *x)
{
	loop(x, (x->cpu->rflags & FLAG_ZF) != 0);
}

void
op_loopne(struct exec *x)
{
	loop(x, (x->cpu->rflags & FLAG_ZF) == 0);
}

void
op_jrcxz(struct exec *x)
{
	if ((x->cpu->gpr[CPU_RCX] & mask_of(x->in.asize)) == 0)
		jump_relative(x);
}

/* BOUND: lower and upper signed limits, both allowed. */
void
op_bound(struct exec *x)
{
	unsigned size = x->in.osize;
	int64_t index = (int64_t)sign_extend(get(x, 0), size), low, high;
	struct span s;

	span_of(x, linear_address(x, x->in.seg, x->in.ea, 2 * size, ACCESS_READ),
	    2 * size, ACCESS_READ, RANK_CPL, &s);
	low = (int64_t)sign_extend(span_load(&s, 0, size), size);
	high = (int64_t)sign_extend(span_load(&s, size, size), size);
	if (index < low || index > high)
		fault(x, EXC_BR, 0);
}
