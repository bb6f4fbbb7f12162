#include "parallel/program/order.h"

#include <stdlib.h>

static uint32_t *row(const ag_order_t *order, uint32_t op)
{
    return order->before + (size_t)op * AG_N_STREAMS;
}

/* What is complete before op: all that was before each operation it waits for, and that one. */
static void join(const ag_order_t *order, uint32_t op, uint32_t earlier)
{
    const uint32_t *theirs = row(order, earlier);
    uint32_t *mine = row(order, op);

    for (int s = 0; s < AG_N_STREAMS; s++) {
        mine[s] = theirs[s] > mine[s] ? theirs[s] : mine[s];
    }
    if (order->positions[earlier] + 1 > mine[order->ops[earlier].stream]) {
        mine[order->ops[earlier].stream] = order->positions[earlier] + 1;
    }
}

static void number_positions(ag_order_t *order, int64_t *previous)
{
    uint32_t next[AG_N_STREAMS] = {0};
    int64_t last[AG_N_STREAMS];

    for (int s = 0; s < AG_N_STREAMS; s++) {
        last[s] = -1;
    }
    for (uint32_t i = 0; i < order->n_ops; i++) {
        uint8_t stream = order->ops[i].stream;

        order->positions[i] = next[stream]++;
        previous[i] = last[stream];
        last[stream] = i;
    }
}

static bool is_ready(const ag_rank_program_t *rank, const bool *done, const int64_t *previous,
                     uint32_t op)
{
    const ag_op_t *o = &ag_rank_ops(rank)[op];

    if (previous[op] >= 0 && !done[previous[op]]) {
        return false;
    }
    for (uint32_t i = 0; i < o->n_deps; i++) {
        if (!done[AG_ITEMS(&rank->deps, uint32_t)[o->first_dep + i]]) {
            return false;
        }
    }
    return true;
}

/* Programs are nearly always in a legal order already, so one sweep does; more where they are not.
 */
static ag_status_t sweep(const ag_rank_program_t *rank, ag_order_t *order, const int64_t *previous,
                         bool *done)
{
    uint32_t n_done = 0;

    while (n_done < order->n_ops) {
        uint32_t n_before = n_done;

        for (uint32_t op = 0; op < order->n_ops; op++) {
            const ag_op_t *o = &ag_rank_ops(rank)[op];

            if (done[op] || !is_ready(rank, done, previous, op)) {
                continue;
            }
            if (previous[op] >= 0) {
                join(order, op, (uint32_t)previous[op]);
            }
            for (uint32_t i = 0; i < o->n_deps; i++) {
                join(order, op, AG_ITEMS(&rank->deps, uint32_t)[o->first_dep + i]);
            }
            done[op] = true;
            n_done++;
        }
        if (n_done == n_before) {
            return ag_fail(AG_ERR_INVALID, "operations of a rank wait for each other in a circle");
        }
    }
    return AG_OK;
}

ag_status_t ag_order_init(const ag_rank_program_t *rank, ag_order_t *order_p)
{
    uint32_t n_ops = (uint32_t)rank->ops.n_items;
    ag_order_t order = {.n_ops = n_ops, .ops = ag_rank_ops(rank)};
    int64_t *previous = calloc((size_t)n_ops + 1, sizeof(*previous));
    bool *done = calloc((size_t)n_ops + 1, sizeof(*done));
    ag_status_t status;

    order.positions = calloc((size_t)n_ops + 1, sizeof(*order.positions));
    order.before = calloc(((size_t)n_ops + 1) * AG_N_STREAMS, sizeof(*order.before));
    if (previous == NULL || done == NULL || order.positions == NULL || order.before == NULL) {
        status = ag_fail_nomem("ordering a program", n_ops * 32ull);
    } else {
        number_positions(&order, previous);
        status = sweep(rank, &order, previous, done);
    }
    free(previous);
    free(done);
    if (status != AG_OK) {
        ag_order_fini(&order);
        return status;
    }
    *order_p = order;
    return AG_OK;
}

void ag_order_fini(ag_order_t *order)
{
    free(order->positions);
    free(order->before);
    *order = (ag_order_t){0};
}

bool ag_order_is_before(const ag_order_t *order, uint32_t a, uint32_t b)
{
    return row(order, b)[order->ops[a].stream] > order->positions[a];
}

ag_status_t ag_order_spans(const ag_rank_program_t *rank, ag_buffer_span_t **spans_p)
{
    ag_buffer_span_t *spans = malloc((rank->buffers.n_items + 1) * sizeof(*spans));

    if (spans == NULL) {
        return ag_fail_nomem("ordering buffers", rank->buffers.n_items * sizeof(*spans));
    }
    for (size_t i = 0; i < rank->buffers.n_items; i++) {
        for (int s = 0; s < AG_N_STREAMS; s++) {
            spans[i].first[s] = spans[i].last[s] = -1;
        }
    }
    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        for (uint32_t i = 0; i < o->n_uses; i++) {
            ag_buffer_span_t *span = &spans[ag_op_uses(rank, o)[i].buffer];

            if (span->first[o->stream] < 0) {
                span->first[o->stream] = op;
            }
            span->last[o->stream] = op;
        }
    }
    *spans_p = spans;
    return AG_OK;
}

static bool is_before(const ag_order_t *order, const ag_buffer_span_t *a, const ag_buffer_span_t *b)
{
    for (int s = 0; s < AG_N_STREAMS; s++) {
        for (int t = 0; a->last[s] >= 0 && t < AG_N_STREAMS; t++) {
            if (b->first[t] >= 0 &&
                (a->last[s] == b->first[t] ||
                 !ag_order_is_before(order, (uint32_t)a->last[s], (uint32_t)b->first[t]))) {
                return false;
            }
        }
    }
    return true;
}

bool ag_order_may_share(const ag_order_t *order, const ag_buffer_span_t *spans, uint32_t a,
                        uint32_t b, int64_t kept)
{
    return (a != kept && is_before(order, &spans[a], &spans[b])) ||
           (b != kept && is_before(order, &spans[b], &spans[a]));
}

int64_t ag_order_kept(const ag_program_t *program, uint32_t rank)
{
    return rank == 0 ? (int64_t)program->output_buffer : -1;
}
