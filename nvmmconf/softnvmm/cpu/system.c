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
		cpu->cr3 = value;
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

/* --- fast system calls --- */

void
op_swapgs(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t base = cpu->seg[CPU_GS].base;

	cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
}

/* The flat segments that SYSCALL and SYSRET make up (SDM 2B, SYSCALL). */
static void
flat_segments(struct cpu *cpu, unsigned cs, unsigned ss, unsigned cpl, bool l)
{
	cpu->seg[CPU_CS] = (struct cpu_seg){
		.selector = (uint16_t)cs, .type = 0xB, .dpl = (uint8_t)cpl,
		.s = true, .p = true, .l = l, .db = !l, .g = true, .limit = 0xFFFFFFFF
	};
	cpu->seg[CPU_SS] = (struct cpu_seg){
		.selector = (uint16_t)ss, .type = 3, .dpl = (uint8_t)cpl,
		.s = true, .p = true, .db = true, .g = true, .limit = 0xFFFFFFFF
	};
}

void
op_syscall(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned cs = cpu->star >> 32 & 0xFFFC;
	uint64_t target = mode64(cpu) ? cpu->lstar : cpu->cstar;

	if (!(cpu->efer & EFER_SCE))
		ud(x);
	if (!long_mode(cpu))
		unimplemented(x);	/* AMD's legacy SYSCALL */
	cpu->gpr[CPU_RCX] = x->next_rip;
	cpu->gpr[CPU_R11] = cpu->rflags & ~(uint64_t)FLAG_RF;
	cpu->rflags &= ~(cpu->sfmask | FLAG_RF);
	flat_segments(cpu, cs, cs + 8, 0, true);
	cpu->rip = target;
}

/* R11 gives all flags but RF and VM (SDM 2B, SYSRET). */
void
op_sysret(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned base = cpu->star >> 48 & 0xFFFF;
	bool to64 = x->in.osize == 8;

	if (!(cpu->efer & EFER_SCE))
		ud(x);
	if (!mode64(cpu))
		unimplemented(x);
	if (to64 && !canonical(cpu->gpr[CPU_RCX]))
		gp0(x);
	cpu->rflags = (cpu->gpr[CPU_R11] & 0x3C7FD7) | FLAG_ONE;
	cpu->rip = to64 ? cpu->gpr[CPU_RCX] : (uint32_t)cpu->gpr[CPU_RCX];
	flat_segments(cpu, (to64 ? base + 16 : base) | 3, (base + 8) | 3, 3, to64);
}

/* AMD has these in legacy mode only (APM 3, SYSENTER). */
static void
check_sysenter(struct exec *x)
{
	const struct cpu *cpu = x->cpu;

	if (long_mode(cpu))
		ud(x);
	if (!protected_mode(cpu) || (cpu->sysenter_cs & 0xFFFC) == 0)
		gp0(x);
}

void
op_sysenter(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned cs = cpu->sysenter_cs & 0xFFFC;

	check_sysenter(x);
	cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
	flat_segments(cpu, cs, cs + 8, 0, false);
	cpu->gpr[CPU_RSP] = (uint32_t)cpu->sysenter_esp;
	cpu->rip = (uint32_t)cpu->sysenter_eip;
}

void
op_sysexit(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned cs = cpu->sysenter_cs & 0xFFFC;

	check_sysenter(x);
	flat_segments(cpu, (cs + 16) | 3, (cs + 24) | 3, 3, false);
	cpu->gpr[CPU_RSP] = (uint32_t)cpu->gpr[CPU_RCX];
	cpu->rip = (uint32_t)cpu->gpr[CPU_RDX];
}

/* --- caches, time --- */

/* Nothing is cached that INVLPG or WBINVD could drop. */
void
op_invlpg(struct exec *x)
{
	(void)x;
}

void
op_wbinvd(struct exec *x)
{
	(void)x;
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
