/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Fast system calls, and the bases of FS and GS (SDM 3A 6.8.7 and 6.8.8; APM 3,
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT).
 */
#include "internal.h"

void
op_swapgs(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t base = cpu->seg[CPU_GS].base;

	cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
}

/* The flat segments that these instructions make up (SDM 2B, SYSCALL). */
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

/* Intel has SYSCALL and SYSRET in 64-bit mode only (SDM 2B, SYSCALL, SYSRET). */
static void
check_syscall(struct exec *x)
{
	const struct cpu *cpu = x->cpu;

	if (!(cpu->efer & EFER_SCE) || (intel(cpu) && !mode64(cpu)))
		ud(x);
}

/*
 * In long mode to 64-bit code at LSTAR or, from compatibility mode, CSTAR; in
 * legacy mode to the address in STAR.  The latter two are AMD's alone.
 */
void
op_syscall(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned cs = cpu->star >> 32 & 0xFFFC;
	uint64_t target = mode64(cpu) ? cpu->lstar : cpu->cstar;

	check_syscall(x);
	x->trap_by = TRAP_BY_NEW_TF;
	if (!long_mode(cpu)) {
		cpu->gpr[CPU_RCX] = (uint32_t)x->next_rip;
		cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
		flat_segments(cpu, cs, cs + 8, 0, false);
		cpu->rip = (uint32_t)cpu->star;
		return;
	}
	cpu->gpr[CPU_RCX] = x->next_rip;
	cpu->gpr[CPU_R11] = cpu->rflags & ~(uint64_t)FLAG_RF;
	/* SFMASK may have bit 1 set; RFLAGS always has (SDM 1 3.4.3). */
	cpu->rflags = (cpu->rflags & ~(cpu->sfmask | FLAG_RF)) | FLAG_ONE;
	flat_segments(cpu, cs, cs + 8, 0, true);
	cpu->rip = target;
}

/*
 * From 64-bit mode R11 gives all flags but RF and VM (SDM 2B, SYSRET); from
 * others the flags stay, with IF set (APM 3, SYSRET).  Intel looks at RCX before
 * it leaves CPL 0; AMD goes there, and the fetch has the #GP at CPL 3.  Intel
 * makes a whole SS up, AMD changes its selector only.
 */
void
op_sysret(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct cpu_seg ss = cpu->seg[CPU_SS];
	unsigned base = cpu->star >> 48 & 0xFFFF;
	bool to64 = x->in.osize == 8;

	check_syscall(x);
	if (!protected_mode(cpu) || cpu_cpl(cpu) != 0)
		gp0(x);
	if (to64 && intel(cpu) && !canonical(cpu->gpr[CPU_RCX]))
		gp0(x);
	x->trap_by = TRAP_BY_NEW_TF;
	if (mode64(cpu))
		cpu->rflags = (cpu->gpr[CPU_R11] & 0x3C7FD7) | FLAG_ONE;
	else
		cpu->rflags |= FLAG_IF;
	cpu->rip = to64 ? cpu->gpr[CPU_RCX] : (uint32_t)cpu->gpr[CPU_RCX];
	flat_segments(cpu, (to64 ? base + 16 : base) | 3, (base + 8) | 3, 3, to64);
	if (!intel(cpu)) {
		ss.selector = cpu->seg[CPU_SS].selector;
		ss.dpl = 3;		/* CPL, of which we have no other copy */
		cpu->seg[CPU_SS] = ss;
	}
}

/* AMD has these in legacy mode only (APM 3, SYSENTER). */
static void
check_sysenter(struct exec *x)
{
	const struct cpu *cpu = x->cpu;

	if (long_mode(cpu) && !intel(cpu))
		ud(x);
	if (!protected_mode(cpu) || (cpu->sysenter_cs & 0xFFFC) == 0)
		gp0(x);
}

/* In long mode to 64-bit code (SDM 2B, SYSENTER). */
void
op_sysenter(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned cs = cpu->sysenter_cs & 0xFFFC;
	bool to64 = long_mode(cpu);

	check_sysenter(x);
	cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
	flat_segments(cpu, cs, cs + 8, 0, to64);
	cpu->gpr[CPU_RSP] = to64 ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	cpu->rip = to64 ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
}

/* With REX.W to 64-bit code, whose selectors are behind the others (SDM 2B, SYSEXIT). */
void
op_sysexit(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	bool to64 = x->in.osize == 8;
	unsigned cs = (cpu->sysenter_cs & 0xFFFC) + (to64 ? 32 : 16);
	uint64_t rsp = cpu->gpr[CPU_RCX], rip = cpu->gpr[CPU_RDX];

	check_sysenter(x);
	if (to64 && (!canonical(rsp) || !canonical(rip)))
		gp0(x);
	flat_segments(cpu, cs | 3, (cs + 8) | 3, 3, to64);
	cpu->gpr[CPU_RSP] = to64 ? rsp : (uint32_t)rsp;
	cpu->rip = to64 ? rip : (uint32_t)rip;
}

/* --- RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: 64-bit mode, if CR4 says so --- */

static uint64_t *
base_register(struct exec *x, enum cpu_seg_index seg)
{
	if (!(x->cpu->cr4 & CR4_FSGSBASE))
		ud(x);
	return &x->cpu->seg[seg].base;
}

static void
write_base(struct exec *x, enum cpu_seg_index seg)
{
	uint64_t *base = base_register(x, seg), value = get(x, 0);

	if (!canonical(value))
		gp0(x);
	*base = value;
}

void
op_rdfsbase(struct exec *x)
{
	put(x, 0, *base_register(x, CPU_FS));
}

void
op_rdgsbase(struct exec *x)
{
	put(x, 0, *base_register(x, CPU_GS));
}

void
op_wrfsbase(struct exec *x)
{
	write_base(x, CPU_FS);
}

void
op_wrgsbase(struct exec *x)
{
	write_base(x, CPU_GS);
}
