/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * MMX and SSE data transfer, shuffles and logic: bits move, nothing is
 * calculated (SDM 1, 9.4, 10.4.1, 11.4.1).  Which operands have which size is
 * the decode tables' affair; a load into an XMM register from less than 16
 * bytes of memory clears the rest, a move between registers keeps it.
 */
#include "fpu.h"

/* MOVAPS, MOVUPS, MOVDQA, MOVDQU, MOVQ, MOVD, MOVNTx, LDDQU ... */
void
op_movv(struct exec *x)
{
	put_vec(x, 0, get_vec(x, 1));
}

/* MOVQ xmm, xmm/m64 and xmm/m64, xmm; MOVQ2DQ, MOVDQ2Q: the upper half is 0. */
void
op_movq_low(struct exec *x)
{
	struct vec v = get_vec(x, 1);

	v.q[1] = 0;
	put_vec(x, 0, v);
}

/* MOVSS and MOVSD: between registers only the low element moves. */
static void
move_scalar(struct exec *x, uint64_t mask)
{
	struct vec to, from = get_vec(x, 1);

	if (x->in.mod == 3) {
		to = get_vec(x, 0);
		from.q[0] = (to.q[0] & ~mask) | (from.q[0] & mask);
		from.q[1] = to.q[1];
	}
	put_vec(x, 0, from);
}

void
op_movss(struct exec *x)
{
	move_scalar(x, UINT32_MAX);
}

void
op_movsd(struct exec *x)
{
	move_scalar(x, UINT64_MAX);
}

/* MOVLPS and MOVLPD from memory; with two registers the row is MOVHLPS. */
void
op_movlps(struct exec *x)
{
	struct vec to = get_vec(x, 0);

	to.q[0] = get_vec(x, 1).q[0];
	put_vec(x, 0, to);
}

void
op_movhlps(struct exec *x)
{
	struct vec to = get_vec(x, 0);

	to.q[0] = get_vec(x, 1).q[1];
	put_vec(x, 0, to);
}

/* MOVHPS and MOVHPD from memory; with two registers MOVLHPS. */
void
op_movhps(struct exec *x)
{
	struct vec to = get_vec(x, 0);

	to.q[1] = get_vec(x, 1).q[0];
	put_vec(x, 0, to);
}

/* MOVHPS and MOVHPD to memory. */
void
op_movhps_store(struct exec *x)
{
	struct vec v = get_vec(x, 1);

	v.q[0] = v.q[1];
	put_vec(x, 0, v);
}

/* SSE3: MOVDDUP, MOVSLDUP, MOVSHDUP. */
void
op_movddup(struct exec *x)
{
	struct vec v = get_vec(x, 1);

	v.q[1] = v.q[0];
	put_vec(x, 0, v);
}

void
op_movsldup(struct exec *x)
{
	struct vec v = get_vec(x, 1);
	unsigned i;

	for (i = 0; i < 2; i++)
		v.q[i] = (v.q[i] & UINT32_MAX) | v.q[i] << 32;
	put_vec(x, 0, v);
}

void
op_movshdup(struct exec *x)
{
	struct vec v = get_vec(x, 1);
	unsigned i;

	for (i = 0; i < 2; i++)
		v.q[i] = (v.q[i] & ~(uint64_t)UINT32_MAX) | v.q[i] >> 32;
	put_vec(x, 0, v);
}

/* MASKMOVQ, MASKMOVDQU: bytes with the mask's top bit go to [DS:rDI]. */
void
op_maskmov(struct exec *x)
{
	struct vec v = get_vec(x, 0), mask = get_vec(x, 1);
	unsigned size = x->in.operand[0].size, i;
	uint64_t linear;
	struct span s;

	x->in.ea = x->cpu->gpr[CPU_RDI] & mask_of(x->in.asize);
	linear = linear_address(x, x->in.seg, x->in.ea, size, ACCESS_WRITE);
	span_of(x, linear, size, ACCESS_WRITE, RANK_CPL, &s);
	for (i = 0; i < size; i++)
		if (mask.q[i / 8] >> (8 * (i % 8) + 7) & 1)
			span_store(&s, i, 1, v.q[i / 8] >> (8 * (i % 8)));
	if (x->in.flags & OP_MMX)
		fpu_enter_mmx(x->cpu);
}

/* --- logic --- */

/* PAND, ANDPS, ANDPD. */
void
op_pand(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1);

	put_vec(x, 0, (struct vec){ { a.q[0] & b.q[0], a.q[1] & b.q[1] } });
}

void
op_pandn(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1);

	put_vec(x, 0, (struct vec){ { ~a.q[0] & b.q[0], ~a.q[1] & b.q[1] } });
}

void
op_por(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1);

	put_vec(x, 0, (struct vec){ { a.q[0] | b.q[0], a.q[1] | b.q[1] } });
}

void
op_pxor(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1);

	put_vec(x, 0, (struct vec){ { a.q[0] ^ b.q[0], a.q[1] ^ b.q[1] } });
}

/* --- shuffles --- */

static uint64_t
element(struct vec v, unsigned size, unsigned i)
{
	unsigned bit = 8 * size * i;

	return v.q[bit / 64] >> (bit % 64) & mask_of(size);
}

static void
set_element(struct vec *v, unsigned size, unsigned i, uint64_t value)
{
	unsigned bit = 8 * size * i, at = bit % 64;

	v->q[bit / 64] &= ~(mask_of(size) << at);
	v->q[bit / 64] |= (value & mask_of(size)) << at;
}

/* Four elements of `from`, as the immediate says, from `base` on. */
static void
shuffle4(struct vec *to, struct vec from, unsigned size, unsigned base, uint64_t imm)
{
	unsigned i;

	for (i = 0; i < 4; i++)
		set_element(to, size, base + i, element(from, size, base + (imm >> (2 * i) & 3)));
}

void
op_pshufd(struct exec *x)
{
	struct vec from = get_vec(x, 1), to = from;

	shuffle4(&to, from, 4, 0, x->in.imm);
	put_vec(x, 0, to);
}

/* PSHUFW, PSHUFLW. */
void
op_pshuflw(struct exec *x)
{
	struct vec from = get_vec(x, 1), to = from;

	shuffle4(&to, from, 2, 0, x->in.imm);
	put_vec(x, 0, to);
}

void
op_pshufhw(struct exec *x)
{
	struct vec from = get_vec(x, 1), to = from;

	shuffle4(&to, from, 2, 4, x->in.imm);
	put_vec(x, 0, to);
}

void
op_shufps(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1), to = a;
	unsigned i;

	for (i = 0; i < 4; i++)
		set_element(&to, 4, i, element(i < 2 ? a : b, 4, x->in.imm >> (2 * i) & 3));
	put_vec(x, 0, to);
}

void
op_shufpd(struct exec *x)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1);

	put_vec(x, 0, (struct vec){ { a.q[x->in.imm & 1], b.q[x->in.imm >> 1 & 1] } });
}

/* PUNPCKLxx and PUNPCKHxx, UNPCKLPS ...: elements of both, by turns. */
static void
interleave(struct exec *x, unsigned size, bool high)
{
	struct vec a = get_vec(x, 0), b = get_vec(x, 1), to = { { 0, 0 } };
	unsigned n = x->in.operand[0].size / size / 2, i;

	for (i = 0; i < n; i++) {
		set_element(&to, size, 2 * i, element(a, size, i + (high ? n : 0)));
		set_element(&to, size, 2 * i + 1, element(b, size, i + (high ? n : 0)));
	}
	put_vec(x, 0, to);
}

void
op_punpcklbw(struct exec *x)
{
	interleave(x, 1, false);
}

void
op_punpcklwd(struct exec *x)
{
	interleave(x, 2, false);
}

/* PUNPCKLDQ, UNPCKLPS. */
void
op_punpckldq(struct exec *x)
{
	interleave(x, 4, false);
}

/* PUNPCKLQDQ, UNPCKLPD. */
void
op_punpcklqdq(struct exec *x)
{
	interleave(x, 8, false);
}

void
op_punpckhbw(struct exec *x)
{
	interleave(x, 1, true);
}

void
op_punpckhwd(struct exec *x)
{
	interleave(x, 2, true);
}

/* PUNPCKHDQ, UNPCKHPS. */
void
op_punpckhdq(struct exec *x)
{
	interleave(x, 4, true);
}

/* PUNPCKHQDQ, UNPCKHPD. */
void
op_punpckhqdq(struct exec *x)
{
	interleave(x, 8, true);
}

/* --- to and from general registers --- */

void
op_pinsrw(struct exec *x)
{
	struct vec to = get_vec(x, 0);
	unsigned n = x->in.operand[0].size / 2;
	uint64_t value = get(x, 1);

	set_element(&to, 2, (unsigned)x->in.imm & (n - 1), value);
	put_vec(x, 0, to);
}

void
op_pextrw(struct exec *x)
{
	struct vec v = get_vec(x, 1);
	unsigned n = x->in.operand[1].size / 2;

	put_vec(x, 0, (struct vec){ { element(v, 2, (unsigned)x->in.imm & (n - 1)), 0 } });
}

/* The top bit of each element. */
static void
move_mask(struct exec *x, unsigned size)
{
	struct vec v = get_vec(x, 1);
	unsigned n = x->in.operand[1].size / size, i;
	uint64_t mask = 0;

	for (i = 0; i < n; i++)
		mask |= (element(v, size, i) >> (8 * size - 1)) << i;
	put_vec(x, 0, (struct vec){ { mask, 0 } });
}

void
op_pmovmskb(struct exec *x)
{
	move_mask(x, 1);
}

void
op_movmskps(struct exec *x)
{
	move_mask(x, 4);
}

void
op_movmskpd(struct exec *x)
{
	move_mask(x, 8);
}
