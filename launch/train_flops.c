/* Model FLOPs, the peak that they are held against, and what keeps a run from it. */
#include <math.h>

#include "launch/train.h"
#include "runtime/model/weights.h"

/* Times that a weight meets something. */
static double meetings(const ag_spec_t *spec, const ag_weight_t *weight, double n_tokens,
                       double n_targets)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec, weight->layer);

    switch (weight->role) {
    case AG_ROLE_EMBED: /* looked up, and the head where that is tied */
        return spec->tied ? n_targets : 0;
    case AG_ROLE_HEAD:
        return n_targets;
    case AG_ROLE_EXPERT_GATE:
    case AG_ROLE_EXPERT_UP:
    case AG_ROLE_EXPERT_DOWN:
        return n_tokens * kind->route.n_used / kind->route.n_experts;
    default:
        return n_tokens;
    }
}

double ag_train_flops(const ag_spec_t *spec, uint64_t n_tokens, uint64_t n_targets,
                      const ag_attended_t *attended)
{
    enum { PASSES = 3 }; /* forward, and backward by input and by weight */
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    double flops = 0;

    if (ag_weights_list(spec, &weights) != AG_OK) {
        return 0;
    }
    for (size_t i = 0; i < weights.n_items; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];

        flops += 2.0 * (double)weight->rows * (double)weight->cols *
                 meetings(spec, weight, (double)n_tokens, (double)n_targets);
    }
    ag_array_fini(&weights);
    for (uint32_t layer = 0; layer < spec->n_layers; layer++) {
        const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);

        flops += 4.0 * kind->n_heads * kind->head_dim *
                 (double)attended->pairs[spec->kind_of_layer[layer]];
    }
    return PASSES * flops;
}

double ag_train_peak(const ag_session_t *session)
{
    double peak = 0;

    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        const ag_session_rank_t *rank = ag_session_rank(session, r);
        const ag_limits_t *limits = ag_session_limits(session, r);
        const double *rate =
            session->plan->compute == AG_COMPUTE_F32 || limits->bf16_flops_per_s[1] == 0
                ? limits->f32_flops_per_s
                : limits->bf16_flops_per_s;
        uint32_t n_threads = 0; /* of all ranks of its host */

        for (uint32_t other = 0; other < ag_plan_ranks(session->plan); other++) {
            const ag_session_rank_t *beside = ag_session_rank(session, other);

            n_threads += beside->host == rank->host ? beside->n_threads : 0;
        }
        peak += ag_limits_at(rate, limits->n_cores, n_threads) * rank->n_threads / n_threads;
    }
    return peak;
}

static bool is_product(ag_node_kind_t kind)
{
    switch (kind) {
    case AG_NODE_LINEAR:
    case AG_NODE_LINEAR_GRAD:
    case AG_NODE_LINEAR_WEIGHT_GRAD:
    case AG_NODE_GROUPED_LINEAR:
    case AG_NODE_GROUPED_LINEAR_GRAD:
    case AG_NODE_GROUPED_LINEAR_WEIGHT_GRAD:
    case AG_NODE_SELF_ATTENTION:
    case AG_NODE_SELF_ATTENTION_GRAD:
        return true;
    default:
        return false;
    }
}

const char *ag_train_held_back_by(const ag_training_t *training)
{
    enum { OPS, BYTES, RANKS, BEYOND, N };
    const ag_plan_t *plan = training->session->plan;
    const char *names[N] = {"arithmetic", "memory bandwidth",
                            plan->n_stages > 1 ? "bubble" : "exposed communication", "overhead"};
    double seconds = (double)training->train_ns * 1e-9, parts[N] = {0}, products = 0;
    int most = 0;

    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            *(is_product((ag_node_kind_t)kind) ? &products : &parts[BYTES]) +=
                (double)training->profile.ns[kind][type] * 1e-9;
        }
    }
    parts[BEYOND] = (double)training->profile.barrier_ns * 1e-9;
    /* Products at the peak are arithmetic; what they take longer is overhead. */
    parts[OPS] = fmin(training->flops / training->peak_flops_per_s, products);
    parts[ag_plan_ranks(plan) > 1 ? RANKS : BEYOND] +=
        fmax(0, seconds - products - parts[BYTES] - parts[BEYOND]);
    parts[BEYOND] += products - parts[OPS];
    for (int i = 1; i < N; i++) {
        most = parts[i] > parts[most] ? i : most;
    }
    return names[most];
}
