/* Dependencies from program order and uses. */
#include <stdlib.h>
#include <string.h>

#include "parallel/program/program.h"

enum { NONE = -1 };

/* Of half of a buffer: who wrote it last, and who has read that since, the last of each stream. */
typedef struct history {
    int64_t writer;
    int64_t readers[AG_N_STREAMS];
} history_t;

static void forget_readers(history_t *history)
{
    for (int s = 0; s < AG_N_STREAMS; s++) {
        history->readers[s] = NONE;
    }
}

static void wait_for(const ag_rank_program_t *rank, uint32_t op, int64_t earlier, int64_t *latest)
{
    if (earlier != NONE) {
        uint8_t stream = ag_rank_ops(rank)[earlier].stream;

        if (stream != ag_rank_ops(rank)[op].stream && earlier > latest[stream]) {
            latest[stream] = earlier;
        }
    }
}

static void wait_for_use(const ag_rank_program_t *rank, uint32_t op, const ag_use_t *use,
                         const history_t *history, int64_t *latest)
{
    wait_for(rank, op, history->writer, latest);
    for (int s = 0; (use->mode & AG_USE_WRITE) && s < AG_N_STREAMS; s++) {
        wait_for(rank, op, history->readers[s], latest);
    }
}

static void remember_use(const ag_op_t *o, uint32_t op, const ag_use_t *use, history_t *history)
{
    if (use->mode & AG_USE_WRITE) {
        history->writer = op;
        forget_readers(history);
    } else {
        history->readers[o->stream] = op;
    }
}

/* @param histories  (buffers, 2): of halves A and B. */
static ag_status_t link_op(ag_rank_program_t *rank, uint32_t op, history_t *histories)
{
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);
    ag_op_t *o = &ag_rank_ops(rank)[op];
    const ag_use_t *uses = ag_op_uses(rank, o);
    int64_t latest[AG_N_STREAMS]; /* what to wait for, per stream */
    ag_status_t status = AG_OK;

    memset(latest, 0xff, sizeof(latest));
    for (uint32_t i = 0; i < 2u * o->n_uses; i++) {
        const ag_use_t *use = &uses[i / 2];

        if (ag_op_meets_half(o, &buffers[use->buffer], AG_HALF_A + i % 2)) {
            wait_for_use(rank, op, use, &histories[2 * use->buffer + i % 2], latest);
        }
    }
    for (uint32_t i = 0; i < 2u * o->n_uses; i++) {
        const ag_use_t *use = &uses[i / 2];

        if (ag_op_meets_half(o, &buffers[use->buffer], AG_HALF_A + i % 2)) {
            remember_use(o, op, use, &histories[2 * use->buffer + i % 2]);
        }
    }
    o->first_dep = (uint32_t)rank->deps.n_items;
    for (int s = 0; s < AG_N_STREAMS && status == AG_OK; s++) {
        if (latest[s] != NONE) {
            uint32_t dep = (uint32_t)latest[s];

            status = ag_array_append(&rank->deps, &dep, 1);
        }
    }
    o->n_deps = (uint32_t)rank->deps.n_items - o->first_dep;
    return status;
}

ag_status_t ag_program_link(ag_program_t *program)
{
    for (uint32_t r = 0; r < program->n_ranks; r++) {
        ag_rank_program_t *rank = &program->ranks[r];
        size_t n_buffers = rank->buffers.n_items;
        history_t *histories = malloc((2 * n_buffers + 1) * sizeof(*histories));
        ag_status_t status = AG_OK;

        if (histories == NULL) {
            return ag_fail_nomem("linking a program", 2 * n_buffers * sizeof(*histories));
        }
        for (size_t i = 0; i < 2 * n_buffers; i++) {
            histories[i].writer = NONE;
            forget_readers(&histories[i]);
        }
        rank->deps.n_items = 0;
        for (uint32_t op = 0; op < rank->ops.n_items && status == AG_OK; op++) {
            status = link_op(rank, op, histories);
        }
        free(histories);
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}
