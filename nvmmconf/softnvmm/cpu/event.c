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
	set_real_segment(cpu, CPU_CS, (uint16_t)(entry >> 16));
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

/* SDM 3A 6.14: SS:RSP always pushed, RSP aligned, IST or RSPn. */
static void
deliver_long(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t flags = saved_flags(x);
	struct gate g;
	struct descriptor d;
	struct stack st;
	unsigned cpl;

	read_gate(x, &g);
	cpl = handler_segment(x, &g, &d);
	current_stack(cpu, &st);
	st.width = 8;
	if (g.ist != 0 || cpl != cpu_cpl(cpu))
		stack_of_level64(x, cpl, g.ist, &st);
	if (!canonical(g.off))
		gp0(x);
	st.sp &= ~UINT64_C(0xF);
	stack_push(x, &st, 8, cpu->seg[CPU_SS].selector);
	stack_push(x, &st, 8, cpu->gpr[CPU_RSP]);
	stack_push(x, &st, 8, flags);
	stack_push(x, &st, 8, cpu->seg[CPU_CS].selector);
	stack_push(x, &st, 8, cpu->rip);
	if (x->delivering.has_error)
		stack_push(x, &st, 8, x->delivering.error);
	use_stack(cpu, &st);
	enter_handler(x, &d, &g, cpl);
}

/* From virtual-8086 mode all segments are saved, and gone in the handler. */
static void
push_v86_segments(struct exec *x, struct stack *st, unsigned size)
{
	static const uint8_t order[] = { CPU_GS, CPU_FS, CPU_DS, CPU_ES };
	unsigned i;

	for (i = 0; i < sizeof(order); i++)
		stack_push(x, st, size, x->cpu->seg[order[i]].selector);
}

static void
null_data_segments(struct cpu *cpu)
{
	cpu->seg[CPU_ES] = cpu->seg[CPU_DS] = (struct cpu_seg){ .selector = 0 };
	cpu->seg[CPU_FS] = cpu->seg[CPU_GS] = (struct cpu_seg){ .selector = 0 };
}

/* Legacy protected mode: a task, or a handler at this level or an inner one. */
static void
deliver_protected(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	bool v86 = v86_mode(cpu);
	uint64_t flags = saved_flags(x);
	unsigned size, cpl;
	struct gate g;
	struct descriptor d;
	struct stack st;

	read_gate(x, &g);
	if (g.type == GATE_TASK) {
		task_event(x, g.sel, flags);
		return;
	}
	cpl = handler_segment(x, &g, &d);
	if (v86 && cpl != 0)	/* SDM 3A 21.3: to level 0 only */
		fault(x, EXC_GP, g.sel & 0xFFFC);
	size = g.type & 8 ? 4 : 2;
	current_stack(cpu, &st);
	if (cpl != cpu_cpl(cpu)) {
		stack_of_level(x, cpl, &st);
		if (v86)
			push_v86_segments(x, &st, size);
		stack_push(x, &st, size, cpu->seg[CPU_SS].selector);
		stack_push(x, &st, size, cpu->gpr[CPU_RSP]);
	}
	stack_push(x, &st, size, flags);
	stack_push(x, &st, size, cpu->seg[CPU_CS].selector);
	stack_push(x, &st, size, cpu->rip);
	if (x->delivering.has_error)
		stack_push(x, &st, size, x->delivering.error);
	g.off &= mask_of(size);
	if (g.off > d.seg.limit)
		gp0(x);
	if (v86)
		null_data_segments(cpu);
	use_stack(cpu, &st);
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
	x->switching.active = false;
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
	x->trap_by = TRAP_BY_NOTHING;
}

/* Virtual-8086 mode: PUSHF, POPF, INT n and IRET need IOPL 3 (SDM 3A 21.2.7). */
void
check_v86_iopl(struct exec *x)
{
	if (v86_mode(x->cpu) && (x->cpu->rflags & FLAG_IOPL) != FLAG_IOPL)
		gp0(x);
}

void
op_int_n(struct exec *x)
{
	check_v86_iopl(x);
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
	x->trap_by = TRAP_BY_NOTHING;
}
