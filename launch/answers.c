#include "launch/answers.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/stream.h"

/* An answer's text. */
typedef struct words {
    ag_text_stream_t stream;
    ag_array_t text; /* char */
    bool is_done;
} words_t;

typedef struct answers {
    ag_session_t *session;
    const ag_prompts_t *prompts;
    ag_answer_t *answers; /* (n) */
    words_t *words;       /* (n) */
    size_t n, n_told;
    bool in_turn; /* one at a time: each has figures of its own */
    ag_run_figures_t figures;
} answers_t;

const int32_t *ag_prompt_ids(const ag_prompts_t *prompts, size_t number, size_t *n_ids_p)
{
    const size_t *ends = AG_ITEMS(&prompts->ends, size_t);
    size_t begin = number > 0 ? ends[number - 1] : 0;

    *n_ids_p = ends[number] - begin;
    return AG_ITEMS(&prompts->ids, int32_t) + begin;
}

uint64_t ag_prompt_bytes(void)
{
    return sizeof(ag_answer_t) + sizeof(words_t);
}

static words_t *words_of(const answers_t *all, const ag_answer_t *answer)
{
    return &all->words[answer->stream];
}

static bool is_end(void *arg, int32_t id)
{
    const answers_t *all = arg;

    return id == all->prompts->answer_end || ag_tokenizer_is_end(all->session->tokenizer, id);
}

/* What is new at the end of a text, where it is that text's turn, unless all comes as JSON. */
static ag_status_t print_new(const answers_t *all, const words_t *words, size_t n_before)
{
    return all->session->options->json || words != &all->words[all->n_told]
               ? AG_OK
               : ag_write_out(AG_ITEMS(&words->text, char) + n_before,
                              words->text.n_items - n_before);
}

/* The end of a line, where a text's has come in its turn. */
static ag_status_t print_end(const answers_t *all, const words_t *words)
{
    return all->session->options->json || words != &all->words[all->n_told] || !words->is_done
               ? AG_OK
               : ag_write_out("\n", 1);
}

static bool on_token(void *arg, ag_answer_t *answer, int32_t id, ag_status_t *status)
{
    const answers_t *all = arg;
    words_t *words = words_of(all, answer);
    size_t n_before = words->text.n_items, n_bytes;
    const char *piece = ag_tokenizer_piece(all->session->tokenizer, id, 0, &n_bytes);

    *status = ag_text_stream_push(&words->stream, piece, n_bytes, &words->text);
    if (*status == AG_OK) {
        *status = print_new(all, words, n_before);
    }
    return words->stream.stopped;
}

static ag_json_t *ids_json(const int32_t *ids, size_t n_ids)
{
    ag_json_t *array = ag_json_new_array();

    for (size_t i = 0; i < n_ids; i++) {
        ag_json_append(array, ag_json_new_integer(ids[i]));
    }
    return array;
}

/* @param report  figures; NULL: none of its own. */
static ag_status_t print_json(const ag_answer_t *answer, const words_t *words,
                              const ag_report_t *report)
{
    static const char *const stops[] = {"eos", "length", "stop", "interrupted"};
    const char *stop = stops[answer->stop];
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "prompt_tokens", ids_json(answer->prompt, answer->n_prompt));
    ag_json_set(json, "tokens", ids_json(answer->tokens.items, answer->tokens.n_items));
    ag_json_set(json, "text", ag_json_new_string(words->text.items, words->text.n_items));
    ag_json_set(json, "stop", ag_json_new_string(stop, strlen(stop)));
    if (report != NULL) {
        ag_report_to_json(report, json);
    }
    return ag_print_json_line(json);
}

static void release_words(words_t *words)
{
    ag_text_stream_fini(&words->stream);
    ag_array_fini(&words->text);
}

/* An answer is out, and done with; what there is of the next one goes out. */
static ag_status_t tell_next(answers_t *all, const ag_report_t *report)
{
    ag_answer_t *answer = &all->answers[all->n_told];
    words_t *words = &all->words[all->n_told++];
    ag_status_t status = all->session->options->json ? print_json(answer, words, report) : AG_OK;

    release_words(words);
    ag_array_fini(&answer->tokens);
    if (status == AG_OK && all->n_told < all->n) {
        words = &all->words[all->n_told];
        status = print_new(all, words, 0);
        status = status == AG_OK ? print_end(all, words) : status;
    }
    return status;
}

/* The end of a text, complete or not. */
static ag_status_t end_text(const answers_t *all, words_t *words)
{
    size_t n_before = words->text.n_items;
    ag_status_t status = ag_text_stream_flush(&words->stream, &words->text);

    words->is_done = true;
    if (status == AG_OK) {
        status = print_new(all, words, n_before);
    }
    return status == AG_OK ? print_end(all, words) : status;
}

/* Those that are done, in order; the last one waits for the figures. */
static ag_status_t on_answer(void *arg, ag_answer_t *answer)
{
    answers_t *all = arg;
    ag_status_t status = end_text(all, words_of(all, answer));

    while (status == AG_OK && !all->in_turn && all->n_told + 1 < all->n &&
           all->words[all->n_told].is_done) {
        status = tell_next(all, NULL);
    }
    return status;
}

static void add_phase(ag_phase_t *sum, const ag_phase_t *one)
{
    sum->steps += one->steps;
    sum->tokens += one->tokens;
    sum->outputs += one->outputs;
    sum->sequences += one->sequences;
    for (uint32_t i = 0; i < AG_MAX_LAYER_KINDS; i++) {
        sum->attended.pairs[i] += one->attended.pairs[i];
    }
    sum->ns += one->ns;
    sum->compute_ns += one->compute_ns;
    sum->sampling_ns += one->sampling_ns;
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        sum->waits_ns[kind] += one->waits_ns[kind];
    }
    ag_profile_add(&sum->profile, &one->profile);
}

/* Answer some of them, from the next one to tell. */
static ag_status_t answer_some(answers_t *all, size_t n, ag_run_figures_t *figures)
{
    const ag_options_t *options = all->session->options;
    ag_generate_opts_t opts = {
        .sampling = &options->sampling,
        .max_tokens = options->max_tokens,
        .ignore_end = options->ignore_eos,
        .calls = {.on_token = on_token, .is_end = is_end, .on_answer = on_answer, .arg = all}};

    return ag_generate(all->session->job, &all->answers[all->n_told], n, &opts, figures);
}

static bool was_interrupted(const answers_t *all)
{
    return all->n > 0 && all->answers[all->n - 1].stop == AG_STOP_INTERRUPTED;
}

/* One after the other, each with figures of its own but for the last, which waits for the job's. */
static ag_status_t answer_in_turn(answers_t *all)
{
    ag_status_t status = AG_OK;

    while (status == AG_OK) {
        ag_run_figures_t figures = {0};
        const ag_answer_t *answer = &all->answers[all->n_told];
        ag_report_t report;

        status = answer_some(all, 1, &figures);
        add_phase(&all->figures.prefill, &figures.prefill);
        add_phase(&all->figures.decode, &figures.decode);
        if (status == AG_OK && answer->stop == AG_STOP_INTERRUPTED) {
            all->n = all->n_told + 1; /* the others have no turn */
        }
        if (status != AG_OK || all->n_told + 1 == all->n) {
            break;
        }
        if (all->session->options->json) {
            status = ag_make_report(all->session, &figures, &report);
        }
        status = status == AG_OK ? tell_next(all, &report) : status;
    }
    return status;
}

/* Several at a time. Where that was interrupted, those that have begun are told of. */
static ag_status_t answer_together(answers_t *all)
{
    ag_status_t status = answer_some(all, all->n, &all->figures);
    size_t n_begun = all->n_told + 1;

    for (size_t i = all->n_told; i < all->n; i++) {
        n_begun = all->words[i].is_done || all->answers[i].tokens.n_items > 0 ? i + 1 : n_begun;
    }
    all->n = n_begun;
    while (status == AG_OK && all->n_told + 1 < all->n) {
        status = all->words[all->n_told].is_done ? AG_OK : end_text(all, &all->words[all->n_told]);
        status = status == AG_OK ? tell_next(all, NULL) : status;
    }
    return status;
}

/* The job is over: the closing line, and what the last answer had to wait with for it. */
static ag_status_t conclude(answers_t *all)
{
    bool interrupted = was_interrupted(all);
    words_t *last = &all->words[all->n_told];
    ag_status_t status = last->is_done ? AG_OK : end_text(all, last);

    if (status == AG_OK) {
        status = ag_conclude(all->session, &all->figures);
    }
    if (status == AG_OK) {
        status = tell_next(all, &all->session->report);
    }
    if (status == AG_OK) {
        ag_print_figures(all->session);
    }
    return status == AG_OK && interrupted ? ag_fail(AG_ERR_INTERRUPTED, "interrupted") : status;
}

static ag_status_t open_answers(answers_t *all)
{
    const ag_options_t *options = all->session->options;

    all->answers = calloc(all->n, sizeof(*all->answers));
    all->words = calloc(all->n, sizeof(*all->words));
    if (all->answers == NULL || all->words == NULL) {
        return ag_fail_nomem("answering", all->n * (sizeof(*all->answers) + sizeof(*all->words)));
    }
    for (size_t i = 0; i < all->n; i++) {
        all->answers[i] = (ag_answer_t){.stream = i, .tokens = AG_ARRAY(int32_t)};
        all->answers[i].prompt = ag_prompt_ids(all->prompts, i, &all->answers[i].n_prompt);
        all->words[i].text = AG_ARRAY(char);
        ag_text_stream_init(&all->words[i].stream, options->stops, options->n_stops);
    }
    return AG_OK;
}

static void close_answers(answers_t *all, size_t n)
{
    for (size_t i = all->n_told; all->words != NULL && all->answers != NULL && i < n; i++) {
        release_words(&all->words[i]);
        ag_array_fini(&all->answers[i].tokens);
    }
    free(all->answers);
    free(all->words);
}

ag_status_t ag_answer_all(ag_session_t *session, const ag_prompts_t *prompts)
{
    answers_t all = {.session = session, .prompts = prompts, .n = prompts->ends.n_items};
    size_t n = all.n;
    ag_status_t status = open_answers(&all), stopped;

    all.in_turn = session->plan->n_sequences == 1 || n == 1;
    if (status == AG_OK) {
        status = all.in_turn ? answer_in_turn(&all) : answer_together(&all);
    }
    stopped = ag_job_stop(session->job); /* which the other ranks wait for */
    status = status == AG_OK ? stopped : status;
    if (status == AG_OK) {
        status = conclude(&all);
    }
    close_answers(&all, n);
    return status;
}
