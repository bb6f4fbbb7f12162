/* argosy generate */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/input.h"
#include "runtime/file/npy.h"
#include "runtime/text/chat.h"
#include "runtime/text/stream.h"

/* A prompt: ids, ready to run. */
typedef struct prompt {
    ag_array_t ids; /* int32_t */
} prompt_t;

/* One answer on its way to standard output. */
typedef struct answer {
    ag_session_t *session;
    ag_text_stream_t stream;
    ag_array_t text;   /* char: all of it, for --json */
    ag_array_t tokens; /* int32_t */
} answer_t;

/* @param what  where the text comes from. */
static ag_status_t encode_text(const ag_session_t *session, const char *what, const char *text,
                               size_t n_bytes, ag_array_t *ids)
{
    int32_t bos = ag_tokenizer_bos(session->tokenizer);
    ag_status_t status;

    ag_warn_utf8(what, text, n_bytes);
    status = ag_tokenizer_encode(session->tokenizer, text, n_bytes, AG_TOKEN_SPECIAL, ids, NULL);
    if (status == AG_OK && bos >= 0 &&
        (ids->n_items == 0 || AG_ITEMS(ids, int32_t)[0] != bos)) { /* never twice */
        status = ag_array_append(ids, NULL, 1);
        if (status == AG_OK) {
            memmove(AG_ITEMS(ids, int32_t) + 1, ids->items, (ids->n_items - 1) * sizeof(int32_t));
            AG_ITEMS(ids, int32_t)[0] = bos;
        }
    }
    return status;
}

static ag_status_t add_prompt(const ag_session_t *session, const char *what, const char *text,
                              size_t n_bytes, ag_array_t *prompts)
{
    prompt_t prompt = {.ids = AG_ARRAY(int32_t)};
    ag_chat_message_t turn = {.role = "user", .content = text, .content_bytes = n_bytes};
    char *rendered = NULL;
    ag_status_t status = AG_OK;

    if (session->options->chat) {
        status = ag_chat_render(session->tokenizer, &turn, 1, &rendered, &n_bytes);
        text = rendered;
    }
    if (status == AG_OK) {
        status = encode_text(session, what, text, n_bytes, &prompt.ids);
    }
    free(rendered);
    if (status == AG_OK && prompt.ids.n_items == 0) {
        status = ag_fail(AG_ERR_INVALID, "%s: the prompt is empty: give at least one token", what);
    }
    if (status == AG_OK) {
        status = ag_array_append(prompts, &prompt, 1);
    }
    if (status != AG_OK) {
        ag_array_fini(&prompt.ids);
    }
    return status;
}

static ag_status_t add_lines(const ag_session_t *session, ag_array_t *prompts)
{
    ag_lines_t lines;
    ag_json_t *json = NULL;
    ag_status_t status = ag_lines_open(session->options->prompts, &lines);

    while (status == AG_OK && (status = ag_lines_next(&lines, &json)) == AG_OK && json != NULL) {
        size_t n_text;
        const char *text = ag_json_string(json, &n_text);

        status = text != NULL ? add_prompt(session, lines.what, text, n_text, prompts)
                              : ag_fail(AG_ERR_FORMAT, "%s: a JSON string is expected", lines.what);
        ag_json_destroy(json);
    }
    ag_lines_close(&lines);
    return status == AG_OK && prompts->n_items == 0
               ? ag_fail(AG_ERR_INVALID, "%s has no prompts", session->options->prompts)
               : status;
}

static ag_status_t add_ids(const ag_session_t *session, ag_array_t *prompts)
{
    prompt_t prompt = {.ids = AG_ARRAY(int32_t)};
    int32_t *ids;
    size_t n_ids;
    ag_status_t status = ag_npy_read_ids(session->options->tokens, &ids, &n_ids);

    if (status != AG_OK) {
        return status;
    }
    status = ag_check_ids(session->model, session->options->tokens, ids, n_ids);
    if (status == AG_OK) {
        status = ag_array_append(&prompt.ids, ids, n_ids);
    }
    free(ids);
    if (status == AG_OK && n_ids == 0) {
        status = ag_fail(AG_ERR_INVALID, "%s has no token: the prompt is empty",
                         session->options->tokens);
    }
    if (status == AG_OK) {
        status = ag_array_append(prompts, &prompt, 1);
    }
    if (status != AG_OK) {
        ag_array_fini(&prompt.ids);
    }
    return status;
}

static ag_status_t gather_prompts(const ag_session_t *session, ag_array_t *prompts)
{
    const ag_options_t *options = session->options;
    char *bytes;
    size_t n_bytes;
    ag_status_t status;

    if (options->tokens != NULL) {
        return add_ids(session, prompts);
    }
    if (options->prompts != NULL) {
        return add_lines(session, prompts);
    }
    if (options->prompt != NULL) {
        return add_prompt(session, "--prompt", options->prompt, strlen(options->prompt), prompts);
    }
    status = ag_read_whole_file(options->prompt_file, &bytes, &n_bytes);
    if (status == AG_OK) {
        status = add_prompt(session, options->prompt_file, bytes, n_bytes, prompts);
        free(bytes);
    }
    return status;
}

/* Positions that the longest prompt and its answer need, at most the model's. */
static ag_status_t needed_context(const ag_session_t *session, const ag_array_t *prompts,
                                  uint32_t *context_p)
{
    uint32_t most = session->model->spec->context_tokens,
             given = session->options->plan.context_tokens;
    uint64_t longest = 0, needed;

    for (size_t i = 0; i < prompts->n_items; i++) {
        size_t n = AG_ITEMS(prompts, prompt_t)[i].ids.n_items;

        longest = n > longest ? n : longest;
    }
    most = given > 0 && given < most ? given : most;
    if (longest > most) {
        return ag_fail(AG_ERR_INVALID, "the prompt has %llu tokens, but the %s is %u: shorten it%s",
                       (unsigned long long)longest, given > 0 ? "--context" : "model's context",
                       most, given > 0 ? ", or give a larger --context" : "");
    }
    needed = longest + session->options->max_tokens;
    *context_p = needed < most ? (uint32_t)needed : most;
    return AG_OK;
}

static bool is_end(void *arg, int32_t id)
{
    return ag_tokenizer_is_end(((answer_t *)arg)->session->tokenizer, id);
}

/* What is new at the end of the text goes out at once, unless all of it comes as JSON. */
static ag_status_t print_new(const answer_t *answer, size_t n_before)
{
    return answer->session->options->json ? AG_OK
                                          : ag_write_out(AG_ITEMS(&answer->text, char) + n_before,
                                                         answer->text.n_items - n_before);
}

static bool on_token(void *arg, int32_t id, ag_status_t *status)
{
    answer_t *answer = arg;
    size_t n_before = answer->text.n_items, n_bytes;
    const char *piece = ag_tokenizer_piece(answer->session->tokenizer, id, 0, &n_bytes);

    *status = ag_text_stream_push(&answer->stream, piece, n_bytes, &answer->text);
    if (*status == AG_OK) {
        *status = print_new(answer, n_before);
    }
    return answer->stream.stopped;
}

static ag_json_t *ids_json(const ag_array_t *ids)
{
    ag_json_t *array = ag_json_new_array();

    for (size_t i = 0; i < ids->n_items; i++) {
        ag_json_append(array, ag_json_new_integer(AG_ITEMS(ids, int32_t)[i]));
    }
    return array;
}

static ag_status_t print_json(const answer_t *answer, const prompt_t *prompt, ag_stop_t stop,
                              const ag_report_t *report)
{
    static const char *const stops[] = {"eos", "length", "stop", "interrupted"};
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "prompt_tokens", ids_json(&prompt->ids));
    ag_json_set(json, "tokens", ids_json(&answer->tokens));
    ag_json_set(json, "text", ag_json_new_string(answer->text.items, answer->text.n_items));
    ag_json_set(json, "stop", ag_json_new_string(stops[stop], strlen(stops[stop])));
    ag_report_to_json(report, json);
    return ag_print_json_line(json);
}

static void add_phase(ag_phase_t *sum, const ag_phase_t *one)
{
    sum->steps += one->steps;
    sum->tokens += one->tokens;
    sum->outputs += one->outputs;
    sum->attended += one->attended;
    sum->ns += one->ns;
    sum->compute_ns += one->compute_ns;
    ag_profile_add(&sum->profile, &one->profile);
}

static ag_status_t answer_prompt(ag_session_t *session, ag_sampler_t *sampler,
                                 const prompt_t *prompt, uint64_t number, ag_stop_t *stop_p,
                                 ag_run_figures_t *sum)
{
    answer_t answer = {.session = session, .text = AG_ARRAY(char), .tokens = AG_ARRAY(int32_t)};
    ag_generate_opts_t opts = {.max_tokens = session->options->max_tokens,
                               .ignore_end = session->options->ignore_eos,
                               .stream = number,
                               .calls = {.on_token = on_token, .is_end = is_end, .arg = &answer}};
    ag_run_figures_t figures = {0};
    ag_report_t report;
    size_t n_before;
    ag_status_t status;

    ag_text_stream_init(&answer.stream, session->options->stops, session->options->n_stops);
    status = ag_generate(session->job, sampler, AG_ITEMS(&prompt->ids, int32_t),
                         prompt->ids.n_items, &opts, &answer.tokens, stop_p, &figures);
    n_before = answer.text.n_items;
    if (status == AG_OK) {
        status = ag_text_stream_flush(&answer.stream, &answer.text);
    }
    if (status == AG_OK) {
        status = print_new(&answer, n_before);
    }
    if (status == AG_OK) {
        status = ag_make_report(session, &figures, &report);
    }
    if (status == AG_OK) {
        status = session->options->json ? print_json(&answer, prompt, *stop_p, &report)
                                        : ag_write_out("\n", 1);
    }
    add_phase(&sum->prefill, &figures.prefill);
    add_phase(&sum->decode, &figures.decode);
    ag_text_stream_fini(&answer.stream);
    ag_array_fini(&answer.text);
    ag_array_fini(&answer.tokens);
    return status;
}

static ag_status_t answer_all(ag_session_t *session, const ag_array_t *prompts)
{
    ag_run_figures_t figures = {0};
    ag_sampler_t *sampler = NULL;
    ag_stop_t stop = AG_STOP_END;
    ag_status_t status, stopped;

    status = ag_sampler_create(session->model->spec->vocab, &session->options->sampling, &sampler);
    for (size_t i = 0; i < prompts->n_items && status == AG_OK && stop != AG_STOP_INTERRUPTED;
         i++) {
        status =
            answer_prompt(session, sampler, &AG_ITEMS(prompts, prompt_t)[i], i, &stop, &figures);
    }
    ag_sampler_destroy(sampler);
    stopped = ag_job_stop(session->job);
    status = status == AG_OK ? stopped : status;
    if (status == AG_OK) {
        status = ag_print_figures(session, &figures);
    }
    return status == AG_OK && stop == AG_STOP_INTERRUPTED
               ? ag_fail(AG_ERR_INTERRUPTED, "interrupted")
               : status;
}

ag_status_t ag_command_generate(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    ag_array_t prompts = AG_ARRAY(prompt_t);
    uint32_t context = 0;
    ag_status_t status = root ? gather_prompts(session, &prompts) : AG_OK;

    if (status == AG_OK && root) {
        status = needed_context(session, &prompts, &context);
    }
    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = ag_session_plan(session, context, false);
    }
    if (status == AG_OK && session->options->dry_run) {
        status = root ? ag_print_plan(session) : AG_OK;
    } else if (status == AG_OK) {
        status = ag_session_load(session);
        if (status == AG_OK) {
            status = root ? answer_all(session, &prompts) : ag_job_follow(session->job);
        }
        if (!session->agreed) {
            status = ag_session_finish(session, status);
        }
    }
    for (size_t i = 0; i < prompts.n_items; i++) {
        ag_array_fini(&AG_ITEMS(&prompts, prompt_t)[i].ids);
    }
    ag_array_fini(&prompts);
    return status;
}
