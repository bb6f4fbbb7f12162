/* argosy bench model: a prefill, then a decode at that depth, beside limits measured in the same
 * run. */
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/memory_probe.h"
#include "runtime/base/philox.h"

enum { WARM_TOKENS = 64, WARM_STEPS = 3, PROBE_EVERY = 8 };

/* What is measured between tokens. */
typedef struct between {
    ag_memory_probe_t memory;
    uint64_t n_tokens;
} between_t;

static void between_tokens(void *arg)
{
    between_t *between = arg;

    if (++between->n_tokens % PROBE_EVERY == 0) {
        ag_memory_probe_pass(&between->memory);
    }
}

/* Any ids do: what is computed does not depend on them. */
static ag_status_t make_prompt(const ag_session_t *session, ag_array_t *ids)
{
    uint32_t n = session->options->prompt_tokens, vocab = session->model->spec->vocab;
    ag_status_t status = ag_array_append(ids, NULL, n);

    for (uint32_t i = 0; status == AG_OK && i < n; i++) {
        uint32_t id = (uint32_t)(ag_philox_uniform(1, 0, i) * vocab);

        AG_ITEMS(ids, int32_t)[i] = (int32_t)(id < vocab ? id : vocab - 1);
    }
    return status;
}

/* As many sequences as the plan has, of one prompt. */
static ag_status_t make_answers(const ag_session_t *session, const ag_array_t *ids, size_t n_prompt,
                                ag_answer_t **answers_p)
{
    uint32_t n = session->plan->n_sequences;
    ag_answer_t *answers = calloc(n, sizeof(*answers));

    if (answers == NULL) {
        return ag_fail_nomem("making sequences", n * sizeof(*answers));
    }
    for (uint32_t i = 0; i < n; i++) {
        answers[i] = (ag_answer_t){.prompt = AG_ITEMS(ids, int32_t),
                                   .n_prompt = n_prompt,
                                   .stream = i,
                                   .tokens = AG_ARRAY(int32_t)};
    }
    *answers_p = answers;
    return AG_OK;
}

/* Prefill so many, then decode so many steps: the first token comes from the prefill. */
static ag_status_t run(ag_session_t *session, const ag_array_t *ids, size_t n_prompt,
                       uint32_t n_steps, between_t *between, ag_run_figures_t *figures)
{
    uint32_t n = session->plan->n_sequences;
    ag_generate_opts_t opts = {.sampling = &(ag_sampling_t){0},
                               .max_tokens = n_steps + 1,
                               .ignore_end = true,
                               .calls = {.pause = between_tokens, .arg = between}};
    ag_answer_t *answers = NULL;
    bool interrupted = false;
    ag_status_t status = make_answers(session, ids, n_prompt, &answers);

    if (status == AG_OK) {
        status = ag_generate(session->job, answers, n, &opts, figures);
    }
    for (uint32_t i = 0; answers != NULL && i < n; i++) {
        interrupted |= answers[i].stop == AG_STOP_INTERRUPTED;
        ag_array_fini(&answers[i].tokens);
    }
    free(answers);
    if (status == AG_OK && interrupted) {
        status = ag_fail(AG_ERR_INTERRUPTED, "interrupted");
    }
    return status == AG_OK && figures->decode.tokens != (uint64_t)n * n_steps
               ? ag_fail(AG_ERR_INVALID,
                         "%llu tokens were decoded, not %u times %u: the context is too short for "
                         "them",
                         (unsigned long long)figures->decode.tokens, n, n_steps)
               : status;
}

static ag_json_t *text_json(const char *text)
{
    return ag_json_new_string(text, strlen(text));
}

static ag_json_t *kernels_json(const ag_report_phase_t *phase)
{
    ag_json_t *list = ag_json_new_array();

    for (uint32_t i = 0; i < phase->n_kernels; i++) {
        const ag_report_kernel_t *kernel = &phase->kernels[i];
        ag_json_t *json = ag_json_new_object();

        ag_json_set(json, "node", text_json(kernel->node));
        if (kernel->type != NULL) {
            ag_json_set(json, "type", text_json(kernel->type));
        }
        ag_json_set(json, "seconds", ag_json_new_real(kernel->seconds));
        ag_json_set(json, "bytes", ag_json_new_real(kernel->bytes));
        ag_json_set(json, "ops", ag_json_new_real(kernel->ops));
        ag_json_set(json, "limit_seconds", ag_json_new_real(kernel->bound_s));
        ag_json_append(list, json);
    }
    return list;
}

/* The read rates: at the start, between the tokens, and which of them the limit is made of. */
static void add_reads(const ag_session_t *session, const ag_pass_rates_t *rates, ag_json_t *json)
{
    const ag_limits_t *limits = ag_session_limits(session, 0);
    uint32_t n_threads = session->ranks[0].n_threads;
    uint32_t n_passes = rates->n_alone + rates->n_disturbed;
    bool between = session->read_bytes_per_s > 0;
    ag_json_t *at_limit = ag_limits_to_json(limits, n_threads), *reads = ag_json_new_object();

    if (between) {
        ag_json_set(at_limit, "read_bytes_per_s", ag_json_new_real(session->read_bytes_per_s));
    }
    ag_json_set(json, "limits", at_limit);
    ag_json_set(json, "disturbed",
                ag_json_new_bool(limits->disturbed || 4 * rates->n_disturbed > n_passes));
    ag_json_set(reads, "limit_is_of",
                text_json(!between ? "start"
                          : session->read_bytes_per_s > ag_pass_rates_median(rates)
                              ? "best between tokens"
                              : "between tokens"));
    ag_json_set(
        reads, "start_bytes_per_s",
        ag_json_new_real(ag_limits_at(limits->read_bytes_per_s, limits->n_cores, n_threads)));
    ag_json_set(reads, "between_tokens_bytes_per_s", ag_json_new_real(ag_pass_rates_median(rates)));
    ag_json_set(reads, "best_between_tokens_bytes_per_s",
                ag_json_new_real(ag_pass_rates_best(rates)));
    ag_json_set(reads, "passes", ag_json_new_integer(n_passes));
    ag_json_set(reads, "disturbed_passes", ag_json_new_integer(rates->n_disturbed));
    ag_json_set(json, "memory_reads", reads);
}

static void print_reads(const ag_session_t *session, const ag_pass_rates_t *rates)
{
    const ag_limits_t *limits = ag_session_limits(session, 0);
    double between = ag_pass_rates_median(rates);

    printf("memory read at %.1f GB/s at the start%s",
           ag_limits_at(limits->read_bytes_per_s, limits->n_cores, session->ranks[0].n_threads) *
               1e-9,
           limits->disturbed ? " (disturbed by others)" : "");
    if (between > 0) {
        printf(", at %.1f between tokens (%u passes%s)", between * 1e-9, rates->n_alone,
               rates->n_disturbed > 0 ? ", and others that were disturbed" : "");
    } else if (session->net->n_ranks == 1) {
        printf(", too seldom between tokens to tell%s",
               rates->n_disturbed > 0 ? ": others disturbed it" : "");
    }
    printf("; the limit is by %s\n", session->read_bytes_per_s > between ? "the best of these"
                                     : between > 0                       ? "the latter"
                                                                         : "the former");
}

static ag_status_t print_json(const ag_session_t *session, const between_t *between, double load_s)
{
    const ag_report_t *report = &session->report;
    const ag_limits_t *limits = ag_session_limits(session, 0);
    uint32_t n_threads = session->ranks[0].n_threads;
    ag_json_t *json = ag_json_new_object(), *profile = ag_json_new_object();

    ag_json_set(json, "model", text_json(session->options->model));
    ag_json_set(json, "cpu", text_json(limits->cpu));
    ag_json_set(json, "isa", text_json(ag_isa_name(session->isa)));
    ag_json_set(json, "threads", ag_json_new_integer(n_threads));
    ag_json_set(json, "ranks", ag_json_new_integer(session->net->n_ranks));
    ag_json_set(json, "prompt_tokens", ag_json_new_integer(session->options->prompt_tokens));
    ag_json_set(json, "gen_tokens", ag_json_new_integer(session->options->gen_tokens));
    ag_json_set(json, "batch", ag_json_new_integer(session->plan->n_sequences));
    ag_report_to_json(report, json);
    ag_json_set(json, "load_s", ag_json_new_real(load_s));
    ag_json_set(json, "peak_memory_bytes", ag_json_new_integer((int64_t)ag_process_peak_bytes()));
    add_reads(session, &between->memory.rates, json);
    ag_json_set(profile, "prefill", kernels_json(&report->prefill));
    ag_json_set(profile, "decode", kernels_json(&report->decode));
    ag_json_set(json, "profile", profile);
    return ag_print_json_line(json);
}

static ag_status_t run_twice(ag_session_t *session, const ag_array_t *ids, between_t *between,
                             ag_run_figures_t *figures)
{
    size_t n_prompt = session->options->prompt_tokens, n_bytes;
    uint32_t n_steps = session->options->gen_tokens;
    ag_run_figures_t warm = {0};
    between_t nothing = {0};
    ag_status_t status = run(session, ids, n_prompt < WARM_TOKENS ? n_prompt : WARM_TOKENS,
                             n_steps < WARM_STEPS ? n_steps : WARM_STEPS, &nothing, &warm);

    /* one rank reads all memory there is to be read; of several each would have to */
    if (status == AG_OK && session->net->n_ranks == 1) {
        const void *weights = ag_job_weights(session->job, &n_bytes);

        if (weights != NULL) {
            ag_memory_probe_init(&between->memory, session->team, weights, n_bytes);
        }
    }
    if (status == AG_OK) {
        status = run(session, ids, n_prompt, n_steps, between, figures);
    }
    session->read_bytes_per_s = ag_pass_rates_median(&between->memory.rates);
    session->best_read_bytes_per_s = ag_pass_rates_best(&between->memory.rates);
    return status;
}

static ag_status_t measure(ag_session_t *session, double load_s)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    ag_run_figures_t figures = {0};
    between_t between = {0};
    ag_status_t status = make_prompt(session, &ids), stopped;

    if (status == AG_OK) {
        status = run_twice(session, &ids, &between, &figures);
    }
    ag_array_fini(&ids);
    stopped = ag_job_stop(session->job);
    status = status == AG_OK ? stopped : status;
    if (status == AG_OK) {
        status = ag_conclude(session, &figures);
    }
    if (status == AG_OK && session->options->json) {
        status = print_json(session, &between, load_s);
    } else if (status == AG_OK) {
        ag_report_table(&session->report, stdout);
        print_reads(session, &between.memory.rates);
        status = ag_write_out("", 0);
    }
    if (status == AG_OK) {
        ag_print_figures(session);
    }
    return status;
}

/* Of a plan file ag_session_plan() looks at the context. */
static ag_status_t check_lengths(const ag_session_t *session, uint64_t needed)
{
    const ag_options_t *options = session->options;
    uint32_t most = session->model->spec->context_tokens, given = options->plan.context_tokens;

    if (given > 0 && given < most && needed > given) {
        return ag_fail(AG_ERR_INVALID,
                       "%u prompt tokens and %u made ones are beyond --context %u: give a larger "
                       "--context, or fewer --prompt-tokens or --gen-tokens",
                       options->prompt_tokens, options->gen_tokens, given);
    }
    return needed <= most ? AG_OK
                          : ag_fail(AG_ERR_INVALID,
                                    "%u prompt tokens and %u made ones are beyond the context of "
                                    "%u: give fewer --prompt-tokens or --gen-tokens",
                                    options->prompt_tokens, options->gen_tokens, most);
}

ag_status_t ag_command_bench_model(ag_session_t *session)
{
    const ag_options_t *options = session->options;
    uint64_t needed = (uint64_t)options->prompt_tokens + options->gen_tokens;
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t begin_ns;
    ag_status_t status = ag_session_agree(session, check_lengths(session, needed));

    if (status == AG_OK) {
        status = ag_session_plan(session, (uint32_t)needed, false);
    }
    if (status == AG_OK && options->dry_run) {
        return session->net->rank == 0 ? ag_print_plan(session) : AG_OK;
    }
    if (status != AG_OK) {
        return status;
    }
    begin_ns = ag_clock_now_ns(&clock);
    status = ag_session_load(session);
    if (status == AG_OK) {
        double load_s = (double)(ag_clock_now_ns(&clock) - begin_ns) * 1e-9;

        status = session->net->rank == 0 ? measure(session, load_s) : ag_job_follow(session->job);
    }
    return session->agreed ? status : ag_session_finish(session, status);
}
