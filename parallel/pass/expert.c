/*
 * The exchanges of a layer whose experts several ranks hold, and on the way back those of its
 * gradients:
 *
 *     route                combine_b         writes numbers of rows for each rank, and those rows
 *     ALL_TO_ALL numbers, ALL_TO_ALL rows
 *     experts              experts_b         reads what came, and leaves results
 *     ALL_TO_ALL rows, back
 *     combine              route_b           reads the results of this rank's rows of the step
 *
 * Which buffers these are the segments' uses say. Numbers are exchanged on the way back, too: what
 * an exchange knows of other ranks' is of the last one. Groups over replicas meet on the stream of
 * gradients, with whose sums they stand in one order: few, as experts are not summed over replicas
 * that share them out.
 */
#include <stdlib.h>

#include "parallel/pass/pass.h"

/* The buffers of a rank's exchanges, as its last segments have named them. */
typedef struct exchange {
    uint32_t group;
    ag_stream_t stream;            /* of it */
    uint32_t sent, n_sent;         /* of the last route */
    uint32_t received, n_received; /* of the experts behind it */
    uint32_t results;
    bool is_due; /* they have not gone back yet */
} exchange_t;

/* The buffer that an operation uses in this mode and counts in this; the checker after the pass
 * finds a missing one. */
static uint32_t find_use(const ag_rank_program_t *rank, const ag_op_t *op, uint32_t mode,
                         uint32_t counter)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];

        if ((use->mode & mode) == mode &&
            AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].counter == counter) {
            return use->buffer;
        }
    }
    return 0;
}

static ag_status_t add_collective(ag_program_t *program, uint32_t rank, uint32_t group,
                                  ag_stream_t stream, ag_op_kind_t kind, const ag_op_t *beside,
                                  const ag_use_t *uses, uint32_t n_uses)
{
    const ag_buffer_t *moved =
        &AG_ITEMS(&program->ranks[rank].buffers, ag_buffer_t)[uses[0].buffer];
    ag_op_t op = {
        .kind = (uint8_t)kind,
        .stream = (uint8_t)stream,
        .counter = (uint8_t)moved->counter,
        .chunk = beside->chunk,
        .micro_batch = beside->micro_batch,
        .unit_bytes = moved->unit_bytes,
        .subject = group,
        .peer = -1,
        .channel = AG_ITEMS(&program->groups, ag_program_group_t)[group].channel,
    };

    return ag_program_add_op(program, rank, &op, uses, n_uses);
}

/* Rows there, with the numbers before them. */
static ag_status_t send_rows(ag_program_t *program, uint32_t rank, const exchange_t *e,
                             const ag_op_t *beside)
{
    const ag_use_t numbers[] = {{e->n_sent, AG_USE_READ}, {e->n_received, AG_USE_WRITE}};
    const ag_use_t rows[] = {{e->sent, AG_USE_READ},
                             {e->received, AG_USE_WRITE},
                             {e->n_sent, AG_USE_READ},
                             {e->n_received, AG_USE_READ}};
    ag_status_t status =
        add_collective(program, rank, e->group, e->stream, AG_OP_ALL_TO_ALL, beside, numbers, 2);

    return status == AG_OK ? add_collective(program, rank, e->group, e->stream, AG_OP_ALL_TO_ALL,
                                            beside, rows, 4)
                           : status;
}

static ag_status_t return_results(ag_program_t *program, uint32_t rank, const exchange_t *e,
                                  const ag_op_t *beside, uint32_t returned)
{
    const ag_use_t results[] = {{e->results, AG_USE_READ},
                                {returned, AG_USE_WRITE},
                                {e->n_received, AG_USE_READ},
                                {e->n_sent, AG_USE_READ}};

    return add_collective(program, rank, e->group, e->stream, AG_OP_ALL_TO_ALL, beside, results, 4);
}

/* The micro-batch and the chunk of an exchange are those of the segment before it. */
static ag_status_t add_segment(ag_program_t *program, uint32_t r, exchange_t *e, const ag_op_t *op)
{
    ag_rank_program_t *rank = &program->ranks[r];
    uint32_t kind =
        AG_ITEMS(&AG_ITEMS(&rank->segments, ag_segment_t)[op->subject].parts, ag_part_t)[0].kind;
    bool sends = kind == AG_PART_ROUTE || kind == AG_PART_COMBINE_B;
    bool works = kind == AG_PART_EXPERTS || kind == AG_PART_EXPERTS_B;
    ag_status_t status = AG_OK;

    if (works) {
        e->received = find_use(rank, op, AG_USE_READ, AG_SIZE_RECEIVED);
        e->results = find_use(rank, op, AG_USE_WRITE, AG_SIZE_RECEIVED);
        e->n_received = find_use(rank, op, AG_USE_READ, AG_SIZE_ONE);
        status = send_rows(program, r, e, op);
    } else if (e->is_due) {
        status = return_results(program, r, e, op, find_use(rank, op, AG_USE_READ, AG_SIZE_SENT));
        e->is_due = false;
    }
    if (status == AG_OK) {
        status = ag_array_append(&program->ranks[r].ops, op, 1);
    }
    e->is_due |= works;
    if (sends) {
        e->sent = find_use(rank, op, AG_USE_WRITE, AG_SIZE_SENT);
        e->n_sent = find_use(rank, op, 0, AG_SIZE_ONE);
    }
    return status;
}

static ag_status_t exchange_rank(ag_program_t *program, uint32_t rank, exchange_t exchange)
{
    ag_array_t before = program->ranks[rank].ops;
    ag_status_t status = AG_OK;

    program->ranks[rank].ops = AG_ARRAY(ag_op_t);
    for (size_t i = 0; i < before.n_items && status == AG_OK; i++) {
        const ag_op_t *op = &AG_ITEMS(&before, ag_op_t)[i];

        status = op->kind == AG_OP_SEGMENT ? add_segment(program, rank, &exchange, op)
                                           : ag_array_append(&program->ranks[rank].ops, op, 1);
    }
    ag_array_fini(&before);
    return status;
}

/* Ranks of replicas [begin, end) exchange rows. @param ranks  (all ranks) storage. */
static ag_status_t exchange_run(ag_program_t *program, const ag_stage_t *stage, uint32_t begin,
                                uint32_t end, uint32_t *ranks)
{
    exchange_t exchange = {.stream = end - begin == 1 ? AG_STREAM_TENSOR : AG_STREAM_GRAD};
    uint32_t n = 0;
    ag_status_t status;

    for (uint32_t i = begin; i < end; i++) {
        for (uint32_t r = 0; r < stage->replicas[i].n_ranks; r++) {
            ranks[n++] = stage->replicas[i].ranks[r];
        }
    }
    if (n == 1) {
        return AG_OK;
    }
    status = ag_program_group(program, ranks, n, &exchange.group);
    for (uint32_t i = begin; i < end && status == AG_OK; i++) {
        const ag_replica_t *of = &stage->replicas[i];

        for (uint32_t r = 0; r < of->n_ranks && status == AG_OK; r++) {
            status = exchange_rank(program, of->ranks[r], exchange);
        }
    }
    return status;
}

ag_status_t ag_pass_expert(ag_program_t *program, const ag_build_t *build)
{
    const ag_plan_t *plan = build->plan;
    uint32_t *ranks = calloc((size_t)build->n_ranks + 1, sizeof(*ranks));
    ag_status_t status =
        ranks == NULL ? ag_fail_nomem("adding exchanges", build->n_ranks * 4ull) : AG_OK;

    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        const ag_stage_t *stage = &plan->stages[s];

        for (uint32_t begin = 0, end;
             begin < stage->n_replicas && status == AG_OK && stage->experts.n_experts > 0;
             begin = end) {
            end = ag_stage_experts_end(stage, begin);
            status = exchange_run(program, stage, begin, end, ranks);
        }
    }
    free(ranks);
    return status;
}
