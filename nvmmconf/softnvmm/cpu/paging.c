/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Linear to guest-physical to host (SDM 3A, chapter 4; APM 2, chapter 5).
 *
 * Translations are kept in a TLB of 4 KiB pages (tlb.c).  An access that an
 * entry does not allow walks again, so each fault comes from the tables.
 */
#include <string.h>

#include "internal.h"

#define PTE_P		UINT64_C(0x01)
#define PTE_W		UINT64_C(0x02)
#define PTE_U		UINT64_C(0x04)
#define PTE_A		UINT64_C(0x20)
#define PTE_D		UINT64_C(0x40)
#define PTE_PS		UINT64_C(0x80)
#define PTE_G		UINT64_C(0x100)
#define PTE_NX		(UINT64_C(1) << 63)
#define PTE_ADDRESS	UINT64_C(0x000FFFFFFFFFF000)

#define PF_P		0x01u
#define PF_W		0x02u
#define PF_U		0x04u
#define PF_RSVD		0x08u
#define PF_FETCH	0x10u

/*
 * The instruction and what follows it, up to 15 bytes: the processor fetches by
 * the line, and reports what it has (APM 2, 15.8.4).  No further than the page
 * and the segment, as more might not be there.
 */
static void
report_bytes(struct exec *x)
{
	const struct cpu_seg *cs = &x->start.seg[CPU_CS];
	bool flat = long_mode(x->cpu) && cs->l;
	uint64_t next = x->start.rip + x->in.len, at;
	unsigned n = x->in.len;

	memcpy(x->exit->memory.inst_bytes, x->in.bytes, n);
	for (; n < sizeof(x->in.bytes) && (flat || next <= cs->limit); n++, next++) {
		at = flat ? next : (uint32_t)(cs->base + next);
		if (x->fetch_page != ((at & ~UINT64_C(0xFFF)) | 1))
			break;
		memcpy(&x->exit->memory.inst_bytes[n], x->fetch_host + (at & 0xFFF), 1);
	}
	x->exit->memory.inst_len = (uint8_t)n;
}

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
	if (x->in.op != NULL && (x->delivering.type == CPU_EVENT_NONE || x->delivering_insn))
		report_bytes(x);
	leave(x, CPU_EXIT_MEMORY);
}

void
cpu_memory_changed(struct cpu *cpu)
{
	memset(cpu->private.cache, 0, sizeof(cpu->private.cache));
	tlb_flush(cpu);
}

/* One walk: where it is, what the entries so far allow. */
struct walk {
	uint64_t linear;
	enum access how;
	enum rank rank;
	bool user;		/* a user-mode access (SDM 3A 4.6) */
	bool pge;
	struct cpu_tlb_entry found;
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
	/* SDM 3A 4.7: the I/D flag only where NX or SMEP is on. */
	if (w->how == ACCESS_FETCH && ((cpu->cr4 & CR4_SMEP) ||
	    ((cpu->efer & EFER_NXE) && (cpu->cr4 & CR4_PAE))))
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
	struct span s = { .part = { host, NULL }, .len = { w->entry_size, 0 } };
	uint64_t value = span_load(&s, 0, w->entry_size);

	if (!(value & PTE_P))
		page_fault(x, w, 0);
	if (value & reserved)
		page_fault(x, w, PF_P | PF_RSVD);
	w->used[w->depth].host = host;
	w->used[w->depth++].value = value;
	return value;
}

/* An entry that leads on has been used, even if the access is refused below. */
static void
walk_on(struct walk *w)
{
	unsigned i = w->depth - 1;
	uint64_t value = w->used[i].value | PTE_A;
	struct span s = { .part = { w->used[i].host, NULL }, .len = { w->entry_size, 0 } };

	/* If it has changed, mark_used() will see that too. */
	if (value != w->used[i].value &&
	    span_exchange(&s, w->entry_size, w->used[i].value, value))
		w->used[i].value = value;
}

static void
walk_rights(struct walk *w, uint64_t entry)
{
	w->found.writable &= (entry & PTE_W) != 0;
	w->found.user &= (entry & PTE_U) != 0;
	w->found.no_execute |= w->entry_size == 8 && (entry & PTE_NX) != 0;
	w->found.global = w->pge && (entry & PTE_G) != 0;
}

/* SDM 3A 4.6.1: may this access use a page with these rights? */
static bool
allowed(const struct cpu *cpu, const struct walk *w, const struct cpu_tlb_entry *e)
{
	if (w->user) {
		if (!e->user || (w->how == ACCESS_WRITE && !e->writable))
			return false;
	} else {
		if (w->how == ACCESS_WRITE && !e->writable && (cpu->cr0 & CR0_WP))
			return false;
		if (w->how == ACCESS_FETCH && e->user && (cpu->cr4 & CR4_SMEP))
			return false;
		/* AC lifts SMAP for the program's own accesses only. */
		if (w->how != ACCESS_FETCH && e->user && (cpu->cr4 & CR4_SMAP) &&
		    (w->rank == RANK_SYSTEM || !(cpu->rflags & FLAG_AC)))
			return false;
	}
	return w->how != ACCESS_FETCH || !e->no_execute;
}

/*
 * The A and D bits (SDM 3A 4.8), by locked updates (9.1.2.1).  False: another
 * processor has changed an entry, so that the walk has to be made again.
 */
static bool
mark_used(const struct walk *w)
{
	unsigned i;

	for (i = 0; i < w->depth; i++) {
		struct span s = { .part = { w->used[i].host, NULL }, .len = { w->entry_size, 0 } };
		uint64_t value = w->used[i].value | PTE_A;

		if (i == w->depth - 1 && w->how == ACCESS_WRITE)
			value |= PTE_D;
		if (value != w->used[i].value &&
		    !span_exchange(&s, w->entry_size, w->used[i].value, value))
			return false;
	}
	return true;
}

/* Four-level paging, and PAE paging from its page directory on. */
static void
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
			w->found.large = true;
			break;
		}
		walk_on(w);
		table = entry & PTE_ADDRESS;
	}
	w->found.gpa = (entry & PTE_ADDRESS & ~(size - 1)) | (w->linear & (size - 1));
}

#define PDPTE_RESERVED	(UINT64_C(0xFFF00000000001E6) | (PTE_ADDRESS & ~PHYS_MASK))

/* As registers, they are loaded late: a walk comes after each load, and it can
 * be cut short by an exit as the load itself would be. */
static uint64_t
pdpte_held(struct exec *x, struct walk *w, unsigned n)
{
	struct cpu_private *held = &x->cpu->private;
	unsigned i;

	if (held->pdptes_wanted) {
		struct span s = {
			.part = { physical(x, x->cpu->cr3 & 0xFFFFFFE0u,
			    CPU_ACCESS_WRITE), NULL },
			.len = { sizeof(held->pdpte), 0 }
		};

		for (i = 0; i < 4; i++)
			held->pdpte[i] = span_load(&s, 8 * i, 8);
		held->pdptes_wanted = false;
	}
	if (!(held->pdpte[n] & PTE_P))
		page_fault(x, w, 0);
	if (held->pdpte[n] & PDPTE_RESERVED)
		page_fault(x, w, PF_P | PF_RSVD);
	return held->pdpte[n];
}

/*
 * Intel loads all four with CR3, and refuses what is wrong with one of them then
 * (SDM 3A 4.4.1); with AMD a walk finds it.
 */
void
check_pdptes(struct exec *x, uint64_t cr3)
{
	const struct cpu *cpu = x->cpu;
	struct span s = { .len = { 32, 0 } };
	unsigned i;

	if (!intel(cpu) || long_mode(cpu) || !(cpu->cr0 & CR0_PG) || !(cpu->cr4 & CR4_PAE))
		return;
	s.part[0] = physical(x, cr3 & 0xFFFFFFE0u, CPU_ACCESS_READ);
	for (i = 0; i < 4; i++) {
		uint64_t entry = span_load(&s, 8 * i, 8);

		if ((entry & PTE_P) && (entry & PDPTE_RESERVED))
			gp0(x);
	}
}

/* PAE: four pointers, not cached, as under nested paging (APM 2, 15.25.10). */
static void
walk_pae(struct exec *x, struct walk *w)
{
	unsigned n = w->linear >> 30 & 3;
	uint64_t pointer = (x->cpu->intercepts & CPU_PDPTES_HELD) ?
	    pdpte_held(x, w, n) :
	    walk_entry(x, w, (x->cpu->cr3 & 0xFFFFFFE0u) + 8 * n, PDPTE_RESERVED);

	w->depth = 0;		/* these have no A bit */
	walk_long(x, w, pointer & PTE_ADDRESS, 2);
}

/* SDM 3A 4.3; 4 MiB pages with 40 bits of address (PSE-36). */
static void
walk_32(struct exec *x, struct walk *w)
{
	uint64_t entry, linear = w->linear;

	w->entry_size = 4;
	entry = walk_entry(x, w, (x->cpu->cr3 & 0xFFFFF000u) + 4 * (linear >> 22), 0);
	walk_rights(w, entry);
	if ((entry & PTE_PS) && (x->cpu->cr4 & CR4_PSE)) {
		if (entry & 0x200000)
			page_fault(x, w, PF_P | PF_RSVD);
		w->found.large = true;
		w->found.gpa = (entry & 0xFFC00000u) | (entry >> 13 & 0xFF) << 32 |
		    (linear & 0x3FFFFF);
		return;
	}
	walk_on(w);
	entry = walk_entry(x, w, (entry & 0xFFFFF000u) + 4 * (linear >> 12 & 0x3FF), 0);
	walk_rights(w, entry);
	w->found.gpa = (entry & 0xFFFFF000u) | (linear & 0xFFF);
}

static void
walk_tables(struct exec *x, struct walk *w)
{
	const struct cpu *cpu = x->cpu;

	do {
		w->depth = 0;
		w->entry_size = 8;
		w->found = (struct cpu_tlb_entry){
			.writable = true, .user = true
		};
		if (long_mode(cpu))
			walk_long(x, w, cpu->cr3 & PTE_ADDRESS & PHYS_MASK, 4);
		else if (cpu->cr4 & CR4_PAE)
			walk_pae(x, w);
		else
			walk_32(x, w);
		if (!allowed(cpu, w, &w->found))
			page_fault(x, w, PF_P);
	} while (!mark_used(w));
	w->found.dirty = w->how == ACCESS_WRITE;
}

uint64_t
translate(struct exec *x, uint64_t linear, enum access how, enum rank rank)
{
	struct cpu *cpu = x->cpu;
	const struct cpu_tlb_entry *e;
	struct walk w = {
		.linear = linear, .how = how, .rank = rank,
		.pge = (cpu->cr4 & CR4_PGE) != 0,
		.user = rank == RANK_CPL && protected_mode(cpu) && cpu_cpl(cpu) == 3
	};

	if (!(cpu->cr0 & CR0_PG)) {
		tlb_flush(cpu);		/* PG off drops all (SDM 3A 4.10.4.1) */
		return linear;
	}
	e = tlb_find(cpu, linear);
	if (e != NULL && allowed(cpu, &w, e) && (how != ACCESS_WRITE || e->dirty))
		return e->gpa | (linear & 0xFFF);
	walk_tables(x, &w);
	tlb_insert(cpu, linear, &w.found);
	return w.found.gpa;
}
