#include "parallel/run/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/train_batch.h"
#include "runtime/base/log.h"

const char *const ag_lr_schedule_names[AG_N_LR_SCHEDULES] = {
    [AG_LR_CONSTANT] = "constant",
    [AG_LR_LINEAR] = "linear",
    [AG_LR_COSINE] = "cosine",
    [AG_LR_WSD] = "wsd",
};

double ag_lr_at(const ag_lr_t *lr, uint64_t step)
{
    const double pi = 3.14159265358979323846;
    uint64_t n = lr->n_steps, before = step - 1, cooldown = (n + 4) / 5;
    double gone;

    if (before < lr->warmup_steps) {
        return lr->most * (double)step / (double)lr->warmup_steps;
    }
    gone = n > lr->warmup_steps
               ? (double)(before - lr->warmup_steps) / (double)(n - lr->warmup_steps)
               : 0;
    switch (lr->schedule) {
    case AG_LR_LINEAR:
        return lr->most * (1 - gone);
    case AG_LR_COSINE:
        return lr->most * 0.5 * (1 + cos(pi * gone));
    case AG_LR_WSD:
        return before + cooldown <= n
                   ? lr->most
                   : lr->most * (1 - sqrt((double)(before + cooldown - n) / (double)cooldown));
    default:
        return lr->most;
    }
}

/* A run of the loop on one rank. */
typedef struct loop {
    ag_job_t *job;
    const ag_train_opts_t *opts;
    ag_train_batch_t batch; /* rank 0's */
    ag_data_position_t position;
    bool is_saving;
    bool is_finite; /* rank 0's: the loss and the gradients of the last step are numbers */
} loop_t;

uint64_t ag_train_bytes(const ag_plan_t *plan)
{
    return ag_train_batch_bytes(plan);
}

uint64_t ag_train_steps_left(const ag_dataset_t *data, ag_data_position_t position, uint64_t epochs,
                             uint64_t rows_each)
{
    uint64_t n_rows = ag_dataset_counts(data).rows;
    uint64_t n = n_rows * epochs, gone = n_rows * position.epoch + position.row;

    return gone < n ? (n - gone + rows_each - 1) / rows_each : 0;
}

ag_json_t *ag_train_state(uint64_t step, ag_data_position_t position)
{
    ag_json_t *state = ag_json_new_object();

    ag_json_set(state, "step", ag_json_new_integer((int64_t)step));
    ag_json_set(state, "data", ag_data_position_json(position));
    return state;
}

ag_status_t ag_train_read_state(const ag_json_t *state, ag_data_position_t *position_p)
{
    return ag_data_position_read(ag_json_get(state, "data"), position_p);
}

static ag_status_t begin_save(ag_job_t *job, ag_saver_t *saver, uint64_t step,
                              ag_data_position_t position)
{
    return ag_saver_begin(saver, step, job->rank == 0 ? ag_train_state(step, position) : NULL);
}

ag_status_t ag_train_save(ag_job_t *job, ag_saver_t *saver, uint64_t step,
                          ag_data_position_t position)
{
    ag_status_t status =
        ag_agree(job->opts.net, &job->opts.idle, begin_save(job, saver, step, position), NULL);

    return status == AG_OK ? ag_saver_wait(saver) : status;
}

/* A checkpoint that fails leaves the last one as it is, and the next may have room again. */
static ag_status_t end_save(loop_t *loop, ag_status_t status)
{
    loop->is_saving = status == AG_PENDING;
    if (status == AG_OK || status == AG_PENDING || status == AG_ERR_PEER) {
        return status == AG_PENDING ? AG_OK : status;
    }
    if (loop->job->rank == 0) {
        char last[96];

        ag_saver_tell_last(loop->opts->saver, last, sizeof(last));
        ag_log(AG_LOG_WARNING, "no checkpoint was made: %s (%s)", ag_error(), last);
    }
    return AG_OK;
}

/* A step that was refused is none to go on from: rank 0 tells the others. */
static ag_status_t save_if_due(loop_t *loop, uint64_t step)
{
    const ag_train_opts_t *opts = loop->opts;
    const ag_job_opts_t *job = &loop->job->opts;
    ag_status_t status = AG_OK;

    if (loop->is_saving) {
        status = end_save(loop, ag_saver_test(opts->saver));
    }
    if (status != AG_OK || opts->saver == NULL || opts->save_steps == 0 ||
        step % opts->save_steps != 0 || step == opts->n_steps) {
        return status;
    }
    if (loop->is_saving) {
        status = end_save(loop, ag_saver_wait(opts->saver));
    }
    if (status == AG_OK) {
        status =
            ag_agree_broadcast(job->net, &job->idle, 0, &loop->is_finite, sizeof(loop->is_finite));
    }
    if (status == AG_OK && loop->is_finite) {
        status = begin_save(loop->job, opts->saver, step, loop->position);
        loop->is_saving = status == AG_OK;
    }
    return status;
}

/* Of a saver, which keeps what it still needs. */
static void before_write(void *arg, const float *data, uint64_t n)
{
    ag_saver_before_write(arg, data, n);
}

/* Every rank's peak to rank 0. */
static ag_status_t gather_peak(const loop_t *loop, uint64_t *peak_bytes_p)
{
    const ag_job_opts_t *job = &loop->job->opts;
    uint64_t own = loop->opts->peak_bytes != NULL ? loop->opts->peak_bytes() : 0;
    ag_status_t status = AG_OK;

    *peak_bytes_p = own;
    if (job->net->rank != 0) {
        return ag_net_send(job->net, &job->idle, 0, &own, sizeof(own));
    }
    for (int r = 1; r < job->net->n_ranks && status == AG_OK; r++) {
        uint64_t theirs;

        status = ag_net_recv(job->net, &job->idle, r, &theirs, sizeof(theirs));
        *peak_bytes_p = status == AG_OK && theirs > *peak_bytes_p ? theirs : *peak_bytes_p;
    }
    return status;
}

/* What all ranks do behind a step, alike. A failure ends the job: others wait for this rank. */
static ag_status_t after_step(loop_t *loop, uint64_t step, uint64_t *peak_bytes_p)
{
    const ag_train_opts_t *opts = loop->opts;
    ag_status_t status = AG_OK;

    if (step == opts->done_steps + 1 && opts->after_first != NULL) {
        status = opts->after_first(opts->arg);
    }
    if (status == AG_OK) {
        status = gather_peak(loop, peak_bytes_p);
    }
    if (status == AG_OK) {
        status = save_if_due(loop, step);
    }
    loop->job->broken |= status != AG_OK;
    return status;
}

/* The same step once more, in which each rank looks where it goes wrong. */
static ag_status_t find_bad(loop_t *loop, ag_bad_number_t *bad, int *rank_p)
{
    const ag_job_opts_t *job = &loop->job->opts;
    float totals[AG_N_TOTALS];
    ag_status_t status;

    loop->batch.update.is_frozen = loop->batch.update.finds_bad = true;
    status = ag_job_train(loop->job, loop->batch.steps, totals);
    *bad = *ag_job_bad_number(loop->job);
    *rank_p = 0;
    for (int r = 1; r < job->net->n_ranks && status == AG_OK; r++) {
        ag_bad_number_t theirs;

        status = ag_net_recv(job->net, &job->idle, r, &theirs, sizeof(theirs));
        if (status == AG_OK && ag_bad_number_is_before(&theirs, bad)) {
            *bad = theirs;
            *rank_p = r;
        }
    }
    return status;
}

static ag_status_t check_totals(loop_t *loop, const ag_train_step_t *step)
{
    bool is_loss = !isfinite(step->loss);
    ag_bad_number_t bad;
    char where[96] = "";
    int rank;
    ag_status_t status;

    if (loop->is_finite) {
        return AG_OK;
    }
    status = find_bad(loop, &bad, &rank);
    if (status != AG_OK) {
        return status;
    }
    if (bad.is_there) {
        snprintf(where, sizeof(where), ", first %s, on rank %d", bad.where, rank);
    }
    return ag_fail(AG_ERR_FORMAT,
                   "step %llu: the %s is no number%s: try a smaller --lr, more --warmup-steps, or "
                   "a smaller --clip-grad",
                   (unsigned long long)step->step, is_loss ? "loss" : "norm of the gradients",
                   where);
}

static ag_status_t do_step(loop_t *loop, uint64_t number)
{
    const ag_train_opts_t *opts = loop->opts;
    ag_train_batch_t *batch = &loop->batch;
    uint64_t n_rows = batch->n_micro_batches * batch->rows_each;
    uint64_t begin_ns = ag_clock_now_ns(&loop->job->opts.clock), read_ns;
    ag_train_step_t step = {.step = number, .lr = ag_lr_at(&opts->lr, number)};
    float totals[AG_N_TOTALS];
    ag_status_t status = ag_train_batch_read(batch, opts->data, loop->position, n_rows);

    if (status != AG_OK) {
        return status;
    }
    read_ns = ag_clock_now_ns(&loop->job->opts.clock);
    batch->update = opts->update;
    batch->update.number = number;
    batch->update.learning_rate = (float)step.lr;
    batch->update.loss_scale = (float)(1.0 / (double)batch->n_targets);
    batch->update.balance /= (float)batch->n_micro_batches;
    batch->update.z /= (float)batch->n_micro_batches;
    status = ag_job_train(loop->job, batch->steps, totals);
    if (status != AG_OK) {
        return status;
    }
    loop->position = ag_dataset_after(opts->data, loop->position, n_rows);
    step.loss = (double)totals[AG_TOTAL_LOSS] / (double)batch->n_targets;
    step.grad_norm = sqrt((double)totals[AG_TOTAL_SQUARES]);
    step.n_targets = batch->n_targets;
    step.n_tokens = batch->n_tokens;
    step.attended = batch->attended;
    step.next = loop->position;
    step.data_ns = read_ns - begin_ns;
    loop->is_finite = isfinite(step.loss) && isfinite(step.grad_norm);
    status = after_step(loop, number, &step.peak_bytes);
    step.ns = ag_clock_now_ns(&loop->job->opts.clock) - begin_ns;
    if (status == AG_OK) {
        status = check_totals(loop, &step);
    }
    return status == AG_OK ? opts->on_step(opts->arg, &step) : status;
}

/* All rows once, without a change. Rank 0 is the one that stops between two steps of it, for a run
 * that is to end: the others only follow. */
static ag_status_t evaluate(loop_t *loop, uint64_t number, bool *is_interrupted_p)
{
    const ag_train_opts_t *opts = loop->opts;
    ag_train_batch_t *batch = &loop->batch;
    ag_data_position_t position = ag_dataset_start(opts->eval_data);
    uint64_t n_left = ag_dataset_counts(opts->eval_data).rows, n_targets = 0;
    double sum = 0;
    ag_status_t status = AG_OK;

    while (n_left > 0 && status == AG_OK && !*is_interrupted_p) {
        uint64_t most = batch->n_micro_batches * batch->rows_each;
        uint64_t n = n_left < most ? n_left : most;
        float totals[AG_N_TOTALS];

        status = ag_train_batch_read(batch, opts->eval_data, position, n);
        batch->update =
            (ag_update_t){.number = number, .loss_scale = 1, .is_frozen = true, .evaluates = true};
        if (status == AG_OK) {
            status = ag_job_train(loop->job, batch->steps, totals);
        }
        sum += status == AG_OK ? (double)totals[AG_TOTAL_LOSS] : 0;
        n_targets += batch->n_targets;
        n_left -= n;
        position = ag_dataset_after(opts->eval_data, position, n);
        if (status == AG_OK && n_left > 0) {
            status = ag_job_is_cancelled(loop->job, is_interrupted_p);
        }
    }
    if (status != AG_OK || *is_interrupted_p) {
        return status;
    }
    return opts->on_eval(opts->arg, number, sum / (double)n_targets, n_targets);
}

static bool eval_is_due(const ag_train_opts_t *opts, uint64_t step)
{
    return opts->eval_data != NULL &&
           (step == opts->n_steps || (opts->eval_steps > 0 && step % opts->eval_steps == 0));
}

static ag_status_t lead(loop_t *loop, ag_train_end_t *end)
{
    const ag_train_opts_t *opts = loop->opts;
    ag_status_t stopped, status = ag_train_batch_init(ag_job_plan(loop->job),
                                                      ag_job_model(loop->job)->spec, &loop->batch);

    while (status == AG_OK && end->done_steps < opts->n_steps && !end->is_interrupted) {
        status = do_step(loop, end->done_steps + 1);
        end->done_steps += status == AG_OK;
        if (status == AG_OK) {
            status = ag_job_is_cancelled(loop->job, &end->is_interrupted);
        }
        if (status == AG_OK && eval_is_due(opts, end->done_steps)) {
            status = evaluate(loop, end->done_steps, &end->is_interrupted);
            if (status == AG_OK && end->is_interrupted) {
                ag_log(AG_LOG_WARNING, "the evaluation behind step %llu is left out",
                       (unsigned long long)end->done_steps);
            }
        }
    }
    end->position = loop->position;
    stopped = ag_job_stop(loop->job);
    ag_train_batch_fini(&loop->batch);
    return status == AG_OK ? stopped : status;
}

static ag_status_t follow(loop_t *loop, ag_train_end_t *end)
{
    ag_status_t status = AG_OK;
    bool is_over = false;

    while (status == AG_OK && !is_over) {
        ag_update_t update = {0};
        uint64_t peak_bytes;

        status = ag_job_follow_train(loop->job, &update, &is_over);
        if (status == AG_OK && !is_over && !update.is_frozen) {
            end->done_steps = update.number;
            status = after_step(loop, update.number, &peak_bytes);
        }
        if (status == AG_OK && !is_over && update.finds_bad) {
            status = ag_net_send(loop->job->opts.net, &loop->job->opts.idle, 0,
                                 ag_job_bad_number(loop->job), sizeof(ag_bad_number_t));
        }
    }
    return status;
}

/* What rank 0 knows of the end. */
typedef struct last_word {
    uint64_t done_steps;
    uint32_t is_interrupted, pad;
} last_word_t;

static ag_status_t agree_on_end(ag_job_t *job, ag_status_t status, ag_train_end_t *end)
{
    last_word_t word = {.done_steps = end->done_steps, .is_interrupted = end->is_interrupted};

    status = ag_agree(job->opts.net, &job->opts.idle, status, NULL);
    if (status == AG_OK) {
        status = ag_agree_broadcast(job->opts.net, &job->opts.idle, 0, &word, sizeof(word));
    }
    end->done_steps = word.done_steps;
    end->is_interrupted = word.is_interrupted != 0;
    return status;
}

ag_status_t ag_train(ag_job_t *job, const ag_train_opts_t *opts, ag_train_end_t *end_p)
{
    loop_t loop = {.job = job, .opts = opts, .position = opts->position};
    ag_train_end_t end = {.done_steps = opts->done_steps};
    ag_status_t status;

    ag_job_on_update(job, (ag_before_write_t){before_write, opts->saver});
    status = job->rank == 0 ? lead(&loop, &end) : follow(&loop, &end);
    ag_job_on_update(job, (ag_before_write_t){0});
    if (job->broken) {
        return status;
    }
    if (loop.is_saving) { /* on all ranks alike */
        ag_status_t saved = end_save(&loop, ag_saver_wait(opts->saver));

        status = status == AG_OK ? saved : status;
    }
    status = agree_on_end(job, status, &end);
    *end_p = end;
    return status;
}
