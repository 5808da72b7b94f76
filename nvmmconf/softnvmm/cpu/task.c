/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Task switches by hardware (SDM 3A, chapter 8).  Long mode has none.
 *
 * What is wrong with the new TSS itself is a fault of the old task.  Once the
 * registers are loaded, the rest is checked as a part of the new task: faults
 * then save its RIP.
 */
#include "internal.h"

#define DR6_BT		0x8000u
#define DR7_LOCAL	0x0055u		/* L0 to L3 */

/* A task-state segment: SDM 3A figures 8-2 and 8-10. */
struct tss {
	struct span span;
	unsigned word;		/* 4 or 2 */
	unsigned eip;		/* EIP; flags and all registers follow in order */
	unsigned nseg, ldt;
};

#define TSS_CR3		0x1Cu
#define TSS_TRAP	0x64u

static void
open_tss(struct exec *x, const struct cpu_seg *seg, enum access access,
    struct tss *t)
{
	bool big = seg->type & TSS_32;

	t->word = big ? 4 : 2;
	t->eip = big ? 0x20 : 0x0E;
	t->nseg = big ? CPU_NSEG : CPU_DS + 1;
	t->ldt = big ? 0x60 : 0x2A;
	system_span(x, seg->base, big ? 0x68 : 0x2C, access, &t->span);
}

static uint64_t
tss_word(const struct tss *t, unsigned n)
{
	return span_load(&t->span, t->eip + n * t->word, t->word);
}

/* Selectors are 16 bits; what is above them in the TSS stays. */
static void
save_task(const struct cpu *cpu, const struct tss *t, uint64_t flags)
{
	unsigned i, at = t->eip;

	span_store(&t->span, at, t->word, cpu->rip);
	span_store(&t->span, at += t->word, t->word, flags);
	for (i = 0; i < 8; i++)
		span_store(&t->span, at += t->word, t->word, cpu->gpr[i]);
	for (i = 0; i < t->nseg; i++)
		span_store(&t->span, at += t->word, 2, cpu->seg[i].selector);
}

/* The registers of the new task, with nothing behind its selectors yet. */
static void
load_task(struct exec *x, const struct tss *t, bool nested)
{
	struct cpu *cpu = x->cpu;
	unsigned i;

	cpu->rip = tss_word(t, 0);
	cpu->rflags = (tss_word(t, 1) & FLAG_EXIST) | FLAG_ONE | (nested ? FLAG_NT : 0);
	for (i = 0; i < 8; i++)
		cpu->gpr[i] = tss_word(t, 2 + i);
	for (i = 0; i < CPU_NSEG; i++)
		cpu->seg[i] = (struct cpu_seg){
			.selector = i < t->nseg ? (uint16_t)tss_word(t, 10 + i) : 0
		};
	cpu->seg[CPU_SS].dpl = cpu->rflags & FLAG_VM ? 3 : cpu->seg[CPU_CS].selector & 3;
	if (t->word == 4 && (cpu->cr0 & CR0_PG)) {
		cpu->cr3 = span_load(&t->span, TSS_CR3, 4);
		cpu->private.pdptes_wanted = true;
		tlb_flush_local(cpu);
	}
}

/* --- the new task's segments: SDM 3A table 8-1 --- */

static void
load_task_ldt(struct exec *x, uint16_t sel)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;

	cpu->ldtr.selector = sel;
	cpu->ldtr.p = false;
	if ((sel & 0xFFFC) == 0)
		return;
	if (sel & 4)
		fault(x, EXC_TS, sel & 0xFFFC);
	read_descriptor(x, sel, EXC_TS, &d);
	if (d.seg.s || d.seg.type != SYS_LDT || !d.seg.p)
		fault(x, EXC_TS, sel & 0xFFFC);
	cpu->ldtr = d.seg;
}

static void
load_task_code(struct exec *x)
{
	struct cpu_seg *cs = &x->cpu->seg[CPU_CS];
	uint16_t sel = cs->selector;
	struct descriptor d;

	if ((sel & 0xFFFC) == 0)
		fault(x, EXC_TS, 0);
	read_descriptor(x, sel, EXC_TS, &d);
	if (!d.seg.s || !(d.seg.type & DESC_CODE))
		fault(x, EXC_TS, sel & 0xFFFC);
	if (d.seg.type & DESC_DOWN ? d.seg.dpl > (sel & 3u) : d.seg.dpl != (sel & 3u))
		fault(x, EXC_TS, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	mark_accessed(x, &d);
	*cs = d.seg;
}

static void
load_task_stack(struct exec *x)
{
	struct cpu_seg *ss = &x->cpu->seg[CPU_SS];
	uint16_t sel = ss->selector;
	struct descriptor d;

	if ((sel & 0xFFFC) == 0)
		fault(x, EXC_TS, 0);
	read_descriptor(x, sel, EXC_TS, &d);
	if (!d.seg.s || (d.seg.type & (DESC_CODE | DESC_RW)) != DESC_RW ||
	    (sel & 3u) != ss->dpl || d.seg.dpl != ss->dpl)
		fault(x, EXC_TS, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_SS, sel & 0xFFFC);
	mark_accessed(x, &d);
	*ss = d.seg;
}

static void
load_task_data(struct exec *x, unsigned seg)
{
	struct cpu *cpu = x->cpu;
	uint16_t sel = cpu->seg[seg].selector;
	unsigned cpl = cpu_cpl(cpu);
	struct descriptor d;

	if ((sel & 0xFFFC) == 0)
		return;
	read_descriptor(x, sel, EXC_TS, &d);
	if (!d.seg.s || (d.seg.type & (DESC_CODE | DESC_RW)) == DESC_CODE)
		fault(x, EXC_TS, sel & 0xFFFC);
	if ((d.seg.type & (DESC_CODE | DESC_DOWN)) != (DESC_CODE | DESC_DOWN) &&
	    (cpl > d.seg.dpl || (sel & 3u) > d.seg.dpl))
		fault(x, EXC_TS, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	mark_accessed(x, &d);
	cpu->seg[seg] = d.seg;
}

static void
load_task_segments(struct exec *x, uint16_t ldt)
{
	static const uint8_t data[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	struct cpu *cpu = x->cpu;
	unsigned i;

	load_task_ldt(x, ldt);
	if (v86_mode(cpu)) {
		for (i = 0; i < CPU_NSEG; i++)
			set_real_segment(cpu, i, cpu->seg[i].selector);
		return;
	}
	load_task_code(x);
	load_task_stack(x);
	for (i = 0; i < sizeof(data); i++)
		load_task_data(x, data[i]);
}

/* --- the switch --- */

enum cause { BY_JMP, BY_CALL, BY_IRET, BY_EVENT };

/* The descriptor of the task to go to; `exc` is what is wrong otherwise. */
static void
read_task(struct exec *x, uint16_t sel, enum exception exc, bool busy, struct descriptor *d)
{
	if ((sel & 4) || (sel & 0xFFFC) == 0)
		fault(x, exc, sel & 0xFFFC);
	read_descriptor(x, sel, exc, d);
	if (d->seg.s || (d->seg.type & ~TSS_32) != (busy ? SYS_TSS16 | TSS_BUSY : SYS_TSS16))
		fault(x, exc, sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
}

/*
 * An exit in the middle, for memory that is not there, has to leave the old
 * task as it was, since the switch will be made again.  Its TSS has been
 * written, but with what will be written again.
 */
static void
remember(struct exec *x, uint64_t from, uint64_t to)
{
	const struct cpu *cpu = x->cpu;
	const uint64_t at[2] = { from + 5, to + 5 };
	unsigned i;

	x->switching.start = x->start;
	x->switching.tr = cpu->tr;
	x->switching.ldtr = cpu->ldtr;
	x->switching.cr0 = cpu->cr0;
	x->switching.cr3 = cpu->cr3;
	x->switching.dr7 = cpu->dr7;
	for (i = 0; i < 2; i++) {
		system_span(x, at[i], 1, ACCESS_WRITE, &x->switching.busy[i]);
		x->switching.type[i] = (uint8_t)span_load(&x->switching.busy[i], 0, 1);
	}
	x->switching.active = true;
}

void
task_undo(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned i;

	if (!x->switching.active)
		return;
	x->switching.active = false;
	x->start = x->switching.start;
	cpu->tr = x->switching.tr;
	cpu->ldtr = x->switching.ldtr;
	cpu->cr0 = x->switching.cr0;
	cpu->cr3 = x->switching.cr3;
	cpu->dr7 = x->switching.dr7;
	for (i = 0; i < 2; i++)
		span_store(&x->switching.busy[i], 0, 1, x->switching.type[i]);
}

/* SDM 3A 8.3. */
static void
task_switch(struct exec *x, struct descriptor *to, enum cause cause, uint64_t flags)
{
	struct cpu *cpu = x->cpu;
	uint64_t old = cpu->gdtr.base + (cpu->tr.selector & 0xFFF8u);
	uint16_t back = cpu->tr.selector, ldt;
	bool nested = cause == BY_CALL || cause == BY_EVENT;
	struct tss from, t;

	if (to->seg.limit < (to->seg.type & TSS_32 ? 0x67u : 0x2Bu))
		fault(x, EXC_TS, to->seg.selector & 0xFFFC);
	if (cpu->intercepts & CPU_INTERCEPT_TASK_SWITCH)
		leave(x, CPU_EXIT_TASK_SWITCH);
	open_tss(x, &cpu->tr, ACCESS_WRITE, &from);
	/* The new TSS is written for the link back only (SDM 3A 8.3). */
	open_tss(x, &to->seg, nested ? ACCESS_WRITE : ACCESS_READ, &t);
	remember(x, old, to->at);
	if (!nested)
		update_system(x, old + 5, TSS_BUSY, 0);
	if (cause != BY_IRET)
		update_system(x, to->at + 5, 0, TSS_BUSY);
	save_task(cpu, &from, cause == BY_IRET ? flags & ~(uint64_t)FLAG_NT : flags);
	if (nested)
		span_store(&t.span, 0, 2, back);

	ldt = (uint16_t)span_load(&t.span, t.ldt, 2);
	load_task(x, &t, nested);
	cpu->tr = to->seg;
	cpu->tr.type |= TSS_BUSY;
	cpu->cr0 |= CR0_TS;
	cpu->dr7 &= ~(uint64_t)DR7_LOCAL;
	/* TF is the new task's: it counts from its first instruction on. */
	x->trap_by = TRAP_BY_NOTHING;
	x->keep_rf = true;
	checkpoint(x);
	load_task_segments(x, ldt);
	/* Told as a trap of the switch, before the first instruction (18.3.1.5). */
	if (t.word == 4 && (span_load(&t.span, TSS_TRAP, 2) & 1))
		x->data_hits |= DR6_BT;
}

/* JMP or CALL to a TSS, or to a task gate, whose DPL then counts instead. */
void
task_transfer(struct exec *x, uint16_t sel, struct descriptor *d, bool call)
{
	if (d->seg.dpl < cpu_cpl(x->cpu) || d->seg.dpl < (sel & 3u))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	if (d->seg.type == SYS_TASK_GATE)
		read_task(x, (uint16_t)(d->raw >> 16), EXC_GP, false, d);
	else
		read_task(x, sel, EXC_GP, false, d);
	task_switch(x, d, call ? BY_CALL : BY_JMP, x->cpu->rflags);
}

/* IRET with NT set: back along the link. */
void
task_return(struct exec *x)
{
	uint16_t link = (uint16_t)read_system(x, x->cpu->tr.base, 2);
	struct descriptor d;

	read_task(x, link, EXC_TS, true, &d);
	task_switch(x, &d, BY_IRET, x->cpu->rflags);
}

/* Through a task gate of the IDT.  An error code goes to the new task's stack. */
void
task_event(struct exec *x, uint16_t sel, uint64_t flags)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;
	struct stack st;

	read_task(x, sel, EXC_GP, false, &d);
	task_switch(x, &d, BY_EVENT, flags);
	if (x->delivering.has_error) {
		current_stack(cpu, &st);
		stack_push(x, &st, cpu->tr.type & TSS_32 ? 4 : 2, x->delivering.error);
		use_stack(cpu, &st);
	}
}
