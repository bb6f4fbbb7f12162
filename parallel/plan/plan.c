#include "parallel/plan/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"
#include "runtime/base/hash.h"

ag_status_t ag_plan_create(uint32_t n_stages, ag_plan_t **plan_p)
{
    ag_plan_t *plan = calloc(1, sizeof(*plan));

    if (plan == NULL) {
        return ag_fail_nomem("making a plan", sizeof(*plan));
    }
    plan->stages = calloc((size_t)n_stages + 1, sizeof(*plan->stages));
    if (plan->stages == NULL) {
        free(plan);
        return ag_fail_nomem("making a plan", n_stages * sizeof(*plan->stages));
    }
    for (; plan->n_stages < n_stages; plan->n_stages++) {
        ag_stage_t *stage = &plan->stages[plan->n_stages];

        stage->replicas = calloc(1, sizeof(*stage->replicas));
        if (stage->replicas == NULL) {
            ag_plan_destroy(plan);
            return ag_fail_nomem("making a plan", sizeof(*stage->replicas));
        }
        stage->n_replicas = 1;
        stage->replicas[0].micro_batches = 1;
    }
    *plan_p = plan;
    return AG_OK;
}

ag_status_t ag_replica_resize(ag_replica_t *replica, uint32_t n_ranks)
{
    replica->ranks = calloc((size_t)n_ranks + 1, sizeof(*replica->ranks));
    replica->shares = calloc((size_t)n_ranks + 1, sizeof(*replica->shares));
    if (replica->ranks == NULL || replica->shares == NULL) {
        return ag_fail_nomem("making a plan", n_ranks * sizeof(*replica->ranks));
    }
    replica->n_ranks = n_ranks;
    return AG_OK;
}

void ag_plan_destroy(ag_plan_t *plan)
{
    if (plan == NULL) {
        return;
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        ag_stage_t *stage = &plan->stages[s];

        for (uint32_t i = 0; i < stage->n_replicas; i++) {
            free(stage->replicas[i].ranks);
            free(stage->replicas[i].shares);
        }
        free(stage->replicas);
    }
    free(plan->stages);
    free(plan->budget_bytes);
    free(plan);
}

uint32_t ag_plan_ranks(const ag_plan_t *plan)
{
    uint32_t n_ranks = 0;

    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_replicas; i++) {
            n_ranks += plan->stages[s].replicas[i].n_ranks;
        }
    }
    return n_ranks;
}

/* " (--tp 2 --pp 3)": the options that say this plan; "" where it takes none, or too many words. */
static void describe_plan(const ag_plan_t *plan, char *text, size_t n_bytes)
{
    uint32_t n_stages = plan->n_stages, first = plan->stages[0].replicas[0].n_ranks;
    bool alike = true;
    char degrees[64], stages[32] = "";
    int n_chars = 0;

    for (uint32_t s = 1; s < n_stages; s++) {
        alike = alike && plan->stages[s].replicas[0].n_ranks == first;
    }
    for (uint32_t s = 0; s < (alike ? 1 : n_stages) && n_chars < (int)sizeof(degrees); s++) {
        n_chars += snprintf(degrees + n_chars, sizeof(degrees) - (size_t)n_chars, "%s%u",
                            s > 0 ? "," : "", plan->stages[s].replicas[0].n_ranks);
    }
    if (n_stages > 1) {
        snprintf(stages, sizeof(stages), " --pp %u", n_stages);
    }
    text[0] = '\0';
    if (ag_plan_ranks(plan) > 1 && n_chars < (int)sizeof(degrees)) {
        snprintf(text, n_bytes, " (--tp %s%s)", degrees, stages);
    }
}

/* Up to three ways to use n ranks: all in a stage, a rectangle as square as can be, all in a row.
 */
static void suggest_options(uint32_t n, uint32_t n_layers, char *text, size_t n_bytes)
{
    uint32_t most_stages = n_layers < AG_MAX_STAGES ? n_layers : AG_MAX_STAGES, stages = 1;
    char rectangle[64] = "", row[32] = "";

    if (n == 1) {
        snprintf(text, n_bytes, ", or leave --tp and --pp out");
        return;
    }
    if (n == 0 || n > AG_MAX_RANKS) {
        text[0] = '\0';
        return;
    }
    for (uint32_t d = 2; d <= n / d && d <= most_stages; d++) {
        stages = n % d == 0 ? d : stages;
    }
    if (stages > 1) {
        snprintf(rectangle, sizeof(rectangle), ", or --tp %u --pp %u", n / stages, stages);
    }
    if (n <= most_stages) {
        snprintf(row, sizeof(row), ", or --pp %u", n);
    }
    snprintf(text, n_bytes, ", or give --tp %u%s%s", n, rectangle, row);
}

ag_status_t ag_plan_check_ranks(const ag_plan_t *plan, uint32_t n_started)
{
    uint32_t n_ranks = ag_plan_ranks(plan), n_layers = plan->stages[plan->n_stages - 1].layer_end;
    char said[128], run[64] = "run it without mpirun", others[160];

    if (n_ranks == n_started) {
        return AG_OK;
    }
    describe_plan(plan, said, sizeof(said));
    suggest_options(n_started, n_layers, others, sizeof(others));
    if (n_ranks > 1) {
        snprintf(run, sizeof(run), "run mpirun -n %u", n_ranks);
    }
    return ag_fail(AG_ERR_INVALID, "the plan has %u rank%s%s, but %u %s started: %s%s", n_ranks,
                   n_ranks == 1 ? "" : "s", said, n_started, n_started == 1 ? "was" : "were", run,
                   others);
}

ag_status_t ag_plan_check_model(const ag_plan_t *plan, const ag_plan_model_t *model)
{
    uint32_t n_layers = plan->stages[plan->n_stages - 1].layer_end;

    if (strcmp(plan->spec_hash, model->spec_hash) != 0 || n_layers != model->n_layers) {
        return ag_fail(AG_ERR_INVALID,
                       "the plan is for another model: a %s of %u layers with hash %s, this is a "
                       "%s of %u layers with hash %s",
                       plan->family, n_layers, plan->spec_hash, model->family, model->n_layers,
                       model->spec_hash);
    }
    if (plan->context_tokens > model->context_tokens) {
        return ag_fail(AG_ERR_INVALID, "the plan's context of %u is beyond the model's %u",
                       plan->context_tokens, model->context_tokens);
    }
    return AG_OK;
}

ag_status_t ag_plan_hash(const ag_plan_t *plan, char hash[17])
{
    ag_plan_t without_budgets = *plan;
    ag_json_t *json;
    char *text;
    ag_status_t status;

    without_budgets.n_budgets = 0;
    json = ag_plan_to_json(&without_budgets);
    status = ag_json_text(json, AG_JSON_CANONICAL, &text);
    ag_json_destroy(json);
    if (status == AG_OK) {
        snprintf(hash, 17, "%016" PRIx64, ag_hash_bytes(AG_HASH_SEED, text, strlen(text)));
        free(text);
    }
    return status;
}
