/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The forms that can be tried: every leaf of the decode tables that has a
 * routine, and what a test must know of the routine.
 */
#include <stdio.h>

#include "native.h"

struct form forms[MAX_FORMS], system_forms[MAX_SYSTEM];
unsigned nforms, nsystem;

#define SYSTEM(h, why)	{ op_##h, NOT_USER, U0, why }

static const struct trait traits[] = {
	{ op_and, 0, ULOGIC, 0 }, { op_or, 0, ULOGIC, 0 }, { op_xor, 0, ULOGIC, 0 },
	{ op_test, 0, ULOGIC, 0 },
	{ op_mul, 0, UMUL, 0 }, { op_imul, 0, UMUL, 0 },
	{ op_imul2, 0, UMUL, 0 }, { op_imul3, 0, UMUL, 0 },
	{ op_div, DIVIDE, UALL, 0 }, { op_idiv, DIVIDE, UALL, 0 },
	{ op_daa, 0, UDAA, 0 }, { op_das, 0, UDAA, 0 },
	{ op_aaa, 0, UAAA, 0 }, { op_aas, 0, UAAA, 0 },
	{ op_aam, 0, UAAM, 0 }, { op_aad, 0, UAAM, 0 },
	{ op_rol, 0, UROT, 0 }, { op_ror, 0, UROT, 0 },
	{ op_rcl, 0, UROT, 0 }, { op_rcr, 0, UROT, 0 },
	{ op_shl, 0, USHIFT, 0 }, { op_shr, 0, USHIFT, 0 }, { op_sar, 0, USAR, 0 },
	{ op_shld, DOUBLE_SHIFT, USHD, 0 }, { op_shrd, DOUBLE_SHIFT, USHD, 0 },
	{ op_bt, BIT_OFFSET, UBT, 0 }, { op_bts, BIT_OFFSET, UBT, 0 },
	{ op_btr, BIT_OFFSET, UBT, 0 }, { op_btc, BIT_OFFSET, UBT, 0 },
	{ op_bsf, 0, UBS, 0 }, { op_bsr, 0, UBS, 0 },
	{ op_lzcnt, 0, UZCNT, 0 }, { op_tzcnt, 0, UZCNT, 0 },
	{ op_andn, 0, UBLS, 0 }, { op_blsr, 0, UBLS, 0 }, { op_blsmsk, 0, UBLS, 0 },
	{ op_blsi, 0, UBLS, 0 }, { op_bzhi, 0, UBLS, 0 }, { op_bextr, 0, UBEXTR, 0 },
	{ op_cmpxchg, COMPARE, U0, 0 }, { op_cmpxchg8b, COMPARE, U0, 0 },
	{ op_movs, STRING, U0, 0 }, { op_cmps, STRING, U0, 0 }, { op_stos, STRING, U0, 0 },
	{ op_lods, STRING, U0, 0 }, { op_scas, STRING, U0, 0 }, { op_xlat, STRING, U0, 0 },
	{ op_ins, STRING, U0, 0 }, { op_outs, STRING, U0, 0 },
	{ op_maskmov, RDI_DATA, U0, 0 },
	{ op_jcc, BRANCH, U0, 0 }, { op_jmp, BRANCH, U0, 0 }, { op_call, BRANCH, U0, 0 },
	{ op_loop, BRANCH, U0, 0 }, { op_loope, BRANCH, U0, 0 }, { op_loopne, BRANCH, U0, 0 },
	{ op_jrcxz, BRANCH, U0, 0 },
	{ op_jmp_indirect, INDIRECT, U0, 0 }, { op_call_indirect, INDIRECT, U0, 0 },
	{ op_ret, RETURN, U0, 0 }, { op_ret_imm, RETURN, U0, 0 },
	{ op_jmp_far, FAR_TARGET, U0, 0 }, { op_call_far, FAR_TARGET, U0, 0 },
	{ op_jmp_far_m, FAR_TARGET, U0, 0 }, { op_call_far_m, FAR_TARGET, U0, 0 },
	{ op_retf, FAR_RETURN, U0, 0 }, { op_retf_imm, FAR_RETURN, U0, 0 },
	{ op_iret, FAR_RETURN, U0, 0 },
	{ op_popf, POPS_FLAGS, U0, 0 }, { op_enter, FRAME, U0, 0 }, { op_leave, FRAME, U0, 0 },
	{ op_lea, NO_ACCESS, U0, 0 }, { op_nop, NO_ACCESS, U0, 0 },
	{ op_invlpg, NO_ACCESS, U0, 0 }, { op_bound, BOUNDS, U0, 0 },
	{ op_mov_to_sreg, SELECTOR, U0, 0 }, { op_pop_sreg, POPS_SELECTOR, U0, 0 },
	{ op_load_far_pointer, FAR_POINTER, U0, 0 },
	{ op_lar, SELECTOR, U0, 0 }, { op_lsl, SELECTOR, U0, 0 },
	{ op_verr, SELECTOR, U0, 0 }, { op_verw, SELECTOR, U0, 0 },
	{ op_arpl, SELECTOR, U0, 0 }, { op_int_n, SOFT_INT, U0, 0 },
	{ op_xsave, XFEATURES, U0, 0 }, { op_xsaveopt, XFEATURES, U0, 0 },
	{ op_xrstor, XFEATURES, U0, 0 }, { op_xgetbv, XCR, U0, 0 },
	SYSTEM(cpuid, "the answer is the hypervisor's"),
	SYSTEM(xsetbv, "the hypervisor's"), SYSTEM(rdtsc, "time"), SYSTEM(rdtscp, "not in CPUID"),
	SYSTEM(monitor, "the hypervisor's"), SYSTEM(mwait, "the hypervisor's"),
	SYSTEM(syscall, "enters the system"), SYSTEM(sysenter, "enters the system"),
	SYSTEM(sysret, "system"), SYSTEM(sysexit, "system"),
	SYSTEM(vmmcall, "not in CPUID"), SYSTEM(vmcall, "not in CPUID"),
	SYSTEM(svm, "not in CPUID"), SYSTEM(vmx, "not in CPUID"),
	SYSTEM(sgdt, "an address of the system"), SYSTEM(sidt, "an address of the system"),
	SYSTEM(sldt, "a selector of the system"), SYSTEM(str, "a selector of the system"),
	SYSTEM(smsw, "a register of the system"),
};

static const struct trait plain;

static const struct {
	handler *execute;
	const char *name;
} names[] = {
#define X(name)	{ op_##name, #name },
	HANDLERS(X)
#undef X
};

static const char *
name_of(handler *h)
{
	unsigned i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].execute == h)
			return names[i].name;
	return "?";
}

static const struct trait *
trait_of(handler *h)
{
	unsigned i;

	for (i = 0; i < sizeof(traits) / sizeof(traits[0]); i++)
		if (traits[i].execute == h)
			return &traits[i];
	return &plain;
}

static void
leaf(struct form f)
{
	static const char *const maps[] = { "", "0F ", "0F 38 ", "0F 3A ", "VEX 0F38 ", "VEX 0F3A " };
	static const char *const prefixes[] = { "NP ", "66 ", "F3 ", "F2 " };
	int n;

	f.trait = trait_of(f.op->execute);
	n = snprintf(f.name, sizeof(f.name), "%s%s%02X", f.prefix < 0 ? "" : prefixes[f.prefix],
	    maps[f.map], f.opcode);
	if (f.reg >= 0)
		n += snprintf(f.name + n, sizeof(f.name) - (size_t)n, " /%d", f.reg);
	if (f.rm >= 0)
		n += snprintf(f.name + n, sizeof(f.name) - (size_t)n, ".%d", f.rm);
	if (f.mod >= 0)
		n += snprintf(f.name + n, sizeof(f.name) - (size_t)n, f.mod ? " r" : " m");
	snprintf(f.name + n, sizeof(f.name) - (size_t)n, " %s", name_of(f.op->execute));
	if (f.trait->flags & NOT_USER) {
		if (nsystem < MAX_SYSTEM)
			system_forms[nsystem++] = f;
		return;
	}
	if (nforms == MAX_FORMS) {
		fprintf(stderr, "too many forms\n");
		return;
	}
	forms[nforms++] = f;
}

static void
walk(const struct opcode *op, struct form f)
{
	static const int8_t rows[] = { 1, 8, 8, 2, 4, 2, 1 };	/* L: 1 is always #UD */
	int8_t i;

	f.flags |= op->flags;
	if (op->operand[0] != NO)
		f.operand = op->operand;
	if (op->by == BY_NOTHING) {
		f.op = op;
		if (op->execute != NULL && op->execute != op_gap &&
		    op->execute != op_absent)
			leaf(f);
		return;
	}
	for (i = 0; i < rows[op->by]; i++) {
		struct form g = f;

		switch (op->by) {
		case BY_REG: g.reg = i; break;
		case BY_RM: g.rm = i; break;
		case BY_MOD: g.mod = i; break;
		case BY_PREFIX: g.prefix = i; break;
		case BY_64: g.m64 = i; break;
		default: break;
		}
		walk(&op->table[i], g);
	}
}

void
read_forms(void)
{
	static const struct opcode *const maps[MAPS] = {
		opcode_map_1, opcode_map_0f, opcode_map_0f38, opcode_map_0f3a,
		opcode_vex_0f38, opcode_vex_0f3a
	};
	unsigned map, opcode;

	for (map = 0; map < MAPS; map++)
		for (opcode = 0; opcode < 256; opcode++)
			walk(&maps[map][opcode], (struct form){
			    .operand = maps[map][opcode].operand, .map = (uint8_t)map,
			    .opcode = (uint8_t)opcode, .reg = -1, .rm = -1, .mod = -1,
			    .prefix = -1, .m64 = -1 });
}

/* In the other modes these bytes are something else. */
bool
form_in_mode(const struct form *f, enum mode mode)
{
	bool m64 = mode == MODE_64;

	if (f->m64 >= 0 && f->m64 != m64)
		return false;
	if (m64 && f->map == MAP_1 && ((f->opcode & 0xF0) == 0x40 ||
	    f->opcode == 0xC4 || f->opcode == 0xC5))
		return false;
	return true;
}

bool
has_modrm(const struct form *f)
{
	unsigned i;

	for (i = 0; i < 3 && f->operand[i] != NO; i++)
		if (f->operand[i] >= Eb && f->operand[i] <= Sw)
			return true;
	return (f->flags & (OP_MODRM | OP_MEMORY | OP_REGISTER)) || f->reg >= 0 ||
	    f->rm >= 0 || f->mod >= 0;
}
