#include <math.h>
#include <stdlib.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"
#include "runtime/kernel/gemm.h"

static void poll_streams(void *arg)
{
    ag_execution_poll(arg);
}

static bool trains(const ag_job_t *job)
{
    return job->opts.build->plan->train.sequence_tokens > 0;
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
    job->n_slots = ag_plan_slots(build->plan);
    job->slot_bytes = ag_memory_slot(programs, job->rank);
    status = device->ops->alloc(device, "weights", build->ranks[job->rank].params.bytes, 0,
                                &job->weights);
    if (status == AG_OK && trains(job)) {
        status = device->ops->alloc(device, "moments", 2 * ag_memory_moments(build, job->rank),
                                    SHARE_BYTES, &job->moments);
    } else if (status == AG_OK) {
        status = device->ops->alloc(device, "kv cache", ag_memory_kv(build, job->rank), SHARE_BYTES,
                                    &job->kv_memory);
    }
    if (status == AG_OK) {
        status = device->ops->alloc(device, "activations", job->n_slots * job->slot_bytes,
                                    SHARE_BYTES, &job->activations);
    }
    if (status == AG_OK) {
        status = device->ops->alloc(device, "kernel scratch", ag_team_size(job->opts.team) * stride,
                                    0, &job->thread_scratch);
    }
    return status == AG_OK ? ag_staging_init(job) : status;
}

/* What layers have besides weights: a cache, or moments and no cache. */
static ag_status_t make_kv(ag_job_t *job)
{
    const ag_plan_t *plan = job->opts.build->plan;
    const ag_stage_t *stage = &plan->stages[job->opts.build->ranks[job->rank].place.stage];

    if (trains(job)) {
        ag_job_bind_moments(job);
        job->micro_batches = calloc(ag_plan_steps(plan), sizeof(*job->micro_batches));
        return job->micro_batches != NULL
                   ? AG_OK
                   : ag_fail_nomem("making a job", ag_plan_steps(plan) * sizeof(ag_step_t));
    }
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

float ag_job_router_gap(const ag_job_t *job)
{
    return job->router_gap;
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
                                       .hosts = ag_programs_hosts(job->opts.programs, i),
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
    const ag_plan_t *plan = job->opts.build->plan;
    ag_status_t status =
        ag_execution_create(&(ag_execution_opts_t){.clock = job->opts.clock,
                                                   .wait = job->opts.wait,
                                                   .trace = job->opts.trace,
                                                   .compute_stream = AG_STREAM_COMPUTE,
                                                   .long_streams = AG_REGION_STREAMS,
                                                   .n_slots = job->n_slots},
                            &job->execution);

    if (status != AG_OK) {
        return status;
    }
    if (job->opts.device->ops->query == NULL) { /* else nothing waits for a region to end */
        job->yield = (ag_yield_t){.fn = poll_streams, .arg = job->execution};
    }
    status = ag_wire_init(job->opts.net, plan, ag_memory_step_ints(plan, job->opts.programs),
                          &job->wire);
    return status == AG_OK ? ag_gemm_cache_create(ag_team_size(job->opts.team), &job->gemm)
                           : status;
}

static ag_status_t bind_all(ag_job_t *job)
{
    ag_status_t status = AG_OK;

    job->flying = calloc(job->n_slots, sizeof(*job->flying));
    for (uint32_t i = 0; i < job->opts.programs->n && status == AG_OK; i++) {
        job->bound[i] = calloc(job->n_slots, sizeof(*job->bound[i]));
        if (job->flying == NULL || job->bound[i] == NULL) {
            return ag_fail_nomem("binding programs", job->n_slots * sizeof(*job->bound[i]));
        }
        for (uint32_t slot = 0; slot < job->n_slots && status == AG_OK; slot++) {
            status = ag_bind_program(job, job->opts.programs->programs[i], &job->bound[i][slot]);
        }
    }
    return status;
}

ag_status_t ag_job_create(const ag_job_opts_t *opts, ag_job_t **job_p)
{
    ag_status_t status =
        ag_memory_check(opts->build, opts->programs, (uint32_t)opts->net->rank,
                        ag_team_size(opts->team), !ag_device_is_host(opts->device));
    ag_job_t *job;

    if (status != AG_OK) {
        return status;
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return ag_fail_nomem("making a job", sizeof(*job));
    }
    job->opts = *opts;
    job->router_gap = INFINITY;
    job->opts.isa = opts->isa != NULL ? opts->isa : ag_isa_best();
    job->rank = (uint32_t)opts->net->rank;
    status = ag_stop_init(job);
    if (status == AG_OK) {
        status = take_memory(job);
    }
    if (status == AG_OK) {
        status = ag_params_load(&opts->build->ranks[job->rank].params, opts->build->model,
                                opts->team, &opts->cancel, opts->device, job->weights.base);
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
    ag_staging_fini(job); /* first: what the device still does works on the rest */
    for (uint32_t i = 0; i < job->opts.programs->n; i++) {
        for (uint32_t slot = 0; job->bound[i] != NULL && slot < job->n_slots; slot++) {
            ag_bound_fini(&job->bound[i][slot]);
        }
        free(job->bound[i]);
    }
    free(job->flying);
    for (uint32_t i = 0; i < job->n_groups; i++) {
        ag_group_destroy(job->groups[i]);
    }
    free(job->groups);
    free(job->kv);
    free(job->micro_batches);
    free(job->gradients);
    ag_wire_fini(&job->wire);
    free(job->stops);
    ag_execution_destroy(job->execution);
    ag_gemm_cache_destroy(job->gemm);
    regions[0] = &job->weights;
    regions[1] = &job->kv_memory;
    regions[2] = &job->activations;
    regions[3] = &job->thread_scratch;
    regions[4] = &job->moments;
    for (int i = 0; i < 5; i++) {
        job->opts.device->ops->free(job->opts.device, regions[i]);
    }
    free(job);
}

unsigned char *ag_job_slot(const ag_job_t *job, uint32_t slot)
{
    return (unsigned char *)job->activations.base + slot * job->slot_bytes;
}

/* Run the step that the wire has, in the next slot. */
static ag_status_t post_run(ag_job_t *job, uint32_t class)
{
    uint32_t slot = (uint32_t)(ag_execution_n_posted(job->execution) % job->n_slots);
    const ag_bound_t *bound = &job->bound[class][slot];
    ag_status_t status = ag_staging_post_step(job);

    if (status != AG_OK) {
        return status;
    }
    job->flying[slot] = bound;
    return ag_execution_post(job->execution, &bound->dag, bound->tasks,
                             &(ag_run_t){.step = ag_wire_step(&job->wire), .slot = slot});
}

ag_status_t ag_job_slot_is_free(void *arg)
{
    ag_job_t *job = arg;
    ag_status_t status = ag_staging_is_free(job);

    return status == AG_OK ? ag_wire_is_free(&job->wire) : status;
}

static ag_status_t wire_is_sent(void *arg)
{
    return ag_wire_is_sent(arg);
}

uint32_t ag_job_slots(const ag_job_t *job)
{
    return job->n_slots;
}

ag_status_t ag_job_post(ag_job_t *job, const ag_step_t *step)
{
    uint32_t class;
    ag_status_t status = ag_job_choose(job, step, &class);

    if (status != AG_OK) {
        return status; /* no other rank has heard of it */
    }
    if (job->wire.n_steps - job->n_taken == job->n_slots) {
        return ag_fail(AG_ERR_INVALID, "%u steps are in flight already", job->n_slots);
    }
    status = ag_execution_wait(job->execution, ag_job_slot_is_free, job);
    if (status == AG_OK) {
        status = ag_wire_post(&job->wire, step);
    }
    if (status == AG_OK) {
        status = post_run(job, class);
    }
    job->broken |= status != AG_OK;
    return status;
}

ag_status_t ag_job_wait(ag_job_t *job, const float **logits_p)
{
    uint32_t slot = (uint32_t)(job->n_taken % job->n_slots);
    uint64_t bytes = job->wire.slots[slot].step.counts[AG_COUNT_OUTPUTS] *
                     job->opts.build->model->spec->vocab * sizeof(float);
    ag_status_t status;

    if (job->n_taken == job->wire.n_steps) {
        return ag_fail(AG_ERR_INVALID, "no step is in flight");
    }
    status = ag_execution_finish(job->execution, job->n_taken + 1);
    if (status == AG_OK) {
        status = ag_staging_read_results(job, slot, bytes, logits_p);
    }
    job->broken |= status != AG_OK;
    job->n_taken += status == AG_OK;
    return status;
}

ag_status_t ag_job_step(ag_job_t *job, const ag_step_t *step, const float **logits_p)
{
    ag_status_t status = ag_job_post(job, step);

    return status == AG_OK ? ag_job_wait(job, logits_p) : status;
}

/* Every step that is in flight ends. */
static ag_status_t land(ag_job_t *job)
{
    return ag_execution_finish(job->execution, ag_execution_n_posted(job->execution));
}

ag_status_t ag_job_stop(ag_job_t *job)
{
    ag_status_t status;

    if (job->broken) {
        return AG_OK;
    }
    status = land(job);
    if (status == AG_OK) {
        status = ag_execution_wait(job->execution, ag_job_slot_is_free, job);
    }
    if (status == AG_OK) {
        status = ag_wire_post(&job->wire, NULL);
    }
    if (status == AG_OK) {
        status = ag_execution_wait(job->execution, wire_is_sent, &job->wire);
    }
    if (status == AG_OK) {
        status = ag_stop_hear_all(job);
    }
    job->broken = status != AG_OK;
    return status;
}

bool ag_job_is_broken(const ag_job_t *job)
{
    return job->broken;
}

typedef struct follow {
    ag_job_t *job;
    bool is_over;
} follow_t;

/* The next step is there, and a slot for it. */
static ag_status_t have_step(void *arg)
{
    follow_t *follow = arg;
    ag_job_t *job = follow->job;
    uint64_t n_posted = ag_execution_n_posted(job->execution);
    ag_status_t status = n_posted - ag_execution_n_ended(job->execution) < job->n_slots
                             ? ag_job_slot_is_free(job)
                             : AG_PENDING;

    return status == AG_OK ? ag_wire_poll(&job->wire, &follow->is_over) : status;
}

static ag_status_t follow_step(ag_job_t *job)
{
    uint32_t class;
    ag_status_t status = AG_OK;

    if (trains(job)) {
        status = ag_staging_post_step(job);
    }
    if (status != AG_OK || (trains(job) && !ag_job_has_step(job))) {
        return status;
    }
    status = ag_stop_say(job, false);
    if (status == AG_OK && trains(job)) {
        return ag_job_post_train(job);
    }
    if (status == AG_OK) {
        status = ag_job_choose(job, ag_wire_step(&job->wire), &class);
    }
    return status == AG_OK ? post_run(job, class) : status;
}

ag_status_t ag_job_follow_next(ag_job_t *job, bool *is_over_p)
{
    follow_t follow = {.job = job};
    ag_status_t status = ag_execution_wait(job->execution, have_step, &follow);

    *is_over_p = status == AG_OK && follow.is_over;
    return status == AG_OK && !follow.is_over ? follow_step(job) : status;
}

ag_status_t ag_job_follow_end(ag_job_t *job)
{
    ag_status_t status = land(job);

    if (status == AG_OK) {
        status = ag_execution_wait(job->execution, wire_is_sent, &job->wire);
    }
    return status == AG_OK ? ag_stop_say(job, true) : status;
}

ag_status_t ag_job_follow(ag_job_t *job)
{
    bool is_over = false;
    ag_status_t status = AG_OK;

    while (status == AG_OK && !is_over) {
        status = ag_job_follow_next(job, &is_over);
    }
    if (status == AG_OK) {
        status = ag_job_follow_end(job);
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
    return ag_device_is_host(job->opts.device) ? job->weights.base : NULL;
}

uint64_t ag_job_compute_ns(const ag_job_t *job)
{
    return ag_execution_compute_ns(job->execution);
}
