/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The stack (SDM 1, chapter 6) and the instructions about it.
 */
#include "internal.h"

/* Bytes of stack pointer in use: SS.B, or 8 in 64-bit mode. */
unsigned
stack_size(const struct cpu *cpu)
{
	if (mode64(cpu))
		return 8;
	return cpu->seg[CPU_SS].db ? 4 : 2;
}

/* `size` bytes of stack, of which the lower `written` get the value. */
static void
push_low(struct exec *x, unsigned size, unsigned written, uint64_t value)
{
	struct cpu *cpu = x->cpu;
	unsigned width = stack_size(cpu);
	uint64_t sp = (cpu->gpr[CPU_RSP] - size) & mask_of(width);

	mem_write(x, CPU_SS, sp, written, value);
	set_gpr(cpu, CPU_RSP, width, sp);
}

void
push(struct exec *x, unsigned size, uint64_t value)
{
	push_low(x, size, size, value);
}

/* The stack at a distance from its top, which stays. */
uint64_t
stack_peek(struct exec *x, uint64_t disp, unsigned size)
{
	struct cpu *cpu = x->cpu;
	uint64_t sp = (cpu->gpr[CPU_RSP] + disp) & mask_of(stack_size(cpu));

	return mem_read(x, CPU_SS, sp, size);
}

void
stack_release(struct exec *x, uint64_t bytes)
{
	struct cpu *cpu = x->cpu;

	set_gpr(cpu, CPU_RSP, stack_size(cpu), cpu->gpr[CPU_RSP] + bytes);
}

uint64_t
pop(struct exec *x, unsigned size)
{
	uint64_t value = stack_peek(x, 0, size);

	stack_release(x, size);
	return value;
}

/* PUSH r/m, r, imm.  PUSH SP pushes the old value (SDM 2B, PUSH). */
void
op_push(struct exec *x)
{
	push(x, x->in.osize, get(x, 0));
}

/*
 * POP r/m, r.  An address that uses RSP is computed with RSP as after the pop
 * (SDM 2B, POP), so the operand's address has to follow it.
 */
void
op_pop(struct exec *x)
{
	struct insn *in = &x->in;
	uint64_t value = pop(x, in->osize);

	if (in->operand[0].kind == OPERAND_MEM && in->sp_based)
		in->ea = (in->ea + in->osize) & mask_of(in->asize);
	put(x, 0, value);
}

void
op_pusha(struct exec *x)
{
	const uint64_t *gpr = x->start.gpr;	/* SP as before the first push */
	unsigned i;

	for (i = CPU_RAX; i <= CPU_RDI; i++)
		push(x, x->in.osize, gpr[i]);
}

void
op_popa(struct exec *x)
{
	unsigned i;

	for (i = CPU_RDI + 1; i-- > 0;) {
		uint64_t value = pop(x, x->in.osize);

		if (i != CPU_RSP)
			set_gpr(x->cpu, i, x->in.osize, value);
	}
}

void
op_pushf(struct exec *x)
{
	check_v86_iopl(x);
	push(x, x->in.osize, x->cpu->rflags & ~(uint64_t)(FLAG_VM | FLAG_RF));
}

/* SDM 2B, POPF, table 4-18: IOPL needs CPL 0, IF needs CPL <= IOPL. */
void
op_popf(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t value;
	uint64_t may = FLAG_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;
	unsigned cpl = protected_mode(cpu) ? cpu_cpl(cpu) : 0;

	if (cpl == 0)
		may |= FLAG_IOPL;
	if (cpl <= (cpu->rflags & FLAG_IOPL) >> 12)
		may |= FLAG_IF;
	check_v86_iopl(x);
	value = pop(x, x->in.osize);
	set_flags(cpu, may & mask_of(x->in.osize), value);
}

/*
 * ENTER.  The last access checks that the new frame could be written
 * (SDM 2A, ENTER: page fault on a write at the final stack pointer).
 */
void
op_enter(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned width = stack_size(cpu), size = x->in.osize;
	unsigned level = x->in.imm2 & 31, i;
	uint64_t bp, frame, sp;
	struct span s;

	push(x, size, cpu->gpr[CPU_RBP]);
	frame = cpu->gpr[CPU_RSP];
	bp = cpu->gpr[CPU_RBP];
	for (i = 1; i < level; i++) {
		bp = (bp - size) & mask_of(width);
		push(x, size, mem_read(x, CPU_SS, bp, size));
	}
	if (level > 0)
		push(x, size, frame);
	set_gpr(cpu, CPU_RBP, size, frame);
	sp = (cpu->gpr[CPU_RSP] - x->in.imm) & mask_of(width);
	span_of(x, linear_address(x, CPU_SS, sp, size, ACCESS_WRITE), size,
	    ACCESS_WRITE, RANK_CPL, &s);
	set_gpr(cpu, CPU_RSP, width, sp);
}

void
op_leave(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	unsigned width = stack_size(cpu);

	set_gpr(cpu, CPU_RSP, width, cpu->gpr[CPU_RBP]);
	set_gpr(cpu, CPU_RBP, x->in.osize, pop(x, x->in.osize));
}

static unsigned
sreg_of_opcode(uint8_t opcode)
{
	/* 06 0E 16 1E, 07 17 1F and 0F A0, A1, A8, A9. */
	if (opcode >= 0xA0)
		return opcode >= 0xA8 ? CPU_GS : CPU_FS;
	return opcode >> 3 & 3;
}

/*
 * A selector is zero-extended to the operand size; but of 32 bits Intel writes the
 * lower 16 only (SDM 2B, PUSH).
 */
void
op_push_sreg(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t selector = cpu->seg[sreg_of_opcode(x->in.opcode)].selector;

	if (intel(cpu) && x->in.osize == 4)
		push_low(x, 4, 2, selector);
	else
		push(x, x->in.osize, selector);
}

void
op_pop_sreg(struct exec *x)
{
	unsigned seg = sreg_of_opcode(x->in.opcode);

	/* SS may change what a stack pointer is: load, then release. */
	load_data_segment(x, seg, (uint16_t)stack_peek(x, 0, x->in.osize));
	stack_release(x, x->in.osize);
	if (seg == CPU_SS)
		x->shadow = x->hold_traps = true;
}
