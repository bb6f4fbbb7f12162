/*
 * ALL_REDUCE: the step's rows of a buffer, summed over a group. The order of a sum depends on the
 * algorithm, which is chosen by the rows of one sequence: what a sequence gets does not depend on
 * how many others are in its step (as long as these rows are small enough for no ring).
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct all_reduce_task {
    ag_staged_group_t of;
    bool trains;     /* then there is no company: all rows are chosen by */
    uint64_t offset; /* of the buffer in its slot */
    unsigned char *device, *host;
    uint64_t n; /* floats */
} all_reduce_task_t;

static ag_status_t take_out(void *arg, const ag_run_t *run)
{
    all_reduce_task_t *task = arg;
    uint64_t n_rows = ag_run_step(run, task->of.op)->counts[task->of.op->counter];
    uint64_t bytes = task->of.op->unit_bytes * ag_half_rows(task->of.op->half, n_rows);

    task->n = bytes / sizeof(float);
    task->device = ag_job_slot(task->of.staged.job, run->slot) + task->offset +
                   task->of.op->unit_bytes * ag_half_begin(task->of.op->half, n_rows);
    task->host = ag_staged_place(&task->of.staged, task->device, bytes);
    return ag_staged_out(&task->of.staged, task->host, task->device, bytes);
}

static ag_status_t post(void *arg, const ag_run_t *run)
{
    all_reduce_task_t *task = arg;
    uint64_t n_sequences = ag_run_step(run, task->of.op)->counts[AG_COUNT_SEQUENCES];
    ag_transfer_shape_t shape = ag_group_shape(task->of.group);

    if (task->n == 0) {
        return AG_OK;
    }
    shape.collective = AG_ALL_REDUCE;
    shape.element_bytes = sizeof(float);
    shape.n = task->n / (task->trains ? 1 : n_sequences);
    shape.algorithm = ag_transfer_choose(&shape);
    shape.n = task->n;
    return ag_staged_group_post(&task->of, &shape, (ag_collective_memory_t){.buffer = task->host});
}

static ag_status_t bring_in(void *arg, const ag_run_t *run)
{
    all_reduce_task_t *task = arg;

    (void)run;
    return ag_staged_in(&task->of.staged, task->device, task->host, task->n * sizeof(float));
}

static const ag_task_stage_t stages[] = {
    {.begin = take_out}, {post, ag_staged_group_test}, {.begin = bring_in}, {0}};

ag_status_t ag_bind_all_reduce(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    all_reduce_task_t *task = calloc(1, sizeof(*task));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task));
    }
    task->trains = ag_program_trains(program);
    task->offset = bound->offsets[ag_op_uses(rank, o)[0].buffer];
    ag_staged_group_bind(job, program, bound, op, stages, ag_op_infos[o->kind].traced[o->half],
                         &task->of);
    return AG_OK;
}
