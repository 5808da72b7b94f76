/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Single bits and bit scans (SDM 1, 7.3.7).
 */
#include "internal.h"

/*
 * BT and its kind.  A register bit offset into memory is signed and reaches
 * beyond the operand (SDM 2A, 3.1.1.9, BIT); an immediate one does not.
 */
static uint64_t
bit_offset(struct exec *x)
{
	struct insn *in = &x->in;
	unsigned size = in->operand[0].size;
	uint64_t n = get(x, 1);

	if (in->operand[0].kind == OPERAND_MEM && in->operand[1].kind == OPERAND_REG) {
		int64_t at = (int64_t)sign_extend(n, size);
		int64_t units = (at - (int64_t)(n & (8 * size - 1))) / (8 * (int)size);

		in->ea = (in->ea + (uint64_t)units * size) & mask_of(in->asize);
	}
	return n & (8 * size - 1);
}

static void
set_carry(struct exec *x, uint64_t value, uint64_t n)
{
	set_flags(x->cpu, FLAG_CF, value >> n & 1);
}

void
op_bt(struct exec *x)
{
	uint64_t n = bit_offset(x);

	set_carry(x, get(x, 0), n);
}

void
op_bts(struct exec *x)
{
	uint64_t n = bit_offset(x), a = get_rmw(x, 0);

	put(x, 0, a | UINT64_C(1) << n);
	set_carry(x, a, n);
}

void
op_btr(struct exec *x)
{
	uint64_t n = bit_offset(x), a = get_rmw(x, 0);

	put(x, 0, a & ~(UINT64_C(1) << n));
	set_carry(x, a, n);
}

void
op_btc(struct exec *x)
{
	uint64_t n = bit_offset(x), a = get_rmw(x, 0);

	put(x, 0, a ^ UINT64_C(1) << n);
	set_carry(x, a, n);
}

/* A source of 0 sets ZF and leaves the destination alone (APM 3, BSF). */
static void
scan_done(struct exec *x, uint64_t source, unsigned n)
{
	set_flags(x->cpu, FLAG_ZF, source == 0 ? FLAG_ZF : 0);
	if (source != 0)
		put(x, 0, n);
}

void
op_bsf(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = 0;

	while (n < 63 && !(a >> n & 1))
		n++;
	scan_done(x, a, n);
}

void
op_bsr(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = 63;

	while (n > 0 && !(a >> n & 1))
		n--;
	scan_done(x, a, n);
}

void
op_popcnt(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = 0;

	for (; a != 0; a &= a - 1)
		n++;
	put(x, 0, n);
	set_flags(x->cpu, FLAG_STATUS, n == 0 ? FLAG_ZF : 0);
}
