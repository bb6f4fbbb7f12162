/* argosy generate */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launch/answers.h"
#include "launch/input.h"
#include "runtime/base/log.h"
#include "runtime/file/npy.h"
#include "runtime/text/chat.h"

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

static ag_status_t end_prompt(ag_prompts_t *prompts, size_t begin, const char *what)
{
    if (prompts->ids.n_items == begin) {
        return ag_fail(AG_ERR_INVALID, "%s: the prompt is empty: give at least one token", what);
    }
    return ag_array_append(&prompts->ends, &prompts->ids.n_items, 1);
}

static uint64_t held_bytes(const ag_prompts_t *prompts)
{
    return prompts->ids.n_items * sizeof(int32_t) +
           prompts->ends.n_items * (sizeof(size_t) + ag_prompt_bytes());
}

/* Prompts in the making. */
typedef struct gathering {
    ag_session_t *session;
    ag_prompts_t *prompts;
    ag_chat_t *chat; /* NULL: prompts are text */
    ag_chat_text_t turn;
} gathering_t;

/* A system turn, where there is to be one, a user turn and the beginning of an answer. */
static ag_status_t render_turns(gathering_t *g, const char *text, size_t n_bytes)
{
    const char *system = g->session->options->system_prompt;
    ag_chat_message_t turns[2] = {{.role = "system", .content = system}};
    size_t n = system != NULL;

    if (system != NULL) {
        turns[0].content_bytes = strlen(system);
    }
    turns[n] = (ag_chat_message_t){.role = "user", .content = text, .content_bytes = n_bytes};
    return ag_chat_render(g->chat, turns, n + 1, true, &g->turn);
}

/* The text as it is, or in turns. */
static ag_status_t encode(gathering_t *g, const char *text, size_t n_bytes, uint64_t *made_bytes_p)
{
    const ag_tokenizer_t *tokenizer = g->session->tokenizer;
    uint64_t encoding_bytes = 0;
    ag_status_t status;

    if (g->chat == NULL) {
        status = ag_tokenizer_encode(tokenizer, text, n_bytes, AG_TOKEN_SPECIAL, &g->prompts->ids,
                                     &encoding_bytes);
    } else {
        status = render_turns(g, text, n_bytes);
        if (status == AG_OK) {
            status = ag_chat_encode(tokenizer, &g->turn, 0, g->turn.text.n_items, 0,
                                    &g->prompts->ids, &encoding_bytes);
        }
        *made_bytes_p += g->turn.text.n_items;
    }
    *made_bytes_p += encoding_bytes;
    return status;
}

/**
 * @param what         where the text comes from.
 * @param made_bytes_p out: what stood in memory at the most beside the ids, the text included.
 */
static ag_status_t add_prompt(gathering_t *g, const char *what, const char *text, size_t n_bytes,
                              uint64_t *made_bytes_p)
{
    /* a template writes its own; what is to go on has no EOS behind it */
    int32_t bos = g->chat != NULL ? -1 : ag_tokenizer_bos(g->session->tokenizer);
    size_t begin = g->prompts->ids.n_items;
    ag_status_t status;

    *made_bytes_p = n_bytes;
    ag_warn_utf8(what, text, n_bytes);
    status = encode(g, text, n_bytes, made_bytes_p);
    if (status == AG_OK && bos >= 0) {
        status = put_bos(&g->prompts->ids, begin, bos);
    }
    return status == AG_OK ? end_prompt(g->prompts, begin, what) : status;
}

static ag_status_t add_lines(gathering_t *g)
{
    ag_session_t *session = g->session;
    ag_lines_t lines;
    ag_json_t *json = NULL;
    ag_status_t status = ag_lines_open(session->options->prompts, &lines);

    while (status == AG_OK && (status = ag_lines_next(&lines, &json)) == AG_OK && json != NULL) {
        uint64_t made_bytes = 0;
        size_t n_text;
        const char *text = ag_json_string(json, &n_text);

        status = text != NULL ? add_prompt(g, lines.what, text, n_text, &made_bytes)
                              : ag_fail(AG_ERR_FORMAT, "%s: a JSON string is expected", lines.what);
        ag_json_destroy(json);
        ag_input_count(&session->input, held_bytes(g->prompts), ag_lines_bytes(&lines, made_bytes));
    }
    ag_lines_close(&lines);
    return status == AG_OK && g->prompts->ends.n_items == 0
               ? ag_fail(AG_ERR_INVALID, "%s has no prompts", session->options->prompts)
               : status;
}

static ag_status_t add_ids(ag_session_t *session, ag_prompts_t *prompts)
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

/* The options' chat template, on today's date unless they say another. */
static ag_status_t open_chat(gathering_t *g)
{
    ag_chat_opts_t opts = g->session->options->chat_opts;
    time_t now = time(NULL);
    struct tm today;

    if (opts.date.year == 0 && localtime_r(&now, &today) != NULL) {
        opts.date = (ag_date_t){.year = (unsigned)today.tm_year + 1900,
                                .month = (unsigned)today.tm_mon + 1,
                                .day = (unsigned)today.tm_mday};
    }
    return ag_chat_open(g->session->tokenizer, &opts, &g->chat);
}

static ag_status_t add_texts(gathering_t *g)
{
    const ag_options_t *options = g->session->options;
    uint64_t made_bytes;
    char *bytes;
    size_t n_bytes;
    ag_status_t status;

    if (options->prompts != NULL) {
        return add_lines(g);
    }
    if (options->prompt != NULL) {
        return add_prompt(g, "--prompt", options->prompt, strlen(options->prompt), &made_bytes);
    }
    status = ag_read_whole_file(options->prompt_file, &bytes, &n_bytes);
    if (status == AG_OK) {
        status = add_prompt(g, options->prompt_file, bytes, n_bytes, &made_bytes);
        ag_input_count(&g->session->input, held_bytes(g->prompts), made_bytes);
        free(bytes);
    }
    return status;
}

ag_status_t ag_prompts_gather(ag_session_t *session, ag_prompts_t *prompts)
{
    gathering_t g = {.session = session, .prompts = prompts};
    ag_status_t status = AG_OK;

    prompts->answer_end = -1;

    if (session->options->tokens != NULL) {
        return add_ids(session, prompts);
    }
    ag_chat_text_init(&g.turn);
    if (session->options->chat) {
        status = open_chat(&g);
        prompts->answer_end = status == AG_OK ? ag_chat_end(g.chat) : -1;
    }
    if (status == AG_OK) {
        status = add_texts(&g);
    }
    ag_chat_close(g.chat);
    ag_chat_text_fini(&g.turn);
    return status;
}

/* A plan file has the context that it has: answers end with it, where nobody asked for more. */
static ag_status_t cut_to_plan(const ag_session_t *session, uint64_t longest, uint32_t *context_p)
{
    const ag_options_t *options = session->options;
    ag_plan_t *plan = NULL;
    ag_status_t status = ag_session_read_plan(session, options->plan_file, &plan);
    uint32_t context = status == AG_OK ? plan->context_tokens : 0;

    ag_plan_destroy(plan);
    if (status == AG_OK && longest <= context && context < *context_p) {
        ag_log(AG_LOG_WARNING,
               "%s has a context of %u tokens: an answer ends there, not after %u tokens (make "
               "the plan with a larger --context, or say so with --max-tokens)",
               options->plan_file, context, options->max_tokens);
        *context_p = context;
    }
    return status;
}

/* Positions that the longest prompt and its answer need, at most the model's. */
static ag_status_t needed_context(const ag_session_t *session, const ag_prompts_t *prompts,
                                  uint32_t *context_p)
{
    uint32_t most = session->model->spec->context_tokens,
             given = session->options->plan.context_tokens;
    uint64_t longest = 0, needed;

    for (size_t i = 0; i < prompts->ends.n_items; i++) {
        size_t n;

        ag_prompt_ids(prompts, i, &n);
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
    return session->options->plan_file != NULL && !session->options->max_tokens_given
               ? cut_to_plan(session, longest, context_p)
               : AG_OK;
}

ag_status_t ag_command_generate(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    ag_prompts_t prompts = {.ids = AG_ARRAY(int32_t), .ends = AG_ARRAY(size_t)};
    uint32_t context = 0;
    ag_status_t status = root ? ag_prompts_gather(session, &prompts) : AG_OK;

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
            status = root ? ag_answer_all(session, &prompts) : ag_job_follow(session->job);
        }
        if (!session->agreed) {
            status = ag_session_finish(session, status);
        }
    }
    ag_array_fini(&prompts.ids);
    ag_array_fini(&prompts.ends);
    return status;
}
