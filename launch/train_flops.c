/* Model FLOPs, the peak that they are held against, and what keeps a run from it. */
#include <math.h>
#include <stdlib.h>

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
    case AG_ROLE_POSITIONS:
        return 0;
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

/* What a rank's threads have of its host, where all ranks of that compute together. */
static double share_of(const ag_session_t *session, uint32_t r, const double rate[2])
{
    const ag_session_rank_t *rank = ag_session_rank(session, r);
    uint32_t n_threads = 0; /* of all ranks of its host */

    for (uint32_t other = 0; other < ag_plan_ranks(session->plan); other++) {
        const ag_session_rank_t *beside = ag_session_rank(session, other);

        n_threads += beside->host == rank->host ? beside->n_threads : 0;
    }
    return ag_limits_at(rate, ag_session_limits(session, r)->n_cores, n_threads) * rank->n_threads /
           n_threads;
}

static double peak_of(const ag_session_t *session, uint32_t r)
{
    const ag_limits_t *limits = ag_session_limits(session, r);

    return share_of(session, r,
                    session->plan->compute == AG_COMPUTE_F32 || limits->bf16_flops_per_s[1] == 0
                        ? limits->f32_flops_per_s
                        : limits->bf16_flops_per_s);
}

double ag_train_peak(const ag_session_t *session)
{
    double peak = 0;

    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        peak += peak_of(session, r);
    }
    return peak;
}

/* What a rank's segments cost, of a mean micro-batch of the run; into `costs`, which is cleared. */
static void cost_segment(const ag_training_t *training, uint32_t rank, uint32_t segment,
                         ag_costs_t *costs)
{
    const ag_session_t *session = training->session;
    const ag_rank_program_t *program = &session->programs.programs[0]->ranks[rank];
    const ag_graph_t *graph = AG_ITEMS(&program->segments, ag_segment_t)[segment].inside;
    double n_steps = training->n_micro_batches;
    ag_cost_shape_t shape = {
        .counts = {[AG_COUNT_ONE] = 1,
                   [AG_COUNT_TOKENS] = (double)training->n_tokens / n_steps,
                   [AG_COUNT_OUTPUTS] = (double)training->n_learned / n_steps}};

    for (int i = 0; i < AG_MAX_SIGHTS; i++) {
        shape.attended[i] = (double)training->attended.pairs[i] / n_steps;
    }
    *costs = (ag_costs_t){0};
    if (graph != NULL) {
        ag_graph_cost(graph, ag_params_held(&session->build->ranks[rank].params), &shape, costs);
    }
}

typedef struct timing {
    const ag_training_t *training;
    ag_costs_t *costs; /* room */
} timing_t;

/* Products at the peak, all else at the bandwidth of memory. */
static double seconds_of(void *arg, uint32_t rank, const ag_op_t *op)
{
    const timing_t *timing = arg;
    const ag_session_t *session = timing->training->session;
    double peak = peak_of(session, rank), seconds = 0;
    double bytes_per_s =
        share_of(session, rank, ag_session_limits(session, rank)->read_bytes_per_s);

    cost_segment(timing->training, rank, op->subject, timing->costs);
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            const ag_cost_t *cost = &timing->costs->of[kind][type];
            double ops = 0;

            for (int in = 0; in < AG_N_GEMM_KINDS; in++) {
                ops += cost->ops[in];
            }
            seconds += fmax(ops / peak, cost->bytes / bytes_per_s);
        }
    }
    return seconds;
}

ag_status_t ag_train_time(const ag_training_t *training, ag_rank_time_t *times)
{
    timing_t timing = {training, malloc(sizeof(*timing.costs))};
    ag_status_t status =
        timing.costs == NULL || training->n_micro_batches == 0
            ? ag_fail(AG_ERR_NOMEM, "timing a program: no step, or no memory")
            : ag_program_time(training->session->programs.programs[0], seconds_of, &timing, times);

    free(timing.costs);
    return status;
}

double ag_train_program_flops(const ag_training_t *training, uint32_t rank)
{
    const ag_rank_program_t *program = &training->session->programs.programs[0]->ranks[rank];
    ag_costs_t *costs = malloc(sizeof(*costs));
    double flops = 0;

    for (uint32_t i = 0; i < program->segments.n_items && costs != NULL; i++) {
        ag_cost_t sum;

        cost_segment(training, rank, i, costs);
        sum = ag_costs_sum(costs);
        for (int in = 0; in < AG_N_GEMM_KINDS; in++) {
            flops += sum.ops[in];
        }
    }
    free(costs);
    return flops;
}

/* Which operators' cost is arithmetic: of rank 0's program. */
static void find_products(const ag_training_t *training, bool is_product[AG_N_NODE_KINDS])
{
    const ag_rank_program_t *program = &training->session->programs.programs[0]->ranks[0];
    ag_costs_t *costs = malloc(sizeof(*costs));

    for (uint32_t i = 0; i < program->segments.n_items && costs != NULL; i++) {
        cost_segment(training, 0, i, costs);
        for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
            for (int in = 0; in < AG_N_DTYPES * AG_N_GEMM_KINDS; in++) {
                is_product[kind] |=
                    costs->of[kind][in / AG_N_GEMM_KINDS].ops[in % AG_N_GEMM_KINDS] > 0;
            }
        }
    }
    free(costs);
}

const char *ag_train_held_back_by(const ag_training_t *training)
{
    enum { OPS, BYTES, RANKS, BEYOND, N };
    const ag_plan_t *plan = training->session->plan;
    const char *names[N] = {"arithmetic", "memory bandwidth",
                            plan->n_stages > 1 ? "bubble" : "exposed communication", "overhead"};
    double seconds = (double)training->train_ns * 1e-9, parts[N] = {0}, products = 0;
    bool is_product[AG_N_NODE_KINDS] = {false};
    int most = 0;

    find_products(training, is_product);
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            *(is_product[kind] ? &products : &parts[BYTES]) +=
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
