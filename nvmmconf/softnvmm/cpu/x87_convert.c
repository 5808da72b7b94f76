/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Between the double-extended format and the others: single, double, integers
 * (SDM 1, 4.2 and 4.8), with the exceptions that this meets.
 */
#include "fpu.h"

/* Single or double to double-extended; exact but for the exceptions it meets. */
struct f80
f80_widen(uint64_t bits, unsigned fraction, unsigned exponent_bits, unsigned *exceptions)
{
	uint64_t m = bits & ((UINT64_C(1) << fraction) - 1);
	unsigned top = (1u << exponent_bits) - 1, e = bits >> fraction & top;
	uint16_t sign = (uint16_t)((bits >> (fraction + exponent_bits)) << 15);
	int bias = (int)(top >> 1);

	m <<= 63 - fraction;
	if (e == top) {
		if (m != 0 && !(m & F80_QUIET))
			*exceptions |= FSW_IE;
		if (m != 0)
			m |= F80_QUIET;
		return (struct f80){ m | F80_INTEGER, (uint16_t)(sign | F80_EXP_MAX) };
	}
	if (e != 0)
		return (struct f80){ m | F80_INTEGER,
		    (uint16_t)(sign | ((int)e - bias + F80_BIAS)) };
	if (m == 0)
		return (struct f80){ 0, sign };
	*exceptions |= FSW_DE;
	for (e = 0; !(m & F80_INTEGER); e++)
		m <<= 1;
	return (struct f80){ m, (uint16_t)(sign | (F80_BIAS - bias + 1 - (int)e)) };
}

/* The part of a 64-bit mantissa below bit n, as rounding sees it. */
static uint64_t
round_off(struct cpu *cpu, uint64_t m, unsigned n, bool sticky, bool sign, bool *up, bool *inexact)
{
	unsigned rc = fx_get16(cpu, FX_FCW) >> 10 & 3;
	uint64_t kept = n >= 64 ? 0 : m >> n, half;
	bool over, equal;

	if (n == 0) {
		*inexact = sticky;
		over = equal = false;
	} else if (n > 64) {
		over = equal = false;
		*inexact = m != 0 || sticky;
	} else {
		uint64_t low = n == 64 ? m : m & ((UINT64_C(1) << n) - 1);

		half = UINT64_C(1) << (n - 1);
		over = low > half || (low == half && sticky);
		equal = low == half && !sticky;
		*inexact = low != 0 || sticky;
	}
	switch (rc) {
	case 0: *up = over || (equal && (kept & 1)); break;
	case 1: *up = sign && *inexact; break;
	case 2: *up = !sign && *inexact; break;
	default: *up = false; break;
	}
	return kept + *up;
}

/* Pseudo-NaNs, pseudo-infinities and unnormals: no format has them any more. */
bool
f80_unsupported(struct f80 v)
{
	return (v.se & F80_EXP_MAX) != 0 && !(v.m & F80_INTEGER);
}

/* A finite value to single or double: rounding, tininess after it (4.9.1.5). */
static uint64_t
narrow_finite(struct cpu *cpu, struct f80 v, unsigned fraction, unsigned exponent_bits,
    unsigned *exceptions, bool *up)
{
	int bias = (1 << (exponent_bits - 1)) - 1, e = v.se & F80_EXP_MAX;
	uint64_t sign = v.se >> 15, top = (UINT64_C(1) << exponent_bits) - 1, r;
	unsigned drop = 63 - fraction, rc = fx_get16(cpu, FX_FCW) >> 10 & 3;
	bool inexact, tiny_up, tiny_inexact;

	e = (e == 0 ? 1 : e) - F80_BIAS + bias;
	if (v.m == 0) {
		*up = false;
		return 0;
	}
	for (; !(v.m & F80_INTEGER); e--)
		v.m <<= 1;
	r = round_off(cpu, v.m, drop, false, sign, &tiny_up, &tiny_inexact);
	if (e <= 0 && !(e == 0 && r >> (fraction + 1))) {
		/* Tiny.  Underflow is reported only with a loss if it is masked. */
		unsigned shift = drop + (unsigned)(1 - e);

		r = round_off(cpu, v.m, shift > 65 ? 65 : shift, false, sign, up, &inexact);
		*exceptions |= inexact ? FSW_PE : 0;
		if (inexact || !fpu_masked(cpu, FSW_UE))
			*exceptions |= FSW_UE;
		return r;
	}
	if (e <= 0) {	/* rounds up to the smallest normal number */
		unsigned shift = drop + (unsigned)(1 - e);

		r = round_off(cpu, v.m, shift, false, sign, up, &inexact);
		*exceptions |= inexact ? FSW_PE : 0;
		return r;
	}
	*up = tiny_up;
	*exceptions |= tiny_inexact ? FSW_PE : 0;
	if ((uint64_t)(unsigned)e < top)
		r += (uint64_t)(unsigned)(e - 1) << fraction;
	if ((uint64_t)(unsigned)e >= top || r >> fraction >= top) {
		/* Infinity or the largest number, as RC says (table 4-10). */
		*exceptions |= FSW_OE | FSW_PE;
		*up = rc == 0 || (rc == 1 && sign) || (rc == 2 && !sign);
		r = (top << fraction) - !*up;
	}
	return r;
}

uint64_t
f80_narrow(struct cpu *cpu, struct f80 v, unsigned fraction, unsigned exponent_bits,
    unsigned *exceptions, bool *up)
{
	uint64_t top = (UINT64_C(1) << exponent_bits) - 1, r;
	uint64_t sign = (uint64_t)(v.se >> 15) << (fraction + exponent_bits);

	*up = false;
	if (f80_unsupported(v)) {
		*exceptions |= FSW_IE;
		return (top | UINT64_C(1) << exponent_bits) << fraction |
		    UINT64_C(1) << (fraction - 1);
	}
	if ((v.se & F80_EXP_MAX) == F80_EXP_MAX) {
		r = (v.m & ~F80_INTEGER) >> (63 - fraction);
		if (v.m != F80_INTEGER) {
			if (!(v.m & F80_QUIET))
				*exceptions |= FSW_IE;
			r |= UINT64_C(1) << (fraction - 1);
		}
		return sign | top << fraction | r;
	}
	return sign | narrow_finite(cpu, v, fraction, exponent_bits, exceptions, up);
}

/* To an integer of a size: invalid gives the indefinite one, 80...0. */
uint64_t
f80_to_integer(struct cpu *cpu, struct f80 v, unsigned size, bool truncate,
    unsigned *exceptions, bool *up)
{
	int e = (v.se & F80_EXP_MAX) - F80_BIAS;
	bool sign = v.se >> 15, inexact = false;
	uint64_t r = 0, limit = sign_of(size) - !sign;

	*up = false;
	if (f80_unsupported(v) || e > 63 || (v.se & F80_EXP_MAX) == F80_EXP_MAX)
		goto invalid;
	if ((v.se & F80_EXP_MAX) == 0)
		e = 1 - F80_BIAS;
	if (truncate) {
		r = e < 0 ? 0 : v.m >> (63 - e);
		inexact = e < 0 ? v.m != 0 : e < 63 && (v.m << (e + 1)) != 0;
	} else {
		unsigned drop = e < -2 ? 65 : (unsigned)(63 - e);

		r = round_off(cpu, v.m, drop, false, sign, up, &inexact);
	}
	if (r > limit || (r == 0 && e == 63))
		goto invalid;
	*exceptions |= inexact ? FSW_PE : 0;
	return sign ? 0 - r : r;
invalid:
	*exceptions |= FSW_IE;
	*up = false;
	return sign_of(size);
}
