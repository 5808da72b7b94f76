/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Segments: address checks, descriptors, and the instructions that load them
 * (SDM 3A, chapters 3 and 5).
 */
#include <string.h>

#include "internal.h"

#define DESC_ACCESSED	0x1u
#define DESC_RW		0x2u	/* code: readable; data: writable */
#define DESC_DOWN	0x4u	/* code: conforming; data: expand-down */
#define DESC_CODE	0x8u

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
	if (protected_mode(cpu) && !type_allows(s, how))
		segment_fault(x, seg);
	if (!within_limit(cpu, s, off, len))
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
	    ACCESS_READ, false, &s);
	return span_load(&s, 0, len);
}

void
mem_write(struct exec *x, unsigned seg, uint64_t off, unsigned len, uint64_t value)
{
	struct span s;

	span_of(x, linear_address(x, seg, off, len, ACCESS_WRITE), len,
	    ACCESS_WRITE, false, &s);
	span_store(&s, 0, len, value);
}

/* --- descriptors --- */

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
	write_system(x, d->at + 5, 1, (d->raw >> 40 & 0xFF) | DESC_ACCESSED);
}

/* Real mode changes selector and base only; the rest stays (SDM 3A 20.1.1). */
void
set_real_segment(struct cpu_seg *s, uint16_t sel)
{
	s->selector = sel;
	s->base = (uint64_t)sel << 4;
}

static void
load_null(struct exec *x, unsigned seg, uint16_t sel)
{
	struct cpu_seg *s = &x->cpu->seg[seg];
	uint64_t base = s->base;

	if (seg == CPU_SS) {
		/* Only 64-bit code below CPL 3 runs without a stack segment. */
		if (!mode64(x->cpu) || cpu_cpl(x->cpu) == 3 ||
		    (sel & 3) != cpu_cpl(x->cpu))
			gp0(x);
	}
	memset(s, 0, sizeof(*s));
	s->selector = sel;
	s->base = base;
	if (seg == CPU_SS)
		s->dpl = sel & 3;
	if (seg < CPU_FS)
		s->base = 0;
}

/* MOV, POP and LxS to a segment register other than CS (SDM 2B, MOV). */
void
load_data_segment(struct exec *x, unsigned seg, uint16_t sel)
{
	struct cpu *cpu = x->cpu;
	struct descriptor d;
	unsigned rpl = sel & 3, cpl = cpu_cpl(cpu);

	if (!protected_mode(cpu)) {
		set_real_segment(&cpu->seg[seg], sel);
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

/*
 * The descriptor for a JMP, CALL, RET or IRET that keeps CPL (SDM 3A 5.8.1).
 * For returns RPL must be CPL; gates and tasks are still to be done.
 */
void
code_descriptor(struct exec *x, uint16_t sel, bool rpl_is_cpl, struct descriptor *d)
{
	const struct cpu *cpu = x->cpu;
	unsigned rpl = sel & 3, cpl = cpu_cpl(cpu);

	if ((sel & 0xFFFC) == 0)
		gp0(x);
	read_descriptor(x, sel, EXC_GP, d);
	if (!d->seg.s) {
		/* A TSS or task gate, which 64-bit mode has not. */
		if (!rpl_is_cpl && !long_mode(cpu) &&
		    ((d->seg.type & 7) == 1 || d->seg.type == 5) && d->seg.p)
			task_switch(x);
		if (!rpl_is_cpl)
			unimplemented(x);	/* call gate */
		fault(x, EXC_GP, sel & 0xFFFC);
	}
	if (!(d->seg.type & DESC_CODE))
		fault(x, EXC_GP, sel & 0xFFFC);
	if (d->seg.type & DESC_DOWN) {
		if (d->seg.dpl > (rpl_is_cpl ? rpl : cpl))
			fault(x, EXC_GP, sel & 0xFFFC);
	} else if (rpl_is_cpl ? d->seg.dpl != rpl : (rpl > cpl || d->seg.dpl != cpl)) {
		fault(x, EXC_GP, sel & 0xFFFC);
	}
	if (long_mode(cpu) && d->seg.l && d->seg.db)
		fault(x, EXC_GP, sel & 0xFFFC);
	if (!d->seg.p)
		fault(x, EXC_NP, sel & 0xFFFC);
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
		x->shadow = x->no_trap = true;
}

/* LDS, LES, LSS, LFS, LGS. */
void
op_load_far_pointer(struct exec *x)
{
	unsigned size = x->in.osize, seg;
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
	span_of(x, linear, size + 2, ACCESS_READ, false, &s);
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

	span_of(x, linear, size + 2, ACCESS_READ, false, &s);
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

	span_of(x, linear, size + 2, ACCESS_WRITE, false, &s);
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
		put(x, 0, d.raw >> 32 & 0x00F0FF00);
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
	uint64_t dest = get_rmw(x, 0), rpl = get(x, 1) & 3;
	bool raise = (dest & 3) < rpl;

	put(x, 0, raise ? (dest & ~UINT64_C(3)) | rpl : dest);
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
	d.seg.type |= 2;	/* busy */
	write_system(x, d.at + 5, 1, (d.raw >> 40 & 0xFF) | 2);
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
