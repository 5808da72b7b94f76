/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The one seam: libnvmm's functions through a table filled by dlopen(3), the
 * same path whichever library is below.  Compiled into the cffi module
 * against the <nvmm.h> that the compiler finds: NetBSD's own where there is
 * one, ours elsewhere.
 */
#include <errno.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <nvmm.h>

/* What version 2 added to the header (L-VER-2); the library is asked at run
 * time whether it has the function. */
#if NVMM_USER_VERSION < 2
#define NVMM_VCPU_EXIT_STOPPED	UINT64_C(0xFFFFFFFFFFFFFFFE)
#endif

/*
 * A vCPU record with room behind it: the header compiled against may be older
 * than the library opened, whose record is then longer.
 */
struct vcpu_box {
	struct nvmm_vcpu vcpu;
	uintptr_t room[8];
};

/* softnvmm's diagnostic record; softnvmm.h has the same. */
struct soft_diagnostic {
	uint64_t unimplemented;
	uint8_t bytes[15];
	uint8_t len;
	uint64_t undecodable_mem;
};

/* The functions every libnvmm has: section 4 of the spec. */
#define LIBNVMM_FUNCTIONS(X)	\
	X(init) X(root_init) X(capability)	\
	X(machine_create) X(machine_destroy) X(machine_configure)	\
	X(vcpu_create) X(vcpu_destroy) X(vcpu_configure)	\
	X(vcpu_setstate) X(vcpu_getstate) X(vcpu_inject) X(vcpu_run)	\
	X(gpa_map) X(gpa_unmap) X(hva_map) X(hva_unmap)	\
	X(gva_to_gpa) X(gpa_to_hva) X(assist_io) X(assist_mem)	\
	X(ctl) X(vcpu_dump)

struct libnvmm {
	void *handle;
	bool has_stop;		/* nvmm_vcpu_stop() is there */
	bool has_soft;		/* it offers profiles, faults and diagnostics */
#define DECLARE(name)	__typeof__(nvmm_##name) *name;
	LIBNVMM_FUNCTIONS(DECLARE)
#undef DECLARE
	int (*vcpu_stop)(struct nvmm_vcpu *);
	int (*soft_list)(int, size_t, const char **, const char **);
	const char *(*soft_problem)(void);
	int (*soft_diagnostic)(struct nvmm_machine *, struct nvmm_vcpu *,
	    struct soft_diagnostic *);
};

/* dlsym() gives an object pointer; ISO C has no cast from it to a function. */
static bool
find(void *handle, const char *name, void *slot)
{
	void *symbol = dlsym(handle, name);

	memcpy(slot, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static void
libnvmm_close(struct libnvmm *library)
{
	dlclose(library->handle);
	free(library);
}

/* NULL, and one line in `why`, where `path` is no libnvmm. */
static struct libnvmm *
libnvmm_open(const char *path, char *why, size_t why_size)
{
	struct libnvmm *library = calloc(1, sizeof(*library));

	if (library == NULL) {
		snprintf(why, why_size, "out of memory");
		return NULL;
	}
	library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library->handle == NULL) {
		const char *reason = dlerror();

		snprintf(why, why_size, "%s",
		    reason != NULL ? reason : "dlopen failed");
		free(library);
		return NULL;
	}
#define RESOLVE(name)							\
	if (!find(library->handle, "nvmm_" #name, &library->name)) {	\
		snprintf(why, why_size,					\
		    "it is no libnvmm: it has no function nvmm_" #name);	\
		libnvmm_close(library);					\
		return NULL;						\
	}
	LIBNVMM_FUNCTIONS(RESOLVE)
#undef RESOLVE
	library->has_stop =
	    find(library->handle, "nvmm_vcpu_stop", &library->vcpu_stop);
	library->has_soft =
	    find(library->handle, "nvmm_soft_list", &library->soft_list) &&
	    find(library->handle, "nvmm_soft_problem", &library->soft_problem) &&
	    find(library->handle, "nvmm_soft_diagnostic",
	    &library->soft_diagnostic);
	return library;
}

/*
 * Host pages for guest memory.  Python's own mmap object cannot be told that
 * nvmm_hva_unmap() took its pages away; it would unmap a stranger's later.
 */
static void *
host_map(size_t size)
{
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

static int
host_unmap(void *pages, size_t size)
{
	return munmap(pages, size);
}

#define CALL0(name)							\
static int								\
call_##name(struct libnvmm *library)					\
{									\
	return library->name();						\
}
#define CALL1(name, A)							\
static int								\
call_##name(struct libnvmm *library, A a)				\
{									\
	return library->name(a);					\
}
#define CALL2(name, A, B)						\
static int								\
call_##name(struct libnvmm *library, A a, B b)				\
{									\
	return library->name(a, b);					\
}
#define CALL3(name, A, B, C)						\
static int								\
call_##name(struct libnvmm *library, A a, B b, C c)			\
{									\
	return library->name(a, b, c);					\
}
#define CALL4(name, A, B, C, D)						\
static int								\
call_##name(struct libnvmm *library, A a, B b, C c, D d)		\
{									\
	return library->name(a, b, c, d);				\
}
#define CALL5(name, A, B, C, D, E)					\
static int								\
call_##name(struct libnvmm *library, A a, B b, C c, D d, E e)		\
{									\
	return library->name(a, b, c, d, e);				\
}

typedef struct nvmm_machine *machine_ptr;
typedef struct nvmm_vcpu *vcpu_ptr;

CALL0(init)
CALL0(root_init)
CALL1(capability, struct nvmm_capability *)
CALL1(machine_create, machine_ptr)
CALL1(machine_destroy, machine_ptr)
CALL3(machine_configure, machine_ptr, uint64_t, void *)
CALL3(vcpu_create, machine_ptr, nvmm_cpuid_t, vcpu_ptr)
CALL2(vcpu_destroy, machine_ptr, vcpu_ptr)
CALL4(vcpu_configure, machine_ptr, vcpu_ptr, uint64_t, void *)
CALL3(vcpu_setstate, machine_ptr, vcpu_ptr, uint64_t)
CALL3(vcpu_getstate, machine_ptr, vcpu_ptr, uint64_t)
CALL2(vcpu_inject, machine_ptr, vcpu_ptr)
CALL2(vcpu_run, machine_ptr, vcpu_ptr)
CALL5(gpa_map, machine_ptr, uintptr_t, gpaddr_t, size_t, int)
CALL4(gpa_unmap, machine_ptr, uintptr_t, gpaddr_t, size_t)
CALL3(hva_map, machine_ptr, uintptr_t, size_t)
CALL3(hva_unmap, machine_ptr, uintptr_t, size_t)
CALL5(gva_to_gpa, machine_ptr, vcpu_ptr, gvaddr_t, gpaddr_t *, nvmm_prot_t *)
CALL4(gpa_to_hva, machine_ptr, gpaddr_t, uintptr_t *, nvmm_prot_t *)
CALL2(assist_io, machine_ptr, vcpu_ptr)
CALL2(assist_mem, machine_ptr, vcpu_ptr)
CALL3(ctl, int, void *, size_t)
CALL2(vcpu_dump, machine_ptr, vcpu_ptr)

/* The optional ones say ENOSYS where the library has none. */
static int
call_vcpu_stop(struct libnvmm *library, struct nvmm_vcpu *vcpu)
{
	if (!library->has_stop) {
		errno = ENOSYS;
		return -1;
	}
	return library->vcpu_stop(vcpu);
}

/*
 * Versions tell different lines of NVMM apart (L-VER-4), so what says that a
 * vCPU can be stopped is the stop word's address, which version 2 puts behind
 * the members that all have.  The box was zeroed.
 */
static bool
vcpu_has_stop(struct libnvmm *library, struct vcpu_box *box)
{
	const size_t offset = offsetof(struct nvmm_vcpu, exit) + sizeof(void *);
	void *stop;

	memcpy(&stop, (char *)box + offset, sizeof(stop));
	return library->has_stop && stop != NULL;
}

static int
call_soft_list(struct libnvmm *library, int kind, size_t index,
    const char **name, const char **summary)
{
	if (!library->has_soft) {
		errno = ENOSYS;
		return -1;
	}
	return library->soft_list(kind, index, name, summary);
}

static const char *
call_soft_problem(struct libnvmm *library)
{
	return library->has_soft ? library->soft_problem() : "";
}

static int
call_soft_diagnostic(struct libnvmm *library, struct nvmm_machine *machine,
    struct nvmm_vcpu *vcpu, struct soft_diagnostic *diagnostic)
{
	if (!library->has_soft) {
		errno = ENOSYS;
		return -1;
	}
	return library->soft_diagnostic(machine, vcpu, diagnostic);
}
