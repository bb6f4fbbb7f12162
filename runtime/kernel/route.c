/*
 * Which experts a row uses, and by how much, of n_experts scores:
 *
 *     parts    softmax of the scores, or sigmoid of each
 *     choices  parts, with what the model prefers added; scores where those are in the same order
 *     groups   all but the best have no choices
 *     used     the k largest choices, one after the other
 *     weights  their parts, divided by their sum or not, times a factor
 *
 * Each thread takes its share of the rows.
 */
#include <math.h>

#include "runtime/kernel/kernel_priv.h"

/* Beside which a sum of sigmoids is never zero, as in transformers. */
static const float least_sum = 1e-20f;

size_t ag_route_scratch_bytes(const ag_route_t *route)
{
    return ag_align_up((route->n_experts + route->n_groups) * sizeof(float));
}

static bool is_chosen(const int32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == (int32_t)id) {
            return true;
        }
    }
    return false;
}

/* The best that is not among the chosen, the first of several; n: there is none. */
static uint32_t best_other(const float *choices, uint32_t n, const int32_t *ids, uint32_t n_chosen)
{
    uint32_t best = n;

    for (uint32_t e = 0; e < n; e++) {
        if (!is_chosen(ids, n_chosen, e) && (best == n || choices[e] > choices[best])) {
            best = e;
        }
    }
    return best;
}

/* Parts are exp(score - most) / total, or sigmoids; total is no number where a score is none. */
typedef struct row_parts {
    const float *scores;
    float most, total;
} row_parts_t;

static float part_of(const ag_route_t *route, const row_parts_t *parts, uint32_t expert)
{
    return route->score == AG_SCORE_SIGMOID
               ? 1.0f / (1.0f + expf(-parts->scores[expert]))
               : expf(parts->scores[expert] - parts->most) / parts->total;
}

static row_parts_t look_at_row(const ag_route_t *route, const float *scores)
{
    row_parts_t parts = {.scores = scores, .most = scores[0]};

    for (uint32_t e = 1; e < route->n_experts; e++) {
        parts.most = scores[e] > parts.most ? scores[e] : parts.most;
    }
    for (uint32_t e = 0; e < route->n_experts; e++) {
        parts.total += route->score == AG_SCORE_SIGMOID ? part_of(route, &parts, e)
                                                        : expf(scores[e] - parts.most);
    }
    return parts;
}

static void find_choices(const ag_route_t *route, row_parts_t *parts, const float *preference,
                         float *choices)
{
    bool by_scores = preference == NULL && route->score == AG_SCORE_SOFTMAX && !route->group_of_two;

    for (uint32_t e = 0; e < route->n_experts; e++) {
        choices[e] = by_scores ? parts->scores[e] : part_of(route, parts, e);
    }
    for (uint32_t e = 0; e < route->n_experts && preference != NULL; e++) {
        choices[e] += preference[e];
        parts->total += 0 * preference[e]; /* no NaN is lost */
    }
}

/* What a group's experts are together worth. */
static float group_choice(const ag_route_t *route, const float *choices)
{
    uint32_t n = route->n_experts / route->n_groups;
    uint32_t best = best_other(choices, n, NULL, 0);
    int32_t first = (int32_t)best;

    return choices[best] + (route->group_of_two ? choices[best_other(choices, n, &first, 1)] : 0);
}

/* Experts of other groups than the best have no choice. @return by how much those were better */
static float limit_groups(const ag_route_t *route, float *choices)
{
    uint32_t size = route->n_groups > 0 ? route->n_experts / route->n_groups : 0;
    float *groups = choices + route->n_experts, least = INFINITY, gap = INFINITY;

    for (uint32_t g = 0; g < route->n_groups; g++) {
        groups[g] = group_choice(route, choices + g * size);
    }
    for (uint32_t g = 0; g < route->n_groups; g++) {
        uint32_t n_before = 0;

        for (uint32_t h = 0; h < route->n_groups; h++) {
            n_before += groups[h] > groups[g] || (h < g && groups[h] == groups[g]);
        }
        if (n_before < route->n_groups_used) {
            least = groups[g] < least ? groups[g] : least;
        }
        for (uint32_t e = 0; e < size && n_before >= route->n_groups_used; e++) {
            choices[g * size + e] = -INFINITY;
        }
    }
    for (uint32_t g = 0; g < route->n_groups; g++) {
        if (choices[g * size] == -INFINITY && least - groups[g] < gap) {
            gap = least - groups[g];
        }
    }
    return gap;
}

static void route_row(const ag_route_t *route, const float *scores, const float *preference,
                      float *choices, float *row)
{
    int32_t *ids = ag_route_ids(route->n_used, row);
    row_parts_t parts = look_at_row(route, scores);
    float used = 0, gap;
    uint32_t next;

    find_choices(route, &parts, preference, choices);
    gap = limit_groups(route, choices);
    for (uint32_t i = 0; i < route->n_used; i++) {
        ids[i] = (int32_t)best_other(choices, route->n_experts, ids, i);
        row[i] = part_of(route, &parts, (uint32_t)ids[i]);
        used += row[i];
    }
    if (route->score == AG_SCORE_SIGMOID) {
        used += least_sum + 0 * parts.total; /* which may be no number */
    }
    for (uint32_t i = 0; i < route->n_used; i++) {
        row[i] = (route->sums_to_1 ? row[i] / used : row[i] + 0 * used) * route->scale;
    }
    next = best_other(choices, route->n_experts, ids, route->n_used);
    if (next < route->n_experts && choices[ids[route->n_used - 1]] - choices[next] < gap) {
        gap = choices[ids[route->n_used - 1]] - choices[next];
    }
    *ag_route_gap(route->n_used, row) = gap;
}

void ag_kernel_route(const ag_kernel_context_t *context, const ag_route_t *route,
                     const float *scores, const float *preference, uint64_t n_rows, float *routes)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        route_row(route, scores + i * route->n_experts, preference, context->scratch,
                  routes + i * ag_route_width(route->n_used));
    }
}
