/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The loop: what happens between instructions (SDM 3A 6.9), and the two ways
 * out of the middle of one, a fault and an exit.
 */
#include <string.h>

#include "internal.h"

/* The state that a fault or an exit from here on goes back to. */
void
checkpoint(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	memcpy(x->start.gpr, cpu->gpr, sizeof(cpu->gpr));
	memcpy(x->start.seg, cpu->seg, sizeof(cpu->seg));
	x->start.rip = cpu->rip;
	x->start.rflags = cpu->rflags;
}

static void
restore(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	memcpy(cpu->gpr, x->start.gpr, sizeof(cpu->gpr));
	memcpy(cpu->seg, x->start.seg, sizeof(cpu->seg));
	cpu->rip = x->start.rip;
	cpu->rflags = x->start.rflags;
}

_Noreturn void
fault(struct exec *x, enum exception vector, uint32_t error)
{
	x->pending = (struct cpu_event){
		.type = CPU_EVENT_EXCP, .vector = (uint8_t)vector, .error = error
	};
	switch (vector) {
	case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP:
		/* SDM 3A 6.13: EXT, if an event from outside the program met it. */
		if (x->delivering.type != CPU_EVENT_NONE && !x->delivering_insn)
			x->pending.error |= 1;
		/* FALLTHROUGH */
	case EXC_DF: case EXC_PF: case EXC_AC:
		x->pending.has_error = true;
		break;
	default:
		break;
	}
	longjmp(x->unwind, UNWIND_EVENT);
}

_Noreturn void
leave(struct exec *x, enum cpu_exit_reason reason)
{
	x->exit->reason = reason;
	x->exit->next_rip = x->next_rip;
	longjmp(x->unwind, UNWIND_EXIT);
}

_Noreturn void
unimplemented(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	cpu->unimplemented++;
	cpu->unimplemented_len = x->in.len;
	memcpy(cpu->unimplemented_bytes, x->in.bytes, sizeof(x->in.bytes));
	/* A #UD out of an event's delivery would only come here again. */
	if (x->delivering.type != CPU_EVENT_NONE && !x->delivering_insn)
		leave(x, CPU_EXIT_SHUTDOWN);
	ud(x);
}

_Noreturn void
retry(struct exec *x)
{
	longjmp(x->unwind, UNWIND_RETRY);
}

/* Another thread sets it. */
static bool
kicked(const struct cpu *cpu)
{
	return cpu->kick != NULL &&
	    __atomic_load_n(cpu->kick, __ATOMIC_RELAXED) != 0;
}

/* Asked between two iterations of a string instruction. */
bool
should_stop(struct exec *x)
{
	if (x->budget == 0 || kicked(x->cpu))
		return true;
	x->budget--;
	return false;
}

/* An instruction has completed (SDM 3A 6.9, priorities 2 to 4). */
static void
retire(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	bool tf = false;

	cpu->int_shadow = x->shadow;
	if (x->nmi_unblock)
		cpu->nmi_blocked = false;
	x->nmi_unblock = false;
	if (!x->keep_rf)
		cpu->rflags &= ~(uint64_t)FLAG_RF;
	cpu->private.ss_shadow = x->hold_traps;
	if (x->hold_traps)
		return;
	if (x->trap_by == TRAP_BY_OLD_TF)
		tf = (x->start.rflags & FLAG_TF) != 0;
	else if (x->trap_by == TRAP_BY_NEW_TF)
		tf = (cpu->rflags & FLAG_TF) != 0;
	if (tf || x->data_hits != 0) {
		checkpoint(x);
		debug_exception(x, x->data_hits | (tf ? DR6_BS : 0));
	}
}

static void
step(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	x->shadow = x->hold_traps = x->keep_rf = false;
	x->trap_by = TRAP_BY_OLD_TF;
	x->switching.active = false;
	x->rmw.part[0] = NULL;
	x->in.op = NULL;
	x->in.len = 0;
	x->next_rip = cpu->rip;
	x->debug_fault = false;
	checkpoint(x);
	debug_instruction(x);
	decode(x);
	cpu->rip = x->next_rip;
	x->in.op->execute(x);
	retire(x);
}

/* Before each instruction: what ends the run here.  Same order as a
 * processor's priorities: a window before a kick, so that neither starves. */
static bool
boundary(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct cpu_exit *exit = x->exit;

	if (x->cr8_written)
		exit->reason = CPU_EXIT_CR8_WRITE;
	else if ((cpu->intercepts & CPU_INTERCEPT_NMI_WINDOW) && !cpu->nmi_blocked)
		exit->reason = CPU_EXIT_NMI_WINDOW;
	else if ((cpu->intercepts & CPU_INTERCEPT_INT_WINDOW) &&
	    (cpu->rflags & FLAG_IF) && !cpu->int_shadow)
		exit->reason = CPU_EXIT_INT_WINDOW;
	else if (kicked(cpu))
		exit->reason = CPU_EXIT_KICKED;
	else if (x->budget == 0)
		exit->reason = CPU_EXIT_BUDGET;
	else
		return true;
	exit->next_rip = cpu->rip;
	return false;
}

static void
abandon(struct exec *x)
{
	struct cpu_exit *exit = x->exit;

	task_undo(x);
	restore(x);
	x->nmi_unblock = false;
	x->data_hits = 0;
	exit->event_interrupted = x->delivering.type != CPU_EVENT_NONE;
	exit->interrupted = x->delivering;
}

/* An event that went to another task whose T bit is set: #DB at once. */
static void
task_trap(struct exec *x)
{
	if (x->data_hits == 0)
		return;
	checkpoint(x);
	debug_exception(x, x->data_hits);
}

static void
interpret(struct exec *x)
{
	struct cpu *cpu = x->cpu;

	switch (setjmp(x->unwind)) {
	case UNWIND_NONE:
		if (cpu->inject.type == CPU_EVENT_NONE)
			break;
		checkpoint(x);
		x->in.op = NULL;
		x->next_rip = cpu->rip;
		x->delivering = cpu->inject;
		/* An INT n whose delivery was cut short goes on. */
		x->delivering_insn = cpu->inject.type == CPU_EVENT_SOFT;
		x->delivering_int_n = x->delivering_insn && cpu->inject.int_n;
		if (x->delivering_insn)
			cpu->rip += cpu->inject.length;
		cpu->inject.type = CPU_EVENT_NONE;
		deliver(x);
		break;
	case UNWIND_EVENT:
		x->switching.active = false;
		restore(x);
		x->data_hits = 0;
		if (x->nmi_unblock)	/* SDM 3A 6.7.1: even if IRET faults */
			cpu->nmi_blocked = false;
		x->nmi_unblock = false;
		if (!next_event(x)) {
			x->exit->reason = CPU_EXIT_SHUTDOWN;
			return;
		}
		deliver(x);
		break;
	case UNWIND_RETRY:
		restore(x);
		x->data_hits = 0;
		break;
	default:
		abandon(x);
		return;
	}
	task_trap(x);
	while (boundary(x)) {
		x->budget--;
		step(x);
	}
}

/*
 * States that VMRUN refuses (APM 2, 15.5.1): it makes no further checks of the
 * state it loads, and neither do we.
 */
static bool
enterable(const struct cpu *cpu)
{
	bool paging_long = (cpu->efer & EFER_LME) && (cpu->cr0 & CR0_PG);

	if (cpu->cr0 >> 32 != 0)
		return false;
	if (!(cpu->cr0 & CR0_CD) && (cpu->cr0 & CR0_NW) &&
	    !(cpu->intercepts & CPU_INTERCEPT_CR_WRITE))
		return false;
	if (cpu->cr4 & ~(uint64_t)CR4_VALID)
		return false;
	if (cpu->efer & ~(uint64_t)EFER_VALID)
		return false;
	if (cpu->dr6 >> 32 != 0 || cpu->dr7 >> 32 != 0 || !pat_allowed(cpu->pat))
		return false;
	if (paging_long && (!(cpu->cr4 & CR4_PAE) || !(cpu->cr0 & CR0_PE)))
		return false;
	if (paging_long && cpu->seg[CPU_CS].l && cpu->seg[CPU_CS].db)
		return false;
	return true;
}

enum cpu_exit_reason
cpu_run(struct cpu *cpu, uint64_t budget, struct cpu_exit *exit)
{
	struct exec x;

	memset(exit, 0, sizeof(*exit));
	if (!enterable(cpu)) {
		exit->reason = CPU_EXIT_BAD_STATE;
		return exit->reason;
	}
	/* LMA is never taken from the state loaded (APM 2, 15.5.1). */
	cpu->efer &= ~(uint64_t)EFER_LMA;
	if ((cpu->efer & EFER_LME) && (cpu->cr0 & CR0_PG))
		cpu->efer |= EFER_LMA;

	/* VMRUN forces it (APM 2, 15.5.1). */
	if (v86_mode(cpu))
		cpu->seg[CPU_SS].dpl = 3;
	/* The hypervisor may have written to the guest's tables. */
	tlb_flush(cpu);

	/* Bits that do not exist have their fixed values (SDM 1 3.4.3). */
	cpu->rflags = (cpu->rflags & FLAG_EXIST) | FLAG_ONE;

	memset(&x, 0, sizeof(x));
	x.cpu = cpu;
	x.exit = exit;
	x.budget = budget;
	interpret(&x);
	return exit->reason;
}

void
cpu_advance(struct cpu *cpu, uint64_t next_rip)
{
	cpu->rip = next_rip;
	cpu->rflags &= ~(uint64_t)FLAG_RF;
	cpu->int_shadow = false;
}

/* SDM 3A, table 10-1. */
void
cpu_reset(struct cpu *cpu)
{
	static const struct cpu_seg data = { .type = 3, .s = true, .p = true, .limit = 0xFFFF };
	unsigned i;

	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[CPU_RDX] = 0x600;
	cpu->rip = 0xFFF0;
	cpu->rflags = FLAG_ONE;
	for (i = 0; i < CPU_NSEG; i++)
		cpu->seg[i] = data;
	cpu->seg[CPU_CS].selector = 0xF000;
	cpu->seg[CPU_CS].base = 0xFFFF0000;
	cpu->gdtr = cpu->idtr = cpu->ldtr = cpu->tr = data;
	cpu->gdtr.type = cpu->idtr.type = cpu->ldtr.type = 2;
	cpu->ldtr.s = cpu->tr.s = false;
	cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = 0;
	cpu->xcr0 = 1;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr6 = 0xFFFF0FF0;
	cpu->dr7 = 0x400;
	cpu->efer = cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = 0;
	cpu->kernel_gs_base = 0;
	cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
	cpu->pat = UINT64_C(0x0007040600070406);
	memset(cpu->fxsave, 0, sizeof(cpu->fxsave));
	cpu->fxsave[0] = 0x40;		/* FCW 0x0040 */
	cpu->fxsave[24] = 0x80;		/* MXCSR 0x1F80 */
	cpu->fxsave[25] = 0x1F;
	memset(cpu->private.pdpte, 0, sizeof(cpu->private.pdpte));
	cpu->private.pdptes_wanted = false;
	cpu->int_shadow = cpu->nmi_blocked = false;
	cpu->inject.type = CPU_EVENT_NONE;
	cpu->unimplemented = 0;
	cpu->unimplemented_len = 0;
	cpu_memory_changed(cpu);
}
