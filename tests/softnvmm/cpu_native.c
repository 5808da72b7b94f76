/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The interpreter against the processor that this runs on.
 *
 *	cpu_native SEED COUNT [FIRST]
 *
 * Makes COUNT instances of the user-mode forms in the decode tables, FIRST the
 * first of them: encoding, registers, flags and memory by chance, in 64-, 32-
 * and 16-bit code.  Each one runs natively, in a child process, and in the
 * interpreter.  Registers, memory, x87 and SSE state, the flags that the SDM
 * defines, and for faults vector, error code, CR2 and RIP must agree.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native.h"

#define STATUS_DF_IF	0xED5u
#define REPORTED	40u

static const char *const mode_names[MODES] = { "64", "32", "16" };
static const char *const reg_names[] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
};
static const char *const sreg_names[] = { "es", "cs", "ss", "ds", "fs", "gs" };

/* --- comparing --- */

static bool
say_difference(bool say, const char *what, uint64_t native, uint64_t here)
{
	if (native == here)
		return false;
	if (say)
		printf("  %s: native %#llx, here %#llx\n", what,
		    (unsigned long long)native, (unsigned long long)here);
	return true;
}

static bool
differ_bytes(const char *name, const uint8_t *n, const uint8_t *s, unsigned size, bool say)
{
	unsigned i;
	bool bad = false;
	char what[32];

	if (memcmp(n, s, size) == 0)
		return false;
	for (i = 0; i < size; i++) {
		snprintf(what, sizeof(what), "%s[%#x]", name, i);
		bad |= say_difference(say, what, n[i], s[i]);
	}
	return bad;
}

/* The mask is not a register; of the pointers FNSTENV says 32 bits, if it runs. */
static bool
differ_fx(const struct result *n, const struct result *s, bool say)
{
	uint8_t a[FX_END], b[FX_END];
	unsigned i;

	memcpy(a, n->fx, FX_END);
	memcpy(b, s->fx, FX_END);
	memset(a + FX_MXCSR_MASK, 0, 4);
	memset(b + FX_MXCSR_MASK, 0, 4);
	a[5] = b[5] = 0;
	for (i = 0; i < 8; i++) {
		memset(a + FX_ST + 16 * i + 10, 0, 6);
		memset(b + FX_ST + 16 * i + 10, 0, 6);
	}
	for (i = n->vector < 0 ? FX_FIP + 4 : FX_FOP; i < FX_MXCSR; i++)
		if (n->vector >= 0 || i < FX_FDP || i >= FX_FDP + 4)
			a[i] = b[i] = 0;
	return differ_bytes("fx", a, b, FX_END, say);
}

static bool
differ(const struct instance *t, const struct result *n, const struct result *s, bool say)
{
	bool bad = differ_bytes("data", n->data, s->data, DATA_SIZE, say);
	uint64_t flags = STATUS_DF_IF & ~(uint64_t)(n->vector < 0 ? t->undefined : 0);
	uint64_t mask = t->mode == MODE_64 ? ~UINT64_C(0) : UINT32_MAX;
	unsigned i;

	if (t->misaligned && n->vector >= EXC_SS && n->vector <= EXC_GP &&
	    s->vector >= EXC_SS && s->vector <= EXC_GP)
		return bad;
	bad |= say_difference(say, "vector", (uint64_t)n->vector, (uint64_t)s->vector);
	bad |= say_difference(say, "rip", n->rip, s->rip);
	for (i = 0; i < (t->mode == MODE_64 ? 16 : 8); i++)
		if ((int)i != t->ignore)
			bad |= say_difference(say, reg_names[i], n->gpr[i] & mask, s->gpr[i] & mask);
	for (i = 0; i < CPU_NSEG; i++)
		if (i != CPU_CS)
			bad |= say_difference(say, sreg_names[i], n->sreg[i], s->sreg[i]);
	if (t->mode == MODE_64) {
		bad |= say_difference(say, "fs base", n->fs_base, s->fs_base);
		bad |= say_difference(say, "gs base", n->gs_base, s->gs_base);
	}
	bad |= say_difference(say, "rflags", n->flags & flags, s->flags & flags);
	if (n->vector == EXC_PF) {
		if (!t->any_cr2)
			bad |= say_difference(say, "cr2", n->cr2, s->cr2);
		/* Linux says "present" for all of its own half. */
		bad |= say_difference(say, "error",
		    n->error & (n->cr2 >> 63 ? ~UINT64_C(1) : ~UINT64_C(0)), s->error);
	} else if (n->vector >= EXC_TS && n->vector <= EXC_GP) {
		bad |= say_difference(say, "error", n->error, s->error);
	}
	/* AMD's MASKMOVQ has made x87 into MMX registers before it faults. */
	if (n->vector >= 0 && t->form->op->execute == op_maskmov)
		return bad;
	return differ_fx(n, s, say) | bad;
}

static bool
differ_once(struct cpu *cpu, const struct instance *t, struct result *n, struct result *s)
{
	run_native(t, n);
	if (!run_interpreter(cpu, t, s))
		return true;
	/* MXCSR_MASK says what the processor has, not what the program did. */
	if (t->mxcsr_mask != 0 && t->mxcsr_mask + 4 <= DATA_SIZE)
		memcpy(s->data + t->mxcsr_mask, n->data + t->mxcsr_mask, 4);
	return differ(t, n, s, false);
}

/*
 * Once more if they differ: an interrupt between the instruction and FNSTENV
 * loses the pointers, which AMD's XSAVE does not keep.
 */
static bool
mismatch(struct cpu *cpu, const struct instance *t, struct result *n, struct result *s)
{
	return differ_once(cpu, t, n, s) && differ_once(cpu, t, n, s) &&
	    differ_once(cpu, t, n, s);
}

/* --- a mismatch, made small --- */

static void
simplify(struct cpu *cpu, struct instance *t, struct result *n, struct result *s)
{
	struct instance best = *t;
	unsigned i;

	for (i = 0; i < 16 + 8 + 32 + 2; i++) {
		*t = best;
		if (i < 16)
			t->gpr[i] = 0;
		else if (i < 24)
			memset(t->fx + FX_ST + 16 * (i - 16), 0, 16);
		else if (i < 56)
			memset(t->fx + FX_XMM + 8 * (i - 24), 0, 8);
		else if (i == 56)
			t->flags = 0x202;
		else
			memcpy(t->fx, "\x7F\x03\0\0\0\0\0\0", 8);
		if (mismatch(cpu, t, n, s))
			best = *t;
	}
	*t = best;
	mismatch(cpu, t, n, s);
}

static void
print_fx(const uint8_t *fx)
{
	unsigned i, j;

	printf("  fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %02x%02x\n", fx[1], fx[0],
	    fx[3], fx[2], fx[4], fx[25], fx[24]);
	for (i = 0; i < 24; i++) {
		const uint8_t *at = fx + FX_ST + 16 * i;
		static const uint8_t zeros[16];

		if (memcmp(at, zeros, 16) == 0)
			continue;
		printf(i < 8 ? "  st%u" : "  xmm%u", i < 8 ? i : i - 8);
		for (j = 16; j-- > 0;)
			printf("%s%02x", j == 15 || j == 7 ? " " : "", at[j]);
		printf("\n");
	}
}

static void
report(struct cpu *cpu, struct instance *t, uint64_t seed, unsigned long index,
    struct result *n, struct result *s)
{
	unsigned i;

	printf("MISMATCH cpu_native %llu 1 %lu: %s, %s-bit code:", (unsigned long long)seed,
	    index, t->form->name, mode_names[t->mode]);
	if (getenv("RAW") == NULL)
		simplify(cpu, t, n, s);
	for (i = 0; i < t->len; i++)
		printf(" %02X", t->code[i]);
	printf("\n  flags %#llx target %#llx", (unsigned long long)t->flags,
	    (unsigned long long)t->target);
	for (i = 0; i < 16; i++)
		if (t->gpr[i] != 0)
			printf(" %s=%#llx", reg_names[i], (unsigned long long)t->gpr[i]);
	printf("\n");
	print_fx(t->fx);
	differ(t, n, s, true);
}

/* --- all of them --- */

static unsigned
say_untried(const bool modes[MODES])
{
	unsigned f, m, tried = 0;

	for (f = 0; f < nforms; f++) {
		unsigned long times = 0;

		for (m = 0; m < MODES; m++) {
			times += forms[f].tried[m];
			if (modes[m] && form_in_mode(&forms[f], m) && forms[f].tried[m] == 0)
				printf("not in %s-bit code: %s\n", mode_names[m], forms[f].name);
		}
		tried += times != 0;
		if (times == 0)
			printf("NEVER TRIED %s\n", forms[f].name);
	}
	for (f = 0; f < nsystem; f++)
		printf("system form %s: %s\n", system_forms[f].name,
		    system_forms[f].trait->reason);
	return tried;
}

static int
compare_all(uint64_t seed, unsigned long count, unsigned long first)
{
	static struct instance t;
	static struct result native, soft;
	static struct cpu cpu;
	unsigned long i, bad = 0, faults = 0, per_mode[MODES] = { 0 };
	bool modes[MODES];
	const char *reason;
	unsigned tried, m;

	read_forms();
	reason = native_setup(modes);
	if (reason != NULL)
		printf("SKIPPED: %s\n", reason);
	if (!modes[MODE_64])
		return 5;
	soft_setup(&cpu);
	for (i = first; i < first + count; i++) {
		struct form *f = &forms[i % nforms];
		unsigned round = (unsigned)(i / nforms);

		/* Half of them 64-bit code; forms of other modes there. */
		seed_instance(seed, i);
		m = round % 4 == 1 ? MODE_32 : round % 4 == 3 ? MODE_16 : MODE_64;
		if (!modes[m] || !form_in_mode(f, m))
			m = form_in_mode(f, MODE_64) ? MODE_64 : 1 + round % 2;
		if (!modes[m])
			continue;
		do
			make(&t, f, m);
		while (t.skip);
		f->tried[m]++;
		per_mode[m]++;
		if (mismatch(&cpu, &t, &native, &soft) && bad++ < REPORTED * 100 && !f->reported) {
			f->reported = true;	/* one of a kind says enough */
			report(&cpu, &t, seed, i, &native, &soft);
		}
		faults += native.vector >= 0;
	}
	tried = count >= 4ul * nforms ? say_untried(modes) : 0;
	printf("instances %lu faults %lu forms %u of %u mismatches %lu unimplemented %llu\n",
	    count, faults, tried, nforms, bad, (unsigned long long)cpu.unimplemented);
	printf("64-bit %lu 32-bit %lu 16-bit %lu; %u system forms are not for user mode\n",
	    per_mode[MODE_64], per_mode[MODE_32], per_mode[MODE_16], nsystem);
	fflush(stdout);
	return bad != 0;
}

int
main(int argc, char **argv)
{
	int status;
	pid_t child;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: cpu_native seed count [first]\n");
		return 2;
	}
	fflush(stdout);
	child = fork();
	if (child < 0) {
		perror("fork");
		return 3;
	}
	if (child == 0)
		_exit(compare_all(strtoull(argv[1], NULL, 0), strtoul(argv[2], NULL, 0),
		    argc == 4 ? strtoul(argv[3], NULL, 0) : 0));
	if (waitpid(child, &status, 0) != child)
		return 3;
	if (WIFSIGNALED(status)) {
		printf("the child died of signal %d\n", WTERMSIG(status));
		return 4;
	}
	return WEXITSTATUS(status);
}
