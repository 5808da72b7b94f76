/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Replays measured scripts of the kernel driver through the C API.
 * kernel_script.py writes the commands, one a line, words in hexadecimal, and
 * test_golden_kernel.py reads what comes out: the structures as bytes.
 *
 *	script		a fresh machine with vCPU 0 and memory; others are destroyed
 *	step N		says "step N"
 *	select C	the vCPU that the next commands mean, created if need be
 *	mem GPA BYTES	writes guest memory
 *	fetch F, commit F, patch OFFSET BYTES, cache F
 *			nvmm_vcpu_getstate, nvmm_vcpu_setstate, bytes of the
 *			page's state, the page's state_cached
 *	event TYPE VECTOR ERROR, inject, stop, prefill
 *	want N STOP	nvmm_soft_interrupt
 *	run		and afterwards a getstate of what a run line shows
 *	get F		nvmm_vcpu_getstate
 *	gmap OFF GPA SIZE PROT, gunmap OFF GPA SIZE, hmap OFF SIZE, hunmap OFF SIZE
 *			OFF is an offset in the process's memory here
 *	cpuid MASK EXIT LEAF SET x 4 DEL x 4, tpr N
 *	life ...	calls by machine and vCPU number: see life()
 */
#include <errno.h>
#include <nvmm.h>
#include <softnvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA		0x200000u
#define RAM_SIZE	0x40000u
#define SHOWN		(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS |	\
	NVMM_X64_STATE_CRS | NVMM_X64_STATE_INTR)
#define FRAME		48u
#define MACHINES	140u

static struct nvmm_machine machines[MACHINES], *mach = &machines[0];
static struct nvmm_vcpu vcpus[256], *vcpu = &vcpus[0];
static uint8_t *arena;
static bool open_now;

static void
die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", what, strerror(errno),
	    nvmm_soft_problem());
	exit(2);
}

static const char *
word(char **words)
{
	const char *w = strtok_r(NULL, " \n", words);

	return w == NULL ? "" : w;
}

static uint64_t
number(char **words)
{
	return strtoull(word(words), NULL, 16);
}

static size_t
bytes(char **words, uint8_t *to)
{
	const char *w = word(words);
	size_t n;
	unsigned byte;

	for (n = 0; w[2 * n] != '\0' && sscanf(w + 2 * n, "%2x", &byte) == 1; n++)
		to[n] = (uint8_t)byte;
	return n;
}

static void
show(const char *name, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t i;

	printf(" %s=", name);
	for (i = 0; i < n; i++)
		printf("%02x", b[i]);
}

static void
result(int ret)
{
	/* -1: failed and left errno alone (L-GPA-6). */
	printf("ret %d\n", ret == 0 ? 0 : errno == 0 ? -1 : errno);
}

static struct nvmm_comm_page *
comm(void)
{
	return mach->pages[vcpu->cpuid];
}

/* ---- a script --------------------------------------------------------------- */

static void
script(void)
{
	static const int odd[] = { 5, 3, 1, 2, 4, 0 };
	size_t i;

	if (open_now && nvmm_machine_destroy(mach) == -1)
		die("destroy");
	open_now = true;
	mach = &machines[0];
	if (nvmm_machine_create(mach) == -1 ||
	    nvmm_vcpu_create(mach, 0, &vcpus[0]) == -1)
		die("create");
	vcpu = &vcpus[0];
	memset(vcpu->exit, 0, sizeof(*vcpu->exit));
	if (nvmm_hva_map(mach, (uintptr_t)arena, ARENA / 2) == -1 ||
	    nvmm_gpa_map(mach, (uintptr_t)arena, 0, RAM_SIZE, 7) == -1)
		die("memory");
	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		if (nvmm_gpa_map(mach, (uintptr_t)arena + 0x50000 + i * 0x1000,
		    0x50000 + i * 0x1000, 0x1000, odd[i]) == -1)
			die("odd pages");
	}
}

static void
select_vcpu(char **words)
{
	uint32_t id = (uint32_t)number(words);

	vcpu = &vcpus[id];
	if (mach->pages[id] == NULL && nvmm_vcpu_create(mach, id, vcpu) == -1)
		die("vcpu");
}

static void
show_state(void)
{
	uint64_t sp = vcpu->state->gprs[NVMM_X64_GPR_RSP];

	show("state", vcpu->state, sizeof(*vcpu->state));
	if (sp < RAM_SIZE - FRAME)
		show("stack", arena + sp, FRAME);
}

static void
run(void)
{
	struct nvmm_comm_page *page = comm();
	int ret;

	printf("run commit=%llx event=%d", (unsigned long long)page->state_commit,
	    page->event_commit);
	errno = 0;
	ret = nvmm_vcpu_run(mach, vcpu);
	printf(" ret=%d", ret == 0 ? 0 : errno);
	show("exit", vcpu->exit, sizeof(*vcpu->exit));
	memset(vcpu->exit, 0, sizeof(*vcpu->exit));
	printf(" wanted=%llx cached=%llx committed=%llx",
	    (unsigned long long)page->state_wanted,
	    (unsigned long long)page->state_cached,
	    (unsigned long long)page->state_commit);
	printf(" pending=%d stop=%d", page->event_commit, page->stop);
	show("event", &page->event, sizeof(page->event));
	if (nvmm_vcpu_getstate(mach, vcpu, SHOWN) == -1)
		die("getstate");
	show_state();
	printf("\n");
}

static void
get(char **words)
{
	uint64_t flags = number(words);

	printf("get before=%llx wanted=%llx committed=%llx pending=%d stop=%d",
	    (unsigned long long)comm()->state_cached,
	    (unsigned long long)comm()->state_wanted,
	    (unsigned long long)comm()->state_commit, comm()->event_commit,
	    comm()->stop);
	if (nvmm_vcpu_getstate(mach, vcpu, flags) == -1)
		die("getstate");
	printf(" after=%llx", (unsigned long long)comm()->state_cached);
	show_state();
	printf("\n");
}

static void
configure_cpuid(char **words, struct nvmm_machine *m, struct nvmm_vcpu *v)
{
	struct nvmm_vcpu_conf_cpuid c;
	uint32_t *half[] = { &c.u.mask.set.eax, &c.u.mask.del.eax };
	size_t i, j;

	memset(&c, 0, sizeof(c));
	c.mask = number(words) & 1;
	c.exit = number(words) & 1;
	c.leaf = (uint32_t)number(words);
	for (i = 0; i < 2; i++)
		for (j = 0; j < 4; j++)
			half[i][j] = (uint32_t)number(words);
	errno = 0;
	result(nvmm_vcpu_configure(m, v, NVMM_VCPU_CONF_CPUID, &c));
}

static void
configure_tpr(char **words)
{
	struct nvmm_vcpu_conf_tpr c;

	memset(&c, 0, sizeof(c));
	c.exit_changed = number(words) & 1;
	errno = 0;
	result(nvmm_vcpu_configure(mach, vcpu, NVMM_VCPU_CONF_TPR, &c));
}

/* ---- memory ------------------------------------------------------------------ */

/* The library calls abort() where the kernel says EINVAL (L-GPA-4). */
static void
map(char **words, struct nvmm_machine *m, bool mapping)
{
	uint64_t off = number(words);
	uintptr_t hva = off == UINT64_MAX ? 0 : (uintptr_t)arena + off;
	uint64_t gpa = number(words), size = number(words);
	int prot = (int)number(words), status;
	pid_t child;

	fflush(stdout);
	if ((child = fork()) == 0) {
		fclose(stderr);
		_exit((mapping ? nvmm_gpa_map(m, hva, gpa, size, prot) :
		    nvmm_gpa_unmap(m, hva, gpa, size)) == 0 ? 0 : 1);
	}
	if (child == -1 || waitpid(child, &status, 0) == -1)
		die("fork");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
		printf("ret %d\n", EINVAL);
		return;
	}
	errno = 0;
	result(mapping ? nvmm_gpa_map(m, hva, gpa, size, prot) :
	    nvmm_gpa_unmap(m, hva, gpa, size));
}

static void
host_map(char **words, struct nvmm_machine *m, bool mapping)
{
	uint64_t off = number(words);
	uintptr_t hva = off == UINT64_MAX ? 0 : (uintptr_t)arena + off;
	size_t size = (size_t)number(words);

	errno = 0;
	result(mapping ? nvmm_hva_map(m, hva, size) :
	    nvmm_hva_unmap(m, hva, size));
}

/* ---- life: numbers instead of structures ------------------------------------- */

static struct nvmm_machine *
machine_of(char **words)
{
	uint64_t id = number(words);
	struct nvmm_machine *m = &machines[id];

	m->machid = (uint32_t)id;
	return m;
}

static struct nvmm_vcpu *
vcpu_of(char **words)
{
	uint64_t id = number(words);
	static struct nvmm_vcpu other;
	struct nvmm_vcpu *v = id < 256 ? &vcpus[id] : &other;

	v->cpuid = (uint32_t)id;
	return v;
}

static void
create(void)
{
	struct nvmm_machine m;
	int ret;

	errno = 0;
	memset(&m, 0, sizeof(m));
	ret = nvmm_machine_create(&m);
	if (ret == 0)
		machines[m.machid] = m;
	printf("ret %d id %x\n", ret == 0 ? 0 : errno, m.machid);
}

static void
info(char **words)
{
	struct nvmm_ctl_mach_info i;
	uint64_t size;
	int op, bad;

	memset(&i, 0, sizeof(i));
	i.machid = (uint32_t)number(words);
	op = (int)number(words);
	size = number(words);
	bad = (int)number(words);
	errno = 0;
	printf("ret %d", nvmm_ctl(op, bad ? (void *)8 : (void *)&i, size) == 0 ?
	    0 : errno);
	printf(" vcpus %x ram %llx own %d\n", i.nvcpus,
	    (unsigned long long)i.nram, i.pid == getpid());
}

static void
capability(void)
{
	struct nvmm_capability c;

	if (nvmm_capability(&c) == -1)
		die("capability");
	printf("capability version=%x state_size=%x max_machines=%x "
	    "max_vcpus=%x max_ram=%llx mach_conf_support=%llx "
	    "vcpu_conf_support=%llx xcr0_mask=%llx mxcsr_mask=%x "
	    "conf_cpuid_maxops=%x\n", c.version, c.state_size, c.max_machines,
	    c.max_vcpus, (unsigned long long)c.max_ram,
	    (unsigned long long)c.arch.mach_conf_support,
	    (unsigned long long)c.arch.vcpu_conf_support,
	    (unsigned long long)c.arch.xcr0_mask, c.arch.mxcsr_mask,
	    c.arch.conf_cpuid_maxops);
}

static void
configure(char **words)
{
	struct nvmm_machine *m = machine_of(words);
	struct nvmm_vcpu *v = vcpu_of(words);
	uint64_t op = number(words);
	struct nvmm_vcpu_conf_cpuid c;

	memset(&c, 0, sizeof(c));
	errno = 0;
	result(nvmm_vcpu_configure(m, v, op, number(words) ? (void *)8 : &c));
}

static void
life(char **words)
{
	const char *op = word(words);
	struct nvmm_machine *m;
	struct nvmm_vcpu *v;

	errno = 0;
	if (strcmp(op, "create") == 0) {
		create();
		return;
	} else if (strcmp(op, "capability") == 0) {
		capability();
		return;
	} else if (strcmp(op, "info") == 0) {
		info(words);
		return;
	} else if (strcmp(op, "configure") == 0) {
		configure(words);
		return;
	} else if (strcmp(op, "read") == 0) {
		printf("byte %x\n", arena[number(words)]);
		return;
	}
	m = machine_of(words);
	if (strcmp(op, "use") == 0) {
		mach = m;
		return;
	} else if (strcmp(op, "destroy") == 0) {
		result(nvmm_machine_destroy(m));
		return;
	} else if (strcmp(op, "mconfigure") == 0) {
		result(nvmm_machine_configure(m, number(words), &m));
		return;
	} else if (strcmp(op, "gmap") == 0 || strcmp(op, "gunmap") == 0) {
		map(words, m, op[1] == 'm');
		return;
	} else if (strcmp(op, "hmap") == 0 || strcmp(op, "hunmap") == 0) {
		host_map(words, m, op[1] == 'm');
		return;
	}
	v = vcpu_of(words);
	if (strcmp(op, "vcreate") == 0)
		result(nvmm_vcpu_create(m, v->cpuid, v));
	else if (strcmp(op, "vdestroy") == 0)
		result(nvmm_vcpu_destroy(m, v));
	else if (strcmp(op, "vrun") == 0)
		result(nvmm_vcpu_run(m, v));
	else if (strcmp(op, "cpuid") == 0)
		configure_cpuid(words, m, v);
	else
		die(op);
}

/* ---- commands ------------------------------------------------------------------ */

static void
small(const char *op, char **words)
{
	static uint8_t buf[4096];
	uint64_t n;

	if (strcmp(op, "mem") == 0) {
		n = number(words);
		memcpy(arena + n, buf, bytes(words, buf));
	} else if (strcmp(op, "patch") == 0) {
		n = number(words);
		memcpy((uint8_t *)vcpu->state + n, buf, bytes(words, buf));
	} else if (strcmp(op, "fetch") == 0) {
		if (nvmm_vcpu_getstate(mach, vcpu, number(words)) == -1)
			die(op);
	} else if (strcmp(op, "commit") == 0) {
		if (nvmm_vcpu_setstate(mach, vcpu, number(words)) == -1)
			die(op);
	} else if (strcmp(op, "cache") == 0) {
		comm()->state_cached = number(words);
	} else if (strcmp(op, "event") == 0) {
		vcpu->event->type = (unsigned)number(words);
		vcpu->event->vector = (uint8_t)number(words);
		vcpu->event->u.excp.error = number(words);
	} else if (strcmp(op, "inject") == 0) {
		if (nvmm_vcpu_inject(mach, vcpu) == -1)
			die(op);
	} else if (strcmp(op, "stop") == 0) {
		if (nvmm_vcpu_stop(vcpu) == -1)
			die(op);
	} else if (strcmp(op, "want") == 0) {
		n = number(words);
		if (nvmm_soft_interrupt(mach, vcpu, (unsigned)n,
		    (int)number(words)) == -1)
			die(op);
	} else if (strcmp(op, "prefill") == 0) {
		memset(vcpu->exit, 0xAA, sizeof(*vcpu->exit));
	} else {
		die(op);
	}
}

int
main(void)
{
	char *line = NULL, *op, *words;
	size_t size = 0;

	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED || nvmm_init() == -1)
		die("init");
	while (getline(&line, &size, stdin) != -1) {
		op = strtok_r(line, " \n", &words);
		if (strcmp(op, "step") == 0)
			printf("step %s\n", word(&words));
		else if (strcmp(op, "script") == 0)
			script();
		else if (strcmp(op, "select") == 0)
			select_vcpu(&words);
		else if (strcmp(op, "run") == 0)
			run();
		else if (strcmp(op, "get") == 0)
			get(&words);
		else if (strcmp(op, "gmap") == 0 || strcmp(op, "gunmap") == 0)
			map(&words, mach, op[1] == 'm');
		else if (strcmp(op, "hmap") == 0 || strcmp(op, "hunmap") == 0)
			host_map(&words, mach, op[1] == 'm');
		else if (strcmp(op, "cpuid") == 0)
			configure_cpuid(&words, mach, vcpu);
		else if (strcmp(op, "tpr") == 0)
			configure_tpr(&words);
		else if (strcmp(op, "life") == 0)
			life(&words);
		else
			small(op, &words);
	}
	free(line);
	return 0;
}
