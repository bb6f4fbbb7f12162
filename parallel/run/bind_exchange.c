/*
 * ALL_GATHER: each rank's rows of a buffer, which are a part of the step's, to all of a group.
 * ALL_TO_ALL: numbers of rows from each rank to each, and then those rows.
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct exchange_task {
    ag_job_t *job;
    const ag_op_t *op;
    ag_group_t *group;
    uint64_t offsets[AG_MAX_MOVED]; /* of the buffers in it */
    uint64_t most_received;         /* rows that the second has room for */
    ag_collective_request_t *request;
    uint32_t n_ranks;
    uint64_t counts[]; /* (2, n_ranks) elements for and of each rank */
} exchange_task_t;

static unsigned char *memory_of(const exchange_task_t *task, const ag_run_t *run, int buffer)
{
    return ag_job_slot(task->job, run->slot) + task->offsets[buffer];
}

static const ag_shard_t *my_shard(const ag_job_t *job)
{
    return &job->opts.build->ranks[job->rank].shard;
}

static ag_status_t post(exchange_task_t *task, ag_transfer_shape_t *shape,
                        const ag_collective_memory_t *memory)
{
    ag_status_t status;

    shape->algorithm = ag_transfer_choose(shape);
    status = ag_group_post(task->group, shape, memory, &task->request);
    return status == AG_OK ? ag_group_test(task->request) : status;
}

static ag_status_t start_gather(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_step_t *step = run->step;
    ag_transfer_shape_t shape = ag_group_shape(task->group);

    shape.collective = AG_ALL_GATHER;
    shape.element_bytes = task->op->unit_bytes;
    shape.n = step->counts[task->op->counter];
    shape.counts = task->counts;
    for (uint32_t r = 0; r < task->n_ranks; r++) {
        uint64_t begin, end;

        ag_places_rows(&(ag_places_t){.part = r, .n_parts = task->n_ranks}, shape.n, &begin, &end);
        task->counts[r] = end - begin;
    }
    return post(task, &shape,
                &(ag_collective_memory_t){.buffer = memory_of(task, run, 0),
                                          .staging = task->job->staging.base});
}

/* One number for each expert that a rank holds: its own from all, or all ranks' from one. */
static ag_status_t start_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_expert_shard_t *experts = &my_shard(task->job)->experts;
    ag_transfer_shape_t shape = ag_group_shape(task->group);

    for (uint32_t r = 0; r < task->n_ranks; r++) {
        task->counts[r] = experts->n_held_of[r];
        task->counts[task->n_ranks + r] = experts->n_held;
    }
    shape.collective = AG_ALL_TO_ALL;
    shape.element_bytes = sizeof(uint32_t);
    shape.send_counts = task->counts;
    shape.recv_counts = task->counts + task->n_ranks;
    return post(task, &shape,
                &(ag_collective_memory_t){.buffer = memory_of(task, run, 1),
                                          .input = memory_of(task, run, 0),
                                          .staging = task->job->staging.base});
}

static uint64_t sum_of(const uint32_t *numbers, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += numbers[i];
    }
    return sum;
}

/* Rows by the numbers that were exchanged before; their results go the same ways back. */
static ag_status_t start_rows(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_expert_shard_t *experts = &my_shard(task->job)->experts;
    bool back = task->op->counter == AG_SIZE_RECEIVED;
    const uint32_t *there = (const uint32_t *)(const void *)memory_of(task, run, back ? 3 : 2);
    const uint32_t *here = (const uint32_t *)(const void *)memory_of(task, run, back ? 2 : 3);
    uint64_t *sent = task->counts, *received = task->counts + task->n_ranks, n_received = 0;
    ag_transfer_shape_t shape = ag_group_shape(task->group);

    for (uint32_t r = 0; r < task->n_ranks; r++) {
        (back ? received : sent)[r] = sum_of(there, experts->n_held_of[r]);
        (back ? sent : received)[r] = sum_of(here, experts->n_held);
        there += experts->n_held_of[r];
        here += experts->n_held;
        n_received += received[r];
    }
    if (n_received > task->most_received) {
        return ag_fail(AG_ERR_PEER, "%llu rows come for this rank's experts, %llu can be had",
                       (unsigned long long)n_received, (unsigned long long)task->most_received);
    }
    shape.collective = AG_ALL_TO_ALL;
    shape.element_bytes = task->op->unit_bytes;
    shape.send_counts = sent;
    shape.recv_counts = received;
    return post(task, &shape,
                &(ag_collective_memory_t){.buffer = memory_of(task, run, 1),
                                          .input = memory_of(task, run, 0),
                                          .staging = task->job->staging.base});
}

static ag_status_t test(void *arg, const ag_run_t *run)
{
    (void)run;
    return ag_group_test(((exchange_task_t *)arg)->request);
}

static ag_status_t bind_task(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                             uint32_t op, ag_status_t (*start)(void *arg, const ag_run_t *run))
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    uint32_t n_ranks = AG_ITEMS(&program->groups, ag_program_group_t)[o->subject].n_ranks;
    size_t bytes = sizeof(exchange_task_t) + 2 * n_ranks * sizeof(uint64_t);
    exchange_task_t *task = calloc(1, bytes);

    if (task == NULL) {
        return ag_fail_nomem("binding a program", bytes);
    }
    task->job = job;
    task->op = o;
    task->group = job->groups[o->subject];
    task->n_ranks = n_ranks;
    for (uint32_t i = 0; i < o->n_uses; i++) {
        uint32_t buffer = ag_op_uses(rank, o)[i].buffer;

        task->offsets[i] = bound->offsets[buffer];
        if (i == 1) {
            task->most_received =
                program->bounds[AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer].counter];
        }
    }
    bound->args[op] = task;
    bound->tasks[op] = (ag_task_t){.name = ag_op_infos[o->kind].name,
                                   .detail = o->subject,
                                   .kind = o->kind,
                                   .start = start,
                                   .test = test,
                                   .arg = task};
    return AG_OK;
}

ag_status_t ag_bind_all_gather(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op)
{
    return bind_task(job, program, bound, op, start_gather);
}

ag_status_t ag_bind_all_to_all(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op)
{
    bool numbers = ag_rank_ops(&program->ranks[job->rank])[op].counter == AG_SIZE_ONE;

    return bind_task(job, program, bound, op, numbers ? start_numbers : start_rows);
}
