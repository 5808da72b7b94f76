/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Segments: address checks, descriptors, and the instructions that load them
 * (SDM 3A, chapters 3 and 5).
 */
#include <string.h>

#include "internal.h"

/* --- addresses --- */

_Noreturn static void
segment_fault(struct exec *x, unsigned seg)
{
	fault(x, seg == CPU_SS ? EXC_SS : EXC_GP, 0);
}

static bool
type_allows(const struct cpu_seg *s, enum access how)
{
	if (!s->p)
		return false;
	if (s->type & DESC_CODE)
		return how == ACCESS_READ && (s->type & DESC_RW);
	return how != ACCESS_WRITE || (s->type & DESC_RW);
}

static bool
within_limit(const struct cpu *cpu, const struct cpu_seg *s, uint64_t off, unsigned len)
{
	uint64_t last = off + len - 1;

	if (protected_mode(cpu) && (s->type & (DESC_CODE | DESC_DOWN)) == DESC_DOWN)
		return off > s->limit && last <= (s->db ? 0xFFFFFFFFu : 0xFFFFu);
	return last <= s->limit;
}

/* Type and limit, outside 64-bit mode. */
bool
segment_allows(const struct cpu *cpu, const struct cpu_seg *s, uint64_t off,
    unsigned len, enum access how)
{
	return (!protected_mode(cpu) || type_allows(s, how)) &&
	    within_limit(cpu, s, off, len);
}

static uint64_t
checked_linear(struct exec *x, unsigned seg, uint64_t off, unsigned len, enum access how)
{
	const struct cpu *cpu = x->cpu;
	const struct cpu_seg *s = &cpu->seg[seg];

	if (mode64(cpu)) {
		uint64_t linear = off;

		if (seg == CPU_FS || seg == CPU_GS)
			linear += s->base;
		if (!canonical(linear) || !canonical(linear + len - 1))
			segment_fault(x, seg);
		return linear;
	}
	if (!segment_allows(cpu, s, off, len, how))
		segment_fault(x, seg);
	return (uint32_t)(s->base + off);
}

/*
 * #AC is for CPL 3 that asked for it (SDM 3A 6.15, interrupt 17).  Not for the
 * frame of an event: an #AC that raises #AC would never end.
 */
static void
check_alignment(struct exec *x, uint64_t linear, unsigned len)
{
	const struct cpu *cpu = x->cpu;

	if (!(cpu->cr0 & CR0_AM) || !(cpu->rflags & FLAG_AC) ||
	    !protected_mode(cpu) || cpu_cpl(cpu) != 3 ||
	    x->delivering.type != CPU_EVENT_NONE)
		return;
	if ((len == 2 || len == 4 || len == 8) && (linear & (len - 1)) != 0)
		fault(x, EXC_AC, 0);
}

/* Logical to linear, with every check that the mode makes (SDM 3A 5.3, 5.5). */
uint64_t
linear_address(struct exec *x, unsigned seg, uint64_t off, unsigned len, enum access how)
{
	uint64_t linear = checked_linear(x, seg, off, len, how);

	check_alignment(x, linear, len);
	debug_data(x, linear, len, how == ACCESS_WRITE);
	return linear;
}

uint64_t
mem_read(struct exec *x, unsigned seg, uint64_t off, unsigned len)
{
	struct span s;

	span_of(x, linear_address(x, seg, off, len, ACCESS_READ), len,
	    ACCESS_READ, RANK_CPL, &s);
	return span_load(&s, 0, len);
}

void
mem_write(struct exec *x, unsigned seg, uint64_t off, unsigned len, uint64_t value)
{
	struct span s;

	span_of(x, linear_address(x, seg, off, len, ACCESS_WRITE), len,
	    ACCESS_WRITE, RANK_CPL, &s);
	span_store(&s, 0, len, value);
}

/* --- loading --- */

/*
 * Real mode changes selector and base only; the rest stays (SDM 3A 21.1.1).  In
 * virtual-8086 mode every segment is the same but for its place (21.2.1).
 */
void
set_real_segment(struct cpu *cpu, unsigned seg, uint16_t sel)
{
	struct cpu_seg *s = &cpu->seg[seg];

	if (v86_mode(cpu))
		*s = (struct cpu_seg){
			.type = DESC_RW | DESC_ACCESSED, .dpl = 3,
			.s = true, .p = true, .limit = 0xFFFF
		};
	s->selector = sel;
	s->base = (uint64_t)sel << 4;
}

static void
load_null(struct exec *x, unsigned seg, uint16_t sel)
{
	struct cpu_seg *s = &x->cpu->seg[seg];

	if (seg == CPU_SS) {
		/* Only 64-bit code below CPL 3 runs without a stack segment. */
		if (!mode64(x->cpu) || cpu_cpl(x->cpu) == 3 ||
		    (sel & 3) != cpu_cpl(x->cpu))
			gp0(x);
	}
	memset(s, 0, sizeof(*s));
	s->selector = sel;
	if (seg == CPU_SS)
		s->dpl = sel & 3;
}

/* MOV, POP and LxS to a segment register other than CS (SDM 2B, MOV). */
void
load_data_segment(struct exec *x, unsigned seg, uint16_t sel)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;
	unsigned rpl = sel & 3, cpl = cpu_cpl(cpu);

	if (real_segments(cpu)) {
		set_real_segment(cpu, seg, sel);
		return;
	}
	if ((sel & 0xFFFC) == 0) {
		load_null(x, seg, sel);
		return;
	}
	read_descriptor(x, sel, EXC_GP, &d);
	if (!d.seg.s)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (seg == CPU_SS) {
		if (rpl != cpl || d.seg.dpl != cpl ||
		    (d.seg.type & (DESC_CODE | DESC_RW)) != DESC_RW)
			fault(x, EXC_GP, sel & 0xFFFC);
		if (!d.seg.p)
			fault(x, EXC_SS, sel & 0xFFFC);
	} else {
		if ((d.seg.type & (DESC_CODE | DESC_RW)) == DESC_CODE)
			fault(x, EXC_GP, sel & 0xFFFC);
		if ((d.seg.type & (DESC_CODE | DESC_DOWN)) != (DESC_CODE | DESC_DOWN) &&
		    (rpl > d.seg.dpl || cpl > d.seg.dpl))
			fault(x, EXC_GP, sel & 0xFFFC);
		if (!d.seg.p)
			fault(x, EXC_NP, sel & 0xFFFC);
	}
	mark_accessed(x, &d);
	cpu->seg[seg] = d.seg;
}

/* --- instructions --- */

/* MOV r/m, Sreg.  To memory 16 bits whatever the operand size. */
void
op_mov_from_sreg(struct exec *x)
{
	unsigned seg = x->in.operand[1].reg;

	if (seg >= CPU_NSEG)
		ud(x);
	put(x, 0, x->cpu->seg[seg].selector);
}

/* MOV Sreg, r/m.  MOV SS holds interrupts and traps for one instruction. */
void
op_mov_to_sreg(struct exec *x)
{
	unsigned seg = x->in.operand[0].reg;

	if (seg == CPU_CS || seg >= CPU_NSEG)
		ud(x);
	load_data_segment(x, seg, (uint16_t)get(x, 1));
	if (seg == CPU_SS)
		x->shadow = x->hold_traps = true;
}

/* LDS, LES, LSS, LFS, LGS. */
void
op_load_far_pointer(struct exec *x)
{
	unsigned size = far_offset_size(x), seg;
	uint64_t off, linear;
	struct span s;

	switch (x->in.opcode) {
	case 0xC4: seg = CPU_ES; break;
	case 0xC5: seg = CPU_DS; break;
	case 0xB2: seg = CPU_SS; break;
	case 0xB4: seg = CPU_FS; break;
	default: seg = CPU_GS; break;
	}
	linear = linear_address(x, x->in.seg, x->in.ea, size + 2, ACCESS_READ);
	span_of(x, linear, size + 2, ACCESS_READ, RANK_CPL, &s);
	off = span_load(&s, 0, size);
	load_data_segment(x, seg, (uint16_t)span_load(&s, size, 2));
	put(x, 0, off);
}

/* LGDT, LIDT: limit, then base; 24 bits of base for a 16-bit operand. */
static void
load_table(struct exec *x, struct cpu_seg *table)
{
	unsigned size = mode64(x->cpu) ? 8 : 4;
	uint64_t linear = linear_address(x, x->in.seg, x->in.ea, size + 2, ACCESS_READ);
	uint64_t base;
	struct span s;

	span_of(x, linear, size + 2, ACCESS_READ, RANK_CPL, &s);
	base = span_load(&s, 2, size);
	if (size == 8 && !canonical(base))
		gp0(x);
	if (size == 4 && x->in.osize == 2)
		base &= 0xFFFFFF;
	table->limit = (uint32_t)span_load(&s, 0, 2);
	table->base = base;
}

void
op_lgdt(struct exec *x)
{
	load_table(x, &x->cpu->gdtr);
}

void
op_lidt(struct exec *x)
{
	load_table(x, &x->cpu->idtr);
}

static void
store_table(struct exec *x, const struct cpu_seg *table)
{
	unsigned size = mode64(x->cpu) ? 8 : 4;
	uint64_t linear = linear_address(x, x->in.seg, x->in.ea, size + 2, ACCESS_WRITE);
	struct span s;

	span_of(x, linear, size + 2, ACCESS_WRITE, RANK_CPL, &s);
	span_store(&s, 0, 2, table->limit);
	span_store(&s, 2, size, table->base);
}

void
op_sgdt(struct exec *x)
{
	store_table(x, &x->cpu->gdtr);
}

void
op_sidt(struct exec *x)
{
	store_table(x, &x->cpu->idtr);
}
