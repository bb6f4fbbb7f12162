/* A bounded ring of fixed-size records that overwrites the oldest. One owner, no locks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct ag_ring {
    unsigned char *records;
    size_t record_bytes;
    size_t capacity;   /* a power of two */
    uint64_t n_pushed; /* since init; the last min(n_pushed, capacity) are held */
} ag_ring_t;

/** @param capacity  rounded up to a power of two. @return AG_OK, AG_ERR_NOMEM. */
ag_status_t ag_ring_init(ag_ring_t *ring, size_t record_bytes, size_t capacity);
void ag_ring_fini(ag_ring_t *ring);

/** The slot for the next record; the caller fills it. */
void *ag_ring_push(ag_ring_t *ring);

size_t ag_ring_size(const ag_ring_t *ring);

/** The i-th oldest record that is still held; i < ag_ring_size(). */
const void *ag_ring_at(const ag_ring_t *ring, size_t i);
