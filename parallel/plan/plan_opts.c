/* From options to a plan. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"

/* The options as lists; those not given have none. */
typedef struct parsed {
    ag_number_lists_t tp, tensor_split, pipeline_split, ep, expert_split;
    uint32_t n_stages;
} parsed_t;

static void fini_parsed(parsed_t *parsed)
{
    ag_number_lists_t *const lists[] = {&parsed->tp, &parsed->tensor_split, &parsed->pipeline_split,
                                        &parsed->ep, &parsed->expert_split};

    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        ag_array_fini(&lists[i]->numbers);
        ag_array_fini(&lists[i]->ends);
    }
}

static ag_status_t parse_options(const ag_plan_opts_t *opts, parsed_t *parsed)
{
    ag_status_t status = ag_plan_parse_lists("--tp", opts->tp, ",", &parsed->tp);

    if (status == AG_OK) {
        status =
            ag_plan_parse_lists("--tensor-split", opts->tensor_split, ",;", &parsed->tensor_split);
    }
    if (status == AG_OK) {
        status = ag_plan_parse_lists("--ep", opts->ep, ",", &parsed->ep);
    }
    if (status == AG_OK) {
        status =
            ag_plan_parse_lists("--expert-split", opts->expert_split, ",;", &parsed->expert_split);
    }
    return status == AG_OK ? ag_plan_parse_lists("--pipeline-split", opts->pipeline_split, ",",
                                                 &parsed->pipeline_split)
                           : status;
}

/* Runs of layers that a stage has. */
static uint32_t virtual_stages(const ag_plan_opts_t *opts)
{
    return opts->sequence_tokens > 0 && opts->virtual_stages > 0 ? opts->virtual_stages : 1;
}

/* Said before layers are counted, which would blame the stages. */
static ag_status_t check_schedule(const ag_plan_opts_t *opts)
{
    return virtual_stages(opts) > 1 && opts->schedule == NULL
               ? ag_fail(AG_ERR_INVALID,
                         "--virtual-stages %u needs --schedule interleaved: %s has one chunk of "
                         "the model a stage",
                         opts->virtual_stages, AG_SCHEDULE_DEFAULT)
               : AG_OK;
}

/*
 * Every option that lists something per stage says how many stages there are; they must agree. A
 * single --tp or --ep or a single list of shares says nothing: it is for all stages.
 */
static ag_status_t count_stages(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                                parsed_t *parsed)
{
    size_t n_tp = parsed->tp.numbers.n_items, n_splits = parsed->tensor_split.ends.n_items;
    size_t n_ep = parsed->ep.numbers.n_items, n_experts = parsed->expert_split.ends.n_items;
    uint32_t n_each = virtual_stages(opts);
    const struct {
        const char *option;
        size_t n_stages; /* 0: says nothing */
    } says[] = {{"--pp", opts->pp},
                {"--pipeline-split", parsed->pipeline_split.numbers.n_items / n_each},
                {"--tp", n_tp > 1 ? n_tp : 0},
                {"--tensor-split", n_splits > 1 ? n_splits : 0},
                {"--ep", n_ep > 1 ? n_ep : 0},
                {"--expert-split", n_experts > 1 ? n_experts : 0}};
    uint32_t most = model->n_layers < AG_MAX_STAGES ? model->n_layers / n_each : AG_MAX_STAGES;
    const char *option = NULL;
    size_t n_stages = 1;

    for (size_t i = 0; i < sizeof(says) / sizeof(*says); i++) {
        if (says[i].n_stages != 0 && option == NULL) {
            option = says[i].option;
            n_stages = says[i].n_stages;
        } else if (says[i].n_stages != 0 && says[i].n_stages != n_stages) {
            return ag_fail(AG_ERR_INVALID,
                           "%s is for %zu stages, %s for %zu: give %s one entry per stage", option,
                           n_stages, says[i].option, says[i].n_stages, says[i].option);
        }
    }
    if (parsed->pipeline_split.numbers.n_items % n_each != 0) {
        return ag_fail(AG_ERR_INVALID,
                       "--pipeline-split %s has %zu numbers: with --virtual-stages %u give one for "
                       "each of the chunks, %u a stage, in model order",
                       opts->pipeline_split, parsed->pipeline_split.numbers.n_items, n_each,
                       n_each);
    }
    if (n_stages > most) {
        return ag_fail(AG_ERR_INVALID,
                       "%s asks for %zu pipeline stages, the model has %u layers: give at most "
                       "--pp %u",
                       option != NULL ? option : "--pp", n_stages, model->n_layers, most);
    }
    parsed->n_stages = (uint32_t)n_stages;
    return AG_OK;
}

/* Of what was given, nothing may be without effect: a lone list must fit a stage. */
static ag_status_t check_split_fits(const ag_plan_opts_t *opts, const parsed_t *parsed)
{
    const ag_array_t *tp = &parsed->tp.numbers;
    size_t n_shares = parsed->tensor_split.numbers.n_items;

    if (parsed->tensor_split.ends.n_items != 1 || tp->n_items == 0) {
        return AG_OK;
    }
    for (size_t i = 0; i < tp->n_items; i++) {
        if (AG_ITEMS(tp, uint32_t)[i] == n_shares) {
            return AG_OK;
        }
    }
    return ag_fail(
        AG_ERR_INVALID,
        "--tensor-split %s has %zu share%s, but --tp %s has no stage of %zu rank%s: give "
        "one share per rank",
        opts->tensor_split, n_shares, n_shares == 1 ? "" : "s", opts->tp, n_shares,
        n_shares == 1 ? "" : "s");
}

/* The degree of a stage, and its proportions where they were given (else NULL). */
static ag_status_t stage_degree(const ag_plan_opts_t *opts, const parsed_t *parsed, uint32_t stage,
                                uint32_t *degree_p, const uint32_t **shares_p)
{
    const ag_number_lists_t *tp = &parsed->tp, *split = &parsed->tensor_split;
    size_t n_tp = tp->numbers.n_items, n_lists = split->ends.n_items, n_shares = 0;
    const uint32_t *shares =
        n_lists > 0 ? ag_plan_list_at(split, n_lists > 1 ? stage : 0, &n_shares) : NULL;
    size_t degree = n_tp > 0       ? AG_ITEMS(&tp->numbers, uint32_t)[n_tp > 1 ? stage : 0]
                    : n_shares > 0 ? n_shares
                                   : 1;

    if (degree == 0 || degree > AG_MAX_STAGE_RANKS) {
        return ag_fail(AG_ERR_INVALID, "%s gives stage %u %zu ranks: give it 1 to %d",
                       n_tp > 0 ? "--tp" : "--tensor-split", stage, degree, AG_MAX_STAGE_RANKS);
    }
    if (n_lists > 1 && n_shares != degree) {
        return ag_fail(AG_ERR_INVALID,
                       "--tensor-split %s has %zu share%s for stage %u, --tp %s gives it %zu "
                       "rank%s: give one share per rank",
                       opts->tensor_split, n_shares, n_shares == 1 ? "" : "s", stage, opts->tp,
                       degree, degree == 1 ? "" : "s");
    }
    *degree_p = (uint32_t)degree;
    *shares_p = n_shares == degree ? shares : NULL;
    return AG_OK;
}

/* In inference ranks that share experts out share the attention too, or each has it all; in
 * training they are some of all that a stage has. */
static ag_status_t check_degree(const ag_plan_opts_t *opts, const char *option, uint32_t stage,
                                uint32_t degree, uint32_t tp, uint32_t n_replicas)
{
    if (opts->sequence_tokens > 0) {
        return tp * n_replicas % degree == 0
                   ? AG_OK
                   : ag_fail(AG_ERR_INVALID,
                             "%s shares a copy of the experts of stage %u out over %u ranks, which "
                             "does not divide the %u that it has (--tp %u, --dp %u): give a number "
                             "that does",
                             option, stage, degree, tp * n_replicas, tp, n_replicas);
    }
    return tp == 1 || tp == degree
               ? AG_OK
               : ag_fail(AG_ERR_INVALID,
                         "%s shares the experts of stage %u out over %u rank%s, its attention is "
                         "over %u: give --tp 1, or the same number for both",
                         option, stage, degree, degree == 1 ? "" : "s", tp);
}

/* Ranks that share out a copy of a stage's experts, and how many of them each has where that was
 * given (else NULL). */
static ag_status_t expert_degree(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                                 const parsed_t *parsed, uint32_t stage, uint32_t tp,
                                 uint32_t n_replicas, uint32_t *degree_p, const uint32_t **counts_p)
{
    const ag_array_t *ep = &parsed->ep.numbers;
    size_t n_lists = parsed->expert_split.ends.n_items, n_counts = 0;
    const uint32_t *counts =
        n_lists > 0 ? ag_plan_list_at(&parsed->expert_split, n_lists > 1 ? stage : 0, &n_counts)
                    : NULL;
    size_t degree = ep->n_items > 0 ? AG_ITEMS(ep, uint32_t)[ep->n_items > 1 ? stage : 0]
                    : n_counts > 0  ? n_counts
                                    : tp;
    const char *option = ep->n_items > 0 ? "--ep" : "--expert-split";
    unsigned long long sum = 0;

    if (model->n_experts == 0 && (opts->ep != NULL || opts->expert_split != NULL)) {
        return ag_fail(AG_ERR_INVALID, "%s: this model has no experts: leave it out", option);
    }
    if (degree == 0 || degree > AG_MAX_STAGE_RANKS) {
        return ag_fail(AG_ERR_INVALID, "%s gives stage %u %zu ranks: give it 1 to %d", option,
                       stage, degree, AG_MAX_STAGE_RANKS);
    }
    if (counts != NULL && n_counts != degree) {
        return ag_fail(AG_ERR_INVALID,
                       "--expert-split %s has %zu count%s for stage %u, which has %zu rank%s: give "
                       "one count per rank",
                       opts->expert_split, n_counts, n_counts == 1 ? "" : "s", stage, degree,
                       degree == 1 ? "" : "s");
    }
    for (size_t i = 0; i < n_counts; i++) {
        sum += counts[i];
    }
    if (counts != NULL && sum != model->n_experts) {
        return ag_fail(AG_ERR_INVALID,
                       "--expert-split %s gives %llu experts in stage %u, the model has %u: make "
                       "it add up",
                       opts->expert_split, sum, stage, model->n_experts);
    }
    *degree_p = (uint32_t)degree;
    *counts_p = counts;
    return check_degree(opts, option, stage, *degree_p, tp, n_replicas);
}

static ag_status_t fill_replica(const ag_plan_opts_t *opts, const uint32_t *shares, uint32_t stage,
                                uint32_t n_ranks, uint32_t *next_rank, ag_replica_t *replica)
{
    uint64_t sum = 0;
    ag_status_t status =
        n_ranks > AG_MAX_RANKS - *next_rank
            ? ag_fail(AG_ERR_INVALID,
                      "--tp, --ep, --dp and --pp ask for more than %d ranks: give less",
                      AG_MAX_RANKS)
            : ag_replica_resize(replica, n_ranks);

    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_ranks; i++) {
        replica->ranks[i] = (*next_rank)++;
        replica->shares[i] = shares != NULL ? shares[i] : 1;
        sum += replica->shares[i];
    }
    return sum > 0 ? AG_OK
                   : ag_fail(AG_ERR_INVALID,
                             "--tensor-split %s gives nobody in stage %u a share: give one above 0",
                             opts->tensor_split, stage);
}

/* Replicas of each stage; where nothing else says how many ranks there are, experts do. */
static uint32_t count_replicas(const ag_plan_opts_t *opts, const parsed_t *parsed)
{
    const ag_number_lists_t *splits = &parsed->expert_split;
    uint32_t most = 1;

    if (opts->dp > 0 || opts->sequence_tokens == 0 || opts->tp != NULL ||
        opts->tensor_split != NULL) {
        return opts->dp > 0 ? opts->dp : 1;
    }
    for (size_t i = 0; i < parsed->ep.numbers.n_items; i++) {
        uint32_t n = AG_ITEMS(&parsed->ep.numbers, uint32_t)[i];

        most = n > most ? n : most;
    }
    for (size_t i = 0; i < splits->ends.n_items && opts->ep == NULL; i++) {
        size_t n;

        ag_plan_list_at(splits, i, &n);
        most = n > most ? (uint32_t)n : most;
    }
    return most;
}

static ag_status_t fill_stage(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                              const parsed_t *parsed, uint32_t stage, uint32_t *next_rank,
                              ag_stage_t *filled)
{
    const uint32_t *shares = NULL, *counts = NULL;
    uint32_t n_replicas = count_replicas(opts, parsed), tp = 0, degree = 0, n_ranks;
    ag_status_t status = stage_degree(opts, parsed, stage, &tp, &shares);

    if (status == AG_OK && n_replicas > AG_MAX_REPLICAS) {
        status = ag_fail(AG_ERR_INVALID, "--dp %u: give at most %d", n_replicas, AG_MAX_REPLICAS);
    }
    if (status == AG_OK) {
        status = expert_degree(model, opts, parsed, stage, tp, n_replicas, &degree, &counts);
    }
    n_ranks = opts->sequence_tokens > 0 ? tp : degree;
    if (status == AG_OK) {
        status = ag_stage_resize(filled, n_replicas);
    }
    for (uint32_t i = 0; i < n_replicas && status == AG_OK; i++) {
        status = fill_replica(opts, tp == n_ranks ? shares : NULL, stage, n_ranks, next_rank,
                              &filled->replicas[i]);
        filled->replicas[i].tensor_ranks = tp;
    }
    return status == AG_OK && model->n_experts > 0
               ? ag_holders_fill(filled, model->n_experts, counts, degree)
               : status;
}

static ag_status_t fill_layers(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                               const parsed_t *parsed, ag_plan_t *plan)
{
    const ag_array_t *split = &parsed->pipeline_split.numbers;
    uint32_t n_stages = plan->n_stages, n_each = virtual_stages(opts), n_runs = n_stages * n_each;
    uint64_t at = 0;
    ag_status_t status = AG_OK;

    for (size_t s = 0; s < split->n_items; s++) {
        uint32_t n = AG_ITEMS(split, uint32_t)[s];

        if (n == 0) {
            return ag_fail(AG_ERR_INVALID,
                           "--pipeline-split %s leaves stage %zu without a layer: give each stage "
                           "at least 1",
                           opts->pipeline_split, s);
        }
        at += n;
    }
    if (split->n_items > 0 && at != model->n_layers) {
        return ag_fail(AG_ERR_INVALID,
                       "--pipeline-split %s gives %llu layers, the model has %u: make it add up",
                       opts->pipeline_split, (unsigned long long)at, model->n_layers);
    }
    at = 0;
    for (uint32_t run = 0; run < n_runs && status == AG_OK; run++) {
        ag_layers_t layers = {.begin = (uint32_t)at};

        at += split->n_items > 0 ? AG_ITEMS(split, uint32_t)[run]
                                 : model->n_layers / n_runs + (run < model->n_layers % n_runs);
        layers.end = (uint32_t)at;
        status = ag_stage_set_layers(&plan->stages[run % n_stages], run / n_stages, n_each, layers);
    }
    return status;
}

/* "512", "1.5G", "2GiB", "2GB": binary multiples all. @return the text behind it, NULL: not bytes.
 */
static const char *parse_bytes(const char *text, uint64_t *bytes_p)
{
    static const char suffixes[] = "KMGT";
    size_t n_digits = strspn(text, "0123456789"), n_chars = n_digits;
    const char *at, *suffix;
    double value;

    if (n_digits > 0 && text[n_digits] == '.') {
        size_t n_decimals = strspn(text + n_digits + 1, "0123456789");

        n_chars += 1 + n_decimals;
        n_digits = n_decimals;
    }
    if (n_digits == 0 || n_chars > 20) {
        return NULL;
    }
    value = strtod(text, NULL);
    at = text + n_chars;
    suffix = *at != '\0' ? strchr(suffixes, toupper((unsigned char)*at)) : NULL;
    if (suffix != NULL) {
        for (const char *s = suffixes; s <= suffix; s++) {
            value *= 1024;
        }
        at++;
        at += (*at == 'i' || *at == 'I') && (at[1] == 'B' || at[1] == 'b');
    }
    at += *at == 'B' || *at == 'b';
    if (value < 1 || value > 0x1p60) {
        return NULL;
    }
    *bytes_p = (uint64_t)value;
    return at;
}

static ag_status_t fill_budgets(const ag_plan_opts_t *opts, ag_plan_t *plan)
{
    uint32_t n_ranks = ag_plan_ranks(plan), n = 0;
    const char *at = opts->max_memory;
    ag_status_t status = at != NULL ? ag_plan_check_printable("--max-memory", at) : AG_OK;

    if (status != AG_OK || at == NULL) {
        return status;
    }
    plan->budget_bytes = calloc((size_t)n_ranks + 1, sizeof(*plan->budget_bytes));
    if (plan->budget_bytes == NULL) {
        return ag_fail_nomem("making a plan", n_ranks * sizeof(*plan->budget_bytes));
    }
    for (;; at++) {
        uint64_t bytes = 0;
        const char *end = parse_bytes(at, &bytes);

        if (end == NULL || (*end != ',' && *end != '\0')) {
            return ag_fail(AG_ERR_INVALID,
                           "--max-memory \"%s\": \"%s\" should be bytes, as 1500000000, 1.5G or "
                           "512M (suffixes K M G T)",
                           opts->max_memory, at);
        }
        if (n < n_ranks) {
            plan->budget_bytes[n] = bytes;
        }
        n++;
        at = end;
        if (*at == '\0') {
            break;
        }
    }
    if (n != 1 && n != n_ranks) {
        return ag_fail(AG_ERR_INVALID,
                       "--max-memory %s has %u budgets for %u ranks: give one for all, or one per "
                       "rank",
                       opts->max_memory, n, n_ranks);
    }
    for (uint32_t i = n; i < n_ranks; i++) {
        plan->budget_bytes[i] = plan->budget_bytes[0];
    }
    plan->n_budgets = n_ranks;
    return AG_OK;
}

static ag_status_t fill_sizes(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                              ag_plan_t *plan)
{
    uint32_t most = model->context_tokens < AG_MAX_TOKENS ? model->context_tokens : AG_MAX_TOKENS;

    if (opts->context_tokens > most) {
        return ag_fail(AG_ERR_INVALID, "--context %u is beyond the model's %u: give at most that",
                       opts->context_tokens, most);
    }
    if (opts->n_sequences > AG_MAX_SEQUENCES) {
        return ag_fail(AG_ERR_INVALID, "%u sequences at a time are too many: at most %d",
                       opts->n_sequences, AG_MAX_SEQUENCES);
    }
    memcpy(plan->spec_hash, model->spec_hash, sizeof(plan->spec_hash));
    strncpy(plan->family, model->family, sizeof(plan->family) - 1);
    plan->compute = opts->compute;
    plan->kv_type = opts->compute == AG_COMPUTE_F32 ? AG_F32 : AG_F16;
    plan->context_tokens = opts->context_tokens > 0 ? opts->context_tokens : most;
    plan->n_sequences = opts->n_sequences > 0 ? opts->n_sequences : 1;
    plan->batch_tokens = opts->batch_tokens > 0 ? opts->batch_tokens : 512;
    if (plan->batch_tokens > plan->context_tokens) {
        plan->batch_tokens = plan->context_tokens;
    }
    return AG_OK;
}

/* Half of the default are rows enough for arithmetic at full rate. Alone, a rank has no sums. */
static ag_status_t fill_overlap(const ag_plan_opts_t *opts, ag_plan_t *plan)
{
    const char *text = opts->overlap_tokens, *at = text;
    uint32_t n = 128, degree = 1;
    ag_status_t status = text == NULL ? AG_OK : ag_plan_check_printable("--overlap-tokens", text);

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        uint32_t tp = plan->stages[s].replicas[0].tensor_ranks;

        degree = tp > degree ? tp : degree;
    }
    if (status == AG_OK && text != NULL) {
        status = ag_plan_parse_number("--overlap-tokens", text, &at, &n);
    }
    if (status == AG_OK && text != NULL && *at != '\0') {
        status =
            ag_fail(AG_ERR_INVALID, "--overlap-tokens \"%s\" should be one whole number", text);
    }
    if (status == AG_OK && text != NULL && n > 0 && degree == 1) {
        status = ag_fail(AG_ERR_INVALID,
                         "--overlap-tokens %s: no stage has several ranks whose sums could hide: "
                         "give --tp too, or leave it out",
                         text);
    }
    plan->overlap_tokens = degree > 1 ? n : 0;
    return status;
}

static ag_status_t fill_plan(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                             const parsed_t *parsed, ag_plan_t *plan)
{
    uint32_t next_rank = 0;
    ag_status_t status = fill_layers(model, opts, parsed, plan);

    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        status = fill_stage(model, opts, parsed, s, &next_rank, &plan->stages[s]);
    }
    if (status == AG_OK) {
        status = fill_budgets(opts, plan);
    }
    if (status == AG_OK) {
        status = fill_overlap(opts, plan);
    }
    if (status == AG_OK) {
        status = fill_sizes(model, opts, plan);
    }
    if (status == AG_OK && opts->sequence_tokens > 0) {
        if (model->norms_elsewhere && opts->sequence_parallel == AG_CHOICE_ON) {
            return ag_fail(AG_ERR_INVALID,
                           "--sequence-parallel on is for models that have norms before the parts "
                           "of their layers alone, this one has others: leave it out");
        }
        status = ag_plan_fill_train(opts, plan);
        plan->train.sequence_parallel &= !model->norms_elsewhere;
    }
    return status;
}

ag_status_t ag_plan_make(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                         ag_plan_t **plan_p)
{
    parsed_t parsed = {0};
    ag_plan_t *plan = NULL;
    ag_status_t status = parse_options(opts, &parsed);

    if (status == AG_OK) {
        status = check_schedule(opts);
    }
    if (status == AG_OK) {
        status = count_stages(model, opts, &parsed);
    }
    if (status == AG_OK) {
        status = check_split_fits(opts, &parsed);
    }
    if (status == AG_OK) {
        status = ag_plan_create(parsed.n_stages, &plan);
    }
    if (status == AG_OK) {
        status = fill_plan(model, opts, &parsed, plan);
    }
    fini_parsed(&parsed);
    if (status != AG_OK) {
        ag_plan_destroy(plan);
        return status;
    }
    *plan_p = plan;
    return AG_OK;
}
