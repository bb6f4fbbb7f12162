#include <stdlib.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"
#include "runtime/kernel/gemm.h"

static void poll_streams(void *arg)
{
    ag_execution_poll(arg);
}

/* Weights are touched by the threads that load them, scratch by the thread that uses it (shares
 * would follow the threads' speeds, its slices do not), all else a share each. */
static ag_status_t take_memory(ag_job_t *job)
{
    enum { SHARE_BYTES = 2 << 20 }; /* a huge page */
    const ag_build_t *build = job->opts.build;
    const ag_programs_t *programs = job->opts.programs;
    ag_device_t *device = job->opts.device;
    uint64_t stride = ag_memory_thread_scratch(programs, job->rank);
    ag_status_t status;

    job->thread_scratch_stride = stride;
    status = device->ops->alloc(device, "weights", build->ranks[job->rank].params.bytes, 0,
                                &job->weights);
    if (status == AG_OK) {
        status = device->ops->alloc(device, "kv cache", ag_memory_kv(build, job->rank), SHARE_BYTES,
                                    &job->kv_memory);
    }
    if (status == AG_OK) {
        status =
            device->ops->alloc(device, "activations", ag_memory_activations(programs, job->rank),
                               SHARE_BYTES, &job->activations);
    }
    if (status == AG_OK) {
        status = device->ops->alloc(device, "kernel scratch", ag_team_size(job->opts.team) * stride,
                                    0, &job->thread_scratch);
    }
    if (status == AG_OK) {
        status = device->ops->alloc(device, "messages", ag_memory_staging(programs, job->rank),
                                    SHARE_BYTES, &job->staging);
    }
    return status;
}

static ag_status_t make_kv(ag_job_t *job)
{
    const ag_plan_t *plan = job->opts.build->plan;
    const ag_stage_t *stage = &plan->stages[job->opts.build->ranks[job->rank].place.stage];

    job->kv = calloc((size_t)(stage->layer_end - stage->layer_begin) + 1, sizeof(*job->kv));
    if (job->kv == NULL) {
        return ag_fail_nomem("making a KV cache", sizeof(*job->kv));
    }
    ag_kv_bind(job->opts.build->model->spec, &job->opts.build->ranks[job->rank].shard,
               stage->layer_begin, stage->layer_end, plan->kv_type, ag_job_kv_blocks(plan),
               job->kv_memory.base, job->kv);
    return AG_OK;
}

void ag_job_take_profile(ag_job_t *job, ag_profile_t *profile)
{
    ag_profile_add(profile, &job->profile);
    job->profile = (ag_profile_t){0};
}

/* Every class of program has the same groups, in the same order. */
static ag_status_t make_groups(ag_job_t *job)
{
    const ag_array_t *groups = &job->opts.programs->programs[0]->groups;

    job->groups = calloc(groups->n_items + 1, sizeof(*job->groups));
    if (job->groups == NULL) {
        return ag_fail_nomem("making groups", groups->n_items * sizeof(*job->groups));
    }
    job->n_groups = (uint32_t)groups->n_items;
    for (uint32_t i = 0; i < job->n_groups; i++) {
        const ag_program_group_t *group = &AG_ITEMS(groups, ag_program_group_t)[i];

        for (uint32_t r = 0; r < group->n_ranks; r++) {
            if (group->ranks[r] == job->rank) {
                ag_status_t status = ag_group_create(
                    &(ag_group_opts_t){.net = job->opts.net,
                                       .ranks = group->ranks,
                                       .n_ranks = group->n_ranks,
                                       .channel = AG_CHANNEL_FIRST + group->channel},
                    &job->groups[i]);

                if (status != AG_OK) {
                    return status;
                }
            }
        }
    }
    return AG_OK;
}

static ag_status_t make_executor(ag_job_t *job)
{
    const ag_program_t *largest = job->opts.programs->programs[job->opts.programs->n - 1];
    ag_status_t status =
        ag_execution_create(&(ag_execution_opts_t){.clock = job->opts.clock,
                                                   .wait = job->opts.wait,
                                                   .trace = job->opts.trace,
                                                   .compute_stream = AG_STREAM_COMPUTE,
                                                   .long_streams = AG_REGION_STREAMS},
                            &job->execution);

    if (status != AG_OK) {
        return status;
    }
    job->yield = (ag_yield_t){.fn = poll_streams, .arg = job->execution};
    job->wire_ints = ag_wire_ints(job->opts.build->plan, largest->bounds);
    job->wire = calloc(job->wire_ints + 1, sizeof(*job->wire));
    if (job->wire == NULL) {
        return ag_fail_nomem("making a step", job->wire_ints * sizeof(*job->wire));
    }
    return ag_gemm_cache_create(ag_team_size(job->opts.team), &job->gemm);
}

static ag_status_t bind_all(ag_job_t *job)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < job->opts.programs->n && status == AG_OK; i++) {
        status = ag_bind_program(job, job->opts.programs->programs[i], &job->bound[i]);
    }
    return status;
}

ag_status_t ag_job_create(const ag_job_opts_t *opts, ag_job_t **job_p)
{
    ag_job_t *job = calloc(1, sizeof(*job));
    ag_status_t status;

    if (job == NULL) {
        return ag_fail_nomem("making a job", sizeof(*job));
    }
    job->opts = *opts;
    job->opts.isa = opts->isa != NULL ? opts->isa : ag_isa_best();
    job->rank = (uint32_t)opts->net->rank;
    status = ag_stop_init(job);
    if (status == AG_OK) {
        status = take_memory(job);
    }
    if (status == AG_OK) {
        status = ag_params_load(&opts->build->ranks[job->rank].params, opts->build->model,
                                opts->team, &opts->cancel, job->weights.base);
    }
    if (status == AG_OK) {
        status = make_kv(job);
    }
    if (status == AG_OK) {
        status = make_groups(job);
    }
    if (status == AG_OK) {
        status = make_executor(job);
    }
    if (status == AG_OK) {
        status = bind_all(job);
    }
    if (status != AG_OK) {
        ag_job_destroy(job);
        return status;
    }
    *job_p = job;
    return AG_OK;
}

void ag_job_destroy(ag_job_t *job)
{
    ag_region_t *regions[5];

    if (job == NULL) {
        return;
    }
    for (uint32_t i = 0; i < job->opts.programs->n; i++) {
        ag_bound_fini(&job->bound[i]);
    }
    for (uint32_t i = 0; i < job->n_groups; i++) {
        ag_group_destroy(job->groups[i]);
    }
    free(job->groups);
    free(job->kv);
    free(job->wire);
    free(job->stops);
    ag_execution_destroy(job->execution);
    ag_gemm_cache_destroy(job->gemm);
    regions[0] = &job->weights;
    regions[1] = &job->kv_memory;
    regions[2] = &job->activations;
    regions[3] = &job->thread_scratch;
    regions[4] = &job->staging;
    for (int i = 0; i < 5; i++) {
        job->opts.device->ops->free(job->opts.device, regions[i]);
    }
    free(job);
}

static ag_status_t run(ag_job_t *job, const ag_bound_t *bound, const ag_step_t *step)
{
    return ag_execution_run(job->execution, &bound->dag, bound->tasks,
                            &(ag_run_t){.step = step, .slot = 0});
}

ag_status_t ag_job_step(ag_job_t *job, const ag_step_t *step, const float **logits_p)
{
    const ag_bound_t *bound;
    ag_status_t status = ag_job_choose(job, step, &bound);

    if (status != AG_OK) {
        return status; /* no other rank has heard of it */
    }
    status = ag_wire_send(job, step);
    if (status == AG_OK) {
        status = run(job, bound, step);
    }
    if (status != AG_OK) {
        job->broken = true;
        return status;
    }
    *logits_p = (const float *)(const void *)((const unsigned char *)job->activations.base +
                                              bound->offsets[bound->program->output_buffer]);
    return AG_OK;
}

ag_status_t ag_job_stop(ag_job_t *job)
{
    ag_status_t status;

    if (job->broken) {
        return AG_OK;
    }
    status = ag_wire_send(job, NULL);
    return status == AG_OK ? ag_stop_hear_all(job) : status;
}

bool ag_job_is_broken(const ag_job_t *job)
{
    return job->broken;
}

ag_status_t ag_job_follow(ag_job_t *job)
{
    bool is_over = false;
    ag_status_t status = AG_OK;

    while (status == AG_OK && !is_over) {
        const ag_bound_t *bound;
        ag_step_t step = {0};

        status = ag_wire_recv(job, &step, &is_over);
        if (status == AG_OK) {
            status = ag_stop_say(job, is_over);
        }
        if (status == AG_OK && !is_over) {
            status = ag_job_choose(job, &step, &bound);
            status = status == AG_OK ? run(job, bound, &step) : status;
        }
    }
    job->broken = status != AG_OK;
    return status;
}

const ag_plan_t *ag_job_plan(const ag_job_t *job)
{
    return job->opts.build->plan;
}

const ag_model_t *ag_job_model(const ag_job_t *job)
{
    return job->opts.build->model;
}

const ag_clock_t *ag_job_clock(const ag_job_t *job)
{
    return &job->opts.clock;
}

const void *ag_job_weights(const ag_job_t *job, size_t *n_bytes_p)
{
    *n_bytes_p = job->opts.build->ranks[job->rank].params.bytes;
    return job->weights.base;
}

uint64_t ag_job_compute_ns(const ag_job_t *job)
{
    return ag_execution_compute_ns(job->execution);
}
