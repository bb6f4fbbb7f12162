/* From options to a plan. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"

/* A list of lists of numbers: "5,4;1". */
typedef struct number_lists {
    ag_array_t numbers; /* uint32_t */
    ag_array_t ends;    /* size_t: where each list ends in numbers */
} number_lists_t;

static void fini_lists(number_lists_t *lists)
{
    ag_array_fini(&lists->numbers);
    ag_array_fini(&lists->ends);
}

static ag_status_t parse_number(const char *option, const char *text, const char **at_p,
                                uint32_t *number_p)
{
    char *end;
    unsigned long number;

    errno = 0;
    if (!isdigit((unsigned char)**at_p)) {
        return ag_fail(AG_ERR_INVALID, "%s \"%s\": a whole number is expected at \"%s\"", option,
                       text, *at_p);
    }
    number = strtoul(*at_p, &end, 10);
    if (errno != 0 || number > 1000000) {
        return ag_fail(AG_ERR_INVALID, "%s \"%s\": a number is too large (at most 1000000)", option,
                       text);
    }
    *at_p = end;
    *number_p = (uint32_t)number;
    return AG_OK;
}

/* On failure the lists are empty. */
static ag_status_t parse_lists(const char *option, const char *text, number_lists_t *lists)
{
    const char *at = text;
    ag_status_t status;

    *lists = (number_lists_t){.numbers = AG_ARRAY(uint32_t), .ends = AG_ARRAY(size_t)};
    for (;;) {
        uint32_t number;

        status = parse_number(option, text, &at, &number);
        if (status == AG_OK) {
            status = ag_array_append(&lists->numbers, &number, 1);
        }
        if (status == AG_OK && (*at == ';' || *at == '\0')) {
            status = ag_array_append(&lists->ends, &lists->numbers.n_items, 1);
        } else if (status == AG_OK && *at != ',') {
            status = ag_fail(AG_ERR_INVALID, "%s \"%s\": \"%s\" is not understood", option, text, at);
        }
        if (status != AG_OK || *at == '\0') {
            break;
        }
        at++;
    }
    if (status != AG_OK) {
        fini_lists(lists);
    }
    return status;
}

static const uint32_t *list_at(const number_lists_t *lists, size_t i, size_t *n_p)
{
    size_t begin = i > 0 ? AG_ITEMS(&lists->ends, size_t)[i - 1] : 0;

    *n_p = AG_ITEMS(&lists->ends, size_t)[i] - begin;
    return AG_ITEMS(&lists->numbers, uint32_t) + begin;
}

/* The options as lists; those not given have none. */
typedef struct parsed {
    number_lists_t tp, tensor_split, pipeline_split;
    uint32_t n_stages;
} parsed_t;

static ag_status_t flat_only(const char *option, const char *text, const number_lists_t *lists)
{
    return lists->ends.n_items <= 1 ? AG_OK
                                    : ag_fail(AG_ERR_INVALID, "%s \"%s\": ';' has no meaning here",
                                              option, text);
}

static ag_status_t parse_options(const ag_plan_opts_t *opts, parsed_t *parsed)
{
    ag_status_t status = AG_OK;

    if (opts->tp != NULL) {
        status = parse_lists("--tp", opts->tp, &parsed->tp);
        status = status == AG_OK ? flat_only("--tp", opts->tp, &parsed->tp) : status;
    }
    if (status == AG_OK && opts->tensor_split != NULL) {
        status = parse_lists("--tensor-split", opts->tensor_split, &parsed->tensor_split);
    }
    if (status == AG_OK && opts->pipeline_split != NULL) {
        status = parse_lists("--pipeline-split", opts->pipeline_split, &parsed->pipeline_split);
        status = status == AG_OK ? flat_only("--pipeline-split", opts->pipeline_split,
                                             &parsed->pipeline_split)
                                 : status;
    }
    return status;
}

/* Every option that lists something per stage says how many stages there are; they must agree. */
static ag_status_t count_stages(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                                parsed_t *parsed)
{
    size_t said[3] = {parsed->tp.numbers.n_items, parsed->tensor_split.ends.n_items,
                      parsed->pipeline_split.numbers.n_items};
    static const char *const names[3] = {"--tp", "--tensor-split", "--pipeline-split"};
    size_t n_stages = opts->pp;

    for (int i = 0; i < 3; i++) {
        bool says = said[i] > 1 || (i == 2 && said[i] == 1);

        if (says && n_stages == 0) {
            n_stages = said[i];
        } else if (says && said[i] != n_stages) {
            return ag_fail(AG_ERR_INVALID,
                           "%s speaks of %zu stages, but there are %zu: give one entry per stage",
                           names[i], said[i], n_stages);
        }
    }
    n_stages = n_stages > 0 ? n_stages : 1;
    if (n_stages > model->n_layers) {
        return ag_fail(AG_ERR_INVALID,
                       "%zu pipeline stages need as many layers, the model has %u: give --pp %u or "
                       "less",
                       n_stages, model->n_layers, model->n_layers);
    }
    parsed->n_stages = (uint32_t)n_stages;
    return AG_OK;
}

/* The degree of a stage, and its proportions where they were given. */
static ag_status_t stage_degree(const ag_plan_opts_t *opts, const parsed_t *parsed, uint32_t stage,
                                uint32_t *degree_p, const uint32_t **shares_p)
{
    const number_lists_t *tp = &parsed->tp, *split = &parsed->tensor_split;
    size_t n_tp = tp->numbers.n_items, n_lists = split->ends.n_items, n_shares = 0;

    *shares_p = NULL;
    if (n_lists > 0) {
        *shares_p = list_at(split, n_lists > 1 ? stage : 0, &n_shares);
    }
    if (n_tp == 0) {
        *degree_p = n_shares > 0 ? (uint32_t)n_shares : 1;
        return AG_OK;
    }
    *degree_p = AG_ITEMS(&tp->numbers, uint32_t)[n_tp > 1 ? stage : 0];
    if (*degree_p == 0 || *degree_p > AG_MAX_RANKS) {
        return ag_fail(AG_ERR_INVALID, "--tp \"%s\": a degree must be 1 to %d", opts->tp,
                       AG_MAX_RANKS);
    }
    if (n_lists == 1 && n_shares != *degree_p && n_tp > 1) {
        *shares_p = NULL; /* one list serves the stages of its length */
        n_shares = 0;
    }
    if (n_shares > 0 && n_shares != *degree_p) {
        return ag_fail(AG_ERR_INVALID,
                       "--tensor-split \"%s\" has %zu shares for stage %u, whose --tp is %u: give "
                       "one share per rank",
                       opts->tensor_split, n_shares, stage, *degree_p);
    }
    return AG_OK;
}

static ag_status_t fill_replica(const ag_plan_opts_t *opts, const parsed_t *parsed, uint32_t stage,
                                uint32_t *next_rank, ag_replica_t *replica)
{
    const uint32_t *shares;
    uint32_t degree;
    uint64_t sum = 0;
    ag_status_t status = stage_degree(opts, parsed, stage, &degree, &shares);

    if (status == AG_OK && degree > AG_MAX_RANKS - *next_rank) {
        status = ag_fail(AG_ERR_INVALID, "--tp and --pp ask for more than %d ranks", AG_MAX_RANKS);
    }
    if (status == AG_OK) {
        status = ag_replica_resize(replica, degree);
    }
    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < degree; i++) {
        replica->ranks[i] = (*next_rank)++;
        replica->shares[i] = shares != NULL ? shares[i] : 1;
        sum += replica->shares[i];
    }
    return sum > 0 ? AG_OK
                   : ag_fail(AG_ERR_INVALID, "--tensor-split \"%s\": all shares of stage %u are 0",
                             opts->tensor_split, stage);
}

static ag_status_t fill_layers(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                               const parsed_t *parsed, ag_plan_t *plan)
{
    const ag_array_t *split = &parsed->pipeline_split.numbers;
    uint32_t n_stages = plan->n_stages, at = 0;

    for (uint32_t s = 0; s < n_stages; s++) {
        uint32_t n = split->n_items > 0
                         ? AG_ITEMS(split, uint32_t)[s]
                         : model->n_layers / n_stages + (s < model->n_layers % n_stages);

        if (n == 0) {
            return ag_fail(AG_ERR_INVALID,
                           "--pipeline-split \"%s\" leaves stage %u without a layer: give each at "
                           "least 1",
                           opts->pipeline_split, s);
        }
        plan->stages[s].layer_begin = at;
        at += n;
        plan->stages[s].layer_end = at;
    }
    return at == model->n_layers
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "--pipeline-split \"%s\" gives %u layers, the model has %u",
                         opts->pipeline_split, at, model->n_layers);
}

static ag_status_t parse_bytes(const char *text, const char **at_p, uint64_t *bytes_p)
{
    static const char suffixes[] = "KMGT";
    const char *suffix;
    char *end;
    double value;

    errno = 0;
    value = isdigit((unsigned char)**at_p) ? strtod(*at_p, &end) : -1;
    if (value < 0 || errno != 0) {
        return ag_fail(AG_ERR_INVALID, "--max-memory \"%s\": a number of bytes is expected, like 2G",
                       text);
    }
    suffix = *end != '\0' ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
    if (suffix != NULL) {
        for (const char *s = suffixes; s <= suffix; s++) {
            value *= 1024;
        }
        end++;
        end += *end == 'i';
    }
    end += *end == 'B' || *end == 'b';
    if (value < 1 || value > 0x1p60 || (*end != ',' && *end != '\0')) {
        return ag_fail(AG_ERR_INVALID,
                       "--max-memory \"%s\": \"%s\" is no number of bytes (suffixes: K M G T)", text,
                       *at_p);
    }
    *at_p = end;
    *bytes_p = (uint64_t)value;
    return AG_OK;
}

static ag_status_t fill_budgets(const ag_plan_opts_t *opts, ag_plan_t *plan)
{
    uint32_t n_ranks = ag_plan_ranks(plan);
    const char *at = opts->max_memory;
    uint32_t n = 0;

    if (at == NULL) {
        return AG_OK;
    }
    plan->budget_bytes = calloc((size_t)n_ranks + 1, sizeof(*plan->budget_bytes));
    if (plan->budget_bytes == NULL) {
        return ag_fail_nomem("making a plan", n_ranks * sizeof(*plan->budget_bytes));
    }
    for (;; at++) {
        uint64_t bytes = 0;
        ag_status_t status = parse_bytes(opts->max_memory, &at, &bytes);

        if (status != AG_OK) {
            return status;
        }
        if (n < n_ranks) {
            plan->budget_bytes[n] = bytes;
        }
        n++;
        if (*at == '\0') {
            break;
        }
    }
    if (n != 1 && n != n_ranks) {
        return ag_fail(AG_ERR_INVALID,
                       "--max-memory \"%s\" has %u budgets for %u ranks: give one, or one per rank",
                       opts->max_memory, n, n_ranks);
    }
    for (uint32_t i = 1; n == 1 && i < n_ranks; i++) {
        plan->budget_bytes[i] = plan->budget_bytes[0];
    }
    plan->n_budgets = n_ranks;
    return AG_OK;
}

static ag_status_t fill_sizes(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                              ag_plan_t *plan)
{
    if (opts->context_tokens > model->context_tokens) {
        return ag_fail(AG_ERR_INVALID, "--context %u is beyond the model's %u",
                       opts->context_tokens, model->context_tokens);
    }
    memcpy(plan->spec_hash, model->spec_hash, sizeof(plan->spec_hash));
    strncpy(plan->family, model->family, sizeof(plan->family) - 1);
    plan->compute = opts->compute;
    plan->kv_type = opts->compute == AG_COMPUTE_F32 ? AG_F32 : AG_F16;
    plan->context_tokens = opts->context_tokens > 0 ? opts->context_tokens : model->context_tokens;
    plan->n_sequences = opts->n_sequences > 0 ? opts->n_sequences : 1;
    plan->batch_tokens = opts->batch_tokens > 0 ? opts->batch_tokens : 512;
    if (plan->batch_tokens > plan->context_tokens) {
        plan->batch_tokens = plan->context_tokens;
    }
    return AG_OK;
}

static ag_status_t fill_plan(const ag_plan_model_t *model, const ag_plan_opts_t *opts,
                             const parsed_t *parsed, ag_plan_t *plan)
{
    uint32_t next_rank = 0;
    ag_status_t status = fill_layers(model, opts, parsed, plan);

    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        status = fill_replica(opts, parsed, s, &next_rank, &plan->stages[s].replicas[0]);
    }
    if (status == AG_OK) {
        status = fill_budgets(opts, plan);
    }
    return status == AG_OK ? fill_sizes(model, opts, plan) : status;
}

ag_status_t ag_plan_make(const ag_plan_model_t *model, const ag_plan_opts_t *opts, ag_plan_t **plan_p)
{
    parsed_t parsed = {0};
    ag_plan_t *plan = NULL;
    ag_status_t status = parse_options(opts, &parsed);

    if (status == AG_OK) {
        status = count_stages(model, opts, &parsed);
    }
    if (status == AG_OK) {
        status = ag_plan_create(parsed.n_stages, &plan);
    }
    if (status == AG_OK) {
        status = fill_plan(model, opts, &parsed, plan);
    }
    fini_lists(&parsed.tp);
    fini_lists(&parsed.tensor_split);
    fini_lists(&parsed.pipeline_split);
    if (status != AG_OK) {
        ag_plan_destroy(plan);
        return status;
    }
    *plan_p = plan;
    return AG_OK;
}
