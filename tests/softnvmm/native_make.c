/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * One instance of a form: prefixes, operands, registers, flags and memory by
 * chance, but so that most of them do something.
 */
#include <stddef.h>
#include <string.h>

#include "native.h"

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define DF 0x400u
#define OF 0x800u
#define STATUS (CF | PF | AF | ZF | SF | OF)

#define MIDDLE		(DATA + DATA_SIZE / 2)

/* --- chance --- */

static uint64_t state;

uint64_t
rnd(void)
{
	uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);	/* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* Each instance has a stream of its own, and can be made again alone. */
void
seed_instance(uint64_t seed, uint64_t index)
{
	state = seed;
	state = rnd() + index * UINT64_C(0xD1342543DE82EF95);
	rnd();
}

unsigned
below(unsigned n)
{
	return (unsigned)(rnd() % n);
}

static bool
once_in(unsigned n)
{
	return below(n) == 0;
}

/* Values near the edges of every width come up often. */
static uint64_t
value(void)
{
	switch (below(4)) {
	case 0: return rnd();
	case 1: return (uint64_t)0 - below(3) + below(3);
	case 2: return (UINT64_C(1) << below(64)) - below(3);
	default: return rnd() >> below(64);
	}
}

static uint16_t
selector(void)
{
	switch (below(8)) {
	case 0: return (uint16_t)below(4);
	case 1: return (uint16_t)(SEL_CODE64 - 3 + below(4));
	case 2: return (uint16_t)(SEL_CODE32 - 3 + below(4));
	case 3: return (uint16_t)(SEL_DATA - 3 + below(4));
	case 4: return (uint16_t)(0x2000 + below(8));	/* beyond the table */
	default: return (uint16_t)(SEL_LDT(below(LDT_SLOTS + 1)) - (once_in(4) ? below(4) : 0));
	}
}

/*
 * Where a far transfer goes: the code segment that it is in, or one that is no
 * code segment.  Code of another size would not find its stub.
 */
static uint16_t
code_selector(const struct instance *t)
{
	static const uint16_t own[MODES] = { SEL_CODE64, SEL_CODE32, SEL_LDT(LDT_CODE16) };

	switch (below(6)) {
	case 0: return (uint16_t)below(4);
	case 1: return (uint16_t)(SEL_LDT(1 + below(5)) - below(4));
	case 2: return (uint16_t)(once_in(2) ? SEL_DATA : 0x10 + below(4));
	default: return (uint16_t)(own[t->mode] - (once_in(8) ? below(4) : 0));
	}
}

static uint64_t
code_offset(const struct instance *t)
{
	return (t->mode == MODE_16 ? 0 : CODE) + (once_in(2) ? TAKEN_FWD : TAKEN_BACK);
}

/* --- where things are --- */

static uint64_t
data_base(const struct instance *t)
{
	return t->mode == MODE_16 ? DATA : 0;
}

static uint64_t
size_mask(unsigned bytes)
{
	return bytes == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * bytes)) - 1;
}

/* An address register: what is above the address size must not matter. */
static void
set_address(struct instance *t, unsigned reg, uint64_t linear)
{
	uint64_t mask = size_mask(t->asize), off = linear - data_base(t);

	t->gpr[reg] = (off & mask) | (rnd() & ~mask);
	if (t->mode == MODE_64 && t->asize == 8 && once_in(200))
		t->gpr[reg] ^= UINT64_C(1) << 60;	/* not canonical */
}

static void
store(struct instance *t, uint64_t at, uint64_t v, unsigned n)
{
	for (; n-- > 0; v >>= 8, at++)
		if (at >= DATA && at < DATA + DATA_SIZE)
			t->data[at - DATA] = (uint8_t)v;
}

static uint64_t
load(const struct instance *t, uint64_t at, unsigned n)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < n && i < 8; i++)
		if (at + i >= DATA && at + i < DATA + DATA_SIZE)
			v |= (uint64_t)t->data[at + i - DATA] << (8 * i);
	return v;
}

/* Bytes of the memory operand, and what alignment it wants. */
static unsigned
access_size(const struct instance *t, unsigned *align)
{
	const struct form *f = t->form;
	handler *h = f->op->execute;
	unsigned y = t->osize == 2 ? 4 : t->osize, i;

	*align = 1;
	if (h == op_cmpxchg8b) {
		*align = t->osize == 8 ? 16 : 1;
		return t->osize == 8 ? 16 : 8;
	}
	if (h == op_fxsave || h == op_fxrstor) {
		*align = 16;
		return 512;
	}
	if (f->trait->flags & XFEATURES) {
		*align = 64;
		return 576;
	}
	if (h == op_fldenv || h == op_fnstenv)
		return t->osize == 2 ? 14 : 28;
	if (h == op_frstor || h == op_fnsave)
		return t->osize == 2 ? 94 : 108;
	if (h == op_load_far_pointer || (f->trait->flags & FAR_TARGET))
		return t->osize + 2;
	if (h == op_bound)
		return 2 * t->osize;
	for (i = 0; i < 3; i++) {
		switch (f->operand[i]) {
		case Eb: case Mb: return 1;
		case Ew: case Mw: case Ms: case Mw_Rd: return 2;
		case Ed: case Md: case Qd: case Wd: return 4;
		case Ev: case Mv: return t->osize;
		case Ey: case My: return y;
		case Mq: case Qq: case Wq: return 8;
		case Mt: return 10;
		case Mx: case Wx:
			*align = f->flags & OP_UNALIGNED ? 1 : 16;
			return 16;
		default: break;
		}
	}
	return t->osize;
}

static uint64_t
pick_target(const struct instance *t)
{
	unsigned align, size = access_size(t, &align);
	uint64_t at;

	/* Into the page that is not there; vendors differ on a short MOVSXD. */
	if (once_in(24) && !(t->form->opcode == 0x63 && t->osize == 2))
		return DATA + DATA_SIZE - below(2 * size);
	at = MIDDLE - 64 + below(128);
	if (align > 1 && !once_in(8))
		at &= ~(uint64_t)(align - 1);
	return at;
}

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

/* --- state --- */

/* Numbers of every class; some of no class that is still a number. */
static void
random_st(uint8_t *at)
{
	uint64_t m = rnd() | UINT64_C(1) << 63;
	unsigned se = below(0x8000);

	switch (below(8)) {
	case 0: m = se = 0; break;
	case 1: se = 0x7FFF; m = once_in(2) ? UINT64_C(1) << 63 : rnd(); break;
	case 2: se = 0; m = rnd() >> below(64); break;
	case 3: se = 16383 + below(70); m = value() | UINT64_C(1) << 63; break;
	case 4: se = 16383 - 150 + below(300); break;
	case 5: se = 16383 - 1100 + below(2200); m &= ~UINT64_C(0) << below(64); break;
	case 6: m = rnd(); break;
	default: se = 16380 + below(66); m &= ~UINT64_C(0) << below(64); break;
	}
	se |= once_in(2) ? 0x8000 : 0;
	memcpy(at, &m, 8);
	memcpy(at + 8, &se, 2);
}

static void
put16(uint8_t *fx, unsigned at, unsigned v)
{
	fx[at] = (uint8_t)v;
	fx[at + 1] = (uint8_t)(v >> 8);
}

static void
random_fx(uint8_t *fx)
{
	unsigned masks = once_in(4) ? below(64) : 0x3F, i;
	unsigned fsw = (unsigned)rnd() & (FSW_TOP | FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3);
	uint32_t mxcsr = MXCSR_DEFAULT | ((unsigned)rnd() & 0xE07F);

	memset(fx, 0, 512);
	put16(fx, FX_FCW, FCW_RESERVED | masks | below(4) << 8 | below(4) << 10);
	/* Flags that are unmasked would be pending: seldom. */
	fsw |= (unsigned)rnd() & (once_in(16) ? FSW_EXCEPTIONS : masks);
	if (fsw & ~masks & FSW_EXCEPTIONS)
		fsw |= FSW_ES | FSW_B;
	put16(fx, FX_FSW, fsw);
	fx[FX_FTW] = once_in(3) ? (uint8_t)rnd() : once_in(2) ? 0xFF : 0;
	/* FOP, FIP and FDP 0: AMD loads them only with an exception pending. */
	memcpy(fx + FX_MXCSR, &mxcsr, 4);
	for (i = 0; i < 8; i++)
		random_st(fx + FX_ST + 16 * i);
	for (i = 0; i < 32; i++) {
		uint64_t v = value();

		memcpy(fx + FX_XMM + 8 * i, &v, 8);
	}
}

/* Registers that a form has a special use for. */
static void
prepare_registers(struct instance *t)
{
	const struct trait *trait = t->form->trait;
	uint64_t high = t->mode == MODE_16 ? rnd() << 16 : 0;
	unsigned i;

	for (i = 0; i < 16; i++)
		t->gpr[i] = value();
	t->gpr[CPU_RSP] = MIDDLE - 64 + below(128) - data_base(t);
	if (trait->flags & STRING) {
		set_address(t, CPU_RSI, MIDDLE - 256 + below(512));
		set_address(t, CPU_RDI, once_in(16) ? DATA + DATA_SIZE - below(64) :
		    MIDDLE - 256 + below(512));
		t->gpr[CPU_RCX] = below(20) | (rnd() & ~size_mask(t->asize));
		set_address(t, CPU_RBX, MIDDLE);
	}
	if (trait->flags & RDI_DATA)
		set_address(t, CPU_RDI, once_in(16) ? DATA + DATA_SIZE - below(32) :
		    MIDDLE - 64 + below(128));
	if (trait->flags & FRAME)
		t->gpr[CPU_RBP] = (MIDDLE - 64 + below(128) - data_base(t)) | (high & 0xFFFF0000);
	if ((trait->flags & BRANCH) && once_in(2))
		t->gpr[CPU_RCX] = below(3) | (rnd() & ~size_mask(t->asize));
	if ((trait->flags & DIVIDE) && !once_in(4))
		t->gpr[CPU_RDX] = once_in(2) ? 0 : t->gpr[CPU_RAX] >> 63 ? ~UINT64_C(0) : 0;
	if ((trait->flags & DOUBLE_SHIFT) && t->osize == 2)
		t->gpr[CPU_RCX] = below(17);
	if (trait->flags & XFEATURES) {
		t->gpr[CPU_RAX] = (rnd() & ~UINT64_C(0xFFFFFFFF)) | below(4);
		t->gpr[CPU_RDX] = rnd() & ~UINT64_C(0xFFFFFFFF);
	}
	if (trait->flags & XCR)		/* XCR0 itself is the system's */
		t->gpr[CPU_RCX] = 2 + below(1000);
}

/* Images that FXRSTOR, XRSTOR, FRSTOR and FLDENV take, mostly. */
static void
prepare_image(struct instance *t)
{
	handler *h = t->form->op->execute;
	uint64_t at = t->target;
	unsigned i, step = t->osize == 2 ? 2 : 4;
	uint8_t fx[512];

	if (!t->memory)
		return;
	if (h == op_ldmxcsr && !once_in(8))
		store(t, at, MXCSR_DEFAULT | (rnd() & 0xE07F), 4);
	if (h == op_fldcw)
		store(t, at, once_in(2) ? 0x37F | (rnd() & 0xF00) : rnd() & 0x1F3F, 2);
	if (h == op_fxrstor || h == op_xrstor) {
		random_fx(fx);
		if (once_in(8))
			fx[FX_MXCSR + 2] = 1;
		for (i = 0; i < 512; i++)
			store(t, at + i, fx[i], 1);
	}
	if (h == op_xrstor)
		for (i = 512; i < 576; i++)
			store(t, at + i, i == 512 ? below(4) : i == 530 && once_in(8), 1);
	if (h == op_xsave || h == op_xsaveopt)
		store(t, at + 512, below(4), 8);
	if (h == op_frstor || h == op_fldenv) {
		random_fx(fx);
		store(t, at, fx[0] | fx[1] << 8, 2);
		store(t, at + step, fx[2] | fx[3] << 8, 2);
		store(t, at + 2 * step, rnd(), 2);
		for (i = 0; h == op_frstor && i < 8; i++) {
			store(t, at + 7 * step + 10 * i, fx[FX_ST + 16 * i] |
			    (uint64_t)fx[FX_ST + 16 * i + 7] << 56 | rnd() >> 8, 8);
			store(t, at + 7 * step + 10 * i + 8, rnd(), 2);
		}
	}
}

/* The frame of RETF or IRET. */
static void
prepare_return(struct instance *t, uint64_t sp, uint64_t to)
{
	unsigned n = t->osize;

	store(t, sp, to, n);
	store(t, sp + n, code_selector(t), n);
	if (t->form->op->execute != op_iret)
		return;
	store(t, sp + 2 * n, rnd() & (STATUS | DF | 0x200), n);
	store(t, sp + 3 * n, MIDDLE + below(64), n);
	store(t, sp + 4 * n, once_in(4) ? selector() : SEL_DATA, n);
}

/* Memory and accumulator, once the address is known. */
static void
prepare_memory(struct instance *t)
{
	const struct form *f = t->form;
	uint32_t flags = f->trait->flags;
	bool free_acc = !(t->used & (1u << CPU_RAX | 1u << CPU_RDX));
	uint64_t branch = code_offset(t);
	uint64_t sp = t->gpr[CPU_RSP] + data_base(t);
	unsigned align;

	if (flags & RETURN)
		store(t, sp, branch, t->osize);
	if ((flags & FAR_TARGET) && t->memory) {
		store(t, t->target, branch, t->osize);
		store(t, t->target + t->osize, code_selector(t), 2);
	}
	if (flags & FAR_RETURN)
		prepare_return(t, sp, branch);
	if (flags & POPS_FLAGS)	/* not TF, NT, AC; IF must not change */
		store(t, sp, rnd() & (STATUS | DF | 0x200), 8);
	if (flags & POPS_SELECTOR)
		store(t, sp, selector() | rnd() << 16, 8);
	if (flags & FAR_POINTER)
		store(t, t->target + t->osize, selector(), 2);
	if (flags & INDIRECT) {
		if (t->memory)
			store(t, t->target, branch, t->osize);
		else
			t->gpr[t->rm] = branch;
	}
	if (flags & SELECTOR) {
		if (t->memory)
			store(t, t->target, selector(), 2);
		else
			t->gpr[t->rm] = (t->gpr[t->rm] & ~UINT64_C(0xFFFF)) | selector();
	}
	if ((flags & BOUNDS) && !once_in(3)) {
		store(t, t->target, 0 - rnd() % 1000, t->osize);
		store(t, t->target + t->osize, rnd() % 1000, t->osize);
		if (!(t->used & 1u << t->reg))
			t->gpr[t->reg] = 500 - rnd() % 1000;
	}
	if ((flags & COMPARE) && t->memory && free_acc && once_in(2)) {
		unsigned size = access_size(t, &align);

		if (f->op->execute == op_cmpxchg8b) {
			t->gpr[CPU_RAX] = load(t, t->target, size / 2);
			t->gpr[CPU_RDX] = load(t, t->target + size / 2, size / 2);
		} else {
			t->gpr[CPU_RAX] = load(t, t->target, size);
		}
	} else if ((flags & COMPARE) && !t->memory && once_in(2)) {
		t->gpr[CPU_RAX] = t->gpr[t->rm];
	}
	prepare_image(t);
	t->any_cr2 = access_size(t, &align) >= 14;
	t->misaligned = (t->target & (align - 1)) != 0;
	/* The mask is in EDX:EAX: only what both sides have. */
	t->skip = (flags & XFEATURES) && !free_acc;
	if ((f->op->execute == op_fxsave || (flags & XFEATURES)) && t->target >= DATA)
		t->mxcsr_mask = (unsigned)(t->target - DATA) + FX_MXCSR_MASK;
}

/* --- what is not defined, now that all values are known --- */

static unsigned
shift_count(const struct instance *t)
{
	unsigned i, count = 1;

	for (i = 0; i < 3; i++) {
		if (t->form->operand[i] == CL)
			count = t->gpr[CPU_RCX] & 0xFF;
		else if (t->form->operand[i] == Ib)
			count = t->code[t->len - 1];
	}
	return count & (t->osize == 8 && t->form->operand[0] != Eb ? 63 : 31);
}

static void
undefined(struct instance *t)
{
	static const uint16_t fixed[] = {
		[ULOGIC] = AF, [UMUL] = SF | ZF | AF | PF, [UALL] = STATUS,
		[UBT] = OF | SF | AF | PF, [UBS] = STATUS & ~ZF,
		[UZCNT] = OF | SF | PF | AF, [UBLS] = AF | PF, [UBEXTR] = AF | SF | PF,
		[UDAA] = OF, [UAAA] = OF | SF | ZF | PF, [UAAM] = OF | AF | CF
	};
	const struct form *f = t->form;
	unsigned bits = f->operand[0] == Eb ? 8 : 8 * t->osize, count = shift_count(t);

	t->ignore = -1;
	switch (f->trait->undefined) {
	case USHIFT:
		if (count >= bits)
			t->undefined |= CF;
		/* FALLTHROUGH */
	case USAR: case USHD:
		t->skip |= f->trait->undefined == USHD && count > bits;
		if (count != 0)
			t->undefined |= AF;
		/* FALLTHROUGH */
	case UROT:
		if (count > 1)
			t->undefined |= OF;
		break;
	default:
		t->undefined = fixed[f->trait->undefined];
		break;
	}
	if (f->op->execute == op_bswap && t->osize == 2)
		t->ignore = (int)t->rm;
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
