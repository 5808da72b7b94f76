/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Processors in threads, on one memory: locked instructions lose no update, and
 * neither they nor the A and D bits are a data race.  Built with ThreadSanitizer
 * where there is one.  Prints the counters.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define NCPU	3
#define PAGES	64
#define CODE	0x1000
#define DATA	0x2000
#define PML4	0x10000
#define ROUNDS	1000

static _Alignas(4096) uint8_t memory[PAGES * 4096];

/*
 * Locked arithmetic, XCHG as a spin lock around a counter that is not atomic by
 * itself, and a write to a page whose A and D bits each processor clears again.
 */
static const uint8_t code[] = {
	0xB9, ROUNDS & 0xFF, ROUNDS >> 8, 0, 0,		/* mov ecx, ROUNDS */
	/* again: */
	0xF0, 0xFF, 0x03,				/* lock inc dword [rbx] */
	0xF0, 0x66, 0x83, 0x43, 0x08, 0x03,		/* lock add word [rbx+8], 3 */
	0xB0, 0x01,					/* mov al, 1 */
	0xF0, 0x0F, 0xC0, 0x43, 0x10,			/* lock xadd [rbx+16], al */
	/* spin: */
	0xB8, 1, 0, 0, 0,				/* mov eax, 1 */
	0x87, 0x43, 0x18,				/* xchg [rbx+24], eax */
	0x85, 0xC0,					/* test eax, eax */
	0x75, 0xF4,					/* jnz spin */
	0x48, 0xFF, 0x43, 0x20,				/* inc qword [rbx+32] */
	0x31, 0xC0,					/* xor eax, eax */
	0x87, 0x43, 0x18,				/* xchg [rbx+24], eax */
	0x48, 0x83, 0x06, 0x01,				/* add qword [rsi], 1: own page */
	0xF0, 0x80, 0x27, 0x9F,				/* lock and byte [rdi], 0x9F: A, D */
	0x0F, 0x01, 0x3E,				/* invlpg [rsi] */
	0xFF, 0xC9,					/* dec ecx */
	0x75, 0xCC,					/* jnz again */
	0xF4						/* hlt */
};

static uint8_t *
page(void *arg, uint64_t gpa, uint32_t *access)
{
	(void)arg;
	if (gpa >= sizeof(memory))
		return NULL;
	*access = CPU_ACCESS_READ | CPU_ACCESS_WRITE | CPU_ACCESS_EXEC;
	return memory + gpa;
}

static uint64_t
tsc(void *arg)
{
	(void)arg;
	return 0;
}

static const struct cpu_bus bus = { .page = page, .tsc = tsc };

static void
put(uint64_t at, uint64_t value)
{
	memcpy(memory + at, &value, 8);
}

static void *
processor(void *arg)
{
	struct cpu *cpu = arg;
	struct cpu_exit exit;

	while (cpu_run(cpu, 1000, &exit) == CPU_EXIT_BUDGET)
		continue;
	if (exit.reason != CPU_EXIT_HLT)
		abort();
	return NULL;
}

int
main(void)
{
	static struct cpu cpus[NCPU];
	pthread_t threads[NCPU];
	uint64_t i;

	memcpy(memory + CODE, code, sizeof(code));
	put(PML4, (PML4 + 0x1000) | 7);
	put(PML4 + 0x1000, (PML4 + 0x2000) | 7);
	put(PML4 + 0x2000, (PML4 + 0x3000) | 7);
	for (i = 0; i < PAGES; i++)
		put(PML4 + 0x3000 + 8 * i, i << 12 | 7);
	for (i = 0; i < NCPU; i++) {
		struct cpu *cpu = &cpus[i];

		cpu->bus = &bus;
		cpu_reset(cpu);
		cpu->cr0 = 0x80010031;
		cpu->cr3 = PML4;
		cpu->cr4 = 0x20;
		cpu->efer = 0x500;
		cpu->seg[CPU_CS] = (struct cpu_seg){ .selector = 8, .type = 11, .s = true,
		    .p = true, .l = true, .g = true, .limit = 0xFFFFFFFF };
		cpu->rip = CODE;
		cpu->gpr[CPU_RBX] = DATA;
		/* All write the same page, whose bits each of them clears. */
		cpu->gpr[CPU_RSI] = 0x20000 + 64 * i;
		cpu->gpr[CPU_RDI] = PML4 + 0x3000 + 8 * 0x20;
	}
	for (i = 0; i < NCPU; i++)
		if (pthread_create(&threads[i], NULL, processor, &cpus[i]) != 0)
			abort();
	for (i = 0; i < NCPU; i++)
		pthread_join(threads[i], NULL);
	printf("%u %u %u %u\n", *(uint32_t *)(void *)(memory + DATA),
	    *(uint16_t *)(void *)(memory + DATA + 8), memory[DATA + 16],
	    *(uint32_t *)(void *)(memory + DATA + 32));
	return 0;
}
