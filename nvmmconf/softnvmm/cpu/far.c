/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Far transfers: JMP, CALL and RET to other segments, through call gates, and
 * between privilege levels (SDM 3A, 6.8; SDM 2A, CALL and JMP; SDM 2B, RET).
 * Tasks are in task.c, IRET is in iret.c.
 */
#include "internal.h"

/*
 * A code segment as the target of a JMP or CALL, or of a return, where RPL is
 * the level to return to (SDM 3A 6.8.1).  System descriptors are the caller's.
 */
static void
check_code(struct exec *x, uint16_t sel, bool is_return, const struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;
	unsigned rpl = sel & 3, cpl = cpu_cpl(cpu);

	if (!d->seg.s || !(d->seg.type & DESC_CODE))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (d->seg.type & DESC_DOWN) {
		if (d->seg.dpl > (is_return ? rpl : cpl))
			fault(x, EXC_GP, sel & 0xFFFC);
	} else if (is_return ? d->seg.dpl != rpl : (rpl > cpl || d->seg.dpl != cpl)) {
		fault(x, EXC_GP, sel & 0xFFFC);
	}
	if (long_mode(cpu) && d->seg.l && d->seg.db)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
}

/* Where RET and IRET go back to. */
void
return_code(struct exec *x, uint16_t sel, struct descriptor *d)
{
	if ((sel & 0xFFFC) == 0)
		gp0(x);
	if ((sel & 3u) < cpu_cpl(x->cpu))
		fault(x, EXC_GP, sel & 0xFFFC);
	read_descriptor(x, sel, EXC_GP, d);
	check_code(x, sel, true, d);
}

/* Loads CS; its RPL is CPL. */
static void
load_cs(struct exec *x, struct descriptor *d)
{
	struct cpu *cpu = x->cpu;

	mark_accessed(x, d);
	d->seg.selector = (uint16_t)((d->seg.selector & 0xFFFC) | cpu_cpl(cpu));
	cpu->seg[CPU_CS] = d->seg;
}

/* --- call gates --- */

struct call_gate {
	uint16_t sel;
	unsigned params, size;
	uint64_t off;
};

/* The gate itself; its selector is the error code of what is wrong with it. */
static void
read_call_gate(struct exec *x, uint16_t sel, const struct descriptor *d, struct call_gate *g)
{
	const struct cpu *cpu = x->cpu;
	uint64_t high = 0;

	if (d->seg.dpl < cpu_cpl(cpu) || d->seg.dpl < (sel & 3u))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (long_mode(cpu)) {
		const struct cpu_seg *table = sel & 4 ? &cpu->ldtr : &cpu->gdtr;

		if ((sel & 0xFFF8u) + 15 > table->limit)
			fault(x, EXC_GP, sel & 0xFFFC);
		high = read_system(x, d->at + 8, 8);
		if ((high >> 40 & 0x1F) != 0)
			fault(x, EXC_GP, sel & 0xFFFC);
	}
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	g->size = long_mode(cpu) ? 8 : d->seg.type & 8 ? 4 : 2;
	g->sel = (uint16_t)(d->raw >> 16);
	g->params = d->raw >> 32 & 0x1F;
	g->off = (d->raw & 0xFFFF) | (d->raw >> 32 & 0xFFFF0000) | high << 32;
	g->off &= mask_of(g->size);
}

/* The code that a gate leads to.  JMP does not change CPL (SDM 3A table 6-2). */
static void
gate_code(struct exec *x, uint16_t sel, bool call, struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;
	unsigned cpl = cpu_cpl(cpu);

	if ((sel & 0xFFFC) == 0)
		gp0(x);
	read_descriptor(x, sel, EXC_GP, d);
	if (!d->seg.s || !(d->seg.type & DESC_CODE) || d->seg.dpl > cpl)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!call && !(d->seg.type & DESC_DOWN) && d->seg.dpl != cpl)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (long_mode(cpu) && (!d->seg.l || d->seg.db))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
}

/* The frame on an inner stack: SS:SP, parameters, CS:IP (SDM 3A 6.8.5). */
static void
call_inner(struct exec *x, const struct call_gate *g, unsigned cpl, struct stack *st)
{
	struct cpu *cpu = x->cpu;
	uint16_t ss = cpu->seg[CPU_SS].selector;
	unsigned i;

	if (g->size == 8)
		stack_of_level64(x, cpl, 0, st);
	else
		stack_of_level(x, cpl, st);
	stack_push(x, st, g->size, ss);
	stack_push(x, st, g->size, cpu->gpr[CPU_RSP]);
	for (i = g->size == 8 ? 0 : g->params; i-- > 0;)
		stack_push(x, st, g->size, stack_peek(x, i * g->size, g->size));
}

static void
through_call_gate(struct exec *x, uint16_t sel, const struct descriptor *gate, bool call)
{
	struct cpu *cpu = x->cpu;
	unsigned cpl = cpu_cpl(cpu), inner;
	struct call_gate g;
	struct descriptor d;
	struct stack st;

	read_call_gate(x, sel, gate, &g);
	gate_code(x, g.sel, call, &d);
	inner = d.seg.type & DESC_DOWN ? cpl : d.seg.dpl;
	if (call) {
		current_stack(cpu, &st);
		if (g.size == 8)
			st.width = 8;
		if (inner != cpl)
			call_inner(x, &g, inner, &st);
		stack_push(x, &st, g.size, cpu->seg[CPU_CS].selector);
		stack_push(x, &st, g.size, x->next_rip);
	}
	if (g.size == 8 ? !canonical(g.off) : g.off > d.seg.limit)
		gp0(x);
	if (call)
		use_stack(cpu, &st);
	load_cs(x, &d);
	cpu->rip = g.off;
}

/* --- JMP and CALL --- */

/* System descriptors: gates and tasks.  Types: SDM 3A table 3-2. */
static void
system_transfer(struct exec *x, uint16_t sel, struct descriptor *d, bool call)
{
	bool lm = long_mode(x->cpu);

	switch (d->seg.type) {
	case SYS_CALL_GATE16:
		if (lm)
			break;
		/* FALLTHROUGH */
	case SYS_CALL_GATE32:
		through_call_gate(x, sel, d, call);
		return;
	case SYS_TSS16: case SYS_TSS32: case SYS_TASK_GATE:
		if (lm)
			break;
		task_transfer(x, sel, d, call);
		return;
	default:
		break;
	}
	fault(x, EXC_GP, sel & 0xFFFC);
}

/* True: `sel` was a gate or a task, and all is done. */
static bool
target(struct exec *x, uint16_t sel, bool call, struct descriptor *d)
{
	if ((sel & 0xFFFC) == 0)
		gp0(x);
	read_descriptor(x, sel, EXC_GP, d);
	if (!d->seg.s) {
		system_transfer(x, sel, d, call);
		return true;
	}
	check_code(x, sel, false, d);
	return false;
}

static void
far_jump(struct exec *x, uint16_t sel, uint64_t off)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;

	if (real_segments(cpu)) {
		set_real_segment(cpu, CPU_CS, sel);
	} else {
		if (target(x, sel, false, &d))
			return;
		load_cs(x, &d);
	}
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

	if (!real_segments(cpu) && target(x, sel, true, &d))
		return;
	push(x, size, old);
	push(x, size, x->next_rip);
	if (real_segments(cpu))
		set_real_segment(cpu, CPU_CS, sel);
	else
		load_cs(x, &d);
	set_rip(x, off, size);
}

/* m16:16, m16:32, and with REX.W on Intel m16:64 (SDM 2A, JMP; APM 3, JMP Far). */
static void
far_pointer(struct exec *x, uint16_t *sel, uint64_t *off)
{
	unsigned size = far_offset_size(x);
	uint64_t linear = linear_address(x, x->in.seg, x->in.ea, size + 2, ACCESS_READ);
	struct span s;

	span_of(x, linear, size + 2, ACCESS_READ, RANK_CPL, &s);
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

/* --- RET --- */

/*
 * The stack of a return that leaves CPL or comes from 64-bit code.  SS may be
 * null for a return to 64-bit mode below CPL 3.
 */
void
return_stack(struct exec *x, uint16_t sel, unsigned cpl, bool to64)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;

	if ((sel & 0xFFFC) == 0) {
		if (!to64 || cpl == 3 || (sel & 3u) != cpl)
			gp0(x);
		cpu->seg[CPU_SS] = (struct cpu_seg){ .selector = sel, .dpl = (uint8_t)cpl };
		return;
	}
	read_descriptor(x, sel, EXC_GP, &d);
	if ((sel & 3u) != cpl || !d.seg.s || d.seg.dpl != cpl ||
	    (d.seg.type & (DESC_CODE | DESC_RW)) != DESC_RW)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_SS, sel & 0xFFFC);
	mark_accessed(x, &d);
	cpu->seg[CPU_SS] = d.seg;
}

/* Data segments that the outer level may not use become null (SDM 2B, RET). */
void
drop_segments(struct cpu *cpu, unsigned cpl)
{
	static const uint8_t segs[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	unsigned i;

	for (i = 0; i < sizeof(segs); i++) {
		struct cpu_seg *s = &cpu->seg[segs[i]];

		if ((s->type & (DESC_CODE | DESC_DOWN)) != (DESC_CODE | DESC_DOWN) &&
		    s->dpl < cpl) {
			s->selector = 0;
			s->p = false;
		}
	}
}

static void
far_return(struct exec *x, uint64_t release)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize, stack = stack_size(cpu), old = cpu_cpl(cpu), cpl;
	uint64_t off = stack_peek(x, 0, size), sp = cpu->gpr[CPU_RSP] + 2 * size;
	uint16_t sel = (uint16_t)stack_peek(x, size, size), ss;
	struct descriptor d;

	if (real_segments(cpu)) {
		set_real_segment(cpu, CPU_CS, sel);
		set_rip(x, off, size);
		set_gpr(cpu, CPU_RSP, stack, sp + release);
		return;
	}
	return_code(x, sel, &d);
	cpl = sel & 3;
	if (cpl != old) {
		/* The parameters are on both stacks. */
		sp = stack_peek(x, 2 * size + release, size);
		ss = (uint16_t)stack_peek(x, 3 * size + release, size);
		return_stack(x, ss, cpl, long_mode(cpu) && d.seg.l);
		drop_segments(cpu, cpl);
	}
	load_cs(x, &d);
	set_rip(x, off, size);
	if (cpl != old)
		stack = stack_size(cpu);
	set_gpr(cpu, CPU_RSP, stack, sp + release);
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
