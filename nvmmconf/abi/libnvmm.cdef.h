/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What Python sees of <nvmm.h>, for cffi's parser.  "..." leaves sizes,
 * offsets and values to the C compiler and the header it finds, so nothing
 * here says where a member lies.  (cffi wants the members of an unnamed union
 * without "..."; it then compares them with the compiler's layout at import.)
 * Facts: spec libnvmm sections 2 to 4.
 */
typedef uint64_t gpaddr_t;
typedef uint64_t gvaddr_t;
typedef uint32_t nvmm_machid_t;
typedef uint32_t nvmm_cpuid_t;
typedef uint64_t nvmm_prot_t;

#define NVMM_USER_VERSION ...

#define NVMM_VCPU_EXIT_NONE ...
#define NVMM_VCPU_EXIT_MEMORY ...
#define NVMM_VCPU_EXIT_IO ...
#define NVMM_VCPU_EXIT_SHUTDOWN ...
#define NVMM_VCPU_EXIT_INT_READY ...
#define NVMM_VCPU_EXIT_NMI_READY ...
#define NVMM_VCPU_EXIT_HALTED ...
#define NVMM_VCPU_EXIT_TPR_CHANGED ...
#define NVMM_VCPU_EXIT_RDMSR ...
#define NVMM_VCPU_EXIT_WRMSR ...
#define NVMM_VCPU_EXIT_MONITOR ...
#define NVMM_VCPU_EXIT_MWAIT ...
#define NVMM_VCPU_EXIT_CPUID ...
#define NVMM_VCPU_EXIT_STOPPED ...
#define NVMM_VCPU_EXIT_INVALID ...

#define NVMM_VCPU_EVENT_EXCP ...
#define NVMM_VCPU_EVENT_INTR ...

#define NVMM_CAP_ARCH_VCPU_CONF_CPUID ...
#define NVMM_CAP_ARCH_VCPU_CONF_TPR ...

#define NVMM_X64_SEG_ES ...
#define NVMM_X64_SEG_CS ...
#define NVMM_X64_SEG_SS ...
#define NVMM_X64_SEG_DS ...
#define NVMM_X64_SEG_FS ...
#define NVMM_X64_SEG_GS ...
#define NVMM_X64_SEG_GDT ...
#define NVMM_X64_SEG_IDT ...
#define NVMM_X64_SEG_LDT ...
#define NVMM_X64_SEG_TR ...
#define NVMM_X64_NSEG ...

#define NVMM_X64_GPR_RAX ...
#define NVMM_X64_GPR_RCX ...
#define NVMM_X64_GPR_RDX ...
#define NVMM_X64_GPR_RBX ...
#define NVMM_X64_GPR_RSP ...
#define NVMM_X64_GPR_RBP ...
#define NVMM_X64_GPR_RSI ...
#define NVMM_X64_GPR_RDI ...
#define NVMM_X64_GPR_R8 ...
#define NVMM_X64_GPR_R9 ...
#define NVMM_X64_GPR_R10 ...
#define NVMM_X64_GPR_R11 ...
#define NVMM_X64_GPR_R12 ...
#define NVMM_X64_GPR_R13 ...
#define NVMM_X64_GPR_R14 ...
#define NVMM_X64_GPR_R15 ...
#define NVMM_X64_GPR_RIP ...
#define NVMM_X64_GPR_RFLAGS ...
#define NVMM_X64_NGPR ...

#define NVMM_X64_CR_CR0 ...
#define NVMM_X64_CR_CR2 ...
#define NVMM_X64_CR_CR3 ...
#define NVMM_X64_CR_CR4 ...
#define NVMM_X64_CR_CR8 ...
#define NVMM_X64_CR_XCR0 ...
#define NVMM_X64_NCR ...

#define NVMM_X64_DR_DR0 ...
#define NVMM_X64_DR_DR1 ...
#define NVMM_X64_DR_DR2 ...
#define NVMM_X64_DR_DR3 ...
#define NVMM_X64_DR_DR6 ...
#define NVMM_X64_DR_DR7 ...
#define NVMM_X64_NDR ...

#define NVMM_X64_MSR_EFER ...
#define NVMM_X64_MSR_STAR ...
#define NVMM_X64_MSR_LSTAR ...
#define NVMM_X64_MSR_CSTAR ...
#define NVMM_X64_MSR_SFMASK ...
#define NVMM_X64_MSR_KERNELGSBASE ...
#define NVMM_X64_MSR_SYSENTER_CS ...
#define NVMM_X64_MSR_SYSENTER_ESP ...
#define NVMM_X64_MSR_SYSENTER_EIP ...
#define NVMM_X64_MSR_PAT ...
#define NVMM_X64_MSR_TSC ...
#define NVMM_X64_NMSR ...

#define NVMM_X64_STATE_SEGS ...
#define NVMM_X64_STATE_GPRS ...
#define NVMM_X64_STATE_CRS ...
#define NVMM_X64_STATE_DRS ...
#define NVMM_X64_STATE_MSRS ...
#define NVMM_X64_STATE_INTR ...
#define NVMM_X64_STATE_FPU ...
#define NVMM_X64_STATE_ALL ...

#define NVMM_PROT_READ ...
#define NVMM_PROT_WRITE ...
#define NVMM_PROT_EXEC ...
#define NVMM_PROT_USER ...
#define NVMM_PROT_ALL ...

#define NVMM_MACH_CONF_LIBNVMM_BEGIN ...
#define NVMM_MACH_CONF_MI_BEGIN ...
#define NVMM_MACH_CONF_MD_BEGIN ...
#define NVMM_VCPU_CONF_LIBNVMM_BEGIN ...
#define NVMM_VCPU_CONF_MI_BEGIN ...
#define NVMM_VCPU_CONF_MD_BEGIN ...
#define NVMM_VCPU_CONF_CALLBACKS ...
#define NVMM_VCPU_CONF_CPUID ...
#define NVMM_VCPU_CONF_TPR ...
#define NVMM_CTL_MACH_INFO ...

/* ---- exits ---- */

struct nvmm_x86_exit_memory {
	int prot;
	gpaddr_t gpa;
	uint8_t inst_len;
	uint8_t inst_bytes[15];
};
/* Its bools as bytes: what a faulty kernel writes there has to be readable. */
struct nvmm_x86_exit_io {
	uint8_t in;
	uint16_t port;
	int8_t seg;
	uint8_t address_size;
	uint8_t operand_size;
	uint8_t rep;
	uint8_t str;
	uint64_t npc;
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
	uint64_t reason;
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

/* ---- events ---- */

struct nvmm_x86_event {
	unsigned int type;
	uint8_t vector;
	union {
		struct {
			uint64_t error;
		} excp;
	} u;
};

/* ---- capability ---- */

struct nvmm_cap_md {
	uint64_t mach_conf_support;
	uint64_t vcpu_conf_support;
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
	...;
};

/* ---- state ---- */

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
	uint32_t limit;
	uint64_t base;
};
struct nvmm_x64_state_intr {
	uint64_t int_shadow:1;
	uint64_t int_window_exiting:1;
	uint64_t nmi_window_exiting:1;
	uint64_t evt_pending:1;
	uint64_t rsvd:60;
};
union fp_addr {
	uint64_t fa_64;
	...;
};
struct fpacc87 {
	uint64_t f87_mantissa;
	uint16_t f87_exp_sign;
	...;
};
struct fpaccfx {
	struct fpacc87 r;
	...;
};
struct xmmreg {
	uint8_t xmm_bytes[16];
	...;
};
struct fxsave {
	uint16_t fx_cw;
	uint16_t fx_sw;
	uint8_t fx_tw;
	uint8_t fx_zero;
	uint16_t fx_opcode;
	union fp_addr fx_ip;
	union fp_addr fx_dp;
	uint32_t fx_mxcsr;
	uint32_t fx_mxcsr_mask;
	struct fpaccfx fx_87_ac[8];
	struct xmmreg fx_xmm[16];
	...;
};
struct nvmm_x64_state {
	struct nvmm_x64_state_seg segs[...];
	uint64_t gprs[...];
	uint64_t crs[...];
	uint64_t drs[...];
	uint64_t msrs[...];
	struct nvmm_x64_state_intr intr;
	struct fxsave fpu;
	...;
};

/* ---- configuration ---- */

struct nvmm_vcpu_conf_cpuid {
	uint32_t mask:1;
	uint32_t exit:1;
	uint32_t rsvd:30;
	uint32_t leaf;
	union {
		struct {
			struct {
				uint32_t eax;
				uint32_t ebx;
				uint32_t ecx;
				uint32_t edx;
			} set;
			struct {
				uint32_t eax;
				uint32_t ebx;
				uint32_t ecx;
				uint32_t edx;
			} del;
		} mask;
	} u;
};
struct nvmm_vcpu_conf_tpr {
	uint32_t exit_changed:1;
	uint32_t rsvd:31;
};
struct nvmm_ctl_mach_info {
	nvmm_machid_t machid;
	uint32_t nvcpus;
	uint64_t nram;
	int32_t pid;
	int64_t time;
	...;
};

/* ---- machines, vCPUs, callbacks ---- */

struct nvmm_comm_page {
	uint64_t state_wanted;
	uint64_t state_cached;
	uint64_t state_commit;
	struct nvmm_x64_state state;
	bool event_commit;
	struct nvmm_x86_event event;
	...;
};
struct nvmm_machine {
	nvmm_machid_t machid;
	struct nvmm_comm_page **pages;
	...;
};
struct nvmm_io;
struct nvmm_mem;
struct nvmm_assist_callbacks {
	void (*io)(struct nvmm_io *);
	void (*mem)(struct nvmm_mem *);
};
struct nvmm_vcpu {
	nvmm_cpuid_t cpuid;
	struct nvmm_assist_callbacks cbs;
	struct nvmm_x64_state *state;
	struct nvmm_x86_event *event;
	struct nvmm_x86_exit *exit;
	...;
};
struct nvmm_io {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	uint16_t port;
	bool in;
	size_t size;
	uint8_t *data;
	...;
};
struct nvmm_mem {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	gpaddr_t gpa;
	bool write;
	size_t size;
	uint8_t *data;
	...;
};

/* ---- binding.c: the function table ---- */

struct vcpu_box {
	struct nvmm_vcpu vcpu;
	...;
};
struct soft_diagnostic {
	uint64_t unimplemented;
	uint8_t bytes[15];
	uint8_t len;
	uint64_t undecodable_mem;
};
struct libnvmm {
	bool has_stop;
	bool has_soft;
	...;
};

struct libnvmm *libnvmm_open(const char *path, char *why, size_t why_size);
void libnvmm_close(struct libnvmm *);

void *host_map(size_t size);
int host_unmap(void *pages, size_t size);

int call_init(struct libnvmm *);
int call_root_init(struct libnvmm *);
int call_capability(struct libnvmm *, struct nvmm_capability *);
int call_machine_create(struct libnvmm *, struct nvmm_machine *);
int call_machine_destroy(struct libnvmm *, struct nvmm_machine *);
int call_machine_configure(struct libnvmm *, struct nvmm_machine *, uint64_t op, void *conf);
int call_vcpu_create(struct libnvmm *, struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *);
int call_vcpu_destroy(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);
int call_vcpu_configure(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *, uint64_t op,
    void *conf);
int call_vcpu_setstate(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *, uint64_t flags);
int call_vcpu_getstate(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *, uint64_t flags);
int call_vcpu_inject(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);
int call_vcpu_run(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);
int call_vcpu_stop(struct libnvmm *, struct nvmm_vcpu *);
bool vcpu_has_stop(struct libnvmm *, struct vcpu_box *);
int call_gpa_map(struct libnvmm *, struct nvmm_machine *, uintptr_t hva, gpaddr_t gpa, size_t size,
    int prot);
int call_gpa_unmap(struct libnvmm *, struct nvmm_machine *, uintptr_t hva, gpaddr_t gpa,
    size_t size);
int call_hva_map(struct libnvmm *, struct nvmm_machine *, uintptr_t hva, size_t size);
int call_hva_unmap(struct libnvmm *, struct nvmm_machine *, uintptr_t hva, size_t size);
int call_gva_to_gpa(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t gva,
    gpaddr_t *gpa, nvmm_prot_t *prot);
int call_gpa_to_hva(struct libnvmm *, struct nvmm_machine *, gpaddr_t gpa, uintptr_t *hva,
    nvmm_prot_t *prot);
int call_assist_io(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);
int call_assist_mem(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);
int call_ctl(struct libnvmm *, int op, void *data, size_t size);
int call_vcpu_dump(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *);

int call_soft_list(struct libnvmm *, int kind, size_t index, const char **name,
    const char **summary);
const char *call_soft_problem(struct libnvmm *);
int call_soft_diagnostic(struct libnvmm *, struct nvmm_machine *, struct nvmm_vcpu *,
    struct soft_diagnostic *);

extern "Python" void io_callback(struct nvmm_io *);
extern "Python" void mem_callback(struct nvmm_mem *);
