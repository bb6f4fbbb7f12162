/*
 * ALL_REDUCE: the step's rows of a buffer, summed over a group. The order of a sum depends on the
 * algorithm, which is chosen by the rows of one sequence: what a sequence gets does not depend on
 * how many others are in its step (as long as these rows are small enough for no ring).
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct all_reduce_task {
    ag_job_t *job;
    const ag_op_t *op;
    ag_group_t *group;
    uint64_t offset; /* of the buffer in its slot */
    ag_collective_request_t *request;
} all_reduce_task_t;

static ag_status_t start(void *arg, const ag_run_t *run)
{
    all_reduce_task_t *task = arg;
    const ag_step_t *step = run->step;
    uint64_t n_rows = step->counts[task->op->counter];
    uint64_t n = task->op->unit_bytes / sizeof(float) * ag_half_rows(task->op->half, n_rows);
    ag_transfer_shape_t shape = ag_group_shape(task->group);
    unsigned char *data = ag_job_slot(task->job, run->slot) + task->offset +
                          task->op->unit_bytes * ag_half_begin(task->op->half, n_rows);
    ag_status_t status;

    if (n == 0) {
        return AG_OK;
    }
    shape.collective = AG_ALL_REDUCE;
    shape.element_bytes = sizeof(float);
    shape.n = n / step->counts[AG_COUNT_SEQUENCES];
    shape.algorithm = ag_transfer_choose(&shape);
    shape.n = n;
    status =
        ag_group_post(task->group, &shape,
                      &(ag_collective_memory_t){.buffer = data, .staging = task->job->staging.base},
                      &task->request);
    return status == AG_OK ? ag_group_test(task->request) : status;
}

static ag_status_t test(void *arg, const ag_run_t *run)
{
    (void)run;
    return ag_group_test(((all_reduce_task_t *)arg)->request);
}

ag_status_t ag_bind_all_reduce(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    all_reduce_task_t *task = calloc(1, sizeof(*task));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task));
    }
    *task = (all_reduce_task_t){.job = job,
                                .op = o,
                                .group = job->groups[o->subject],
                                .offset = bound->offsets[ag_op_uses(rank, o)[0].buffer]};
    bound->args[op] = task;
    bound->tasks[op] = (ag_task_t){.name = ag_op_infos[o->kind].traced[o->half],
                                   .detail = o->subject,
                                   .kind = o->kind,
                                   .start = start,
                                   .test = test,
                                   .arg = task};
    return AG_OK;
}
