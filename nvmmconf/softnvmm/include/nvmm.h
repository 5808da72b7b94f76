/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * libnvmm(3) for machines that have no NVMM: the names, values and layouts of
 * NetBSD/amd64's <nvmm.h>, so that a client written there compiles here.
 *
 * Facts: spec libnvmm sections 2 (constants), 3 (structures, byte offsets)
 * and 4 (functions).  tests/abi/test_abi_layout.py holds every size and member
 * offset below against NetBSD's own headers.
 *
 * NVMM_USER_VERSION chooses the API: 2 (NetBSD 10 and later, the default) or
 * 1 (NetBSD 9), which lacks the stop word, nvmm_vcpu_stop() and EXIT_STOPPED
 * (L-VER-1, L-VER-2).
 */
#ifndef NVMM_H
#define NVMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef NVMM_USER_VERSION
#define NVMM_USER_VERSION	2
#endif
#if NVMM_USER_VERSION != 1 && NVMM_USER_VERSION != 2
#error "NVMM_USER_VERSION is 1 (NetBSD 9) or 2 (NetBSD 10 and later)"
#endif
#define NVMM_KERN_VERSION	NVMM_USER_VERSION

/*
 * What NetBSD's <sys/cdefs.h> and <errno.h> give to every client and Linux's
 * do not.  A mask names a field; the SHIFT macros move values in and out of it.
 */
#ifndef __BIT
#define __BIT(n)		\
	((n) >= 64 ? UINT64_C(0) : UINT64_C(1) << ((n) & 63))
#endif
#ifndef __BITS			/* bits m to n, both included, in any order */
#define __BITS(m, n)		\
	((__BIT(((m) > (n) ? (m) : (n)) + 1) - 1) ^ \
	    (__BIT((m) > (n) ? (n) : (m)) - 1))
#endif
#ifndef __LOWEST_SET_BIT
#define __LOWEST_SET_BIT(mask)	((mask) & (~(mask) + 1))
#endif
#ifndef __SHIFTOUT
#define __SHIFTOUT(x, mask)	(((x) & (mask)) / __LOWEST_SET_BIT(mask))
#define __SHIFTIN(x, mask)	((x) * __LOWEST_SET_BIT(mask))
#define __SHIFTOUT_MASK(mask)	__SHIFTOUT((mask), (mask))
#endif
#ifndef __arraycount
#define __arraycount(a)		(sizeof(a) / sizeof((a)[0]))
#endif
#ifndef EPROGMISMATCH
#define EPROGMISMATCH	75	/* NetBSD's number; Linux has no such errno */
#endif

typedef uint64_t gpaddr_t;	/* guest physical address */
typedef uint64_t gvaddr_t;	/* guest virtual (linear) address */
typedef uint32_t nvmm_machid_t;
typedef uint32_t nvmm_cpuid_t;

/* ---- exits ---------------------------------------------------------- */

#define NVMM_VCPU_EXIT_NONE		UINT64_C(0x0)
#define NVMM_VCPU_EXIT_MEMORY		UINT64_C(0x1)
#define NVMM_VCPU_EXIT_IO		UINT64_C(0x2)
#define NVMM_VCPU_EXIT_SHUTDOWN		UINT64_C(0x1000)
#define NVMM_VCPU_EXIT_INT_READY	UINT64_C(0x1001)
#define NVMM_VCPU_EXIT_NMI_READY	UINT64_C(0x1002)
#define NVMM_VCPU_EXIT_HALTED		UINT64_C(0x1003)
#define NVMM_VCPU_EXIT_TPR_CHANGED	UINT64_C(0x1004)
#define NVMM_VCPU_EXIT_RDMSR		UINT64_C(0x2000)
#define NVMM_VCPU_EXIT_WRMSR		UINT64_C(0x2001)
#define NVMM_VCPU_EXIT_MONITOR		UINT64_C(0x2002)
#define NVMM_VCPU_EXIT_MWAIT		UINT64_C(0x2003)
#define NVMM_VCPU_EXIT_CPUID		UINT64_C(0x2004)
#if NVMM_USER_VERSION >= 2
#define NVMM_VCPU_EXIT_STOPPED		UINT64_C(0xFFFFFFFFFFFFFFFE)
#endif
#define NVMM_VCPU_EXIT_INVALID		UINT64_C(0xFFFFFFFFFFFFFFFF)

struct nvmm_x86_exit_memory {
	int prot;			/* NVMM_PROT_*: the access that failed */
	gpaddr_t gpa;
	uint8_t inst_len;
	uint8_t inst_bytes[15];
};

struct nvmm_x86_exit_io {
	bool in;
	uint16_t port;
	int8_t seg;			/* NVMM_X64_SEG_*, or -1: not known */
	uint8_t address_size;		/* bytes */
	uint8_t operand_size;		/* bytes */
	bool rep;
	bool str;
	uint64_t npc;			/* RIP of the next instruction */
};

struct nvmm_x86_exit_rdmsr {
	uint32_t msr;
	uint64_t npc;
};

struct nvmm_x86_exit_wrmsr {
	uint32_t msr;
	uint64_t val;
	uint64_t npc;
};

struct nvmm_x86_exit_insn {
	uint64_t npc;
};

struct nvmm_x86_exit_invalid {
	uint64_t hwcode;
};

struct nvmm_x86_exit {
	uint64_t reason;		/* NVMM_VCPU_EXIT_* */
	union {
		struct nvmm_x86_exit_memory mem;
		struct nvmm_x86_exit_io io;
		struct nvmm_x86_exit_rdmsr rdmsr;
		struct nvmm_x86_exit_wrmsr wrmsr;
		struct nvmm_x86_exit_insn insn;
		struct nvmm_x86_exit_invalid inv;
	} u;
	struct {
		uint64_t rflags;
		uint64_t cr8;
		uint64_t int_shadow:1;
		uint64_t int_window_exiting:1;
		uint64_t nmi_window_exiting:1;
		uint64_t evt_pending:1;
		uint64_t rsvd:60;
	} exitstate;
};

/* ---- events --------------------------------------------------------- */

#define NVMM_VCPU_EVENT_EXCP	0
#define NVMM_VCPU_EVENT_INTR	1

struct nvmm_x86_event {
	unsigned int type;		/* NVMM_VCPU_EVENT_* */
	uint8_t vector;
	union {
		struct {
			uint64_t error;
		} excp;
	} u;
};

/* ---- capability ----------------------------------------------------- */

#define NVMM_CAP_ARCH_VCPU_CONF_CPUID	__BIT(0)
#define NVMM_CAP_ARCH_VCPU_CONF_TPR	__BIT(1)

struct nvmm_cap_md {
	uint64_t mach_conf_support;
	uint64_t vcpu_conf_support;	/* NVMM_CAP_ARCH_VCPU_CONF_* */
	uint64_t xcr0_mask;
	uint32_t mxcsr_mask;
	uint32_t conf_cpuid_maxops;
	uint64_t rsvd[6];
};

struct nvmm_capability {
	uint32_t version;
	uint32_t state_size;
	uint32_t max_machines;
	uint32_t max_vcpus;
	uint64_t max_ram;
	struct nvmm_cap_md arch;
};

/* ---- vCPU state ------------------------------------------------------ */

/* Macros, as on NetBSD: a client may ask with #ifdef. */
#define NVMM_X64_SEG_ES			0
#define NVMM_X64_SEG_CS			1
#define NVMM_X64_SEG_SS			2
#define NVMM_X64_SEG_DS			3
#define NVMM_X64_SEG_FS			4
#define NVMM_X64_SEG_GS			5
#define NVMM_X64_SEG_GDT		6
#define NVMM_X64_SEG_IDT		7
#define NVMM_X64_SEG_LDT		8
#define NVMM_X64_SEG_TR			9
#define NVMM_X64_NSEG			10

#define NVMM_X64_GPR_RAX		0
#define NVMM_X64_GPR_RCX		1
#define NVMM_X64_GPR_RDX		2
#define NVMM_X64_GPR_RBX		3
#define NVMM_X64_GPR_RSP		4
#define NVMM_X64_GPR_RBP		5
#define NVMM_X64_GPR_RSI		6
#define NVMM_X64_GPR_RDI		7
#define NVMM_X64_GPR_R8			8
#define NVMM_X64_GPR_R9			9
#define NVMM_X64_GPR_R10		10
#define NVMM_X64_GPR_R11		11
#define NVMM_X64_GPR_R12		12
#define NVMM_X64_GPR_R13		13
#define NVMM_X64_GPR_R14		14
#define NVMM_X64_GPR_R15		15
#define NVMM_X64_GPR_RIP		16
#define NVMM_X64_GPR_RFLAGS		17
#define NVMM_X64_NGPR			18

#define NVMM_X64_CR_CR0			0
#define NVMM_X64_CR_CR2			1
#define NVMM_X64_CR_CR3			2
#define NVMM_X64_CR_CR4			3
#define NVMM_X64_CR_CR8			4
#define NVMM_X64_CR_XCR0		5
#define NVMM_X64_NCR			6

#define NVMM_X64_DR_DR0			0
#define NVMM_X64_DR_DR1			1
#define NVMM_X64_DR_DR2			2
#define NVMM_X64_DR_DR3			3
#define NVMM_X64_DR_DR6			4
#define NVMM_X64_DR_DR7			5
#define NVMM_X64_NDR			6

#define NVMM_X64_MSR_EFER		0
#define NVMM_X64_MSR_STAR		1
#define NVMM_X64_MSR_LSTAR		2
#define NVMM_X64_MSR_CSTAR		3
#define NVMM_X64_MSR_SFMASK		4
#define NVMM_X64_MSR_KERNELGSBASE	5
#define NVMM_X64_MSR_SYSENTER_CS	6
#define NVMM_X64_MSR_SYSENTER_ESP	7
#define NVMM_X64_MSR_SYSENTER_EIP	8
#define NVMM_X64_MSR_PAT		9
#define NVMM_X64_MSR_TSC		10
#define NVMM_X64_NMSR			11

#define NVMM_X64_STATE_SEGS	0x01
#define NVMM_X64_STATE_GPRS	0x02
#define NVMM_X64_STATE_CRS	0x04
#define NVMM_X64_STATE_DRS	0x08
#define NVMM_X64_STATE_MSRS	0x10
#define NVMM_X64_STATE_INTR	0x20
#define NVMM_X64_STATE_FPU	0x40
#define NVMM_X64_STATE_ALL	0x7F

struct nvmm_x64_state_seg {
	uint16_t selector;
	struct {
		uint16_t type:4;
		uint16_t s:1;
		uint16_t dpl:2;
		uint16_t p:1;
		uint16_t avl:1;
		uint16_t l:1;
		uint16_t def:1;
		uint16_t g:1;
		uint16_t rsvd:4;
	} attrib;
	uint32_t limit;			/* bytes, whatever g says */
	uint64_t base;
};

struct nvmm_x64_state_intr {
	uint64_t int_shadow:1;
	uint64_t int_window_exiting:1;
	uint64_t nmi_window_exiting:1;
	uint64_t evt_pending:1;
	uint64_t rsvd:60;
};

/* The 512 bytes of FXSAVE, under the names of NetBSD's FPU header. */
union fp_addr {
	uint64_t fa_64;
	struct {
		uint32_t fa_off;
		uint16_t fa_seg;
		uint16_t fa_opcode;
	} fa_32;
};

struct fpacc87 {
	uint64_t f87_mantissa;
	uint16_t f87_exp_sign;
} __attribute__((packed, aligned(2)));

struct fpaccfx {
	struct fpacc87 r __attribute__((aligned(16)));
};

struct xmmreg {
	uint8_t xmm_bytes[16];
};

struct fxsave {
	uint16_t fx_cw;
	uint16_t fx_sw;
	uint8_t fx_tw;			/* abridged: a set bit is a register in use */
	uint8_t fx_zero;
	uint16_t fx_opcode;
	union fp_addr fx_ip;
	union fp_addr fx_dp;
	uint32_t fx_mxcsr;
	uint32_t fx_mxcsr_mask;
	struct fpaccfx fx_87_ac[8];
	struct xmmreg fx_xmm[16];
	uint8_t fx_rsvd[96];
} __attribute__((aligned(16)));

struct nvmm_x64_state {
	struct nvmm_x64_state_seg segs[NVMM_X64_NSEG];
	uint64_t gprs[NVMM_X64_NGPR];
	uint64_t crs[NVMM_X64_NCR];
	uint64_t drs[NVMM_X64_NDR];
	uint64_t msrs[NVMM_X64_NMSR];
	struct nvmm_x64_state_intr intr;
	struct fxsave fpu;
};

/* ---- configuration --------------------------------------------------- */

#define NVMM_MACH_CONF_LIBNVMM_BEGIN	0
#define NVMM_MACH_CONF_MI_BEGIN		100
#define NVMM_MACH_CONF_MD_BEGIN		200
#define NVMM_MACH_CONF_MD(op)		((op) - NVMM_MACH_CONF_MD_BEGIN)

#define NVMM_VCPU_CONF_LIBNVMM_BEGIN	0
#define NVMM_VCPU_CONF_MI_BEGIN		100
#define NVMM_VCPU_CONF_MD_BEGIN		200
#define NVMM_VCPU_CONF_MD(op)		((op) - NVMM_VCPU_CONF_MD_BEGIN)

#define NVMM_VCPU_CONF_CALLBACKS	NVMM_VCPU_CONF_LIBNVMM_BEGIN
#define NVMM_VCPU_CONF_CPUID		NVMM_VCPU_CONF_MD_BEGIN
#define NVMM_VCPU_CONF_TPR		(NVMM_VCPU_CONF_MD_BEGIN + 1)

struct nvmm_vcpu_conf_cpuid {
	uint32_t mask:1;
	uint32_t exit:1;
	uint32_t rsvd:30;
	uint32_t leaf;
	union {
		struct {
			struct {
				uint32_t eax, ebx, ecx, edx;
			} set;
			struct {
				uint32_t eax, ebx, ecx, edx;
			} del;
		} mask;
	} u;
};

struct nvmm_vcpu_conf_tpr {
	uint32_t exit_changed:1;
	uint32_t rsvd:31;
};

/* The machine-independent names of the x86 structures. */
#define nvmm_vcpu_exit		nvmm_x86_exit
#define nvmm_vcpu_event		nvmm_x86_event
#define nvmm_vcpu_state		nvmm_x64_state

/* ---- machines, vCPUs, callbacks --------------------------------------- */

struct nvmm_io;
struct nvmm_mem;

struct nvmm_assist_callbacks {
	void (*io)(struct nvmm_io *);
	void (*mem)(struct nvmm_mem *);
};

struct nvmm_machine {
	nvmm_machid_t machid;
	struct nvmm_comm_page **pages;
	void *areas;
};

struct nvmm_vcpu {
	nvmm_cpuid_t cpuid;
	struct nvmm_assist_callbacks cbs;
	struct nvmm_vcpu_state *state;
	struct nvmm_vcpu_event *event;
	struct nvmm_vcpu_exit *exit;
#if NVMM_USER_VERSION >= 2
	volatile int *stop;
#endif
};

struct nvmm_io {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	uint16_t port;
	bool in;
	size_t size;			/* bytes */
	uint8_t *data;
};

struct nvmm_mem {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	gpaddr_t gpa;
	bool write;
	size_t size;			/* bytes */
	uint8_t *data;
};

#define NVMM_PROT_READ		0x01
#define NVMM_PROT_WRITE		0x02
#define NVMM_PROT_EXEC		0x04
#define NVMM_PROT_USER		0x08
#define NVMM_PROT_ALL		0x0F
typedef uint64_t nvmm_prot_t;

/* Shared with the kernel, one a vCPU (L-ST-1 ff.). */
struct nvmm_comm_page {
	uint64_t state_wanted;
	uint64_t state_cached;
	uint64_t state_commit;
	struct nvmm_vcpu_state state;
	bool event_commit;
	struct nvmm_vcpu_event event;
#if NVMM_USER_VERSION >= 2
	volatile int stop;
#endif
};

/* nvmm_ctl() */
#define NVMM_CTL_MACH_INFO	0

struct nvmm_ctl_mach_info {
	nvmm_machid_t machid;		/* in */
	uint32_t nvcpus;
	uint64_t nram;			/* bytes */
	pid_t pid;
	time_t time;
};

/* ---- functions: 0, or -1 and errno ------------------------------------ */

int nvmm_init(void);
int nvmm_root_init(void);

int nvmm_capability(struct nvmm_capability *);

int nvmm_machine_create(struct nvmm_machine *);
int nvmm_machine_destroy(struct nvmm_machine *);
int nvmm_machine_configure(struct nvmm_machine *, uint64_t, void *);

int nvmm_vcpu_create(struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *);
int nvmm_vcpu_destroy(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_configure(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t,
    void *);
int nvmm_vcpu_setstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_getstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_inject(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_run(struct nvmm_machine *, struct nvmm_vcpu *);
#if NVMM_USER_VERSION >= 2
int nvmm_vcpu_stop(struct nvmm_vcpu *);
#endif

int nvmm_gpa_map(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t, int);
int nvmm_gpa_unmap(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t);
int nvmm_hva_map(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_hva_unmap(struct nvmm_machine *, uintptr_t, size_t);

int nvmm_gva_to_gpa(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t,
    gpaddr_t *, nvmm_prot_t *);
int nvmm_gpa_to_hva(struct nvmm_machine *, gpaddr_t, uintptr_t *,
    nvmm_prot_t *);

int nvmm_assist_io(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_assist_mem(struct nvmm_machine *, struct nvmm_vcpu *);

int nvmm_ctl(int, void *, size_t);
int nvmm_vcpu_dump(struct nvmm_machine *, struct nvmm_vcpu *);

#ifdef __cplusplus
}
#endif

#endif /* NVMM_H */
