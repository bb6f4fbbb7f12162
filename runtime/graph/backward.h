/*
 * The gradients of a segment: reverse-mode differentiation by a rule for each operator, from the
 * last node to the first. What a rule reads of the forward run is kept from it, or made again where
 * that is cheap (norms, gated products): the graph decides by its operators' table.
 */
#pragma once

#include "runtime/graph/graph.h"

/* Where the gradient of a buffer of the segment's is. */
typedef struct ag_backward_grad {
    int32_t buffer;
    int32_t grad_buffer; /* of the same shape; several buffers may have one where their gradients
                            are the same */
    bool is_given;       /* something stands there before, which is added to */
} ag_backward_grad_t;

typedef struct ag_backward_opts {
    const ag_graph_param_t *params;
    const ag_backward_grad_t *grads; /* (n_grads) of other buffers nobody wants one */
    uint32_t n_grads;
    /**
     * Where a value that rules read is kept; asked once for each.
     * @param counter, row_bytes  of the value.
     */
    ag_status_t (*keep)(void *arg, ag_counter_t counter, uint64_t row_bytes, int32_t *buffer_p,
                        uint64_t *begin_bytes_p);
    /** Where a weight's gradient is, which is added to; buffer AG_INTERNAL: nobody wants it. */
    void (*find_grad)(void *arg, int32_t param, int32_t *buffer_p, uint64_t *begin_bytes_p);
    void *arg;
    bool rounds; /* what is kept may be rounded: training that is not exact */
    /* Buffers that others write over before the gradients are taken: of what rules read of them
     * rounded copies are kept. */
    const uint32_t *passing;
    uint32_t n_passing;
    int32_t cut_buffer; /* of the gradient of what the first norm makes; AG_INTERNAL: none */
} ag_backward_opts_t;

/* How gradients of weights are taken apart. */
typedef struct ag_split_opts {
    /** Where a value is kept that they read of the others' graph. @param counter, row_bytes  of it.
     */
    ag_status_t (*hand_on)(void *arg, ag_counter_t counter, uint64_t row_bytes, int32_t *buffer_p,
                           uint64_t *begin_bytes_p);
    /** Is a buffer written again before the weights' gradients are taken? Then it is copied. */
    bool (*changes)(void *arg, int32_t buffer);
    void *arg;
} ag_split_opts_t;

/**
 * Take gradients of weights out of a graph that ag_graph_backward() has written, for a schedule
 * that has them later than those of inputs, for which other stages wait (Qi et al. 2023, "Zero
 * Bubble Pipeline Parallelism": B and W). What is made again for them alone goes with them.
 * @param graph    of inputs from here on. @param weights  appended to.
 * @return AG_OK, AG_ERR_NOMEM, hand_on()'s failure.
 */
ag_status_t ag_graph_split_weights(ag_graph_t *graph, const ag_split_opts_t *opts,
                                   ag_graph_t *weights);

/**
 * Write a segment's gradients. At the first norm's output they are cut: its gradient may be this
 * rank's part of a sum over ranks, which has to be complete before the norm's own is taken.
 * @param forward  not compiled yet; values that are kept get their buffers here.
 * @param first    appended to: all up to the cut. @param second  and from it on; empty where there
 *                 is no cut.
 * @return AG_OK, AG_ERR_NOMEM, keep()'s failure; AG_ERR_UNSUPPORTED: an operator without a rule.
 */
ag_status_t ag_graph_backward(ag_graph_t *forward, const ag_backward_opts_t *opts,
                              ag_graph_t *first, ag_graph_t *second);
