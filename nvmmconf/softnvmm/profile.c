/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Profiles: what softnvmm is today.  A profile is a row of numbers here and
 * the quirks that name it in quirk.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define RAM	(UINT64_C(128) << 30)
#define CR4	0x370FFF

/* What CPUID shows of leaves 7 and 80000001 (kernel spec 7). */
#define CPUID_V1	.cpuid_hypervisor_max = 0x40000000,		\
	.cpuid_7_ebx = 0x019CA3C9, .cpuid_7_edx = 0x20004410,		\
	.cpuid_80000001_edx = 0xE7D80800
#define CPUID_V2	.cpuid_hypervisor_max = 0x40000010,		\
	.cpuid_7_ebx = 0x019C23C9, .cpuid_7_edx = 0x00004410,		\
	.cpuid_80000001_edx = 0xE7D3AB7F
#define CPUID_V3	.cpuid_hypervisor_max = 0x40000000,		\
	.cpuid_7_ebx = 0x019C23C9, .cpuid_7_edx = 0x20004410,		\
	.cpuid_80000001_edx = 0xE7D3AB7F, .cpuid_counts = true

#define V1	.version = 1, .max_vcpus = 256, .max_ram = RAM, CPUID_V1
#define V2	.version = 2, .has_stop = true, .has_cmps = true,	\
	.max_vcpus = 256, .max_ram = RAM, CPUID_V2
/* Of the DragonFly line the text of 2021 as it was measured: 128 GiB. */
#define V3	.version = 3, .max_vcpus = 128, .max_ram = RAM, CPUID_V3

/* The masks of CR4: kernel spec 14.3. */
static const struct soft_profile soft_profiles[] = {
	{
		/* The numbers of NetBSD 10.  Where the two backends differ and
		 * no manual decides, it is as SVM, which takes more states and
		 * keeps more of them; of VMX it has the TPR exit. */
		.name = "ideal",
		.summary = "what the SDM, the APM and libnvmm(3) promise; API version 2",
		.bit = SOFT_IDEAL, .vendor = &soft_neutral, .cr4_mask = CR4, V2,
	},
	{
		.name = "v1-svm", .summary = "NetBSD 9 on AMD: API version 1, no stop",
		.bit = SOFT_V1_SVM, .vendor = &soft_svm, .cr4_mask = UINT64_MAX, V1,
	},
	{
		.name = "v1-vmx", .summary = "NetBSD 9 on Intel: API version 1, no stop",
		.bit = SOFT_V1_VMX, .vendor = &soft_vmx, .cr4_mask = CR4, V1,
	},
	{
		.name = "v2-svm", .summary = "NetBSD 10 on AMD: API version 2",
		.bit = SOFT_V2_SVM, .vendor = &soft_svm, .cr4_mask = CR4, V2,
	},
	{
		.name = "v2-vmx", .summary = "NetBSD 10 on Intel: API version 2",
		.bit = SOFT_V2_VMX, .vendor = &soft_vmx, .cr4_mask = CR4, V2,
	},
	{
		.name = "v3-svm", .summary = "the DragonFly line on AMD: kernel API version 3, no stop",
		.bit = SOFT_V3_SVM, .vendor = &soft_svm, .cr4_mask = UINT64_MAX, V3,
	},
	{
		.name = "v3-vmx", .summary = "the DragonFly line on Intel: kernel API version 3, no stop",
		.bit = SOFT_V3_VMX, .vendor = &soft_vmx, .cr4_mask = CR4, V3,
	},
};
#define SOFT_PROFILE_DEFAULT	"v2-svm"
#define SOFT_NPROFILES	(sizeof(soft_profiles) / sizeof(soft_profiles[0]))

static _Thread_local char problem[160];

void
soft_problem_clear(void)
{
	problem[0] = '\0';
}

void
soft_problem(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(problem, sizeof(problem), fmt, ap);
	va_end(ap);
}

const char *
nvmm_soft_problem(void)
{
	return problem;
}

static int
read_profile(struct soft_model *model)
{
	const char *name = getenv("NVMM_SOFT_PROFILE");
	size_t i;

	if (name == NULL || *name == '\0')
		name = SOFT_PROFILE_DEFAULT;
	for (i = 0; i < SOFT_NPROFILES; i++) {
		if (strcmp(soft_profiles[i].name, name) == 0) {
			model->profile = &soft_profiles[i];
			return 0;
		}
	}
	soft_problem("NVMM_SOFT_PROFILE: no profile named '%.80s'", name);
	return EINVAL;
}

static void
switch_set(struct soft_set *set, size_t n, bool on)
{
	uint64_t bit = UINT64_C(1) << (n % 64);

	set->word[n / 64] = on ? set->word[n / 64] | bit :
	    set->word[n / 64] & ~bit;
}

/* A list of names from the environment; "-name" takes one away. */
static int
read_names(const char *variable, const struct soft_switch *rows, size_t nrows,
    const struct soft_profile *profile, struct soft_set *set)
{
	const char *p = getenv(variable);
	size_t len, i;
	bool on;

	for (; p != NULL && *p != '\0'; p += len + (p[len] == ',')) {
		on = *p != '-';
		p += !on;
		len = strcspn(p, ",");
		if (len == 0)
			continue;
		for (i = 0; i < nrows; i++) {
			if (strlen(rows[i].name) == len &&
			    strncmp(rows[i].name, p, len) == 0)
				break;
		}
		if (i == nrows) {
			soft_problem("%s: there is no '%.*s'", variable,
			    len > 80 ? 80 : (int)len, p);
			return EINVAL;
		}
		if (on && rows[i].where != 0 &&
		    (rows[i].where & profile->bit) == 0) {
			soft_problem("%s: '%s' changes nothing on %s", variable,
			    rows[i].name, profile->name);
			return EINVAL;
		}
		switch_set(set, i, on);
	}
	return 0;
}

int
soft_model_read(struct soft_model *model)
{
	size_t i;
	int error;

	memset(model, 0, sizeof(*model));
	soft_problem_clear();
	if ((error = read_profile(model)) != 0)
		return error;
	for (i = 0; i < SOFT_NQUIRKS; i++)
		switch_set(&model->quirks, i,
		    (soft_quirks[i].profiles & model->profile->bit) != 0);
	if ((error = read_names("NVMM_SOFT_QUIRK", soft_quirks, SOFT_NQUIRKS,
	    model->profile, &model->quirks)) != 0 ||
	    (error = read_names("NVMM_SOFT_FAULT", soft_faults, SOFT_NFAULTS,
	    model->profile, &model->faults)) != 0)
		return error;
	if ((error = soft_chaos_read(model)) != 0)
		return error;
	return soft_host_read(model->profile->vendor->intel ? CPU_INTEL : CPU_AMD,
	    &model->host);
}

int
nvmm_soft_has(const char *profile, const char *quirk)
{
	size_t i, j;

	for (i = 0; i < SOFT_NPROFILES; i++)
		if (strcmp(soft_profiles[i].name, profile) == 0)
			break;
	for (j = 0; j < SOFT_NQUIRKS; j++)
		if (strcmp(soft_quirks[j].name, quirk) == 0)
			break;
	if (i == SOFT_NPROFILES || j == SOFT_NQUIRKS)
		return soft_return(ENOENT);
	return (soft_quirks[j].profiles & soft_profiles[i].bit) != 0;
}

int
nvmm_soft_list(enum nvmm_soft_kind kind, size_t index, const char **name,
    const char **summary)
{
	const struct soft_switch *row = NULL;

	if (kind == NVMM_SOFT_PROFILE && index < SOFT_NPROFILES) {
		*name = soft_profiles[index].name;
		*summary = soft_profiles[index].summary;
		return 0;
	}
	if (kind == NVMM_SOFT_QUIRK && index < SOFT_NQUIRKS)
		row = &soft_quirks[index];
	else if (kind == NVMM_SOFT_FAULT && index < SOFT_NFAULTS)
		row = &soft_faults[index];
	if (row == NULL)
		return soft_return(ENOENT);
	*name = row->name;
	*summary = row->summary;
	return 0;
}
