/* Every partial sum is summed over the ranks that share it, right where it is made. */
#include "parallel/pass/pass.h"

/* Which buffer an operation leaves as a partial sum; -1: none. */
static int64_t partial_of(const ag_rank_program_t *rank, const ag_op_t *op)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        if (ag_op_uses(rank, op)[i].mode & AG_USE_PARTIAL) {
            return ag_op_uses(rank, op)[i].buffer;
        }
    }
    return -1;
}

static ag_status_t add_sum(ag_program_t *program, uint32_t rank, uint32_t group,
                           const ag_op_t *after, uint32_t buffer)
{
    ag_op_t sum = ag_program_sum(program, rank, group, buffer);

    sum.chunk = after->chunk;
    sum.micro_batch = after->micro_batch;
    return ag_program_add_sum(program, rank, &sum, buffer);
}

static ag_status_t sum_rank(ag_program_t *program, uint32_t rank, uint32_t group)
{
    ag_array_t before = program->ranks[rank].ops;
    ag_status_t status = AG_OK;

    program->ranks[rank].ops = AG_ARRAY(ag_op_t);
    for (size_t i = 0; i < before.n_items && status == AG_OK; i++) {
        const ag_op_t *op = &AG_ITEMS(&before, ag_op_t)[i];
        int64_t partial = partial_of(&program->ranks[rank], op);

        status = ag_array_append(&program->ranks[rank].ops, op, 1);
        if (status == AG_OK && partial >= 0) {
            status = add_sum(program, rank, group, op, (uint32_t)partial);
        }
    }
    ag_array_fini(&before);
    return status;
}

ag_status_t ag_pass_tensor(ag_program_t *program, const ag_plan_t *plan)
{
    ag_status_t status = AG_OK;

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_replicas; i++) {
            const ag_replica_t *replica = &plan->stages[s].replicas[i];
            uint32_t group;

            if (replica->n_ranks == 1) {
                continue;
            }
            status = ag_program_group(program, replica->ranks, replica->n_ranks, &group);
            for (uint32_t r = 0; r < replica->n_ranks && status == AG_OK; r++) {
                status = sum_rank(program, replica->ranks[r], group);
            }
            if (status != AG_OK) {
                return status;
            }
        }
    }
    return AG_OK;
}
