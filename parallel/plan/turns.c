/*
 * Turns: micro-batches that go through a replica's pipeline in a step. Replicas that exchange rows
 * for experts do so in every turn, in the same order of work: they have as many as the one with the
 * most micro-batches among them, and those behind a replica's own are empty, of no tokens.
 */
#include "parallel/plan/plan_priv.h"

/* Where the replicas end that exchange rows with those before them: each stage links runs of them.
 */
static uint32_t end_of_linked(const ag_plan_t *plan, uint32_t begin)
{
    uint32_t end = begin + 1, before;

    do {
        before = end;
        for (uint32_t s = 0; s < plan->n_stages; s++) {
            const ag_stage_t *stage = &plan->stages[s];

            for (uint32_t at = 0; stage->experts.n_experts > 0 && at < before;) {
                at = ag_stage_experts_end(stage, at);
                end = at > end ? at : end;
            }
        }
    } while (end > before);
    return end;
}

ag_status_t ag_plan_deal_turns(ag_plan_t *plan, const char *what)
{
    uint32_t n_replicas = plan->stages[0].n_replicas;

    for (uint32_t begin = 0, end; begin < n_replicas; begin = end) {
        uint32_t most = 0;

        end = end_of_linked(plan, begin);
        for (uint32_t i = begin; i < end; i++) {
            uint32_t own = plan->stages[0].replicas[i].micro_batches;

            most = own > most ? own : most;
        }
        for (uint32_t i = begin; i < end; i++) {
            for (uint32_t s = 0; s < plan->n_stages; s++) {
                plan->stages[s].replicas[i].turns = most;
            }
        }
    }
    return ag_plan_steps(plan) <= AG_MAX_MICRO_BATCHES
               ? AG_OK
               : ag_fail(AG_ERR_INVALID,
                         "%s: replicas that share experts out go through as many micro-batches as "
                         "the one with the most, %u in all, at most %d can be: deal them out more "
                         "evenly",
                         what, ag_plan_steps(plan), AG_MAX_MICRO_BATCHES);
}

uint32_t ag_plan_first_turn(const ag_plan_t *plan, uint32_t replica)
{
    uint32_t first = 0;

    for (uint32_t i = 0; i < replica; i++) {
        first += plan->stages[0].replicas[i].turns;
    }
    return first;
}

bool ag_plan_turn_is_empty(const ag_plan_t *plan, uint32_t turn)
{
    const ag_replica_t *replica = plan->stages[0].replicas;

    for (; turn >= replica->turns; replica++) {
        turn -= replica->turns;
    }
    return turn >= replica->micro_batches;
}

uint32_t ag_plan_micro_batches(const ag_plan_t *plan)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < plan->stages[0].n_replicas; i++) {
        n += plan->stages[0].replicas[i].micro_batches;
    }
    return n;
}

uint32_t ag_plan_steps(const ag_plan_t *plan)
{
    return plan->train.sequence_tokens > 0 ? ag_plan_first_turn(plan, plan->stages[0].n_replicas)
                                           : plan->n_stages;
}
