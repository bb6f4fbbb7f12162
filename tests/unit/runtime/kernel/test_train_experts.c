/* Gradients through routes, copies and their combination, against central differences, and the
 * losses of a router. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "differences.h"
#include "kernel_call.h"
#include "runtime/kernel/train.h"

enum { MOST_EXPERTS = 12 };

typedef struct experts_case {
    ag_route_t route;
    ag_places_t places;
    uint32_t begin[MOST_EXPERTS + 1], where[2 * MOST_EXPERTS];
    uint64_t n_rows, width, n_copies;
    float *scores, *routes, *x, *copies, *dy;
    const float *dweights;
    bool add;
    ag_router_loss_t loss;
} experts_case_t;

static const int32_t *ids_at(const experts_case_t *c, uint64_t row)
{
    return ag_route_ids(c->route.n_used, c->routes + row * ag_route_width(c->route.n_used));
}

static void run_route(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_route(context, &c->route, c->scores, NULL, c->n_rows, y);
}

/* Places ascend or descend, an expert has one or two; copies are of one part of the rows. */
static void draw_case(uint64_t seed, experts_case_t *c)
{
    uint32_t n_experts = 1 + (uint32_t)random_below(seed, 0, MOST_EXPERTS), n = 0;
    uint64_t row_begin, row_end;
    kernel_call_t call = {.fn = run_route, .arg = c};

    *c = (experts_case_t){.n_rows = random_below(seed, 1, 30),
                          .width = random_below(seed, 2, 40),
                          .add = random_below(seed, 3, 2) == 0};
    c->route = (ag_route_t){.n_experts = n_experts,
                            .n_used = 1 + (uint32_t)random_below(seed, 4, n_experts),
                            .score = (ag_score_t)random_below(seed, 8, 2),
                            .sums_to_1 = random_below(seed, 5, 2) == 0,
                            .scale = random_below(seed, 9, 2) == 0 ? 1 : 2.5f};
    call.scratch_bytes = ag_route_scratch_bytes(&c->route);
    for (uint32_t e = 0; e < n_experts; e++) {
        n += 1 + (uint32_t)random_below(seed, 10 + e, 2);
        c->begin[e + 1] = n;
    }
    for (uint32_t i = 0; i < n; i++) {
        c->where[i] = seed % 2 == 0 ? i : n - 1 - i;
    }
    c->places = (ag_places_t){.n_experts = n_experts,
                              .n_used = c->route.n_used,
                              .n_places = n,
                              .begin = c->begin,
                              .places = c->where,
                              .n_parts = 1 + (uint32_t)random_below(seed, 6, 3)};
    c->places.part = (uint32_t)random_below(seed, 7, c->places.n_parts);
    c->places.part_end = /* none, some or all of those behind it */
        c->places.part + (uint32_t)random_below(seed, 8, c->places.n_parts - c->places.part + 1);
    ag_places_rows(&c->places, c->n_rows, &row_begin, &row_end);
    c->n_copies = (row_end - row_begin) * c->route.n_used;
    c->scores = random_floats(seed, c->n_rows * n_experts, 2);
    c->routes = kernel_call(&call, c->n_rows * ag_route_width(c->route.n_used), "routes");
    c->x = random_floats(seed + 1, c->n_rows * c->width, 1);
    c->copies = random_floats(seed + 2, c->n_copies * c->width, 1);
    c->dy = random_floats(seed + 3, c->n_rows * c->width, 1);
}

static void free_case(experts_case_t *c)
{
    free(c->scores);
    free(c->routes);
    free(c->x);
    free(c->copies);
    free(c->dy);
}

static double size_of(const experts_case_t *c, double score)
{
    return c->route.score == AG_SCORE_SIGMOID ? 1 / (1 + exp(-score)) : exp(score);
}

/* ROUTE: the weights of the experts that were chosen, as a function of the scores. */
static double route_loss(const void *arg, const double *scores)
{
    const experts_case_t *c = arg;
    bool is_sigmoid = c->route.score == AG_SCORE_SIGMOID;
    double all = 0;

    for (uint64_t row = 0; row < c->n_rows; row++) {
        const double *s = scores + row * c->route.n_experts;
        double sum = is_sigmoid && !c->route.sums_to_1 ? 1 : 0;

        for (uint32_t e = 0; e < c->route.n_experts && !c->route.sums_to_1 && !is_sigmoid; e++) {
            sum += size_of(c, s[e]);
        }
        for (uint32_t i = 0; i < c->route.n_used && c->route.sums_to_1; i++) {
            sum += size_of(c, s[ids_at(c, row)[i]]);
        }
        for (uint32_t i = 0; i < c->route.n_used; i++) {
            all += size_of(c, s[ids_at(c, row)[i]]) / sum * (double)c->route.scale *
                   (double)c->dweights[row * c->route.n_used + i];
        }
    }
    return all;
}

static void run_route_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_route_grad(context, &c->route, c->scores, c->routes, c->dweights, c->n_rows, c->add,
                         y);
}

Test(train_experts, routes_have_the_gradients_of_their_differences)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        experts_case_t c;
        uint64_t n;
        float *before, *y, *dweights;
        double *wide, *expected;

        draw_case(seed, &c);
        n = c.n_rows * c.route.n_experts;
        before = random_floats(71, n, 1);
        c.dweights = dweights = random_floats(72, c.n_rows * c.route.n_used, 1);
        wide = widen(c.scores, n);
        expected = take(n * sizeof(double));
        for (uint64_t i = 0; i < n; i++) {
            expected[i] = difference(route_loss, &c, wide, i);
        }
        y = kernel_call(&(kernel_call_t){.fn = run_route_grad, .arg = &c, .y_at_first = before}, n,
                        "route grad");
        expect_sums(y, c.add ? before : NULL, expected, n, 1e-6, "dscores");
        free(before);
        free(y);
        free(dweights);
        free(wide);
        free(expected);
        free_case(&c);
    }
}

/* PERMUTE and COMBINE are linear in x, and in weights: gradients are their transposes. */

static void run_permute(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_permute(context, &c->places, c->routes, c->n_rows, c->x, c->width, y);
}

static void run_permute_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_permute_grad(context, &c->places, c->routes, c->n_rows, c->copies, c->width, c->add,
                           y);
}

/* Which row each copy is of, by copying the rows' numbers. */
static float *rows_of_copies(experts_case_t *c)
{
    uint64_t width = c->width;
    float *x = c->x, *numbers = take(c->n_rows * sizeof(float)), *rows;
    kernel_call_t call = {.fn = run_permute, .arg = c};

    for (uint64_t i = 0; i < c->n_rows; i++) {
        numbers[i] = (float)i;
    }
    c->x = numbers;
    c->width = 1;
    call.scratch_bytes = ag_places_scratch_bytes(&c->places);
    rows = kernel_call(&call, c->n_copies, "numbers of rows");
    c->x = x;
    c->width = width;
    free(numbers);
    return rows;
}

Test(train_experts, a_row_gets_the_sum_of_what_its_copies_get)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        experts_case_t c;
        float *before, *y, *rows;
        double *expected;
        uint64_t n;

        draw_case(seed, &c);
        n = c.n_rows * c.width;
        rows = rows_of_copies(&c);
        before = random_floats(73, n, 1);
        expected = take(n * sizeof(double));
        memset(expected, 0, n * sizeof(double));
        for (uint64_t i = 0; i < c.n_copies * c.width; i++) {
            expected[(uint64_t)rows[i / c.width] * c.width + i % c.width] += (double)c.copies[i];
        }
        y = kernel_call(&(kernel_call_t){.fn = run_permute_grad,
                                         .arg = &c,
                                         .y_at_first = before,
                                         .scratch_bytes = ag_places_scratch_bytes(&c.places)},
                        n, "permute grad");
        expect_sums(y, c.add ? before : NULL, expected, n, 2e-6, "dx");
        free(before);
        free(y);
        free(rows);
        free(expected);
        free_case(&c);
    }
}

static void run_combine(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_combine(context, &c->places, c->routes, c->n_rows, c->copies, c->width, false, y);
}

/* y: gradients of the copies, then of the weights; the copies may be where the first are. */
static void run_combine_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_combine_grad(context, &c->places, c->routes, c->n_rows, c->add ? y : c->copies, c->dy,
                           c->width, y, y + c->n_copies * c->width);
}

/* <dy, combine()> over the part's rows, of which others are not written. */
static double combined(const experts_case_t *c, const float *combined_rows)
{
    uint64_t begin, end;
    double sum = 0;

    ag_places_rows(&c->places, c->n_rows, &begin, &end);
    for (uint64_t i = begin * c->width; i < end * c->width; i++) {
        sum += (double)c->dy[i] * (double)combined_rows[i];
    }
    return sum;
}

static double combine_with(const experts_case_t *c)
{
    uint64_t n = c->n_rows * c->width;
    float *y = kernel_call(&(kernel_call_t){.fn = run_combine,
                                            .arg = c,
                                            .scratch_bytes = ag_places_scratch_bytes(&c->places)},
                           n, "combine");
    double sum = combined(c, y);

    free(y);
    return sum;
}

/* The map is linear in each number: a difference of 1 is exact but for rounding. */
static void check_combine(experts_case_t *c, const float *y)
{
    uint64_t n = c->n_copies * c->width, n_used = c->route.n_used;
    double at_first = combine_with(c);

    for (uint64_t i = 0; i < n; i += 1 + random_below(74, i, 1 + n / 8)) {
        float was = c->copies[i];

        c->copies[i] += 1;
        cr_assert(fabs(combine_with(c) - at_first - (double)y[i]) < 3e-4, "copy %u", (unsigned)i);
        c->copies[i] = was;
    }
    for (uint64_t i = 0; i < c->n_rows * n_used; i += 1 + random_below(75, i, 1 + c->n_rows / 2)) {
        float *weight = c->routes + i / n_used * ag_route_width(c->route.n_used) + i % n_used;
        float was = *weight;

        *weight += 1;
        cr_assert(fabs(combine_with(c) - at_first - (double)y[n + i]) < 3e-4, "weight %u",
                  (unsigned)i);
        *weight = was;
    }
}

Test(train_experts, copies_and_weights_have_the_gradients_of_combining_them)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        experts_case_t c;
        uint64_t n;
        float *first, *y;

        draw_case(seed, &c);
        n = c.n_copies * c.width;
        first = take((n + c.n_rows * c.route.n_used) * sizeof(float));
        for (uint64_t i = 0; i < n + c.n_rows * c.route.n_used; i++) {
            first[i] = 7; /* nothing of it stays, also for rows of other parts */
        }
        memcpy(first, c.copies, n * sizeof(float));
        y = kernel_call(&(kernel_call_t){.fn = run_combine_grad,
                                         .arg = &c,
                                         .y_at_first = first,
                                         .scratch_bytes = ag_places_scratch_bytes(&c.places)},
                        n + c.n_rows * c.route.n_used, "combine grad");
        check_combine(&c, y);
        free(first);
        free(y);
        free_case(&c);
    }
}

/* ROUTER LOSSES, as transformers' load_balancing_loss_func writes them for one layer. */
static double router_loss(const void *arg, const double *scores)
{
    const experts_case_t *c = arg;
    uint32_t n_experts = c->route.n_experts;
    double choices[MOST_EXPERTS] = {0}, parts[MOST_EXPERTS] = {0}, balance = 0, z = 0;

    for (uint64_t row = 0; row < c->n_rows; row++) {
        double sum = 0, size = 0;

        for (uint32_t e = 0; e < n_experts; e++) {
            sum += exp(scores[row * n_experts + e]);
            size += size_of(c, scores[row * n_experts + e]);
        }
        for (uint32_t e = 0; e < n_experts; e++) {
            parts[e] += size_of(c, scores[row * n_experts + e]) / size / (double)c->n_rows;
        }
        for (uint32_t i = 0; i < c->route.n_used; i++) {
            choices[ids_at(c, row)[i]] += 1 / (double)c->n_rows;
        }
        z += log(sum) * log(sum) / (double)c->n_rows;
    }
    for (uint32_t e = 0; e < n_experts; e++) {
        balance += choices[e] * parts[e] * n_experts;
    }
    return (double)c->loss.balance * balance + (double)c->loss.z * z;
}

static void run_router_statistics(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_router_statistics(context, &c->route, c->scores, c->routes, c->n_rows, y);
}

static void run_add_rows(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_add_rows(context, c->x, c->n_rows, c->width, y);
}

static void run_router_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const experts_case_t *c = arg;

    ag_kernel_router_grad(context, &c->route, &c->loss, c->scores, c->n_rows, 0.5f, y);
}

/* Statistics of the case, from those of its chunks. */
static float *add_up_statistics(const experts_case_t *c, const float *zeros)
{
    uint64_t n_chunks = (c->n_rows + AG_ROUTER_CHUNK_ROWS - 1) / AG_ROUTER_CHUNK_ROWS;
    uint64_t width = ag_router_statistics(c->route.n_experts);
    float *parts = kernel_call(&(kernel_call_t){.fn = run_router_statistics, .arg = c},
                               n_chunks * width, "statistics");
    experts_case_t sum = {.x = parts, .n_rows = n_chunks, .width = width};
    float *y = kernel_call(&(kernel_call_t){.fn = run_add_rows, .arg = &sum, .y_at_first = zeros},
                           width, "sum");

    free(parts);
    return y;
}

Test(train_experts, losses_of_a_router_have_the_gradients_of_their_differences)
{
    static const float zeros[2 * MOST_EXPERTS + 1] = {0};

    for (uint64_t seed = 0; seed < 20; seed++) {
        experts_case_t c;
        uint64_t n;
        float *before, *y, *statistics;
        double *wide, *expected, balance, z;

        draw_case(seed, &c);
        if (seed % 4 == 0) { /* more than a chunk */
            free(c.scores);
            free(c.routes);
            c.n_rows = 150;
            c.scores = random_floats(seed, c.n_rows * c.route.n_experts, 2);
            c.routes = kernel_call(
                &(kernel_call_t){
                    .fn = run_route, .arg = &c, .scratch_bytes = ag_route_scratch_bytes(&c.route)},
                c.n_rows * ag_route_width(c.route.n_used), "routes");
        }
        n = c.n_rows * c.route.n_experts;
        statistics = add_up_statistics(&c, zeros);
        c.loss = (ag_router_loss_t){0.7f, 0.02f, c.n_rows, statistics};
        before = random_floats(77, n, 1);
        wide = widen(c.scores, n);
        expected = take(n * sizeof(double));
        for (uint64_t i = 0; i < n; i++) {
            expected[i] = 0.5 * difference(router_loss, &c, wide, i);
        }
        y = kernel_call(&(kernel_call_t){.fn = run_router_grad, .arg = &c, .y_at_first = before}, n,
                        "router grad");
        expect_sums(y, before, expected, n, 1e-6, "dscores of a router's losses");
        ag_router_losses(&c.route, &c.loss, &balance, &z);
        if (c.n_rows > 0) {
            cr_assert(is_near((double)c.loss.balance * balance + (double)c.loss.z * z,
                              router_loss(&c, wide), 1e-5));
        }
        free(before);
        free(y);
        free(statistics);
        free(wide);
        free(expected);
        free_case(&c);
    }
}
