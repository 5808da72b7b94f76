/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Packed integers of MMX and SSE2 (SDM 1, 9.4.2 to 9.4.4 and 11.4.2): the same
 * routine for 64 and for 128 bits, an operation on one pair of elements
 * applied to all of them.
 */
#include "fpu.h"

typedef uint64_t lane(uint64_t a, uint64_t b, unsigned size);

static void
each(struct exec *x, unsigned size, lane *operation)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1), r = { { 0, 0 } };
	unsigned bits = 8 * size, i;

	for (i = 0; i < 8u * x->in.operand[0].size; i += bits)
		r.q[i / 64] |= (operation(a.q[i / 64] >> (i % 64) & mask_of(size),
		    b.q[i / 64] >> (i % 64) & mask_of(size), size) & mask_of(size)) << (i % 64);
	put_vec(x, 0, r);
}

static int64_t
signed_of(uint64_t a, unsigned size)
{
	return (int64_t)sign_extend(a, size);
}

static uint64_t
saturate(int64_t v, int64_t low, int64_t high)
{
	return (uint64_t)(v < low ? low : v > high ? high : v);
}

static uint64_t
saturate_signed(int64_t v, unsigned size)
{
	int64_t high = (int64_t)sign_of(size) - 1;

	return saturate(v, -high - 1, high);
}

static uint64_t
lane_add(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a + b;
}

static uint64_t
lane_sub(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a - b;
}

static uint64_t
lane_adds(uint64_t a, uint64_t b, unsigned size)
{
	return saturate_signed(signed_of(a, size) + signed_of(b, size), size);
}

static uint64_t
lane_subs(uint64_t a, uint64_t b, unsigned size)
{
	return saturate_signed(signed_of(a, size) - signed_of(b, size), size);
}

static uint64_t
lane_addus(uint64_t a, uint64_t b, unsigned size)
{
	return a + b > mask_of(size) ? mask_of(size) : a + b;
}

static uint64_t
lane_subus(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a > b ? a - b : 0;
}

static uint64_t
lane_cmpeq(uint64_t a, uint64_t b, unsigned size)
{
	return a == b ? mask_of(size) : 0;
}

static uint64_t
lane_cmpgt(uint64_t a, uint64_t b, unsigned size)
{
	return signed_of(a, size) > signed_of(b, size) ? mask_of(size) : 0;
}

static uint64_t
lane_minu(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a < b ? a : b;
}

static uint64_t
lane_maxu(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a > b ? a : b;
}

static uint64_t
lane_mins(uint64_t a, uint64_t b, unsigned size)
{
	return signed_of(a, size) < signed_of(b, size) ? a : b;
}

static uint64_t
lane_maxs(uint64_t a, uint64_t b, unsigned size)
{
	return signed_of(a, size) > signed_of(b, size) ? a : b;
}

static uint64_t
lane_avg(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return (a + b + 1) >> 1;
}

static uint64_t
lane_mull(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return a * b;
}

static uint64_t
lane_mulh(uint64_t a, uint64_t b, unsigned size)
{
	return (uint64_t)(signed_of(a, size) * signed_of(b, size)) >> (8 * size);
}

static uint64_t
lane_mulhu(uint64_t a, uint64_t b, unsigned size)
{
	return a * b >> (8 * size);
}

/* PMULUDQ: the low halves of each 64 bits. */
static uint64_t
lane_muludq(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return (a & UINT32_MAX) * (b & UINT32_MAX);
}

/* PMADDWD: two products of 16 bits, added. */
static uint64_t
lane_maddwd(uint64_t a, uint64_t b, unsigned size)
{
	(void)size;
	return (uint64_t)(signed_of(a, 2) * signed_of(b, 2) +
	    signed_of(a >> 16, 2) * signed_of(b >> 16, 2));
}

/* PSADBW: the sum of eight differences. */
static uint64_t
lane_sadbw(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < size; i++, a >>= 8, b >>= 8) {
		unsigned p = a & 0xFF, q = b & 0xFF;

		sum += p > q ? p - q : q - p;
	}
	return sum;
}

/* Rows of the tables, in opcode order within each group of B, W, D, Q. */
#define EACH(name, size, operation)					\
void									\
op_##name(struct exec *x)						\
{									\
	each(x, size, lane_##operation);				\
}

EACH(paddb, 1, add) EACH(paddw, 2, add) EACH(paddd, 4, add) EACH(paddq, 8, add)
EACH(psubb, 1, sub) EACH(psubw, 2, sub) EACH(psubd, 4, sub) EACH(psubq, 8, sub)
EACH(paddsb, 1, adds) EACH(paddsw, 2, adds)
EACH(psubsb, 1, subs) EACH(psubsw, 2, subs)
EACH(paddusb, 1, addus) EACH(paddusw, 2, addus)
EACH(psubusb, 1, subus) EACH(psubusw, 2, subus)
EACH(pcmpeqb, 1, cmpeq) EACH(pcmpeqw, 2, cmpeq) EACH(pcmpeqd, 4, cmpeq)
EACH(pcmpgtb, 1, cmpgt) EACH(pcmpgtw, 2, cmpgt) EACH(pcmpgtd, 4, cmpgt)
EACH(pminub, 1, minu) EACH(pmaxub, 1, maxu)
EACH(pminsw, 2, mins) EACH(pmaxsw, 2, maxs)
EACH(pavgb, 1, avg) EACH(pavgw, 2, avg)
EACH(pmullw, 2, mull) EACH(pmulhw, 2, mulh) EACH(pmulhuw, 2, mulhu)
EACH(pmuludq, 8, muludq) EACH(pmaddwd, 4, maddwd) EACH(psadbw, 8, sadbw)

/* --- packing: both sources, to elements of half the size --- */

static void
pack(struct exec *x, unsigned size, bool is_signed)
{
	struct vec source[2] = { get_vec(x, 0), get_vec(x, 1) }, r = { { 0, 0 } };
	unsigned bits = 8 * size, total = 8 * x->in.operand[0].size, at = 0, i, n;

	for (n = 0; n < 2; n++)
		for (i = 0; i < total; i += bits, at += bits / 2) {
			int64_t v = signed_of(source[n].q[i / 64] >> (i % 64), size);
			uint64_t half = is_signed ? saturate_signed(v, size / 2) :
			    saturate(v, 0, (int64_t)mask_of(size / 2));

			r.q[at / 64] |= (half & mask_of(size / 2)) << (at % 64);
		}
	put_vec(x, 0, r);
}

void
op_packsswb(struct exec *x)
{
	pack(x, 2, true);
}

void
op_packuswb(struct exec *x)
{
	pack(x, 2, false);
}

void
op_packssdw(struct exec *x)
{
	pack(x, 4, true);
}

/* --- shifts: one count for all elements, an immediate or 64 bits --- */

static uint64_t
lane_srl(uint64_t a, uint64_t n, unsigned size)
{
	return n >= 8 * size ? 0 : a >> n;
}

static uint64_t
lane_sra(uint64_t a, uint64_t n, unsigned size)
{
	uint64_t by = n >= 8 * size ? 8 * size - 1 : n;

	return (uint64_t)(signed_of(a, size) >> by);
}

static uint64_t
lane_sll(uint64_t a, uint64_t n, unsigned size)
{
	return n >= 8 * size ? 0 : a << n;
}

static void
shift_each(struct exec *x, unsigned size, lane *operation)
{
	struct vec a = get_vec(x, 0), r = { { 0, 0 } };
	uint64_t n = get_vec(x, 1).q[0];
	unsigned bits = 8 * size, i;

	for (i = 0; i < 8u * x->in.operand[0].size; i += bits)
		r.q[i / 64] |= (operation(a.q[i / 64] >> (i % 64) & mask_of(size), n, size) &
		    mask_of(size)) << (i % 64);
	put_vec(x, 0, r);
}

#define SHIFT(name, size, operation)					\
void									\
op_##name(struct exec *x)						\
{									\
	shift_each(x, size, lane_##operation);				\
}

SHIFT(psrlw, 2, srl) SHIFT(psrld, 4, srl) SHIFT(psrlq, 8, srl)
SHIFT(psraw, 2, sra) SHIFT(psrad, 4, sra)
SHIFT(psllw, 2, sll) SHIFT(pslld, 4, sll) SHIFT(psllq, 8, sll)

/* PSLLDQ, PSRLDQ: bytes of the whole register. */
static void
shift_bytes(struct exec *x, bool left)
{
	struct vec v = get_vec(x, 0);
	uint64_t n = x->in.imm & 0xFF;

	for (n = n > 16 ? 16 : n; n > 0; n--) {
		if (left) {
			v.q[1] = v.q[1] << 8 | v.q[0] >> 56;
			v.q[0] <<= 8;
		} else {
			v.q[0] = v.q[0] >> 8 | v.q[1] << 56;
			v.q[1] >>= 8;
		}
	}
	put_vec(x, 0, v);
}

void
op_pslldq(struct exec *x)
{
	shift_bytes(x, true);
}

void
op_psrldq(struct exec *x)
{
	shift_bytes(x, false);
}
