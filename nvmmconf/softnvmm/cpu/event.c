/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Interrupts and exceptions (SDM 3A, chapter 6; APM 2, chapter 8).
 *
 * exec.delivering is the event on its way through the IDT.  A fault on that
 * way is combined with it in next_event(), an exit reports it.
 */
#include "internal.h"

#define GATE_TASK	0x5u
#define GATE_INT16	0x6u
#define GATE_TRAP16	0x7u
#define GATE_INT32	0xEu
#define GATE_TRAP32	0xFu

enum event_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

/* SDM 3A table 6-4. */
static enum event_class
class_of(const struct cpu_event *e)
{
	if (e->type != CPU_EVENT_EXCP)
		return BENIGN;
	switch (e->vector) {
	case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP:
		return CONTRIBUTORY;
	case EXC_PF:
		return PAGE_FAULT;
	case EXC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

/*
 * A fault was raised: choose what is delivered now (SDM 3A table 6-5).  False
 * is a triple fault.
 */
bool
next_event(struct exec *x)
{
	enum event_class first = class_of(&x->delivering);
	enum event_class second = class_of(&x->pending);

	if (first == DOUBLE_FAULT)
		return false;
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	    (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT)))
		x->delivering = (struct cpu_event){
			.type = CPU_EVENT_EXCP, .vector = EXC_DF, .has_error = true
		};
	else
		x->delivering = x->pending;
	x->delivering_insn = x->delivering_int_n = false;
	return true;
}

/* The flags that are pushed: RF is set for faults (SDM 3B 17.3.1.1). */
static uint64_t
saved_flags(struct exec *x)
{
	const struct cpu_event *e = &x->delivering;
	uint64_t flags = x->cpu->rflags;

	if (e->type != CPU_EVENT_EXCP || x->delivering_insn)
		return flags;
	switch (e->vector) {
	case EXC_DB:
		return x->debug_fault ? flags | FLAG_RF : flags;
	case EXC_NMI: case EXC_BP: case EXC_OF: case EXC_DF: case 18:
		return flags;
	default:
		return flags | FLAG_RF;
	}
}

/* Error code of a fault about an IDT entry. */
static uint32_t
idt_error(const struct exec *x)
{
	return x->delivering.vector * 8u + 2;
}

/* SDM 3A 20.1.4: four bytes a vector, no error code. */
static void
deliver_real(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned vector = x->delivering.vector;
	uint64_t entry;

	if (vector * 4 + 3 > cpu->idtr.limit)
		fault(x, EXC_GP, idt_error(x));
	entry = read_system(x, cpu->idtr.base + vector * 4, 4);
	push(x, 2, saved_flags(x));
	push(x, 2, cpu->seg[CPU_CS].selector);
	push(x, 2, cpu->rip);
	set_real_segment(&cpu->seg[CPU_CS], (uint16_t)(entry >> 16));
	set_rip(x, entry & 0xFFFF, 2);
	cpu->rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC);
}

struct gate {
	unsigned type, dpl, ist;
	uint16_t sel;
	uint64_t off;
};

/* SDM 3A 6.11 and 6.14.1: 8 bytes a gate, 16 in long mode. */
static void
read_gate(struct exec *x, struct gate *g)
{
	const struct cpu *cpu = x->cpu;
	unsigned size = long_mode(cpu) ? 16 : 8;
	uint32_t at = x->delivering.vector * size;
	uint64_t low, high = 0;

	if (at + size - 1 > cpu->idtr.limit)
		fault(x, EXC_GP, idt_error(x));
	low = read_system(x, cpu->idtr.base + at, 8);
	if (size == 16)
		high = read_system(x, cpu->idtr.base + at + 8, 8);
	g->type = low >> 40 & 0x1F;	/* with the S bit, which must be 0 */
	g->dpl = low >> 45 & 3;
	g->ist = low >> 32 & 7;
	g->sel = (uint16_t)(low >> 16);
	g->off = (low & 0xFFFF) | (low >> 32 & 0xFFFF0000) | high << 32;
	switch (g->type) {
	case GATE_INT32: case GATE_TRAP32:
		break;
	case GATE_INT16: case GATE_TRAP16: case GATE_TASK:
		if (!long_mode(cpu))
			break;
		/* FALLTHROUGH */
	default:
		fault(x, EXC_GP, idt_error(x));
	}
	if (x->delivering_int_n && g->dpl < cpu_cpl(cpu))
		fault(x, EXC_GP, idt_error(x));
	if (!(low >> 47 & 1))
		fault(x, EXC_NP, idt_error(x));
	if (!long_mode(cpu) && g->type == GATE_TASK)
		task_switch(x);
}

/* The handler's code segment; returns the CPL it will run at (SDM 3A 6.12.1). */
static unsigned
handler_segment(struct exec *x, const struct gate *g, struct descriptor *d)
{
	unsigned cpl = cpu_cpl(x->cpu);

	if ((g->sel & 0xFFFC) == 0)
		gp0(x);
	read_descriptor(x, g->sel, EXC_GP, d);
	if (!d->seg.s || !(d->seg.type & 8) || d->seg.dpl > cpl)
		fault(x, EXC_GP, g->sel & 0xFFFC);
	if (long_mode(x->cpu) && (!d->seg.l || d->seg.db))
		fault(x, EXC_GP, g->sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, g->sel & 0xFFFC);
	return d->seg.type & 4 ? cpl : d->seg.dpl;
}

static void
enter_handler(struct exec *x, struct descriptor *d, const struct gate *g, unsigned cpl)
{
	struct cpu *cpu = x->cpu;

	mark_accessed(x, d);
	d->seg.selector = (uint16_t)((g->sel & 0xFFFC) | cpl);
	cpu->seg[CPU_CS] = d->seg;
	cpu->rip = g->off;
	cpu->rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_VM | FLAG_RF);
	if ((g->type & 1) == 0)
		cpu->rflags &= ~(uint64_t)FLAG_IF;
}

/* A stack pointer from the 64-bit TSS (SDM 3A figure 7-11). */
static uint64_t
tss_stack(struct exec *x, unsigned at)
{
	const struct cpu *cpu = x->cpu;
	uint64_t rsp;

	if (at + 7 > cpu->tr.limit)
		fault(x, EXC_TS, cpu->tr.selector & 0xFFFC);
	rsp = read_system(x, cpu->tr.base + at, 8);
	if (!canonical(rsp))
		fault(x, EXC_SS, 0);
	return rsp;
}

/* Writes of a frame on the handler's stack, at the handler's privilege. */
static void
push_frame(struct exec *x, uint64_t *rsp, uint64_t value)
{
	struct span s;

	*rsp -= 8;
	if (!canonical(*rsp))
		fault(x, EXC_SS, 0);
	span_of(x, *rsp, 8, ACCESS_WRITE, cpu_cpl(x->cpu) != 3, &s);
	span_store(&s, 0, 8, value);
}

/* SDM 3A 6.14: SS:RSP always pushed, RSP aligned, IST or RSPn. */
static void
deliver_long(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct cpu_seg ss = cpu->seg[CPU_SS];
	uint64_t old = cpu->gpr[CPU_RSP], rsp = old, flags = saved_flags(x);
	struct gate g;
	struct descriptor d;
	unsigned cpl;

	read_gate(x, &g);
	cpl = handler_segment(x, &g, &d);
	if (g.ist != 0)
		rsp = tss_stack(x, 36 + 8 * (g.ist - 1));
	else if (cpl != cpu_cpl(cpu))
		rsp = tss_stack(x, 4 + 8 * cpl);
	if (!canonical(g.off))
		gp0(x);
	if (cpl != cpu_cpl(cpu)) {
		/* SS becomes a null selector with the new level as its RPL. */
		cpu->seg[CPU_SS] = (struct cpu_seg){
			.selector = (uint16_t)cpl, .dpl = (uint8_t)cpl
		};
	}
	rsp &= ~UINT64_C(0xF);
	push_frame(x, &rsp, ss.selector);
	push_frame(x, &rsp, old);
	push_frame(x, &rsp, flags);
	push_frame(x, &rsp, cpu->seg[CPU_CS].selector);
	push_frame(x, &rsp, cpu->rip);
	if (x->delivering.has_error)
		push_frame(x, &rsp, x->delivering.error);
	cpu->gpr[CPU_RSP] = rsp;
	enter_handler(x, &d, &g, cpl);
}

/* Legacy protected mode, handler at the same level (SDM 3A 6.12.1). */
static void
deliver_protected(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct gate g;
	struct descriptor d;
	uint64_t flags = saved_flags(x);
	unsigned size, cpl;

	read_gate(x, &g);
	cpl = handler_segment(x, &g, &d);
	if (cpl != cpu_cpl(cpu) || (cpu->rflags & FLAG_VM))
		unimplemented(x);	/* stack switch through the TSS */
	size = g.type & 8 ? 4 : 2;
	push(x, size, flags);
	push(x, size, cpu->seg[CPU_CS].selector);
	push(x, size, cpu->rip);
	if (x->delivering.has_error)
		push(x, size, x->delivering.error);
	g.off &= mask_of(size);
	if (g.off > d.seg.limit)
		gp0(x);
	enter_handler(x, &d, &g, cpl);
}

/*
 * Delivers exec.delivering.  cpu->rip is the return address: of the instruction
 * for a fault, behind it for a trap, INT n and interrupts.
 */
void
deliver(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	if (!protected_mode(cpu))
		deliver_real(x);
	else if (long_mode(cpu))
		deliver_long(x);
	else
		deliver_protected(x);
	if (x->delivering.type == CPU_EVENT_NMI)
		cpu->nmi_blocked = true;
	cpu->int_shadow = false;
	x->delivering.type = CPU_EVENT_NONE;
	x->delivering_insn = x->delivering_int_n = false;
}

/* --- instructions --- */

/* The gate's DPL is checked; INT n raises no single-step trap (SDM 2A, INT n). */
static void
software_interrupt(struct exec *x, unsigned vector)
{
	x->delivering = (struct cpu_event){
		.type = CPU_EVENT_SOFT, .vector = (uint8_t)vector,
		.length = x->in.len, .int_n = true
	};
	x->delivering_insn = x->delivering_int_n = true;
	deliver(x);
	x->no_trap = true;
}

void
op_int_n(struct exec *x)
{
	software_interrupt(x, (unsigned)x->in.imm);
}

void
op_int3(struct exec *x)
{
	software_interrupt(x, EXC_BP);
}

void
op_into(struct exec *x)
{
	if (x->cpu->rflags & FLAG_OF)
		software_interrupt(x, EXC_OF);
}

/* INT1: a #DB trap that checks no DPL and leaves DR6 alone (SDM 2A, INT n). */
void
op_icebp(struct exec *x)
{
	x->delivering = (struct cpu_event){
		.type = CPU_EVENT_SOFT, .vector = EXC_DB, .length = x->in.len
	};
	x->delivering_insn = true;
	deliver(x);
	x->no_trap = true;
}

/* RFLAGS from a frame: what the old CPL lets it change (SDM 2A, IRET). */
static void
return_flags(struct exec *x, uint64_t value, unsigned size)
{
	struct cpu *cpu = x->cpu;
	uint64_t may = FLAG_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID;
	unsigned cpl = protected_mode(cpu) ? cpu_cpl(cpu) : 0;

	if (cpl == 0)
		may |= FLAG_IOPL;
	if (cpl <= (cpu->rflags & FLAG_IOPL) >> 12)
		may |= FLAG_IF;
	set_flags(cpu, may & mask_of(size), value);
	x->keep_rf = size > 2;
}

static void
iret_real(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize;
	uint64_t off = stack_peek(x, 0, size);
	uint16_t sel = (uint16_t)stack_peek(x, size, size);
	uint64_t flags = stack_peek(x, 2 * size, size);

	set_real_segment(&cpu->seg[CPU_CS], sel);
	set_rip(x, off, size);
	stack_release(x, 3 * size);
	return_flags(x, flags, size);
}

/*
 * The stack of a return that leaves CPL or comes from 64-bit code.  SS may be
 * null for a return to 64-bit mode below CPL 3.
 */
static void
return_stack(struct exec *x, uint16_t sel, unsigned cpl, bool to64)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;

	if ((sel & 0xFFFC) == 0) {
		if (!to64 || cpl == 3)
			gp0(x);
		cpu->seg[CPU_SS] = (struct cpu_seg){ .selector = sel, .dpl = (uint8_t)cpl };
		return;
	}
	read_descriptor(x, sel, EXC_GP, &d);
	if ((sel & 3u) != cpl || !d.seg.s || (d.seg.type & 0xA) != 2 || d.seg.dpl != cpl)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_SS, sel & 0xFFFC);
	mark_accessed(x, &d);
	cpu->seg[CPU_SS] = d.seg;
}

/* Data segments that the outer level may not use become null (SDM 2A, RET). */
static void
drop_segments(struct cpu *cpu, unsigned cpl)
{
	static const uint8_t segs[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	unsigned i;

	for (i = 0; i < sizeof(segs); i++) {
		struct cpu_seg *s = &cpu->seg[segs[i]];

		if ((s->type & 0xC) != 0xC && s->dpl < cpl) {
			s->selector = 0;
			s->p = false;
		}
	}
}

static void
iret_protected(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize, cpl, old = cpu_cpl(cpu);
	bool from64 = mode64(cpu);
	uint64_t off = stack_peek(x, 0, size);
	uint16_t sel = (uint16_t)stack_peek(x, size, size), ss = 0;
	uint64_t flags = stack_peek(x, 2 * size, size), rsp = 0;
	struct descriptor d;

	if (!long_mode(cpu) && (flags & FLAG_VM) && size == 4 && old == 0)
		unimplemented(x);	/* to virtual-8086 mode */
	cpl = sel & 3;
	if (cpl < old)
		fault(x, EXC_GP, sel & 0xFFFC);
	code_descriptor(x, sel, true, &d);
	if (from64 || cpl != old) {
		rsp = stack_peek(x, 3 * size, size);
		ss = (uint16_t)stack_peek(x, 4 * size, size);
		return_stack(x, ss, cpl, long_mode(cpu) && d.seg.l);
	} else {
		stack_release(x, 3 * size);
	}
	mark_accessed(x, &d);
	/* Privileges for the flags are those before the return. */
	{
		uint8_t new_dpl = cpu->seg[CPU_SS].dpl;

		cpu->seg[CPU_SS].dpl = (uint8_t)old;
		return_flags(x, flags, size);
		cpu->seg[CPU_SS].dpl = new_dpl;
	}
	cpu->seg[CPU_CS] = d.seg;
	if (from64 || cpl != old)
		set_gpr(cpu, CPU_RSP, mode64(cpu) ? 8 : cpu->seg[CPU_SS].db ? 4 : 2, rsp);
	set_rip(x, off, size);
	if (cpl != old)
		drop_segments(cpu, cpl);
}

void
op_iret(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	if (cpu->intercepts & CPU_INTERCEPT_IRET)
		leave(x, CPU_EXIT_IRET);
	x->nmi_unblock = true;
	if (!protected_mode(cpu)) {
		iret_real(x);
		return;
	}
	if (cpu->rflags & FLAG_NT) {
		if (long_mode(cpu))
			gp0(x);
		task_switch(x);		/* back to the previous task */
	}
	iret_protected(x);
}
