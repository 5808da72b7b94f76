/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The library's own view of guest memory: page walk, segments, and reads and
 * writes for the assists (spec libnvmm 5, 5.1 and L-IO-9).
 *
 * Everything here works on vcpu->state and the areas; nothing asks the
 * kernel.  Functions give 0 or an errno.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define PTE_P		UINT64_C(0x001)
#define PTE_W		UINT64_C(0x002)
#define PTE_U		UINT64_C(0x004)
#define PTE_A		UINT64_C(0x020)
#define PTE_D		UINT64_C(0x040)
#define PTE_PS		UINT64_C(0x080)	/* PAT in a 4 KiB entry */
/* Reserved with PAE outside long mode (SDM 3A 4.4). */
#define PAE_RESERVED	UINT64_C(0x7FF0000000000000)
#define PDPTE_RESERVED	UINT64_C(0xFFF00000000001E6)
#define PDE_21		UINT64_C(0x200000)	/* of a 4 MiB page */
#define PDE_21_13	UINT64_C(0x3FE000)
#define CPUID_PSE36	(1u << 17)		/* leaf 1, EDX */
#define PTE_NX		(UINT64_C(1) << 63)
#define EFER_NXE	(UINT64_C(1) << 11)
#define CR0_WP		(UINT64_C(1) << 16)
#define CR4_SMAP	(UINT64_C(1) << 21)
#define RFLAGS_AC	(UINT64_C(1) << 18)
#define FRAME_32	UINT64_C(0x00000000FFFFF000)
#define FRAME_64	UINT64_C(0x000FFFFFFFFFF000)

struct walk {
	struct nvmm_machine *mach;
	const struct soft_model *model;
	uint64_t cr3, cr4;
	gvaddr_t gva;
	nvmm_prot_t prot;
	uint64_t entry;			/* the one last read */
	bool by_the_book;		/* not SOFT_Q_WALK_TABLES_ONLY */
	bool nxe;
	uint8_t *at[4];			/* entries with an A bit, as read */
	unsigned nat;
	gpaddr_t gpa;			/* result, page offset not yet added */
};

/* Entry number gva[high:low] of the table at `table`, `width` bytes each;
 * EFAULT if there is no such memory or the entry is not present. */
static int
level(struct walk *w, uint64_t table, unsigned high, unsigned low,
    unsigned width)
{
	uint64_t index = (w->gva >> low) &
	    ((UINT64_C(1) << (high - low + 1)) - 1);
	gpaddr_t gpa = table + index * width;
	nvmm_prot_t ignored;
	uintptr_t hva;

	if (nvmm_gpa_to_hva(w->mach, gpa, &hva, &ignored) == -1)
		return EFAULT;		/* L-WALK-7 */
	if (low != 30 || width == 4 || high != 31)
		w->at[w->nat++] = (uint8_t *)hva;
	if (width == 4)
		w->entry = __atomic_load_n((uint32_t *)hva, __ATOMIC_RELAXED);
	else
		w->entry = __atomic_load_n((uint64_t *)hva, __ATOMIC_RELAXED);
	return (w->entry & PTE_P) ? 0 : EFAULT;
}

/* L-WALK-6. */
static void
restrict_rw(struct walk *w)
{
	if (SOFT_FAULT(w->model, SOFT_F_WALK_LAST_PROT))
		w->prot = NVMM_PROT_ALL;
	if ((w->entry & PTE_U) == 0 &&
	    !SOFT_FAULT(w->model, SOFT_F_WALK_USER))
		w->prot &= ~(nvmm_prot_t)NVMM_PROT_USER;
	if ((w->entry & PTE_W) == 0)
		w->prot &= ~(nvmm_prot_t)NVMM_PROT_WRITE;
}

/* Bits that make hardware raise #PF; those above the processor's physical
 * addresses are not for a library to know. */
static bool
reserved(const struct walk *w, uint64_t bits)
{
	return w->by_the_book &&
	    ((w->entry & bits) != 0 || ((w->entry & PTE_NX) && !w->nxe));
}

static void
restrict_nx(struct walk *w)
{
	if ((w->entry & PTE_NX) && !SOFT_FAULT(w->model, SOFT_F_WALK_NX))
		w->prot &= ~(nvmm_prot_t)NVMM_PROT_EXEC;
}

/* A page of 2^shift bytes whose frame is entry & frame (L-WALK-10). */
static int
page(struct walk *w, unsigned shift, uint64_t frame)
{
	uint64_t offset = (UINT64_C(1) << shift) - 1;

	w->gpa = w->entry & frame & ~offset;
	if (!SOFT_FAULT(w->model, SOFT_F_WALK_LARGE_OFFSET))
		w->gpa |= w->gva & offset & ~SOFT_PAGE_MASK;
	return 0;
}

static int
last(struct walk *w, uint64_t frame)
{
	/* L-WALK-9: bit 7 is the PAT here, and no error. */
	if ((w->entry & PTE_PS) && SOFT_QUIRK(w->model, SOFT_Q_WALK_PAT))
		return EFAULT;
	return page(w, 12, frame);
}

/* Of a large page: the address bits below it, but for bit 12, the PAT. */
static uint64_t
large_reserved(const struct walk *w, unsigned shift)
{
	return shift > 12 && (w->entry & PTE_PS) ?
	    (UINT64_C(1) << shift) - (UINT64_C(1) << 13) : 0;
}

/* PSE-36 (SDM 3A 4.3): bits 20:13 of a 4 MiB page's entry are 39:32 of its frame.
 * Where CPUID does not offer it they are reserved, as bit 21 always is. */
static int
large_page_2(struct walk *w)
{
	uint64_t high = (w->entry >> 13 & 0xFF) << 32;
	uint32_t cpuid[4];

	if (SOFT_QUIRK(w->model, SOFT_Q_WALK_NO_PSE36))
		return page(w, 22, FRAME_32);
	soft_host_cpuid(w->model->host, 1, 0, cpuid);
	if (reserved(w, cpuid[3] & CPUID_PSE36 ? PDE_21 : PDE_21_13))
		return EFAULT;
	if ((cpuid[3] & CPUID_PSE36) == 0)
		high = 0;
	(void)page(w, 22, FRAME_32);
	w->gpa |= high;
	return 0;
}

static int
walk_2(struct walk *w)
{
	if (level(w, w->cr3 & FRAME_32, 31, 22, 4) != 0)
		return EFAULT;
	restrict_rw(w);
	if (w->entry & PTE_PS) {
		if (w->cr4 & SOFT_CR4_PSE)
			return large_page_2(w);
		if (SOFT_QUIRK(w->model, SOFT_Q_WALK_PS_NO_PSE))
			return EFAULT;
	}
	if (level(w, w->entry & FRAME_32, 21, 12, 4) != 0)
		return EFAULT;
	restrict_rw(w);
	return last(w, FRAME_32);
}

static int
walk_pae(struct walk *w)
{
	uint64_t base = SOFT_FAULT(w->model, SOFT_F_WALK_PAE_CR3) ?
	    FRAME_32 : UINT64_C(0xFFFFFFE0);

	if (level(w, w->cr3 & base, 31, 30, 8) != 0)
		return EFAULT;
	restrict_nx(w);
	if ((w->entry & PTE_PS) || reserved(w, PDPTE_RESERVED))
		return EFAULT;
	if (level(w, w->entry & FRAME_64, 29, 21, 8) != 0 ||
	    reserved(w, PAE_RESERVED | large_reserved(w, 21)))
		return EFAULT;
	restrict_rw(w);
	restrict_nx(w);
	if (w->entry & PTE_PS)
		return page(w, 21,
		    SOFT_QUIRK(w->model, SOFT_Q_WALK_PAE_2M) ?
		    FRAME_32 : FRAME_64);
	if (level(w, w->entry & FRAME_64, 20, 12, 8) != 0 ||
	    reserved(w, PAE_RESERVED))
		return EFAULT;
	restrict_rw(w);
	restrict_nx(w);
	return last(w, FRAME_64);
}

static int
walk_4(struct walk *w)
{
	uint64_t large = SOFT_QUIRK(w->model, SOFT_Q_WALK_LARGE_47) ?
	    FRAME_64 & ((UINT64_C(1) << 48) - 1) : FRAME_64;
	uint64_t upper = w->gva >> 47;
	uint64_t table = w->cr3 & FRAME_64;
	unsigned shift;

	if (upper != 0 && upper != 0x1FFFF &&
	    !SOFT_FAULT(w->model, SOFT_F_WALK_CANONICAL))
		return EFAULT;			/* L-WALK-8 */
	for (shift = 39; shift >= 12; shift -= 9) {
		if (level(w, table, shift + 8, shift, 8) != 0 ||
		    reserved(w, large_reserved(w, shift)))
			return EFAULT;
		restrict_rw(w);
		restrict_nx(w);
		if (shift > 12 && (w->entry & PTE_PS) &&
		    (w->cr4 & SOFT_CR4_PSE) == 0 &&
		    SOFT_FAULT(w->model, SOFT_F_WALK_NEEDS_PSE))
			return EFAULT;
		if (shift > 12 && (w->entry & PTE_PS))
			return shift == 39 ? EFAULT : page(w, shift, large);
		table = w->entry & FRAME_64;
	}
	return last(w, FRAME_64);
}

static int
walk(struct walk *wp, struct nvmm_machine *mach, const struct nvmm_x64_state *st,
    gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	struct walk w = {
		.mach = mach,
		.model = soft_areas_model(mach),
		.cr3 = st->crs[NVMM_X64_CR_CR3],
		.cr4 = st->crs[NVMM_X64_CR_CR4],
		.nxe = (st->msrs[NVMM_X64_MSR_EFER] & EFER_NXE) != 0,
		.gva = gva,
		.prot = NVMM_PROT_ALL,
	};
	uint64_t lma = SOFT_FAULT(w.model, SOFT_F_WALK_LME) ?
	    SOFT_EFER_LMA >> 2 : SOFT_EFER_LMA;
	int error;

	w.by_the_book = !SOFT_QUIRK(w.model, SOFT_Q_WALK_TABLES_ONLY);
	wp->nat = 0;
	wp->by_the_book = false;

	if ((st->crs[NVMM_X64_CR_CR0] & SOFT_CR0_PG) == 0) {	/* L-WALK-2 */
		*gpa = gva;
		*prot = NVMM_PROT_ALL;
		return 0;
	}
	/* L-WALK-5, L-WALK-15. */
	w.gpa = *gpa;
	if (st->msrs[NVMM_X64_MSR_EFER] & lma) {
		if ((w.cr4 & SOFT_CR4_PAE) == 0) {
			*gpa += gva & SOFT_PAGE_MASK;
			return EFAULT;
		}
		error = walk_4(&w);
	} else if (w.cr4 & SOFT_CR4_PAE) {
		error = walk_pae(&w);
	} else {
		error = walk_2(&w);
	}
	if (error != 0 && SOFT_FAULT(w.model, SOFT_F_WALK_ERRNO))
		error = ENOENT;
	*gpa = w.gpa + (gva & SOFT_PAGE_MASK);	/* L-WALK-3: failing too */
	*prot = w.prot;
	*wp = w;
	return error;
}

int
soft_walk(struct nvmm_machine *mach, const struct nvmm_x64_state *st,
    gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	struct walk w;

	return walk(&w, mach, st, gva, gpa, prot);
}

/* May the guest do this to a page with these rights?  SDM 3A 4.6.1. */
static bool
allowed(const struct soft_model *model, const struct nvmm_x64_state *st,
    nvmm_prot_t prot, bool write)
{
	uint64_t cr0 = st->crs[NVMM_X64_CR_CR0], cr4 = st->crs[NVMM_X64_CR_CR4];
	uint64_t rflags = st->gprs[NVMM_X64_GPR_RFLAGS];
	bool user = st->segs[NVMM_X64_SEG_SS].attrib.dpl == 3;

	if (SOFT_QUIRK(model, SOFT_Q_WALK_TABLES_ONLY))
		return (prot & (write ? NVMM_PROT_WRITE : NVMM_PROT_READ)) != 0;
	if ((cr0 & SOFT_CR0_PG) == 0)
		return true;
	if (user)
		return (prot & NVMM_PROT_USER) != 0 &&
		    (!write || (prot & NVMM_PROT_WRITE) != 0);
	if ((prot & NVMM_PROT_USER) && (cr4 & CR4_SMAP) && !(rflags & RFLAGS_AC))
		return false;
	return !write || (prot & NVMM_PROT_WRITE) != 0 || (cr0 & CR0_WP) == 0;
}

/* What hardware sets in the entries that it uses (SDM 3A 4.8). */
static void
mark(const struct walk *w, bool write)
{
	unsigned i;
	uint8_t bits;

	if (!w->by_the_book)
		return;
	for (i = 0; i < w->nat; i++) {
		bits = PTE_A | (write && i + 1 == w->nat ? PTE_D : 0);
		if ((*w->at[i] & bits) != bits)
			__atomic_or_fetch(w->at[i], bits, __ATOMIC_RELAXED);
	}
}

int
nvmm_gva_to_gpa(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	if (nvmm_vcpu_getstate(mach, vcpu,
	    NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS) == -1)
		return -1;
	return soft_return(soft_walk(mach, vcpu->state, gva, gpa, prot));
}

/* ---- segments ------------------------------------------------------------------ */

static bool
is_64bit(const struct nvmm_x64_state *st)
{
	return (st->msrs[NVMM_X64_MSR_EFER] & SOFT_EFER_LMA) != 0 &&
	    st->segs[NVMM_X64_SEG_CS].attrib.l;
}

/* No segmentation but the bases of FS and GS: L-IO-9. */
static bool
is_flat(const struct soft_model *model, const struct nvmm_x64_state *st)
{
	if (SOFT_QUIRK(model, SOFT_Q_SEG_BY_LMA))
		return (st->msrs[NVMM_X64_MSR_EFER] & SOFT_EFER_LMA) != 0;
	return is_64bit(st);
}

static bool
within_limit(const struct soft_model *model,
    const struct nvmm_x64_state_seg *seg, uint64_t offset, size_t size)
{
	uint64_t limit = seg->limit, top;

	if (SOFT_FAULT(model, SOFT_F_LIMIT_WRAPS))
		return offset + size <= (uint32_t)(seg->limit + 1);
	if (SOFT_FAULT(model, SOFT_F_LIMIT_AFTER_BASE))
		offset += seg->base;
	if (SOFT_QUIRK(model, SOFT_Q_LIMIT_SCALED)) {
		/* L-IO-10: the limit is in bytes already. */
		limit = (limit + 1) << (seg->attrib.g ? 12 : 0);
		return offset < limit && size <= limit - offset;
	}
	top = UINT32_MAX;
	if (seg->attrib.s && (seg->attrib.type & 0xC) == 0x4) {
		/* Expand-down data: above the limit. */
		if (!seg->attrib.def)
			top = UINT16_MAX;
		return offset > limit && offset <= top &&
		    size - 1 <= top - offset;
	}
	return offset <= limit && size - 1 <= limit - offset;
}

/* SDM 3A 5.5: in protected mode data are written to writable data segments only,
 * and not read from execute-only code. */
bool
soft_segment_type(const struct soft_model *model,
    const struct nvmm_x64_state *st, unsigned segment, bool write)
{
	const struct nvmm_x64_state_seg *seg = &st->segs[segment];
	bool code = (seg->attrib.type & 0x8) != 0;
	bool more = (seg->attrib.type & 0x2) != 0;	/* writable; readable */

	if (SOFT_QUIRK(model, SOFT_Q_LIMIT_SCALED) || is_flat(model, st) ||
	    (st->crs[NVMM_X64_CR_CR0] & SOFT_CR0_PE) == 0)
		return true;
	return write ? !code && more : !code || more;
}

int
soft_linear(const struct soft_model *model, const struct nvmm_x64_state *st,
    unsigned segment, uint64_t offset, size_t size, gvaddr_t *gva)
{
	const struct nvmm_x64_state_seg *seg = &st->segs[segment];

	if (is_flat(model, st)) {
		*gva = offset;
		if ((segment == NVMM_X64_SEG_FS || segment == NVMM_X64_SEG_GS) &&
		    !SOFT_FAULT(model, SOFT_F_LONG_NO_BASE))
			*gva += seg->base;
		return 0;
	}
	if (!seg->attrib.p || !within_limit(model, seg, offset, size))
		return EFAULT;
	*gva = seg->base + offset;
	return 0;
}

/* ---- reading and writing: L-GM ---------------------------------------------------- */

/* One piece, within a page: where it is, or *hva 0 for a device. */
static int
guest_piece(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, gvaddr_t gva,
    bool write, struct walk *w, gpaddr_t *gpa, uintptr_t *hva)
{
	nvmm_prot_t want = write ? NVMM_PROT_WRITE : NVMM_PROT_READ, prot;
	const struct soft_model *model = soft_areas_model(mach);
	int error;

	*gpa = 0;
	error = walk(w, mach, vcpu->state, gva, gpa, &prot);
	if (error != 0)
		return error;
	if (!allowed(model, vcpu->state, prot, write))
		return EFAULT;
	if (nvmm_gpa_to_hva(mach, *gpa, hva, &prot) != 0)
		*hva = 0;
	else if ((prot & want) == 0 &&		/* L-GM-3 */
	    !SOFT_FAULT(model, SOFT_F_AREA_PROT))
		return EFAULT;
	return 0;
}

/* The piece of an access that begins at *gva, which is cut to the mode's size. */
static size_t
piece_size(const struct nvmm_vcpu *vcpu, const struct soft_model *model,
    gvaddr_t *gva, size_t size)
{
	size_t piece;

	if (!is_64bit(vcpu->state) && !SOFT_QUIRK(model, SOFT_Q_GM_LINEAR_64))
		*gva = (uint32_t)*gva;
	piece = SOFT_PAGE_SIZE - (*gva & SOFT_PAGE_MASK);
	return piece < size ? piece : size;
}

int
soft_guest_probe(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    gvaddr_t gva, size_t size, bool write)
{
	const struct soft_model *model = soft_areas_model(mach);
	struct walk w;
	size_t piece;
	uintptr_t hva;
	gpaddr_t gpa;
	int error;

	for (; size > 0; size -= piece, gva += piece) {
		piece = piece_size(vcpu, model, &gva, size);
		error = guest_piece(mach, vcpu, gva, write, &w, &gpa, &hva);
		if (error != 0)
			return error;
	}
	return 0;
}

static int
guest_access(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, gvaddr_t gva,
    uint8_t *data, size_t size, bool write)
{
	const struct soft_model *model = soft_areas_model(mach);
	struct nvmm_mem mem;
	struct walk w;
	gpaddr_t gpa;
	uintptr_t hva;
	bool skew = SOFT_FAULT(model, SOFT_F_PAGE_EDGE);
	size_t piece = 0;
	int error;

	if (!SOFT_QUIRK(model, SOFT_Q_GM_PIECEWISE) && !skew &&
	    !SOFT_FAULT(model, SOFT_F_SECOND_PAGE) &&
	    (error = soft_guest_probe(mach, vcpu, gva, size, write)) != 0)
		return error;
	for (; size > 0; size -= piece, data += piece, gva += piece) {
		if (skew && piece != 0)
			gva++;
		piece = piece_size(vcpu, model, &gva, size);
		if (piece < size && write &&
		    SOFT_FAULT(model, SOFT_F_SECOND_PAGE))
			size = piece;
		error = guest_piece(mach, vcpu, gva, write, &w, &gpa, &hva);
		if (error != 0)
			return error;
		mark(&w, write);
		if (hva != 0) {
			if (write)
				memcpy((void *)hva, data, piece);
			else
				memcpy(data, (void *)hva, piece);
			continue;
		}
		mem.mach = mach;			/* L-GM-4 */
		mem.vcpu = vcpu;
		mem.gpa = gpa;
		mem.write = write;
		mem.size = piece;
		mem.data = data;
		(*vcpu->cbs.mem)(&mem);
	}
	return 0;
}

int
soft_guest_read(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    gvaddr_t gva, void *data, size_t size)
{
	return guest_access(mach, vcpu, gva, data, size, false);
}

int
soft_guest_write(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    gvaddr_t gva, const void *data, size_t size)
{
	return guest_access(mach, vcpu, gva, (uint8_t *)(uintptr_t)data, size,
	    true);
}
