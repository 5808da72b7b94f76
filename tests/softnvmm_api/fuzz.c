/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Random calls with random arguments: fuzz SEED STEPS.  A little model says
 * what must be true of the answers.  Calls that the library itself answers
 * with abort() are made with that quirk off; structures whose memory is gone
 * are not given to functions that look into them.
 */
#include <errno.h>
#include <nvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MACHINES	3
#define VCPUS		3
#define ARENA_PAGES	48u
#define PAGE		4096u

struct box {
	bool alive;
	bool has[VCPUS];
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu[VCPUS];
	unsigned hvas;
	size_t hva_bytes;
};

static struct box boxes[MACHINES];
static uint8_t *arena;
static uint64_t state, seed;
static unsigned step;

#define MUST(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "seed %llu, step %u, line %d: %s (errno %d)\n",	\
		    (unsigned long long)seed, step, __LINE__, #cond, errno);	\
		abort();						\
	}								\
} while (0)

static uint64_t
draw(void)
{
	uint64_t x = state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

static uint64_t
below(uint64_t n)
{
	return draw() % n;
}

/* Small, large, an edge, or anything. */
static uint64_t
value(void)
{
	switch (below(5)) {
	case 0:
		return below(16);
	case 1:
		return below(ARENA_PAGES) * PAGE;
	case 2:
		return UINT64_C(1) << below(64);
	case 3:
		return (UINT64_C(1) << below(64)) - 1;
	default:
		return draw();
	}
}

static uintptr_t
hva(void)
{
	/* Never outside the arena: hva_map replaces what it is given. */
	return (uintptr_t)arena + below(ARENA_PAGES) * PAGE +
	    (below(16) == 0 ? below(PAGE) : 0);
}

static size_t
length(uintptr_t at)
{
	size_t left = (uintptr_t)arena + ARENA_PAGES * PAGE - at;
	size_t size = (1 + below(8)) * PAGE;

	return below(16) == 0 ? 0 : size > left ? left : size;
}

static void
fill(void *to, size_t size)
{
	uint8_t *p = to;

	for (; size > 0; size--)
		*p++ = (uint8_t)draw();
}

static bool
one_of(int number, const int *list)
{
	for (; *list != 0; list++)
		if (number == *list)
			return true;
	return false;
}
#define ERRNOS(...)	((const int[]){ __VA_ARGS__, 0 })

/* -1 only with an errno of these; 0 then and now. */
static bool
call(int ret, const int *errnos)
{
	MUST(ret == 0 || ret == -1);
	MUST(ret == 0 || one_of(errno, errnos));
	return ret == 0;
}

static void
on_io(struct nvmm_io *io)
{
	MUST(io->size > 0 && io->size <= 8);
	if (io->in)
		fill(io->data, io->size);
}

static void
on_mem(struct nvmm_mem *mem)
{
	MUST(mem->size > 0 && mem->size <= 32);
	if (!mem->write)
		fill(mem->data, mem->size);
}

/* ---- machines, vCPUs -------------------------------------------------------------- */

static void
machine(struct box *b)
{
	unsigned i;

	if (b->alive) {
		if (below(4) != 0)
			return;
		for (i = 0; i < VCPUS; i++)
			if (b->has[i])
				MUST(nvmm_vcpu_destroy(&b->mach, &b->vcpu[i]) == 0);
		MUST(nvmm_machine_destroy(&b->mach) == 0);
		b->alive = false;
		MUST(nvmm_machine_destroy(&b->mach) == -1);
		MUST(errno == ENOENT || boxes[0].alive || boxes[1].alive ||
		    boxes[2].alive);
		memset(b->has, 0, sizeof(b->has));
		return;
	}
	MUST(nvmm_machine_create(&b->mach) == 0);
	MUST(b->mach.machid < MACHINES);	/* K-MACH-1: the lowest */
	b->alive = true;
	b->hvas = 0;
	b->hva_bytes = 0;
}

static void
vcpu(struct box *b, unsigned i)
{
	struct nvmm_assist_callbacks cbs = { on_io, on_mem };
	struct nvmm_vcpu other;

	if (!b->has[i]) {
		MUST(nvmm_vcpu_create(&b->mach, i, &b->vcpu[i]) == 0);
		MUST(nvmm_vcpu_configure(&b->mach, &b->vcpu[i],
		    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
		b->has[i] = true;
		return;
	}
	MUST(nvmm_vcpu_create(&b->mach, i, &other) == -1);
	MUST(errno == EBUSY || errno == EEXIST);
	MUST(nvmm_vcpu_create(&b->mach, 256 + (uint32_t)below(1000), &other) == -1);
	if (below(3) == 0) {
		MUST(nvmm_vcpu_destroy(&b->mach, &b->vcpu[i]) == 0);
		MUST(nvmm_vcpu_run(&b->mach, &b->vcpu[i]) == -1);
		MUST(errno == ENOENT);
		b->has[i] = false;
	}
}

static void
configure(struct box *b, unsigned i)
{
	struct nvmm_vcpu_conf_cpuid c;
	uint64_t op = below(2) ? NVMM_VCPU_CONF_CPUID : 190 + below(20);

	fill(&c, sizeof(c));
	if (below(2))
		c.leaf = (uint32_t)below(64);
	call(nvmm_vcpu_configure(&b->mach, &b->vcpu[i], op, &c),
	    ERRNOS(EINVAL, ENOBUFS));
	MUST(nvmm_machine_configure(&b->mach, value(), &c) == -1);
}

/* ---- memory -------------------------------------------------------------------------- */

static void
memory(struct box *b)
{
	uintptr_t at = hva(), found;
	size_t size = length(at);
	uint64_t gpa = below(8) ? below(64) * PAGE : value();
	nvmm_prot_t prot;

	switch (below(5)) {
	case 0:
		if (call(nvmm_hva_map(&b->mach, at, size),
		    ERRNOS(EINVAL, EEXIST, ENOBUFS))) {
			b->hvas++;
			b->hva_bytes += size;
			MUST(b->hvas <= 32);
		}
		break;
	case 1:
		if (call(nvmm_hva_unmap(&b->mach, at, size), ERRNOS(ENOENT))) {
			b->hvas--;
			b->hva_bytes -= size;
			/* The range is nobody's now; areas still name it. */
			MUST(size == 0 || mmap((void *)at, size,
			    PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (void *)at);
		}
		break;
	case 2:
		call(nvmm_gpa_map(&b->mach, at, gpa, size, (int)below(10)),
		    ERRNOS(EINVAL));
		break;
	case 3:
		errno = 0;
		MUST(nvmm_gpa_unmap(&b->mach, at, gpa, size) <= 0);
		break;
	default:
		if (call(nvmm_gpa_to_hva(&b->mach, gpa, &found, &prot),
		    ERRNOS(ENOENT)))
			MUST(found >= (uintptr_t)arena &&
			    found < (uintptr_t)arena + ARENA_PAGES * PAGE &&
			    (prot & ~(nvmm_prot_t)7) == 0);
		break;
	}
}

static void
info(struct box *b)
{
	struct nvmm_ctl_mach_info mi = { .machid = b->mach.machid };
	unsigned i, n = 0;

	MUST(nvmm_ctl(NVMM_CTL_MACH_INFO, &mi, sizeof(mi)) == 0);
	for (i = 0; i < VCPUS; i++)
		n += b->has[i];
	MUST(mi.nvcpus == n);
	MUST(mi.nram == b->hva_bytes);
	call(nvmm_ctl((int)below(3), &mi, below(64)), ERRNOS(EINVAL, ENOENT));
}

/* ---- state, running --------------------------------------------------------------------- */

/* Real mode in the arena's pages, with one thing at random. */
static void
sane(struct nvmm_x64_state *st)
{
	memset(st->segs, 0, sizeof(st->segs));
	for (unsigned i = 0; i < NVMM_X64_NSEG; i++) {
		st->segs[i].limit = 0xFFFF;
		st->segs[i].attrib.type = i == NVMM_X64_SEG_CS ? 11 : 3;
		st->segs[i].attrib.s = i < NVMM_X64_SEG_GDT;
		st->segs[i].attrib.p = 1;
	}
	st->crs[NVMM_X64_CR_CR0] = 0x10;
	st->crs[NVMM_X64_CR_CR4] = 0;
	st->msrs[NVMM_X64_MSR_EFER] = 0;
	st->gprs[NVMM_X64_GPR_RIP] = below(0x8000);
	st->gprs[NVMM_X64_GPR_RFLAGS] = 2 | (below(2) << 9);
}

static void
change(struct box *b, unsigned i)
{
	struct nvmm_vcpu *v = &b->vcpu[i];
	uint64_t flags = below(4) ? below(0x80) : value();

	MUST(nvmm_vcpu_getstate(&b->mach, v, flags) == 0);
	switch (below(4)) {
	case 0:
		fill(v->state, sizeof(*v->state));
		break;
	case 1:
		v->state->gprs[below(NVMM_X64_NGPR)] = value();
		v->state->crs[below(NVMM_X64_NCR)] = value();
		v->state->msrs[below(NVMM_X64_NMSR)] = value();
		break;
	default:
		sane(v->state);
		flags = NVMM_X64_STATE_ALL;
		break;
	}
	MUST(nvmm_vcpu_setstate(&b->mach, v, flags) == 0);
	MUST((b->mach.pages[i]->state_commit & flags) == flags);
	MUST((b->mach.pages[i]->state_cached & flags) == flags);
	MUST(nvmm_vcpu_getstate(&b->mach, v, flags) == 0);
}

static void
run(struct box *b, unsigned i)
{
	static const uint64_t reasons[] = {
		NVMM_VCPU_EXIT_NONE, NVMM_VCPU_EXIT_MEMORY, NVMM_VCPU_EXIT_IO,
		NVMM_VCPU_EXIT_SHUTDOWN, NVMM_VCPU_EXIT_INT_READY,
		NVMM_VCPU_EXIT_NMI_READY, NVMM_VCPU_EXIT_HALTED,
		NVMM_VCPU_EXIT_TPR_CHANGED, NVMM_VCPU_EXIT_RDMSR,
		NVMM_VCPU_EXIT_WRMSR, NVMM_VCPU_EXIT_MONITOR,
		NVMM_VCPU_EXIT_MWAIT, NVMM_VCPU_EXIT_CPUID,
		NVMM_VCPU_EXIT_STOPPED, NVMM_VCPU_EXIT_INVALID
	};
	struct nvmm_comm_page *comm = b->mach.pages[i];
	struct nvmm_vcpu *v = &b->vcpu[i];
	size_t n;

	if (below(4) == 0) {
		v->event->type = (unsigned)below(4);
		v->event->vector = (uint8_t)below(below(2) ? 32 : 256);
		v->event->u.excp.error = value();
		MUST(nvmm_vcpu_inject(&b->mach, v) == 0);
	}
	if (below(16) == 0)
		(void)nvmm_vcpu_stop(v);
	if (!call(nvmm_vcpu_run(&b->mach, v), ERRNOS(EINVAL))) {
		MUST(!comm->event_commit && comm->state_commit == 0);
		return;
	}
	for (n = 0; n < sizeof(reasons) / sizeof(reasons[0]); n++)
		if (v->exit->reason == reasons[n])
			break;
	MUST(n < sizeof(reasons) / sizeof(reasons[0]));
	MUST(comm->stop == 0);
	if (v->exit->reason > NVMM_VCPU_EXIT_NONE &&
	    v->exit->reason != NVMM_VCPU_EXIT_STOPPED) {
		MUST(comm->state_commit == 0 && !comm->event_commit);
		MUST(nvmm_vcpu_getstate(&b->mach, v, NVMM_X64_STATE_GPRS) == 0);
		MUST(v->state->gprs[NVMM_X64_GPR_RFLAGS] ==
		    v->exit->exitstate.rflags);	/* K-RUN-10 */
	}
}

static void
assist(struct box *b, unsigned i)
{
	struct nvmm_vcpu *v = &b->vcpu[i];
	gpaddr_t gpa = value();
	nvmm_prot_t prot = 0;

	if (below(3) == 0) {		/* an exit that no kernel gives */
		fill(v->exit, sizeof(*v->exit));
		v->exit->reason = below(4);
		if (v->exit->reason == NVMM_VCPU_EXIT_IO) {
			v->exit->u.io.in = below(2);	/* 0 or 1, as C wants */
			v->exit->u.io.rep = below(2);
			v->exit->u.io.str = below(2);
		} else {
			v->exit->u.mem.inst_len &= 0x1F;
		}
	}
	if (below(2))
		call(nvmm_assist_io(&b->mach, v), ERRNOS(EINVAL, EFAULT));
	else
		call(nvmm_assist_mem(&b->mach, v),
		    ERRNOS(EINVAL, EFAULT, ENODEV));
	if (call(nvmm_gva_to_gpa(&b->mach, v, value(), &gpa, &prot),
	    ERRNOS(EFAULT)))
		MUST((prot & ~(nvmm_prot_t)NVMM_PROT_ALL) == 0);
}

int
main(int argc, char **argv)
{
	struct box *b;
	unsigned i, steps;

	if (argc != 3)
		return 2;
	state = seed = strtoull(argv[1], NULL, 10);
	steps = (unsigned)strtoul(argv[2], NULL, 10);
	setenv("NVMM_SOFT_CHAOS", argv[1], 1);	/* short runs */
	MUST(nvmm_init() == 0);
	arena = mmap(NULL, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(arena != MAP_FAILED);
	for (step = 0; step < steps; step++) {
		b = &boxes[below(MACHINES)];
		i = (unsigned)below(VCPUS);
		if (!b->alive || below(200) == 0) {
			machine(b);
			continue;
		}
		if (below(8) == 0)
			fill(arena + below(ARENA_PAGES - 1) * PAGE + below(PAGE), 64);
		if (!b->has[i] || below(100) == 0)
			vcpu(b, i);
		else switch (below(8)) {
		case 0:
			configure(b, i);
			break;
		case 1:
		case 2:
			memory(b);
			break;
		case 3:
			info(b);
			break;
		case 4:
			change(b, i);
			break;
		case 5:
			assist(b, i);
			break;
		default:
			run(b, i);
			break;
		}
	}
	for (b = boxes; b < boxes + MACHINES; b++) {
		for (i = 0; b->alive && i < VCPUS; i++)
			if (b->has[i])
				MUST(nvmm_vcpu_destroy(&b->mach, &b->vcpu[i]) == 0);
		if (b->alive)
			MUST(nvmm_machine_destroy(&b->mach) == 0);
	}
	return 0;
}
