/* argosy generate */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/**
 * @param what         where the text comes from.
 * @param made_bytes_p out: what stood in memory at the most beside the ids, the text included.
 */
static ag_status_t add_prompt(const ag_session_t *session, const char *what, const char *text,
                              size_t n_bytes, ag_prompts_t *prompts, uint64_t *made_bytes_p)
{
    ag_chat_message_t turn = {.role = "user", .content = text, .content_bytes = n_bytes};
    bool chat = session->options->chat;
    /* a template writes its own */
    int32_t bos = chat ? -1 : ag_tokenizer_bos(session->tokenizer);
    int32_t after = chat ? -1 : ag_tokenizer_after(session->tokenizer);
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
    if (status == AG_OK && after >= 0) {
        status = ag_array_append(&prompts->ids, &after, 1);
    }
    return status == AG_OK ? end_prompt(prompts, begin, what) : status;
}

static ag_status_t add_lines(ag_session_t *session, ag_prompts_t *prompts)
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

ag_status_t ag_prompts_gather(ag_session_t *session, ag_prompts_t *prompts)
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
