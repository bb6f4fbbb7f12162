#include "parallel/run/staging_priv.h"

#include <assert.h>
#include <stdlib.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"

static ag_device_t *device_of(const ag_staged_t *staged)
{
    return staged->job->opts.device;
}

/* Is what the stage under way has begun complete? */
static ag_status_t test_stage(ag_staged_t *staged)
{
    ag_status_t status = AG_OK;

    if (staged->is_posted) {
        status = staged->stages[staged->at].test(staged);
        staged->is_posted = status == AG_PENDING;
    }
    if (status == AG_OK && staged->is_queued) {
        status = ag_device_query(device_of(staged), staged->mark);
        staged->is_queued = status == AG_PENDING;
    }
    return status;
}

static ag_status_t begin_stage(ag_staged_t *staged, const ag_run_t *run)
{
    ag_status_t status = staged->stages[staged->at].begin(staged, run);

    staged->is_posted = status == AG_PENDING;
    return status == AG_PENDING ? AG_OK : status;
}

static ag_status_t test_task(void *arg, const ag_run_t *run)
{
    ag_staged_t *staged = arg;
    ag_status_t status = test_stage(staged);

    while (status == AG_OK && staged->stages[staged->at + 1].begin != NULL) {
        staged->at++;
        status = begin_stage(staged, run);
        if (status == AG_OK) {
            status = test_stage(staged);
        }
    }
    return status;
}

static ag_status_t start_task(void *arg, const ag_run_t *run)
{
    ag_staged_t *staged = arg;
    ag_status_t status;

    staged->at = 0;
    staged->is_queued = false;
    staged->n_taken = 0;
    status = begin_stage(staged, run);
    return status == AG_OK ? test_task(arg, run) : status;
}

void ag_staged_bind(ag_bound_t *bound, uint32_t at, const ag_op_t *op, const char *name,
                    uint32_t detail, void *task)
{
    bound->args[at] = task;
    bound->tasks[at] = (ag_task_t){.name = name,
                                   .detail = detail,
                                   .kind = op->kind,
                                   .start = start_task,
                                   .test = test_task,
                                   .arg = task};
}

void ag_staged_group_bind(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                          uint32_t at, const ag_task_stage_t *stages, const char *name,
                          ag_staged_group_t *task)
{
    const ag_op_t *op = &ag_rank_ops(&program->ranks[job->rank])[at];

    task->staged = (ag_staged_t){.job = job, .stream = op->stream, .stages = stages};
    task->op = op;
    task->group = job->groups[op->subject];
    ag_staged_bind(bound, at, op, name, op->subject, task);
}

ag_status_t ag_staged_group_test(void *task)
{
    return ag_group_test(((ag_staged_group_t *)task)->request);
}

ag_status_t ag_staged_group_post(ag_staged_group_t *task, const ag_transfer_shape_t *shape,
                                 ag_collective_memory_t memory)
{
    ag_status_t status;

    memory.staging = ag_job_staging(task->staged.job, task->op->stream);
    status = ag_group_post(task->group, shape, &memory, &task->request);
    return status == AG_OK ? ag_staged_group_test(task) : status;
}

unsigned char *ag_staged_place(ag_staged_t *staged, unsigned char *device, uint64_t bytes)
{
    unsigned char *place = staged->job->staging.places[staged->stream] + staged->n_taken;

    if (ag_device_is_host(device_of(staged))) {
        return device;
    }
    staged->n_taken += ag_memory_placed(bytes);
    return place;
}

/* What was queued is part of the stage. */
static ag_status_t mark_queued(ag_staged_t *staged, ag_status_t status)
{
    if (status == AG_OK) {
        staged->mark = ag_device_record(device_of(staged), staged->stream);
        staged->is_queued = true;
    }
    return status;
}

ag_status_t ag_staged_out(ag_staged_t *staged, void *host, const void *device, uint64_t bytes)
{
    ag_device_t *d = device_of(staged);

    return ag_device_is_host(d) || bytes == 0
               ? AG_OK
               : mark_queued(staged, d->ops->copy_out(d, staged->stream, host, device, bytes));
}

ag_status_t ag_staged_in(ag_staged_t *staged, void *device, const void *host, uint64_t bytes)
{
    ag_device_t *d = device_of(staged);

    return ag_device_is_host(d) || bytes == 0
               ? AG_OK
               : mark_queued(staged, d->ops->copy_in(d, staged->stream, device, host, bytes));
}

ag_status_t ag_staged_launch(ag_staged_t *staged, ag_region_fn_t fn, void *arg)
{
    ag_device_t *d = device_of(staged);

    return mark_queued(staged, d->ops->launch(d, staged->stream, fn, arg));
}

/* Host memory for whatever travels: what all collectives need, and where the host may not touch the
 * device's, places of the streams, then the results. */
static void share_out(ag_job_t *job, bool staged)
{
    ag_staging_t *staging = &job->staging;
    const ag_programs_t *programs = job->opts.programs;
    unsigned char *at = staging->messages.base;

    at += ag_memory_staged(job->opts.build, programs, job->rank);
    staging->of_gradients = at;
    at += ag_memory_staged_gradients(job->opts.build, programs, job->rank);
    staging->all_counts = (uint64_t *)(void *)at;
    at += ag_memory_all_counts(programs, job->rank);
    staging->numbers = (uint32_t *)(void *)at;
    at += job->n_slots * ag_memory_numbers(programs, job->rank);
    for (uint32_t stream = 0; stream < AG_N_STREAMS && staged; stream++) {
        staging->places[stream] = at;
        at += ag_memory_place(programs, job->rank, stream);
    }
    staging->results = (float *)(void *)at;
}

void *ag_job_staging(const ag_job_t *job, uint32_t stream)
{
    return stream == AG_STREAM_GRAD ? job->staging.of_gradients : job->staging.messages.base;
}

ag_status_t ag_staging_init(ag_job_t *job)
{
    enum { SHARE_BYTES = 2 << 20 }; /* a huge page */
    ag_staging_t *staging = &job->staging;
    ag_device_t *device = job->opts.device;
    bool staged = !ag_device_is_host(device);
    uint64_t bytes = ag_memory_messages(job->opts.build, job->opts.programs, job->rank, staged);
    ag_status_t status;

    if (!staged) {
        status = device->ops->alloc(device, "messages", bytes, SHARE_BYTES, &staging->messages);
        if (status == AG_OK && bytes > 0) {
            share_out(job, staged);
        }
        return status;
    }
    staging->posted = calloc(ag_plan_steps(job->opts.build->plan), sizeof(*staging->posted));
    if (staging->posted == NULL) {
        return ag_fail_nomem("making room for steps", sizeof(*staging->posted));
    }
    staging->begins_ints = ag_memory_begins_ints(job->opts.programs);
    staging->slot_ints =
        ag_memory_step_ints(job->opts.build->plan, job->opts.programs) + 2 * staging->begins_ints;
    status = device->ops->alloc_host(device, "messages", bytes, &staging->messages);
    if (status == AG_OK) {
        share_out(job, staged);
        status = device->ops->alloc(device, "steps at the device",
                                    ag_memory_device_steps(job->opts.build, job->opts.programs), 0,
                                    &staging->steps);
    }
    return status;
}

void ag_staging_fini(ag_job_t *job)
{
    ag_device_t *device = job->opts.device;

    for (uint32_t stream = 0; stream <= AG_STREAM_JOB; stream++) {
        (void)ag_device_finish(device, stream); /* a failure of it was told, or interests nobody */
    }
    device->ops->free(device, &job->staging.messages);
    device->ops->free(device, &job->staging.steps);
    free(job->staging.posted);
}

static int32_t *slot_of(const ag_job_t *job, uint32_t slot)
{
    return (int32_t *)job->staging.steps.base + slot * job->staging.slot_ints;
}

ag_status_t ag_staging_is_free(ag_job_t *job)
{
    uint64_t next = job->wire.n_steps % job->wire.n_slots;

    return ag_device_is_host(job->opts.device)
               ? AG_OK
               : ag_device_query(job->opts.device, job->staging.posted[next]);
}

ag_status_t ag_staging_post_step(ag_job_t *job)
{
    uint32_t slot = (uint32_t)((job->wire.n_steps - 1) % job->wire.n_slots);
    ag_device_t *device = job->opts.device;
    ag_status_t status;
    const int32_t *ints;
    size_t n;

    if (ag_device_is_host(device)) {
        return AG_OK;
    }
    ints = ag_wire_step_ints(&job->wire, &n);
    status =
        device->ops->copy_in(device, AG_STREAM_JOB, slot_of(job, slot), ints, n * sizeof(*ints));
    job->staging.posted[slot] = ag_device_record(device, AG_STREAM_JOB);
    return status;
}

ag_status_t ag_staging_take_step(ag_staged_t *staged, const ag_run_t *run, const ag_op_t *op,
                                 const ag_step_t *rows, ag_step_t *step_p)
{
    ag_job_t *job = staged->job;
    const ag_step_t *whole = ag_run_step(run, op);
    uint32_t slot = run->slot + op->micro_batch; /* one of them is 0 */
    int32_t *ints = slot_of(job, slot), *begins;
    ag_status_t status;

    *step_p = *rows;
    if (ag_device_is_host(job->opts.device)) {
        return AG_OK;
    }
    step_p->row_begin = ag_is_half(op->half) ? NULL : rows->row_begin; /* is not the wire's */
    status = ag_device_wait(job->opts.device, staged->stream, job->staging.posted[slot]);
    ag_wire_move_step(step_p, whole->tokens, ints); /* the first of its arrays */
    if (status == AG_OK && ag_is_half(op->half)) {
        begins = ints + job->staging.slot_ints - op->half * job->staging.begins_ints;
        status = ag_staged_in(staged, begins, rows->row_begin,
                              (rows->counts[AG_COUNT_SEQUENCES] + 1) * sizeof(*begins));
        step_p->row_begin = begins;
    }
    return status;
}

static ag_status_t are_copied(void *arg)
{
    ag_job_t *job = arg;

    return ag_device_query(job->opts.device, ag_device_record(job->opts.device, AG_STREAM_JOB));
}

ag_status_t ag_staging_read_results(ag_job_t *job, uint32_t slot, uint64_t bytes,
                                    const float **results_p)
{
    const ag_bound_t *bound = job->flying[slot];
    unsigned char *at = ag_job_slot(job, slot) + bound->offsets[bound->program->output_buffer];
    ag_device_t *device = job->opts.device;
    ag_status_t status;

    if (ag_device_is_host(device)) {
        *results_p = (const float *)(const void *)at;
        return AG_OK;
    }
    status = device->ops->copy_out(device, AG_STREAM_JOB, job->staging.results, at, bytes);
    if (status == AG_OK) {
        status = ag_execution_wait(job->execution, are_copied, job);
    }
    *results_p = job->staging.results;
    return status;
}
