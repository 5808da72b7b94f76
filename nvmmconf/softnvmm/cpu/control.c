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
	    2 * size, ACCESS_READ, false, &s);
	low = (int64_t)sign_extend(span_load(&s, 0, size), size);
	high = (int64_t)sign_extend(span_load(&s, size, size), size);
	if (index < low || index > high)
		fault(x, EXC_BR, 0);
}

/* --- far transfers that keep CPL --- */

/* Checks the target, then loads CS; RIP is the caller's. */
static void
load_cs(struct exec *x, struct descriptor *d)
{
	struct cpu *cpu = x->cpu;

	mark_accessed(x, d);
	d->seg.selector = (uint16_t)((d->seg.selector & 0xFFFC) | cpu_cpl(cpu));
	cpu->seg[CPU_CS] = d->seg;
}

static void
far_jump(struct exec *x, uint16_t sel, uint64_t off)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;

	if (!protected_mode(cpu)) {
		set_real_segment(&cpu->seg[CPU_CS], sel);
		set_rip(x, off, x->in.osize);
		return;
	}
	code_descriptor(x, sel, false, &d);
	load_cs(x, &d);
	set_rip(x, off, x->in.osize);
}

/* The return address goes to the stack of the caller's mode, before CS changes. */
static void
far_call(struct exec *x, uint16_t sel, uint64_t off)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize;
	uint16_t old = cpu->seg[CPU_CS].selector;
	struct descriptor d;

	if (protected_mode(cpu))
		code_descriptor(x, sel, false, &d);
	push(x, size, old);
	push(x, size, x->next_rip);
	if (protected_mode(cpu))
		load_cs(x, &d);
	else
		set_real_segment(&cpu->seg[CPU_CS], sel);
	set_rip(x, off, size);
}

/* m16:16, m16:32, m16:64. */
static void
far_pointer(struct exec *x, uint16_t *sel, uint64_t *off)
{
	unsigned size = x->in.osize;
	uint64_t linear = linear_address(x, x->in.seg, x->in.ea, size + 2, ACCESS_READ);
	struct span s;

	span_of(x, linear, size + 2, ACCESS_READ, false, &s);
	*off = span_load(&s, 0, size);
	*sel = (uint16_t)span_load(&s, size, 2);
}

void
op_jmp_far(struct exec *x)
{
	far_jump(x, (uint16_t)x->in.imm2, x->in.imm);
}

void
op_call_far(struct exec *x)
{
	far_call(x, (uint16_t)x->in.imm2, x->in.imm);
}

void
op_jmp_far_m(struct exec *x)
{
	uint16_t sel;
	uint64_t off;

	far_pointer(x, &sel, &off);
	far_jump(x, sel, off);
}

void
op_call_far_m(struct exec *x)
{
	uint16_t sel;
	uint64_t off;

	far_pointer(x, &sel, &off);
	far_call(x, sel, off);
}

static void
far_return(struct exec *x, uint64_t release)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize;
	uint64_t off = stack_peek(x, 0, size);
	uint16_t sel = (uint16_t)stack_peek(x, size, size);
	unsigned stack = stack_size(cpu);
	struct descriptor d;

	if (protected_mode(cpu)) {
		if ((sel & 3u) < cpu_cpl(cpu))
			fault(x, EXC_GP, sel & 0xFFFC);
		code_descriptor(x, sel, true, &d);
		if ((sel & 3u) > cpu_cpl(cpu))
			unimplemented(x);	/* return to an outer level */
		load_cs(x, &d);
	} else {
		set_real_segment(&cpu->seg[CPU_CS], sel);
	}
	set_rip(x, off, size);
	set_gpr(cpu, CPU_RSP, stack, cpu->gpr[CPU_RSP] + 2 * size + release);
}

void
op_retf(struct exec *x)
{
	far_return(x, 0);
}

void
op_retf_imm(struct exec *x)
{
	far_return(x, x->in.imm);
}
