/* A job that trains: a run is all micro-batches of a step, each described on the wire. */
#include <stdlib.h>
#include <string.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"

/* Weights of two or more dimensions that are no bias. */
static bool decays(const ag_model_tensor_t *tensor)
{
    static const char bias[] = "bias";
    size_t n = strlen(tensor->name), n_bias = sizeof(bias) - 1;

    return tensor->n_dims >= 2 && (n < n_bias || strcmp(tensor->name + n - n_bias, bias) != 0);
}

void ag_job_bind_moments(ag_job_t *job)
{
    ag_params_t *params = &job->opts.build->ranks[job->rank].params;
    uint64_t second = ag_memory_moments(job->opts.build, job->rank);
    unsigned char *moments = job->moments.base;

    for (size_t i = 0; i < params->items.n_items; i++) {
        const ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[i];
        ag_graph_param_t *held = &AG_ITEMS(&params->held, ag_graph_param_t)[i];

        held->trained = (float *)(void *)((unsigned char *)job->weights.base + param->offset_bytes);
        held->moments[0] = (float *)(void *)moments;
        held->moments[1] = (float *)(void *)(moments + second);
        moments += ag_memory_placed((held->own_end - held->own_begin) * sizeof(float));
        held->decays = decays(param->tensor);
    }
}

bool ag_job_has_step(const ag_job_t *job)
{
    return job->wire.n_steps % job->wire.n_slots == 0;
}

ag_status_t ag_job_post_train(ag_job_t *job)
{
    const ag_update_t *update = job->wire.slots[0].step.update;
    bool evaluates = update != NULL && update->evaluates;
    uint32_t class = evaluates && job->opts.programs->n > 1;
    const ag_bound_t *bound = &job->bound[class][0];

    for (uint32_t i = 0; i < job->wire.n_slots; i++) {
        const ag_step_t *step = &job->wire.slots[i].step;
        ag_status_t status = ag_job_fits(job, step, 0);

        if (status == AG_OK && step->update == NULL) {
            status = ag_fail(AG_ERR_INVALID, "a step of training without its update");
        }
        if (status != AG_OK) {
            return status;
        }
        job->micro_batches[i] = *step;
    }
    job->flying[0] = bound;
    ag_trace_rest(job->opts.trace, evaluates); /* it draws steps */
    return ag_execution_post(job->execution, &bound->dag, bound->tasks,
                             &(ag_run_t){.step = job->micro_batches});
}

static ag_status_t send_step(ag_job_t *job, const ag_step_t *step)
{
    ag_status_t status = ag_execution_wait(job->execution, ag_job_slot_is_free, job);

    if (status == AG_OK) {
        status = ag_wire_post(&job->wire, step);
    }
    return status == AG_OK ? ag_staging_post_step(job) : status;
}

ag_status_t ag_job_train(ag_job_t *job, const ag_step_t *steps, float totals[AG_N_TOTALS])
{
    static const int32_t no_rows[] = {0};
    const ag_step_t empty = {
        .counts = {[AG_COUNT_ONE] = 1}, .row_begin = no_rows, .update = steps[0].update};
    const float *results = NULL;
    ag_status_t status = AG_OK;

    for (uint32_t i = 0, next = 0; i < job->wire.n_slots && status == AG_OK; i++) {
        bool is_empty = ag_plan_turn_is_empty(job->opts.build->plan, i);

        status = send_step(job, is_empty ? &empty : &steps[next]);
        next += !is_empty;
    }
    if (status == AG_OK) {
        status = ag_job_post_train(job);
    }
    if (status == AG_OK) {
        status = ag_execution_finish(job->execution, ag_execution_n_posted(job->execution));
    }
    if (status == AG_OK) {
        status = ag_staging_read_results(job, 0, AG_N_TOTALS * sizeof(*totals), &results);
    }
    job->broken |= status != AG_OK;
    if (status == AG_OK) {
        memcpy(totals, results, AG_N_TOTALS * sizeof(*totals));
    }
    return status;
}

ag_status_t ag_job_follow_train(ag_job_t *job, ag_update_t *update_p, bool *is_over_p)
{
    uint64_t n_posted = ag_execution_n_posted(job->execution);
    ag_status_t status = AG_OK;

    *is_over_p = false;
    while (status == AG_OK && !*is_over_p && ag_execution_n_posted(job->execution) == n_posted) {
        status = ag_job_follow_next(job, is_over_p);
    }
    if (status == AG_OK) {
        status =
            *is_over_p ? ag_job_follow_end(job) : ag_execution_finish(job->execution, n_posted + 1);
    }
    job->broken |= status != AG_OK;
    if (status == AG_OK && !*is_over_p) {
        *update_p = *job->micro_batches[0].update;
    }
    return status;
}

void ag_job_on_update(ag_job_t *job, ag_before_write_t before_write)
{
    job->before_write = before_write;
}

/* Elements that this rank changes, where gradients make room for the weights of all. */
static uint64_t n_own(const ag_graph_param_t *held)
{
    return held->own_end - held->own_begin;
}

static const float *gradient_in_place(const ag_job_t *job, uint32_t param)
{
    const ag_params_t *params = &job->opts.build->ranks[job->rank].params;
    const ag_param_t *of = &AG_ITEMS(&params->items, ag_param_t)[param];
    const unsigned char *buffer = ag_job_slot(job, 0) + job->bound[0][0].offsets[of->grad_buffer];

    return (const float *)(const void *)(buffer + of->grad_begin_bytes) +
           ag_params_held(params)[param].own_begin;
}

uint64_t ag_job_gradients_bytes(const ag_build_t *build, uint32_t rank)
{
    const ag_params_t *params = &build->ranks[rank].params;
    uint64_t n = 1; /* also of a rank that changes nothing */

    if (!ag_plan_shares_update(build->plan)) {
        return 0;
    }
    for (size_t i = 0; i < params->items.n_items; i++) {
        n += n_own(&ag_params_held(params)[i]);
    }
    return n * sizeof(float);
}

ag_status_t ag_job_keep_gradients(ag_job_t *job)
{
    uint64_t bytes = ag_job_gradients_bytes(job->opts.build, (uint32_t)job->rank);

    if (bytes == 0) {
        return AG_OK;
    }
    job->gradients = calloc(1, bytes);
    return job->gradients != NULL ? AG_OK : ag_fail_nomem("keeping gradients", bytes);
}

void ag_job_copy_gradients(ag_job_t *job)
{
    const ag_params_t *params = &job->opts.build->ranks[job->rank].params;
    float *to = job->gradients;

    for (uint32_t i = 0; to != NULL && i < params->items.n_items; i++) {
        uint64_t n = n_own(&ag_params_held(params)[i]);

        if (n > 0) {
            memcpy(to, gradient_in_place(job, i), n * sizeof(float));
        }
        to += n;
    }
}

const float *ag_job_gradient(const ag_job_t *job, uint32_t param)
{
    const ag_graph_param_t *held = ag_params_held(&job->opts.build->ranks[job->rank].params);
    const float *kept = job->gradients;

    if (kept == NULL) {
        return gradient_in_place(job, param);
    }
    for (uint32_t i = 0; i < param; i++) {
        kept += n_own(&held[i]);
    }
    return kept;
}
