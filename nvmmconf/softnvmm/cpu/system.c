/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * System instructions: control registers, SYSCALL, IF, TSC
 * (SDM 3A, chapter 2).
 */
#include "internal.h"

#define CR0_DEFINED	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE |	\
	CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

/* --- control registers --- */

/*
 * SDM 3A 2.5 and 9.8.5, APM 2 14.6: what a new CR0 may be.  NW without CD is a
 * matter of the cache, hence of a hypervisor that asks for these writes.
 */
static bool
write_cr0(struct cpu *cpu, uint64_t value)
{
	bool pg = (value & CR0_PG) != 0;

	if (value >> 32 != 0 || (pg && !(value & CR0_PE)))
		return false;
	if ((value & CR0_NW) && !(value & CR0_CD) &&
	    !(cpu->intercepts & CPU_INTERCEPT_CR_WRITE))
		return false;
	if (pg && !(cpu->cr0 & CR0_PG) && (cpu->efer & EFER_LME)) {
		if (!(cpu->cr4 & CR4_PAE) || cpu->seg[CPU_CS].l)
			return false;
		cpu->efer |= EFER_LMA;
	}
	if (!pg && (cpu->cr0 & CR0_PG)) {
		if (mode64(cpu))
			return false;
		cpu->efer &= ~(uint64_t)EFER_LMA;
	}
	cpu->cr0 = (value & CR0_DEFINED) | CR0_ET;
	return true;
}

static bool
write_cr4(struct cpu *cpu, uint64_t value)
{
	if (value & ~(uint64_t)CR4_VALID)
		return false;
	if (long_mode(cpu) && !(value & CR4_PAE))
		return false;
	cpu->cr4 = value;
	return true;
}

bool
cpu_write_cr(struct cpu *cpu, unsigned cr, uint64_t value)
{
	cpu->private.pdptes_wanted = true;
	return cr == 0 ? write_cr0(cpu, value) : write_cr4(cpu, value);
}

static void
guest_writes_cr(struct exec *x, unsigned cr, uint64_t value)
{
	if (x->cpu->intercepts & CPU_INTERCEPT_CR_WRITE) {
		x->exit->cr = cr;
		x->exit->value = value;
		leave(x, CPU_EXIT_CR_WRITE);
	}
	if (!cpu_write_cr(x->cpu, cr, value))
		gp0(x);
}

void
op_mov_from_cr(struct exec *x)
{
	const struct cpu *cpu = x->cpu;

	switch (x->in.reg) {
	case 0: put(x, 0, cpu->cr0); break;
	case 2: put(x, 0, cpu->cr2); break;
	case 3: put(x, 0, cpu->cr3); break;
	case 4: put(x, 0, cpu->cr4); break;
	case 8: put(x, 0, cpu->cr8); break;
	default: ud(x);
	}
}

void
op_mov_to_cr(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t value = get(x, 0);

	switch (x->in.reg) {
	case 0: case 4:
		guest_writes_cr(x, x->in.reg, value);
		break;
	case 2:
		cpu->cr2 = value;
		break;
	case 3:
		if (value & ~PHYS_MASK)
			gp0(x);
		check_pdptes(x, value);
		cpu->cr3 = value;
		cpu->private.pdptes_wanted = true;
		tlb_flush_local(cpu);
		break;
	case 8:
		if (value > 0xF && !(cpu->intercepts & CPU_CR8_WIDE))
			gp0(x);
		cpu->cr8 = value;
		if (cpu->intercepts & CPU_INTERCEPT_CR8_WRITE)
			x->cr8_written = true;
		break;
	default:
		ud(x);
	}
}

void
op_clts(struct exec *x)
{
	x->cpu->cr0 &= ~(uint64_t)CR0_TS;
}

/* LMSW sets PE but never clears it. */
void
op_lmsw(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t low = get(x, 0) & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);

	cpu->cr0 = (cpu->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | low;
}

void
op_smsw(struct exec *x)
{
	put(x, 0, x->cpu->cr0);
}

/* --- flags --- */

static void
check_iopl(struct exec *x)
{
	const struct cpu *cpu = x->cpu;

	if (protected_mode(cpu) && cpu_cpl(cpu) > (cpu->rflags & FLAG_IOPL) >> 12)
		gp0(x);
}

void
op_cli(struct exec *x)
{
	check_iopl(x);
	x->cpu->rflags &= ~(uint64_t)FLAG_IF;
}

/* The shadow only if IF was clear (SDM 2B, STI). */
void
op_sti(struct exec *x)
{
	check_iopl(x);
	x->shadow = !(x->cpu->rflags & FLAG_IF);
	x->cpu->rflags |= FLAG_IF;
}

/* STAC, CLAC: #UD above CPL 0. */
static void
set_ac(struct exec *x, uint64_t value)
{
	if (protected_mode(x->cpu) && cpu_cpl(x->cpu) != 0)
		ud(x);
	set_flags(x->cpu, FLAG_AC, value);
}

void
op_stac(struct exec *x)
{
	set_ac(x, FLAG_AC);
}

void
op_clac(struct exec *x)
{
	set_ac(x, 0);
}

/* --- caches, time --- */

/* No limit is checked, no canonical form (SDM 2A, INVLPG). */
void
op_invlpg(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	const struct cpu_seg *seg = &cpu->seg[x->in.seg];
	uint64_t linear = x->in.ea;

	if (!mode64(cpu))
		linear = (uint32_t)(linear + seg->base);
	else if (x->in.seg == CPU_FS || x->in.seg == CPU_GS)
		linear += seg->base;
	tlb_flush_page(cpu, linear);
}

/* No cache is kept that it could write back. */
void
op_wbinvd(struct exec *x)
{
	(void)x;
}

/* LFENCE, MFENCE, SFENCE: any locked operation of the host's orders all. */
void
op_fence(struct exec *x)
{
	static _Thread_local int anything;

	(void)x;
	(void)__atomic_exchange_n(&anything, 0, __ATOMIC_SEQ_CST);
}

void
op_rdtsc(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t tsc;

	if ((cpu->cr4 & CR4_TSD) && protected_mode(cpu) && cpu_cpl(cpu) != 0)
		gp0(x);
	tsc = cpu->bus->tsc(cpu->bus_arg);
	cpu->gpr[CPU_RAX] = (uint32_t)tsc;
	cpu->gpr[CPU_RDX] = tsc >> 32;
}
