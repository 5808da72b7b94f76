/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * BMI1, BMI2, LZCNT, ADX and CRC32 (SDM 1, 5.1.16 and 5.1.17; SDM 2).  Flags
 * that the SDM leaves undefined are cleared.
 */
#include "internal.h"

__extension__ typedef unsigned __int128 u128;

/* CF as given, SF and ZF of the result, OF 0. */
static void
finish(struct exec *x, uint64_t r, bool carry)
{
	unsigned size = x->in.operand[0].size;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, (flags_of(r, size) & (FLAG_SF | FLAG_ZF)) |
	    (carry ? FLAG_CF : 0));
}

static void
counted(struct exec *x, uint64_t source, unsigned n)
{
	put(x, 0, n);
	set_flags(x->cpu, FLAG_STATUS, (n == 0 ? FLAG_ZF : 0) | (source == 0 ? FLAG_CF : 0));
}

void
op_lzcnt(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = 8u * x->in.operand[1].size, r = 0;

	while (r < n && !(a >> (n - 1 - r) & 1))
		r++;
	counted(x, a, r);
}

void
op_tzcnt(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = 8u * x->in.operand[1].size, r = 0;

	while (r < n && !(a >> r & 1))
		r++;
	counted(x, a, r);
}

void
op_andn(struct exec *x)
{
	uint64_t a = get(x, 1);

	finish(x, ~a & get(x, 2), false);
}

void
op_blsr(struct exec *x)
{
	uint64_t a = get(x, 1);

	finish(x, a & (a - 1), a == 0);
}

void
op_blsmsk(struct exec *x)
{
	uint64_t a = get(x, 1);

	finish(x, a ^ (a - 1), a == 0);
	x->cpu->rflags &= ~(uint64_t)FLAG_ZF;
}

void
op_blsi(struct exec *x)
{
	uint64_t a = get(x, 1);

	finish(x, a & (0 - a), a != 0);
}

/* Bits start .. start + length - 1, which are the two low bytes of the third. */
void
op_bextr(struct exec *x)
{
	uint64_t a = get(x, 1), control = get(x, 2), r;
	unsigned start = control & 0xFF, length = control >> 8 & 0xFF;

	r = start >= 64 ? 0 : a >> start;
	if (length < 64)
		r &= (UINT64_C(1) << length) - 1;
	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, r == 0 ? FLAG_ZF : 0);
}

void
op_bzhi(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned n = get(x, 2) & 0xFF, bits = 8u * x->in.operand[0].size;

	if (n < bits)
		a &= (UINT64_C(1) << n) - 1;
	finish(x, a, n >= bits);
}

/* PDEP scatters the low bits of the second to where the third has ones. */
void
op_pdep(struct exec *x)
{
	uint64_t a = get(x, 1), mask = get(x, 2), r = 0;

	for (; mask != 0; mask &= mask - 1, a >>= 1)
		if (a & 1)
			r |= mask & (0 - mask);
	put(x, 0, r);
}

void
op_pext(struct exec *x)
{
	uint64_t a = get(x, 1), mask = get(x, 2), r = 0;
	unsigned n = 0;

	for (; mask != 0; mask &= mask - 1, n++)
		if (a & mask & (0 - mask))
			r |= UINT64_C(1) << n;
	put(x, 0, r);
}

/* The low half first: one register for both gets the high one. */
void
op_mulx(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	u128 r = (u128)get(x, 2) * (x->cpu->gpr[CPU_RDX] & mask_of(size));

	put(x, 1, (uint64_t)r & mask_of(size));
	put(x, 0, (uint64_t)(r >> (8 * size)));
}

void
op_rorx(struct exec *x)
{
	uint64_t a = get(x, 1);
	unsigned bits = 8u * x->in.operand[0].size, n = (unsigned)x->in.imm & (bits - 1);

	put(x, 0, n == 0 ? a : a >> n | a << (bits - n));
}

static unsigned
shift_count(struct exec *x)
{
	return (unsigned)get(x, 2) & (8u * x->in.operand[0].size - 1);
}

void
op_sarx(struct exec *x)
{
	int64_t a = (int64_t)sign_extend(get(x, 1), x->in.operand[0].size);

	put(x, 0, (uint64_t)(a >> shift_count(x)));
}

void
op_shlx(struct exec *x)
{
	uint64_t a = get(x, 1);

	put(x, 0, a << shift_count(x));
}

void
op_shrx(struct exec *x)
{
	uint64_t a = get(x, 1);

	put(x, 0, a >> shift_count(x));
}

/* ADCX has its carry in CF, ADOX in OF; no other flag changes. */
static void
add_with_flag(struct exec *x, unsigned flag)
{
	unsigned size = x->in.operand[0].size;
	u128 r = (u128)get(x, 0) + get(x, 1) + ((x->cpu->rflags & flag) != 0);

	put(x, 0, (uint64_t)r);
	set_flags(x->cpu, flag, r >> (8 * size) ? flag : 0);
}

void
op_adcx(struct exec *x)
{
	add_with_flag(x, FLAG_CF);
}

void
op_adox(struct exec *x)
{
	add_with_flag(x, FLAG_OF);
}

/* The polynomial 11EDC6F41 (Castagnoli), bits reflected: 82F63B78. */
void
op_crc32(struct exec *x)
{
	uint64_t crc = get(x, 0) & UINT32_MAX, data = get(x, 1);
	unsigned i;

	for (i = 0; i < 8u * x->in.operand[1].size; i++, data >>= 1)
		crc = ((crc ^ data) & 1) ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
	put(x, 0, crc);
}
