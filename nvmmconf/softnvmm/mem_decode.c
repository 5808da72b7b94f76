/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The memory assist's decoder: spec libnvmm 7.2 and 7.3.
 *
 * It takes the forms that libnvmm takes and refuses all others; which those
 * are is contract.  Of the memory operand only the length is wanted: the
 * exit says where it is (L-MEM-6).
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

enum shape {
	STORE,			/* ModRM: memory op= reg */
	LOAD,			/* ModRM: reg op= memory */
	IMMEDIATE,		/* ModRM: memory op immediate */
	IMMEDIATE_8,		/* the same, one byte whatever the operand */
	OFFSET_LOAD,		/* rAX = [absolute offset] */
	OFFSET_STORE,
	STRING
};

struct form {
	uint8_t opcode;
	uint8_t extensions;	/* groups: which /n, a bit each; else 0 */
	enum soft_op op;
	enum shape shape;
	bool byte;
};

#define EXT(n)	(1u << (n))

static const struct form one_byte[] = {
	{ 0x08, 0, SOFT_OP_OR, STORE, true },
	{ 0x09, 0, SOFT_OP_OR, STORE, false },
	{ 0x0A, 0, SOFT_OP_OR, LOAD, true },
	{ 0x0B, 0, SOFT_OP_OR, LOAD, false },
	{ 0x20, 0, SOFT_OP_AND, STORE, true },
	{ 0x21, 0, SOFT_OP_AND, STORE, false },
	{ 0x22, 0, SOFT_OP_AND, LOAD, true },
	{ 0x23, 0, SOFT_OP_AND, LOAD, false },
	{ 0x28, 0, SOFT_OP_SUB, STORE, true },
	{ 0x29, 0, SOFT_OP_SUB, STORE, false },
	{ 0x2A, 0, SOFT_OP_SUB, LOAD, true },
	{ 0x2B, 0, SOFT_OP_SUB, LOAD, false },
	{ 0x30, 0, SOFT_OP_XOR, STORE, true },
	{ 0x31, 0, SOFT_OP_XOR, STORE, false },
	{ 0x32, 0, SOFT_OP_XOR, LOAD, true },
	{ 0x33, 0, SOFT_OP_XOR, LOAD, false },
	{ 0x80, EXT(1), SOFT_OP_OR, IMMEDIATE, true },
	{ 0x80, EXT(4), SOFT_OP_AND, IMMEDIATE, true },
	{ 0x80, EXT(6), SOFT_OP_XOR, IMMEDIATE, true },
	{ 0x80, EXT(7), SOFT_OP_CMP, IMMEDIATE, true },
	{ 0x81, EXT(1), SOFT_OP_OR, IMMEDIATE, false },
	{ 0x81, EXT(4), SOFT_OP_AND, IMMEDIATE, false },
	{ 0x81, EXT(6), SOFT_OP_XOR, IMMEDIATE, false },
	{ 0x81, EXT(7), SOFT_OP_CMP, IMMEDIATE, false },
	{ 0x83, EXT(1), SOFT_OP_OR, IMMEDIATE_8, false },
	{ 0x83, EXT(4), SOFT_OP_AND, IMMEDIATE_8, false },
	{ 0x83, EXT(6), SOFT_OP_XOR, IMMEDIATE_8, false },
	{ 0x83, EXT(7), SOFT_OP_CMP, IMMEDIATE_8, false },
	{ 0x86, 0, SOFT_OP_XCHG, STORE, true },
	{ 0x87, 0, SOFT_OP_XCHG, STORE, false },
	{ 0x88, 0, SOFT_OP_MOV, STORE, true },
	{ 0x89, 0, SOFT_OP_MOV, STORE, false },
	{ 0x8A, 0, SOFT_OP_MOV, LOAD, true },
	{ 0x8B, 0, SOFT_OP_MOV, LOAD, false },
	{ 0xA0, 0, SOFT_OP_MOV, OFFSET_LOAD, true },
	{ 0xA1, 0, SOFT_OP_MOV, OFFSET_LOAD, false },
	{ 0xA2, 0, SOFT_OP_MOV, OFFSET_STORE, true },
	{ 0xA3, 0, SOFT_OP_MOV, OFFSET_STORE, false },
	{ 0xA4, 0, SOFT_OP_MOVS, STRING, true },
	{ 0xA5, 0, SOFT_OP_MOVS, STRING, false },
	{ 0xA6, 0, SOFT_OP_CMPS, STRING, true },
	{ 0xA7, 0, SOFT_OP_CMPS, STRING, false },
	{ 0xAA, 0, SOFT_OP_STOS, STRING, true },
	{ 0xAB, 0, SOFT_OP_STOS, STRING, false },
	{ 0xAC, 0, SOFT_OP_LODS, STRING, true },
	{ 0xAD, 0, SOFT_OP_LODS, STRING, false },
	{ 0xC6, EXT(0), SOFT_OP_MOV, IMMEDIATE, true },
	{ 0xC7, EXT(0), SOFT_OP_MOV, IMMEDIATE, false },
	{ 0xF6, EXT(0) | EXT(1), SOFT_OP_TEST, IMMEDIATE, true },
	{ 0xF7, EXT(0) | EXT(1), SOFT_OP_TEST, IMMEDIATE, false },
};

static const struct form two_byte[] = {		/* after 0F */
	{ 0xB6, 0, SOFT_OP_MOVZX, LOAD, true },
	{ 0xB7, 0, SOFT_OP_MOVZX, LOAD, false },
};

#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))

struct decoder {
	const uint8_t *bytes;
	size_t size, at;
	bool short_of_bytes;		/* L-DEC-12 */
	unsigned mode;			/* 16, 32, 64 */
	bool operand_prefix, address_prefix;
	bool seg_prefix;
	bool rip_relative;
	uint8_t rex;
	const uint64_t *gprs;
	const struct soft_model *model;
	struct soft_insn *insn;
};

#define REX_W	0x8u
#define REX_R	0x4u
#define REX_X	0x2u
#define REX_B	0x1u

static uint8_t
next(struct decoder *d)
{
	if (d->at < d->size)
		return d->bytes[d->at++];
	d->short_of_bytes = true;
	return 0;
}

static uint64_t
next_value(struct decoder *d, unsigned bytes)
{
	uint64_t value = 0;
	unsigned i;

	for (i = 0; i < bytes; i++)
		value |= (uint64_t)next(d) << (8 * i);
	return value;
}

static void
override(struct decoder *d, unsigned seg)
{
	d->insn->seg = seg;
	d->seg_prefix = true;
}

/* L-DEC-2: any number in any order, then at most one REX. */
static void
prefixes(struct decoder *d)
{
	for (; d->at < d->size; d->at++) {
		switch (d->bytes[d->at]) {
		case 0x66: d->operand_prefix = true; continue;
		case 0x67: d->address_prefix = true; continue;
		case 0xF0: continue;
		case 0xF2: d->insn->repne = true; continue;
		case 0xF3: d->insn->repe = true; continue;
		case 0x26: override(d, NVMM_X64_SEG_ES); continue;
		case 0x2E: override(d, NVMM_X64_SEG_CS); continue;
		case 0x36: override(d, NVMM_X64_SEG_SS); continue;
		case 0x3E: override(d, NVMM_X64_SEG_DS); continue;
		case 0x64: override(d, NVMM_X64_SEG_FS); continue;
		case 0x65: override(d, NVMM_X64_SEG_GS); continue;
		}
		break;
	}
	if (d->mode == 64 && d->at < d->size &&
	    (d->bytes[d->at] & 0xF0) == 0x40) {
		d->insn->rex = true;
		d->rex = d->bytes[d->at++];
	}
}

/* L-DEC-4, L-DEC-5. */
static void
sizes(struct decoder *d, const struct form *form)
{
	struct soft_insn *insn = d->insn;
	bool small = (d->operand_prefix &&
	    !SOFT_FAULT(d->model, SOFT_F_MEM_PREFIX_66)) != (d->mode == 16);

	if (d->mode == 64)
		insn->address_size = d->address_prefix ? 4 : 8;
	else
		insn->address_size =
		    d->address_prefix != (d->mode == 16) ? 2 : 4;
	insn->operand_size = (d->rex & REX_W) &&
	    !SOFT_FAULT(d->model, SOFT_F_MEM_REX_W) ? 8 : small ? 2 : 4;
	if (form->byte && form->op != SOFT_OP_MOVZX)
		insn->operand_size = 1;
	insn->memory_size = insn->operand_size;
	if (form->op == SOFT_OP_MOVZX)
		insn->memory_size = form->byte ? 1 : 2;
}

/* An operand's place.  Based on the stack's registers it is on the stack. */
static void
place(struct decoder *d, uint64_t address, bool stack)
{
	struct soft_insn *insn = d->insn;

	insn->has_address = true;
	insn->address = address & soft_size_mask(insn->address_size);
	insn->address_seg = stack && !d->seg_prefix ? NVMM_X64_SEG_SS :
	    insn->seg;
}

static uint64_t
displacement(struct decoder *d, unsigned bytes)
{
	uint64_t value, sign;

	if (bytes == 0)
		return 0;
	value = next_value(d, bytes);
	sign = UINT64_C(1) << (8 * bytes - 1);
	return (value ^ sign) - sign;
}

/* SDM 2A table 2-1. */
static void
address_16(struct decoder *d, unsigned mod, unsigned rm)
{
	static const int8_t base[8] = {
		NVMM_X64_GPR_RBX, NVMM_X64_GPR_RBX, NVMM_X64_GPR_RBP,
		NVMM_X64_GPR_RBP, NVMM_X64_GPR_RSI, NVMM_X64_GPR_RDI,
		NVMM_X64_GPR_RBP, NVMM_X64_GPR_RBX
	};
	bool bare = mod == 0 && rm == 6;
	uint64_t at = bare ? 0 : d->gprs[base[rm]];

	if (rm < 4)
		at += d->gprs[rm & 1 ? NVMM_X64_GPR_RDI : NVMM_X64_GPR_RSI];
	at += displacement(d, bare ? 2 : mod);
	place(d, at, !bare && base[rm] == NVMM_X64_GPR_RBP);
}

/* SDM 2A tables 2-2 and 2-3. */
static void
address_32(struct decoder *d, unsigned mod, unsigned rm)
{
	unsigned base = rm, index = 4;
	uint64_t at = 0;
	uint8_t sib = 0;
	bool bare;

	if (rm == 4) {
		sib = next(d);
		base = sib & 7;
		index = ((sib >> 3) & 7) | ((d->rex & REX_X) ? 8 : 0);
	}
	bare = mod == 0 && base == 5;
	base |= (d->rex & REX_B) ? 8 : 0;
	if (!bare)
		at += d->gprs[base];
	if (index != 4)
		at += d->gprs[index] << (sib >> 6);
	at += displacement(d, mod == 1 ? 1 : mod == 2 || bare ? 4 : 0);
	d->rip_relative = bare && rm == 5 && d->mode == 64;
	place(d, at, !bare && (base == NVMM_X64_GPR_RSP ||
	    base == NVMM_X64_GPR_RBP));
}

/* L-DEC-6. */
static void
address(struct decoder *d, uint8_t modrm)
{
	if (d->insn->address_size == 2 &&
	    !SOFT_FAULT(d->model, SOFT_F_MEM_MODRM_16))
		address_16(d, modrm >> 6, modrm & 7);
	else
		address_32(d, modrm >> 6, modrm & 7);
}

static void
immediate(struct decoder *d, const struct soft_model *model,
    const struct form *form)
{
	struct soft_insn *insn = d->insn;
	unsigned bytes = insn->operand_size;
	uint64_t sign;

	if (form->shape == IMMEDIATE_8)
		bytes = 1;
	else if (bytes == 8)
		bytes = 4;
	insn->imm = next_value(d, bytes);
	if (!SOFT_QUIRK(model, SOFT_Q_MEM_IMM_UNSIGNED)) {
		sign = UINT64_C(1) << (8 * bytes - 1);
		insn->imm = ((insn->imm ^ sign) - sign) &
		    soft_size_mask(insn->operand_size);
	}
}

static const struct form *
lookup(struct decoder *d)
{
	const struct form *table = one_byte;
	size_t n = COUNT(one_byte), i;
	uint8_t opcode = next(d);
	unsigned ext;

	if (opcode == 0x0F) {
		table = two_byte;
		n = COUNT(two_byte);
		opcode = next(d);
	}
	/* A group's extension is in the byte that follows. */
	ext = d->at < d->size ? (d->bytes[d->at] >> 3) & 7 : 0;
	for (i = 0; i < n; i++) {
		if (table[i].opcode == opcode && (table[i].extensions == 0 ||
		    (table[i].extensions & EXT(ext)) != 0))
			return &table[i];
	}
	return NULL;
}

static void
operands(struct decoder *d, const struct soft_model *model,
    const struct form *form)
{
	struct soft_insn *insn = d->insn;
	uint8_t modrm;

	switch (form->shape) {
	case OFFSET_LOAD:
	case OFFSET_STORE:			/* L-DEC-14: rAX whatever REX says */
		insn->source = form->shape == OFFSET_LOAD ? SOFT_FROM_MEM :
		    SOFT_FROM_REG;
		place(d, next_value(d, insn->address_size), false);
		return;
	case STRING:
		if (form->op == SOFT_OP_LODS)
			place(d, d->gprs[NVMM_X64_GPR_RSI], false);
		if (form->op == SOFT_OP_STOS) {
			place(d, d->gprs[NVMM_X64_GPR_RDI], false);
			insn->address_seg = NVMM_X64_SEG_ES;
		}
		insn->source = form->op == SOFT_OP_STOS ? SOFT_FROM_REG :
		    SOFT_FROM_MEM;
		return;
	default:
		break;
	}
	modrm = next(d);
	insn->reg = ((modrm >> 3) & 7) | ((d->rex & REX_R) ? 8 : 0);
	if ((modrm >> 6) != 3)
		address(d, modrm);
	switch (form->shape) {
	case LOAD:
		insn->source = SOFT_FROM_MEM;
		/* L-DEC-11: a register instead of memory is stored to it. */
		if ((modrm >> 6) == 3) {
			insn->source = SOFT_FROM_REG;
			insn->reg = (modrm & 7) | ((d->rex & REX_B) ? 8 : 0);
			insn->operand_size = insn->memory_size;
			if (insn->op == SOFT_OP_MOVZX)
				insn->op = SOFT_OP_MOV;
		}
		break;
	case STORE:
		insn->source = SOFT_FROM_REG;
		break;
	default:
		insn->source = SOFT_FROM_IMM;
		immediate(d, model, form);
		break;
	}
}

int
soft_decode(const struct soft_model *model, const struct nvmm_x64_state *st,
    const uint8_t *bytes, size_t size, struct soft_insn *insn)
{
	const struct nvmm_x64_state_seg *cs = &st->segs[NVMM_X64_SEG_CS];
	struct decoder d = {
		.bytes = bytes, .size = size, .insn = insn, .model = model,
		.mode = cs->attrib.l ? 64 : cs->attrib.def ? 32 : 16,
		.gprs = st->gprs,
	};
	const struct form *form;

	memset(insn, 0, sizeof(*insn));
	insn->seg = NVMM_X64_SEG_DS;
	prefixes(&d);
	form = lookup(&d);
	if (form == NULL || (form->op == SOFT_OP_AND &&
	    SOFT_FAULT(model, SOFT_F_MEM_NO_AND)) || (form->op == SOFT_OP_XCHG &&
	    SOFT_FAULT(model, SOFT_F_MEM_NO_XCHG)) ||
	    (form->op == SOFT_OP_CMPS && !model->profile->has_cmps))
		return ENODEV;
	insn->op = form->op;
	sizes(&d, form);
	operands(&d, model, form);
	if (d.short_of_bytes)
		return ENODEV;
	insn->length = (uint8_t)d.at;
	if (d.rip_relative)
		insn->address = (insn->address + insn->length +
		    st->gprs[NVMM_X64_GPR_RIP]) &
		    soft_size_mask(insn->address_size);
	return 0;
}
