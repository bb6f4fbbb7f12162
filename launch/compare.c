#include "launch/compare.h"

#include <math.h>

/* Sums that are rounded otherwise move logits by less, a share that is wrong by about all of them.
 */
static const double far_relative = 0.1;

static uint32_t likeliest(const float *logits, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

void ag_difference_add(ag_difference_t *difference, uint64_t row, const float *own,
                       const float *reference, uint32_t n)
{
    uint32_t ours = likeliest(own, n), theirs = likeliest(reference, n), at = 0;
    double most = -1, largest = 0;

    for (uint32_t i = 0; i < n; i++) {
        double apart = fabs((double)own[i] - (double)reference[i]);

        apart = isfinite(apart) ? apart : HUGE_VAL;
        if (apart > most) {
            most = apart;
            at = i;
        }
        largest = fmax(largest, fabs((double)reference[i]));
    }
    if (difference->n_rows++ == 0 || most > difference->absolute) {
        difference->absolute = most;
        difference->row = row;
        difference->entry = at;
        difference->own = own[at];
        difference->reference = reference[at];
    }
    if (most > 0) {
        difference->relative = fmax(difference->relative, largest > 0 ? most / largest : HUGE_VAL);
        difference->n_far += !(most <= far_relative * largest);
    }
    difference->scale = fmax(difference->scale, largest);
    if (ours != theirs) {
        difference->n_greedy++;
        difference->margin =
            fmax(difference->margin, (double)reference[theirs] - (double)reference[ours]);
    }
}

/* Does every rank that has a layer have all of it, or all but experts? */
static bool has_whole_layers(const ag_plan_t *plan)
{
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t r = 0; r < plan->stages[s].n_replicas; r++) {
            if (plan->stages[s].replicas[r].tensor_ranks > 1) {
                return false;
            }
        }
    }
    return true;
}

/*
 * Between stages a row goes as it is, and so it does to an expert and back, where what its experts
 * make of it is summed in one order: a kernel's result for a row depends on that row alone, and no
 * rounding differs. Ranks that share a layer sum its parts, in another order than one rank does: in
 * f32 that is some units in the last place a layer, of which 2e-5 leaves room for hundreds of
 * layers. With auto such a unit may tip a value that is then rounded to int8 or f16, which moves it
 * by up to 1/254 of its block's largest, and every layer adds to that: 5% of the largest logit was
 * seen over 30 layers, on ids drawn at random. A share that is wrong is off by about all of it.
 */
ag_bound_t ag_bound_of(const ag_plan_t *plan, const ag_plan_t *reference, double scale,
                       double given)
{
    bool is_f32 = plan->compute == AG_COMPUTE_F32 && reference->compute == AG_COMPUTE_F32 &&
                  plan->kv_type == AG_F32 && reference->kv_type == AG_F32;
    bool is_same = plan->compute == reference->compute && plan->kv_type == reference->kv_type &&
                   has_whole_layers(plan) && has_whole_layers(reference);
    ag_bound_t bound = {
        .relative = 2e-5, .router_gap = 1e-5f, .why = "f32 sums may be in another order"};

    if (is_same) {
        bound = (ag_bound_t){.why = "no rank shares sums of a layer: the same bits"};
    } else if (!is_f32) {
        bound = (ag_bound_t){.relative = far_relative,
                             .router_gap = 1e-2f,
                             .why = "sums in another order are rounded to int8 and f16 then"};
    }
    if (given > 0) {
        bound.relative = given;
        bound.why = "as given by --bound";
    }
    bound.absolute = bound.relative * scale;
    return bound;
}

/*
 * A token whose experts' scores are as good as equal may go to either by rounding, and then its
 * logits are others, and by its keys and values those of all tokens after it. Such a token is no
 * fault, but it must not hide one: for most rows far off no tie is to blame, nor for no number.
 */
ag_verdict_t ag_bound_judge(const ag_bound_t *bound, const ag_difference_t *differences, uint32_t n,
                            float router_gap)
{
    uint64_t n_rows = 0, n_far = 0;
    double most = 0;

    for (uint32_t i = 0; i < n; i++) {
        most = fmax(most, differences[i].absolute);
        n_rows += differences[i].n_rows;
        n_far += differences[i].n_far;
    }
    if (most <= bound->absolute) {
        return AG_VERDICT_WITHIN;
    }
    return router_gap < bound->router_gap && isfinite(most) && 2 * n_far <= n_rows
               ? AG_VERDICT_EXCUSED
               : AG_VERDICT_BEYOND;
}
