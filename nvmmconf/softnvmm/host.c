/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the machine below the hypervisor answers, where NVMM hands that on:
 * CPUID, MXCSR_MASK, two of Intel's MSRs.  Our own processor's values, unless
 * NVMM_SOFT_HOST names a file (softnvmm.h says what is in it).  They tell the
 * guest what it sees; of what the processor can do only the vendor in leaf 0
 * changes something.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define HOST_LEAF1_ECX_XSAVE	(1u << 26)
#define HOST_LEAF1_ECX_OSXSAVE	(1u << 27)

#define MISC_ENABLE_FAST_STRINGS	UINT64_C(1)

/* In the order of enum cpu_vendor. */
static const struct soft_host own[] = {
	{ .vendor = CPU_AMD, .mxcsr_mask = SOFT_MXCSR_MASK,
	    .misc_enable = MISC_ENABLE_FAST_STRINGS },
	{ .vendor = CPU_INTEL, .mxcsr_mask = SOFT_MXCSR_MASK,
	    .misc_enable = MISC_ENABLE_FAST_STRINGS },
};

/* Files read, kept as machines point to them. */
static struct loaded {
	struct loaded *next;
	char *name;
	enum cpu_vendor wanted;		/* by the profile */
	struct soft_host host;
} *files;
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;

static bool
parse_cpuid(struct soft_host *h, const char *line)
{
	struct soft_host_cpuid c, *rows;

	if (sscanf(line, "cpuid %" SCNx32 " %" SCNx32 " %" SCNx32 " %" SCNx32
	    " %" SCNx32 " %" SCNx32, &c.leaf, &c.subleaf, &c.out[0],
	    &c.out[1], &c.out[2], &c.out[3]) != 6)
		return false;
	rows = realloc(h->cpuid, (h->ncpuid + 1) * sizeof(*rows));
	if (rows == NULL)
		return false;
	h->cpuid = rows;
	rows[h->ncpuid++] = c;
	return true;
}

static bool
parse(struct soft_host *h, const char *line)
{
	if (line[0] == '#' || line[0] == '\n')
		return true;
	if (sscanf(line, "mxcsr_mask %" SCNx32, &h->mxcsr_mask) == 1 ||
	    sscanf(line, "misc_enable %" SCNx64, &h->misc_enable) == 1)
		return true;
	if (sscanf(line, "arch_capabilities %" SCNx64,
	    &h->arch_capabilities) == 1) {
		h->has_arch_capabilities = true;
		return true;
	}
	return parse_cpuid(h, line);
}

static void
unload(struct loaded *f)
{
	free(f->host.cpuid);
	free(f->name);
	free(f);
}

/* Leaf 0 says whose the processor is, if it says so. */
static void
find_vendor(struct soft_host *h)
{
	uint32_t out[4];
	char name[12];

	soft_host_cpuid(h, 0, 0, out);
	memcpy(name, &out[1], 4);
	memcpy(name + 4, &out[3], 4);
	memcpy(name + 8, &out[2], 4);
	if (memcmp(name, "GenuineIntel", 12) == 0)
		h->vendor = CPU_INTEL;
	else if (memcmp(name, "AuthenticAMD", 12) == 0)
		h->vendor = CPU_AMD;
}

static struct loaded *
load(const char *name, enum cpu_vendor wanted)
{
	struct loaded *f;
	char line[160];
	unsigned n = 0;
	FILE *in;

	if ((in = fopen(name, "re")) == NULL) {
		soft_problem("NVMM_SOFT_HOST: cannot read %.100s", name);
		return NULL;
	}
	if ((f = calloc(1, sizeof(*f))) != NULL) {
		f->host = own[wanted];
		f->wanted = wanted;
		f->name = strdup(name);
	}
	while (f != NULL && fgets(line, sizeof(line), in) != NULL) {
		n++;
		if (!parse(&f->host, line)) {
			soft_problem("NVMM_SOFT_HOST: %.80s, line %u", name, n);
			unload(f);
			f = NULL;
		}
	}
	fclose(in);
	if (f != NULL)
		find_vendor(&f->host);
	return f;
}

int
soft_host_read(enum cpu_vendor wanted, const struct soft_host **host)
{
	const char *name = getenv("NVMM_SOFT_HOST");
	struct loaded *f;

	*host = &own[wanted];
	if (name == NULL || *name == '\0')
		return 0;
	pthread_mutex_lock(&files_lock);
	for (f = files; f != NULL; f = f->next)
		if (f->wanted == wanted && strcmp(f->name, name) == 0)
			break;
	if (f == NULL && (f = load(name, wanted)) != NULL) {
		f->next = files;
		files = f;
	}
	pthread_mutex_unlock(&files_lock);
	if (f == NULL)
		return EINVAL;
	*host = &f->host;
	return 0;
}

void
soft_host_cpuid(const struct soft_host *h, uint32_t leaf, uint32_t subleaf,
    uint32_t out[4])
{
	size_t i;

	if (h->ncpuid == 0) {
		cpu_cpuid(h->vendor, leaf, subleaf, out);
		/* The host's kernel uses XSAVE where it can (CR4.OSXSAVE). */
		if (leaf == 1 && (out[2] & HOST_LEAF1_ECX_XSAVE) != 0)
			out[2] |= HOST_LEAF1_ECX_OSXSAVE;
		return;
	}
	memset(out, 0, 4 * sizeof(out[0]));
	/* A leaf that has no such subleaf answers as for the first one. */
	for (i = h->ncpuid; i-- > 0;) {
		if (h->cpuid[i].leaf != leaf)
			continue;
		memcpy(out, h->cpuid[i].out, sizeof(h->cpuid[i].out));
		if (h->cpuid[i].subleaf == subleaf)
			return;
	}
}
