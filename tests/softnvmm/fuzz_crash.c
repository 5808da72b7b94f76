/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Random bytes as code, random state, through the API of libnvmm.
 *
 *	fuzz_crash SECONDS SEED [FILE]
 *
 * The library is compiled with the sanitizers and with trace-pc coverage: an
 * input that reaches something new is kept, and changed further.  It runs in a
 * child.  A crash, a report of a sanitizer, or an input that takes longer than
 * HANG seconds ends it; the input is then left in FILE, which with SECONDS 0
 * is run once.
 */
#include <nvmm.h>
#include <signal.h>
#include <softnvmm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RAM		0x20000u
#define CODE		0x1000u
#define GDT		0x2000u
#define IDT		0x3000u
#define TSS		0x4800u
#define TABLES		0x5000u		/* to 0xA000 */
#define HANDLER		0xA000u
#define STACK		0xC000u
#define HANG		30u
#define RUNS		8u
#define MAX_INPUT	256u
#define MAX_CORPUS	4096u
#define MAP_SIZE	65536u

/* --- coverage --- */

static uint8_t hits[MAP_SIZE], seen[MAP_SIZE];
static uintptr_t previous;

void __sanitizer_cov_trace_pc(void);

void
__sanitizer_cov_trace_pc(void)
{
	uintptr_t at = (uintptr_t)__builtin_return_address(0);
	uintptr_t slot = (at ^ previous) & (MAP_SIZE - 1);

	hits[slot] += hits[slot] != 255;
	previous = at >> 1;
}

/* 1, 2, 3, 4-7, 8-15, ... times: a bit each. */
static bool
something_new(void)
{
	bool new = false;
	unsigned i;

	for (i = 0; i < MAP_SIZE; i++) {
		uint8_t n = hits[i], bit;
		uint64_t eight;

		if (i % 8 == 0 && (memcpy(&eight, hits + i, 8), eight == 0)) {
			i += 7;
			continue;
		}
		if (n == 0)
			continue;
		bit = n <= 3 ? (uint8_t)(1u << (n - 1)) : n < 8 ? 8 : n < 16 ? 16 :
		    n < 32 ? 32 : n < 128 ? 64 : 128;
		new |= (seen[i] & bit) == 0;
		seen[i] |= bit;
	}
	memset(hits, 0, sizeof(hits));
	previous = 0;
	return new;
}

static unsigned
covered(void)
{
	unsigned i, n = 0;

	for (i = 0; i < MAP_SIZE; i++)
		n += seen[i] != 0;
	return n;
}

/* --- chance --- */

static uint64_t state;

static uint64_t
rnd(void)
{
	uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);	/* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static unsigned
below(unsigned n)
{
	return (unsigned)(rnd() % n);
}

/* --- inputs --- */

struct input {
	uint32_t len;
	uint8_t bytes[MAX_INPUT];
};

/* Where a reader of the input is; beyond the end it reads zeros. */
struct reader {
	const struct input *in;
	unsigned at;
};

static uint64_t
take(struct reader *r, unsigned n)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < n; i++, r->at++)
		if (r->at < r->in->len)
			v |= (uint64_t)r->in->bytes[r->at] << (8 * i);
	return v;
}

/* Openings of instructions that random bytes seldom hit. */
static const char *const openings[] = {
	"\x0F\x00", "\x0F\x01", "\x0F\x01\xF8", "\x0F\x02", "\x0F\x03", "\x0F\x05", "\x0F\x07",
	"\x0F\x20", "\x0F\x22\xC0", "\x0F\x22\xE0", "\x0F\x22\xD8", "\x0F\x23", "\x0F\x30",
	"\x0F\x34", "\x0F\x35", "\x0F\x38\xF0", "\x0F\x38\xF6", "\x0F\xA2", "\x0F\xAE", "\x0F\xB2",
	"\x0F\xC7", "\x66\x0F", "\xF3\x0F", "\xF2\x0F", "\xF3\x0F\xAE", "\xC4\xE2", "\xC4\xE3",
	"\xC5", "\x62", "\x8E\xD0", "\x8E\xD8", "\x9A", "\xEA", "\xCA", "\xCB", "\xCD", "\xCF",
	"\x48\xCF", "\xC8", "\x9D", "\xF4", "\xFB", "\xD9", "\xDB", "\xDD", "\xDF", "\xF0", "\xF3",
	"\xF3\xA4", "\xF3\x6C", "\xF3\x6E", "\xE4", "\xE6", "\xEC", "\xEE", "\xFF", "\x0F\x0B",
	"\x67", "\x66", "\x48", "\x0F\x09", "\x0F\x08", "\x0F\x06", "\xF1", "\xCC", "\xCE",
};

static void
mutate(struct input *in, const struct input *other)
{
	static const uint8_t interesting[] = { 0, 1, 0x7F, 0x80, 0xFF, 0x10, 0x08, 0x23, 0x18, 0x28 };
	unsigned rounds = 1 + below(8), at, n;
	const char *opening;

	while (rounds-- > 0) {
		at = below(MAX_INPUT);
		n = 1 + below(16);
		switch (below(7)) {
		case 0: in->bytes[at] ^= (uint8_t)(1u << below(8)); break;
		case 1: in->bytes[at] = (uint8_t)rnd(); break;
		case 2: in->bytes[at] = interesting[below(sizeof(interesting))]; break;
		case 3:
			opening = openings[below(sizeof(openings) / sizeof(openings[0]))];
			for (n = 0; opening[n] != '\0' && at + n < MAX_INPUT; n++)
				in->bytes[at + n] = (uint8_t)opening[n];
			break;
		case 4:
			while (n-- > 0 && at < MAX_INPUT)
				in->bytes[at++] = (uint8_t)rnd();
			break;
		case 5:		/* a piece of another */
			n = below(MAX_INPUT - at);
			memcpy(in->bytes + at, other->bytes + at, n);
			break;
		default:	/* shift: an instruction less, or more */
			n = n > MAX_INPUT - at ? MAX_INPUT - at : n;
			if (below(2))
				memmove(in->bytes + at, in->bytes + at + n, MAX_INPUT - at - n);
			else
				memmove(in->bytes + at + n, in->bytes + at, MAX_INPUT - at - n);
			break;
		}
	}
	in->len = MAX_INPUT;
}

/* --- the machine --- */

#define PROFILES	4u

struct vm {
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	struct nvmm_vcpu_state reset;
};

static uint8_t *ram, *image;
static uint64_t runs, exits, faults;

static void
check(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

static void
on_io(struct nvmm_io *io)
{
	if (io->in)
		memset(io->data, 0x5A, io->size);
}

static void
on_mem(struct nvmm_mem *mem)
{
	if (!mem->write)
		memset(mem->data, 0xA5, mem->size);
}

static void
poke(uint32_t at, uint64_t v, unsigned n)
{
	memcpy(image + at, &v, n);
}

/* Tables for every mode at one place each: flat segments, gates of each kind,
 * the first 128 KiB mapped with different rights. */
static void
make_image(void)
{
	static const uint64_t gdt[] = {
		0, UINT64_C(0x00CF9B000000FFFF), UINT64_C(0x00CF93000000FFFF),
		UINT64_C(0x00AF9B000000FFFF), UINT64_C(0x00CFFB000000FFFF),
		UINT64_C(0x00CFF3000000FFFF), UINT64_C(0x00AFFB000000FFFF),
		UINT64_C(0x00009B000000FFFF), UINT64_C(0x000093000000FFFF),
		UINT64_C(0x0000890048000067), 0, UINT64_C(0x000082002000003F),
		0, UINT64_C(0x0000EC000008A000), UINT64_C(0x0000E40000380000),
		UINT64_C(0x0000850000480000), UINT64_C(0x000081004900002B),
		UINT64_C(0x0000970000000FFF), UINT64_C(0x00009F000000FFFF),
		UINT64_C(0x0000130000000FFF),
	};
	unsigned i;

	/* What is not code halts: a slice of zeros would be a slice of ADDs. */
	memset(image, 0xF4, GDT);
	memset(image + HANDLER, 0xF4, RAM - HANDLER);
	memcpy(image + GDT, gdt, sizeof(gdt));
	for (i = 0; i < 32; i++) {
		uint64_t type = i == 8 ? 5 : i % 4 == 1 ? 0xF : i % 8 == 2 ? 6 : 0xE;

		/* As 32-bit gates at IDT, as 64-bit ones behind. */
		poke(IDT + 8 * i, (HANDLER + 4 * i) | (i == 8 ? 0x48 : 0x08) << 16 |
		    (0x8000 | (i % 3 ? 0x6000 : 0) | type << 8) << 32, 8);
		type = 0x8000 | (i % 3 ? 0x6000 : 0) | (type & 1 ? 0xF00 : 0xE00) | i % 3;
		poke(IDT + 0x400 + 16 * i, (HANDLER + 4 * i) | 0x18 << 16 | type << 32, 8);
		poke(HANDLER + 4 * i, i % 2 ? 0xCFF4 : 0xCFCF, 2);
		poke(4 * i, HANDLER + 4 * i, 2);
	}
	for (i = 4; i < 0x60; i += 8)
		poke(TSS + i, i < 0x1C ? STACK : UINT64_C(0x10) << 32 | STACK, 8);
	poke(TSS + 0x66, 0x60, 2);
	/* Four levels, PAE from the second, 32-bit; 2 MiB too. */
	poke(TABLES, (TABLES + 0x1000) | 7, 8);
	for (i = 0; i < 4; i++)
		poke(TABLES + 0x1000 + 8 * i, (TABLES + 0x2000) | (i < 2 ? 7 : 0x87), 8);
	poke(TABLES + 0x2000, (TABLES + 0x3000) | 7, 8);
	poke(TABLES + 0x2008, 0x87, 8);
	for (i = 0; i < 64; i++)
		poke(TABLES + 0x3000 + 8 * i, i << 12 | (i % 16 == 13 ? 1 : i % 16 == 14 ? 5 : 7), 8);
	for (i = 0; i < 4; i++)
		poke(TABLES + 0x3800 + 8 * i, (TABLES + 0x2000) | 1, 8);
	poke(TABLES + 0x4000, (TABLES + 0x4800) | 7, 4);
	poke(TABLES + 0x4004, 0x87, 4);
	for (i = 0; i < 64; i++)
		poke(TABLES + 0x4800 + 4 * i, i << 12 | 7, 4);
}

static void
open_vm(struct vm *vm, const char *profile)
{
	setenv("NVMM_SOFT_PROFILE", profile, 1);
	check(nvmm_init() == 0, "nvmm_init");
	check(nvmm_machine_create(&vm->mach) == 0, "nvmm_machine_create");
	check(nvmm_vcpu_create(&vm->mach, 0, &vm->vcpu) == 0, "nvmm_vcpu_create");
	vm->vcpu.cbs = (struct nvmm_assist_callbacks){ on_io, on_mem };
	check(nvmm_vcpu_configure(&vm->mach, &vm->vcpu, NVMM_VCPU_CONF_CALLBACKS,
	    &vm->vcpu.cbs) == 0, "nvmm_vcpu_configure");
	check(nvmm_hva_map(&vm->mach, (uintptr_t)ram, RAM) == 0, "nvmm_hva_map");
	check(nvmm_gpa_map(&vm->mach, (uintptr_t)ram, 0, RAM,
	    PROT_READ | PROT_WRITE | PROT_EXEC) == 0, "nvmm_gpa_map");
	check(nvmm_vcpu_getstate(&vm->mach, &vm->vcpu, NVMM_X64_STATE_ALL) == 0, "getstate");
	vm->reset = *vm->vcpu.state;
}

/* --- one input --- */

static void
segment(struct nvmm_x64_state_seg *s, unsigned selector, unsigned type, unsigned dpl, bool l,
    bool big)
{
	memset(s, 0, sizeof(*s));
	s->selector = (uint16_t)selector;
	s->attrib.type = type & 15;
	s->attrib.s = 1;
	s->attrib.dpl = dpl & 3;
	s->attrib.p = 1;
	s->attrib.l = l;
	s->attrib.def = big;
	s->attrib.g = big || l;
	s->limit = big || l ? 0xFFFFFFFF : 0xFFFF;
}

enum { REAL, PROTECTED, PAGED, PAE, LONG, COMPATIBLE, SIXTEEN, V8086, KINDS };

/* A state in which code runs, in each mode; then it is disturbed. */
static void
make_state(struct nvmm_vcpu_state *st, unsigned kind, unsigned misc)
{
	bool user = misc & 1, m64 = kind == LONG, paged = kind >= PAGED && kind <= COMPATIBLE;
	bool in_long = kind == LONG || kind == COMPATIBLE, big = kind != SIXTEEN;
	static const unsigned cr3[KINDS] = {
		[PAGED] = TABLES + 0x4000, [PAE] = TABLES + 0x3800, [LONG] = TABLES,
		[COMPATIBLE] = TABLES
	};
	unsigned i, dpl = user ? 3 : 0;

	st->gprs[NVMM_X64_GPR_RIP] = CODE;
	st->gprs[NVMM_X64_GPR_RSP] = STACK;
	st->gprs[NVMM_X64_GPR_RFLAGS] = 2u | (misc & 2 ? 0x100u : 0) | (misc & 4 ? 0x200u : 0);
	st->crs[NVMM_X64_CR_CR0] = 0x30 | (kind != REAL) | (paged ? 0x80010000u : 0) |
	    (misc & 8 ? 0x40000u : 0);
	st->crs[NVMM_X64_CR_CR3] = cr3[kind];
	st->crs[NVMM_X64_CR_CR4] = 0x610 | (kind == PAE || in_long ? 0x20 : 0) |
	    (misc & 16 ? 0x40000u : 0);
	st->msrs[NVMM_X64_MSR_EFER] = in_long ? 0xD01 : 0x001;
	for (i = 0; i < 6; i++)
		segment(&st->segs[i], kind == REAL || kind == V8086 ? 0 : 0x10 + (user ? 0x1B : 0), 3,
		    kind == V8086 ? 3 : dpl, false, big && kind != REAL && kind != V8086);
	if (kind != REAL && kind != V8086)
		segment(&st->segs[NVMM_X64_SEG_CS], m64 ? (user ? 0x33 : 0x18) : user ? 0x23 : 0x08,
		    11, dpl, m64, big && !m64);
	else
		segment(&st->segs[NVMM_X64_SEG_CS], 0, kind == REAL ? 11 : 3, kind == REAL ? 0 : 3,
		    false, false);
	if (kind == V8086)
		st->gprs[NVMM_X64_GPR_RFLAGS] |= 0x20000 | (misc & 32 ? 0x3000 : 0);
	st->segs[NVMM_X64_SEG_GDT].base = GDT;
	st->segs[NVMM_X64_SEG_GDT].limit = 0x9F;
	st->segs[NVMM_X64_SEG_IDT].base = kind == REAL ? 0 : IDT + (in_long ? 0x400 : 0);
	st->segs[NVMM_X64_SEG_IDT].limit = 0x1FF;
	segment(&st->segs[NVMM_X64_SEG_TR], 0x48, 11, 0, false, false);
	st->segs[NVMM_X64_SEG_TR].attrib.s = 0;
	st->segs[NVMM_X64_SEG_TR].base = TSS;
	st->segs[NVMM_X64_SEG_TR].limit = 0x67;
}

static void
advance(struct vm *vm, uint64_t npc)
{
	check(nvmm_vcpu_getstate(&vm->mach, &vm->vcpu, NVMM_X64_STATE_GPRS) == 0, "getstate");
	vm->vcpu.state->gprs[NVMM_X64_GPR_RIP] = npc;
	check(nvmm_vcpu_setstate(&vm->mach, &vm->vcpu, NVMM_X64_STATE_GPRS) == 0, "setstate");
}

/* As an emulator would go on.  False: nothing more to see, or a slice is used up. */
static bool
go_on(struct vm *vm)
{
	const struct nvmm_vcpu_exit *e = vm->vcpu.exit;

	switch (e->reason) {
	case NVMM_VCPU_EXIT_MEMORY:
		return nvmm_assist_mem(&vm->mach, &vm->vcpu) == 0;
	case NVMM_VCPU_EXIT_IO:
		return nvmm_assist_io(&vm->mach, &vm->vcpu) == 0;
	case NVMM_VCPU_EXIT_RDMSR:
		advance(vm, e->u.rdmsr.npc);
		return true;
	case NVMM_VCPU_EXIT_WRMSR:
		advance(vm, e->u.wrmsr.npc);
		return true;
	case NVMM_VCPU_EXIT_HALTED:
		vm->vcpu.event->type = NVMM_VCPU_EVENT_INTR;
		vm->vcpu.event->vector = 32;
		return nvmm_vcpu_inject(&vm->mach, &vm->vcpu) == 0;
	case NVMM_VCPU_EXIT_SHUTDOWN:
	case NVMM_VCPU_EXIT_INVALID:
		faults++;
		return false;
	default:
		return false;
	}
}

static void
run_input(struct vm *vms, const struct input *in)
{
	struct reader r = { in, 0 };
	unsigned kind = (unsigned)take(&r, 1), misc = (unsigned)take(&r, 1);
	unsigned pokes = (unsigned)take(&r, 1) % 8, i;
	struct vm *vm = &vms[kind / 16 % PROFILES];
	struct nvmm_vcpu_state *st = vm->vcpu.state;
	uint64_t garbage;

	memcpy(ram, image, RAM);
	*st = vm->reset;
	make_state(st, kind % KINDS, misc);
	garbage = take(&r, 8);
	for (i = 0; i < NVMM_X64_GPR_RIP; i++)
		if (i != NVMM_X64_GPR_RSP)
			st->gprs[i] = (garbage >> i & 1) ? garbage * (i + 1) : CODE * i;
	for (i = 0; i < pokes; i++) {
		size_t at = take(&r, 2) % (sizeof(*st) - 8);
		uint64_t v = take(&r, 8);

		memcpy((uint8_t *)st + at, &v, 1 + at % 8);
	}
	for (i = 0; i < MAX_INPUT && r.at < in->len; i++)
		ram[CODE + i] = (uint8_t)take(&r, 1);
	check(nvmm_vcpu_setstate(&vm->mach, &vm->vcpu, NVMM_X64_STATE_ALL) == 0, "setstate");
	if (misc & 0x40) {
		vm->vcpu.event->type = in->bytes[3] % 3;
		vm->vcpu.event->vector = in->bytes[4] & 0x3F;
		vm->vcpu.event->u.excp.error = in->bytes[5];
		(void)nvmm_vcpu_inject(&vm->mach, &vm->vcpu);
	}
	for (i = 0; i < RUNS; i++) {
		/* One slice of instructions at most. */
		check(nvmm_soft_interrupt(&vm->mach, &vm->vcpu, 2, 0) == 0, "interrupt");
		if (nvmm_vcpu_run(&vm->mach, &vm->vcpu) != 0)
			break;
		exits++;
		if (!go_on(vm))
			break;
	}
	check(nvmm_vcpu_getstate(&vm->mach, &vm->vcpu, NVMM_X64_STATE_ALL) == 0, "getstate");
	runs++;
}

/* --- many of them --- */

static struct input *current;		/* shared with the parent */

static int
fuzz(time_t seconds)
{
	static const char *const profiles[PROFILES] = { "v2-svm", "v2-vmx", "v1-svm", "v3-vmx" };
	static struct vm vms[PROFILES];
	struct input *corpus = calloc(MAX_CORPUS, sizeof(*corpus));
	unsigned n = 0, i;
	time_t end;

	check(corpus != NULL, "calloc");
	image = calloc(1, RAM);
	ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(image != NULL && ram != MAP_FAILED, "memory");
	make_image();
	for (i = 0; i < PROFILES; i++)
		open_vm(&vms[i], profiles[i]);
	if (seconds == 0) {
		run_input(vms, current);
		return 0;
	}
	for (n = 0; n < 2 * KINDS; n++) {
		corpus[n].len = MAX_INPUT;
		for (i = 0; i < MAX_INPUT; i++)
			corpus[n].bytes[i] = n < KINDS ? 0x90 : (uint8_t)rnd();
		corpus[n].bytes[0] = (uint8_t)(n % KINDS);
		corpus[n].bytes[1] = corpus[n].bytes[2] = 0;
	}
	end = time(NULL) + seconds;
	while (time(NULL) < end) {
		for (i = 0; i < 64; i++) {
			*current = corpus[below(n)];
			mutate(current, &corpus[below(n)]);
			alarm(HANG);
			run_input(vms, current);
			if (something_new())
				corpus[n < MAX_CORPUS ? n++ : below(n)] = *current;
		}
	}
	alarm(0);
	printf("inputs %llu exits %llu shutdowns %llu corpus %u edges %u\n",
	    (unsigned long long)runs, (unsigned long long)exits,
	    (unsigned long long)faults, n, covered());
	for (i = 0; i < PROFILES; i++)
		check(nvmm_machine_destroy(&vms[i].mach) == 0, "destroy");
	free(corpus);
	free(image);
	return 0;
}

static int
failed(int status, const char *file)
{
	FILE *f = fopen(file, "wb");
	unsigned i;

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("HANG: more than %u s\n", HANG);
	else
		printf("CRASH: status %#x\n", (unsigned)status);
	for (i = 0; i < current->len; i++)
		printf("%02x", current->bytes[i]);
	printf("\nkept in %s\n", file);
	if (f != NULL) {
		fwrite(current->bytes, 1, current->len, f);
		fclose(f);
	}
	return 1;
}

int
main(int argc, char **argv)
{
	const char *file = argc > 3 ? argv[3] : "fuzz-crash.bin";
	time_t seconds = argc > 1 ? (time_t)strtol(argv[1], NULL, 0) : 5;
	pid_t child;
	int status;

	state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	current = mmap(NULL, sizeof(*current), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(current != MAP_FAILED, "mmap");
	if (seconds == 0) {
		FILE *f = fopen(file, "rb");

		check(f != NULL, file);
		current->len = (uint32_t)fread(current->bytes, 1, MAX_INPUT, f);
		fclose(f);
		return fuzz(0);
	}
	fflush(stdout);
	child = fork();
	check(child >= 0, "fork");
	if (child == 0)
		exit(fuzz(seconds));
	if (waitpid(child, &status, 0) != child)
		return 3;
	return status == 0 ? 0 : failed(status, file);
}
