/*
 * The exchanges of a layer whose experts several ranks of a stage hold:
 *
 *     route                             writes numbers of rows for each rank, and copies of those
 *     ALL_TO_ALL numbers, ALL_TO_ALL rows
 *     experts                           reads what came, and leaves results in its place
 *     ALL_TO_ALL rows, back
 *     combine                           adds the results of this rank's rows of the step
 *     ALL_GATHER                        all rows to all ranks
 *
 * Which buffers these are the segments' uses say.
 */
#include "parallel/pass/pass.h"

/* The buffers of a rank's exchanges, as its last segments have named them. */
typedef struct exchange {
    uint32_t group;
    uint32_t sent, n_sent;         /* of the last route */
    uint32_t received, n_received; /* of the experts behind it */
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

static ag_status_t add_collective(ag_program_t *program, uint32_t rank, const exchange_t *exchange,
                                  ag_op_kind_t kind, const ag_op_t *beside, const ag_use_t *uses,
                                  uint32_t n_uses)
{
    const ag_buffer_t *moved =
        &AG_ITEMS(&program->ranks[rank].buffers, ag_buffer_t)[uses[0].buffer];
    ag_op_t op = {
        .kind = (uint8_t)kind,
        .stream = AG_STREAM_TENSOR,
        .counter = (uint8_t)moved->counter,
        .chunk = beside->chunk,
        .micro_batch = beside->micro_batch,
        .unit_bytes = moved->unit_bytes,
        .subject = exchange->group,
        .peer = -1,
        .channel = AG_ITEMS(&program->groups, ag_program_group_t)[exchange->group].channel,
    };

    return ag_program_add_op(program, rank, &op, uses, n_uses);
}

/* Rows there, with the numbers before them, or their results back. */
static ag_status_t add_exchange(ag_program_t *program, uint32_t rank, const exchange_t *e,
                                bool back, const ag_op_t *beside)
{
    const ag_use_t numbers[] = {{e->n_sent, AG_USE_READ}, {e->n_received, AG_USE_WRITE}};
    const ag_use_t there[] = {{e->sent, AG_USE_READ},
                              {e->received, AG_USE_WRITE},
                              {e->n_sent, AG_USE_READ},
                              {e->n_received, AG_USE_READ}};
    const ag_use_t results[] = {{e->received, AG_USE_READ},
                                {e->sent, AG_USE_WRITE},
                                {e->n_received, AG_USE_READ},
                                {e->n_sent, AG_USE_READ}};
    ag_status_t status =
        back ? AG_OK : add_collective(program, rank, e, AG_OP_ALL_TO_ALL, beside, numbers, 2);

    return status == AG_OK ? add_collective(program, rank, e, AG_OP_ALL_TO_ALL, beside,
                                            back ? results : there, 4)
                           : status;
}

static ag_status_t add_segment(ag_program_t *program, uint32_t r, exchange_t *exchange,
                               const ag_op_t *op)
{
    ag_rank_program_t *rank = &program->ranks[r];
    uint32_t kind =
        AG_ITEMS(&AG_ITEMS(&rank->segments, ag_segment_t)[op->subject].parts, ag_part_t)[0].kind;
    ag_status_t status = AG_OK;

    if (kind == AG_PART_ROUTE) {
        exchange->sent = find_use(rank, op, AG_USE_WRITE, AG_SIZE_SENT);
        exchange->n_sent = find_use(rank, op, AG_USE_WRITE, AG_SIZE_ONE);
    } else if (kind == AG_PART_EXPERTS) {
        exchange->received = find_use(rank, op, AG_USE_READ, AG_SIZE_RECEIVED);
        exchange->n_received = find_use(rank, op, AG_USE_READ, AG_SIZE_ONE);
        status = add_exchange(program, r, exchange, false, op);
    }
    if (status == AG_OK) {
        status = ag_array_append(&program->ranks[r].ops, op, 1);
    }
    if (status == AG_OK && kind == AG_PART_EXPERTS) {
        status = add_exchange(program, r, exchange, true, op);
    } else if (status == AG_OK && kind == AG_PART_COMBINE) {
        ag_use_t rows = {find_use(rank, op, AG_USE_SHARE, AG_SIZE_TOKENS),
                         AG_USE_READ | AG_USE_WRITE};

        status = add_collective(program, r, exchange, AG_OP_ALL_GATHER, op, &rows, 1);
    }
    return status;
}

static ag_status_t exchange_rank(ag_program_t *program, uint32_t rank, uint32_t group)
{
    ag_array_t before = program->ranks[rank].ops;
    exchange_t exchange = {.group = group};
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

ag_status_t ag_pass_expert(ag_program_t *program, const ag_build_t *build)
{
    const ag_plan_t *plan = build->plan;
    ag_status_t status = AG_OK;

    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        const ag_replica_t *replica = &plan->stages[s].replicas[0];
        uint32_t group;

        if (plan->stages[s].experts.n_experts == 0 || replica->n_ranks == 1) {
            continue;
        }
        status = ag_program_group(program, replica->ranks, replica->n_ranks, &group);
        for (uint32_t i = 0; i < replica->n_ranks && status == AG_OK; i++) {
            status = exchange_rank(program, replica->ranks[i], group);
        }
    }
    return status;
}
