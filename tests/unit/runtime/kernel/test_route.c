/* Which experts rows use, in routers of every kind, against an order of all experts by what they
 * are chosen by, in double precision. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_call.h"

enum { MOST_EXPERTS = 24, N_ROWS = 9 };

typedef struct router {
    ag_route_t route;
    float *scores, *preference; /* NULL: there is none */
} router_t;

static void run_route(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const router_t *r = arg;

    ag_kernel_route(context, &r->route, r->scores, r->preference, N_ROWS, y);
}

static void draw_router(uint64_t seed, router_t *r)
{
    uint32_t n_groups = (uint32_t)random_below(seed, 1, 5), size;
    uint32_t in_group = 2 + (uint32_t)random_below(seed, 2, 4), n_used_groups;

    n_used_groups = n_groups > 0 ? 1 + (uint32_t)random_below(seed, 3, n_groups) : 1;
    size = (n_groups > 0 ? n_groups : 1) * in_group;
    *r = (router_t){
        .route = {.n_experts = size,
                  .n_used = 1 + (uint32_t)random_below(seed, 4, n_used_groups * in_group),
                  .score = (ag_score_t)random_below(seed, 5, 2),
                  .sums_to_1 = random_below(seed, 6, 2) == 0,
                  .scale = random_below(seed, 7, 2) == 0 ? 1 : 2.5f,
                  .n_groups = n_groups,
                  .n_groups_used = n_groups > 0 ? n_used_groups : 0,
                  .group_of_two = random_below(seed, 8, 2) == 0},
        .scores = random_floats(seed, N_ROWS * size, 3),
        .preference = random_below(seed, 9, 2) == 0 ? random_floats(seed + 1, size, 1) : NULL};
}

static void find_parts(const router_t *r, const float *scores, double *parts)
{
    double total = 0;

    for (uint32_t e = 0; e < r->route.n_experts; e++) {
        total += exp((double)scores[e]);
    }
    for (uint32_t e = 0; e < r->route.n_experts; e++) {
        parts[e] = r->route.score == AG_SCORE_SIGMOID ? 1 / (1 + exp(-(double)scores[e]))
                                                      : exp((double)scores[e]) / total;
    }
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

/* Choices of groups that are not among the best become -INFINITY. */
static void limit_groups(const router_t *r, double *choices)
{
    uint32_t n = r->route.n_groups, size = n > 0 ? r->route.n_experts / n : 0;
    double values[MOST_EXPERTS], order[MOST_EXPERTS];

    for (uint32_t g = 0; g < n; g++) {
        double of[MOST_EXPERTS];

        memcpy(of, choices + g * size, size * sizeof(double));
        qsort(of, size, sizeof(double), falling);
        order[g] = values[g] = of[0] + (r->route.group_of_two ? of[1] : 0);
    }
    qsort(order, n, sizeof(double), falling);
    for (uint32_t e = 0; e < n * size; e++) {
        if (values[e / size] < order[r->route.n_groups_used - 1]) {
            choices[e] = -INFINITY;
        }
    }
}

static void check_row(const router_t *r, const float *scores, float *row, uint64_t seed)
{
    const ag_route_t *route = &r->route;
    const int32_t *ids = ag_route_ids(route->n_used, row);
    double parts[MOST_EXPERTS], choices[MOST_EXPERTS], order[MOST_EXPERTS], sum = 0;

    find_parts(r, scores, parts);
    for (uint32_t e = 0; e < route->n_experts; e++) {
        choices[e] = parts[e] + (r->preference != NULL ? (double)r->preference[e] : 0);
    }
    limit_groups(r, choices);
    memcpy(order, choices, sizeof(order));
    qsort(order, route->n_experts, sizeof(double), falling);
    for (uint32_t i = 0; i < route->n_used; i++) {
        sum += parts[ids[i]];
    }
    for (uint32_t i = 0; i < route->n_used; i++) {
        double weight = parts[ids[i]] / (route->sums_to_1 ? sum : 1) * (double)route->scale;

        cr_assert_eq(choices[ids[i]], order[i], "seed %u: expert %d is not number %u",
                     (unsigned)seed, ids[i], i);
        cr_assert_float_eq((double)row[i], weight, 2e-6, "seed %u: %g, not %g", (unsigned)seed,
                           (double)row[i], weight);
    }
    cr_assert_geq(*ag_route_gap(route->n_used, row), 0);
}

Test(route, routers_of_every_kind_choose_the_best)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        router_t r;
        float *y;

        draw_router(seed, &r);
        y = kernel_call(&(kernel_call_t){.fn = run_route,
                                         .arg = &r,
                                         .scratch_bytes = ag_route_scratch_bytes(&r.route)},
                        N_ROWS * ag_route_width(r.route.n_used), "routes");
        for (uint64_t row = 0; row < N_ROWS; row++) {
            check_row(&r, r.scores + row * r.route.n_experts,
                      y + row * ag_route_width(r.route.n_used), seed);
        }
        free(r.scores);
        free(r.preference);
        free(y);
    }
}

/* One row of a router of two groups, whose gap and weights are known. */
static float *route_one(const ag_route_t *route, const float scores[4], const float *preference)
{
    float all[N_ROWS * 4];
    router_t r = {.route = *route, .scores = all, .preference = (float *)preference};

    for (int i = 0; i < N_ROWS * 4; i++) {
        all[i] = scores[i % 4];
    }
    return kernel_call(&(kernel_call_t){.fn = run_route,
                                        .arg = &r,
                                        .scratch_bytes = ag_route_scratch_bytes(&r.route)},
                       N_ROWS * ag_route_width(route->n_used), "one row");
}

Test(route, a_gap_is_that_of_the_nearer_choice_among_groups_or_experts)
{
    const ag_route_t best = {
        .n_experts = 4, .n_used = 1, .scale = 1, .n_groups = 2, .n_groups_used = 1};
    const float by_group[4] = {1, 5, 4.75f, 0}, by_expert[4] = {4.9f, 5, 3, 0};
    float *y = route_one(&best, by_group, NULL);

    cr_expect_eq(ag_route_ids(1, y)[0], 1);
    cr_expect_float_eq(*ag_route_gap(1, y), 0.25f, 1e-6);
    free(y);
    y = route_one(&best, by_expert, NULL);
    cr_expect_float_eq(*ag_route_gap(1, y), 0.1f, 1e-6);
    free(y);
}

Test(route, what_is_preferred_changes_the_choice_and_not_the_weight)
{
    const ag_route_t route = {.n_experts = 4, .n_used = 1, .score = AG_SCORE_SIGMOID, .scale = 1};
    const float scores[4] = {3, 0, 0, 0}, preference[4] = {-2, 0, 0.5f, 0};
    float *y = route_one(&route, scores, preference);

    cr_expect_eq(ag_route_ids(1, y)[0], 2);
    cr_expect_float_eq(y[0], 0.5f, 1e-6);
    cr_expect_float_eq(*ag_route_gap(1, y), 0.5f, 1e-6);
    free(y);
}

Test(route, no_router_loses_a_nan)
{
    const float scores[4] = {NAN, 1, 2, 3}, with_preference[4] = {0, 0, 0, NAN};
    const float fine[4] = {0, 1, 2, 3};

    for (int i = 0; i < 8; i++) {
        const ag_route_t route = {.n_experts = 4,
                                  .n_used = 1,
                                  .score = (ag_score_t)(i % 2),
                                  .sums_to_1 = i / 2 % 2 == 0,
                                  .scale = 1,
                                  .n_groups = i / 4 == 0 ? 0 : 2,
                                  .n_groups_used = i / 4 == 0 ? 0 : 1};
        float *y = route_one(&route, scores, NULL);

        cr_expect(isnan(y[0]), "router %d", i);
        cr_expect_lt((uint32_t)ag_route_ids(1, y)[0], 4);
        free(y);
        y = route_one(&route, fine, with_preference);
        cr_expect(isnan(y[0]), "router %d, by preference", i);
        cr_expect_lt((uint32_t)ag_route_ids(1, y)[0], 4);
        free(y);
    }
}
