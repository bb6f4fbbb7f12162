/* argosy eval */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/input.h"
#include "runtime/file/npy.h"

typedef struct evaluation {
    int32_t *ids;
    size_t n_ids;
    uint32_t window;
    int32_t bos;
    ag_npy_writer_t *writer;
} evaluation_t;

static const char *input_of(const ag_session_t *session)
{
    return session->options->tokens != NULL ? session->options->tokens : session->options->text;
}

static ag_status_t read_text_ids(ag_session_t *session, evaluation_t *e)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    char *bytes;
    size_t n_bytes;
    uint64_t encoding_bytes = 0;
    ag_status_t status = ag_read_whole_file(session->options->text, &bytes, &n_bytes);

    if (status != AG_OK) {
        return status;
    }
    ag_warn_utf8(session->options->text, bytes, n_bytes);
    status = ag_tokenizer_encode(session->tokenizer, bytes, n_bytes, AG_TOKEN_SPECIAL, &ids,
                                 &encoding_bytes);
    ag_input_count(&session->input, ids.n_items * sizeof(int32_t), n_bytes + encoding_bytes);
    free(bytes);
    if (status != AG_OK) {
        ag_array_fini(&ids);
        return status;
    }
    e->ids = ids.items;
    e->n_ids = ids.n_items;
    if (e->n_ids > 0 && e->ids[0] == ag_tokenizer_bos(session->tokenizer)) {
        e->n_ids--; /* the first window brings it: never twice */
        memmove(e->ids, e->ids + 1, e->n_ids * sizeof(*e->ids));
    }
    return AG_OK;
}

/* How many tokens a window may hold: the context, without the BOS before it. */
static ag_status_t most_tokens(const ag_session_t *session, uint32_t *most_p)
{
    const ag_options_t *options = session->options;
    uint32_t model = session->model->spec->context_tokens, given = options->plan.context_tokens;
    uint32_t most = given > 0 ? given : model;

    if (given > model) {
        return ag_fail(AG_ERR_INVALID, "--context %u is beyond the model's %u: give at most that",
                       given, model);
    }
    if (options->window > most && given > 0) {
        return ag_fail(AG_ERR_INVALID,
                       "--window %u is beyond --context %u: give a smaller --window or a larger "
                       "--context",
                       options->window, given);
    }
    if (options->window > most) {
        return ag_fail(AG_ERR_INVALID,
                       "--window %u is beyond the model's context of %u: give --window %u or less",
                       options->window, most, most);
    }
    *most_p = most;
    return AG_OK;
}

static ag_status_t read_ids(ag_session_t *session, evaluation_t *e)
{
    const ag_options_t *options = session->options;
    ag_status_t status = options->tokens != NULL
                             ? ag_npy_read_ids(options->tokens, &e->ids, &e->n_ids)
                             : read_text_ids(session, e);

    if (status != AG_OK) {
        return status;
    }
    ag_input_count(&session->input, e->n_ids * sizeof(*e->ids), 0);
    return e->n_ids > 0 ? ag_check_ids(session->model, input_of(session), e->ids, e->n_ids)
                        : ag_fail(AG_ERR_INVALID, "%s has no token to predict", input_of(session));
}

/* What is to be run, and the context that needs. */
static ag_status_t gather(ag_session_t *session, evaluation_t *e, uint32_t *context_p)
{
    const ag_options_t *options = session->options;
    bool as_is = options->tokens != NULL && options->window == 0;
    uint32_t most = 0;
    ag_status_t status = most_tokens(session, &most);

    if (status == AG_OK) {
        status = read_ids(session, e);
    }
    if (status != AG_OK) {
        return status;
    }
    if (as_is && e->n_ids > most) {
        return ag_fail(AG_ERR_INVALID,
                       "%s has %zu tokens, the context is %u: give --window %u or less",
                       options->tokens, e->n_ids, most, most);
    }
    e->bos = as_is ? -1 : ag_tokenizer_bos(session->tokenizer);
    e->window = options->window > 0 ? options->window : most;
    e->window = e->window < e->n_ids ? e->window : (uint32_t)e->n_ids;
    *context_p = (options->plan.context_tokens > 0 ? most : e->window) + (e->bos >= 0);
    return AG_OK;
}

static ag_status_t write_logits(void *arg, const float *logits, uint64_t n_rows)
{
    return ag_npy_writer_rows(((evaluation_t *)arg)->writer, logits, n_rows);
}

static ag_status_t print_result(const ag_session_t *session, const evaluation_t *e,
                                const ag_eval_result_t *result)
{
    double nll = result->n_predicted > 0 ? result->nll_sum / (double)result->n_predicted : 0;
    ag_json_t *json;
    char line[256];

    if (!session->options->json && result->n_predicted == 0) {
        snprintf(line, sizeof(line), "%zu tokens, none of which has another before it\n", e->n_ids);
        return ag_write_out(line, strlen(line));
    }
    if (!session->options->json) {
        snprintf(line, sizeof(line), "%zu tokens, %llu predicted: mean nll %.6f, perplexity %.4f\n",
                 e->n_ids, (unsigned long long)result->n_predicted, nll, exp(nll));
        return ag_write_out(line, strlen(line));
    }
    json = ag_json_new_object();
    ag_json_set(json, "tokens", ag_json_new_integer((int64_t)e->n_ids));
    ag_json_set(json, "predicted", ag_json_new_integer((int64_t)result->n_predicted));
    if (result->n_predicted > 0) { /* a mean of none is no number */
        ag_json_set(json, "nll", ag_json_new_real(nll));
        ag_json_set(json, "perplexity", ag_json_new_real(exp(nll)));
    }
    return ag_print_json_line(json);
}

static ag_status_t open_logits(const ag_session_t *session, evaluation_t *e)
{
    uint64_t n_windows = (e->n_ids + e->window - 1) / e->window;
    uint64_t n_rows = e->n_ids + (e->bos >= 0 ? n_windows : 0);

    if (session->options->logits == NULL) {
        return AG_OK;
    }
    return ag_npy_writer_open(session->options->logits, n_rows, session->model->spec->vocab,
                              &e->writer);
}

static ag_status_t run(ag_session_t *session, evaluation_t *e)
{
    ag_eval_opts_t opts = {.window_tokens = e->window,
                           .bos = e->bos,
                           .on_logits = e->writer != NULL ? write_logits : NULL,
                           .arg = e};
    ag_eval_result_t result = {0};
    ag_run_figures_t figures = {0};
    ag_status_t status = ag_eval(session->job, e->ids, e->n_ids, &opts, &result, &figures);
    ag_status_t stopped = ag_job_stop(session->job), closed = AG_OK;

    if (status == AG_OK) {
        status = stopped;
    }
    if (e->writer != NULL && status == AG_OK) {
        status = ag_npy_writer_close(e->writer);
        e->writer = NULL;
    }
    if (status == AG_OK) {
        status = print_result(session, e, &result);
    }
    if (status == AG_OK || status == AG_ERR_INTERRUPTED) { /* figures, also of a part */
        closed = ag_conclude(session, &figures);
    }
    if (closed == AG_OK && (status == AG_OK || status == AG_ERR_INTERRUPTED)) {
        ag_print_figures(session);
    }
    return status == AG_OK                ? closed
           : status == AG_ERR_INTERRUPTED ? ag_fail(status, "interrupted")
                                          : status;
}

ag_status_t ag_command_eval(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    evaluation_t e = {.bos = -1};
    uint32_t context = 0;
    ag_status_t status = ag_session_agree(session, root ? gather(session, &e, &context) : AG_OK);

    if (status == AG_OK && !session->options->dry_run) {
        status = ag_session_agree(session, root ? open_logits(session, &e) : AG_OK);
    }
    if (status == AG_OK) {
        status = ag_session_plan(session, context, true);
    }
    if (status == AG_OK && session->options->dry_run) {
        status = root ? ag_print_plan(session) : AG_OK;
    } else if (status == AG_OK) {
        status = ag_session_load(session);
        if (status == AG_OK) {
            status = root ? run(session, &e) : ag_job_follow(session->job);
        }
        if (!session->agreed) {
            status = ag_session_finish(session, status);
        }
    }
    ag_npy_writer_discard(e.writer);
    free(e.ids);
    return status;
}
