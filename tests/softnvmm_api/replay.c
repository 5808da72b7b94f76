/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Replays measured cases of nvmm_assist_io, nvmm_assist_mem and
 * nvmm_gva_to_gpa, each on a fresh machine.  test_golden.py writes the cases
 * as lines of words (all numbers hexadecimal) and compares what comes back:
 *
 *	case ID io|mem|walk
 *	gprs, crs, efer, seg, area, mem, dev, exit, gva ...
 *	end
 */
#include <errno.h>
#include <nvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_AREAS	64
#define MAX_DEV		512
#define ARENA		(64u << 20)

static struct nvmm_machine mach;
static struct nvmm_vcpu vcpu;
static char id[32], kind[8];
static uint8_t *arena;
static uint64_t gva;
static unsigned long long in_bytes;

static struct {
	uint64_t gpa, size;
	int prot;
	uint8_t *mem, *before;
} areas[MAX_AREAS];
static size_t nareas, arena_used;

static struct {
	uint64_t gpa;
	uint8_t byte;
} dev[MAX_DEV];
static size_t ndev;

static void
die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", id, what, strerror(errno));
	exit(1);
}

static uint64_t
number(char **words)
{
	char *word = strtok_r(NULL, " \n", words);

	if (word == NULL)
		die("a number is missing");
	return word[0] == '-' ? (uint64_t)strtoll(word, NULL, 16) :
	    strtoull(word, NULL, 16);
}

static size_t
bytes(char **words, uint8_t *out, size_t max)
{
	char *word = strtok_r(NULL, " \n", words);
	size_t n = 0;
	unsigned b;

	for (; word != NULL && n < max && sscanf(word, "%2x", &b) == 1; word += 2)
		out[n++] = (uint8_t)b;
	return n;
}

static void
print_bytes(const uint8_t *p, size_t n)
{
	while (n-- > 0)
		printf("%02x", *p++);
	putchar('\n');
}

/* The device function of the golden set's README. */
static uint8_t
device(uint64_t a)
{
	uint64_t x = a * UINT64_C(0x9E3779B97F4A7C15);

	x ^= x >> 29;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	return (uint8_t)(x >> 56);
}

static void
dev_write(uint64_t gpa, uint8_t byte)
{
	size_t i;

	for (i = 0; i < ndev && dev[i].gpa != gpa; i++)
		continue;
	if (i == ndev && ndev++ == MAX_DEV)
		die("too much device memory");
	dev[i].gpa = gpa;
	dev[i].byte = byte;
}

static uint8_t
dev_read(uint64_t gpa)
{
	size_t i;

	for (i = 0; i < ndev; i++)
		if (dev[i].gpa == gpa)
			return dev[i].byte;
	return device(gpa);
}

static void
on_io(struct nvmm_io *io)
{
	size_t i;

	for (i = 0; io->in && i < io->size; i++)
		io->data[i] = device((UINT64_C(1) << 60) +
		    ((uint64_t)io->port << 32) + in_bytes++);
	printf("cb %s %x %zu ", io->in ? "in" : "out", io->port, io->size);
	print_bytes(io->data, io->size);
}

static void
on_mem(struct nvmm_mem *mem)
{
	size_t i;

	for (i = 0; i < mem->size; i++) {
		if (mem->write)
			dev_write(mem->gpa + i, mem->data[i]);
		else
			mem->data[i] = dev_read(mem->gpa + i);
	}
	printf("cb %s %llx %zu ", mem->write ? "w" : "r",
	    (unsigned long long)mem->gpa, mem->size);
	print_bytes(mem->data, mem->size);
}

/* ---- a case ---------------------------------------------------------------- */

static void
begin(char **words)
{
	struct nvmm_assist_callbacks cbs = { .io = on_io, .mem = on_mem };

	snprintf(id, sizeof(id), "%s", strtok_r(NULL, " \n", words));
	snprintf(kind, sizeof(kind), "%s", strtok_r(NULL, " \n", words));
	nareas = ndev = arena_used = 0;
	in_bytes = 0;
	if (nvmm_machine_create(&mach) == -1 ||
	    nvmm_vcpu_create(&mach, 0, &vcpu) == -1 ||
	    nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CALLBACKS,
	    &cbs) == -1)
		die("create");
	memset(vcpu.exit, 0, sizeof(*vcpu.exit));
}

static void
area(char **words)
{
	uint64_t gpa = number(words), size = number(words);
	int prot = (int)number(words);
	uint8_t *p = arena + arena_used;

	arena_used += size;
	if (arena_used > ARENA || nareas == MAX_AREAS)
		die("too much memory");
	/* One host mapping an area would run out of slots. */
	if (nareas == 0 && nvmm_hva_map(&mach, (uintptr_t)arena, ARENA) == -1)
		die("hva_map");
	if (nvmm_gpa_map(&mach, (uintptr_t)p, gpa, size, prot) == -1)
		die("gpa_map");
	areas[nareas].gpa = gpa;
	areas[nareas].size = size;
	areas[nareas].mem = p;
	nareas++;
}

static uint8_t *
lookup(uint64_t gpa)
{
	size_t i;

	for (i = 0; i < nareas; i++)
		if (gpa >= areas[i].gpa && gpa - areas[i].gpa < areas[i].size)
			return areas[i].mem + (gpa - areas[i].gpa);
	die("memory in no area");
	return NULL;
}

static void
memory(char **words)
{
	static uint8_t buf[1 << 16];
	uint64_t gpa = number(words);
	size_t n = bytes(words, buf, sizeof(buf)), i;

	for (i = 0; i < n; i++)		/* areas that touch may lie apart here */
		*lookup(gpa + i) = buf[i];
}

static void
device_memory(char **words)
{
	uint64_t gpa = number(words);
	uint8_t buf[64];
	size_t n = bytes(words, buf, sizeof(buf)), i;

	for (i = 0; i < n; i++)
		dev_write(gpa + i, buf[i]);
}

static void
segment(char **words)
{
	struct nvmm_x64_state_seg *s = &vcpu.state->segs[number(words)];
	uint16_t attrib;

	s->selector = (uint16_t)number(words);
	attrib = (uint16_t)number(words);
	memcpy(&s->attrib, &attrib, sizeof(attrib));
	s->limit = (uint32_t)number(words);
	s->base = number(words);
}

static void
set_exit(char **words)
{
	vcpu.exit->reason = number(words);
	if (strcmp(kind, "io") == 0) {
		vcpu.exit->u.io.in = number(words) != 0;
		vcpu.exit->u.io.port = (uint16_t)number(words);
		vcpu.exit->u.io.seg = (int8_t)number(words);
		vcpu.exit->u.io.address_size = (uint8_t)number(words);
		vcpu.exit->u.io.operand_size = (uint8_t)number(words);
		vcpu.exit->u.io.rep = number(words) != 0;
		vcpu.exit->u.io.str = number(words) != 0;
		vcpu.exit->u.io.npc = number(words);
	} else {
		vcpu.exit->u.mem.prot = (int)number(words);
		vcpu.exit->u.mem.gpa = number(words);
		vcpu.exit->u.mem.inst_len = (uint8_t)number(words);
		bytes(words, vcpu.exit->u.mem.inst_bytes, 15);
	}
}

static void
print_changes(void)
{
	size_t i, j, n;

	for (i = 0; i < nareas; i++) {
		for (j = 0; j < areas[i].size; j += n) {
			n = 1;
			if (areas[i].mem[j] == areas[i].before[j])
				continue;
			while (j + n < areas[i].size &&
			    areas[i].mem[j + n] != areas[i].before[j + n])
				n++;
			printf("mem %llx ",
			    (unsigned long long)(areas[i].gpa + j));
			print_bytes(areas[i].mem + j, n);
		}
		free(areas[i].before);
	}
}

static void
end(void)
{
	nvmm_prot_t prot = 0x5A5A;
	gpaddr_t gpa = 0xA5A5;
	size_t i;
	int ret;

	for (i = 0; i < nareas; i++) {
		areas[i].before = malloc(areas[i].size);
		memcpy(areas[i].before, areas[i].mem, areas[i].size);
	}
	printf("case %s\n", id);
	errno = 0;
	if (strcmp(kind, "walk") == 0)
		ret = nvmm_gva_to_gpa(&mach, &vcpu, gva, &gpa, &prot);
	else if (strcmp(kind, "io") == 0)
		ret = nvmm_assist_io(&mach, &vcpu);
	else
		ret = nvmm_assist_mem(&mach, &vcpu);
	printf("ret %d %d\n", ret, ret == 0 ? 0 : errno);
	printf("walk %llx %llx\n", (unsigned long long)gpa,
	    (unsigned long long)prot);
	printf("gprs");
	for (i = 0; i < NVMM_X64_NGPR; i++)
		printf(" %llx", (unsigned long long)vcpu.state->gprs[i]);
	printf("\ncommit %llx\n",
	    (unsigned long long)mach.pages[0]->state_commit);
	printf("inst %x ", vcpu.exit->u.mem.inst_len);
	print_bytes(vcpu.exit->u.mem.inst_bytes, 15);
	print_changes();
	printf("end\n");
	if (nvmm_vcpu_destroy(&mach, &vcpu) == -1 ||
	    (nareas > 0 && nvmm_hva_unmap(&mach, (uintptr_t)arena, ARENA) == -1) ||
	    nvmm_machine_destroy(&mach) == -1)
		die("destroy");
}

int
main(void)
{
	char *line = NULL, *word, *words;
	size_t size = 0, i;

	arena = mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED || nvmm_init() == -1)
		die("init");
	while (getline(&line, &size, stdin) != -1) {
		word = strtok_r(line, " \n", &words);
		if (strcmp(word, "case") == 0)
			begin(&words);
		else if (strcmp(word, "gprs") == 0)
			for (i = 0; i < NVMM_X64_NGPR; i++)
				vcpu.state->gprs[i] = number(&words);
		else if (strcmp(word, "crs") == 0)
			for (i = 0; i < NVMM_X64_NCR; i++)
				vcpu.state->crs[i] = number(&words);
		else if (strcmp(word, "efer") == 0)
			vcpu.state->msrs[NVMM_X64_MSR_EFER] = number(&words);
		else if (strcmp(word, "seg") == 0)
			segment(&words);
		else if (strcmp(word, "area") == 0)
			area(&words);
		else if (strcmp(word, "mem") == 0)
			memory(&words);
		else if (strcmp(word, "dev") == 0)
			device_memory(&words);
		else if (strcmp(word, "exit") == 0)
			set_exit(&words);
		else if (strcmp(word, "gva") == 0)
			gva = number(&words);
		else
			end();
	}
	free(line);
	return 0;
}
