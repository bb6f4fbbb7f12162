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

ag_status_t ag_stage_set_layers(ag_stage_t *stage, uint32_t chunk, uint32_t n, ag_layers_t layers)
{
    if (n > 1 && stage->chunks == NULL) {
        stage->chunks = calloc(n, sizeof(*stage->chunks));
        if (stage->chunks == NULL) {
            return ag_fail_nomem("making a plan", n * sizeof(*stage->chunks));
        }
    }
    if (n > 1) {
        stage->chunks[chunk] = layers;
    }
    stage->layer_begin = chunk == 0 ? layers.begin : stage->layer_begin;
    stage->layer_end = layers.end;
    return AG_OK;
}

ag_status_t ag_stage_resize(ag_stage_t *stage, uint32_t n_replicas)
{
    ag_replica_t *replicas = calloc((size_t)n_replicas + 1, sizeof(*replicas));

    if (replicas == NULL) {
        return ag_fail_nomem("making a plan", n_replicas * sizeof(*replicas));
    }
    for (uint32_t i = 0; i < n_replicas; i++) {
        replicas[i].micro_batches = 1;
    }
    free(stage->replicas);
    stage->replicas = replicas;
    stage->n_replicas = n_replicas;
    return AG_OK;
}

ag_status_t ag_replica_resize(ag_replica_t *replica, uint32_t n_ranks)
{
    replica->ranks = calloc((size_t)n_ranks + 1, sizeof(*replica->ranks));
    replica->shares = calloc((size_t)n_ranks + 1, sizeof(*replica->shares));
    if (replica->ranks == NULL || replica->shares == NULL) {
        return ag_fail_nomem("making a plan", n_ranks * sizeof(*replica->ranks));
    }
    replica->n_ranks = replica->tensor_ranks = n_ranks;
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
        free(stage->chunks);
        ag_holders_fini(&stage->experts);
    }
    free(plan->stages);
    free(plan->budget_bytes);
    free(plan);
}

uint32_t ag_plan_chunks(const ag_plan_t *plan)
{
    return plan->stages[0].chunks != NULL ? plan->train.virtual_stages : 1;
}

ag_layers_t ag_plan_layers(const ag_plan_t *plan, uint32_t chunk)
{
    const ag_stage_t *stage = &plan->stages[chunk % plan->n_stages];

    return stage->chunks != NULL ? stage->chunks[chunk / plan->n_stages]
                                 : (ag_layers_t){stage->layer_begin, stage->layer_end};
}

uint32_t ag_plan_slots(const ag_plan_t *plan)
{
    return plan->train.sequence_tokens > 0 ? 1 : plan->n_stages;
}

uint32_t ag_plan_step_sequences(const ag_plan_t *plan)
{
    uint32_t n_slots = ag_plan_slots(plan);

    return plan->n_sequences / n_slots + (plan->n_sequences % n_slots > 0);
}

ag_status_t ag_plan_on_one(const ag_plan_t *plan, ag_plan_t **one_p)
{
    uint32_t n_experts = plan->stages[0].experts.n_experts;
    ag_plan_t *one, sizes = *plan;
    ag_stage_t *stage;
    ag_status_t status = ag_plan_create(1, &one);

    if (status != AG_OK) {
        return status;
    }
    stage = one->stages;
    sizes.n_stages = 1;
    sizes.stages = stage;
    sizes.n_budgets = 0;
    sizes.budget_bytes = NULL;
    *one = sizes;
    stage->layer_end = plan->stages[plan->n_stages - 1].layer_end;
    stage->replicas[0].micro_batches = stage->replicas[0].turns = ag_plan_micro_batches(plan);
    one->train.virtual_stages = plan->train.virtual_stages > 0;
    if (plan->train.virtual_stages > 1) {
        strcpy(one->train.schedule, AG_SCHEDULE_DEFAULT);
    }
    status = ag_replica_resize(&stage->replicas[0], 1);
    if (status == AG_OK) {
        stage->replicas[0].shares[0] = 1;
    }
    if (status == AG_OK && n_experts > 0) {
        status = ag_holders_fill(stage, n_experts, NULL, 1);
    }
    if (status != AG_OK) {
        ag_plan_destroy(one);
        return status;
    }
    *one_p = one;
    return AG_OK;
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

ag_status_t ag_plan_check_model(const ag_plan_t *plan, const ag_plan_model_t *model)
{
    uint32_t n_layers = plan->stages[plan->n_stages - 1].layer_end;

    if (strcmp(plan->spec_hash, model->spec_hash) != 0 || n_layers != model->n_layers) {
        return ag_fail(AG_ERR_INVALID,
                       "the plan is for another model: a %s of %u layers with hash %s, this is a "
                       "%s of %u layers with hash %s: make the plan anew, or name its model",
                       plan->family, n_layers, plan->spec_hash, model->family, model->n_layers,
                       model->spec_hash);
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        uint32_t n = plan->stages[s].experts.n_experts;

        if (n != model->n_experts) {
            return ag_fail(AG_ERR_INVALID,
                           "the plan says who holds %u experts, but the model has %u: make the "
                           "plan anew",
                           n, model->n_experts);
        }
    }
    if (plan->context_tokens > model->context_tokens) {
        return ag_fail(AG_ERR_INVALID,
                       "the plan's context of %u is beyond the model's %u: make the plan anew",
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
