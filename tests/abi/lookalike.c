/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A libnvmm that hands every call on to another one (BASE), writes down what
 * it was asked, and does differently what the lookalike_* variables say.
 * WITHOUT_STOP and WITHOUT_SOFT leave those functions out.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nvmm.h>
#include <softnvmm.h>

/* What was called, a line a call, oldest first. */
char lookalike_calls[1 << 16];

/* The line that fails, with which errno; lines are compared up to its end. */
char lookalike_failing[64];
int lookalike_errno;

/* What capability says instead; -1 leaves it. */
int lookalike_version = -1, lookalike_state_size = -1;

/* The TPR configuration is supported: capability says so, configure takes it. */
int lookalike_tpr;

/* The last configurations, as given. */
struct nvmm_vcpu_conf_cpuid lookalike_cpuid_conf;
struct nvmm_vcpu_conf_tpr lookalike_tpr_conf;

/* So many runs return this exit and enter nothing. */
int lookalike_exits;
struct nvmm_vcpu_exit lookalike_exit;

/*
 * As on hardware: a guest that does not exit by itself is left for a signal
 * only, whatever the stop word says (L-STOP-4a).  After so many of the base's
 * ticks it gives up and says so, or a test would never end.  0: off.
 */
int lookalike_ticks, lookalike_gave_up;

/* Called at the beginning of each run. */
void (*lookalike_at_run)(void);

static void *
base(const char *name)
{
	static void *handle;
	void *symbol;

	if (handle == NULL)
		handle = dlopen(BASE, RTLD_NOW | RTLD_LOCAL);
	symbol = handle == NULL ? NULL : dlsym(handle, name);
	if (symbol == NULL) {
		fprintf(stderr, "lookalike: %s\n", dlerror());
		abort();
	}
	return symbol;
}

static int __attribute__((format(printf, 1, 2)))
note(const char *format, ...)
{
	size_t used = strlen(lookalike_calls);
	size_t left = sizeof(lookalike_calls) - used;
	char line[200];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (strlen(line) + 2 <= left)
		snprintf(lookalike_calls + used, left, "%s\n", line);
	if (lookalike_failing[0] == '\0' || strncmp(line, lookalike_failing,
	    strlen(lookalike_failing)) != 0)
		return 0;
	errno = lookalike_errno;
	return -1;
}

#define ON(name, ...)	(((__typeof__(&nvmm_##name))base("nvmm_" #name))(__VA_ARGS__))

int
nvmm_init(void)
{
	return note("init") ? -1 : ON(init);
}

int
nvmm_root_init(void)
{
	return note("root_init") ? -1 : ON(root_init);
}

int
nvmm_capability(struct nvmm_capability *cap)
{
	if (note("capability") || ON(capability, cap) != 0)
		return -1;
	if (lookalike_version != -1)
		cap->version = (uint32_t)lookalike_version;
	if (lookalike_state_size != -1)
		cap->state_size = (uint32_t)lookalike_state_size;
	if (lookalike_tpr)
		cap->arch.vcpu_conf_support |= NVMM_CAP_ARCH_VCPU_CONF_TPR;
	return 0;
}

int
nvmm_machine_create(struct nvmm_machine *mach)
{
	return note("machine_create") ? -1 : ON(machine_create, mach);
}

int
nvmm_machine_destroy(struct nvmm_machine *mach)
{
	return note("machine_destroy") ? -1 : ON(machine_destroy, mach);
}

int
nvmm_machine_configure(struct nvmm_machine *mach, uint64_t op, void *conf)
{
	return note("machine_configure %d", (int)op) ? -1 :
	    ON(machine_configure, mach, op, conf);
}

int
nvmm_vcpu_create(struct nvmm_machine *mach, nvmm_cpuid_t id,
    struct nvmm_vcpu *vcpu)
{
	return note("vcpu_create %d", (int)id) ? -1 :
	    ON(vcpu_create, mach, id, vcpu);
}

int
nvmm_vcpu_destroy(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	return note("vcpu_destroy %d", (int)vcpu->cpuid) ? -1 :
	    ON(vcpu_destroy, mach, vcpu);
}

int
nvmm_vcpu_configure(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t op, void *conf)
{
	if (note("vcpu_configure %d", (int)op))
		return -1;
	if (op == NVMM_VCPU_CONF_CPUID)
		memcpy(&lookalike_cpuid_conf, conf, sizeof(lookalike_cpuid_conf));
	if (op == NVMM_VCPU_CONF_TPR && lookalike_tpr) {
		memcpy(&lookalike_tpr_conf, conf, sizeof(lookalike_tpr_conf));
		return 0;
	}
	return ON(vcpu_configure, mach, vcpu, op, conf);
}

int
nvmm_vcpu_setstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t flags)
{
	return note("vcpu_setstate %#x", (unsigned)flags) ? -1 :
	    ON(vcpu_setstate, mach, vcpu, flags);
}

int
nvmm_vcpu_getstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t flags)
{
	return note("vcpu_getstate %#x", (unsigned)flags) ? -1 :
	    ON(vcpu_getstate, mach, vcpu, flags);
}

int
nvmm_vcpu_inject(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	return note("vcpu_inject %u %u", vcpu->event->type,
	    vcpu->event->vector) ? -1 : ON(vcpu_inject, mach, vcpu);
}

/* Whether a stop has come since the last run: not all bases' exits tell. */
static int asked;

static volatile sig_atomic_t kicked;
static struct sigaction handler;

static void
note_kick(int number)
{
	kicked = 1;
	if (handler.sa_handler != SIG_DFL && handler.sa_handler != SIG_IGN)
		handler.sa_handler(number);
}

static int
run_until_kicked(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct sigaction noting = { .sa_handler = note_kick };
	bool stopped = false, before_entry;
	int i, result = 0;

	/* One that was handled before this is lost, as with a kernel. */
	kicked = 0;
	sigaction(SIGUSR1, &noting, &handler);
	before_entry = __atomic_load_n(&asked, __ATOMIC_SEQ_CST) != 0;
	for (i = 0; i < lookalike_ticks; i++) {
		result = ON(vcpu_run, mach, vcpu);
		if (result != 0 ||
		    (vcpu->exit->reason != NVMM_VCPU_EXIT_NONE &&
		    vcpu->exit->reason != NVMM_VCPU_EXIT_STOPPED))
			break;
		stopped |= vcpu->exit->reason == NVMM_VCPU_EXIT_STOPPED;
		/* Seen before the entry it stops at once. */
		if (kicked || (stopped && before_entry))
			break;
	}
	if (i == lookalike_ticks)
		lookalike_gave_up = 1;
	if (result == 0 && stopped)
		vcpu->exit->reason = NVMM_VCPU_EXIT_STOPPED;
	__atomic_store_n(&asked, 0, __ATOMIC_SEQ_CST);
	sigaction(SIGUSR1, &handler, NULL);
	return result;
}

int
nvmm_vcpu_run(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	if (note("vcpu_run"))
		return -1;
	if (lookalike_at_run != NULL)
		lookalike_at_run();
	if (lookalike_exits > 0) {
		lookalike_exits--;
		memcpy(vcpu->exit, &lookalike_exit, sizeof(lookalike_exit));
		return 0;
	}
	if (lookalike_ticks > 0)
		return run_until_kicked(mach, vcpu);
	return ON(vcpu_run, mach, vcpu);
}

#ifndef WITHOUT_STOP
int
nvmm_vcpu_stop(struct nvmm_vcpu *vcpu)
{
	__atomic_store_n(&asked, 1, __ATOMIC_SEQ_CST);
	return note("vcpu_stop") ? -1 : ON(vcpu_stop, vcpu);
}
#endif

int
nvmm_gpa_map(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa,
    size_t size, int prot)
{
	return note("gpa_map %#lx %#lx %#lx %d", (unsigned long)hva,
	    (unsigned long)gpa, (unsigned long)size, prot) ? -1 :
	    ON(gpa_map, mach, hva, gpa, size, prot);
}

int
nvmm_gpa_unmap(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa,
    size_t size)
{
	return note("gpa_unmap %#lx %#lx %#lx", (unsigned long)hva,
	    (unsigned long)gpa, (unsigned long)size) ? -1 :
	    ON(gpa_unmap, mach, hva, gpa, size);
}

int
nvmm_hva_map(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	return note("hva_map %#lx %#lx", (unsigned long)hva,
	    (unsigned long)size) ? -1 : ON(hva_map, mach, hva, size);
}

int
nvmm_hva_unmap(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	return note("hva_unmap %#lx %#lx", (unsigned long)hva,
	    (unsigned long)size) ? -1 : ON(hva_unmap, mach, hva, size);
}

int
nvmm_gva_to_gpa(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	return note("gva_to_gpa") ? -1 :
	    ON(gva_to_gpa, mach, vcpu, gva, gpa, prot);
}

int
nvmm_gpa_to_hva(struct nvmm_machine *mach, gpaddr_t gpa, uintptr_t *hva,
    nvmm_prot_t *prot)
{
	return note("gpa_to_hva") ? -1 : ON(gpa_to_hva, mach, gpa, hva, prot);
}

/* The assists are called with the record that this library's caller has. */
int
nvmm_assist_io(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	return note("assist_io") ? -1 : ON(assist_io, mach, vcpu);
}

int
nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	return note("assist_mem") ? -1 : ON(assist_mem, mach, vcpu);
}

int
nvmm_ctl(int op, void *data, size_t size)
{
	return note("ctl") ? -1 : ON(ctl, op, data, size);
}

int
nvmm_vcpu_dump(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	return note("vcpu_dump") ? -1 : ON(vcpu_dump, mach, vcpu);
}

#ifndef WITHOUT_SOFT
int
nvmm_soft_list(enum nvmm_soft_kind kind, size_t index, const char **name,
    const char **summary)
{
	return ON(soft_list, kind, index, name, summary);
}

const char *
nvmm_soft_problem(void)
{
	return ON(soft_problem);
}

int
nvmm_soft_diagnostic(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    struct nvmm_soft_diagnostic *d)
{
	return ON(soft_diagnostic, mach, vcpu, d);
}
#endif
