/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Host and guest memory, the library's half: spec libnvmm 4.7.
 *
 * A list of areas is all that nvmm_gpa_to_hva and the assists ever look at;
 * the kernel has its own idea of the same (memory.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

struct soft_area {
	uint64_t gpa, size;
	uintptr_t hva;
	nvmm_prot_t prot;
};

struct soft_areas {
	pthread_rwlock_t lock;
	struct soft_model model;
	struct soft_area *area;
	size_t n, allocated;
};

/* ---- the list --------------------------------------------------------- */

struct soft_areas *
soft_areas_create(const struct soft_model *model)
{
	struct soft_areas *areas = calloc(1, sizeof(*areas));

	if (areas != NULL) {
		pthread_rwlock_init(&areas->lock, NULL);
		areas->model = *model;
	}
	return areas;
}

void
soft_areas_destroy(struct soft_areas *areas)
{
	if (areas == NULL)
		return;
	pthread_rwlock_destroy(&areas->lock);
	free(areas->area);
	free(areas);
}

const struct soft_model *
soft_areas_model(const struct nvmm_machine *mach)
{
	const struct soft_areas *areas = mach->areas;

	return &areas->model;
}

static int
areas_add(struct soft_areas *areas, const struct soft_area *new)
{
	const struct soft_area *a;
	struct soft_area *area;
	uint64_t end = new->gpa + new->size;
	size_t i;

	for (i = 0; i < areas->n; i++) {
		a = &areas->area[i];
		/* L-GPA-2: begins inside, ends inside, or encloses. */
		if (end == a->gpa && SOFT_FAULT(&areas->model, SOFT_F_AREA_TOUCHING))
			return EINVAL;
		if ((new->gpa >= a->gpa && new->gpa < a->gpa + a->size) ||
		    (end > a->gpa && end <= a->gpa + a->size) ||
		    (new->gpa <= a->gpa && end >= a->gpa + a->size))
			return EINVAL;
	}
	if (areas->n == areas->allocated) {
		area = realloc(areas->area,
		    (areas->allocated * 2 + 4) * sizeof(*area));
		if (area == NULL)
			return ENOMEM;
		areas->area = area;
		areas->allocated = areas->allocated * 2 + 4;
	}
	areas->area[areas->n++] = *new;
	return 0;
}

static int
areas_delete(struct soft_areas *areas, uintptr_t hva, uint64_t gpa,
    uint64_t size)
{
	size_t i;

	for (i = 0; i < areas->n; i++) {
		if (areas->area[i].hva == hva && areas->area[i].gpa == gpa &&
		    areas->area[i].size == size) {
			areas->area[i] = areas->area[--areas->n];
			return 0;
		}
	}
	return ENOENT;
}

/* ---- the functions ------------------------------------------------- */

int
nvmm_hva_map(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	return soft_return(soft_khva_map(mach->machid, hva, size));
}

int
nvmm_hva_unmap(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	return soft_return(soft_khva_unmap(mach->machid, hva, size));
}

int
nvmm_gpa_map(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa,
    size_t size, int prot)
{
	struct soft_areas *areas = mach->areas;
	struct soft_area area = {
		.gpa = gpa, .size = size, .hva = hva,
		.prot = ((prot & PROT_READ) ? NVMM_PROT_READ : 0) |
		    ((prot & PROT_WRITE) ? NVMM_PROT_WRITE : 0) |
		    ((prot & PROT_EXEC) ? NVMM_PROT_EXEC : 0),
	};
	int error;

	if (areas == NULL)
		return soft_return(ENOENT);
	pthread_rwlock_wrlock(&areas->lock);
	if ((error = areas_add(areas, &area)) == 0) {
		error = soft_kgpa_map(mach->machid, hva, gpa, size, prot);
		if (error != 0) {
			if (SOFT_QUIRK(&areas->model, SOFT_Q_GPA_REFUSAL_ABORTS))
				abort();
			areas_delete(areas, hva, gpa, size);
		}
	}
	pthread_rwlock_unlock(&areas->lock);
	return soft_return(error);
}

int
nvmm_gpa_unmap(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa,
    size_t size)
{
	struct soft_areas *areas = mach->areas;
	int error, saved = errno;

	if (areas == NULL)
		return soft_return(ENOENT);
	pthread_rwlock_wrlock(&areas->lock);
	if ((error = areas_delete(areas, hva, gpa, size)) != 0) {
		if (SOFT_QUIRK(&areas->model, SOFT_Q_GPA_UNMAP_ERRNO) &&
		    !SOFT_FAULT(&areas->model, SOFT_F_UNMAP_ENOENT))
			error = saved;
		pthread_rwlock_unlock(&areas->lock);
		errno = error;
		return -1;
	}
	error = soft_kgpa_unmap(mach->machid, gpa, size);
	if (error != 0 && SOFT_QUIRK(&areas->model, SOFT_Q_GPA_REFUSAL_ABORTS))
		abort();
	pthread_rwlock_unlock(&areas->lock);
	return soft_return(error);
}

int
nvmm_gpa_to_hva(struct nvmm_machine *mach, gpaddr_t gpa, uintptr_t *hva,
    nvmm_prot_t *prot)
{
	struct soft_areas *areas = mach->areas;
	const struct soft_area *a;
	int error = ENOENT;
	size_t i;

	if (areas == NULL)
		return soft_return(ENOENT);
	pthread_rwlock_rdlock(&areas->lock);
	for (i = 0; i < areas->n; i++) {
		a = &areas->area[i];
		if (gpa >= a->gpa && gpa - a->gpa < a->size) {
			*hva = a->hva + (uintptr_t)(gpa - a->gpa);
			if (SOFT_FAULT(&areas->model, SOFT_F_HVA_OFFSET))
				*hva = a->hva;
			*prot = a->prot;
			error = 0;
			break;
		}
	}
	pthread_rwlock_unlock(&areas->lock);
	return soft_return(error);
}
