/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Debug registers and breakpoints (SDM 3B, 17.2 and 17.3).
 */
#include "internal.h"

#define DR6_BD		0x2000u
#define DR7_ENABLE	0x00FFu		/* L0 G0 ... L3 G3 */
#define DR7_GD		0x2000u

/* R/Wn */
#define ON_EXECUTE	0u
#define ON_WRITE	1u
/* 2, on I/O, may be set and never hits: IN, OUT, INS and OUTS are carried out
 * by the hypervisor, and there no debug trap follows them (cpu_advance()). */
#define ON_ACCESS	3u

static unsigned
condition_of(uint64_t dr7, unsigned n)
{
	return dr7 >> (16 + 4 * n) & 3;
}

static unsigned
length_of(uint64_t dr7, unsigned n)
{
	static const uint8_t bytes[4] = { 1, 2, 8, 4 };

	return bytes[dr7 >> (18 + 4 * n) & 3];
}

static bool
enabled(uint64_t dr7, unsigned n)
{
	return dr7 >> (2 * n) & 3;
}

/* Before an instruction: a fault, unless RF is set (SDM 3B 17.3.1.1). */
void
debug_instruction(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t at = cpu->rip, hits = 0;
	unsigned n;

	if (!(cpu->dr7 & DR7_ENABLE) || (cpu->rflags & FLAG_RF))
		return;
	/* MOV SS and POP SS hold off this one too (SDM 3A 7.8.3). */
	if (cpu->int_shadow && cpu->private.ss_shadow)
		return;
	if (!mode64(cpu))
		at = (uint32_t)(cpu->seg[CPU_CS].base + at);
	for (n = 0; n < 4; n++)
		if (enabled(cpu->dr7, n) && condition_of(cpu->dr7, n) == ON_EXECUTE &&
		    cpu->dr[n] == at)
			hits |= 1u << n;
	if (hits == 0)
		return;
	debug_exception(x, hits);
}

/* A data access of an instruction: a trap at its end (SDM 3B 17.3.1.2). */
void
debug_data(struct exec *x, uint64_t linear, unsigned len, bool write)
{
	const struct cpu *cpu = x->cpu;
	unsigned n;

	if (!(cpu->dr7 & DR7_ENABLE) || x->delivering.type != CPU_EVENT_NONE)
		return;
	for (n = 0; n < 4; n++) {
		unsigned when = condition_of(cpu->dr7, n), size = length_of(cpu->dr7, n);
		uint64_t at = cpu->dr[n] & ~(uint64_t)(size - 1);

		if (enabled(cpu->dr7, n) &&
		    (when == ON_ACCESS || (when == ON_WRITE && write)) &&
		    linear < at + size && at < linear + len)
			x->data_hits |= 1u << n;
	}
}

/*
 * #DB: bits of DR6 are only ever set; GD is off in the handler.  An instruction
 * breakpoint is a fault that does not set RF: the handler does (17.3.1.1).
 */
_Noreturn void
debug_exception(struct exec *x, uint64_t cause)
{
	struct cpu *cpu = x->cpu;

	cpu->dr6 |= cause;
	cpu->dr7 &= ~(uint64_t)DR7_GD;
	x->debug_fault = cause == DR6_BD;
	x->data_hits = 0;
	fault(x, EXC_DB, 0);
}

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE is set (17.2.2); DR7.GD guards all. */
static unsigned
debug_register(struct exec *x)
{
	unsigned n = x->in.reg;

	if (n > 7)
		ud(x);
	if (n == 4 || n == 5) {
		if (x->cpu->cr4 & CR4_DE)
			ud(x);
		n += 2;
	}
	if (x->cpu->dr7 & DR7_GD)
		debug_exception(x, DR6_BD);
	return n;
}

void
op_mov_from_dr(struct exec *x)
{
	const struct cpu *cpu = x->cpu;
	unsigned n = debug_register(x);

	put(x, 0, n == 6 ? cpu->dr6 : n == 7 ? cpu->dr7 : cpu->dr[n]);
}

void
op_mov_to_dr(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned n = debug_register(x);
	uint64_t value = get(x, 0);

	if (n < 4) {
		cpu->dr[n] = value;
		return;
	}
	if (value >> 32 != 0)
		gp0(x);
	if (n == 6) {
		cpu->dr6 = (value & 0xE00F) | 0xFFFF0FF0;
		return;
	}
	cpu->dr7 = (value & 0xFFFF23FF) | 0x400;
}
