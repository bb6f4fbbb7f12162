/* Who holds which expert: from counts, and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"

enum { PATH_BYTES = 64 };

ag_status_t ag_holders_resize(ag_holders_t *holders, uint32_t n_experts, size_t n_ranks)
{
    holders->begin = calloc((size_t)n_experts + 1, sizeof(*holders->begin));
    holders->ranks = calloc(n_ranks + 1, sizeof(*holders->ranks));
    if (holders->begin == NULL || holders->ranks == NULL) {
        return ag_fail_nomem("making a plan", n_ranks * sizeof(*holders->ranks));
    }
    holders->n_experts = n_experts;
    return AG_OK;
}

void ag_holders_fini(ag_holders_t *holders)
{
    free(holders->begin);
    free(holders->ranks);
    *holders = (ag_holders_t){0};
}

/* The stage's rank number i, replica after replica; they have equally many. */
static uint32_t rank_of_stage(const ag_stage_t *stage, uint32_t i)
{
    uint32_t n_each = stage->replicas[0].n_ranks;

    return stage->replicas[i / n_each].ranks[i % n_each];
}

ag_status_t ag_holders_fill(ag_stage_t *stage, uint32_t n_experts, const uint32_t *counts,
                            uint32_t n)
{
    ag_holders_t *holders = &stage->experts;
    uint32_t n_copies = stage->n_replicas * stage->replicas[0].n_ranks / n, expert = 0;
    ag_status_t status = ag_holders_resize(holders, n_experts, (size_t)n_experts * n_copies);

    for (uint32_t i = 0; status == AG_OK && i < n; i++) {
        uint32_t count = counts != NULL ? counts[i] : n_experts / n + (i < n_experts % n);

        for (uint32_t j = 0; j < count; j++, expert++) {
            for (uint32_t copy = 0; copy < n_copies; copy++) {
                holders->ranks[holders->begin[expert] + copy] = rank_of_stage(stage, copy * n + i);
            }
            holders->begin[expert + 1] = holders->begin[expert] + n_copies;
        }
    }
    return status;
}

static bool is_of_replicas(const ag_stage_t *stage, uint32_t begin, uint32_t end, uint32_t rank)
{
    for (uint32_t i = begin; i < end; i++) {
        for (uint32_t j = 0; j < stage->replicas[i].n_ranks; j++) {
            if (stage->replicas[i].ranks[j] == rank) {
                return true;
            }
        }
    }
    return false;
}

static bool hold_all(const ag_stage_t *stage, uint32_t begin, uint32_t end)
{
    const ag_holders_t *holders = &stage->experts;
    bool held = true;

    for (uint32_t e = 0; e < holders->n_experts && held; e++) {
        held = false;
        for (uint32_t i = holders->begin[e]; i < holders->begin[e + 1] && !held; i++) {
            held = is_of_replicas(stage, begin, end, holders->ranks[i]);
        }
    }
    return held;
}

uint32_t ag_stage_experts_end(const ag_stage_t *stage, uint32_t begin)
{
    uint32_t end = begin + 1;

    while (end < stage->n_replicas && !hold_all(stage, begin, end)) {
        end++;
    }
    return hold_all(stage, end, stage->n_replicas) ? end : stage->n_replicas;
}

static bool is_holder(const ag_holders_t *holders, uint32_t expert, uint32_t rank)
{
    for (uint32_t i = holders->begin[expert]; i < holders->begin[expert + 1]; i++) {
        if (holders->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

bool ag_stage_experts_are_alike(const ag_stage_t *stage)
{
    const ag_holders_t *holders = &stage->experts;
    uint32_t n = stage->replicas[0].n_ranks * stage->n_replicas;

    for (uint32_t e = 0; e < holders->n_experts; e++) {
        for (uint32_t i = stage->replicas[0].n_ranks; i < n; i++) {
            uint32_t first = stage->replicas[0].ranks[i % stage->replicas[0].n_ranks];

            if (is_holder(holders, e, first) != is_holder(holders, e, rank_of_stage(stage, i))) {
                return false;
            }
        }
    }
    return hold_all(stage, 0, 1);
}

ag_json_t *ag_plan_experts_json(const ag_plan_t *plan)
{
    ag_json_t *stages = ag_json_new_array();

    for (uint32_t s = 0; s < plan->n_stages && plan->stages[s].experts.n_experts > 0; s++) {
        const ag_holders_t *experts = &plan->stages[s].experts;
        ag_json_t *stage = ag_json_new_object(), *holders = ag_json_new_array();

        for (uint32_t e = 0; e < experts->n_experts; e++) {
            ag_json_t *ranks = ag_json_new_array();

            for (uint32_t i = experts->begin[e]; i < experts->begin[e + 1]; i++) {
                ag_json_append(ranks, ag_json_new_integer(experts->ranks[i]));
            }
            ag_json_append(holders, ranks);
        }
        ag_json_set(stage, "holders", holders);
        ag_json_append(stages, stage);
    }
    return stages;
}

/* One of an expert's holders: a rank of its stage that is not yet among them. */
static ag_status_t read_holder(const ag_json_t *json, const char *what, const char *path,
                               const ag_stage_t *stage, const uint32_t *others, uint32_t n_others,
                               uint32_t *rank_p)
{
    ag_status_t status = ag_plan_read_number(json, what, path, 0, AG_MAX_RANKS - 1, rank_p);

    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_others; i++) {
        if (others[i] == *rank_p) {
            return ag_fail(AG_ERR_INVALID, "%s: %s is %u, which stands twice", what, path, *rank_p);
        }
    }
    return is_of_replicas(stage, 0, stage->n_replicas, *rank_p)
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "%s: %s is %u, which is no rank of its stage", what, path,
                         *rank_p);
}

static ag_status_t read_holders(const ag_json_t *list, const char *what, uint32_t stage,
                                ag_stage_t *of)
{
    ag_holders_t *holders = &of->experts;
    size_t n_ranks = 0;
    char path[PATH_BYTES];
    ag_status_t status;

    snprintf(path, sizeof(path), "experts[%u].holders", stage);
    if (ag_json_kind(list) != AG_JSON_ARRAY || ag_json_size(list) == 0 ||
        ag_json_size(list) > AG_MAX_EXPERTS) {
        return ag_fail(AG_ERR_INVALID, "%s: %s must be a list of 1 to %d", what, path,
                       AG_MAX_EXPERTS);
    }
    for (uint32_t e = 0; e < ag_json_size(list); e++) {
        const ag_json_t *ranks = ag_json_at(list, e);

        snprintf(path, sizeof(path), "experts[%u].holders[%u]", stage, e);
        if (ag_json_kind(ranks) != AG_JSON_ARRAY || ag_json_size(ranks) == 0) {
            return ag_fail(AG_ERR_INVALID, "%s: %s must be a list of ranks: nobody holds expert %u",
                           what, path, e);
        }
        n_ranks += ag_json_size(ranks);
    }
    status = ag_holders_resize(holders, (uint32_t)ag_json_size(list), n_ranks);
    for (uint32_t e = 0, at = 0; e < ag_json_size(list) && status == AG_OK; e++) {
        const ag_json_t *ranks = ag_json_at(list, e);
        uint32_t n = (uint32_t)ag_json_size(ranks), first = at;

        for (uint32_t i = 0; i < n && status == AG_OK; i++, at++) {
            snprintf(path, sizeof(path), "experts[%u].holders[%u][%u]", stage, e, i);
            status = read_holder(ag_json_at(ranks, i), what, path, of, holders->ranks + first, i,
                                 &holders->ranks[at]);
        }
        holders->begin[e + 1] = at;
    }
    return status;
}

/* Attention that several ranks have whole is of use where they share experts out. */
static ag_status_t check_shared(const ag_plan_t *plan, const char *what)
{
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        const ag_replica_t *replica = &plan->stages[s].replicas[0];

        if (replica->tensor_ranks != replica->n_ranks) {
            return ag_fail(AG_ERR_INVALID,
                           "%s: stages[%u].replicas[0].tensor_ranks is 1, but its %u ranks have "
                           "no experts to share out",
                           what, s, replica->n_ranks);
        }
    }
    return AG_OK;
}

ag_status_t ag_plan_read_experts(const ag_json_t *json, const char *what, ag_plan_t *plan)
{
    static const char *const keys[] = {"holders", NULL};
    uint32_t n = (uint32_t)ag_json_size(json);
    ag_status_t status = AG_OK;

    if (json == NULL || (ag_json_kind(json) == AG_JSON_ARRAY && n == 0)) {
        return check_shared(plan, what);
    }
    if (ag_json_kind(json) != AG_JSON_ARRAY || ag_json_size(json) != plan->n_stages) {
        return ag_fail(AG_ERR_INVALID,
                       "%s: experts must be a list of one for each of %u stages, or an empty one",
                       what, plan->n_stages);
    }
    for (uint32_t s = 0; s < n && status == AG_OK; s++) {
        const ag_json_t *stage = ag_json_at(json, s);
        const ag_holders_t *first = &plan->stages[0].experts;
        char path[PATH_BYTES];

        status = read_holders(ag_json_get(stage, "holders"), what, s, &plan->stages[s]);
        if (status == AG_OK && plan->stages[s].experts.n_experts != first->n_experts) {
            status = ag_fail(AG_ERR_INVALID,
                             "%s: experts[%u].holders has %u experts, experts[0].holders %u", what,
                             s, plan->stages[s].experts.n_experts, first->n_experts);
        }
        snprintf(path, sizeof(path), "experts[%u]", s);
        status = status == AG_OK ? ag_plan_check_keys(stage, what, path, keys) : status;
    }
    return status;
}
