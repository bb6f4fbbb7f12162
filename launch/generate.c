/* argosy generate */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/input.h"
#include "runtime/file/npy.h"
#include "runtime/text/chat.h"
#include "runtime/text/stream.h"

/* Prompts: ids, ready to run. */
typedef struct prompts {
    ag_array_t ids;  /* int32_t: all prompts', one after the other */
    ag_array_t ends; /* size_t: where each one's end */
} prompts_t;

static const int32_t *ids_of(const prompts_t *prompts, size_t number, size_t *n_ids_p)
{
    const size_t *ends = AG_ITEMS(&prompts->ends, size_t);
    size_t begin = number > 0 ? ends[number - 1] : 0;

    *n_ids_p = ends[number] - begin;
    return AG_ITEMS(&prompts->ids, int32_t) + begin;
}

/* One answer on its way to standard output. */
typedef struct answer {
    ag_session_t *session;
    ag_text_stream_t stream;
    ag_array_t text;   /* char: all of it, for --json */
    ag_array_t tokens; /* int32_t */
    ag_stop_t stop;
    ag_run_figures_t figures;
} answer_t;

static ag_status_t put_bos(ag_array_t *ids, size_t begin, int32_t bos)
{
    ag_status_t status;

    if (ids->n_items > begin && AG_ITEMS(ids, int32_t)[begin] == bos) { /* never twice */
        return AG_OK;
    }
    status = ag_array_append(ids, NULL, 1);
    if (status == AG_OK) {
        memmove(AG_ITEMS(ids, int32_t) + begin + 1, AG_ITEMS(ids, int32_t) + begin,
                (ids->n_items - 1 - begin) * sizeof(int32_t));
        AG_ITEMS(ids, int32_t)[begin] = bos;
    }
    return status;
}

static ag_status_t end_prompt(prompts_t *prompts, size_t begin, const char *what)
{
    if (prompts->ids.n_items == begin) {
        return ag_fail(AG_ERR_INVALID, "%s: the prompt is empty: give at least one token", what);
    }
    return ag_array_append(&prompts->ends, &prompts->ids.n_items, 1);
}

static uint64_t held_bytes(const prompts_t *prompts)
{
    return prompts->ids.n_items * sizeof(int32_t) + prompts->ends.n_items * sizeof(size_t);
}

/**
 * @param what         where the text comes from.
 * @param made_bytes_p out: what stood in memory at the most beside the ids, the text included.
 */
static ag_status_t add_prompt(const ag_session_t *session, const char *what, const char *text,
                              size_t n_bytes, prompts_t *prompts, uint64_t *made_bytes_p)
{
    ag_chat_message_t turn = {.role = "user", .content = text, .content_bytes = n_bytes};
    bool chat = session->options->chat;
    int32_t bos = chat ? -1 : ag_tokenizer_bos(session->tokenizer); /* a template writes its own */
    size_t begin = prompts->ids.n_items;
    uint64_t encoding_bytes = 0;
    char *rendered = NULL;
    ag_status_t status = AG_OK;

    *made_bytes_p = n_bytes;
    ag_warn_utf8(what, text, n_bytes);
    if (chat) {
        status = ag_chat_render(session->tokenizer, &turn, 1, &rendered, &n_bytes);
        text = rendered;
        *made_bytes_p += n_bytes;
    }
    if (status == AG_OK) {
        status = ag_tokenizer_encode(session->tokenizer, text, n_bytes, AG_TOKEN_SPECIAL,
                                     &prompts->ids, &encoding_bytes);
    }
    *made_bytes_p += encoding_bytes;
    free(rendered);
    if (status == AG_OK && bos >= 0) {
        status = put_bos(&prompts->ids, begin, bos);
    }
    return status == AG_OK ? end_prompt(prompts, begin, what) : status;
}

static ag_status_t add_lines(ag_session_t *session, prompts_t *prompts)
{
    ag_lines_t lines;
    ag_json_t *json = NULL;
    ag_status_t status = ag_lines_open(session->options->prompts, &lines);

    while (status == AG_OK && (status = ag_lines_next(&lines, &json)) == AG_OK && json != NULL) {
        uint64_t made_bytes = 0;
        size_t n_text;
        const char *text = ag_json_string(json, &n_text);

        status = text != NULL ? add_prompt(session, lines.what, text, n_text, prompts, &made_bytes)
                              : ag_fail(AG_ERR_FORMAT, "%s: a JSON string is expected", lines.what);
        ag_json_destroy(json);
        ag_input_count(&session->input, held_bytes(prompts), ag_lines_bytes(&lines, made_bytes));
    }
    ag_lines_close(&lines);
    return status == AG_OK && prompts->ends.n_items == 0
               ? ag_fail(AG_ERR_INVALID, "%s has no prompts", session->options->prompts)
               : status;
}

static ag_status_t add_ids(ag_session_t *session, prompts_t *prompts)
{
    const char *path = session->options->tokens;
    int32_t *ids;
    size_t n_ids;
    ag_status_t status = ag_npy_read_ids(path, &ids, &n_ids);

    if (status != AG_OK) {
        return status;
    }
    prompts->ids =
        (ag_array_t){.items = ids, .n_items = n_ids, .capacity = n_ids, .item_bytes = sizeof(*ids)};
    status = ag_check_ids(session->model, path, ids, n_ids);
    ag_input_count(&session->input, held_bytes(prompts), 0);
    return status == AG_OK ? end_prompt(prompts, 0, path) : status;
}

static ag_status_t gather_prompts(ag_session_t *session, prompts_t *prompts)
{
    const ag_options_t *options = session->options;
    uint64_t made_bytes;
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
        return add_prompt(session, "--prompt", options->prompt, strlen(options->prompt), prompts,
                          &made_bytes);
    }
    status = ag_read_whole_file(options->prompt_file, &bytes, &n_bytes);
    if (status == AG_OK) {
        status = add_prompt(session, options->prompt_file, bytes, n_bytes, prompts, &made_bytes);
        ag_input_count(&session->input, held_bytes(prompts), made_bytes);
        free(bytes);
    }
    return status;
}

/* Positions that the longest prompt and its answer need, at most the model's. */
static ag_status_t needed_context(const ag_session_t *session, const prompts_t *prompts,
                                  uint32_t *context_p)
{
    uint32_t most = session->model->spec->context_tokens,
             given = session->options->plan.context_tokens;
    uint64_t longest = 0, needed;

    for (size_t i = 0; i < prompts->ends.n_items; i++) {
        size_t n;

        ids_of(prompts, i, &n);
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

static ag_json_t *ids_json(const int32_t *ids, size_t n_ids)
{
    ag_json_t *array = ag_json_new_array();

    for (size_t i = 0; i < n_ids; i++) {
        ag_json_append(array, ag_json_new_integer(ids[i]));
    }
    return array;
}

/* An answer's own figures; those of the whole job where that is over. */
static ag_status_t print_json(const answer_t *answer, const int32_t *prompt, size_t n_prompt,
                              const ag_report_t *report)
{
    static const char *const stops[] = {"eos", "length", "stop", "interrupted"};
    ag_stop_t stop = answer->stop;
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "prompt_tokens", ids_json(prompt, n_prompt));
    ag_json_set(json, "tokens", ids_json(answer->tokens.items, answer->tokens.n_items));
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
    sum->step_ns += one->step_ns;
    sum->compute_ns += one->compute_ns;
    sum->sampling_ns += one->sampling_ns;
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        sum->waits_ns[kind] += one->waits_ns[kind];
    }
    ag_profile_add(&sum->profile, &one->profile);
}

static void close_answer(answer_t *answer)
{
    ag_text_stream_fini(&answer->stream);
    ag_array_fini(&answer->text);
    ag_array_fini(&answer->tokens);
}

static ag_status_t answer_prompt(answer_t *answer, ag_sampler_t *sampler, const prompts_t *prompts,
                                 uint64_t number)
{
    const ag_options_t *options = answer->session->options;
    ag_generate_opts_t opts = {.max_tokens = options->max_tokens,
                               .ignore_end = options->ignore_eos,
                               .stream = number,
                               .calls = {.on_token = on_token, .is_end = is_end, .arg = answer}};
    size_t n_before, n_prompt;
    const int32_t *prompt = ids_of(prompts, number, &n_prompt);
    ag_status_t status;

    ag_text_stream_init(&answer->stream, options->stops, options->n_stops);
    status = ag_generate(answer->session->job, sampler, prompt, n_prompt, &opts, &answer->tokens,
                         &answer->stop, &answer->figures);
    n_before = answer->text.n_items;
    if (status == AG_OK) {
        status = ag_text_stream_flush(&answer->stream, &answer->text);
    }
    if (status == AG_OK) {
        status = print_new(answer, n_before);
    }
    return status == AG_OK && !options->json ? ag_write_out("\n", 1) : status;
}

/* Its line of JSON, where that is asked for. */
static ag_status_t tell_answer(const answer_t *answer, const prompts_t *prompts, uint64_t number)
{
    size_t n_prompt;
    const int32_t *prompt = ids_of(prompts, number, &n_prompt);
    ag_report_t report;
    ag_status_t status;

    if (!answer->session->options->json) {
        return AG_OK;
    }
    status = ag_make_report(answer->session, &answer->figures, &report);
    return status == AG_OK ? print_json(answer, prompt, n_prompt, &report) : status;
}

/* The job is over: the closing line, and what the last answer had to wait with for it. */
static ag_status_t conclude(ag_session_t *session, const answer_t *last, const prompts_t *prompts,
                            uint64_t number, const ag_run_figures_t *figures)
{
    ag_status_t status = ag_conclude(session, figures);

    if (status == AG_OK) {
        status = tell_answer(last, prompts, number);
    }
    if (status == AG_OK) {
        ag_print_figures(session);
    }
    return status == AG_OK && last->stop == AG_STOP_INTERRUPTED
               ? ag_fail(AG_ERR_INTERRUPTED, "interrupted")
               : status;
}

/* How evenly ranks worked is known when all have stopped: the last answer tells of it. */
static ag_status_t answer_each(ag_session_t *session, ag_sampler_t *sampler,
                               const prompts_t *prompts)
{
    ag_run_figures_t figures = {0};
    size_t n = prompts->ends.n_items;
    ag_status_t status = AG_OK, stopped;
    bool is_last = false;

    for (size_t i = 0; !is_last; i++) {
        answer_t answer = {.session = session, .text = AG_ARRAY(char), .tokens = AG_ARRAY(int32_t)};

        status = answer_prompt(&answer, sampler, prompts, i);
        add_phase(&figures.prefill, &answer.figures.prefill);
        add_phase(&figures.decode, &answer.figures.decode);
        is_last = i + 1 == n || answer.stop == AG_STOP_INTERRUPTED;
        if (status == AG_OK && !is_last) {
            status = tell_answer(&answer, prompts, i);
        }
        if (status != AG_OK || is_last) {
            is_last = true;
            stopped = ag_job_stop(session->job);
            status = status == AG_OK ? stopped : status;
            status = status == AG_OK ? conclude(session, &answer, prompts, i, &figures) : status;
        }
        close_answer(&answer);
    }
    return status;
}

static ag_status_t answer_all(ag_session_t *session, const prompts_t *prompts)
{
    ag_sampler_t *sampler = NULL;
    ag_status_t status =
        ag_sampler_create(session->model->spec->vocab, &session->options->sampling, &sampler);

    if (status != AG_OK) {
        ag_job_stop(session->job); /* which the other ranks wait for */
        return status;
    }
    status = answer_each(session, sampler, prompts);
    ag_sampler_destroy(sampler);
    return status;
}

ag_status_t ag_command_generate(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    prompts_t prompts = {.ids = AG_ARRAY(int32_t), .ends = AG_ARRAY(size_t)};
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
    ag_array_fini(&prompts.ids);
    ag_array_fini(&prompts.ends);
    return status;
}
