/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Profiles, quirks and faults: what softnvmm is today.
 *
 * A quirk is written where the right behaviour is written; the table below
 * says which versions have it, and is the only place that does.  A profile
 * without quirks ("ideal") needs a row in soft_profiles[] and nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define V1_SVM	0x01u
#define V2_SVM	0x02u
#define REAL	(V1_SVM | V2_SVM)

struct soft_switch {
	const char *name, *summary;
	unsigned profiles;		/* quirks: those that have it */
};

static const struct soft_profile soft_profiles[] = {
	{
		.name = "v1-svm",
		.summary = "NetBSD 9 on AMD: API version 1, no stop",
		.bit = V1_SVM,
		.version = 1,
		.has_stop = false,
		.has_cmps = false,
		.vendor = &soft_svm,
		.max_vcpus = 256,
		.max_ram = UINT64_C(128) << 30,
		.cr4_mask = UINT64_MAX,		/* kernel spec 14.3 */
		.cpuid_hypervisor_max = 0x40000000,
		.cpuid_7_ebx = 0x019CA3C9,
		.cpuid_7_edx = 0x20004410,
		.cpuid_80000001_edx = 0xE7D80800,
	},
	{
		.name = "v2-svm",
		.summary = "NetBSD 10 on AMD: API version 2",
		.bit = V2_SVM,
		.version = 2,
		.has_stop = true,
		.has_cmps = true,
		.vendor = &soft_svm,
		.max_vcpus = 256,
		.max_ram = UINT64_C(128) << 30,
		.cr4_mask = 0x370FFF,
		.cpuid_hypervisor_max = 0x40000010,
		.cpuid_7_ebx = 0x019C23C9,
		.cpuid_7_edx = 0x00004410,
		.cpuid_80000001_edx = 0xE7D3AB7F,
	},
};
#define SOFT_PROFILE_DEFAULT	"v2-svm"
#define SOFT_NPROFILES	(sizeof(soft_profiles) / sizeof(soft_profiles[0]))

static const struct soft_switch soft_quirks[] = {
	[SOFT_Q_RETURN_OVERWRITES] = { "return-check-overwrites-reason",
	    "stop, signal or preemption replaces the exit just made; HALTED and the windows can be lost (L-RUN-1)",
	    V2_SVM },
	[SOFT_Q_VCPU_EXISTS_EBUSY] = { "vcpu-exists-ebusy",
	    "creating an existing vCPU gives EBUSY, not the manual's EEXIST (L-VCPU-2)",
	    REAL },
	[SOFT_Q_HVA_NESTED] = { "hva-map-nested-accepted",
	    "hva_map inside an earlier mapping is accepted and splits guest and process (L-HVA-2a)",
	    REAL },
	[SOFT_Q_HVA_UNCHECKED] = { "hva-map-range-unchecked",
	    "hva_map takes size 0 (uses a slot) and does not test for wrap (kernel 3.1)",
	    REAL },
	[SOFT_Q_HVA_FAIL_KEEPS_SLOT] = { "hva-map-failure-keeps-slot",
	    "an hva_map that fails half-way leaves its slot taken (kernel 3.1)",
	    REAL },
	[SOFT_Q_GPA_REFUSAL_ABORTS] = { "gpa-refusal-aborts",
	    "gpa_map and gpa_unmap call abort() when the kernel refuses (L-GPA-4, L-GPA-7)",
	    REAL },
	[SOFT_Q_GPA_UNMAP_ERRNO] = { "gpa-unmap-miss-keeps-errno",
	    "gpa_unmap of no area fails without setting errno (L-GPA-6)",
	    REAL },
	[SOFT_Q_GPA_UNMAP_TOP] = { "gpa-unmap-not-at-top",
	    "a mapping that ends at max_ram cannot be unmapped (K-MEM-19)",
	    REAL },
	[SOFT_Q_RESET_TAGS] = { "reset-fpu-tags-5555",
	    "the reset FPU image holds the 16-bit tag word in its 8-bit field (L-VCPU-3a)",
	    REAL },
	[SOFT_Q_MXCSR_BY_IMAGE] = { "mxcsr-masked-by-image",
	    "a committed MXCSR is ANDed with the image's own MXCSR_MASK, so 0 gives 0 (K-SET-14)",
	    REAL },
	[SOFT_Q_TSC_STALE] = { "provided-tsc-stale",
	    "the TSC that comes with IO and MEMORY exits is the previous run's (K-TSC-2)",
	    REAL },
	[SOFT_Q_EVENT_SCRATCH] = { "comm-event-overwritten",
	    "exceptions raised by the kernel overwrite the caller's comm event (K-COMM-9)",
	    REAL },
	[SOFT_Q_EXCP_0_3] = { "excp-0-and-3-refused",
	    "#DE and #BP cannot be injected as exceptions (K-INJ-1)",
	    REAL },
	[SOFT_Q_CPUID_64BIT] = { "cpuid-64bit-input",
	    "CPUID compares all of RAX and RCX; dirty upper halves miss (kernel 7)",
	    REAL },
	[SOFT_Q_CPUID_HV_RAW] = { "cpuid-hypervisor-leaves-raw",
	    "hypervisor leaves 1 to 0x10 show the host's answer (kernel 7)",
	    REAL },
	[SOFT_Q_INVD_INVALID] = { "invd-exits-invalid",
	    "INVD ends in INVALID instead of being executed (K-INV-1)",
	    REAL },
	[SOFT_Q_WALK_PAT] = { "walk-pat-bit-refused",
	    "a 4 KiB entry with bit 7 (PAT) is taken for malformed (L-WALK-9)",
	    REAL },
	[SOFT_Q_WALK_PS_NO_PSE] = { "walk-ps-needs-pse",
	    "PDE.PS without CR4.PSE is a failure, not ignored (L-WALK-11)",
	    REAL },
	[SOFT_Q_WALK_PAE_2M] = { "walk-pae-2m-below-4g",
	    "PAE 2 MiB pages lose frame bits above 31 (L-WALK-12)",
	    REAL },
	[SOFT_Q_WALK_LARGE_47] = { "walk-large-48-bits",
	    "4-level large pages lose frame bits above 47 (L-WALK-13)",
	    REAL },
	[SOFT_Q_GM_LINEAR_64] = { "linear-not-cut-to-32",
	    "outside long mode base + offset goes on above 4 GiB (L-GM-7)",
	    REAL },
	[SOFT_Q_IO_PREFIX_5] = { "outs-prefixes-in-five-bytes",
	    "the segment prefix of OUTS is looked for in five bytes, all of which must be readable (L-IO-8)",
	    REAL },
	[SOFT_Q_SEG_BY_LMA] = { "compat-mode-as-64bit",
	    "compatibility mode ignores segment bases and limits as 64-bit mode does (L-IO-9)",
	    REAL },
	[SOFT_Q_LIMIT_SCALED] = { "segment-limit-scaled-twice",
	    "G=1 scales the limit again, expand-down is not known (L-IO-10)",
	    REAL },
	[SOFT_Q_IO_INDEX_64] = { "string-index-64bit",
	    "RSI, RDI and RCX of string I/O are not wrapped or extended by address size (L-IO-13)",
	    REAL },
	[SOFT_Q_IO_BATCH_LIMIT] = { "io-batch-first-limit-only",
	    "string I/O tests the limit for the first element of a batch only (L-IO-15)",
	    REAL },
	[SOFT_Q_MEM_FETCH_15] = { "mem-fetch-all-15-bytes",
	    "the memory assist fetches 15 bytes or fails, however short the instruction (L-MEM-2)",
	    REAL },
	[SOFT_Q_MEM_RIP_64] = { "mem-rip-not-wrapped",
	    "RIP goes past 16 or 32 bits after an emulated instruction (L-MEM-5)",
	    REAL },
	[SOFT_Q_MEM_IMM_UNSIGNED] = { "mem-immediate-zero-extended",
	    "short immediates are not sign-extended (L-DEC-8)",
	    REAL },
	[SOFT_Q_MEM_MOVZX_HIGH] = { "mem-movzx-high-byte",
	    "MOVZX from a byte to SP, BP, SI, DI goes to AH, CH, DH, BH and is lost (L-DAT-3)",
	    REAL },
	[SOFT_Q_MEM_CMPS_SWAPPED] = { "mem-cmps-swapped",
	    "CMPS subtracts the wrong way round (L-DAT-5)",
	    REAL },
	[SOFT_Q_MEM_INDEX_64] = { "mem-string-index-64bit",
	    "RSI and RDI of emulated strings do not wrap by address size (L-DAT-7)",
	    REAL },
	[SOFT_Q_MEM_REP_ANY] = { "mem-rep-on-any-opcode",
	    "F2 and F3 repeat every opcode, not only strings (L-REP-1)",
	    REAL },
	[SOFT_Q_MEM_COUNT_UPPER] = { "mem-rep-count-upper-kept",
	    "32-bit counts keep bits 63:32 of RCX in 64-bit mode (L-REP-3)",
	    REAL },
	[SOFT_Q_MEM_REPNE_ALWAYS] = { "mem-repne-looks-at-zf",
	    "F2 ends on ZF=1 for MOVS, STOS and LODS too (L-REP-5)",
	    REAL },
};
_Static_assert(sizeof(soft_quirks) / sizeof(soft_quirks[0]) == SOFT_NQUIRKS,
    "every quirk has a row");
_Static_assert((int)SOFT_NQUIRKS <= 128, "struct soft_set is large enough");

static const struct soft_switch soft_faults[] = {
	[SOFT_F_HLT_RIP] = { "hlt-rip-not-advanced",
	    "a HALTED exit leaves RIP on the HLT", 0 },
	[SOFT_F_IO_NPC] = { "io-npc-off-by-one",
	    "an IO exit's npc is one byte too far", 0 },
	[SOFT_F_OUTS_BASE] = { "outs-no-segment-base",
	    "assist_io forgets the segment base of OUTS", 0 },
	[SOFT_F_SHUTDOWN_HALTED] = { "shutdown-as-halted",
	    "a triple fault exits HALTED", 0 },
};
_Static_assert(sizeof(soft_faults) / sizeof(soft_faults[0]) == SOFT_NFAULTS,
    "every fault has a row");

static _Thread_local char problem[160];

void
soft_problem_clear(void)
{
	problem[0] = '\0';
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
	snprintf(problem, sizeof(problem),
	    "NVMM_SOFT_PROFILE: no profile named '%.80s'", name);
	return EINVAL;
}

static int
read_faults(struct soft_model *model)
{
	const char *p = getenv("NVMM_SOFT_FAULT");
	size_t len, i;

	for (; p != NULL && *p != '\0'; p += len + (p[len] == ',')) {
		len = strcspn(p, ",");
		if (len == 0)
			continue;
		for (i = 0; i < SOFT_NFAULTS; i++) {
			if (strlen(soft_faults[i].name) == len &&
			    strncmp(soft_faults[i].name, p, len) == 0)
				break;
		}
		if (i == SOFT_NFAULTS) {
			snprintf(problem, sizeof(problem),
			    "NVMM_SOFT_FAULT: no fault named '%.*s'",
			    len > 80 ? 80 : (int)len, p);
			return EINVAL;
		}
		model->faults.word[i / 64] |= UINT64_C(1) << (i % 64);
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
	if ((error = read_profile(model)) != 0 ||
	    (error = read_faults(model)) != 0)
		return error;
	for (i = 0; i < SOFT_NQUIRKS; i++) {
		if (soft_quirks[i].profiles & model->profile->bit)
			model->quirks.word[i / 64] |= UINT64_C(1) << (i % 64);
	}
	return 0;
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
