/*
 * Gradients through route.c and experts.c, and what keeps its router usable.
 *
 *     ROUTE    the rule of the softmax, or of sigmoids
 *     COMBINE  for each row and its k experts: copy's gradient = weight * dy, weight's = copy . dy
 *     PERMUTE  for each row: sum of its copies' gradients
 *
 * As there, every thread walks all rows' choices and works on its share of the rows.
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/experts_priv.h"
#include "runtime/kernel/train.h"

static const int32_t *ids_of(uint32_t n_used, const float *route)
{
    return ag_route_ids(n_used, (float *)route);
}

/* Logarithm of the sum of exponentials. */
static double log_sum(const float *scores, uint32_t n)
{
    double most = -INFINITY, sum = 0;

    for (uint32_t e = 0; e < n; e++) {
        most = (double)scores[e] > most ? (double)scores[e] : most;
    }
    for (uint32_t e = 0; e < n; e++) {
        sum += exp((double)scores[e] - most);
    }
    return most + log(sum);
}

static double sigmoid(float score)
{
    return 1 / (1 + exp(-(double)score));
}

/*
 * With weights w = scale * p / (1, or the sum of p over those used), each expert that is used has
 * q = p * dL/dp = w * dw - (0, or w / scale * sum of w * dw), and then
 *
 *     softmax  ds = q - p * sum of q, for each expert, where q is 0 for those that are not used
 *     sigmoid  ds = q * (1 - p)
 */
static void route_row_grad(const ag_route_t *route, const float *scores, const float *row,
                           const float *dweights, float *dscores)
{
    const int32_t *ids = ids_of(route->n_used, row);
    bool is_softmax = route->score == AG_SCORE_SOFTMAX;
    double sum = 0, lse = 0;

    for (uint32_t i = 0; i < route->n_used; i++) {
        sum += (double)row[i] * (double)dweights[i];
    }
    if (is_softmax && !route->sums_to_1) { /* else the sum of q is 0 */
        lse = log_sum(scores, route->n_experts);
        for (uint32_t e = 0; e < route->n_experts; e++) {
            dscores[e] -= (float)(exp((double)scores[e] - lse) * sum);
        }
    }
    for (uint32_t i = 0; i < route->n_used; i++) {
        double w = (double)row[i], q = w * (double)dweights[i];

        q -= route->sums_to_1 ? w / (double)route->scale * sum : 0;
        dscores[ids[i]] += (float)(is_softmax ? q : q * (1 - sigmoid(scores[ids[i]])));
    }
}

void ag_kernel_route_grad(const ag_kernel_context_t *context, const ag_route_t *route,
                          const float *scores, const float *routes, const float *dweights,
                          uint64_t n_rows, bool add, float *dscores)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        float *row = dscores + i * route->n_experts;

        if (!add) {
            memset(row, 0, route->n_experts * sizeof(float));
        }
        route_row_grad(route, scores + i * route->n_experts,
                       routes + i * ag_route_width(route->n_used), dweights + i * route->n_used,
                       row);
    }
}

/* Of one copy. @return its weight's gradient */
static float copy_grad(float weight, const float *x, const float *dy, uint64_t width, float *dx)
{
    float dot = ag_dot(x, dy, width);

    for (uint64_t j = 0; j < width; j++) {
        dx[j] = weight * dy[j];
    }
    return dot;
}

/* Rows of another part have no copies here. */
static void clear_others(const ag_kernel_context_t *context, const ag_places_t *places,
                         uint64_t n_rows, uint64_t width, float *y)
{
    uint64_t begin, end, mine_begin, mine_end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    ag_places_my_rows(context, places, n_rows, &mine_begin, &mine_end);
    for (uint64_t row = begin; row < end; row++) {
        if (row < mine_begin || row >= mine_end) {
            memset(y + row * width, 0, width * sizeof(float));
        }
    }
}

void ag_kernel_combine_grad(const ag_kernel_context_t *context, const ag_places_t *places,
                            const float *routes, uint64_t n_rows, const float *x, const float *dy,
                            uint64_t width, float *dx, float *dweights)
{
    uint32_t *at = context->scratch;
    uint64_t begin, end, row;

    clear_others(context, places, n_rows, places->n_used, dweights);
    ag_places_find_begins(places, routes, n_rows, at);
    ag_places_my_rows(context, places, n_rows, &begin, &end);
    ag_places_rows(places, n_rows, &row, &(uint64_t){0});
    for (; row < end; row++) {
        const float *weights = routes + row * ag_route_width(places->n_used);

        for (uint32_t i = 0; i < places->n_used; i++) {
            uint64_t copy = at[ag_place_of(places, routes, row, i)]++;

            if (row >= begin) {
                dweights[row * places->n_used + i] = copy_grad(
                    weights[i], x + copy * width, dy + row * width, width, dx + copy * width);
            }
        }
    }
}

void ag_kernel_permute_grad(const ag_kernel_context_t *context, const ag_places_t *places,
                            const float *routes, uint64_t n_rows, const float *dy, uint64_t width,
                            bool add, float *dx)
{
    uint32_t *at = context->scratch;
    uint64_t begin, end, row;

    if (!add) {
        clear_others(context, places, n_rows, width, dx);
    }
    ag_places_find_begins(places, routes, n_rows, at);
    ag_places_my_rows(context, places, n_rows, &begin, &end);
    ag_places_rows(places, n_rows, &row, &(uint64_t){0});
    for (; row < end; row++) {
        float *dst = dx + row * width;

        for (uint32_t i = 0; i < places->n_used; i++) {
            const float *src = dy + (uint64_t)at[ag_place_of(places, routes, row, i)]++ * width;

            for (uint64_t j = 0; row >= begin && j < width; j++) {
                dst[j] = i == 0 && !add ? src[j] : dst[j] + src[j];
            }
        }
    }
}

/* What experts' parts are parts of: part = exp(score) / total, or sigmoid(score) / total. */
static double total_of(const ag_route_t *route, const float *scores, double lse)
{
    double total = 0;

    if (route->score == AG_SCORE_SOFTMAX) {
        return lse;
    }
    for (uint32_t e = 0; e < route->n_experts; e++) {
        total += sigmoid(scores[e]);
    }
    return total;
}

static double part_of(const ag_route_t *route, float score, double total)
{
    return route->score == AG_SCORE_SOFTMAX ? exp((double)score - total) : sigmoid(score) / total;
}

/* Float sums of up to AG_ROUTER_CHUNK_ROWS rows. */
static void add_row_statistics(const ag_route_t *route, const float *scores, const float *row,
                               float *sums)
{
    const int32_t *ids = ids_of(route->n_used, row);
    double lse = log_sum(scores, route->n_experts), total = total_of(route, scores, lse);

    for (uint32_t i = 0; i < route->n_used; i++) {
        sums[ids[i]] += 1;
    }
    for (uint32_t e = 0; e < route->n_experts; e++) {
        sums[route->n_experts + e] += (float)part_of(route, scores[e], total);
    }
    sums[2 * route->n_experts] += (float)(lse * lse);
}

void ag_kernel_router_statistics(const ag_kernel_context_t *context, const ag_route_t *route,
                                 const float *scores, const float *routes, uint64_t n_rows,
                                 float *parts)
{
    uint64_t n_chunks = (n_rows + AG_ROUTER_CHUNK_ROWS - 1) / AG_ROUTER_CHUNK_ROWS, begin, end;
    uint32_t width = ag_router_statistics(route->n_experts);

    ag_worker_share(context->worker, n_chunks, 1, &begin, &end);
    for (uint64_t chunk = begin; chunk < end; chunk++) {
        uint64_t row = chunk * AG_ROUTER_CHUNK_ROWS, last = row + AG_ROUTER_CHUNK_ROWS;
        float *sums = parts + chunk * width;

        memset(sums, 0, width * sizeof(float));
        for (; row < last && row < n_rows; row++) {
            add_row_statistics(route, scores + row * route->n_experts,
                               routes + row * ag_route_width(route->n_used), sums);
        }
    }
}

void ag_router_losses(const ag_route_t *route, const ag_router_loss_t *loss, double *balance_p,
                      double *z_p)
{
    double n = loss->n_rows > 0 ? (double)loss->n_rows : 1, sum = 0;

    for (uint32_t e = 0; e < route->n_experts; e++) {
        sum += (double)loss->statistics[e] / n * (double)loss->statistics[route->n_experts + e] / n;
    }
    *balance_p = sum * route->n_experts;
    *z_p = (double)loss->statistics[2 * route->n_experts] / n;
}

void ag_kernel_router_grad(const ag_kernel_context_t *context, const ag_route_t *route,
                           const ag_router_loss_t *loss, const float *scores, uint64_t n_rows,
                           float scale, float *dscores)
{
    double n = loss->n_rows > 0 ? (double)loss->n_rows : 1;
    double by_balance = (double)loss->balance * route->n_experts / (n * n) * (double)scale;
    double by_z = 2 * (double)loss->z / n * (double)scale;
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = scores + i * route->n_experts;
        double lse = log_sum(row, route->n_experts), total = total_of(route, row, lse), mean = 0;

        for (uint32_t e = 0; e < route->n_experts; e++) {
            mean += part_of(route, row[e], total) * (double)loss->statistics[e];
        }
        for (uint32_t e = 0; e < route->n_experts; e++) {
            double slope = part_of(route, row[e], total) * ((double)loss->statistics[e] - mean);

            slope *= route->score == AG_SCORE_SIGMOID ? 1 - sigmoid(row[e]) : 1;
            dscores[i * route->n_experts + e] +=
                (float)(by_balance * slope + by_z * lse * exp((double)row[e] - lse));
        }
    }
}
