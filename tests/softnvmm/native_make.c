/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * One instance of a form: prefixes, operands, registers, flags and memory by
 * chance, but so that most of them do something.
 */
#include <string.h>

#include "native_make.h"

/* --- emitting --- */

static void
emit(struct instance *t, uint8_t b)
{
	if (t->len < sizeof(t->code))
		t->code[t->len++] = b;
}

static void
emit_value(struct instance *t, uint64_t v, unsigned n)
{
	for (; n-- > 0; v >>= 8)
		emit(t, (uint8_t)v);
}

static unsigned
imm_size(const struct instance *t, unsigned encoding)
{
	switch (encoding) {
	case Ib: case sIb: case Ib2: case Jb: return 1;
	case Iw: return 2;
	case Iz: case Jz: return t->osize == 2 ? 2 : 4;
	case Iv: return t->osize;
	case Ap: return t->osize + 2;
	case Ob: case Ov: return t->asize;
	default: return 0;
	}
}

static unsigned
imm_bytes(const struct instance *t)
{
	unsigned i, n = 0;

	for (i = 0; i < 3; i++)
		n += imm_size(t, t->form->operand[i]);
	return n;
}

/* ModRM, SIB and displacement of an operand at t->target; sets registers. */
static void
emit_memory(struct instance *t, unsigned rexb, unsigned rexx, unsigned spare, uint64_t segment)
{
	unsigned style = below(5), base, index = 4, scale = below(4);
	uint64_t want = t->target - segment - data_base(t), disp, high;
	uint8_t reg = (uint8_t)((t->reg & 7) << 3);

	if (style == 4) {		/* RIP-relative, or absolute */
		emit(t, reg | 5);
		disp = t->mode == MODE_64 ? want - (CODE + AT + t->len + 4 + imm_bytes(t)) : want;
		emit_value(t, disp, 4);
		return;
	}
	if (style == 3) {		/* an absolute address, through SIB */
		emit(t, reg | 4);
		emit(t, 0x25);
		if (rexx)		/* then index 4 is R12 */
			t->gpr[12] = 0;
		emit_value(t, want, 4);
		return;
	}
	do
		base = below(8) | rexb << 3;
	while (base == spare);
	if ((base & 7) == 4 || once_in(2)) {
		do
			index = below(8) | rexx << 3;
		while (index == base || index == spare);
	}
	/*
	 * Where the stack is used as well RSP stays near: a wild one may meet
	 * what this process happens to have there.
	 */
	if (base == CPU_RSP && ((t->form->flags & OP_D64) || (t->form->trait->flags & FAR_TARGET))) {
		index = 4;
		style &= 1;
		if (rexx)		/* then index 4 is R12 */
			t->gpr[12] = 0;
	}
	/* style: mod.  [rBP] and [R13] need a displacement. */
	if (style == 0 && (base & 7) == 5)
		style = 1;
	disp = style == 1 ? (uint64_t)(int8_t)rnd() : style == 2 ? (uint64_t)(int32_t)rnd() : 0;
	emit(t, (uint8_t)(style << 6 | reg | (index != 4 || (base & 7) == 4 ? 4 : (base & 7))));
	if (index != 4 || (base & 7) == 4)
		emit(t, (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7)));
	emit_value(t, disp, style == 1 ? 1 : style == 2 ? 4 : 0);
	t->used = 1u << base | (index != 4 ? 1u << index : 0);
	high = t->asize == 4 ? rnd() << 32 : once_in(100) ? UINT64_C(1) << 60 : 0;
	want -= disp + (index != 4 ? t->gpr[index] << scale : 0);
	t->gpr[base] = t->asize == 4 ? (uint32_t)want + high : want ^ high;
}

/* SDM 2A, table 2-1. */
static void
emit_memory16(struct instance *t, unsigned spare)
{
	static const uint8_t base[8] = { 3, 3, 5, 5, 6, 7, 5, 3 };
	static const uint8_t index[8] = { 6, 7, 6, 7, 99, 99, 99, 99 };
	unsigned mod = below(3), rm;
	uint64_t want = t->target - data_base(t), disp = 0;

	do
		rm = below(8);
	while (base[rm] == spare || index[rm] == spare);
	if (mod == 1)
		disp = (uint64_t)(int8_t)rnd();
	else if (mod == 2)
		disp = rnd();
	else if (rm == 6)
		disp = want;
	emit(t, (uint8_t)(mod << 6 | (t->reg & 7) << 3 | rm));
	emit_value(t, disp, mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
	if (mod == 0 && rm == 6)
		return;
	want -= disp;
	if (index[rm] != 99) {
		want -= t->gpr[index[rm]];
		t->used |= 1u << index[rm];
	}
	t->used |= 1u << base[rm];
	t->gpr[base[rm]] = (want & 0xFFFF) | (rnd() & ~UINT64_C(0xFFFF));
}

static void
emit_immediate(struct instance *t, unsigned encoding)
{
	const struct form *f = t->form;
	unsigned n = imm_size(t, encoding);
	uint64_t v = value();

	switch (encoding) {
	case Jb: case Jz:
		v = (once_in(2) ? TAKEN_FWD : TAKEN_BACK) - (AT + t->len + n);
		break;
	case Ob: case Ov:
		v = t->target - data_base(t);
		break;
	case Ib2:
		v = once_in(2) ? below(6) : 0;
		break;
	case Iw:
		v = below(64);
		break;
	case Ib:
		if (f->trait->flags & DOUBLE_SHIFT)
			v = t->osize == 2 ? below(17) : rnd();
		if (f->trait->flags & SOFT_INT)
			while ((v & 0xFF) == 0x80 || (v & 0xFF) == 1)
				v = rnd();	/* Linux's own; ICEBP's vector */
		break;
	default:
		break;
	}
	if (encoding == Ap) {
		emit_value(t, code_offset(t), n - 2);
		emit_value(t, code_selector(t), 2);
		return;
	}
	emit_value(t, v, n);
}

/*
 * Where LOCK is more than #UD: AMD has CR8 at LOCK MOV CR0 (APM 3, MOV CRn),
 * its VERW ignores LOCK, and some hints do.
 */
static bool
lock_is_special(const struct form *f)
{
	handler *h = f->op->execute;

	return (f->trait->flags & BRANCH) || h == op_hlt || h == op_nop || h == op_verr ||
	    h == op_verw || h == op_mov_from_cr || h == op_mov_to_cr;
}

static void
emit_prefixes(struct instance *t, bool *gs)
{
	static const uint8_t overrides[] = { 0x36, 0x3E, 0x26, 0x2E };
	static const uint8_t selected[] = { 0, 0x66, 0xF3, 0xF2 };
	const struct form *f = t->form;
	bool m64 = t->mode == MODE_64, vex = f->map >= VEX_0F38;

	/* In a code segment there are other bytes; flat, only rights differ. */
	if (once_in(8))
		emit(t, overrides[below(m64 || t->mode == MODE_32 ? 4 : 3)]);
	if (f->prefix == 1 ? !vex : t->osize == 2 && !vex && (m64 || t->mode == MODE_32))
		emit(t, 0x66);
	else if (t->mode == MODE_16 && t->osize == 4 && f->prefix <= 0 && !vex)
		emit(t, 0x66);
	if (m64 ? t->asize == 4 : (t->mode == MODE_32) != (t->asize == 4))
		emit(t, 0x67);
	if (f->flags & OP_LOCK ? t->memory && once_in(2) : once_in(24))
		if (!lock_is_special(f))
			emit(t, 0xF0);
	if (f->prefix >= 2 && !vex)
		emit(t, selected[f->prefix]);
	else if ((f->trait->flags & STRING) && f->op->execute != op_xlat && below(3))
		emit(t, once_in(2) ? 0xF2 : 0xF3);
	else if (f->map == MAP_1 && f->prefix < 0 && !(f->trait->flags & BRANCH) && once_in(32))
		emit(t, once_in(2) ? 0xF2 : 0xF3);
	*gs = m64 && t->memory && t->asize == 8 && once_in(16);
	if (*gs)
		emit(t, 0x65);
	if (once_in(64))	/* up to, and over, 15 bytes */
		while (t->len < 12)
			emit(t, 0x3E);
}

/* --- all together --- */

static void
choose_sizes(struct instance *t)
{
	static const uint8_t sizes[] = { 2, 4, 8 };
	const struct form *f = t->form;
	bool m64 = t->mode == MODE_64, branch = f->trait->flags & (BRANCH | INDIRECT | RETURN);

	t->asize = m64 ? (once_in(6) ? 4 : 8) : (t->mode == MODE_32) != once_in(6) ? 4 : 2;
	if (!m64)
		t->osize = f->prefix >= 0 && f->map != MAP_0F38 ? (f->prefix == 1) !=
		    (t->mode == MODE_16) ? 2 : 4 : sizes[below(2)];
	else if (branch)
		t->osize = 8;	/* with 66 the vendors differ */
	else if (f->flags & OP_D64)
		t->osize = sizes[2 * below(2)];
	else
		t->osize = sizes[below(3)];
	if (f->prefix == 1 && t->osize != 8)	/* 66 is a part of the opcode */
		t->osize = t->mode == MODE_16 ? 4 : 2;
	if (f->prefix == 0 && t->osize == 2 && m64)
		t->osize = 4;
	if (f->prefix == 0 && !m64)
		t->osize = t->mode == MODE_32 ? 4 : 2;
	t->w = t->osize == 8 && !(f->flags & OP_D64);
}

static void
emit_vex(struct instance *t, unsigned rexr, unsigned rexx, unsigned rexb)
{
	const struct form *f = t->form;
	static const uint8_t pp[4] = { 0, 1, 2, 3 };
	unsigned vvvv = below(t->mode == MODE_64 ? 16 : 8);
	bool uses = f->operand[0] == By || f->operand[1] == By || f->operand[2] == By;

	if (!uses && !once_in(8))
		vvvv = 0;
	emit(t, 0xC4);
	emit(t, (uint8_t)((rexr ^ 1) << 7 | (rexx ^ 1) << 6 | (rexb ^ 1) << 5 |
	    (f->map == VEX_0F38 ? 2 : 3)));
	emit(t, (uint8_t)(t->w << 7 | (vvvv ^ 15) << 3 | once_in(32) << 2 |
	    pp[f->prefix < 0 ? 0 : f->prefix]));
	emit(t, f->opcode);
}

static void
emit_opcode(struct instance *t)
{
	static const uint8_t escape[4][2] = { { 0, 0 }, { 0x0F, 0 }, { 0x0F, 0x38 }, { 0x0F, 0x3A } };
	const struct form *f = t->form;

	if (f->map != MAP_1)
		emit(t, escape[f->map][0]);
	if (escape[f->map][1] != 0)
		emit(t, escape[f->map][1]);
	emit(t, f->opcode);
}

/* ModRM and what belongs to it. */
static void
emit_operands(struct instance *t, unsigned rexr, unsigned rexx, unsigned rexb, bool gs)
{
	const struct form *f = t->form;
	unsigned spare = 99;

	t->reg = f->reg >= 0 ? (unsigned)f->reg | rexr << 3 : below(8) | rexr << 3;
	t->rm = f->rm >= 0 ? (unsigned)f->rm | rexb << 3 : below(8) | rexb << 3;
	if ((f->trait->flags & BIT_OFFSET) && t->memory && f->operand[1] == Gv) {
		/* The bit must stay in the scratch pages. */
		uint64_t keep = t->osize == 8 ? 0 : ~UINT64_C(0) << (8 * t->osize);
		uint64_t bit = (uint64_t)0 - 2000 + below(4000);

		if (t->reg == CPU_RSP)
			t->reg = CPU_RCX;
		spare = t->reg;
		t->gpr[spare] = (t->gpr[spare] & keep) | (bit & ~keep);
	}
	if ((f->trait->flags & BOUNDS) && t->reg == CPU_RSP)
		t->reg = CPU_RAX;
	if (t->memory) {
		t->target = pick_target(t);
		if (spare != 99 && t->target > DATA + DATA_SIZE - 64)
			t->target -= 0x1000;
		if (t->asize == 2)
			emit_memory16(t, spare);
		else
			emit_memory(t, rexb, rexx, spare, gs ? DATA : 0);
	} else {
		emit(t, (uint8_t)(0xC0 | (t->reg & 7) << 3 | (t->rm & 7)));
	}
}

void
make(struct instance *t, struct form *f, enum mode mode)
{
	bool gs = false, modrm = has_modrm(f), m64 = mode == MODE_64;
	unsigned rexr = 0, rexx = 0, rexb = 0, i;

	memset(t, 0, sizeof(*t));
	t->form = f;
	t->mode = mode;
	choose_sizes(t);
	if (modrm)
		t->memory = f->mod >= 0 ? f->mod == 0 : f->flags & OP_MEMORY ? !once_in(16) :
		    f->flags & OP_REGISTER ? once_in(16) : once_in(2);
	if (f->map == MAP_1 && !m64 && (f->opcode == 0xC4 || f->opcode == 0xC5 || f->opcode == 0x62))
		t->memory = true;	/* else VEX, EVEX */
	if (f->operand[0] == Ry)
		t->memory = false;
	prepare_registers(t);
	random_fx(t->fx);
	for (i = DATA_SIZE / 2 - 512; i < DATA_SIZE / 2 + 640; i++)
		t->data[i] = (uint8_t)rnd();

	emit_prefixes(t, &gs);
	if (m64 && (t->w || once_in(2))) {
		rexr = below(2);
		rexb = below(2);
		rexx = t->memory ? below(2) : 0;
		if (f->map < VEX_0F38)
			emit(t, (uint8_t)(0x40 | t->w << 3 | rexr << 2 | rexx << 1 | rexb));
	}
	if (f->map >= VEX_0F38)
		emit_vex(t, rexr, rexx, rexb);
	else
		emit_opcode(t);
	t->rm = (f->opcode & 7u) | rexb << 3;	/* Zv */
	if (modrm)
		emit_operands(t, rexr, rexx, rexb, gs);
	else
		t->target = MIDDLE - 64 + below(128);
	for (i = 0; i < 3; i++)
		if (imm_size(t, f->operand[i]) != 0)
			emit_immediate(t, f->operand[i]);
	prepare_memory(t);
	t->flags = 0x202 | (rnd() & STATUS) | (f->trait->flags & STRING ? rnd() & DF : 0);
	for (i = 0; i < 16 && !m64; i++)
		t->gpr[i] = i < 8 ? (uint32_t)t->gpr[i] : 0;
	undefined(t);
}
