/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_assist_io: spec libnvmm 6.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define BATCH		32		/* bytes in one call: L-IO-11 */
#define PREFIX_BYTES	5		/* L-IO-8 */

struct io {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	const struct soft_model *model;
	struct nvmm_x64_state *st;
	const struct nvmm_x86_exit_io *exit;
	uint64_t mask;			/* of the address size */
	size_t elements;		/* in this call */
	gvaddr_t gva;			/* of the string */
	uint8_t buf[BATCH];
};

/* ---- which segment ------------------------------------------------------------- */

/* True: a legacy prefix, and *seg says if it names a segment. */
static bool
is_prefix(uint8_t byte, unsigned *seg)
{
	switch (byte) {
	case 0x26: *seg = NVMM_X64_SEG_ES; return true;
	case 0x2E: *seg = NVMM_X64_SEG_CS; return true;
	case 0x36: *seg = NVMM_X64_SEG_SS; return true;
	case 0x3E: *seg = NVMM_X64_SEG_DS; return true;
	case 0x64: *seg = NVMM_X64_SEG_FS; return true;
	case 0x65: *seg = NVMM_X64_SEG_GS; return true;
	case 0x66:
	case 0x67:
	case 0xF0:
	case 0xF2:
	case 0xF3:
		return true;
	default:
		return false;
	}
}

/* What OUTS reads from, when the kernel could not say: read the prefixes. */
static int
fetch_segment(struct io *io, unsigned *seg)
{
	bool five = SOFT_QUIRK(io->model, SOFT_Q_IO_PREFIX_5);
	uint64_t rip = io->st->gprs[NVMM_X64_GPR_RIP];
	uint8_t code[15];
	size_t i, step = five ? PREFIX_BYTES : 1;
	size_t end = five ? PREFIX_BYTES : sizeof(code);
	gvaddr_t gva;

	*seg = NVMM_X64_SEG_DS;
	if (SOFT_FAULT(io->model, SOFT_F_OUTS_UNKNOWN_DS))
		return 0;
	for (i = 0; i < end; i++) {
		if (i % step == 0 &&
		    (soft_linear(io->model, io->st, NVMM_X64_SEG_CS, rip + i,
		    step, &gva) != 0 || soft_guest_read(io->mach, io->vcpu,
		    gva, &code[i], step) != 0))
			return EFAULT;
		if (!is_prefix(code[i], seg))
			break;
	}
	return 0;
}

static int
string_segment(struct io *io, unsigned *seg)
{
	if (io->exit->seg >= 0) {
		*seg = (unsigned)io->exit->seg;
		return *seg <= NVMM_X64_SEG_GS ? 0 : EFAULT;
	}
	if (io->exit->in) {
		*seg = NVMM_X64_SEG_ES;
		return 0;
	}
	return fetch_segment(io, seg);
}

/* ---- the string in memory --------------------------------------------------------- */

static unsigned
index_register(const struct io *io)
{
	return io->exit->in && !SOFT_FAULT(io->model, SOFT_F_INS_RSI) ?
	    NVMM_X64_GPR_RDI : NVMM_X64_GPR_RSI;
}

static int
string_address(struct io *io)
{
	uint64_t offset = io->st->gprs[index_register(io)] & io->mask;
	size_t size = io->exit->operand_size;
	unsigned seg;
	int error;

	if ((error = string_segment(io, &seg)) != 0)
		return error;
	if (!soft_segment_type(io->model, io->st, seg, io->exit->in))
		return EFAULT;
	/* A batch must not run past the segment or the end of the address
	 * size; the reference looks at its first element only (L-IO-15). */
	if (io->elements > 1 &&
	    !SOFT_QUIRK(io->model, SOFT_Q_IO_BATCH_LIMIT) &&
	    (offset > io->mask - (io->elements * size - 1) ||
	    soft_linear(io->model, io->st, seg, offset, io->elements * size,
	    &io->gva) != 0))
		io->elements = 1;
	error = soft_linear(io->model, io->st, seg, offset, size, &io->gva);
	if (error == 0 && !io->exit->in &&
	    SOFT_FAULT(io->model, SOFT_F_OUTS_BASE))
		io->gva = offset;
	return error;
}

/* L-IO-13: what hardware leaves in a register that an address size limits. */
static void
write_index(struct io *io, unsigned gpr, uint64_t value)
{
	uint64_t *reg = &io->st->gprs[gpr];

	/* Bits 63:32 are of 64-bit mode only. */
	if (io->exit->address_size == 2 ||
	    !io->st->segs[NVMM_X64_SEG_CS].attrib.l)
		*reg = (*reg & ~io->mask) | (value & io->mask);
	else
		*reg = value & io->mask;
}

static void
string_advance(struct io *io)
{
	unsigned gpr = index_register(io);
	uint64_t step = io->elements * io->exit->operand_size;
	uint64_t value = io->st->gprs[gpr];

	if (!io->exit->rep && SOFT_FAULT(io->model, SOFT_F_INDEX_ONLY_REP))
		step = 0;
	value += (io->st->gprs[NVMM_X64_GPR_RFLAGS] & SOFT_RFLAGS_DF) &&
	    !SOFT_FAULT(io->model, SOFT_F_IO_DF) ? -step : step;
	if (SOFT_QUIRK(io->model, SOFT_Q_IO_INDEX_64))
		io->st->gprs[gpr] = value;
	else
		write_index(io, gpr, value);
}

/* ---- the port ------------------------------------------------------------------------ */

/* One callback an element, never more (L-IO-3). */
static void
port_access(struct io *io)
{
	struct nvmm_io cb = {
		.mach = io->mach,
		.vcpu = io->vcpu,
		.port = io->exit->port,
		.in = io->exit->in,
		.size = io->exit->operand_size,
		.data = io->buf,
	};
	size_t i;

	if (SOFT_FAULT(io->model, SOFT_F_CB_PORT))
		cb.port &= 0xFF;
	if (SOFT_FAULT(io->model, SOFT_F_CB_DIRECTION))
		cb.in = !cb.in;
	if (SOFT_FAULT(io->model, SOFT_F_CB_BATCH)) {
		cb.size *= io->elements;
		(*io->vcpu->cbs.io)(&cb);
		return;
	}
	for (i = 0; i < io->elements; i++) {
		(*io->vcpu->cbs.io)(&cb);
		cb.data += cb.size;
	}
}

static int
string_io(struct io *io)
{
	size_t size = io->elements * io->exit->operand_size;
	int error;

	if ((error = string_address(io)) != 0)
		return error;
	size = io->elements * io->exit->operand_size;
	if (!io->exit->in)
		error = soft_guest_read(io->mach, io->vcpu, io->gva, io->buf,
		    size);
	else if (!SOFT_QUIRK(io->model, SOFT_Q_INS_DEVICE_FIRST))
		error = soft_guest_probe(io->mach, io->vcpu, io->gva, size,
		    true);
	if (error != 0)
		return error;
	port_access(io);
	if (io->exit->in) {
		error = soft_guest_write(io->mach, io->vcpu, io->gva, io->buf,
		    size);
		if (error != 0)
			return error;	/* L-IO-16: the device has been read */
	}
	string_advance(io);
	return 0;
}

static int
plain_io(struct io *io)
{
	uint64_t *rax = &io->st->gprs[NVMM_X64_GPR_RAX];
	uint64_t mask = soft_size_mask(io->exit->operand_size), value;

	memcpy(io->buf, rax, sizeof(*rax));	/* little-endian, as the guest */
	port_access(io);
	if (io->exit->in) {			/* L-IO-4 */
		memcpy(&value, io->buf, sizeof(value));
		if ((io->exit->operand_size == 4 &&
		    !SOFT_FAULT(io->model, SOFT_F_IN_EAX_UPPER)) ||
		    SOFT_FAULT(io->model, SOFT_F_IN_WHOLE_RAX))
			*rax = 0;
		*rax = (*rax & ~mask) | (value & mask);
	}
	return 0;
}

/* ---- the assist ------------------------------------------------------------------------- */

/* How many elements this call does (L-IO-11, L-IO-12, L-IO-19). */
static size_t
batch(const struct io *io, uint64_t count)
{
	size_t most = BATCH / io->exit->operand_size;

	if (!io->exit->rep || !io->exit->str ||
	    (io->st->gprs[NVMM_X64_GPR_RFLAGS] & SOFT_RFLAGS_DF) != 0)
		return 1;
	return count < most ? (size_t)count : most;
}

static int
assist_io(struct io *io)
{
	uint64_t *rcx = &io->st->gprs[NVMM_X64_GPR_RCX];
	uint64_t count = 0;
	int error;

	if (io->exit->rep) {
		count = SOFT_FAULT(io->model, SOFT_F_IO_COUNT_64) ? *rcx :
		    *rcx & io->mask;
		if (count == 0 &&
		    SOFT_FAULT(io->model, SOFT_F_IO_REP_ZERO))
			return 0;
		if (count == 0) {		/* L-IO-6 */
			io->st->gprs[NVMM_X64_GPR_RIP] = io->exit->npc;
			return 0;
		}
	}
	io->elements = batch(io, count);
	error = io->exit->str ? string_io(io) : plain_io(io);
	if (error != 0)
		return error;
	if (io->exit->rep) {
		count -= io->elements;
		if (SOFT_QUIRK(io->model, SOFT_Q_IO_INDEX_64))
			*rcx = (*rcx & ~io->mask) | count;
		else
			write_index(io, NVMM_X64_GPR_RCX, count);
		if (SOFT_FAULT(io->model, SOFT_F_IO_COUNT_BY_ONE))
			*rcx += io->elements - 1;
	}
	if (count == 0 ||			/* L-IO-5, L-IO-14 */
	    SOFT_FAULT(io->model, SOFT_F_IO_RIP_EARLY))
		io->st->gprs[NVMM_X64_GPR_RIP] = io->exit->npc;
	return 0;
}

int
nvmm_assist_io(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct io io = { .mach = mach, .vcpu = vcpu };
	uint64_t rip;
	int error;

	if (vcpu->exit->reason != NVMM_VCPU_EXIT_IO)
		return soft_return(EINVAL);
	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_GPRS |
	    NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS |
	    NVMM_X64_STATE_MSRS) == -1)
		return -1;
	io.model = soft_areas_model(mach);
	io.st = vcpu->state;
	io.exit = &vcpu->exit->u.io;
	rip = io.st->gprs[NVMM_X64_GPR_RIP];
	io.mask = soft_size_mask(io.exit->address_size);
	/* No kernel gives another size; a caller's mistake must not divide. */
	if (io.exit->operand_size == 0 ||
	    io.exit->operand_size > sizeof(uint64_t))
		return soft_return(EINVAL);
	if ((error = assist_io(&io)) != 0)
		return soft_return(SOFT_FAULT(io.model, SOFT_F_IO_ERRNO) ?
		    EINVAL : error);	/* nothing committed */
	return soft_assist_commit(mach, vcpu,
	    io.st->gprs[NVMM_X64_GPR_RIP] != rip);
}
