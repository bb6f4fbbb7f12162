/* argosy train */
#define _GNU_SOURCE
#include "launch/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/export.h"
#include "launch/output.h"
#include "runtime/base/line.h"
#include "runtime/base/log.h"

static bool is_root(const ag_training_t *training)
{
    return training->session->net->rank == 0;
}

/* A plan file says how long rows are. */
static ag_status_t find_seq_length(ag_training_t *training)
{
    const ag_options_t *options = training->session->options;
    ag_plan_t *plan = NULL;
    ag_status_t status = AG_OK;

    training->seq_length = options->plan.sequence_tokens;
    if (options->plan_file != NULL) {
        status = ag_session_read_plan(training->session, options->plan_file, &plan);
        if (status == AG_OK && plan->train.sequence_tokens == 0) {
            status = ag_fail(AG_ERR_INVALID,
                             "%s is a plan of inference: make it with argosy plan --train",
                             options->plan_file);
        }
        training->seq_length = status == AG_OK ? plan->train.sequence_tokens : 0;
        ag_plan_destroy(plan);
    }
    return status;
}

/* A seed that was given has nothing to choose where ids are learned in the order of their files and
 * weights are there. (Where it chose another order, ag_dataset_check() refuses to go on.) */
static void tell_seed(const ag_training_t *training)
{
    const ag_options_t *options = training->session->options;
    bool resumes = options->train.resume;

    if (options->seed_given && !ag_dataset_is_shuffled(training->data) &&
        (resumes || !ag_model_files_are_made(training->session->model->files))) {
        ag_log(AG_LOG_INFO,
               "--seed %llu changes nothing: ids are learned in the order of their files, and "
               "weights are the %s",
               (unsigned long long)options->train.seed, resumes ? "checkpoint's" : "model's");
    }
}

/* What some settings ask for of training, and nothing here has. */
static void tell_dropout(const ag_training_t *training)
{
    static const char *const keys[] = {"attention_dropout", "hidden_dropout", "resid_pdrop",
                                       "attn_pdrop",        "embd_pdrop",     "residual_dropout",
                                       "embedding_dropout"};
    const ag_json_t *config = ag_model_files_config(training->session->model->files);

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        double part = ag_json_number(ag_json_get(config, keys[i]), 0);

        if (part > 0) {
            ag_log(AG_LOG_WARNING, "config.json has %s %g: argosy trains without dropout", keys[i],
                   part);
            return;
        }
    }
}

/* Rank 0, before anything is computed: what is read, and where to. */
static ag_status_t open_files(ag_training_t *training)
{
    const ag_options_t *options = training->session->options;
    ag_status_t status = find_seq_length(training);

    if (status == AG_OK && options->output != NULL && !options->dry_run &&
        !options->train.verify_plan) {
        status = ag_train_output_check(options, &training->output);
    }
    if (status == AG_OK) {
        status = ag_training_open_data(training);
    }
    if (status == AG_OK) {
        tell_seed(training);
        tell_dropout(training);
    }
    if (status == AG_OK && options->train.verify_plan) {
        ag_input_bytes_t *input = &training->session->input;

        ag_input_count(
            input, input->held_bytes + ag_train_verify_bytes(training->session->model->spec), 0);
    }
    return status;
}

static ag_status_t refuse_router_losses(const ag_session_t *session)
{
    const ag_train_settings_t *settings = &session->options->train;

    return (settings->aux_loss > 0 || settings->z_loss > 0) &&
                   ag_spec_experts(session->model->spec).n == 0
               ? ag_fail(AG_ERR_INVALID,
                         "--moe-aux-loss and --moe-z-loss are for routers, and this model has no "
                         "experts: leave them out")
               : AG_OK;
}

/* How many steps there are: as asked for, or as many as the data has, of which those that were done
 * may have been of another size. The same on all ranks. */
static ag_status_t count_steps(ag_training_t *training)
{
    const ag_session_t *session = training->session;
    const ag_train_settings_t *settings = &session->options->train;
    ag_train_opts_t *opts = &training->opts;
    uint64_t rows_each =
        (uint64_t)ag_plan_micro_batches(session->plan) * session->plan->train.micro_batch_size;
    uint64_t epochs = settings->epochs > 0 ? settings->epochs : 1;

    opts->n_steps = settings->steps;
    if (is_root(training) && opts->n_steps == 0) {
        opts->n_steps = opts->done_steps +
                        ag_train_steps_left(training->data, opts->position, epochs, rows_each);
    }
    return ag_agree_broadcast(session->net, NULL, 0, &opts->n_steps, sizeof(opts->n_steps));
}

/* Weights, moments and the place in the data as they were after the last complete checkpoint. */
static ag_status_t load_checkpoint(ag_training_t *training, ag_checkpoint_t *checkpoint)
{
    const ag_session_t *session = training->session;
    ag_plan_model_t model = ag_build_plan_model(session->model);
    size_t n_tensors;
    const ag_saved_tensor_t *tensors = ag_catalog_saved(training->catalog, &n_tensors);
    ag_status_t status = ag_checkpoint_check_model(checkpoint, model.spec_hash, tensors, n_tensors);

    if (status == AG_OK) {
        status = ag_train_read_state(ag_checkpoint_state(checkpoint), &training->opts.position);
    }
    if (status == AG_OK && is_root(training)) {
        status = ag_dataset_check(training->data, training->opts.position);
    }
    status = ag_session_agree(training->session, status);
    if (status == AG_OK) {
        training->opts.done_steps = ag_checkpoint_step(checkpoint);
        status =
            ag_session_agree(training->session, ag_checkpoint_load(checkpoint, tensors, n_tensors));
    }
    return status;
}

static ag_status_t resume(ag_training_t *training)
{
    ag_session_t *session = training->session;
    ag_checkpoint_t *checkpoint;
    ag_status_t status = ag_agree_broadcast(session->net, NULL, 0, training->output.checkpoints,
                                            sizeof(training->output.checkpoints));

    if (status != AG_OK || !session->options->train.resume) {
        return status;
    }
    status = ag_checkpoint_open_together(session->net, NULL, training->output.checkpoints,
                                         AG_STEP_LAST, &checkpoint);
    if (status != AG_OK) {
        session->agreed = true;
        return status;
    }
    status = load_checkpoint(training, checkpoint);
    if (status == AG_OK && is_root(training)) {
        ag_log(AG_LOG_INFO, "going on from %s", ag_checkpoint_folder(checkpoint));
    }
    ag_checkpoint_close(checkpoint);
    return status;
}

static ag_status_t open_saver(ag_training_t *training)
{
    ag_session_t *session = training->session;
    /* after a checkpoint at the end nothing is overwritten any more */
    uint64_t copies_bytes = session->options->train.save_steps == 0 ? 1 : 0;
    ag_plan_model_t model = ag_build_plan_model(session->model);
    size_t n_tensors;
    const ag_saved_tensor_t *tensors = ag_catalog_saved(training->catalog, &n_tensors);
    ag_status_t status = ag_saver_create(session->net, NULL,
                                         &(ag_saver_opts_t){.dir = training->output.checkpoints,
                                                            .spec_hash = model.spec_hash,
                                                            .from_step = training->opts.done_steps,
                                                            .snapshot_bytes = copies_bytes},
                                         tensors, n_tensors, &training->saver);

    session->agreed = status != AG_OK;
    return status;
}

/* One line that is written over, where somebody looks; else one a second. */
static void show_progress(ag_training_t *training, const ag_train_step_t *step, double mfu)
{
    enum { LINE_NS = 1000000000 };
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t now_ns = ag_clock_now_ns(&clock), left = training->opts.n_steps - step->step;
    bool is_tty = isatty(STDERR_FILENO) != 0;
    uint64_t n_done = step->step - training->opts.done_steps;
    double left_s = (double)(now_ns - training->begin_ns) * 1e-9 / (double)n_done * (double)left;

    if (training->session->options->json ||
        (!is_tty && now_ns - training->shown_ns < LINE_NS && n_done > 1 && left > 0)) {
        return;
    }
    training->shown_ns = now_ns;
    fprintf(
        stderr,
        "%sstep %llu of %llu, loss %.4f, %.0f tokens/s, MFU %.1f%%, %.1f MiB, %.0f:%02.0f left%s",
        is_tty ? "\r\033[K" : "", (unsigned long long)step->step,
        (unsigned long long)training->opts.n_steps, step->loss,
        (double)step->n_targets / ((double)step->ns * 1e-9), 100 * mfu,
        (double)step->peak_bytes / 1048576.0, floor(left_s / 60), fmod(left_s, 60),
        !is_tty || left == 0 ? "\n" : "");
}

/* Under mpirun the process may be killed before it has saved. */
static void prepare_last_words(ag_training_t *training)
{
    uint64_t saved = ag_saver_last_step(training->saver);
    char text[512] = "\nstopping behind this step; ";

    if (training->told_step == saved + 1) {
        return;
    }
    training->told_step = saved + 1;
    if (saved > 0) {
        ag_line_append(text, sizeof(text), "the last complete checkpoint is %s/step-%llu",
                       training->output.checkpoints, (unsigned long long)saved);
    } else {
        ag_line_append(text, sizeof(text), "there is no checkpoint yet");
    }
    text[sizeof(text) - 2] = '\0';
    strcat(text, "\n");
    ag_session_set_last_words(text);
}

static ag_status_t on_step(void *arg, const ag_train_step_t *step)
{
    ag_training_t *training = arg;
    double flops = ag_train_flops(training->session->model->spec, step->n_tokens, step->n_targets,
                                  &step->attended);
    double mfu = flops / ((double)step->ns * 1e-9) / training->peak_flops_per_s;

    training->flops += flops;
    training->n_tokens += step->n_tokens;
    training->n_micro_batches += ag_plan_micro_batches(training->session->plan);
    for (int i = 0; i < AG_MAX_LAYER_KINDS; i++) {
        training->attended.pairs[i] += step->attended.pairs[i];
    }
    training->n_learned += step->n_targets;
    training->train_ns += step->ns;
    training->last_loss = step->loss;
    training->peak_bytes = step->peak_bytes;
    training->step_ns = step->ns;
    show_progress(training, step, mfu);
    prepare_last_words(training);
    return ag_train_output_step(&training->output, step, mfu, training->session->options->json);
}

static ag_status_t on_eval(void *arg, uint64_t step, double loss, uint64_t n_targets)
{
    ag_training_t *training = arg;

    ag_log(AG_LOG_INFO, "step %llu: the loss of %s is %.4f", (unsigned long long)step,
           training->session->options->train.eval_data.items[0], loss);
    return ag_train_output_eval(&training->output, step, loss, n_targets);
}

static ag_status_t save_gradients(void *arg)
{
    ag_training_t *training = arg;
    ag_status_t status =
        ag_catalog_save_gradients(training->catalog, training->session->options->train.save_grads);

    training->session->agreed = status != AG_OK;
    return status;
}

static void fill_opts(ag_training_t *training)
{
    const ag_train_settings_t *settings = &training->session->options->train;
    ag_train_opts_t *opts = &training->opts;

    opts->save_steps = settings->save_steps;
    opts->saver = training->saver;
    opts->peak_bytes = ag_process_peak_bytes;
    opts->after_first = settings->save_grads != NULL ? save_gradients : NULL;
    opts->arg = training;
    opts->data = training->data;
    opts->eval_data = training->eval_data;
    opts->eval_steps = settings->eval_steps;
    opts->lr = (ag_lr_t){.schedule = (ag_lr_schedule_t)settings->lr_schedule,
                         .most = settings->lr,
                         .warmup_steps = settings->warmup_steps,
                         .n_steps = opts->n_steps};
    opts->update = (ag_update_t){.beta1 = (float)settings->beta1,
                                 .beta2 = (float)settings->beta2,
                                 .eps = (float)settings->eps,
                                 .weight_decay = (float)settings->weight_decay,
                                 .clip_norm = (float)settings->clip_grad,
                                 .balance = (float)settings->aux_loss,
                                 .z = (float)settings->z_loss};
    opts->on_step = on_step;
    opts->on_eval = on_eval;
}

/* The model as it is now, as a Hugging Face folder. */
static ag_status_t export_model(ag_training_t *training)
{
    ag_session_t *session = training->session;
    ag_weight_source_t source = ag_catalog_source(training->catalog);
    ag_status_t status, ended;

    if (!is_root(training)) {
        status = ag_catalog_serve(training->catalog);
    } else {
        status = ag_export_hf(session->model, &source, &(ag_export_opts_t){.dtype = AG_F32},
                              training->output.dir);
        ended = ag_catalog_end(training->catalog);
        status = status == AG_OK ? ended : status;
    }
    return ag_session_agree(session, status);
}

/* What the run leaves behind: a checkpoint, and, of one that came to its end, the model. */
static ag_status_t leave(ag_training_t *training)
{
    ag_session_t *session = training->session;
    const ag_train_end_t *end = &training->end;
    ag_status_t status = AG_OK;

    if (end->done_steps > ag_saver_last_step(training->saver)) {
        status = ag_train_save(session->job, training->saver, end->done_steps, end->position);
        session->agreed = status != AG_OK;
        if (status != AG_OK) {
            char last[96];

            ag_saver_tell_last(training->saver, last, sizeof(last));
            return ag_fail_context(status, "%s", last);
        }
    }
    if (end->is_interrupted && end->done_steps < training->opts.n_steps) {
        session->agreed = true;
        return ag_fail(AG_ERR_INTERRUPTED,
                       "interrupted: step %llu of %llu is done and saved in %s/step-%llu, "
                       "--resume goes on",
                       (unsigned long long)end->done_steps,
                       (unsigned long long)training->opts.n_steps, training->output.checkpoints,
                       (unsigned long long)end->done_steps);
    }
    status = export_model(training);
    return status == AG_OK ? ag_train_report(training) : status;
}

static void print_end(const ag_training_t *training)
{
    double seconds = (double)training->train_ns * 1e-9;

    if (training->train_ns == 0) {
        ag_log(AG_LOG_INFO, "%llu steps were done before: nothing was left to train",
               (unsigned long long)training->end.done_steps);
        return;
    }
    ag_log(AG_LOG_INFO,
           "trained to step %llu: loss %.4f, %.0f tokens/s, %.1f of %.1f GFLOP/s possible here "
           "(MFU %.1f%%); held back by %s",
           (unsigned long long)training->end.done_steps, training->last_loss,
           (double)training->n_learned / seconds, training->flops / seconds * 1e-9,
           training->peak_flops_per_s * 1e-9,
           100 * training->flops / seconds / training->peak_flops_per_s,
           ag_train_held_back_by(training));
}

static ag_status_t run(ag_training_t *training)
{
    ag_session_t *session = training->session;
    ag_clock_t clock = ag_clock_monotonic();
    ag_status_t status = ag_session_agree(
        session, is_root(training)
                     ? ag_train_output_begin(&training->output, training->opts.done_steps,
                                             training->eval_data != NULL)
                     : AG_OK);

    if (status != AG_OK) {
        return status;
    }
    fill_opts(training);
    if (session->options->train.save_grads != NULL) {
        status = ag_session_agree(session, ag_job_keep_gradients(session->job));
    }
    if (status != AG_OK) {
        return status;
    }
    training->peak_flops_per_s = ag_train_peak(session);
    training->begin_ns = ag_clock_now_ns(&clock);
    if (is_root(training)) {
        prepare_last_words(training);
    }
    status = ag_train(session->job, &training->opts, &training->end);
    ag_session_set_last_words("");
    if (ag_job_is_broken(session->job)) {
        return status;
    }
    ag_job_take_profile(session->job, &training->profile);
    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = leave(training);
    }
    if (status == AG_OK && is_root(training)) {
        print_end(training);
    }
    return status;
}

/* Memory is taken: train. */
static ag_status_t train(ag_training_t *training)
{
    ag_session_t *session = training->session;
    ag_status_t status =
        ag_session_agree(session, ag_catalog_create(session->job, &training->catalog));

    if (status == AG_OK) {
        status = resume(training);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, count_steps(training));
    }
    if (status == AG_OK) {
        status = open_saver(training);
    }
    return status == AG_OK ? run(training) : status;
}

ag_status_t ag_command_train(ag_session_t *session)
{
    ag_training_t training = {.session = session};
    bool root = session->net->rank == 0;
    ag_status_t status = refuse_router_losses(session);

    if (status == AG_OK && root) {
        status = open_files(&training);
    }
    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = ag_session_plan(session, 0, session->options->train.eval_data.n_items > 0);
    }
    if (status == AG_OK && root) {
        training.opts.position = ag_dataset_start(training.data);
    }
    if (status == AG_OK && session->options->dry_run) {
        status = root ? ag_training_show_sample(&training) : AG_OK;
        status = status == AG_OK && root ? ag_print_plan(session) : status;
    } else if (status == AG_OK && session->options->train.verify_plan) {
        status = ag_session_agree(session, count_steps(&training));
        if (status == AG_OK) {
            fill_opts(&training);
            status = ag_train_verify(&training);
        }
    } else if (status == AG_OK) {
        status = ag_session_load(session);
        if (status == AG_OK) {
            status = train(&training);
        }
        if (!session->agreed) {
            status = ag_session_finish(session, status);
        }
    }
    ag_saver_destroy(training.saver);
    ag_catalog_destroy(training.catalog);
    ag_train_output_close(&training.output);
    if (status != AG_OK) {
        ag_train_output_forget(&training.output);
    }
    ag_dataset_close(training.data);
    ag_dataset_close(training.eval_data);
    return status;
}
