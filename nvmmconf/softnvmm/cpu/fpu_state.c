/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Saving, restoring and controlling the x87 and SSE state (SDM 1, 8.1.10,
 * 10.5 and chapter 13).
 */
#include "fpu.h"

/* XSTATE_BV, behind the 512 bytes of the legacy area (SDM 1, 13.4.2). */
#define XSAVE_HEADER	512u
#define XSAVE_SIZE	576u

/* --- control and status words --- */

/* FNINIT leaves the registers alone, but calls them empty. */
void
fpu_init(struct cpu *cpu)
{
	fpu_set_top(cpu, 0);
	fx_set16(cpu, FX_FCW, 0x37F);
	fx_set16(cpu, FX_FSW, 0);
	cpu->fxsave[FX_FTW] = 0;
	fx_set16(cpu, FX_FOP, 0);
	fx_set64(cpu, FX_FIP, 0);
	fx_set64(cpu, FX_FDP, 0);
}

void
op_fninit(struct exec *x)
{
	fpu_init(x->cpu);
}

void
op_fnclex(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	fx_set16(cpu, FX_FSW, fx_get16(cpu, FX_FSW) &
	    ~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B));
}

static void
load_fcw(struct cpu *cpu, unsigned value)
{
	fx_set16(cpu, FX_FCW, (value & FCW_VALID) | FCW_RESERVED);
}

void
op_fldcw(struct exec *x)
{
	load_fcw(x->cpu, (unsigned)get(x, 0));
	fpu_summary(x->cpu);
}

void
op_fnstcw(struct exec *x)
{
	put(x, 0, fx_get16(x->cpu, FX_FCW));
}

/* To memory, or AX. */
void
op_fnstsw(struct exec *x)
{
	put(x, 0, fx_get16(x->cpu, FX_FSW));
}

void
op_ldmxcsr(struct exec *x)
{
	uint32_t value = (uint32_t)get(x, 0);
	unsigned i;

	if (value & ~MXCSR_VALID)
		gp0(x);
	for (i = 0; i < 4; i++, value >>= 8)
		x->cpu->fxsave[FX_MXCSR + i] = (uint8_t)value;
}

void
op_stmxcsr(struct exec *x)
{
	put(x, 0, fx_mxcsr(x->cpu));
}

/* --- the environment: FNSTENV, FLDENV, FNSAVE, FRSTOR --- */

/* The full tag of physical register i: valid, zero, special, empty (8.1.7). */
static unsigned
full_tag(const struct cpu *cpu, unsigned i)
{
	struct f80 v = fpu_st(cpu, (i - fpu_top(cpu)) & 7);
	unsigned exponent = v.se & 0x7FFF;

	if (!(cpu->fxsave[FX_FTW] >> i & 1))
		return 3;
	if (exponent == 0 && v.m == 0)
		return 1;
	if (exponent == 0 || exponent == 0x7FFF || !(v.m >> 63))
		return 2;
	return 0;
}

static unsigned
full_tags(const struct cpu *cpu)
{
	unsigned i, tags = 0;

	for (i = 0; i < 8; i++)
		tags |= full_tag(cpu, i) << (2 * i);
	return tags;
}

static unsigned
environment_size(const struct exec *x)
{
	return x->in.osize == 2 ? 14 : 28;
}

/*
 * SDM 1, figures 8-9 to 8-12.  Real and virtual-8086 mode have linear
 * addresses, in pieces, where protected mode has selectors.
 */
static void
store_environment(const struct exec *x, const struct span *s)
{
	const struct cpu *cpu = x->cpu;
	unsigned words[3] = {
		fx_get16(cpu, FX_FCW), fx_get16(cpu, FX_FSW), full_tags(cpu)
	};
	bool real = !protected_mode(cpu) || (cpu->rflags & FLAG_VM);
	uint64_t fip = fx_get64(cpu, FX_FIP), fdp = fx_get64(cpu, FX_FDP);
	uint64_t ips = fip >> 32 & 0xFFFF, dps = fdp >> 32 & 0xFFFF;
	unsigned fop = fx_get16(cpu, FX_FOP) & 0x7FF, i;
	uint32_t ip = (uint32_t)fip, dp = (uint32_t)fdp;

	if (mode64(cpu))
		ips = dps = 0;
	if (real) {
		ip += (uint32_t)ips << 4;
		dp += (uint32_t)dps << 4;
	}
	if (x->in.osize == 2) {
		for (i = 0; i < 3; i++)
			span_store(s, 2 * i, 2, words[i]);
		span_store(s, 6, 2, ip);
		span_store(s, 8, 2, real ? (ip >> 4 & 0xF000) | fop : ips);
		span_store(s, 10, 2, dp);
		span_store(s, 12, 2, real ? dp >> 4 & 0xF000 : dps);
		return;
	}
	for (i = 0; i < 3; i++)
		span_store(s, 4 * i, 4, 0xFFFF0000 | words[i]);
	if (real) {
		span_store(s, 12, 4, 0xFFFF0000 | (ip & 0xFFFF));
		span_store(s, 16, 4, (ip >> 4 & 0x0FFFF000) | fop);
		span_store(s, 20, 4, 0xFFFF0000 | (dp & 0xFFFF));
		span_store(s, 24, 4, dp >> 4 & 0x0FFFF000);
	} else {
		span_store(s, 12, 4, ip);
		span_store(s, 16, 4, (uint64_t)fop << 16 | ips);
		span_store(s, 20, 4, dp);
		span_store(s, 24, 4, 0xFFFF0000 | dps);
	}
}

static void
load_environment(struct exec *x, const struct span *s)
{
	struct cpu *cpu = x->cpu;
	unsigned step = x->in.osize == 2 ? 2 : 4, tags, i;
	bool real = !protected_mode(cpu) || (cpu->rflags & FLAG_VM);
	uint64_t ip, ips, dp, dps, fop = fx_get16(cpu, FX_FOP);

	ip = span_load(s, 3 * step, step);
	ips = span_load(s, 4 * step, step);
	dp = span_load(s, 5 * step, step);
	dps = span_load(s, 6 * step, step);
	if (real) {
		fop = ips & 0x7FF;
		ip = (ip & 0xFFFF) | (ips & ~UINT64_C(0xFFF)) << 4;
		dp = (dp & 0xFFFF) | (dps & ~UINT64_C(0xFFF)) << 4;
		ips = dps = 0;
	} else if (step == 4) {
		fop = ips >> 16 & 0x7FF;
	}
	load_fcw(cpu, (unsigned)span_load(s, 0, 2));
	fpu_set_top(cpu, span_load(s, step, 2) >> 11 & 7);
	fx_set16(cpu, FX_FSW, (unsigned)span_load(s, step, 2));
	tags = (unsigned)span_load(s, 2 * step, 2);
	cpu->fxsave[FX_FTW] = 0;
	for (i = 0; i < 8; i++)
		if ((tags >> (2 * i) & 3) != 3)
			cpu->fxsave[FX_FTW] |= (uint8_t)(1u << i);
	fx_set16(cpu, FX_FOP, (unsigned)fop);
	fx_set64(cpu, FX_FIP, (uint32_t)ip | (ips & 0xFFFF) << 32);
	fx_set64(cpu, FX_FDP, (uint32_t)dp | (dps & 0xFFFF) << 32);
	fpu_summary(cpu);
}

/* All exceptions are masked once the environment is stored. */
void
op_fnstenv(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct span s;

	mem_span(x, environment_size(x), 1, ACCESS_WRITE, &s);
	store_environment(x, &s);
	fx_set16(cpu, FX_FCW, fx_get16(cpu, FX_FCW) | FCW_MASKS);
	fpu_summary(cpu);
}

void
op_fldenv(struct exec *x)
{
	struct span s;

	mem_span(x, environment_size(x), 1, ACCESS_READ, &s);
	load_environment(x, &s);
}

/* The environment, then ST(0) to ST(7), ten bytes each; then as FNINIT. */
void
op_fnsave(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned at = environment_size(x), i;
	struct span s;

	mem_span(x, at + 80, 1, ACCESS_WRITE, &s);
	store_environment(x, &s);
	for (i = 0; i < 8; i++, at += 10) {
		struct f80 v = fpu_st(cpu, i);

		span_store(&s, at, 8, v.m);
		span_store(&s, at + 8, 2, v.se);
	}
	fpu_init(cpu);
}

void
op_frstor(struct exec *x)
{
	unsigned at = environment_size(x), i;
	struct span s;

	mem_span(x, at + 80, 1, ACCESS_READ, &s);
	load_environment(x, &s);
	for (i = 0; i < 8; i++, at += 10)
		fpu_set_st(x->cpu, i, (struct f80){
		    span_load(&s, at, 8), (uint16_t)span_load(&s, at + 8, 2) });
}

/* --- FXSAVE, FXRSTOR --- */

/* Without REX.W the instruction and data pointers have 32 bits, and selectors. */
static uint64_t
image_pointer(const struct exec *x, unsigned at)
{
	uint64_t value = fx_get64(x->cpu, at);

	if (x->in.osize == 8)
		return value;
	if (mode64(x->cpu))
		return (uint32_t)value;
	return value & UINT64_C(0xFFFFFFFFFFFF);
}

static void
save_x87(const struct exec *x, const struct span *s)
{
	const struct cpu *cpu = x->cpu;
	unsigned i;

	span_store(s, FX_FCW, 2, fx_get16(cpu, FX_FCW));
	span_store(s, FX_FSW, 2, fx_get16(cpu, FX_FSW));
	span_store(s, FX_FTW, 2, cpu->fxsave[FX_FTW]);
	span_store(s, FX_FOP, 2, fx_get16(cpu, FX_FOP) & 0x7FF);
	span_store(s, FX_FIP, 8, image_pointer(x, FX_FIP));
	span_store(s, FX_FDP, 8, image_pointer(x, FX_FDP));
	for (i = 0; i < 8; i++) {
		struct f80 v = fpu_st(cpu, i);

		span_store(s, FX_ST + 16 * i, 8, v.m);
		span_store(s, FX_ST + 16 * i + 8, 8, v.se);
	}
}

static void
save_mxcsr(const struct exec *x, const struct span *s)
{
	span_store(s, FX_MXCSR, 4, fx_mxcsr(x->cpu));
	span_store(s, FX_MXCSR_MASK, 4, MXCSR_VALID);
}

/* XMM8 to XMM15 are there in 64-bit mode only. */
static unsigned
xmm_bytes(const struct exec *x)
{
	return mode64(x->cpu) ? 256 : 128;
}

static void
save_xmm(const struct exec *x, const struct span *s)
{
	unsigned i;

	for (i = 0; i < xmm_bytes(x); i += 8)
		span_store(s, FX_XMM + i, 8, fx_get64(x->cpu, FX_XMM + i));
}

static void
restore_x87(struct exec *x, const struct span *s)
{
	struct cpu *cpu = x->cpu;
	unsigned i;

	load_fcw(cpu, (unsigned)span_load(s, FX_FCW, 2));
	fx_set16(cpu, FX_FSW, (unsigned)span_load(s, FX_FSW, 2));
	cpu->fxsave[FX_FTW] = (uint8_t)span_load(s, FX_FTW, 1);
	fx_set16(cpu, FX_FOP, span_load(s, FX_FOP, 2) & 0x7FF);
	fx_set64(cpu, FX_FIP, span_load(s, FX_FIP, 8));
	fx_set64(cpu, FX_FDP, span_load(s, FX_FDP, 8));
	fx_set64(cpu, FX_FIP, image_pointer(x, FX_FIP));
	fx_set64(cpu, FX_FDP, image_pointer(x, FX_FDP));
	for (i = 0; i < 8; i++)
		fpu_set_st(cpu, i, (struct f80){ span_load(s, FX_ST + 16 * i, 8),
		    (uint16_t)span_load(s, FX_ST + 16 * i + 8, 2) });
	fpu_summary(cpu);
}

static void
restore_mxcsr(struct exec *x, const struct span *s)
{
	unsigned i;

	for (i = 0; i < 4; i++)
		x->cpu->fxsave[FX_MXCSR + i] = (uint8_t)span_load(s, FX_MXCSR + i, 1);
}

static void
check_mxcsr(struct exec *x, const struct span *s)
{
	if (span_load(s, FX_MXCSR, 4) & ~(uint64_t)MXCSR_VALID)
		gp0(x);
}

static void
restore_xmm(struct exec *x, const struct span *s)
{
	unsigned i;

	for (i = 0; i < xmm_bytes(x); i += 8)
		fx_set64(x->cpu, FX_XMM + i, span_load(s, FX_XMM + i, 8));
}

void
op_fxsave(struct exec *x)
{
	struct span s;

	mem_span(x, 512, 16, ACCESS_WRITE, &s);
	save_x87(x, &s);
	save_mxcsr(x, &s);
	save_xmm(x, &s);
}

void
op_fxrstor(struct exec *x)
{
	struct span s;

	mem_span(x, 512, 16, ACCESS_READ, &s);
	check_mxcsr(x, &s);
	restore_x87(x, &s);
	restore_mxcsr(x, &s);
	restore_xmm(x, &s);
}

/* --- XSAVE, XRSTOR, XGETBV --- */

static uint64_t
requested(const struct cpu *cpu)
{
	uint64_t mask = cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];

	return mask & cpu->xcr0;
}

/*
 * Which components differ from their initial state (SDM 1, 13.6): a processor
 * may say more than that, never less.
 */
static uint64_t
in_use(const struct cpu *cpu)
{
	static const uint8_t zeros[256];
	uint64_t used = 0;

	if (fx_get16(cpu, FX_FCW) != 0x37F || fx_get16(cpu, FX_FSW) != 0 ||
	    cpu->fxsave[FX_FTW] != 0 || fx_get16(cpu, FX_FOP) != 0 ||
	    memcmp(cpu->fxsave + FX_FIP, zeros, 16) != 0 ||
	    memcmp(cpu->fxsave + FX_ST, zeros, 128) != 0)
		used |= XCR0_X87;
	if (memcmp(cpu->fxsave + FX_XMM, zeros, 256) != 0)
		used |= XCR0_SSE;
	return used;
}

/* XSAVE leaves components in their initial state as they are, but for MXCSR. */
static void
xsave(struct exec *x, uint64_t write)
{
	const struct cpu *cpu = x->cpu;
	uint64_t want = requested(cpu), old;
	struct span s;

	mem_span(x, XSAVE_SIZE, 64, ACCESS_WRITE, &s);
	old = span_load(&s, XSAVE_HEADER, 8);
	if (want & write & XCR0_X87)
		save_x87(x, &s);
	if (want & XCR0_SSE)
		save_mxcsr(x, &s);
	if (want & write & XCR0_SSE)
		save_xmm(x, &s);
	span_store(&s, XSAVE_HEADER, 8, (old & ~want) | (want & in_use(cpu)));
}

void
op_xsave(struct exec *x)
{
	xsave(x, UINT64_MAX);
}

/* The initial-state optimization; there is no modified-state one. */
void
op_xsaveopt(struct exec *x)
{
	xsave(x, in_use(x->cpu));
}

/* SDM 1, 13.8.  The standard format only: a set bit 63 of XCOMP_BV is #GP. */
void
op_xrstor(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t want = requested(cpu), have;
	struct span s;

	mem_span(x, XSAVE_SIZE, 64, ACCESS_READ, &s);
	have = span_load(&s, XSAVE_HEADER, 8);
	if ((have & ~cpu->xcr0) != 0 || span_load(&s, XSAVE_HEADER + 8, 8) != 0 ||
	    span_load(&s, XSAVE_HEADER + 16, 8) != 0)
		gp0(x);
	if (want & XCR0_SSE)
		check_mxcsr(x, &s);
	if (want & have & XCR0_X87) {
		restore_x87(x, &s);
	} else if (want & XCR0_X87) {
		fpu_init(cpu);
		memset(cpu->fxsave + FX_ST, 0, 128);
	}
	if (want & XCR0_SSE)
		restore_mxcsr(x, &s);
	if (want & have & XCR0_SSE)
		restore_xmm(x, &s);
	else if (want & XCR0_SSE)
		memset(cpu->fxsave + FX_XMM, 0, xmm_bytes(x));
}

/* XCR0, and with ECX 1 the components in use. */
void
op_xgetbv(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint32_t n = (uint32_t)cpu->gpr[CPU_RCX];
	uint64_t value = cpu->xcr0;

	if (!(cpu->cr4 & CR4_OSXSAVE))
		ud(x);
	if (n > 1)
		gp0(x);
	if (n == 1)
		value &= in_use(cpu);
	cpu->gpr[CPU_RAX] = (uint32_t)value;
	cpu->gpr[CPU_RDX] = value >> 32;
}

/* EMMS: all registers empty, TOP 0 (SDM 3A, table 12-2). */
void
op_emms(struct exec *x)
{
	fpu_set_top(x->cpu, 0);
	x->cpu->fxsave[FX_FTW] = 0;
}
