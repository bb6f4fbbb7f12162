/* Who holds what of each tensor: slices of all ranks, found by the tensor. */
#pragma once

#include "parallel/pass/build.h"

/* A slice as a run of what it is cut along: rows of a matrix, elements of a vector. */
typedef struct ag_holding {
    const ag_model_tensor_t *tensor;
    uint32_t rank, param;
    uint64_t begin, end;
    uint64_t across_begin, across; /* columns of a matrix; of a vector 0 and 1 */
    bool is_part;                  /* gradients of ranks that hold the same are parts of a sum */
    bool spans;                    /* these may be of any replica */
} ag_holding_t;

typedef struct ag_holdings {
    ag_holding_t *items; /* (n) by tensor, then by rank */
    size_t n;
} ag_holdings_t;

/** @return AG_OK, AG_ERR_NOMEM. */
ag_status_t ag_holdings_init(const ag_build_t *build, ag_holdings_t *holdings_p);
void ag_holdings_fini(ag_holdings_t *holdings);

ag_holding_t ag_holding_of(const ag_build_t *build, uint32_t rank, uint32_t param);

/** Those of a tensor, by rank. */
const ag_holding_t *ag_holdings_find(const ag_holdings_t *holdings, const ag_model_tensor_t *tensor,
                                     size_t *n_p);

/** Are they of the same columns, and of the same replica where each has all? */
bool ag_holdings_meet(const ag_build_t *build, const ag_holding_t *a, const ag_holding_t *b);

/** A rank's that meets `of` and has all of its run. @return NULL: it holds none. */
const ag_holding_t *ag_holdings_find_around(const ag_build_t *build, const ag_holdings_t *holdings,
                                            const ag_holding_t *of, uint32_t rank);
