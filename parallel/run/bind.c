/* One task per operation, same index, same edges. */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef ag_status_t (*bind_fn_t)(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                                 uint32_t op);

static const bind_fn_t bind_fns[AG_N_OP_KINDS] = {
    [AG_OP_SEGMENT] = ag_bind_segment,
    [AG_OP_SEND] = ag_bind_message,
    [AG_OP_RECV] = ag_bind_message,
    [AG_OP_ALL_REDUCE] = ag_bind_all_reduce,
    [AG_OP_REDUCE_SCATTER] = ag_bind_shared_rows,
    [AG_OP_ALL_GATHER] = ag_bind_shared_rows,
    [AG_OP_ALL_TO_ALL] = ag_bind_all_to_all,
};

ag_status_t ag_bind_program(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound_p)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    size_t n_ops = rank->ops.n_items, n_buffers = rank->buffers.n_items;
    ag_bound_t bound = {.program = program};
    ag_status_t status = ag_program_dag(program, job->rank, &bound.dag);

    if (status != AG_OK) {
        return status;
    }
    bound.tasks = calloc(n_ops + 1, sizeof(*bound.tasks));
    bound.args = calloc(n_ops + 1, sizeof(*bound.args));
    bound.offsets = calloc(n_buffers + 1, sizeof(*bound.offsets));
    if (bound.tasks == NULL || bound.args == NULL || bound.offsets == NULL) {
        status = ag_fail_nomem("binding a program", n_ops * sizeof(*bound.tasks));
        goto fini_bound;
    }
    for (size_t i = 0; i < n_buffers; i++) {
        bound.offsets[i] = AG_ITEMS(&rank->buffers, ag_buffer_t)[i].offset_bytes;
    }
    for (uint32_t op = 0; op < n_ops; op++) {
        status = bind_fns[ag_rank_ops(rank)[op].kind](job, program, &bound, op);
        if (status != AG_OK) {
            goto fini_bound;
        }
    }
    *bound_p = bound;
    return AG_OK;

fini_bound:
    ag_bound_fini(&bound);
    return status;
}

void ag_bound_fini(ag_bound_t *bound)
{
    for (uint32_t op = 0; bound->args != NULL && op < bound->dag.n_ops; op++) {
        free(bound->args[op]);
    }
    free(bound->args);
    free(bound->tasks);
    free(bound->offsets);
    ag_dag_fini(&bound->dag);
    *bound = (ag_bound_t){0};
}
