/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The interpreter against the processor that this runs on: what the parts of
 * the comparison share.  native_forms.c reads the forms out of the decode
 * tables, native_make.c makes an instance of one, native_host.c and
 * native_soft.c run it, cpu_native.c compares.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "fpu.h"

/* Linear addresses, on both sides. */
#define CODE		UINT64_C(0x10000000)
#define DATA		UINT64_C(0x20000000)
#define DATA_SIZE	0x2000u
#define CONTEXT		0x30000000

#define AT		0x800u		/* the instruction, in the code page */
#define TAKEN_FWD	(AT + 0x60)	/* targets of its branch */
#define TAKEN_BACK	(AT - 0x60)

/* Selectors: Linux's, and ours in the LDT. */
#define SEL_CODE32	0x23u
#define SEL_DATA	0x2Bu
#define SEL_CODE64	0x33u
#define SEL_LDT(n)	((n) << 3 | 7u)
#define LDT_CODE16	0u
#define LDT_DATA16	1u
#define LDT_SLOTS	8u

enum mode { MODE_64, MODE_32, MODE_16, MODES };

/* One descriptor of the LDT, in the terms of modify_ldt(2). */
struct ldt_entry {
	uint32_t base, limit;
	bool big, code, down_or_conforming, read_only, pages, absent;
};
extern const struct ldt_entry ldt_entries[LDT_SLOTS];
uint64_t ldt_descriptor(const struct ldt_entry *);

/* --- native_forms.c --- */

/* What is special about an instruction. */
#define STRING		0x0001u	/* works on [rSI] and [rDI] */
#define BIT_OFFSET	0x0002u
#define BRANCH		0x0004u	/* relative */
#define INDIRECT	0x0008u
#define DIVIDE		0x0010u
#define COMPARE		0x0020u
#define DOUBLE_SHIFT	0x0040u
#define RETURN		0x0080u
#define POPS_FLAGS	0x0100u
#define NO_ACCESS	0x0200u	/* LEA, NOP */
#define FRAME		0x0400u
#define SELECTOR	0x0800u	/* memory or register has one */
#define POPS_SELECTOR	0x1000u
#define FAR_POINTER	0x2000u
#define XFEATURES	0x4000u
#define SOFT_INT	0x8000u
#define NOT_USER	0x10000u	/* see the reason */
#define RDI_DATA	0x20000u
#define BOUNDS		0x40000u
#define XCR		0x80000u
#define FAR_TARGET	0x100000u	/* a far pointer in the instruction or memory */
#define FAR_RETURN	0x200000u	/* one on the stack */

enum undefined {
	U0, ULOGIC, UMUL, UALL, UBT, UBS, USHIFT, USAR, UROT, USHD, UZCNT, UBLS,
	UBEXTR, UDAA, UAAA, UAAM
};

struct trait {
	handler *execute;
	uint32_t flags;
	enum undefined undefined;
	const char *reason;
};

enum map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A, VEX_0F38, VEX_0F3A, MAPS };

/* A leaf of the decode tables.  -1: this does not matter. */
struct form {
	const struct opcode *op;
	const uint8_t *operand;
	uint32_t flags;		/* OP_* on the way */
	uint8_t map, opcode;
	int8_t reg, rm, mod, prefix, m64;
	const struct trait *trait;
	char name[40];
	unsigned long tried[MODES];
	bool reported;
};

#define MAX_FORMS	2048u
extern struct form forms[MAX_FORMS];
extern unsigned nforms;
#define MAX_SYSTEM	64u
extern struct form system_forms[MAX_SYSTEM];	/* not for user mode: trait->reason */
extern unsigned nsystem;
void read_forms(void);
bool form_in_mode(const struct form *, enum mode);
bool has_modrm(const struct form *);

/* --- native_make.c --- */

struct instance {
	struct form *form;
	enum mode mode;
	unsigned osize, asize;
	bool memory, vex, w;
	uint8_t code[32];
	unsigned len;
	unsigned reg, rm;	/* fields */
	uint64_t target;	/* linear */
	uint32_t used;		/* registers in the address */
	uint64_t gpr[16], flags;
	uint8_t data[DATA_SIZE];
	_Alignas(16) uint8_t fx[512];
	uint32_t undefined;
	bool misaligned;	/* though it has to be: that, or the limit, comes first */
	bool any_cr2;		/* of a long operand: vendors differ in what they touch first */
	unsigned mxcsr_mask;	/* where in data the host's own one is saved, or 0 */
	int ignore;		/* a register that the SDM leaves undefined, or -1 */
	bool skip;		/* all of the result is undefined */
};

void seed_instance(uint64_t seed, uint64_t index);
uint64_t rnd(void);
unsigned below(unsigned n);
void make(struct instance *, struct form *, enum mode);

/* --- running one --- */

struct result {
	int vector;		/* -1: completed */
	uint64_t error, cr2;
	uint64_t gpr[16], flags, rip;
	uint16_t sreg[6];
	uint64_t fs_base, gs_base;
	uint8_t data[DATA_SIZE];
	_Alignas(16) uint8_t fx[512];
};

/* Which modes the host lets us run; the reason for one that it does not. */
const char *native_setup(bool modes[MODES]);
void run_native(const struct instance *, struct result *);

void soft_setup(struct cpu *);
bool run_interpreter(struct cpu *, const struct instance *, struct result *);

#endif /* NATIVE_H */
