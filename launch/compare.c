#include "launch/compare.h"

#include <math.h>

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
    }
    difference->scale = fmax(difference->scale, largest);
    if (ours != theirs) {
        difference->n_greedy++;
        difference->margin =
            fmax(difference->margin, (double)reference[theirs] - (double)reference[ours]);
    }
}

/* Does every rank that has a layer have all of it? */
static bool has_whole_layers(const ag_plan_t *plan)
{
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t r = 0; r < plan->stages[s].n_replicas; r++) {
            if (plan->stages[s].replicas[r].n_ranks > 1) {
                return false;
            }
        }
    }
    return true;
}

/*
 * Between stages a row goes as it is, and a kernel's result for a row depends on that row alone: no
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
    ag_bound_t bound = {.relative = 2e-5, .why = "f32 sums may be in another order"};

    if (given > 0) {
        bound = (ag_bound_t){.relative = given, .why = "as given by --bound"};
    } else if (is_same) {
        bound = (ag_bound_t){.why = "no rank shares a layer: the same bits"};
    } else if (!is_f32) {
        bound = (ag_bound_t){.relative = 0.1,
                             .why = "sums in another order are rounded to int8 and f16 then"};
    }
    bound.absolute = bound.relative * scale;
    return bound;
}
