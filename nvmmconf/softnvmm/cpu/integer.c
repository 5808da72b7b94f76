/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Binary integer arithmetic and logic (SDM 1, 7.3.2 and 7.3.4).
 */
#include "internal.h"

/* --- addition and subtraction --- */

/* The carry out of each bit position of a + b (+ 1) = r, and of a - b (- 1). */
static uint64_t
carries_add(uint64_t a, uint64_t b, uint64_t r)
{
	return (a & b) | ((a | b) & ~r);
}

static uint64_t
borrows_sub(uint64_t a, uint64_t b, uint64_t r)
{
	return (~a & b) | ((~a | b) & r);
}

static uint64_t
add_flags(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
	uint64_t c = carries_add(a, b, r), f = flags_of(r, size), sign = sign_of(size);

	if (c & sign)
		f |= FLAG_CF;
	if (c & 8)
		f |= FLAG_AF;
	if ((a ^ r) & (b ^ r) & sign)
		f |= FLAG_OF;
	return f;
}

static uint64_t
sub_flags(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
	uint64_t c = borrows_sub(a, b, r), f = flags_of(r, size), sign = sign_of(size);

	if (c & sign)
		f |= FLAG_CF;
	if (c & 8)
		f |= FLAG_AF;
	if ((a ^ b) & (a ^ r) & sign)
		f |= FLAG_OF;
	return f;
}

void
compare(struct exec *x, uint64_t a, uint64_t b, unsigned size)
{
	set_flags(x->cpu, FLAG_STATUS, sub_flags(a, b, a - b, size));
}

static void
add_with(struct exec *x, uint64_t carry)
{
	uint64_t a = get_rmw(x, 0), b = get(x, 1), r = a + b + carry;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, add_flags(a, b, r, x->in.operand[0].size));
}

static void
subtract_with(struct exec *x, uint64_t borrow)
{
	uint64_t a = get_rmw(x, 0), b = get(x, 1), r = a - b - borrow;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, sub_flags(a, b, r, x->in.operand[0].size));
}

void
op_add(struct exec *x)
{
	add_with(x, 0);
}

void
op_adc(struct exec *x)
{
	add_with(x, x->cpu->rflags & FLAG_CF);
}

void
op_sub(struct exec *x)
{
	subtract_with(x, 0);
}

void
op_sbb(struct exec *x)
{
	subtract_with(x, x->cpu->rflags & FLAG_CF);
}

void
op_cmp(struct exec *x)
{
	uint64_t a = get(x, 0);

	compare(x, a, get(x, 1), x->in.operand[0].size);
}

/* INC and DEC leave CF alone. */
void
op_inc(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t a = get_rmw(x, 0), r = a + 1;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS & ~FLAG_CF, add_flags(a, 1, r, size));
}

void
op_dec(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t a = get_rmw(x, 0), r = a - 1;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS & ~FLAG_CF, sub_flags(a, 1, r, size));
}

void
op_neg(struct exec *x)
{
	uint64_t a = get_rmw(x, 0), r = 0 - a;

	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, sub_flags(0, a, r, x->in.operand[0].size));
}

/* The old destination goes to the source, the sum to the destination. */
void
op_xadd(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t a = get_rmw(x, 0), b = get(x, 1), r = a + b;

	put(x, 1, a);
	put(x, 0, r);
	set_flags(x->cpu, FLAG_STATUS, add_flags(a, b, r, size));
}

/*
 * Memory is written in either case (SDM 2A, CMPXCHG), so it is checked for a
 * write.  A register that does not compare equal keeps its upper half.
 */
void
op_cmpxchg(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size;
	uint64_t dest = get_rmw(x, 0), acc = cpu->gpr[CPU_RAX] & mask_of(size);

	compare(x, acc, dest, size);
	if (acc == dest) {
		put(x, 0, get(x, 1));
	} else {
		if (x->in.operand[0].kind == OPERAND_MEM)
			put(x, 0, dest);
		set_gpr(cpu, CPU_RAX, size, dest);
	}
}

/*
 * CMPXCHG8B, and CMPXCHG16B with REX.W, which must be aligned.  Where it does
 * not compare equal the old value is written back, locked like a new one.
 */
void
op_cmpxchg8b(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned half = x->in.osize == 8 ? 8 : 4;
	uint64_t linear, old[2], new[2];
	bool equal, done;

	linear = linear_address(x, x->in.seg, x->in.ea, 2 * half, ACCESS_WRITE);
	if (half == 8 && (linear & 15) != 0)
		gp0(x);
	span_of(x, linear, 2 * half, ACCESS_WRITE, RANK_CPL, &x->rmw);
	old[0] = span_load(&x->rmw, 0, half);
	old[1] = span_load(&x->rmw, half, half);
	equal = old[0] == (cpu->gpr[CPU_RAX] & mask_of(half)) &&
	    old[1] == (cpu->gpr[CPU_RDX] & mask_of(half));
	new[0] = equal ? cpu->gpr[CPU_RBX] & mask_of(half) : old[0];
	new[1] = equal ? cpu->gpr[CPU_RCX] & mask_of(half) : old[1];
	if (half == 8)
		done = span_exchange16(&x->rmw, old, new);
	else
		done = span_exchange(&x->rmw, 8, old[0] | old[1] << 32, new[0] | new[1] << 32);
	if (!done)
		retry(x);
	if (!equal) {
		set_gpr(cpu, CPU_RAX, half, old[0]);
		set_gpr(cpu, CPU_RDX, half, old[1]);
	}
	set_flags(cpu, FLAG_ZF, equal ? FLAG_ZF : 0);
}

/* --- logic --- */

/* CF and OF clear; AF is undefined, and cleared here. */
static void
logic_flags(struct exec *x, uint64_t r)
{
	set_flags(x->cpu, FLAG_STATUS, flags_of(r, x->in.operand[0].size));
}

void
op_and(struct exec *x)
{
	uint64_t a = get_rmw(x, 0), r = a & get(x, 1);

	put(x, 0, r);
	logic_flags(x, r);
}

void
op_or(struct exec *x)
{
	uint64_t a = get_rmw(x, 0), r = a | get(x, 1);

	put(x, 0, r);
	logic_flags(x, r);
}

void
op_xor(struct exec *x)
{
	uint64_t a = get_rmw(x, 0), r = a ^ get(x, 1);

	put(x, 0, r);
	logic_flags(x, r);
}

void
op_test(struct exec *x)
{
	uint64_t a = get(x, 0);

	logic_flags(x, a & get(x, 1));
}

void
op_not(struct exec *x)
{
	put(x, 0, ~get_rmw(x, 0));
}

/* --- multiplication and division --- */

/* The 128-bit types are the one extension used: the ISA has such products. */
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

/* AX, or (E/R)DX:(E/R)AX. */
static void
put_double(struct cpu *cpu, unsigned size, uint64_t low, uint64_t high)
{
	if (size == 1) {
		set_gpr(cpu, CPU_RAX, 2, (low & 0xFF) | high << 8);
	} else {
		set_gpr(cpu, CPU_RAX, size, low);
		set_gpr(cpu, CPU_RDX, size, high);
	}
}

/* CF and OF say that the upper half matters; the rest is undefined. */
static void
product_flags(struct exec *x, uint64_t low, unsigned size, bool overflow)
{
	set_flags(x->cpu, FLAG_STATUS, flags_of(low, size) |
	    (overflow ? FLAG_CF | FLAG_OF : 0));
}

void
op_mul(struct exec *x)
{
	unsigned size = x->in.operand[0].size, bits = 8 * size;
	u128 r = (u128)get(x, 0) * (x->cpu->gpr[CPU_RAX] & mask_of(size));
	uint64_t low = (uint64_t)r & mask_of(size), high = (uint64_t)(r >> bits);

	put_double(x->cpu, size, low, high);
	product_flags(x, low, size, high != 0);
}

/* Signed product of two operands of a size; says whether it fits. */
static uint64_t
signed_product(uint64_t a, uint64_t b, unsigned size, uint64_t *high, bool *fits)
{
	i128 r = (i128)(int64_t)sign_extend(a, size) * (int64_t)sign_extend(b, size);
	uint64_t low = (uint64_t)r & mask_of(size);

	*high = (uint64_t)((u128)r >> (8 * size));
	*fits = r == (int64_t)sign_extend(low, size);
	return low;
}

void
op_imul(struct exec *x)
{
	unsigned size = x->in.operand[0].size;
	uint64_t high, low;
	bool fits;

	low = signed_product(get(x, 0), x->cpu->gpr[CPU_RAX], size, &high, &fits);
	put_double(x->cpu, size, low, high);
	product_flags(x, low, size, !fits);
}

static void
imul_to(struct exec *x, unsigned a, unsigned b)
{
	unsigned size = x->in.operand[0].size;
	uint64_t high, low;
	bool fits;

	low = signed_product(get(x, a), get(x, b), size, &high, &fits);
	put(x, 0, low);
	product_flags(x, low, size, !fits);
}

/* IMUL r, r/m. */
void
op_imul2(struct exec *x)
{
	imul_to(x, 0, 1);
}

/* IMUL r, r/m, imm. */
void
op_imul3(struct exec *x)
{
	imul_to(x, 1, 2);
}

static u128
dividend(const struct cpu *cpu, unsigned size)
{
	if (size == 1)
		return cpu->gpr[CPU_RAX] & 0xFFFF;
	return (u128)(cpu->gpr[CPU_RDX] & mask_of(size)) << (8 * size) |
	    (cpu->gpr[CPU_RAX] & mask_of(size));
}

/* All flags are undefined; they are left alone. */
void
op_div(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size;
	uint64_t by = get(x, 0);
	u128 n = dividend(cpu, size);

	if (by == 0 || n / by > mask_of(size))
		fault(x, EXC_DE, 0);
	put_double(cpu, size, (uint64_t)(n / by), (uint64_t)(n % by));
}

void
op_idiv(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned size = x->in.operand[0].size;
	int64_t by = (int64_t)sign_extend(get(x, 0), size);
	u128 raw = dividend(cpu, size), sign = (u128)1 << (16 * size - 1);
	i128 n = (i128)((raw ^ sign) - sign), q;

	/* The one quotient that 128 bits cannot hold, and division by 0. */
	if (by == 0 || (by == -1 && raw == sign))
		fault(x, EXC_DE, 0);
	q = n / by;
	if (q != (int64_t)sign_extend((uint64_t)q, size))
		fault(x, EXC_DE, 0);
	put_double(cpu, size, (uint64_t)q, (uint64_t)(n % by));
}

/* --- sign extension of the accumulator --- */

/* CBW, CWDE, CDQE. */
void
op_cbw(struct exec *x)
{
	unsigned size = x->in.osize;

	set_gpr(x->cpu, CPU_RAX, size, sign_extend(x->cpu->gpr[CPU_RAX], size / 2));
}

/* CWD, CDQ, CQO. */
void
op_cwd(struct exec *x)
{
	unsigned size = x->in.osize;

	set_gpr(x->cpu, CPU_RDX, size,
	    x->cpu->gpr[CPU_RAX] & sign_of(size) ? UINT64_MAX : 0);
}
