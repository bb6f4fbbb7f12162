/* What two operations do to the same bytes is ordered, whatever the timing. */
#include <stdlib.h>

#include "parallel/program/check_priv.h"
#include "parallel/program/text.h"
#include "runtime/base/line.h"

enum { LINE_BYTES = 512, NONE = -1 };

static ag_status_t fail_pair(const ag_program_t *program, uint32_t rank, uint32_t a, uint32_t b,
                             const char *what)
{
    char first[LINE_BYTES], second[LINE_BYTES];

    return ag_fail(AG_ERR_INVALID, "rank %u: %s:\n%s\n%s", rank, what,
                   ag_op_text(program, rank, a, first, sizeof(first)),
                   ag_op_text(program, rank, b, second, sizeof(second)));
}

/* Everything since the last write is complete before this one. */
static ag_status_t check_write(const ag_program_t *program, uint32_t r, const ag_order_t *order,
                               uint32_t buffer, uint32_t half, uint32_t since, uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);

    for (uint32_t earlier = since; earlier < op; earlier++) {
        const ag_op_t *e = &ag_rank_ops(rank)[earlier];

        for (uint32_t j = 0; j < e->n_uses; j++) {
            if (ag_op_uses(rank, e)[j].buffer == buffer &&
                ag_op_meets_half(e, &buffers[buffer], half) &&
                !ag_order_is_before(order, earlier, op)) {
                return fail_pair(program, r, earlier, op,
                                 "nothing orders a use and a later write of its buffer");
            }
        }
    }
    return AG_OK;
}

/* Each read of a half's rows against the write before it; each write against everything since that.
 */
static ag_status_t check_buffer(const ag_program_t *program, uint32_t r, const ag_order_t *order,
                                uint32_t buffer, uint32_t half)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);
    int64_t writer = NONE;

    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        for (uint32_t i = 0; i < o->n_uses; i++) {
            const ag_use_t *use = &ag_op_uses(rank, o)[i];
            ag_status_t status = AG_OK;

            if (use->buffer != buffer || !ag_op_meets_half(o, &buffers[buffer], half)) {
                continue;
            }
            if (writer != NONE && !ag_order_is_before(order, (uint32_t)writer, op)) {
                return fail_pair(program, r, (uint32_t)writer, op,
                                 "nothing orders a write and a later use of its buffer");
            }
            if (use->mode & AG_USE_WRITE) {
                status = check_write(program, r, order, buffer, half,
                                     writer == NONE ? 0 : (uint32_t)writer, op);
                writer = op;
            }
            if (status != AG_OK) {
                return status;
            }
        }
    }
    return AG_OK;
}

static bool share_bytes(const ag_buffer_t *a, const ag_buffer_t *b)
{
    return a->bytes > 0 && b->bytes > 0 && a->offset_bytes < b->offset_bytes + b->bytes &&
           b->offset_bytes < a->offset_bytes + a->bytes;
}

/* Which use of b may start before which use of a is complete: not all of a is before b. */
static ag_status_t fail_shared(const ag_program_t *program, uint32_t rank, const ag_order_t *order,
                               const ag_buffer_span_t *a, const ag_buffer_span_t *b,
                               const char *what)
{
    for (int s = 0; s < AG_N_STREAMS; s++) {
        for (int t = 0; t < AG_N_STREAMS; t++) {
            uint32_t last = (uint32_t)a->last[s], first = (uint32_t)b->first[t];

            if (a->last[s] >= 0 && b->first[t] >= 0 &&
                (last == first || !ag_order_is_before(order, last, first))) {
                return fail_pair(program, rank, last, first, what);
            }
        }
    }
    return AG_OK;
}

/* All uses of one are before all uses of the other. */
static ag_status_t check_shared(const ag_program_t *program, uint32_t rank, const ag_order_t *order,
                                const ag_buffer_span_t *spans, uint32_t a)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    const ag_buffer_t *buffers = AG_ITEMS(&r->buffers, ag_buffer_t);
    int64_t kept = ag_order_kept(program, rank);

    for (uint32_t b = a + 1; b < r->buffers.n_items; b++) {
        if (share_bytes(&buffers[a], &buffers[b]) &&
            !ag_order_may_share(order, spans, a, b, kept)) {
            char what[3 * LINE_BYTES] = "", line[LINE_BYTES];
            bool output = a == kept || b == kept;

            ag_line_append(what, sizeof(what), "buffers in use together share bytes%s:\n%s",
                           output ? " (the output is in use to the end)" : "",
                           ag_buffer_text(&buffers[a], line, sizeof(line)));
            ag_line_append(what, sizeof(what), "\n%s\nand are used by",
                           ag_buffer_text(&buffers[b], line, sizeof(line)));
            return a == kept ? fail_shared(program, rank, order, &spans[b], &spans[a], what)
                             : fail_shared(program, rank, order, &spans[a], &spans[b], what);
        }
    }
    return AG_OK;
}

static ag_status_t check_place(const ag_rank_program_t *r, uint32_t rank, const ag_buffer_t *buffer)
{
    if (buffer->offset_bytes % AG_BUFFER_ALIGN_BYTES != 0) {
        return ag_check_fail_buffer(buffer, rank, "a buffer begins within a cache line");
    }
    if (buffer->bytes > r->memory_bytes || buffer->offset_bytes > r->memory_bytes - buffer->bytes) {
        return ag_check_fail_buffer(buffer, rank, "a buffer ends beyond the slot's memory");
    }
    return AG_OK;
}

ag_status_t ag_check_memory(const ag_program_t *program, uint32_t rank, bool placed)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    const ag_buffer_t *buffers = AG_ITEMS(&r->buffers, ag_buffer_t);
    ag_buffer_span_t *spans = NULL;
    ag_order_t order;
    ag_status_t status = ag_order_init(r, &order);

    if (status != AG_OK) {
        return ag_fail_context(status, "rank %u", rank);
    }
    status = ag_order_spans(r, &spans);
    for (uint32_t a = 0; a < r->buffers.n_items && status == AG_OK; a++) {
        status = check_buffer(program, rank, &order, a, AG_HALF_A);
        if (status == AG_OK) {
            status = check_buffer(program, rank, &order, a, AG_HALF_B);
        }
        if (placed && status == AG_OK) {
            status = check_place(r, rank, &buffers[a]);
        }
        if (placed && status == AG_OK) {
            status = check_shared(program, rank, &order, spans, a);
        }
    }
    free(spans);
    ag_order_fini(&order);
    return status;
}
