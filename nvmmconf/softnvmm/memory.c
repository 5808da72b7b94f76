/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Host and guest memory, the kernel's half: spec kernel 3.
 *
 * Host mappings (hva_map), each backed by an object that softnvmm maps a
 * second time for itself, and the guest's physical space as a sorted array of
 * segments.  What the library knows of them is in areas.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static bool
aligned(uint64_t v)
{
	return (v & SOFT_PAGE_MASK) == 0;
}

/* ---- kernel: objects and host mappings ----------------------------------- */

static void
object_release(struct soft_object *object)
{
	if (object == NULL || --object->refs > 0)
		return;
	munmap(object->host, object->size);
	free(object);
}

/* Zeroed shared memory, at hva in place of whatever is there, and once more
 * for ourselves (K-MEM-7, K-MEM-9). */
static int
object_create(uintptr_t hva, size_t size, bool keep, struct soft_object **out)
{
	struct soft_object *object;
	void *own, *theirs = MAP_FAILED;
	int fd, error = 0;

	if ((object = malloc(sizeof(*object))) == NULL)
		return ENOMEM;
	fd = memfd_create("nvmm", MFD_CLOEXEC);
	if (fd == -1 || ftruncate(fd, (off_t)size) == -1)
		error = errno;
	own = error != 0 ? MAP_FAILED : mmap(NULL, size,
	    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (error == 0 && own == MAP_FAILED)
		error = errno;
	/* Only what is there can be kept: msync() says. */
	if (error == 0 && keep && msync((void *)hva, size, MS_ASYNC) == 0)
		memcpy(own, (void *)hva, size);
	if (error == 0) {
		theirs = mmap((void *)hva, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, fd, 0);
		if (theirs == MAP_FAILED)
			error = errno;
	}
	if (fd != -1)
		close(fd);
	if (error != 0) {
		if (own != MAP_FAILED)
			munmap(own, size);
		free(object);
		return error;
	}
	object->refs = 1;
	object->host = own;
	object->size = size;
	*out = object;
	return 0;
}

/* Kernel spec 3.1, steps 1 and 2. */
static int
hmap_validate(const struct soft_machine *m, uintptr_t hva, size_t size)
{
	const struct soft_hmap *h;
	uintptr_t end = hva + size;
	size_t i;

	if (!aligned(hva) || !aligned(size) || hva == 0)
		return EINVAL;
	if (!SOFT_QUIRK(&m->model, SOFT_Q_HVA_UNCHECKED) && end <= hva)
		return EINVAL;
	for (i = 0; i < SOFT_MAX_HMAPS; i++) {
		h = &m->hmaps[i];
		if (!h->used)
			continue;
		if (hva >= h->hva && end <= h->hva + h->size &&
		    SOFT_QUIRK(&m->model, SOFT_Q_HVA_NESTED))
			return 0;
		if (hva < h->hva + h->size && end > h->hva)
			return SOFT_FAULT(&m->model, SOFT_F_HVA_ERRNO) ?
			    EINVAL : EEXIST;
	}
	return 0;
}

int
soft_khva_map(uint32_t machid, uintptr_t hva, size_t size)
{
	struct soft_machine *m;
	struct soft_hmap *h;
	size_t i;
	int error;

	if ((error = soft_machine_get(machid, true, &m)) != 0)
		return error;
	if ((error = hmap_validate(m, hva, size)) != 0)
		goto out;
	for (i = 0; i < SOFT_MAX_HMAPS && m->hmaps[i].used; i++)
		continue;
	if (i == SOFT_MAX_HMAPS) {
		error = ENOBUFS;
		goto out;
	}
	h = &m->hmaps[i];
	h->hva = hva;
	h->size = size;
	h->object = NULL;
	if (size != 0)
		error = object_create(hva, size, SOFT_FAULT(&m->model,
		    SOFT_F_HVA_CONTENTS), &h->object);
	h->used = error == 0 ||
	    SOFT_QUIRK(&m->model, SOFT_Q_HVA_FAIL_KEEPS_SLOT);
out:
	soft_machine_put(m);
	return error;
}

int
soft_khva_unmap(uint32_t machid, uintptr_t hva, size_t size)
{
	struct soft_machine *m;
	struct soft_hmap *h;
	size_t i;
	int error;

	if ((error = soft_machine_get(machid, true, &m)) != 0)
		return error;
	error = ENOENT;
	for (i = 0; i < SOFT_MAX_HMAPS; i++) {
		h = &m->hmaps[i];
		if (!h->used || h->hva != hva || h->size != size)
			continue;
		if (h->object != NULL) {
			if (SOFT_FAULT(&m->model, SOFT_F_HVA_WIPES))
				memset(h->object->host, 0, size);
			munmap((void *)hva, size);
			object_release(h->object);
		}
		memset(h, 0, sizeof(*h));
		h->used = SOFT_FAULT(&m->model, SOFT_F_HVA_SLOT);
		error = 0;
		break;
	}
	soft_machine_put(m);
	return error;
}

/* ---- kernel: the guest's physical space ----------------------------------- */

static int
segments_reserve(struct soft_machine *m, size_t n)
{
	struct soft_segment *segments;
	size_t want;

	if (m->nsegments + n <= m->asegments)
		return 0;
	want = m->asegments * 2 + n + 6;
	segments = realloc(m->segments, want * sizeof(*segments));
	if (segments == NULL)
		return ENOMEM;
	m->segments = segments;
	m->asegments = want;
	return 0;
}

static void
segment_insert(struct soft_machine *m, size_t at, struct soft_segment s)
{
	memmove(&m->segments[at + 1], &m->segments[at],
	    (m->nsegments - at) * sizeof(s));
	m->segments[at] = s;
	m->nsegments++;
	s.object->refs++;
}

static void
segment_remove(struct soft_machine *m, size_t at)
{
	struct soft_object *object = m->segments[at].object;

	m->nsegments--;
	memmove(&m->segments[at], &m->segments[at + 1],
	    (m->nsegments - at) * sizeof(m->segments[0]));
	object_release(object);
}

/* Takes [gpa, gpa + size) out, cutting what overlaps (K-MEM-20).  There must
 * be room for one more segment.  Gives the place where it was. */
static size_t
segments_cut(struct soft_machine *m, uint64_t gpa, uint64_t size)
{
	uint64_t end = gpa + size;
	struct soft_segment s, tail;
	size_t i = 0;

	while (i < m->nsegments && m->segments[i].gpa + m->segments[i].size <= gpa)
		i++;
	while (i < m->nsegments && m->segments[i].gpa < end) {
		s = m->segments[i];
		if (s.gpa + s.size > end) {
			tail = s;
			tail.gpa = end;
			tail.size = s.gpa + s.size - end;
			tail.host = s.host + (end - s.gpa);
			segment_insert(m, i + 1, tail);
		}
		if (s.gpa < gpa)
			m->segments[i++].size = gpa - s.gpa;
		else
			segment_remove(m, i);
	}
	return i;
}

/* A bit a page of all that can be mapped; untouched parts cost nothing. */
#define FILLED_SIZE(m)	((m)->model.profile->max_ram / SOFT_PAGE_SIZE / 8)

int
soft_memory_create(struct soft_machine *m)
{
	void *p;

	m->filled = NULL;
	if (!SOFT_QUIRK(&m->model, SOFT_Q_PAGE_IN))
		return 0;
	p = mmap(NULL, FILLED_SIZE(m), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return ENOMEM;
	m->filled = p;
	return 0;
}

/* Nothing of a range is filled in any more. */
static void
empty(struct soft_machine *m, uint64_t gpa, uint64_t size)
{
	uint64_t page = gpa / SOFT_PAGE_SIZE, end = page + size / SOFT_PAGE_SIZE;

	if (m->filled == NULL)
		return;
	for (; page < end && page % 8 != 0; page++)
		m->filled[page / 8] &= (uint8_t)~(1u << (page % 8));
	if (page < end)
		memset(&m->filled[page / 8], 0, (end - page) / 8);
	for (page += (end - page) / 8 * 8; page < end; page++)
		m->filled[page / 8] &= (uint8_t)~(1u << (page % 8));
}

int
soft_kgpa_map(uint32_t machid, uintptr_t hva, uint64_t gpa, size_t size, int prot)
{
	struct soft_segment s = { .gpa = gpa, .size = size };
	struct soft_machine *m;
	struct soft_hmap *h;
	size_t i;
	int error;

	if ((error = soft_machine_get(machid, false, &m)) != 0)
		return error;
	/* Kernel spec 3.3. */
	error = EINVAL;
	if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0 ||
	    !aligned(gpa) || !aligned(size) || !aligned(hva) || hva == 0 ||
	    gpa >= m->model.profile->max_ram || gpa + size <= gpa ||
	    gpa + size > m->model.profile->max_ram)
		goto out;
	for (i = 0; i < SOFT_MAX_HMAPS; i++) {
		h = &m->hmaps[i];
		if (h->used && h->object != NULL && hva >= h->hva &&
		    hva - h->hva < h->size &&
		    size <= h->size - (hva - h->hva))
			break;
	}
	if (i == SOFT_MAX_HMAPS)
		goto out;

	s.access = ((prot & PROT_READ) ? CPU_ACCESS_READ : 0) |
	    ((prot & PROT_WRITE) ? CPU_ACCESS_WRITE : 0) |
	    ((prot & PROT_EXEC) ? CPU_ACCESS_EXEC : 0);
	if (SOFT_FAULT(&m->model, SOFT_F_GPA_RIGHTS))
		s.access = CPU_ACCESS_READ | CPU_ACCESS_WRITE | CPU_ACCESS_EXEC;
	s.object = h->object;
	s.host = h->object->host + (hva - h->hva);
	pthread_rwlock_wrlock(&m->map_lock);
	if ((error = segments_reserve(m, 2)) == 0) {
		segment_insert(m, segments_cut(m, gpa, size), s);
		empty(m, gpa, size);
		m->map_generation++;
	}
	pthread_rwlock_unlock(&m->map_lock);
out:
	soft_machine_put(m);
	return error;
}

int
soft_kgpa_unmap(uint32_t machid, uint64_t gpa, size_t size)
{
	struct soft_machine *m;
	uint64_t top;
	int error;

	if ((error = soft_machine_get(machid, false, &m)) != 0)
		return error;
	top = m->model.profile->max_ram;
	error = EINVAL;
	if (!aligned(gpa) || !aligned(size) || gpa >= top ||
	    gpa + size <= gpa || gpa + size > top)
		goto out;
	if (gpa + size == top && SOFT_QUIRK(&m->model, SOFT_Q_GPA_UNMAP_TOP))
		goto out;
	pthread_rwlock_wrlock(&m->map_lock);
	if ((error = segments_reserve(m, 1)) == 0) {
		segments_cut(m, gpa, size);
		empty(m, gpa, size);
		m->map_generation += !SOFT_FAULT(&m->model, SOFT_F_GPA_FLUSH);
	}
	pthread_rwlock_unlock(&m->map_lock);
out:
	soft_machine_put(m);
	return error;
}

static const struct soft_segment *
segment_of(const struct soft_machine *m, uint64_t gpa)
{
	const struct soft_segment *s;
	size_t low = 0, high = m->nsegments, mid;

	while (low < high) {
		mid = (low + high) / 2;
		s = &m->segments[mid];
		if (gpa < s->gpa) {
			high = mid;
		} else if (gpa - s->gpa >= s->size) {
			low = mid + 1;
		} else {
			return s;
		}
	}
	return NULL;
}

static bool
filled(const struct soft_machine *m, uint64_t gpa)
{
	uint64_t page = gpa / SOFT_PAGE_SIZE;

	return m->filled == NULL ||
	    (__atomic_load_n(&m->filled[page / 8], __ATOMIC_RELAXED) >>
	    (page % 8) & 1);
}

uint8_t *
soft_memory_page(void *arg, uint64_t gpa, uint32_t *access)
{
	const struct soft_machine *m = ((struct soft_vcpu *)arg)->machine;
	const struct soft_segment *s = segment_of(m, gpa);

	*access = 0;
	if (s == NULL || !filled(m, gpa))
		return NULL;
	*access = s->access;
	return s->host + ((gpa & ~SOFT_PAGE_MASK) - s->gpa);
}

bool
soft_memory_fill(struct soft_vcpu *v, uint64_t gpa, uint32_t access)
{
	struct soft_machine *m = v->machine;
	const struct soft_segment *s;
	bool done;

	if (m->filled == NULL)
		return false;
	pthread_rwlock_rdlock(&m->map_lock);
	s = segment_of(m, gpa);
	/* NVMM_PROT_* and CPU_ACCESS_* are the same numbers. */
	done = s != NULL && (s->access & access) == access;
	if (done)
		__atomic_or_fetch(&m->filled[gpa / SOFT_PAGE_SIZE / 8],
		    (uint8_t)(1u << (gpa / SOFT_PAGE_SIZE % 8)),
		    __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&m->map_lock);
	return done;
}

uint64_t
soft_memory_size(const struct soft_machine *m)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < SOFT_MAX_HMAPS; i++)
		sum += m->hmaps[i].used ? m->hmaps[i].size : 0;
	return sum;
}

void
soft_memory_destroy(struct soft_machine *m)
{
	size_t i;

	while (m->nsegments > 0)
		segment_remove(m, m->nsegments - 1);
	if (m->filled != NULL)
		munmap(m->filled, FILLED_SIZE(m));
	m->filled = NULL;
	free(m->segments);
	m->segments = NULL;
	m->asegments = 0;
	for (i = 0; i < SOFT_MAX_HMAPS; i++)
		object_release(m->hmaps[i].object);	/* K-MACH-7 */
	memset(m->hmaps, 0, sizeof(m->hmaps));
}
