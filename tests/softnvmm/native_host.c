/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs an instance on the processor itself.  This process has 64-bit code;
 * 32- and 16-bit code is entered by a far jump, to the kernel's 32-bit code
 * segment and to segments that modify_ldt(2) makes.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "native.h"

struct context {
	uint64_t gpr[16];				/* 0 */
	uint64_t flags, host_rsp, code, after, taken;	/* 128 */
	uint64_t fs_base;				/* 168 */
	uint16_t sreg[8];				/* 176: ES CS SS DS FS GS */
	uint32_t far_at;				/* 192: m16:32 */
	uint16_t far_sel;
	uint16_t data_sel, stack_sel, gs_sel;		/* 198, 200, 202 */
	uint8_t reserved[52];
	uint8_t fx[512];				/* 256 */
	uint8_t host_fx[512];				/* 768 */
	uint32_t env[8];				/* 1280 */
	uint64_t seg_base[2];				/* 1312 */
};

_Static_assert(offsetof(struct context, sreg) == 176, "assembler");
_Static_assert(offsetof(struct context, far_at) == 192, "assembler");
_Static_assert(offsetof(struct context, fx) == 256, "assembler");

#define STRINGIFY(x)	#x
#define STR1(x)		STRINGIFY(x)
#define CTX(n)		STR1(CONTEXT) "+" #n

void native_enter_64(void);
void native_enter_legacy(void);
extern char native_exit[], native_unwind[];

#define SAVE_HOST							\
"	pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n" \
"	movq %rsp, " CTX(136) "\n"					\
"	rdfsbase %rax\n movq %rax, " CTX(168) "\n"			\
"	movl $0x20000000, %eax\n wrfsbase %rax\n"			\
"	fxsave64 " CTX(768) "\n fninit\n fxrstor64 " CTX(256) "\n"

#define LOAD_LOW							\
"	movq " CTX(0) ", %rax\n movq " CTX(8) ", %rcx\n movq " CTX(16) ", %rdx\n" \
"	movq " CTX(24) ", %rbx\n movq " CTX(40) ", %rbp\n"		\
"	movq " CTX(48) ", %rsi\n movq " CTX(56) ", %rdi\n"

__asm__(
"	.text\n"
"	.globl native_enter_64, native_enter_legacy, native_exit, native_unwind\n"
"native_enter_64:\n"
SAVE_HOST
"	pushq " CTX(128) "\n popfq\n"
LOAD_LOW
"	movq " CTX(32) ", %rsp\n"
"	movq " CTX(64) ", %r8\n"
"	movq " CTX(72) ", %r9\n movq " CTX(80) ", %r10\n movq " CTX(88) ", %r11\n"
"	movq " CTX(96) ", %r12\n movq " CTX(104) ", %r13\n movq " CTX(112) ", %r14\n"
"	movq " CTX(120) ", %r15\n"
"	jmp *" CTX(144) "\n"
"native_enter_legacy:\n"
SAVE_HOST
"	pushq " CTX(128) "\n popfq\n"
"	movw " CTX(198) ", %ds\n movw " CTX(198) ", %es\n movw " CTX(202) ", %gs\n"
LOAD_LOW
"	movw " CTX(200) ", %ss\n movl " CTX(32) ", %esp\n"
"	ljmpl *" CTX(192) "\n"
/* RIP is already kept by the stub that came here. */
"native_exit:\n"
"	movq %rax, " CTX(0) "\n movq %rcx, " CTX(8) "\n movq %rdx, " CTX(16) "\n"
"	movq %rbx, " CTX(24) "\n movq %rsp, " CTX(32) "\n movq %rbp, " CTX(40) "\n"
"	movq %rsi, " CTX(48) "\n movq %rdi, " CTX(56) "\n movq %r8, " CTX(64) "\n"
"	movq %r9, " CTX(72) "\n movq %r10, " CTX(80) "\n movq %r11, " CTX(88) "\n"
"	movq %r12, " CTX(96) "\n movq %r13, " CTX(104) "\n movq %r14, " CTX(112) "\n"
"	movq %r15, " CTX(120) "\n"
"	movw %es, " CTX(176) "\n movw %ss, " CTX(180) "\n movw %ds, " CTX(182) "\n"
"	movw %fs, " CTX(184) "\n movw %gs, " CTX(186) "\n"
"	rdfsbase %rax\n movq %rax, " CTX(1312) "\n"
"	rdgsbase %rax\n movq %rax, " CTX(1320) "\n"
"	fxsave64 " CTX(256) "\n fnstenv " CTX(1280) "\n"
"	movl $0x2b, %eax\n movl %eax, %ss\n"
"	movq " CTX(136) ", %rsp\n"
"	pushfq\n popq " CTX(128) "\n"
"native_unwind:\n"
"	movq " CTX(136) ", %rsp\n"
"	cld\n"
"	xorl %eax, %eax\n movl %eax, %ds\n movl %eax, %es\n"
"	movl %eax, %fs\n movl %eax, %gs\n"
"	movq " CTX(168) ", %rax\n wrfsbase %rax\n"
"	movl $" STR1(0x20000000) ", %eax\n wrgsbase %rax\n"
"	fxrstor64 " CTX(768) "\n"
"	popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
"	ret\n");

static struct result native_result;
static struct context *const context = (struct context *)(uintptr_t)CONTEXT;

/* FS may be anything here: nothing in this function may use thread storage. */
__attribute__((no_sanitize("address", "undefined")))
static void
on_signal(int number, siginfo_t *info, void *arg)
{
	static const int order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15
	};
	ucontext_t *uc = arg;
	greg_t *r = uc->uc_mcontext.gregs;
	const uint8_t *fx = (const uint8_t *)uc->uc_mcontext.fpregs;
	uint16_t *sreg = native_result.sreg;
	unsigned i;

	(void)number;
	(void)info;
	__asm__ volatile("movw %%es, %0" : "=m"(sreg[CPU_ES]));
	__asm__ volatile("movw %%ds, %0" : "=m"(sreg[CPU_DS]));
	__asm__ volatile("movw %%fs, %0" : "=m"(sreg[CPU_FS]));
	__asm__ volatile("movw %%gs, %0" : "=m"(sreg[CPU_GS]));
	__asm__ volatile("rdfsbase %0" : "=r"(native_result.fs_base));
	__asm__ volatile("rdgsbase %0" : "=r"(native_result.gs_base));
	sreg[CPU_SS] = (uint16_t)((uint64_t)r[REG_CSGSFS] >> 48);
	native_result.vector = (int)r[REG_TRAPNO];
	native_result.error = (uint64_t)r[REG_ERR];
	native_result.cr2 = (uint64_t)r[REG_CR2];
	for (i = 0; i < 16; i++)
		native_result.gpr[i] = (uint64_t)r[order[i]];
	native_result.flags = (uint64_t)r[REG_EFL];
	native_result.rip = (uint64_t)r[REG_RIP];
	for (i = 0; i < 512; i++)
		native_result.fx[i] = fx[i];
	r[REG_RIP] = (greg_t)(uintptr_t)native_unwind;
	r[REG_EFL] = 0x202;
	r[REG_CSGSFS] = (greg_t)(((uint64_t)r[REG_CSGSFS] & UINT64_C(0xFFFFFFFF0000)) |
	    SEL_CODE64 | (uint64_t)SEL_DATA << 48);
}

static void
map_at(uint64_t at, size_t size, int prot)
{
	void *p = mmap((void *)(uintptr_t)at, size, prot,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
}

/* --- the LDT --- */

const struct ldt_entry ldt_entries[LDT_SLOTS] = {
	[LDT_CODE16] = { .base = CODE, .limit = 0xFFF, .code = true },
	[LDT_DATA16] = { .base = DATA, .limit = DATA_SIZE - 1 },
	{ .base = DATA, .limit = DATA_SIZE - 1, .big = true, .read_only = true },
	{ .base = DATA, .limit = 0x7FF, .big = true, .down_or_conforming = true },
	{ .base = DATA, .limit = DATA_SIZE - 1, .absent = true },
	{ .base = CODE, .limit = 0xFFF, .code = true, .down_or_conforming = true, .absent = true },
	{ .base = CODE, .limit = 0xFFF, .code = true, .read_only = true },
	{ .base = 0, .limit = 0xFFFFF, .pages = true, .big = true }
};

/* As Linux makes it: DPL 3, accessed (SDM 3A, figure 3-8). */
uint64_t
ldt_descriptor(const struct ldt_entry *e)
{
	uint64_t type = 1 | (e->read_only ? 0 : 2) | (e->down_or_conforming ? 4 : 0) |
	    (e->code ? 8 : 0);

	return (e->limit & 0xFFFF) | (uint64_t)(e->base & 0xFFFFFF) << 16 |
	    type << 40 | (uint64_t)(e->absent ? 7 : 0xF) << 44 |
	    (uint64_t)(e->limit >> 16) << 48 | (uint64_t)e->big << 54 |
	    (uint64_t)e->pages << 55 | (uint64_t)(e->base >> 24) << 56;
}

static bool
set_ldt(void)
{
	unsigned i;

	for (i = 0; i < LDT_SLOTS; i++) {
		const struct ldt_entry *e = &ldt_entries[i];
		struct user_desc d;

		memset(&d, 0, sizeof(d));
		d.entry_number = i;
		d.base_addr = e->base;
		d.limit = e->limit;
		d.seg_32bit = e->big;
		d.contents = (e->code ? 2 : 0) | (e->down_or_conforming ? 1 : 0);
		d.read_exec_only = e->read_only;
		d.limit_in_pages = e->pages;
		d.seg_not_present = e->absent;
		if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) != 0)
			return false;
	}
	return true;
}

/* --- running --- */

/*
 * Where an instruction may go on: says so and leaves.  The stub must not touch
 * flags: MOV imm32 to memory, then JMP through memory.
 */
static void
write_stub64(uint8_t *at, uint64_t rip)
{
	uint32_t where = CONTEXT + offsetof(struct context, after);
	uint32_t leave = CONTEXT + offsetof(struct context, taken);
	uint32_t value32 = (uint32_t)rip;

	memcpy(at, "\x48\xC7\x04\x25", 4);	/* MOV qword [where], rip */
	memcpy(at + 4, &where, 4);
	memcpy(at + 8, &value32, 4);
	memcpy(at + 12, "\xFF\x24\x25", 3);	/* JMP [leave] */
	memcpy(at + 15, &leave, 4);
}

/* The same from 32- and 16-bit code: a far jump to a stub of 64 bits. */
static void
write_stub(enum mode mode, unsigned at, unsigned spare)
{
	uint8_t *code = (uint8_t *)(uintptr_t)CODE;
	uint32_t to = (uint32_t)CODE + spare;
	uint16_t sel = SEL_CODE64;

	if (mode == MODE_64) {
		write_stub64(code + at, CODE + at);
		return;
	}
	if (mode == MODE_16)
		code[at++] = 0x66;
	code[at] = 0xEA;
	memcpy(code + at + 1, &to, 4);
	memcpy(code + at + 5, &sel, 2);
	write_stub64(code + spare, mode == MODE_16 ? at - 1 : CODE + at);
}

__attribute__((target("fsgsbase"), noinline))
static bool
works(enum mode mode)
{
	struct instance *t = calloc(1, sizeof(*t));
	struct result *r = calloc(1, sizeof(*r));
	bool good;

	t->mode = mode;
	t->code[0] = 0x90;
	t->len = 1;
	t->flags = 0x202;
	memcpy(t->fx, "\x7F\x03", 2);
	memcpy(t->fx + FX_MXCSR, "\x80\x1F", 2);
	run_native(t, r);
	good = r->vector < 0;
	free(t);
	free(r);
	return good;
}

const char *
native_setup(bool modes[MODES])
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS };
	static uint8_t stack[65536];
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	unsigned i;

	memset(modes, 0, MODES * sizeof(modes[0]));
	if (!(getauxval(AT_HWCAP2) & 2))
		return "the host has no RDFSBASE for user programs";
	map_at(CODE, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC);
	map_at(DATA, DATA_SIZE, PROT_READ | PROT_WRITE);
	map_at(CONTEXT, 0x1000, PROT_READ | PROT_WRITE);
	sigaltstack(&ss, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, DATA);
	modes[MODE_64] = true;
	if (!set_ldt())
		return "modify_ldt is refused: no 16-bit segments, no selectors to load";
	modes[MODE_32] = works(MODE_32);
	modes[MODE_16] = works(MODE_16);
	if (!modes[MODE_32] || !modes[MODE_16])
		return "the host refuses 32- or 16-bit code";
	return NULL;
}

void
run_native(const struct instance *t, struct result *r)
{
	uint8_t *code = (uint8_t *)(uintptr_t)CODE;
	bool m16 = t->mode == MODE_16;
	uint16_t data = m16 ? SEL_LDT(LDT_DATA16) : SEL_DATA;

	memset(code, 0xCC, 0x1000);
	memcpy(code + AT, t->code, t->len);
	write_stub(t->mode, AT + t->len, 0xA00);
	write_stub(t->mode, TAKEN_FWD, 0xA40);
	write_stub(t->mode, TAKEN_BACK, 0xA80);
	memcpy((void *)(uintptr_t)DATA, t->data, DATA_SIZE);
	memcpy(context->gpr, t->gpr, sizeof(t->gpr));
	memcpy(context->fx, t->fx, sizeof(t->fx));
	context->flags = t->flags;
	context->code = CODE + AT;
	context->taken = (uint64_t)(uintptr_t)native_exit;
	context->far_at = m16 ? AT : CODE + AT;
	context->far_sel = m16 ? SEL_LDT(LDT_CODE16) : SEL_CODE32;
	context->data_sel = context->stack_sel = context->gs_sel = data;
	native_result.vector = -1;
	if (t->mode == MODE_64)
		native_enter_64();
	else
		native_enter_legacy();
	if (native_result.vector < 0) {
		memcpy(native_result.gpr, context->gpr, sizeof(t->gpr));
		memcpy(native_result.sreg, context->sreg, sizeof(native_result.sreg));
		memcpy(native_result.fx, context->fx, sizeof(t->fx));
		native_result.flags = context->flags;
		native_result.rip = context->after;
		native_result.fs_base = context->seg_base[0];
		native_result.gs_base = context->seg_base[1];
		/* AMD's FXSAVE keeps the pointers only while ES is set. */
		memcpy(native_result.fx + FX_FIP, &context->env[3], 4);
		memcpy(native_result.fx + FX_FDP, &context->env[5], 4);
		native_result.fx[FX_FOP] = (uint8_t)(context->env[4] >> 16);
		native_result.fx[FX_FOP + 1] = context->env[4] >> 24 & 7;
	}
	*r = native_result;
	memcpy(r->data, (void *)(uintptr_t)DATA, DATA_SIZE);
}
