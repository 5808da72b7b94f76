/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Linear to guest-physical to host (SDM 3A, chapter 4; APM 2, chapter 5).
 *
 * There is no TLB: each access walks.  That is always allowed, since software
 * may count on no entry being cached.
 */
#include <string.h>

#include "internal.h"

#define PTE_P		UINT64_C(0x01)
#define PTE_W		UINT64_C(0x02)
#define PTE_U		UINT64_C(0x04)
#define PTE_A		UINT64_C(0x20)
#define PTE_D		UINT64_C(0x40)
#define PTE_PS		UINT64_C(0x80)
#define PTE_NX		(UINT64_C(1) << 63)
#define PTE_ADDRESS	UINT64_C(0x000FFFFFFFFFF000)

#define PF_P		0x01u
#define PF_W		0x02u
#define PF_U		0x04u
#define PF_RSVD		0x08u
#define PF_FETCH	0x10u

/*
 * Host address of a guest-physical byte that may be used so, or an exit.  The
 * exit names one right: the access that was tried.
 */
uint8_t *
physical(struct exec *x, uint64_t gpa, uint32_t access)
{
	struct cpu *cpu = x->cpu;
	uint64_t page = gpa & ~UINT64_C(0xFFF);
	unsigned slot = (page >> 12) % CPU_PAGE_CACHE;
	uint32_t rights = 0;
	uint8_t *host;

	if (cpu->private.cache[slot].page == (page | 1)) {
		host = cpu->private.cache[slot].host;
		rights = cpu->private.cache[slot].access;
	} else {
		host = cpu->bus->page(cpu->bus_arg, page, &rights);
		if (host != NULL) {
			cpu->private.cache[slot].page = page | 1;
			cpu->private.cache[slot].host = host;
			cpu->private.cache[slot].access = rights;
		}
	}
	if (host != NULL && (rights & access) == access)
		return host + (gpa & 0xFFF);

	memset(&x->exit->memory, 0, sizeof(x->exit->memory));
	x->exit->memory.gpa = gpa;
	x->exit->memory.access = access;
	/* Bytes only if an instruction made the access: not for its own fetch,
	 * not for an event from outside or an exception. */
	if (x->in.op != NULL && (x->delivering.type == CPU_EVENT_NONE || x->delivering_insn)) {
		x->exit->memory.inst_len = x->in.len;
		memcpy(x->exit->memory.inst_bytes, x->in.bytes, sizeof(x->in.bytes));
	}
	leave(x, CPU_EXIT_MEMORY);
}

void
cpu_memory_changed(struct cpu *cpu)
{
	memset(cpu->private.cache, 0, sizeof(cpu->private.cache));
}

/* One walk: where it is, what the entries so far allow. */
struct walk {
	uint64_t linear;
	enum access how;
	bool user;
	bool writable, user_page, no_execute;
	struct {
		uint8_t *host;
		uint64_t value;
	} used[4];		/* entries, for their A and D bits */
	unsigned depth, entry_size;
};

_Noreturn static void
page_fault(struct exec *x, const struct walk *w, uint32_t error)
{
	const struct cpu *cpu = x->cpu;

	if (w->how == ACCESS_WRITE)
		error |= PF_W;
	if (w->user)
		error |= PF_U;
	/* SDM 3A 4.7: the I/D flag only where NX exists. */
	if (w->how == ACCESS_FETCH && (cpu->efer & EFER_NXE) && (cpu->cr4 & CR4_PAE))
		error |= PF_FETCH;
	x->cpu->cr2 = w->linear;
	fault(x, EXC_PF, error);
}

/*
 * The entry at a guest-physical address.  With nested paging the processor
 * treats all accesses to guest tables as writes (APM 2, 15.25.5).
 */
static uint64_t
walk_entry(struct exec *x, struct walk *w, uint64_t gpa, uint64_t reserved)
{
	uint8_t *host = physical(x, gpa, CPU_ACCESS_WRITE);
	uint64_t value = 0;

	if (w->entry_size == 8) {
		memcpy(&value, host, 8);
	} else {
		uint32_t value32;

		memcpy(&value32, host, 4);
		value = value32;
	}
	if (!(value & PTE_P))
		page_fault(x, w, 0);
	if (value & reserved)
		page_fault(x, w, PF_P | PF_RSVD);
	w->used[w->depth].host = host;
	w->used[w->depth++].value = value;
	return value;
}

static void
walk_rights(struct walk *w, uint64_t entry)
{
	w->writable &= (entry & PTE_W) != 0;
	w->user_page &= (entry & PTE_U) != 0;
	w->no_execute |= w->entry_size == 8 && (entry & PTE_NX) != 0;
}

/* SDM 3A 4.6.1, then the A and D bits (4.8). */
static void
walk_finish(struct exec *x, struct walk *w)
{
	unsigned i;

	if (w->user && !w->user_page)
		page_fault(x, w, PF_P);
	if (w->how == ACCESS_WRITE && !w->writable &&
	    (w->user || (x->cpu->cr0 & CR0_WP)))
		page_fault(x, w, PF_P);
	if (w->how == ACCESS_FETCH && w->no_execute)
		page_fault(x, w, PF_P);
	for (i = 0; i < w->depth; i++) {
		uint64_t value = w->used[i].value | PTE_A;

		if (i == w->depth - 1 && w->how == ACCESS_WRITE)
			value |= PTE_D;
		if (value == w->used[i].value)
			continue;
		/* A, D and what else changes are in the low byte. */
		*w->used[i].host = (uint8_t)value;
	}
}

/* Four-level paging, and PAE paging from its page directory on. */
static uint64_t
walk_long(struct exec *x, struct walk *w, uint64_t table, int level)
{
	const struct cpu *cpu = x->cpu;
	uint64_t always = PTE_ADDRESS & ~PHYS_MASK;
	uint64_t entry, size;

	if (!(cpu->efer & EFER_NXE))
		always |= PTE_NX;
	if (!long_mode(cpu))
		always |= UINT64_C(0x7FF0000000000000);	/* SDM 3A table 4-9 */
	for (;; level--) {
		uint64_t reserved = always;
		unsigned shift = 12 + 9 * (unsigned)(level - 1);

		if (level == 4)
			reserved |= PTE_PS;
		entry = walk_entry(x, w, table +
		    8 * ((w->linear >> shift) & 0x1FF), reserved);
		walk_rights(w, entry);
		size = UINT64_C(1) << shift;
		if (level == 1)
			break;
		if (entry & PTE_PS) {
			/* Bit 12 is PAT; those up to the page size are reserved. */
			if (entry & PTE_ADDRESS & (size - 1) & ~UINT64_C(0x1FFF))
				page_fault(x, w, PF_P | PF_RSVD);
			break;
		}
		table = entry & PTE_ADDRESS;
	}
	walk_finish(x, w);
	return (entry & PTE_ADDRESS & ~(size - 1)) | (w->linear & (size - 1));
}

/* PAE: four pointers, not cached, as under nested paging (APM 2, 15.25.10). */
static uint64_t
walk_pae(struct exec *x, struct walk *w)
{
	uint64_t at = (x->cpu->cr3 & 0xFFFFFFE0u) + 8 * (w->linear >> 30 & 3);
	uint64_t pointer = walk_entry(x, w, at,
	    UINT64_C(0xFFF00000000001E6) | (PTE_ADDRESS & ~PHYS_MASK));

	w->depth = 0;		/* these have no A bit */
	return walk_long(x, w, pointer & PTE_ADDRESS, 2);
}

/* SDM 3A 4.3; 4 MiB pages with 40 bits of address (PSE-36). */
static uint64_t
walk_32(struct exec *x, struct walk *w)
{
	uint64_t entry, linear = w->linear;

	w->entry_size = 4;
	entry = walk_entry(x, w, (x->cpu->cr3 & 0xFFFFF000u) + 4 * (linear >> 22), 0);
	walk_rights(w, entry);
	if ((entry & PTE_PS) && (x->cpu->cr4 & CR4_PSE)) {
		if (entry & 0x200000)
			page_fault(x, w, PF_P | PF_RSVD);
		walk_finish(x, w);
		return (entry & 0xFFC00000u) | (entry >> 13 & 0xFF) << 32 |
		    (linear & 0x3FFFFF);
	}
	entry = walk_entry(x, w, (entry & 0xFFFFF000u) + 4 * (linear >> 12 & 0x3FF), 0);
	walk_rights(w, entry);
	walk_finish(x, w);
	return (entry & 0xFFFFF000u) | (linear & 0xFFF);
}

uint64_t
translate(struct exec *x, uint64_t linear, enum access how, bool supervisor)
{
	const struct cpu *cpu = x->cpu;
	struct walk w = {
		.linear = linear, .how = how, .entry_size = 8,
		.user = !supervisor && protected_mode(cpu) && cpu_cpl(cpu) == 3,
		.writable = true, .user_page = true
	};

	if (!(cpu->cr0 & CR0_PG))
		return linear;
	if (long_mode(cpu))
		return walk_long(x, &w, cpu->cr3 & PTE_ADDRESS & PHYS_MASK, 4);
	if (cpu->cr4 & CR4_PAE)
		return walk_pae(x, &w);
	return walk_32(x, &w);
}

/* Resolves an operand completely before any of it is touched. */
void
span_of(struct exec *x, uint64_t linear, unsigned len, enum access how,
    bool supervisor, struct span *s)
{
	uint32_t right = how == ACCESS_WRITE ? CPU_ACCESS_WRITE : CPU_ACCESS_READ;
	unsigned room = 0x1000 - (linear & 0xFFF);

	s->len[0] = len < room ? len : room;
	s->len[1] = len - s->len[0];
	s->part[1] = NULL;
	s->part[0] = physical(x, translate(x, linear, how, supervisor), right);
	if (s->len[1] != 0) {
		uint64_t next = linear + room;

		/* 32-bit addresses wrap; a system table may be above them. */
		if (!mode64(x->cpu) && linear <= UINT32_MAX)
			next = (uint32_t)next;
		s->part[1] = physical(x, translate(x, next, how, supervisor), right);
	}
}

static void
span_copy(const struct span *s, unsigned at, unsigned len, uint8_t *buf, bool store)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		unsigned n;

		if (at >= s->len[i]) {
			at -= s->len[i];
			continue;
		}
		n = s->len[i] - at < len ? s->len[i] - at : len;
		if (n == 0)
			break;
		if (store)
			memcpy(s->part[i] + at, buf, n);
		else
			memcpy(buf, s->part[i] + at, n);
		buf += n;
		len -= n;
		at = 0;
	}
}

uint64_t
span_load(const struct span *s, unsigned at, unsigned len)
{
	uint8_t buf[8] = { 0 };
	uint64_t value = 0;
	unsigned i;

	span_copy(s, at, len, buf, false);
	for (i = len; i-- > 0;)
		value = value << 8 | buf[i];
	return value;
}

void
span_store(const struct span *s, unsigned at, unsigned len, uint64_t value)
{
	uint8_t buf[8];
	unsigned i;

	for (i = 0; i < len; i++)
		buf[i] = (uint8_t)(value >> (8 * i));
	span_copy(s, at, len, buf, true);
}

/* Descriptor tables and task-state segments: no CPL, no segment. */
uint64_t
read_system(struct exec *x, uint64_t linear, unsigned len)
{
	struct span s;

	if (!long_mode(x->cpu))
		linear = (uint32_t)linear;
	span_of(x, linear, len, ACCESS_READ, true, &s);
	return span_load(&s, 0, len);
}

void
write_system(struct exec *x, uint64_t linear, unsigned len, uint64_t value)
{
	struct span s;

	if (!long_mode(x->cpu))
		linear = (uint32_t)linear;
	span_of(x, linear, len, ACCESS_WRITE, true, &s);
	span_store(&s, 0, len, value);
}
