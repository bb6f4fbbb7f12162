/*
 * What a replica's ranks have in common of a step's rows. A partial sum is summed right where it is
 * made: for all ranks, or where the next reads its share of the rows alone, to each its own. What
 * each rank has its share of comes to all where somebody reads all of it, as soon as it is made.
 */
#include "parallel/pass/pass.h"

/* A rank's operations before the pass. */
typedef struct before {
    const ag_rank_program_t *rank;
    const ag_op_t *ops;
    size_t n;
} before_t;

/* What an operation does to a buffer; 0: nothing. */
static uint32_t mode_of(const before_t *before, size_t op, uint32_t buffer)
{
    for (uint32_t i = 0; i < before->ops[op].n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(before->rank, &before->ops[op])[i];

        if (use->buffer == buffer) {
            return use->mode;
        }
    }
    return 0;
}

/* What is asked of a buffer behind an operation. */
typedef struct wanted {
    bool first_all; /* whoever reads it first reads all of it */
    bool all;       /* all of it is read before anything is written to it */
} wanted_t;

static void look_ahead(const before_t *before, size_t op, uint32_t buffer, wanted_t *wanted)
{
    bool is_first = true;

    for (size_t i = op + 1; i < before->n; i++) {
        uint32_t mode = mode_of(before, i, buffer);

        if ((mode & AG_USE_READ) && !(mode & AG_USE_SHARE)) {
            wanted->first_all |= is_first;
            wanted->all = true;
            return;
        }
        if (mode & AG_USE_WRITE) {
            return;
        }
        is_first = is_first && mode == 0;
    }
}

/* Is what an operation leaves of a buffer not whole? */
static bool is_incomplete(const ag_use_t *use)
{
    return (use->mode & AG_USE_WRITE) && (use->mode & (AG_USE_PARTIAL | AG_USE_SHARE));
}

/* Of a rank's operations in turn, each buffer that one leaves incomplete. Ranks of a replica have
 * the same, but not all of them read, or hand on, the same behind it: what one wants all do.
 * @param wanted  wanted_t, added to. */
static ag_status_t find_wanted(const ag_rank_program_t *rank, ag_array_t *wanted)
{
    before_t before = {rank, ag_rank_ops(rank), rank->ops.n_items};
    size_t n = 0;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < before.n; i++) {
        for (uint32_t u = 0; u < before.ops[i].n_uses && status == AG_OK; u++) {
            const ag_use_t *use = &ag_op_uses(rank, &before.ops[i])[u];

            if (!is_incomplete(use)) {
                continue;
            }
            if (n == wanted->n_items) {
                status = ag_array_append(wanted, &(wanted_t){0}, 1);
            }
            if (status == AG_OK) {
                look_ahead(&before, i, use->buffer, &AG_ITEMS(wanted, wanted_t)[n++]);
            }
        }
    }
    return status;
}

static ag_status_t add_collective(ag_program_t *program, uint32_t rank, uint32_t group,
                                  ag_op_kind_t kind, const ag_op_t *behind, uint32_t buffer)
{
    ag_op_t op = ag_program_sum(program, rank, group, buffer);
    ag_use_t use = {buffer, AG_USE_READ | AG_USE_WRITE |
                                (kind == AG_OP_REDUCE_SCATTER ? AG_USE_SHARE : 0u)};

    op.kind = (uint8_t)kind;
    op.chunk = behind->chunk;
    op.micro_batch = behind->micro_batch;
    return ag_program_add_op(program, rank, &op, &use, 1);
}

/* What an operation leaves incomplete. */
static ag_status_t complete(ag_program_t *program, uint32_t rank, uint32_t group, const ag_op_t *op,
                            const ag_use_t *use, const wanted_t *wanted)
{
    bool is_sum = use->mode & AG_USE_PARTIAL;
    ag_status_t status = AG_OK;

    if (is_sum) {
        status = add_collective(program, rank, group,
                                wanted->first_all ? AG_OP_ALL_REDUCE : AG_OP_REDUCE_SCATTER, op,
                                use->buffer);
    }
    return status == AG_OK && wanted->all && !(is_sum && wanted->first_all)
               ? add_collective(program, rank, group, AG_OP_ALL_GATHER, op, use->buffer)
               : status;
}

static ag_status_t complete_rank(ag_program_t *program, uint32_t rank, uint32_t group,
                                 const wanted_t *wanted)
{
    ag_rank_program_t *r = &program->ranks[rank];
    ag_array_t before = r->ops;
    ag_status_t status = AG_OK;

    r->ops = AG_ARRAY(ag_op_t);
    for (size_t i = 0; i < before.n_items && status == AG_OK; i++) {
        const ag_op_t *op = &AG_ITEMS(&before, ag_op_t)[i];

        status = ag_array_append(&r->ops, op, 1);
        for (uint32_t u = 0; u < op->n_uses && status == AG_OK; u++) {
            ag_use_t use = ag_op_uses(r, op)[u];

            if (is_incomplete(&use)) {
                status = complete(program, rank, group, op, &use, wanted++);
            }
        }
    }
    ag_array_fini(&before);
    return status;
}

static ag_status_t complete_replica(ag_program_t *program, const ag_replica_t *replica)
{
    ag_array_t wanted = AG_ARRAY(wanted_t);
    uint32_t group;
    ag_status_t status = ag_program_group(program, replica->ranks, replica->n_ranks, &group);

    for (uint32_t r = 0; r < replica->n_ranks && status == AG_OK; r++) {
        status = find_wanted(&program->ranks[replica->ranks[r]], &wanted);
    }
    for (uint32_t r = 0; r < replica->n_ranks && status == AG_OK; r++) {
        status = complete_rank(program, replica->ranks[r], group, AG_ITEMS(&wanted, wanted_t));
    }
    ag_array_fini(&wanted);
    return status;
}

ag_status_t ag_pass_tensor(ag_program_t *program, const ag_plan_t *plan)
{
    ag_status_t status = AG_OK;

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_replicas && status == AG_OK; i++) {
            const ag_replica_t *replica = &plan->stages[s].replicas[i];

            status = replica->n_ranks > 1 ? complete_replica(program, replica) : AG_OK;
        }
    }
    return status;
}
