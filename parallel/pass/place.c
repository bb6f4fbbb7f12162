/*
 * Offsets: the largest buffer first, each at the lowest place that no buffer occupies whose uses
 * are not all before or all after its own. Offline strip packing; the order is the only heuristic.
 */
#include <stdlib.h>

#include "parallel/pass/pass.h"
#include "parallel/program/order.h"

typedef struct item {
    uint64_t bytes;
    uint32_t buffer;
} item_t;

static int by_bytes_then_number(const void *a, const void *b)
{
    const item_t *x = a, *y = b;

    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return (x->buffer > y->buffer) - (x->buffer < y->buffer);
}

static uint64_t find_offset(const ag_rank_program_t *rank, const ag_order_t *order,
                            const ag_buffer_span_t *spans, int64_t kept, const item_t *items,
                            size_t n_placed)
{
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);
    const item_t *item = &items[n_placed];
    uint64_t offset = 0;
    bool moved = true;

    while (moved) {
        moved = false;
        for (size_t i = 0; i < n_placed; i++) {
            const ag_buffer_t *other = &buffers[items[i].buffer];
            uint64_t other_end = other->offset_bytes + items[i].bytes;

            if (other->offset_bytes < offset + item->bytes && offset < other_end &&
                !ag_order_may_share(order, spans, items[i].buffer, item->buffer, kept)) {
                offset = other_end;
                moved = true;
            }
        }
    }
    return offset;
}

static ag_status_t place_rank(ag_rank_program_t *rank, int64_t kept)
{
    ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);
    size_t n = rank->buffers.n_items;
    item_t *items = calloc(n + 1, sizeof(*items));
    ag_buffer_span_t *spans = NULL;
    ag_order_t order = {0};
    ag_status_t status = items == NULL ? ag_fail_nomem("placing buffers", n * sizeof(*items))
                                       : ag_order_init(rank, &order);

    if (status == AG_OK) {
        status = ag_order_spans(rank, &spans);
    }
    if (status != AG_OK) {
        goto free_items;
    }
    for (uint32_t i = 0; i < n; i++) {
        items[i] = (item_t){.bytes = (buffers[i].bytes + AG_BUFFER_ALIGN_BYTES - 1) /
                                     AG_BUFFER_ALIGN_BYTES * AG_BUFFER_ALIGN_BYTES,
                            .buffer = i};
    }
    qsort(items, n, sizeof(*items), by_bytes_then_number);
    rank->memory_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t offset = find_offset(rank, &order, spans, kept, items, i);

        buffers[items[i].buffer].offset_bytes = offset;
        if (offset + items[i].bytes > rank->memory_bytes) {
            rank->memory_bytes = offset + items[i].bytes;
        }
    }

free_items:
    ag_order_fini(&order);
    free(spans);
    free(items);
    return status;
}

ag_status_t ag_pass_place(ag_program_t *program, const ag_plan_t *plan)
{
    ag_status_t status = AG_OK;

    (void)plan;
    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        status = place_rank(&program->ranks[r], ag_order_kept(program, r));
    }
    return status;
}
