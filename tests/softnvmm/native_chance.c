/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Chance, and where an instance has its operands.
 */
#include "native_make.h"

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

bool
once_in(unsigned n)
{
	return below(n) == 0;
}

/* Values near the edges of every width come up often. */
uint64_t
value(void)
{
	switch (below(5)) {
	case 0: return rnd();
	case 1: return (uint64_t)0 - below(3) + below(3);
	case 2: return (UINT64_C(1) << below(64)) - below(3);
	case 3: return 8u * below(9) + below(3) - 1;	/* operand sizes, as a count */
	default: return rnd() >> below(64);
	}
}

uint16_t
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
uint16_t
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

uint64_t
code_offset(const struct instance *t)
{
	return (t->mode == MODE_16 ? 0 : CODE) + (once_in(2) ? TAKEN_FWD : TAKEN_BACK);
}

/* --- where things are --- */

uint64_t
data_base(const struct instance *t)
{
	return t->mode == MODE_16 ? DATA : 0;
}

uint64_t
size_mask(unsigned bytes)
{
	return bytes == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * bytes)) - 1;
}

/* An address register: what is above the address size must not matter. */
void
set_address(struct instance *t, unsigned reg, uint64_t linear)
{
	uint64_t mask = size_mask(t->asize), off = linear - data_base(t);

	t->gpr[reg] = (off & mask) | (rnd() & ~mask);
	if (t->mode == MODE_64 && t->asize == 8 && once_in(200))
		t->gpr[reg] ^= UINT64_C(1) << 60;	/* not canonical */
}

void
store(struct instance *t, uint64_t at, uint64_t v, unsigned n)
{
	for (; n-- > 0; v >>= 8, at++)
		if (at >= DATA && at < DATA + DATA_SIZE)
			t->data[at - DATA] = (uint8_t)v;
}

uint64_t
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
unsigned
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

uint64_t
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
