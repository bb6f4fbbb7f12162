/* Happens-before among the operations of one rank: vector clocks over its FIFO streams. */
#pragma once

#include "parallel/program/program.h"

typedef struct ag_order {
    uint32_t n_ops;
    uint32_t *positions; /* (n_ops) place in the stream */
    const ag_op_t *ops;
    uint32_t *before; /* (n_ops, AG_N_STREAMS) how many of each stream are complete before it */
} ag_order_t;

/** @return AG_OK; AG_ERR_INVALID: the dependencies have a cycle; AG_ERR_NOMEM. */
ag_status_t ag_order_init(const ag_rank_program_t *rank, ag_order_t *order_p);
void ag_order_fini(ag_order_t *order);

/** Is operation a always complete before b starts? */
bool ag_order_is_before(const ag_order_t *order, uint32_t a, uint32_t b);

/* The first and the last operation of each stream that use a buffer; -1 where none does. */
typedef struct ag_buffer_span {
    int64_t first[AG_N_STREAMS], last[AG_N_STREAMS];
} ag_buffer_span_t;

/** @param spans_p  out: (buffers of the rank), free() it. */
ag_status_t ag_order_spans(const ag_rank_program_t *rank, ag_buffer_span_t **spans_p);

/**
 * May two buffers lie on the same bytes? Every use of one is complete before any use of the other
 * starts. @param kept  a buffer that is read when all is done, so that nothing may come after it.
 */
bool ag_order_may_share(const ag_order_t *order, const ag_buffer_span_t *spans, uint32_t a,
                        uint32_t b, int64_t kept);

/** The buffer of a rank that is kept: rank 0's output; -1 on others. */
int64_t ag_order_kept(const ag_program_t *program, uint32_t rank);
