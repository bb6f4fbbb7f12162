#include "parallel/plan/layout.h"

#include <stdlib.h>

/* Where in a layout a part of the axis can be had, and up to where it lasts. */
typedef struct source {
    uint32_t rank;
    uint64_t end;
} source_t;

static bool holds(const ag_layout_t *layout, uint32_t i, uint64_t at)
{
    return layout->ranges[i].begin <= at && at < layout->ranges[i].end;
}

/* The wanting rank itself where it can, else the holder whose turn it is: all of them take turns. */
static bool find_source(const ag_layout_t *from, uint32_t to_rank, uint64_t at, uint32_t turn,
                        source_t *source)
{
    uint32_t n_holders = 0, chosen;

    for (uint32_t i = 0; i < from->n_ranks; i++) {
        if (holds(from, i, at)) {
            if (from->ranks[i] == to_rank) {
                *source = (source_t){to_rank, from->ranges[i].end};
                return true;
            }
            n_holders++;
        }
    }
    if (n_holders == 0) {
        return false;
    }
    chosen = turn % n_holders;
    for (uint32_t i = 0; i < from->n_ranks; i++) {
        if (holds(from, i, at) && chosen-- == 0) {
            *source = (source_t){from->ranks[i], from->ranges[i].end};
            return true;
        }
    }
    return false;
}

/* A copy from another rank must not run into what the wanting rank holds itself. */
static uint64_t next_own_begin(const ag_layout_t *from, uint32_t rank, uint64_t at, uint64_t end)
{
    for (uint32_t i = 0; i < from->n_ranks; i++) {
        const ag_range_t *own = &from->ranges[i];

        if (from->ranks[i] == rank && own->begin > at && own->begin < own->end &&
            own->begin < end) {
            end = own->begin;
        }
    }
    return end;
}

static ag_status_t cover(const ag_layout_t *from, uint32_t to_rank, ag_range_t wanted,
                         uint32_t turn, ag_array_t *copies)
{
    for (uint64_t at = wanted.begin; at < wanted.end;) {
        source_t source;
        ag_reshard_copy_t copy = {.to_rank = to_rank, .range = {.begin = at}};
        ag_status_t status;

        if (!find_source(from, to_rank, at, turn, &source)) {
            return ag_fail(AG_ERR_INVALID, "no rank holds item %llu that rank %u needs",
                           (unsigned long long)at, to_rank);
        }
        copy.from_rank = source.rank;
        copy.range.end = source.end < wanted.end ? source.end : wanted.end;
        if (source.rank != to_rank) {
            copy.range.end = next_own_begin(from, to_rank, at, copy.range.end);
        }
        status = ag_array_append(copies, &copy, 1);
        if (status != AG_OK) {
            return status;
        }
        at = copy.range.end;
    }
    return AG_OK;
}

ag_status_t ag_reshard_plan(const ag_layout_t *from, const ag_layout_t *to, ag_array_t *copies)
{
    if (from->extent != to->extent) {
        return ag_fail(AG_ERR_INVALID, "a tensor of %llu items cannot become one of %llu",
                       (unsigned long long)from->extent, (unsigned long long)to->extent);
    }
    for (uint32_t i = 0; i < to->n_ranks; i++) {
        ag_status_t status = cover(from, to->ranks[i], to->ranges[i], i, copies);

        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

typedef struct claim {
    uint64_t units;
    uint64_t remainder; /* of units * share / sum, times sum */
    uint32_t index;
} claim_t;

static int by_remainder(const void *a, const void *b)
{
    const claim_t *x = a, *y = b;

    if (x->remainder != y->remainder) {
        return x->remainder < y->remainder ? 1 : -1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

static int by_index(const void *a, const void *b)
{
    const claim_t *x = a, *y = b;

    return (x->index > y->index) - (x->index < y->index);
}

ag_status_t ag_shares_split(uint64_t total, uint64_t unit, const uint32_t *shares, uint32_t n,
                            ag_range_t *ranges)
{
    uint64_t n_units = total / unit + (total % unit != 0), sum = 0, given = 0, at = 0;
    claim_t *claims = calloc((size_t)n + 1, sizeof(*claims));

    if (claims == NULL) {
        return ag_fail_nomem("sharing out", n * sizeof(*claims));
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += shares[i];
    }
    if (sum == 0) {
        free(claims);
        return ag_fail(AG_ERR_INVALID, "no rank has a share above zero");
    }
    for (uint32_t i = 0; i < n; i++) {
        /* units are below 2^32 and shares too, so the product fits */
        claims[i] = (claim_t){.units = n_units * shares[i] / sum,
                              .remainder = n_units * shares[i] % sum,
                              .index = i};
        given += claims[i].units;
    }
    qsort(claims, n, sizeof(*claims), by_remainder);
    for (uint64_t i = 0; i < n_units - given; i++) {
        claims[i].units++;
    }
    qsort(claims, n, sizeof(*claims), by_index);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t end = at + claims[i].units * unit;

        ranges[i].begin = at < total ? at : total;
        ranges[i].end = end < total ? end : total;
        at = end;
    }
    free(claims);
    return AG_OK;
}
