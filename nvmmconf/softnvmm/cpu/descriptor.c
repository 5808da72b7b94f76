/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors: finding them, and the instructions that ask about them or load
 * the two registers that name system segments (SDM 3A, 3.4.5, 3.5 and 5.10).
 */
#include "internal.h"

/* SDM 3A figure 3-8. */
static void
unpack_descriptor(uint16_t sel, uint64_t raw, struct cpu_seg *s)
{
	s->selector = sel;
	s->type = raw >> 40 & 0xF;
	s->s = raw >> 44 & 1;
	s->dpl = raw >> 45 & 3;
	s->p = raw >> 47 & 1;
	s->avl = raw >> 52 & 1;
	s->l = raw >> 53 & 1;
	s->db = raw >> 54 & 1;
	s->g = raw >> 55 & 1;
	s->limit = (uint32_t)((raw & 0xFFFF) | (raw >> 32 & 0xF0000));
	if (s->g)
		s->limit = s->limit << 12 | 0xFFF;
	s->base = (raw >> 16 & 0xFFFFFF) | (raw >> 32 & 0xFF000000);
}

void
read_descriptor(struct exec *x, uint16_t sel, enum exception exc, struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;
	const struct cpu_seg *table = sel & 4 ? &cpu->ldtr : &cpu->gdtr;

	if ((sel & 4) && (!table->p || (table->selector & 0xFFFC) == 0))
		fault(x, exc, sel & 0xFFFC);
	if ((sel | 7u) > table->limit)
		fault(x, exc, sel & 0xFFFC);
	d->at = table->base + (sel & 0xFFF8u);
	d->raw = read_system(x, d->at, 8);
	unpack_descriptor(sel, d->raw, &d->seg);
}

/* SDM 3A 3.4.5.1: the accessed bit, in the table and in the register. */
void
mark_accessed(struct exec *x, struct descriptor *d)
{
	if (d->seg.type & DESC_ACCESSED)
		return;
	d->seg.type |= DESC_ACCESSED;
	update_system(x, d->at + 5, 0, DESC_ACCESSED);
}

/* In long mode the descriptors of LDT and TSS have 16 bytes. */
static void
read_system_descriptor(struct exec *x, uint16_t sel, struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;

	if (sel & 4)
		fault(x, EXC_GP, sel & 0xFFFC);
	read_descriptor(x, sel, EXC_GP, d);
	if (long_mode(cpu)) {
		uint64_t high;

		if ((sel & 0xFFF8u) + 15 > cpu->gdtr.limit)
			fault(x, EXC_GP, sel & 0xFFFC);
		high = read_system(x, d->at + 8, 8);
		d->seg.base |= high << 32;
		if (!canonical(d->seg.base) || (high >> 40 & 0x1F) != 0)
			fault(x, EXC_GP, sel & 0xFFFC);
	}
}

/* --- asking about selectors: LAR, LSL, VERR, VERW, ARPL --- */

/* A descriptor that may be looked at from here; false instead of any fault. */
static bool
visible(struct exec *x, uint16_t sel, struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;
	const struct cpu_seg *table = sel & 4 ? &cpu->ldtr : &cpu->gdtr;
	unsigned rpl = sel & 3, cpl = cpu_cpl(cpu);

	if ((sel & 0xFFFC) == 0 || (sel | 7u) > table->limit)
		return false;
	if ((sel & 4) && (!table->p || (table->selector & 0xFFFC) == 0))
		return false;
	read_descriptor(x, sel, EXC_GP, d);
	if (d->seg.s && (d->seg.type & (DESC_CODE | DESC_DOWN)) == (DESC_CODE | DESC_DOWN))
		return true;	/* conforming code */
	return d->seg.dpl >= rpl && d->seg.dpl >= cpl;
}

/* Bit n: system type n has rights, a limit (SDM 2A, LAR and LSL, tables). */
static bool
system_type(struct exec *x, const struct cpu_seg *s, unsigned legacy, unsigned in_long)
{
	return s->s || ((long_mode(x->cpu) ? in_long : legacy) >> s->type & 1);
}

static void
answer(struct exec *x, bool yes)
{
	set_flags(x->cpu, FLAG_ZF, yes ? FLAG_ZF : 0);
}

void
op_lar(struct exec *x)
{
	struct descriptor d;
	bool yes = visible(x, (uint16_t)get(x, 1), &d) &&
	    system_type(x, &d.seg, 0x1A3E, 0x1A04);

	if (yes)
		put(x, 0, d.raw >> 32 & 0x00FFFF00);	/* with the limit's bits */
	answer(x, yes);
}

void
op_lsl(struct exec *x)
{
	struct descriptor d;
	bool yes = visible(x, (uint16_t)get(x, 1), &d) &&
	    system_type(x, &d.seg, 0x0A0E, 0x0A04);

	if (yes)
		put(x, 0, d.seg.limit);
	answer(x, yes);
}

void
op_verr(struct exec *x)
{
	struct descriptor d;

	answer(x, visible(x, (uint16_t)get(x, 0), &d) && d.seg.s &&
	    (!(d.seg.type & DESC_CODE) || (d.seg.type & DESC_RW)));
}

void
op_verw(struct exec *x)
{
	struct descriptor d;

	answer(x, visible(x, (uint16_t)get(x, 0), &d) && d.seg.s &&
	    (d.seg.type & (DESC_CODE | DESC_RW)) == DESC_RW);
}

/* The destination's RPL is raised to the source's. */
void
op_arpl(struct exec *x)
{
	uint64_t dest = get(x, 0), rpl = get(x, 1) & 3;
	bool raise = (dest & 3) < rpl;

	if (raise)	/* memory is written only then */
		put(x, 0, (dest & ~UINT64_C(3)) | rpl);
	answer(x, raise);
}

/* --- LDT and task register --- */

void
op_lldt(struct exec *x)
{
	uint16_t sel = (uint16_t)get(x, 0);
	struct descriptor d;

	if ((sel & 0xFFFC) == 0) {
		x->cpu->ldtr.selector = sel;
		x->cpu->ldtr.p = false;
		return;
	}
	read_system_descriptor(x, sel, &d);
	if (d.seg.s || d.seg.type != 2)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	x->cpu->ldtr = d.seg;
}

void
op_ltr(struct exec *x)
{
	uint16_t sel = (uint16_t)get(x, 0);
	struct descriptor d;

	if ((sel & 0xFFFC) == 0)
		gp0(x);
	read_system_descriptor(x, sel, &d);
	/* Available TSS: 9, or 1 for a 16-bit one outside long mode. */
	if (d.seg.s || !(d.seg.type == 9 || (d.seg.type == 1 && !long_mode(x->cpu))))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d.seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
	d.seg.type |= TSS_BUSY;
	update_system(x, d.at + 5, 0, TSS_BUSY);
	x->cpu->tr = d.seg;
}

void
op_sldt(struct exec *x)
{
	put(x, 0, x->cpu->ldtr.selector);
}

void
op_str(struct exec *x)
{
	put(x, 0, x->cpu->tr.selector);
}
