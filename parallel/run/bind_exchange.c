/*
 * ALL_GATHER: each rank's rows of a buffer, which are its share of the step's, to all of a group;
 * REDUCE_SCATTER: to each its rows of a sum over the group.
 * ALL_TO_ALL: numbers of rows from each rank to each, and then those rows. Where rows may go by
 * host each rank must know what all others send each other: then all numbers go to all, at the
 * price of the ranks' own.
 */
#include <stdlib.h>
#include <string.h>

#include "parallel/run/job_priv.h"

typedef struct exchange_task {
    ag_staged_group_t of;
    const uint32_t *ranks;          /* the group's */
    uint64_t offsets[AG_MAX_MOVED]; /* of the buffers in it */
    uint64_t sizes[AG_MAX_MOVED];   /* of these, in bytes */
    uint64_t most_received;         /* rows that the second has room for */
    unsigned char *hosts[AG_MAX_MOVED];
    ag_transfer_shape_t shape;
    ag_collective_memory_t memory;
    bool may_go_by_host;
    uint32_t n_ranks;
    uint64_t counts[]; /* (2, n_ranks) elements for and of each rank */
} exchange_task_t;

static unsigned char *memory_of(const exchange_task_t *task, const ag_run_t *run, int buffer)
{
    return ag_job_slot(task->of.staged.job, run->slot) + task->offsets[buffer];
}

/* The host's, of all that there are. */
static void take_places(exchange_task_t *task, const ag_run_t *run)
{
    for (int i = 0; i < task->of.op->n_uses; i++) {
        task->hosts[i] = ag_staged_place(&task->of.staged, memory_of(task, run, i), task->sizes[i]);
    }
}

static const ag_shard_t *my_shard(const ag_job_t *job)
{
    return &job->opts.build->ranks[job->rank].shard;
}

static uint64_t sum_of_counts(const uint64_t *counts, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t r = 0; r < n; r++) {
        sum += counts[r];
    }
    return sum;
}

static ag_status_t post(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;

    (void)run;
    /* sums in the order of the ranks, wherever a row stands */
    task->shape.algorithm =
        task->shape.collective == AG_REDUCE_SCATTER ? AG_DIRECT : ag_transfer_choose(&task->shape);
    return ag_staged_group_post(&task->of, &task->shape, task->memory);
}

static bool gathers(const exchange_task_t *task)
{
    return task->of.op->kind == AG_OP_ALL_GATHER;
}

/* Who has which rows of the step. */
static void share_rows(exchange_task_t *task, const ag_run_t *run)
{
    const ag_rank_build_t *ranks = task->of.staged.job->opts.build->ranks;
    uint64_t n_rows = ag_run_step(run, task->of.op)->counts[task->of.op->counter], begin, end;

    task->shape = ag_group_shape(task->of.group);
    task->shape.collective = gathers(task) ? AG_ALL_GATHER : AG_REDUCE_SCATTER;
    task->shape.element_bytes = task->of.op->unit_bytes;
    task->shape.n = n_rows;
    task->shape.counts = task->counts;
    for (uint32_t r = 0; r < task->n_ranks; r++) {
        ag_shard_rows(&ranks[task->ranks[r]].shard, n_rows, &begin, &end);
        task->counts[r] = end - begin;
    }
}

/* Bring what goes, or comes: all rows, or this rank's. */
static ag_status_t bring(exchange_task_t *task, const ag_run_t *run, bool all, bool out)
{
    uint64_t unit = task->of.op->unit_bytes, begin = 0, end = task->shape.n;
    unsigned char *host, *device;

    if (!all) {
        ag_shard_rows(my_shard(task->of.staged.job), task->shape.n, &begin, &end);
    }
    host = task->hosts[0] + begin * unit;
    device = memory_of(task, run, 0) + begin * unit;
    return out ? ag_staged_out(&task->of.staged, host, device, (end - begin) * unit)
               : ag_staged_in(&task->of.staged, device, host, (end - begin) * unit);
}

static ag_status_t take_share(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;

    share_rows(task, run);
    take_places(task, run);
    task->memory = (ag_collective_memory_t){.buffer = task->hosts[0]};
    return bring(task, run, !gathers(task), true);
}

static ag_status_t bring_share(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;

    return bring(task, run, gathers(task), false);
}

static const ag_task_stage_t rows_of_all_stages[] = {
    {.begin = take_share}, {post, ag_staged_group_test}, {.begin = bring_share}, {0}};

/* What an ALL_TO_ALL sends, and what it has received. */
static ag_status_t take_sent(exchange_task_t *task, const ag_run_t *run)
{
    task->shape.collective = AG_ALL_TO_ALL;
    task->shape.send_counts = task->counts;
    task->shape.recv_counts = task->counts + task->n_ranks;
    task->memory = (ag_collective_memory_t){.buffer = task->hosts[1], .input = task->hosts[0]};
    return ag_staged_out(&task->of.staged, task->hosts[0], memory_of(task, run, 0),
                         sum_of_counts(task->shape.send_counts, task->n_ranks) *
                             task->shape.element_bytes);
}

static ag_status_t bring_received(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;

    return ag_staged_in(&task->of.staged, memory_of(task, run, 1), task->hosts[1],
                        sum_of_counts(task->shape.recv_counts, task->n_ranks) *
                            task->shape.element_bytes);
}

/* One number for each expert that a rank holds: its own from all, or all ranks' from one. */
static ag_status_t take_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_expert_shard_t *experts = &my_shard(task->of.staged.job)->experts;

    task->shape = ag_group_shape(task->of.group);
    task->shape.element_bytes = sizeof(uint32_t);
    for (uint32_t r = 0; r < task->n_ranks; r++) {
        task->counts[r] = experts->n_held_of[r];
        task->counts[task->n_ranks + r] = experts->n_held;
    }
    take_places(task, run);
    return take_sent(task, run);
}

static const ag_task_stage_t numbers_stages[] = {
    {.begin = take_numbers}, {post, ag_staged_group_test}, {.begin = bring_received}, {0}};

/* The numbers of all ranks, in a slot: (ranks, places). */
static uint32_t *all_numbers(const exchange_task_t *task, const ag_run_t *run)
{
    return task->of.staged.job->staging.numbers +
           (uint64_t)run->slot * task->n_ranks * my_shard(task->of.staged.job)->experts.n_places;
}

static ag_status_t take_own_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;

    take_places(task, run);
    return ag_staged_out(&task->of.staged, task->hosts[0], memory_of(task, run, 0), task->sizes[0]);
}

static ag_status_t enter_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_shard_t *shard = my_shard(task->of.staged.job);
    uint32_t n_places = shard->experts.n_places, *all = all_numbers(task, run);

    memcpy(all + (uint64_t)shard->experts.index * n_places, task->hosts[0],
           n_places * sizeof(*all));
    for (uint32_t r = 0; r < task->n_ranks; r++) {
        task->counts[r] = n_places;
    }
    task->shape = ag_group_shape(task->of.group);
    task->shape.collective = AG_ALL_GATHER;
    task->shape.element_bytes = sizeof(*all);
    task->shape.n = (uint64_t)task->n_ranks * n_places;
    task->shape.counts = task->counts;
    task->memory = (ag_collective_memory_t){.buffer = all};
    return AG_OK;
}

/* Of the numbers of a rank, where those of another one's experts begin. */
static uint32_t place_of(const ag_expert_shard_t *experts, uint32_t rank)
{
    uint32_t place = 0;

    for (uint32_t r = 0; r < rank; r++) {
        place += experts->n_held_of[r];
    }
    return place;
}

static ag_status_t bring_own_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_shard_t *shard = my_shard(task->of.staged.job);
    const ag_expert_shard_t *experts = &shard->experts;
    const uint32_t *mine = all_numbers(task, run) + place_of(experts, experts->index);
    size_t bytes = experts->n_held * sizeof(*mine);

    for (uint32_t r = 0; r < task->n_ranks; r++) {
        memcpy(task->hosts[1] + r * bytes, mine + (uint64_t)r * experts->n_places, bytes);
    }
    return ag_staged_in(&task->of.staged, memory_of(task, run, 1), task->hosts[1],
                        task->n_ranks * bytes);
}

static const ag_task_stage_t all_numbers_stages[] = {{.begin = take_own_numbers},
                                                     {.begin = enter_numbers},
                                                     {post, ag_staged_group_test},
                                                     {.begin = bring_own_numbers},
                                                     {0}};

static uint64_t sum_of(const uint32_t *numbers, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += numbers[i];
    }
    return sum;
}

/* Rows go by the numbers that were exchanged before: the host must know them. */
static ag_status_t look_at_numbers(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    ag_status_t status;

    take_places(task, run);
    status =
        ag_staged_out(&task->of.staged, task->hosts[2], memory_of(task, run, 2), task->sizes[2]);
    return status == AG_OK ? ag_staged_out(&task->of.staged, task->hosts[3],
                                           memory_of(task, run, 3), task->sizes[3])
                           : status;
}

/* Rows from each rank for each, there or back. */
static const uint64_t *all_counts(const exchange_task_t *task, const ag_run_t *run, bool back)
{
    const ag_expert_shard_t *experts = &my_shard(task->of.staged.job)->experts;
    uint64_t *counts = task->of.staged.job->staging.all_counts, n = task->n_ranks;
    const uint32_t *numbers = all_numbers(task, run);

    for (uint32_t from = 0; from < n; from++) {
        for (uint32_t to = 0; to < n; to++) {
            counts[back ? to * n + from : from * n + to] = sum_of(numbers, experts->n_held_of[to]);
            numbers += experts->n_held_of[to];
        }
    }
    return counts;
}

/* Their results go the same ways back. */
static ag_status_t take_rows(void *arg, const ag_run_t *run)
{
    exchange_task_t *task = arg;
    const ag_expert_shard_t *experts = &my_shard(task->of.staged.job)->experts;
    bool back = task->of.op->counter == AG_SIZE_RECEIVED;
    const uint32_t *there = (const uint32_t *)(const void *)task->hosts[back ? 3 : 2];
    const uint32_t *here = (const uint32_t *)(const void *)task->hosts[back ? 2 : 3];
    uint64_t *sent = task->counts, *received = task->counts + task->n_ranks;
    uint64_t n_received;

    for (uint32_t r = 0; r < task->n_ranks; r++) {
        (back ? received : sent)[r] = sum_of(there, experts->n_held_of[r]);
        (back ? sent : received)[r] = sum_of(here, experts->n_held);
        there += experts->n_held_of[r];
        here += experts->n_held;
    }
    n_received = sum_of_counts(received, task->n_ranks);
    if (n_received > task->most_received) {
        return ag_fail(AG_ERR_PEER, "%llu rows come for this rank's experts, %llu can be had",
                       (unsigned long long)n_received, (unsigned long long)task->most_received);
    }
    task->shape = ag_group_shape(task->of.group);
    task->shape.element_bytes = task->of.op->unit_bytes;
    task->shape.all_counts = task->may_go_by_host ? all_counts(task, run, back) : NULL;
    return take_sent(task, run);
}

static const ag_task_stage_t rows_stages[] = {{.begin = look_at_numbers},
                                              {.begin = take_rows},
                                              {post, ag_staged_group_test},
                                              {.begin = bring_received},
                                              {0}};

static ag_status_t bind_task(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                             uint32_t op, const ag_task_stage_t *stages)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    const ag_program_group_t *group = &AG_ITEMS(&program->groups, ag_program_group_t)[o->subject];
    uint32_t n_ranks = group->n_ranks;
    size_t bytes = sizeof(exchange_task_t) + 2 * n_ranks * sizeof(uint64_t);
    exchange_task_t *task = calloc(1, bytes);

    if (task == NULL) {
        return ag_fail_nomem("binding a program", bytes);
    }
    task->ranks = group->ranks;
    task->n_ranks = n_ranks;
    task->may_go_by_host = ag_programs_may_go_by_host(job->opts.programs, o->subject);
    for (uint32_t i = 0; i < o->n_uses; i++) {
        uint32_t buffer = ag_op_uses(rank, o)[i].buffer;

        task->offsets[i] = bound->offsets[buffer];
        task->sizes[i] = AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer].bytes;
        if (i == 1) {
            task->most_received =
                program->bounds[AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer].counter];
        }
    }
    ag_staged_group_bind(job, program, bound, op, stages, ag_op_infos[o->kind].name, &task->of);
    return AG_OK;
}

ag_status_t ag_bind_shared_rows(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                                uint32_t op)
{
    return ag_rank_ops(&program->ranks[job->rank])[op].shares > 0
               ? ag_bind_shares(job, program, bound, op)
               : bind_task(job, program, bound, op, rows_of_all_stages);
}

ag_status_t ag_bind_all_to_all(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op)
{
    const ag_op_t *o = &ag_rank_ops(&program->ranks[job->rank])[op];
    bool to_all = ag_programs_may_go_by_host(job->opts.programs, o->subject);

    return bind_task(job, program, bound, op,
                     o->counter != AG_SIZE_ONE ? rows_stages
                     : to_all                  ? all_numbers_stages
                                               : numbers_stages);
}
