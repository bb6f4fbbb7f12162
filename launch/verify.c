/*
 * argosy verify: a plan's logits beside those of one rank, or of another plan, on the same tokens.
 * The two run one after the other; the first is released before.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/answers.h"
#include "launch/budget.h"
#include "launch/compare.h"
#include "runtime/base/philox.h"

/* Several chunks, the last one short, then steps of one row. */
enum { CHUNK_TOKENS = 32, MADE_TOKENS = 112, MOST_DECODED = 11 };

static const char *const phase_names[] = {"prefill", "decode"};

typedef struct verification {
    ag_prompts_t prompts; /* rank 0's, as all up to the programs; one prompt */
    float *logits;        /* (tokens, vocabulary) of the plan */
    uint64_t n_tokens, n_prefill;
    uint32_t context;
    ag_difference_t phases[2];
    float router_gap;   /* the least of both runs: this rank's, in the end of all ranks */
    char hashes[2][17]; /* the plan's, the reference's */
    uint32_t n_ranks[2];
} verification_t;

static const char *tokens_of(const ag_options_t *options)
{
    return options->tokens != NULL        ? options->tokens
           : options->prompt_file != NULL ? options->prompt_file
                                          : "--prompt";
}

/* The most tokens that options and plan files leave room for. @param of_p  out: which of them. */
static ag_status_t find_room(const ag_session_t *session, uint32_t *room_p, const char **of_p)
{
    const ag_options_t *options = session->options;
    const char *files[] = {options->plan_file, options->against};
    uint32_t room = session->model->spec->context_tokens;

    *of_p = "the model";
    if (options->plan.context_tokens > 0 && options->plan.context_tokens < room) {
        room = options->plan.context_tokens;
        *of_p = "--context";
    }
    for (int i = 0; i < 2; i++) {
        ag_plan_t *plan = NULL;
        ag_status_t status =
            files[i] != NULL ? ag_session_read_plan(session, files[i], &plan) : AG_OK;

        if (status != AG_OK) {
            return status;
        }
        if (plan != NULL && plan->context_tokens < room) {
            room = plan->context_tokens;
            *of_p = files[i];
        }
        ag_plan_destroy(plan);
    }
    *room_p = room;
    return AG_OK;
}

/* Any ids do, as long as they are not all alike. */
static ag_status_t make_ids(const ag_session_t *session, uint32_t n, ag_array_t *ids)
{
    uint32_t vocab = session->model->spec->vocab;
    ag_status_t status = ag_array_append(ids, NULL, n);

    for (uint32_t i = 0; status == AG_OK && i < n; i++) {
        uint32_t id = (uint32_t)(ag_philox_uniform(1, 0, i) * vocab);

        AG_ITEMS(ids, int32_t)[i] = (int32_t)(id < vocab ? id : vocab - 1);
    }
    return status;
}

/* Rank 0: what is run, and room for the logits. */
static ag_status_t gather(ag_session_t *session, verification_t *v)
{
    const ag_options_t *options = session->options;
    bool given = options->tokens != NULL || options->prompt != NULL || options->prompt_file != NULL;
    uint64_t vocab = session->model->spec->vocab, decoded;
    const char *of = NULL;
    uint32_t room = 0;
    ag_status_t status = find_room(session, &room, &of);

    if (status == AG_OK) {
        status = given
                     ? ag_prompts_gather(session, &v->prompts)
                     : make_ids(session, room < MADE_TOKENS ? room : MADE_TOKENS, &v->prompts.ids);
    }
    if (status != AG_OK) {
        return status;
    }
    v->n_tokens = v->prompts.ids.n_items;
    if (v->n_tokens > room) {
        return ag_fail(AG_ERR_INVALID,
                       "%s has %" PRIu64 " tokens, the context of %s is %u: give "
                       "fewer tokens, or a larger context",
                       tokens_of(options), v->n_tokens, of, room);
    }
    decoded = v->n_tokens / 3 < MOST_DECODED ? v->n_tokens / 3 : MOST_DECODED;
    v->n_prefill = v->n_tokens - decoded;
    v->context = (uint32_t)v->n_tokens;
    v->logits = malloc(v->n_tokens * vocab * sizeof(float));
    if (v->logits == NULL) {
        return ag_fail_nomem("keeping logits", v->n_tokens * vocab * sizeof(float));
    }
    ag_input_count(&session->input, v->n_tokens * (sizeof(int32_t) + vocab * sizeof(float)), 0);
    return AG_OK;
}

/* Where logits go. */
typedef struct sink {
    const ag_session_t *session;
    verification_t *v;
} sink_t;

static ag_status_t keep(void *arg, uint64_t token, const float *logits, uint32_t n_rows)
{
    sink_t *sink = arg;
    uint64_t vocab = sink->session->model->spec->vocab;

    memcpy(sink->v->logits + token * vocab, logits, n_rows * vocab * sizeof(*logits));
    return AG_OK;
}

static ag_status_t compare(void *arg, uint64_t token, const float *logits, uint32_t n_rows)
{
    sink_t *sink = arg;
    uint32_t vocab = sink->session->model->spec->vocab;

    for (uint64_t i = 0; i < n_rows; i++) {
        ag_difference_add(&sink->v->phases[token + i >= sink->v->n_prefill], token + i,
                          sink->v->logits + (token + i) * vocab, logits + i * vocab, vocab);
    }
    return AG_OK;
}

/* Rank 0: run the tokens, stop the others. */
static ag_status_t replay(ag_session_t *run, verification_t *v, uint32_t chunk, bool is_reference)
{
    sink_t sink = {run, v};
    ag_status_t status =
        ag_replay(run->job, &(ag_replay_opts_t){.tokens = AG_ITEMS(&v->prompts.ids, int32_t),
                                                .n_tokens = v->n_tokens,
                                                .n_prefill = v->n_prefill,
                                                .chunk_tokens = chunk,
                                                .on_logits = is_reference ? compare : keep,
                                                .arg = &sink});
    char why[1024];
    ag_status_t stopped;

    snprintf(why, sizeof(why), "%s", status != AG_OK ? ag_error() : "");
    stopped = ag_job_stop(run->job);
    return status == AG_OK ? stopped : ag_fail(status, "%s", why);
}

typedef struct part {
    verification_t *v;
    uint32_t chunk;
    bool is_reference;
} part_t;

static ag_status_t work(void *arg, ag_session_t *run)
{
    const part_t *part = arg;
    verification_t *v = part->v;
    ag_status_t status = run->net->rank == 0 ? replay(run, v, part->chunk, part->is_reference)
                                             : ag_job_follow(run->job);

    v->router_gap = fminf(v->router_gap, ag_job_router_gap(run->job));
    return status;
}

/* One rank with all layers, that computes as the plan does. */
static ag_status_t make_reference(const ag_session_t *session, ag_plan_t **plan_p)
{
    const ag_plan_t *plan = session->plan;
    ag_plan_model_t model = ag_build_plan_model(session->model);
    char budget[32] = "";
    ag_plan_opts_t opts = {.compute = plan->compute,
                           .context_tokens = plan->context_tokens,
                           .batch_tokens = plan->batch_tokens,
                           .n_sequences = plan->n_sequences};
    ag_status_t status;

    if (plan->n_budgets > 0) { /* rank 0's */
        snprintf(budget, sizeof(budget), "%" PRIu64, plan->budget_bytes[0]);
        opts.max_memory = budget;
    }
    model.context_tokens =
        plan->context_tokens > model.context_tokens ? plan->context_tokens : model.context_tokens;
    status = ag_plan_make(&model, &opts, plan_p);
    if (status == AG_OK) {
        (*plan_p)->kv_type = plan->kv_type;
    }
    return status;
}

/* @param options  out: what the reference's session works by. */
static ag_status_t plan_reference(const ag_session_t *session, ag_options_t *options,
                                  ag_session_t *reference)
{
    const char *against = session->options->against;
    ag_plan_t *plan = NULL;
    ag_status_t status;

    *options = *session->options;
    options->plan = (ag_plan_opts_t){.compute = session->plan->compute};
    options->plan_file = against;
    *reference = *session;
    reference->options = options;
    reference->plan = NULL;
    reference->build = NULL;
    reference->programs = (ag_programs_t){0};
    status = against != NULL ? ag_session_read_plan(session, against, &plan)
                             : make_reference(session, &plan);
    status = ag_session_agree(reference, status);
    if (status != AG_OK) {
        ag_plan_destroy(plan);
        return status;
    }
    status = ag_session_take_plan(reference, plan, true);
    return status == AG_ERR_BUDGET && against == NULL
               ? ag_fail_context(status, "the reference on one rank, in whose place --against "
                                         "names another plan")
               : status;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static ag_status_t print_json(const verification_t *v, const ag_bound_t *bound,
                              ag_verdict_t verdict)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, "plan", ag_json_new_string(v->hashes[0], 16));
    ag_json_set(json, "ranks", ag_json_new_integer(v->n_ranks[0]));
    ag_json_set(json, "reference", ag_json_new_string(v->hashes[1], 16));
    ag_json_set(json, "reference_ranks", ag_json_new_integer(v->n_ranks[1]));
    ag_json_set(json, "tokens", ag_json_new_integer((int64_t)v->n_tokens));
    for (int i = 0; i < 2; i++) {
        const ag_difference_t *d = &v->phases[i];
        ag_json_t *phase = ag_json_new_object();

        ag_json_set(phase, "rows", ag_json_new_integer((int64_t)d->n_rows));
        ag_json_set(phase, "difference", ag_json_new_real(d->absolute));
        ag_json_set(phase, "relative", ag_json_new_real(d->relative));
        ag_json_set(phase, "token", ag_json_new_integer((int64_t)d->row));
        ag_json_set(phase, "entry", ag_json_new_integer(d->entry));
        ag_json_set(phase, "logit", ag_json_new_real(d->own));
        ag_json_set(phase, "reference_logit", ag_json_new_real(d->reference));
        ag_json_set(phase, "greedy_differ", ag_json_new_integer((int64_t)d->n_greedy));
        ag_json_set(phase, "greedy_margin", ag_json_new_real(d->margin));
        ag_json_set(json, phase_names[i], phase);
    }
    ag_json_set(json, "bound", ag_json_new_real(bound->absolute));
    ag_json_set(json, "bound_relative", ag_json_new_real(bound->relative));
    ag_json_set(json, "bound_why", ag_json_new_string(bound->why, strlen(bound->why)));
    if (isfinite(v->router_gap)) {
        ag_json_set(json, "router_gap", ag_json_new_real((double)v->router_gap));
        ag_json_set(json, "excused", ag_json_new_bool(verdict == AG_VERDICT_EXCUSED));
    }
    ag_json_set(json, "within", ag_json_new_bool(verdict != AG_VERDICT_BEYOND));
    return ag_print_json_line(json);
}

static ag_status_t print_text(const verification_t *v, const ag_bound_t *bound,
                              ag_verdict_t verdict)
{
    printf("plan %s (%u rank%s) against %s (%u rank%s), %" PRIu64 " tokens\n", v->hashes[0],
           v->n_ranks[0], v->n_ranks[0] == 1 ? "" : "s", v->hashes[1], v->n_ranks[1],
           v->n_ranks[1] == 1 ? "" : "s", v->n_tokens);
    for (int i = 0; i < 2; i++) {
        const ag_difference_t *d = &v->phases[i];

        if (d->n_rows == 0) {
            printf("%s: no rows\n", phase_names[i]);
            continue;
        }
        printf("%s: %" PRIu64 " rows, largest difference %.3g (%.2g of a row's largest logit), at "
               "token %" PRIu64 ", entry %u: %.7g, not %.7g; ",
               phase_names[i], d->n_rows, d->absolute, d->relative, d->row, d->entry,
               (double)d->own, (double)d->reference);
        if (d->n_greedy == 0) {
            printf("the likeliest tokens are the same\n");
        } else {
            printf("%" PRIu64 " likeliest tokens are others, which led by %.3g at most\n",
                   d->n_greedy, d->margin);
        }
    }
    printf("bound: %.3g, which is %.3g of the largest logit: %s\n", bound->absolute,
           bound->relative, bound->why);
    if (verdict == AG_VERDICT_EXCUSED) {
        printf("beyond it, which is excused: experts' scores were as near as %.2g, and what is "
               "nearer than %.2g may go to either by rounding\n",
               (double)v->router_gap, (double)bound->router_gap);
    }
    return ag_write_out("", 0);
}

/* Rank 0: what was found. */
static ag_status_t tell(const ag_session_t *session, const verification_t *v,
                        const ag_bound_t *bound)
{
    const ag_difference_t *d = &v->phases[v->phases[1].absolute > v->phases[0].absolute];
    ag_verdict_t verdict = ag_bound_judge(bound, v->phases, 2, v->router_gap);
    ag_status_t status =
        session->options->json ? print_json(v, bound, verdict) : print_text(v, bound, verdict);

    return status != AG_OK || verdict != AG_VERDICT_BEYOND
               ? status
               : ag_fail(AG_ERR_FORMAT,
                         "logits differ by %.3g at token %" PRIu64 ", beyond the bound of %.3g",
                         d->absolute, d->row, bound->absolute);
}

/* The least gap that any rank has seen. */
static ag_status_t gather_gaps(ag_session_t *session, verification_t *v)
{
    ag_net_t *net = session->net;
    float *gaps = calloc((size_t)net->n_ranks, sizeof(*gaps));
    ag_status_t status = gaps == NULL
                             ? ag_fail_nomem("gathering gaps", (size_t)net->n_ranks * sizeof(*gaps))
                             : AG_OK;

    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        gaps[net->rank] = v->router_gap;
        status = ag_agree_gather(net, NULL, gaps, sizeof(*gaps));
    }
    for (int r = 0; r < net->n_ranks && status == AG_OK; r++) {
        v->router_gap = fminf(v->router_gap, gaps[r]);
    }
    free(gaps);
    return status;
}

static ag_status_t run_both(ag_session_t *session, ag_session_t *reference, verification_t *v)
{
    const ag_plan_t *plans[] = {session->plan, reference->plan};
    uint32_t chunk =
        (uint32_t)smaller(CHUNK_TOKENS, smaller(plans[0]->batch_tokens, plans[1]->batch_tokens));
    ag_bound_t bound = ag_bound_of(plans[0], plans[1], 1, session->options->bound);
    ag_status_t status = AG_OK;

    for (int i = 0; i < 2 && status == AG_OK; i++) {
        v->n_ranks[i] = ag_plan_ranks(plans[i]);
        status = ag_plan_hash(plans[i], v->hashes[i]);
    }
    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = ag_session_run_first(session, work, &(part_t){v, chunk, false});
    }
    if (status == AG_OK) {
        status = ag_session_run_first(reference, work, &(part_t){v, chunk, true});
        session->agreed = reference->agreed;
    }
    if (status == AG_OK) {
        status = gather_gaps(session, v);
    }
    if (status != AG_OK) {
        return status;
    }
    bound.absolute = bound.relative * fmax(v->phases[0].scale, v->phases[1].scale);
    return ag_session_agree(session, session->net->rank == 0 ? tell(session, v, &bound) : AG_OK);
}

ag_status_t ag_command_verify(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    verification_t v = {.router_gap = INFINITY,
                        .prompts = {.ids = AG_ARRAY(int32_t), .ends = AG_ARRAY(size_t)}};
    ag_session_t reference = {0};
    ag_options_t options;
    ag_status_t status = ag_session_agree(session, root ? gather(session, &v) : AG_OK);

    session->may_spare_ranks = true;
    if (status == AG_OK) {
        status = ag_session_plan(session, v.context, true);
    }
    if (status == AG_OK && session->options->dry_run) {
        status = root ? ag_print_plan(session) : AG_OK;
    } else if (status == AG_OK) {
        status = plan_reference(session, &options, &reference);
        session->agreed = reference.agreed;
        if (status == AG_OK) {
            status = run_both(session, &reference, &v);
        }
        if (!ag_session_is_lost(&reference)) {
            ag_session_unload(&reference);
        }
    }
    ag_array_fini(&v.prompts.ids);
    ag_array_fini(&v.prompts.ends);
    free(v.logits);
    return status;
}
