/*
 * REDUCE_SCATTER, and ALL_GATHER of shares: a buffer of floats of which each rank of a group has
 * its share. The one leaves there the sum over all ranks, the other brings all shares to all.
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct shares_task {
    ag_staged_group_t of;
    const ag_program_shares_t *shares;
    uint64_t offset;         /* of the buffer in its slot */
    uint64_t own_begin, own; /* floats */
    unsigned char *device, *host;
} shares_task_t;

static bool gathers(const shares_task_t *task)
{
    return task->of.op->kind == AG_OP_ALL_GATHER;
}

/* What goes in or out of the device: all, or this rank's. */
static ag_status_t move(shares_task_t *task, bool all,
                        ag_status_t (*fn)(shares_task_t *task, uint64_t begin, uint64_t bytes))
{
    return all ? fn(task, 0, task->of.op->unit_bytes)
               : fn(task, task->own_begin * sizeof(float), task->own * sizeof(float));
}

static ag_status_t out(shares_task_t *task, uint64_t begin, uint64_t bytes)
{
    return ag_staged_out(&task->of.staged, task->host + begin, task->device + begin, bytes);
}

static ag_status_t in(shares_task_t *task, uint64_t begin, uint64_t bytes)
{
    return ag_staged_in(&task->of.staged, task->device + begin, task->host + begin, bytes);
}

static ag_status_t take_out(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;

    task->device = ag_job_slot(task->of.staged.job, run->slot) + task->offset;
    task->host = ag_staged_place(&task->of.staged, task->device, task->of.op->unit_bytes);
    return move(task, !gathers(task), out);
}

static ag_status_t post(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;
    ag_transfer_shape_t shape = ag_group_shape(task->of.group);

    (void)run;
    shape.collective = gathers(task) ? AG_ALL_GATHER : AG_REDUCE_SCATTER;
    shape.element_bytes = sizeof(float);
    shape.n = task->of.op->unit_bytes / sizeof(float);
    shape.counts = task->shares->floats;
    /* sums in the order of the ranks, wherever an element stands */
    shape.algorithm = gathers(task) ? ag_transfer_choose(&shape) : AG_DIRECT;
    return ag_staged_group_post(&task->of, &shape, (ag_collective_memory_t){.buffer = task->host});
}

static ag_status_t bring_in(void *arg, const ag_run_t *run)
{
    shares_task_t *task = arg;

    (void)run;
    return move(task, gathers(task), in);
}

static const ag_task_stage_t stages[] = {
    {.begin = take_out}, {post, ag_staged_group_test}, {.begin = bring_in}, {0}};

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
    task->shares = ag_op_shares(program, o);
    task->offset = bound->offsets[ag_op_uses(rank, o)[0].buffer];
    find_own(task, &AG_ITEMS(&program->groups, ag_program_group_t)[o->subject], job->rank);
    ag_staged_group_bind(job, program, bound, op, stages, ag_op_infos[o->kind].name, &task->of);
    return AG_OK;
}
