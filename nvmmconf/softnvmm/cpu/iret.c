/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * IRET, to the same level, an outer one, virtual-8086 mode or another task
 * (SDM 2A, IRET).
 */
#include "internal.h"

/* RFLAGS from a frame: what the old CPL lets it change. */
static void
return_flags(struct exec *x, uint64_t value, unsigned size, unsigned cpl)
{
	struct cpu *cpu = x->cpu;
	uint64_t may = FLAG_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID;

	if (cpl == 0)
		may |= FLAG_IOPL;
	if (cpl == 0 && protected_mode(cpu))
		may |= FLAG_VIF | FLAG_VIP;
	if (cpl <= (cpu->rflags & FLAG_IOPL) >> 12)
		may |= FLAG_IF;
	set_flags(cpu, may & mask_of(size), value);
	x->keep_rf = size > 2;
}

/* Real mode, and virtual-8086 mode if IOPL allows it. */
static void
iret_real(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.osize;
	uint64_t off = stack_peek(x, 0, size);
	uint16_t sel = (uint16_t)stack_peek(x, size, size);
	uint64_t flags = stack_peek(x, 2 * size, size);

	set_real_segment(cpu, CPU_CS, sel);
	set_rip(x, off, size);
	stack_release(x, 3 * size);
	return_flags(x, flags, size, v86_mode(cpu) ? 3 : 0);
}

/* A frame of nine: IP, CS, flags, SP, SS, ES, DS, FS, GS. */
static void
iret_to_v86(struct exec *x, uint64_t flags)
{
	static const uint8_t order[] = { CPU_SS, CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	struct cpu *cpu = x->cpu;
	uint64_t off = stack_peek(x, 0, 4), sp = stack_peek(x, 12, 4);
	uint16_t cs = (uint16_t)stack_peek(x, 4, 4), sel[sizeof(order)];
	unsigned i;

	for (i = 0; i < sizeof(order); i++)
		sel[i] = (uint16_t)stack_peek(x, 16 + 4 * i, 4);
	if (off > 0xFFFF)
		gp0(x);
	/* From here on the segments are those of virtual-8086 mode. */
	cpu->rflags = (flags & FLAG_EXIST) | FLAG_ONE;
	x->keep_rf = true;
	set_real_segment(cpu, CPU_CS, cs);
	for (i = 0; i < sizeof(order); i++)
		set_real_segment(cpu, order[i], sel[i]);
	cpu->rip = off;
	cpu->gpr[CPU_RSP] = sp;
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

	if (!long_mode(cpu) && (flags & FLAG_VM) && size == 4 && old == 0) {
		iret_to_v86(x, flags);
		return;
	}
	cpl = sel & 3;
	return_code(x, sel, &d);
	if (from64 || cpl != old) {
		rsp = stack_peek(x, 3 * size, size);
		ss = (uint16_t)stack_peek(x, 4 * size, size);
		return_stack(x, ss, cpl, long_mode(cpu) && d.seg.l);
	} else {
		stack_release(x, 3 * size);
	}
	mark_accessed(x, &d);
	return_flags(x, flags, size, old);
	cpu->seg[CPU_CS] = d.seg;
	if (from64 || cpl != old)
		set_gpr(cpu, CPU_RSP, stack_size(cpu), rsp);
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
	x->nmi_unblock = true;	/* whatever faults below, IOPL too (SDM 3A 6.7.1) */
	check_v86_iopl(x);
	if (real_segments(cpu)) {
		iret_real(x);
		return;
	}
	if (cpu->rflags & FLAG_NT) {
		if (long_mode(cpu))
			gp0(x);
		task_return(x);
		return;
	}
	iret_protected(x);
}
