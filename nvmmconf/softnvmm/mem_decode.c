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
	uint8_t rex;
	const struct soft_model *model;
	struct soft_insn *insn;
};

#define REX_W	0x8u
#define REX_R	0x4u
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
		case 0x26: d->insn->seg = NVMM_X64_SEG_ES; continue;
		case 0x2E: d->insn->seg = NVMM_X64_SEG_CS; continue;
		case 0x36: d->insn->seg = NVMM_X64_SEG_SS; continue;
		case 0x3E: d->insn->seg = NVMM_X64_SEG_DS; continue;
		case 0x64: d->insn->seg = NVMM_X64_SEG_FS; continue;
		case 0x65: d->insn->seg = NVMM_X64_SEG_GS; continue;
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

/* L-DEC-6: how much follows the ModRM byte. */
static void
skip_address(struct decoder *d, uint8_t modrm)
{
	unsigned mod = modrm >> 6, rm = modrm & 7;
	unsigned displacement = mod == 1 ? 1 : 0;

	if (d->insn->address_size == 2 &&
	    !SOFT_FAULT(d->model, SOFT_F_MEM_MODRM_16)) {
		if (mod == 2 || (mod == 0 && rm == 6))
			displacement = 2;
	} else {
		if (rm == 4)
			rm = next(d) & 7;	/* SIB: its base */
		if (mod == 2 || (mod == 0 && rm == 5))
			displacement = 4;
	}
	next_value(d, displacement);
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
		next_value(d, insn->address_size);
		return;
	case STRING:
		insn->source = form->op == SOFT_OP_STOS ? SOFT_FROM_REG :
		    SOFT_FROM_MEM;
		return;
	default:
		break;
	}
	modrm = next(d);
	insn->reg = ((modrm >> 3) & 7) | ((d->rex & REX_R) ? 8 : 0);
	if ((modrm >> 6) != 3)
		skip_address(d, modrm);
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
	return 0;
}
