/* What rows' copies and their gradients share. */
#pragma once

#include "runtime/kernel/kernel_priv.h"

/** Which place works on a row's i-th expert. */
uint32_t ag_place_of(const ag_places_t *places, const float *routes, uint64_t row, uint32_t i);

/** Where each place's rows begin. @param at  (n_places) */
void ag_places_find_begins(const ag_places_t *places, const float *routes, uint64_t n_rows,
                           uint32_t *at);

/** This thread's rows of the part: its share of all, so that it meets those that it has made or
 * will read. */
void ag_places_my_rows(const ag_kernel_context_t *context, const ag_places_t *places,
                       uint64_t n_rows, uint64_t *begin_p, uint64_t *end_p);

/** One of the groups' pointers. @param first  NULL: there are none, which gives NULL. */
void *ag_group_pointer(const unsigned char *first, size_t stride_bytes, uint32_t group);
