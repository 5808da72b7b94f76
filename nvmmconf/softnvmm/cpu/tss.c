/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stacks: the one in use, and those that a task-state segment gives to inner
 * levels (SDM 3A, 6.8.5, 7.14.4 and 8.2).
 *
 * Frames and parameters are written through a struct stack; the registers
 * change only when nothing can fault any more.
 */
#include "internal.h"

/* The stack that is in use now. */
void
current_stack(const struct cpu *cpu, struct stack *st)
{
	unsigned width = stack_size(cpu);

	*st = (struct stack){
		.ss = cpu->seg[CPU_SS], .sp = cpu->gpr[CPU_RSP] & mask_of(width == 8 ? 8 : 4),
		.width = width, .rank = RANK_CPL, .error = 0
	};
}

/*
 * A stack for `cpl` from a 16- or 32-bit TSS.  Whatever is wrong with it is
 * #TS with its selector, but #SS if it is not present (SDM 2A, CALL, and 3A
 * 6.15, interrupt 10).
 */
void
stack_of_level(struct exec *x, unsigned cpl, struct stack *st)
{
	const struct cpu_seg *tr = &x->cpu->tr;
	unsigned word = tr->type & TSS_32 ? 4 : 2;
	unsigned at = word + cpl * 2 * word;
	struct descriptor d;
	uint16_t sel;

	if (at + word + 1 > tr->limit)
		fault(x, EXC_TS, tr->selector & 0xFFFC);
	st->sp = read_system(x, tr->base + at, word);
	sel = (uint16_t)read_system(x, tr->base + at + word, 2);
	if ((sel & 0xFFFC) == 0)
		fault(x, EXC_TS, 0);
	read_descriptor(x, sel, EXC_TS, &d);
	if ((sel & 3u) != cpl || d.seg.dpl != cpl || !d.seg.s ||
	    (d.seg.type & (DESC_CODE | DESC_RW)) != DESC_RW)
		fault(x, EXC_TS, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_SS, sel & 0xFFFC);
	mark_accessed(x, &d);
	st->ss = d.seg;
	st->width = d.seg.db ? 4 : 2;
	st->rank = cpl == 3 ? RANK_CPL : RANK_SUPERVISOR;
	st->error = sel & 0xFFFC;
}

/*
 * A stack for `cpl` in long mode: RSPn, or an IST entry (SDM 3A figure 8-11).
 * SS becomes a null selector with the new level as its RPL, for an IST stack
 * whether the level changes or not (SDM 3A 7.14.5).
 */
void
stack_of_level64(struct exec *x, unsigned cpl, unsigned ist, struct stack *st)
{
	const struct cpu_seg *tr = &x->cpu->tr;
	unsigned at = ist != 0 ? 28 + 8 * ist : 4 + 8 * cpl;

	if (at + 7 > tr->limit)
		fault(x, EXC_TS, tr->selector & 0xFFFC);
	st->sp = read_system(x, tr->base + at, 8);
	if (!canonical(st->sp))
		fault(x, EXC_SS, 0);
	st->ss = (struct cpu_seg){ .selector = (uint16_t)cpl, .dpl = (uint8_t)cpl };
	st->width = 8;
	st->rank = cpl == 3 ? RANK_CPL : RANK_SUPERVISOR;
	st->error = 0;
}

/* Below the top of a stack; its pointer moves. */
void
stack_push(struct exec *x, struct stack *st, unsigned size, uint64_t value)
{
	uint64_t mask = mask_of(st->width), sp = (st->sp - size) & mask, linear = sp;
	struct span s;

	if (st->width == 8) {
		if (!canonical(sp) || !canonical(sp + size - 1))
			fault(x, EXC_SS, st->error);
	} else {
		if (!segment_allows(x->cpu, &st->ss, sp, size, ACCESS_WRITE))
			fault(x, EXC_SS, st->error);
		linear = (uint32_t)(st->ss.base + sp);
	}
	span_of(x, linear, size, ACCESS_WRITE, st->rank, &s);
	span_store(&s, 0, size, value);
	st->sp = (st->sp & ~mask) | sp;
}

/* Makes it the stack in use, and so sets CPL. */
void
use_stack(struct cpu *cpu, const struct stack *st)
{
	cpu->seg[CPU_SS] = st->ss;
	cpu->gpr[CPU_RSP] = st->sp;
}
