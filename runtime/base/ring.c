#include "runtime/base/ring.h"

#include <stdlib.h>

ag_status_t ag_ring_init(ag_ring_t *ring, size_t record_bytes, size_t capacity)
{
    size_t rounded = 1;

    while (rounded < capacity && rounded <= SIZE_MAX / 2) {
        rounded *= 2;
    }
    *ring = (ag_ring_t){.record_bytes = record_bytes, .capacity = rounded};
    if (record_bytes > SIZE_MAX / rounded) {
        return ag_fail_nomem("making a ring", SIZE_MAX);
    }
    ring->records = calloc(rounded, record_bytes);
    if (ring->records == NULL) {
        return ag_fail_nomem("making a ring", rounded * record_bytes);
    }
    return AG_OK;
}

void ag_ring_fini(ag_ring_t *ring)
{
    free(ring->records);
    *ring = (ag_ring_t){0};
}

void *ag_ring_push(ag_ring_t *ring)
{
    return ring->records + (ring->n_pushed++ & (ring->capacity - 1)) * ring->record_bytes;
}

size_t ag_ring_size(const ag_ring_t *ring)
{
    return ring->n_pushed < ring->capacity ? (size_t)ring->n_pushed : ring->capacity;
}

const void *ag_ring_at(const ag_ring_t *ring, size_t i)
{
    uint64_t oldest = ring->n_pushed - ag_ring_size(ring);

    return ring->records + ((oldest + i) & (ring->capacity - 1)) * ring->record_bytes;
}
