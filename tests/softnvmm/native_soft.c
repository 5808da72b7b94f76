/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs an instance in the interpreter: at CPL 3 with paging, the same linear
 * addresses and the same selectors as Linux gives it.
 */
#include <cpuid.h>
#include <string.h>

#include "native.h"

/* Guest-physical pages. */
#define G_PML4	0x1000u
#define G_PDPT	0x2000u
#define G_PD	0x3000u
#define G_PT	0x5000u		/* code, then data */
#define G_IDT	0x7000u
#define G_GDT	0x8000u
#define G_LDT	0x8400u
#define G_TSS	0x8800u
#define G_STACK	0xA000u		/* grows down from here */
#define G_HLT	0xA000u
#define G_CODE	0xB000u
#define G_DATA	0xC000u
#define G_KPDPT	0xE000u		/* for what is not the user's */
#define G_KPD	0xF000u
#define G_KPT	0x10000u
#define G_SIZE	0x11000u
/* Where all of it is mapped for the supervisor: as far up as Linux is. */
#define KERNEL	UINT64_C(0xFFFF800000000000)

static uint8_t guest[G_SIZE];

static uint8_t *
guest_page(void *arg, uint64_t gpa, uint32_t *access)
{
	(void)arg;
	if (gpa >= G_SIZE)
		return NULL;
	*access = CPU_ACCESS_READ | CPU_ACCESS_WRITE | CPU_ACCESS_EXEC;
	return guest + gpa;
}

static uint64_t
guest_tsc(void *arg)
{
	(void)arg;
	return 0;
}

static const struct cpu_bus guest_bus = { .page = guest_page, .tsc = guest_tsc };

static void
poke(uint32_t at, uint64_t v)
{
	memcpy(guest + at, &v, 8);
}

static void
tables(void)
{
	unsigned i;

	poke(G_PML4, G_PDPT | 7);
	poke(G_PDPT, G_PD | 7);
	poke(G_PD + 8 * (CODE >> 21), G_PT | 7);
	poke(G_PD + 8 * (DATA >> 21), (G_PT + 0x1000) | 7);
	poke(G_PT, G_CODE | 7);
	poke(G_PT + 0x1000, G_DATA | 7);
	poke(G_PT + 0x1008, (G_DATA + 0x1000) | 7);
	poke(G_PML4 + 8 * 256, G_KPDPT | 3);
	poke(G_KPDPT, G_KPD | 3);
	poke(G_KPD, G_KPT | 3);
	for (i = 0; i < G_SIZE / 4096; i++)
		poke(G_KPT + 8 * i, i << 12 | 3);
	for (i = 0; i < 256; i++) {
		uint64_t dpl = i == 3 || i == 4 ? 3 : 0, off = G_HLT + i;

		poke(G_IDT + 16 * i, off | 0x10 << 16 | (UINT64_C(0x8E00) | dpl << 13) << 32);
		poke(G_IDT + 16 * i + 8, KERNEL >> 32);
	}
	memset(guest + G_HLT, 0xF4, 256);
	/* Linux's: kernel code and data, user's 32-bit code, data, 64-bit code. */
	poke(G_GDT + 0x08, UINT64_C(0x00CF9B000000FFFF));
	poke(G_GDT + 0x10, UINT64_C(0x00AF9B000000FFFF));
	poke(G_GDT + 0x18, UINT64_C(0x00CF93000000FFFF));
	poke(G_GDT + 0x20, UINT64_C(0x00CFFB000000FFFF));
	poke(G_GDT + 0x28, UINT64_C(0x00CFF3000000FFFF));
	poke(G_GDT + 0x30, UINT64_C(0x00AFFB000000FFFF));
	for (i = 0; i < LDT_SLOTS; i++)
		poke(G_LDT + 8 * i, ldt_descriptor(&ldt_entries[i]));
	poke(G_TSS + 4, KERNEL + G_STACK);
	guest[G_TSS + 0x66] = 0x68;	/* no I/O bitmap */
}

void
soft_setup(struct cpu *cpu)
{
	unsigned max, ebx = 0, ecx, edx;

	memset(cpu, 0, sizeof(*cpu));
	__get_cpuid(0, &max, &ebx, &ecx, &edx);
	cpu->vendor = ebx == signature_INTEL_ebx ? CPU_INTEL : CPU_AMD;
	cpu->bus = &guest_bus;
	cpu_reset(cpu);
	tables();
	cpu->cr0 = 0x80010033;
	cpu->cr3 = G_PML4;
	cpu->cr4 = 0x50620;
	cpu->xcr0 = 3;
	cpu->efer = 0xD01;
	cpu->gdtr.base = KERNEL + G_GDT;
	cpu->gdtr.limit = 0x7F;
	cpu->idtr.base = KERNEL + G_IDT;
	cpu->idtr.limit = 0xFFF;
	cpu->ldtr = (struct cpu_seg){ .selector = 0x50, .type = 2, .p = true,
	    .limit = 8 * LDT_SLOTS - 1, .base = KERNEL + G_LDT };
	cpu->tr = (struct cpu_seg){ .selector = 0x40, .type = 11, .p = true,
	    .limit = 0x67, .base = KERNEL + G_TSS };
}

static void
user_segments(struct cpu *cpu, enum mode mode)
{
	static const struct cpu_seg null_data = { .dpl = 3 };
	const struct cpu_seg flat = { .selector = SEL_DATA, .type = 3, .dpl = 3,
	    .s = true, .p = true, .db = true, .g = true, .limit = 0xFFFFFFFF };
	const struct cpu_seg data16 = { .selector = SEL_LDT(LDT_DATA16), .type = 3, .dpl = 3,
	    .s = true, .p = true, .limit = DATA_SIZE - 1, .base = DATA };
	unsigned i;

	for (i = 0; i < CPU_NSEG; i++)
		cpu->seg[i] = mode == MODE_64 || i == CPU_FS ? null_data :
		    mode == MODE_32 ? flat : data16;
	if (mode == MODE_16) {
		cpu->seg[CPU_CS] = (struct cpu_seg){ .selector = SEL_LDT(LDT_CODE16),
		    .type = 11, .dpl = 3, .s = true, .p = true, .limit = 0xFFF, .base = CODE };
		return;
	}
	cpu->seg[CPU_CS] = flat;
	cpu->seg[CPU_CS].type = 11;
	cpu->seg[CPU_CS].db = mode == MODE_32;
	cpu->seg[CPU_CS].l = mode == MODE_64;
	cpu->seg[CPU_CS].selector = mode == MODE_64 ? SEL_CODE64 : SEL_CODE32;
	if (mode == MODE_64) {
		cpu->seg[CPU_SS] = flat;
		cpu->seg[CPU_FS].base = cpu->seg[CPU_GS].base = DATA;
	}
}

static uint64_t
frame(uint64_t at)
{
	uint64_t v;

	memcpy(&v, guest + at, 8);
	return v;
}

/* What the handler of the fault finds on its stack is the user's state. */
static void
from_frame(struct cpu *cpu, struct result *r)
{
	uint64_t sp = cpu->gpr[CPU_RSP] - KERNEL;

	r->vector = (int)(cpu->rip - KERNEL - G_HLT);
	r->cr2 = cpu->cr2;
	r->error = 0;
	if (G_STACK - sp == 48) {
		r->error = frame(sp);
		sp += 8;
	}
	r->rip = frame(sp);
	r->flags = frame(sp + 16);
	r->gpr[CPU_RSP] = frame(sp + 24);
	r->sreg[CPU_SS] = (uint16_t)frame(sp + 32);
}

bool
run_interpreter(struct cpu *cpu, const struct instance *t, struct result *r)
{
	struct cpu_exit exit;
	unsigned i;

	/* 0F A2 is CPUID, which always exits: where the native side has stubs. */
	memset(guest + G_CODE, 0xCC, 0x1000);
	memcpy(guest + G_CODE + AT, t->code, t->len);
	memcpy(guest + G_CODE + AT + t->len, "\x0F\xA2", 2);
	memcpy(guest + G_CODE + TAKEN_FWD, "\x0F\xA2", 2);
	memcpy(guest + G_CODE + TAKEN_BACK, "\x0F\xA2", 2);
	memcpy(guest + G_DATA, t->data, DATA_SIZE);
	memcpy(cpu->gpr, t->gpr, sizeof(t->gpr));
	memcpy(cpu->fxsave, t->fx, sizeof(t->fx));
	user_segments(cpu, t->mode);
	cpu->rflags = t->flags;
	cpu->int_shadow = false;
	cpu->rip = t->mode == MODE_16 ? AT : CODE + AT;
	/* Small budgets, so that REP is left and entered again. */
	do
		cpu_run(cpu, 1 + t->len % 7, &exit);
	while (exit.reason == CPU_EXIT_BUDGET);

	memcpy(r->gpr, cpu->gpr, sizeof(r->gpr));
	memcpy(r->data, guest + G_DATA, DATA_SIZE);
	memcpy(r->fx, cpu->fxsave, sizeof(r->fx));
	for (i = 0; i < CPU_NSEG; i++)
		r->sreg[i] = cpu->seg[i].selector;
	r->fs_base = cpu->seg[CPU_FS].base;
	r->gs_base = cpu->seg[CPU_GS].base;
	r->vector = -1;
	r->flags = cpu->rflags;
	r->rip = cpu->rip;
	if (exit.reason == CPU_EXIT_CPUID)
		return true;
	if (exit.reason != CPU_EXIT_HLT || cpu->rip - KERNEL - G_HLT >= 256)
		return false;
	from_frame(cpu, r);
	return true;
}
