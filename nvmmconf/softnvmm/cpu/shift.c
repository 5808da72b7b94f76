/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Shifts and rotates (SDM 1, 7.3.6).  A masked count of 0 changes no flag,
 * but still writes the destination.  OF is defined for a count of 1 only; for
 * others it is what the 1-bit rule gives.
 */
#include "internal.h"

/* Six bits of count for 64-bit operands, five for all others. */
static unsigned
shift_count(struct exec *x, unsigned operand)
{
	return get(x, operand) & (x->in.operand[0].size == 8 ? 63 : 31);
}

static void
shift_done(struct exec *x, uint64_t r, bool cf, bool of)
{
	set_flags(x->cpu, FLAG_STATUS, flags_of(r, x->in.operand[0].size) |
	    (cf ? FLAG_CF : 0) | (of ? FLAG_OF : 0));
}

static bool
bit(uint64_t value, unsigned n)
{
	return value >> n & 1;
}

void
op_shl(struct exec *x)
{
	unsigned size = x->in.operand[0].size, bits = 8 * size, n = shift_count(x, 1);
	uint64_t a = get_rmw(x, 0), r = n < bits ? a << n : 0;
	bool cf = n != 0 && n <= bits && bit(a, bits - n);

	put(x, 0, r);
	if (n != 0)
		shift_done(x, r, cf, bit(r, bits - 1) != cf);
}

void
op_shr(struct exec *x)
{
	unsigned size = x->in.operand[0].size, bits = 8 * size, n = shift_count(x, 1);
	uint64_t a = get_rmw(x, 0), r = n < bits ? a >> n : 0;
	bool cf = n != 0 && n <= bits && bit(a, n - 1);

	put(x, 0, r);
	if (n != 0)
		shift_done(x, r, cf, bit(a, bits - 1));
}

void
op_sar(struct exec *x)
{
	unsigned size = x->in.operand[0].size, n = shift_count(x, 1);
	uint64_t a = sign_extend(get_rmw(x, 0), size), fill = a >> 63 ? UINT64_MAX : 0, r = a;

	if (n != 0)
		r = a >> n | fill << (64 - n);
	put(x, 0, r);
	if (n != 0)
		shift_done(x, r, bit(a, n - 1), false);
}

/* Rotates touch CF and OF only. */
static void
rotate_done(struct exec *x, bool cf, bool of)
{
	set_flags(x->cpu, FLAG_CF | FLAG_OF, (cf ? FLAG_CF : 0) | (of ? FLAG_OF : 0));
}

static uint64_t
rotate_left(uint64_t a, unsigned n, unsigned bits)
{
	n %= bits;
	return n == 0 ? a : a << n | a >> (bits - n);
}

void
op_rol(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 1);
	uint64_t r = rotate_left(get_rmw(x, 0), n, bits);

	put(x, 0, r);
	if (n != 0)
		rotate_done(x, bit(r, 0), bit(r, 0) != bit(r, bits - 1));
}

void
op_ror(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 1);
	uint64_t r = rotate_left(get_rmw(x, 0), bits - n % bits, bits);

	put(x, 0, r);
	if (n != 0)
		rotate_done(x, bit(r, bits - 1), bit(r, bits - 1) != bit(r, bits - 2));
}

/* Through carry: a rotate of one bit more, done bit by bit. */
void
op_rcl(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 1), i;
	uint64_t r = get_rmw(x, 0);
	bool cf = x->cpu->rflags & FLAG_CF;

	for (i = n % (bits + 1); i > 0; i--) {
		bool out = bit(r, bits - 1);

		r = r << 1 | cf;
		cf = out;
	}
	put(x, 0, r);
	if (n != 0)
		rotate_done(x, cf, bit(r, bits - 1) != cf);
}

void
op_rcr(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 1), i;
	uint64_t r = get_rmw(x, 0);
	bool cf = x->cpu->rflags & FLAG_CF;

	for (i = n % (bits + 1); i > 0; i--) {
		bool out = bit(r, 0);

		r = r >> 1 | (uint64_t)cf << (bits - 1);
		cf = out;
	}
	put(x, 0, r);
	if (n != 0)
		rotate_done(x, cf, bit(r, bits - 1) != bit(r, bits - 2));
}

/*
 * SHLD, SHRD.  A count above the operand size (16 bits only) is undefined;
 * here as processors do: the source, then the destination again, follow.
 */
void
op_shld(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 2);
	uint64_t a = get_rmw(x, 0), b = get(x, 1), r = a;
	bool cf = false;

	if (n == 0) {
		put(x, 0, a);
		return;
	}
	if (n <= bits) {
		cf = bit(a, bits - n);
		r = (n < 64 ? a << n : 0) | (bits - n < 64 ? b >> (bits - n) : 0);
	} else {
		cf = bit(b, 2 * bits - n);
		r = b << (n - bits) | a >> (2 * bits - n);
	}
	put(x, 0, r);
	shift_done(x, r, cf, bit(r ^ a, bits - 1));
}

void
op_shrd(struct exec *x)
{
	unsigned bits = 8u * x->in.operand[0].size, n = shift_count(x, 2);
	uint64_t a = get_rmw(x, 0), b = get(x, 1), r = a;
	bool cf = false;

	if (n == 0) {
		put(x, 0, a);
		return;
	}
	if (n <= bits) {
		cf = bit(a, n - 1);
		r = a >> n | b << (bits - n);
	} else {
		cf = bit(b, n - bits - 1);
		r = b >> (n - bits) | a << (2 * bits - n);
	}
	put(x, 0, r);
	shift_done(x, r, cf, bit(r ^ a, bits - 1));
}
