/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Instructions that always go to the hypervisor.  What the processor checks
 * before it exits is here; the effect is the hypervisor's.
 */
#include "internal.h"

void
op_hlt(struct exec *x)
{
	leave(x, CPU_EXIT_HLT);
}

void
op_cpuid(struct exec *x)
{
	leave(x, CPU_EXIT_CPUID);
}

void
op_invd(struct exec *x)
{
	leave(x, CPU_EXIT_INVD);
}

void
op_xsetbv(struct exec *x)
{
	if (!(x->cpu->cr4 & CR4_OSXSAVE))
		ud(x);
	leave(x, CPU_EXIT_XSETBV);
}

/* #UD, not #GP, above CPL 0 (APM 3, MONITOR). */
static void
monitor_or_mwait(struct exec *x, enum cpu_exit_reason reason)
{
	if (protected_mode(x->cpu) && cpu_cpl(x->cpu) != 0)
		ud(x);
	leave(x, reason);
}

void
op_monitor(struct exec *x)
{
	monitor_or_mwait(x, CPU_EXIT_MONITOR);
}

void
op_mwait(struct exec *x)
{
	monitor_or_mwait(x, CPU_EXIT_MWAIT);
}

/* --- what CPUID does not show: #UD, by the hypervisor if it asks --- */

static void
forbidden(struct exec *x, uint32_t intercept)
{
	if (x->cpu->intercepts & intercept)
		leave(x, CPU_EXIT_UD);
	ud(x);
}

void
op_vmmcall(struct exec *x)
{
	forbidden(x, CPU_INTERCEPT_SVM);
}

void
op_rdtscp(struct exec *x)
{
	forbidden(x, CPU_INTERCEPT_SVM);
}

void
op_vmcall(struct exec *x)
{
	forbidden(x, CPU_INTERCEPT_VMX);
}

/* VMRUN ...: intercepts come after the checks of mode and CPL (APM 2, 15.9). */
void
op_svm(struct exec *x)
{
	if (protected_mode(x->cpu) && (x->cpu->intercepts & CPU_INTERCEPT_SVM) &&
	    cpu_cpl(x->cpu) != 0)
		gp0(x);
	forbidden(x, protected_mode(x->cpu) ? CPU_INTERCEPT_SVM : 0);
}

/* VMLAUNCH ...: exit ahead of the check of CPL (SDM 3C 25.1.2). */
void
op_vmx(struct exec *x)
{
	forbidden(x, protected_mode(x->cpu) ? CPU_INTERCEPT_VMX : 0);
}

void
op_rdpmc(struct exec *x)
{
	if (protected_mode(x->cpu) && cpu_cpl(x->cpu) != 0 &&
	    !(x->cpu->cr4 & CR4_PCE))
		gp0(x);
	forbidden(x, CPU_INTERCEPT_RDPMC);
}

/* --- I/O --- */

/*
 * IOPL, then the permission bitmap of the TSS (SDM 1 19.5.2); the bitmap alone
 * in virtual-8086 mode (SDM 3A 21.2.8).
 */
static void
check_port(struct exec *x, uint16_t port, unsigned size)
{
	const struct cpu *cpu = x->cpu;
	const struct cpu_seg *tr = &cpu->tr;
	uint32_t at;
	uint64_t bits;

	if (!protected_mode(cpu) || (!v86_mode(cpu) &&
	    cpu_cpl(cpu) <= (cpu->rflags & FLAG_IOPL) >> 12))
		return;
	if (!tr->p || (tr->type & 0xD) != 9 || tr->limit < 0x67)
		gp0(x);
	at = (uint32_t)read_system(x, tr->base + 0x66, 2) + port / 8u;
	if (at + 1 > tr->limit)
		gp0(x);
	bits = read_system(x, tr->base + at, 2) >> (port % 8);
	if (bits & ((1u << size) - 1))
		gp0(x);
}

_Noreturn static void
io_exit(struct exec *x, bool in, bool str, unsigned port, unsigned size)
{
	struct cpu_exit *exit = x->exit;

	size = size == 8 ? 4 : size;
	check_port(x, (uint16_t)port, size);
	exit->io.in = in;
	exit->io.str = str;
	exit->io.rep = str && x->in.rep != 0;
	exit->io.port = (uint16_t)port;
	exit->io.seg = str && in ? CPU_ES : x->in.seg;
	exit->io.address_size = x->in.asize;
	exit->io.operand_size = (uint8_t)size;
	leave(x, CPU_EXIT_IO);
}

void
op_in(struct exec *x)
{
	io_exit(x, true, false, (unsigned)get(x, 1), x->in.operand[0].size);
}

void
op_out(struct exec *x)
{
	io_exit(x, false, false, (unsigned)get(x, 1), x->in.operand[0].size);
}

/* INS, OUTS: an exit at the start of each iteration; none for a count of 0. */
static void
string_io(struct exec *x, bool in)
{
	const struct cpu *cpu = x->cpu;

	if (x->in.rep != 0 && (cpu->gpr[CPU_RCX] & mask_of(x->in.asize)) == 0) {
		check_port(x, cpu->gpr[CPU_RDX] & 0xFFFF, x->in.operand[0].size == 8 ? 4 :
		    x->in.operand[0].size);
		return;
	}
	io_exit(x, in, true, cpu->gpr[CPU_RDX] & 0xFFFF, x->in.operand[0].size);
}

void
op_ins(struct exec *x)
{
	string_io(x, true);
}

void
op_outs(struct exec *x)
{
	string_io(x, false);
}
