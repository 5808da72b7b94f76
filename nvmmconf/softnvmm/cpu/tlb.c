/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The translation lookaside buffer (SDM 3A, 4.10).
 *
 * Entries are for 4 KiB of linear addresses, direct-mapped.  Nothing is ever
 * searched to be dropped: an entry is good while its generation is current,
 * that of all entries or, for a page that is not global, of a flush that
 * spares global ones.
 *
 * The registers that translation depends on are compared at each look-up, so
 * that whoever writes them, the guest or the hypervisor, has nothing else to
 * do.  What cannot be seen so, MOV CR3 with the same value and INVLPG, calls.
 */
#include "internal.h"

static struct cpu_tlb_entry *
slot_of(struct cpu *cpu, uint64_t linear)
{
	return &cpu->private.tlb.entry[(linear >> 12) % CPU_TLB];
}

/* Everything, global pages too. */
void
tlb_flush(struct cpu *cpu)
{
	struct cpu_tlb *t = &cpu->private.tlb;

	t->all = t->local = ++t->last;
}

/* What MOV CR3 drops: all but global pages (SDM 3A 4.10.4.1). */
void
tlb_flush_local(struct cpu *cpu)
{
	struct cpu_tlb *t = &cpu->private.tlb;

	t->local = ++t->last;
}

/* One page, of whatever size; with a large one go all large ones. */
void
tlb_flush_page(struct cpu *cpu, uint64_t linear)
{
	struct cpu_tlb *t = &cpu->private.tlb;
	unsigned i;

	slot_of(cpu, linear)->generation = 0;
	for (i = 0; i < CPU_TLB; i++)
		if (t->entry[i].large)
			t->entry[i].generation = 0;
}

/* Which bits matter: SDM 3A 4.10.4.1, WP and the like being read at each use. */
static void
notice_changes(struct cpu *cpu)
{
	struct cpu_tlb *t = &cpu->private.tlb;
	uint32_t cr4 = (uint32_t)cpu->cr4 &
	    (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP);
	uint32_t efer = (uint32_t)cpu->efer & (EFER_LMA | EFER_NXE);

	if (t->cr4 != cr4 || t->efer != efer)
		tlb_flush(cpu);
	else if (t->cr3 != cpu->cr3)
		tlb_flush_local(cpu);
	t->cr3 = cpu->cr3;
	t->cr4 = cr4;
	t->efer = efer;
}

const struct cpu_tlb_entry *
tlb_find(struct cpu *cpu, uint64_t linear)
{
	const struct cpu_tlb *t = &cpu->private.tlb;
	const struct cpu_tlb_entry *e = slot_of(cpu, linear);

	notice_changes(cpu);
	if (e->page != linear >> 12 ||
	    e->generation != (e->global ? t->all : t->local))
		return NULL;
	return e;
}

void
tlb_insert(struct cpu *cpu, uint64_t linear, const struct cpu_tlb_entry *found)
{
	struct cpu_tlb *t = &cpu->private.tlb;
	struct cpu_tlb_entry *e = slot_of(cpu, linear);

	*e = *found;
	e->page = linear >> 12;
	e->gpa &= ~UINT64_C(0xFFF);
	e->generation = e->global ? t->all : t->local;
}
