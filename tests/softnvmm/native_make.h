/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the makers of an instance share: native_chance.c has values and places,
 * native_state.c registers and memory, native_make.c the encoding.
 */
#ifndef NATIVE_MAKE_H
#define NATIVE_MAKE_H

#include "native.h"

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define DF 0x400u
#define OF 0x800u
#define STATUS (CF | PF | AF | ZF | SF | OF)
#define MIDDLE		(DATA + DATA_SIZE / 2)

bool once_in(unsigned n);
uint64_t value(void);
uint16_t selector(void);
uint16_t code_selector(const struct instance *t);
uint64_t code_offset(const struct instance *t);
uint64_t data_base(const struct instance *t);
uint64_t size_mask(unsigned bytes);
void set_address(struct instance *t, unsigned reg, uint64_t linear);
void store(struct instance *t, uint64_t at, uint64_t v, unsigned n);
uint64_t load(const struct instance *t, uint64_t at, unsigned n);
unsigned access_size(const struct instance *t, unsigned *align);
uint64_t pick_target(const struct instance *t);
void random_fx(uint8_t *fx);
void prepare_registers(struct instance *t);
void prepare_memory(struct instance *t);
void undefined(struct instance *t);

#endif /* NATIVE_MAKE_H */
