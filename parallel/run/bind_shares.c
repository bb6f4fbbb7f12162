/*
 * REDUCE_SCATTER, and ALL_GATHER of shares: a buffer of floats of which each rank of a group has
 * its share. The one leaves there the sum over all ranks, the other brings all shares to all.
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct shares_task {
    ag_staged_t staged;
    const ag_op_t *op;
    ag_group_t *group;
    const ag_program_shares_t *shares;
    uint64_t offset;         /* of the buffer in its slot */
    uint64_t own_begin, own; /* floats */
    unsigned char *device, *host;
    ag_collective_request_t *request;
} shares_task_t;

static bool gathers(const shares_task_t *task)
{
    return task->op->kind == AG_OP_ALL_GATHER;
}

/* What goes in or out of the device: all, or this rank's. */
static ag_status_t move(shares_task_t *task, bool all,
                        ag_status_t (*fn)(shares_task_t *task, uint64_t begin, uint64_t bytes))
{
    return all ? fn(task, 0, task->op->unit_bytes)
               : fn(task, task->own_begin * sizeof(float), task->own * sizeof(float));
}

static ag_status_t out(shares_task_t *task, uint64_t begin, uint64_t bytes)
{
    return ag_staged_out(&task->staged, task->host + begin, task->device + begin, bytes);
}

static ag_status_t in(shares_task_t *task, uint64_t begin, uint64_t bytes)
{
    return ag_staged_in(&task->staged, task->device + begin, task->host + begin, bytes);
}

static ag_status_t take_out(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;

    task->device = ag_job_slot(task->staged.job, run->slot) + task->offset;
    task->host = ag_staged_place(&task->staged, task->device, task->op->unit_bytes);
    return move(task, !gathers(task), out);
}

static ag_status_t test(void *arg)
{
    return ag_group_test(((shares_task_t *)arg)->request);
}

static ag_status_t post(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;
    ag_transfer_shape_t shape = ag_group_shape(task->group);
    ag_status_t status;

    (void)run;
    shape.collective = gathers(task) ? AG_ALL_GATHER : AG_REDUCE_SCATTER;
    shape.element_bytes = sizeof(float);
    shape.n = task->op->unit_bytes / sizeof(float);
    shape.counts = task->shares->floats;
    /* sums in the order of the ranks, wherever an element stands */
    shape.algorithm = gathers(task) ? ag_transfer_choose(&shape) : AG_DIRECT;
    status = ag_group_post(
        task->group, &shape,
        &(ag_collective_memory_t){.buffer = task->host,
                                  .staging = ag_job_staging(task->staged.job, task->op->stream)},
        &task->request);
    return status == AG_OK ? test(arg) : status;
}

static ag_status_t bring_in(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;

    (void)run;
    return move(task, gathers(task), in);
}

static const ag_task_stage_t stages[] = {
    {.begin = take_out}, {post, test}, {.begin = bring_in}, {0}};

static void find_own(shares_task_t *task, const ag_program_group_t *group, uint32_t rank)
{
    uint32_t i = 0;

    for (; group->ranks[i] != rank; i++) {
        task->own_begin += task->shares->floats[i];
    }
    task->own = task->shares->floats[i];
}

ag_status_t ag_bind_shares(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                           uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    shares_task_t *task = calloc(1, sizeof(*task));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task));
    }
    *task = (shares_task_t){.staged = {.job = job, .stream = o->stream, .stages = stages},
                            .op = o,
                            .group = job->groups[o->subject],
                            .shares = ag_op_shares(program, o),
                            .offset = bound->offsets[ag_op_uses(rank, o)[0].buffer]};
    find_own(task, &AG_ITEMS(&program->groups, ag_program_group_t)[o->subject], job->rank);
    ag_staged_bind(bound, op, o, ag_op_infos[o->kind].name, o->subject, task);
    return AG_OK;
}
