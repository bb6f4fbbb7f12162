#include "parallel/plan/layout.h"

#include <stdlib.h>

/* What one resharding reads, and how much each holder has been asked for so far. */
typedef struct sources {
    const ag_layout_t *layout;
    uint64_t *sent; /* (layout->n_ranks) items */
} sources_t;

/* The wanting rank itself where it holds the item, else the holder that has sent least. */
static bool find_source(const sources_t *from, uint32_t to_rank, uint64_t at, uint32_t *index_p)
{
    const ag_layout_t *layout = from->layout;
    bool found = false;

    for (uint32_t i = 0; i < layout->n_ranks; i++) {
        if (at < layout->ranges[i].begin || at >= layout->ranges[i].end) {
            continue;
        }
        if (layout->ranks[i] == to_rank) {
            *index_p = i;
            return true;
        }
        if (!found || from->sent[i] < from->sent[*index_p]) {
            *index_p = i;
            found = true;
        }
    }
    return found;
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

static ag_status_t cover(const sources_t *from, uint32_t to_rank, ag_range_t wanted,
                         ag_array_t *copies)
{
    for (uint64_t at = wanted.begin; at < wanted.end;) {
        ag_reshard_copy_t copy = {.to_rank = to_rank, .range = {.begin = at}};
        uint32_t source = 0;
        ag_status_t status;

        if (!find_source(from, to_rank, at, &source)) {
            return ag_fail(AG_ERR_INVALID, "no rank holds item %llu that rank %u needs",
                           (unsigned long long)at, to_rank);
        }
        copy.from_rank = from->layout->ranks[source];
        copy.range.end = from->layout->ranges[source].end;
        copy.range.end = copy.range.end < wanted.end ? copy.range.end : wanted.end;
        if (copy.from_rank != to_rank) {
            copy.range.end = next_own_begin(from->layout, to_rank, at, copy.range.end);
            from->sent[source] += copy.range.end - at;
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
    size_t n_before = copies->n_items;
    sources_t sources = {.layout = from};
    ag_status_t status = AG_OK;

    if (from->extent != to->extent) {
        return ag_fail(AG_ERR_INVALID, "a tensor of %llu items cannot become one of %llu",
                       (unsigned long long)from->extent, (unsigned long long)to->extent);
    }
    sources.sent = calloc((size_t)from->n_ranks + 1, sizeof(*sources.sent));
    if (sources.sent == NULL) {
        return ag_fail_nomem("planning copies", from->n_ranks * sizeof(*sources.sent));
    }
    for (uint32_t i = 0; i < to->n_ranks && status == AG_OK; i++) {
        status = cover(&sources, to->ranks[i], to->ranges[i], copies);
    }
    free(sources.sent);
    if (status != AG_OK) {
        copies->n_items = n_before;
    }
    return status;
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
    uint64_t sum = 0, n_units, n_left, at = 0;
    claim_t *claims;

    for (uint32_t i = 0; i < n; i++) {
        sum += shares[i];
    }
    if (sum == 0 || unit == 0) {
        return ag_fail(AG_ERR_INVALID, "%s",
                       sum == 0 ? "no rank has a share above zero"
                                : "shares are given out in units of nothing");
    }
    claims = calloc(n, sizeof(*claims));
    if (claims == NULL) {
        return ag_fail_nomem("sharing out", n * sizeof(*claims));
    }
    n_units = total / unit + (total % unit != 0);
    n_left = n_units;
    for (uint32_t i = 0; i < n; i++) {
        unsigned __int128 wide = (unsigned __int128)n_units * shares[i];

        claims[i] = (claim_t){(uint64_t)(wide / sum), (uint64_t)(wide % sum), i};
        n_left -= claims[i].units;
    }
    qsort(claims, n, sizeof(*claims), by_remainder);
    for (uint64_t i = 0; i < n_left; i++) {
        claims[i].units++;
    }
    qsort(claims, n, sizeof(*claims), by_index);
    for (uint32_t i = 0; i < n; i++) {
        /* only what the ragged last unit ends can ask for more than is left */
        bool fits = claims[i].units <= (total - at) / unit;

        ranges[i].begin = at;
        at = fits ? at + claims[i].units * unit : total;
        ranges[i].end = at;
    }
    free(claims);
    return AG_OK;
}
