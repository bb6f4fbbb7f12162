/* Routes, copies of rows and products by experts, against loops that go row by row. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_call.h"

/* A shape of experts, drawn from a seed: places and parts as several ranks have them. */
typedef struct shape {
    ag_route_t route;
    ag_places_t places;
    uint32_t begin[40], where[120];
    uint64_t n_rows, width;
    float *scores, *routes; /* (n_rows, experts), (n_rows, route) */
} shape_t;

static void route_rows(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const shape_t *shape = arg;

    ag_kernel_route(context, &shape->route, shape->scores, NULL, shape->n_rows, y);
}

/* Places ascend; every expert has one or two of them, in any order. */
static void draw_shape(uint64_t seed, bool replicate, shape_t *shape)
{
    uint32_t n_experts = 1 + (uint32_t)random_below(seed, 0, 17), n_places = 0;
    kernel_call_t call = {.fn = route_rows, .arg = shape};
    uint64_t n;

    *shape = (shape_t){.n_rows = random_below(seed, 1, 40), .width = 1 + random_below(seed, 2, 70)};
    shape->route = (ag_route_t){.n_experts = n_experts,
                                .n_used = 1 + (uint32_t)random_below(seed, 3, n_experts),
                                .sums_to_1 = random_below(seed, 4, 2) == 0,
                                .scale = 1};
    for (uint32_t e = 0; e < n_experts; e++) {
        n_places += replicate && random_below(seed, 10 + e, 3) == 0 ? 2 : 1;
        shape->begin[e + 1] = n_places;
    }
    for (uint32_t i = 0; i < n_places; i++) { /* a permutation */
        uint32_t j = (uint32_t)random_below(seed, 100 + i, i + 1);

        shape->where[i] = shape->where[j];
        shape->where[j] = i;
    }
    shape->places = (ag_places_t){.n_experts = n_experts,
                                  .n_used = shape->route.n_used,
                                  .n_places = n_places,
                                  .begin = shape->begin,
                                  .places = shape->where,
                                  .n_parts = 1 + (uint32_t)random_below(seed, 5, 4)};
    shape->places.part = (uint32_t)random_below(seed, 6, shape->places.n_parts);
    shape->places.part_end = shape->places.part + 1;
    shape->scores = random_floats(seed, shape->n_rows * n_experts, 3);
    n = shape->n_rows * ag_route_width(shape->route.n_used);
    call.scratch_bytes = ag_route_scratch_bytes(&shape->route);
    shape->routes = kernel_call(&call, n, "routes");
}

static void free_shape(shape_t *shape)
{
    free(shape->scores);
    free(shape->routes);
}

static int32_t *ids_of(const shape_t *shape, uint64_t row)
{
    uint32_t n_used = shape->route.n_used;

    return ag_route_ids(n_used, shape->routes + row * ag_route_width(n_used));
}

static uint32_t place_at(const shape_t *shape, uint64_t row, uint32_t i)
{
    int32_t expert = ids_of(shape, row)[i];
    uint32_t n = shape->begin[expert + 1] - shape->begin[expert];

    return shape->where[shape->begin[expert] + row % n];
}

static void check_route(const shape_t *shape, uint64_t row)
{
    uint32_t n_experts = shape->route.n_experts, n_used = shape->route.n_used;
    const float *scores = shape->scores + row * n_experts;
    float *weights = shape->routes + row * ag_route_width(n_used);
    float gap = INFINITY;
    double total = 0;

    for (uint32_t e = 0; e < n_experts; e++) {
        uint32_t n_above = 0;

        for (uint32_t f = 0; f < n_experts; f++) {
            n_above += scores[f] > scores[e];
        }
        if (n_above < n_used) {
            cr_assert_eq(ids_of(shape, row)[n_above], (int32_t)e);
        }
        if (n_above < n_used || !shape->route.sums_to_1) {
            total += exp((double)scores[e]);
        }
    }
    for (uint32_t e = 0; e < n_experts; e++) {
        bool used = false;

        for (uint32_t i = 0; i < n_used; i++) {
            used |= ids_of(shape, row)[i] == (int32_t)e;
        }
        if (!used) {
            gap = fminf(gap, scores[ids_of(shape, row)[n_used - 1]] - scores[e]);
        }
    }
    for (uint32_t i = 0; i < n_used; i++) {
        cr_expect_float_eq((double)weights[i], exp((double)scores[ids_of(shape, row)[i]]) / total,
                           1e-6);
    }
    cr_expect_eq(*ag_route_gap(n_used, weights), gap);
}

Test(experts, a_row_uses_those_of_the_highest_scores_in_parts_of_a_softmax)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        shape_t shape;

        draw_shape(seed, false, &shape);
        for (uint64_t row = 0; row < shape.n_rows; row++) {
            check_route(&shape, row);
        }
        free_shape(&shape);
    }
}

Test(experts, of_equal_scores_the_first_wins_and_a_nan_stays_one)
{
    const float scores[2][4] = {{1, 2, 2, 2}, {1, 2, NAN, 0}};
    shape_t shape = {.route = {.n_experts = 4, .n_used = 2, .sums_to_1 = true, .scale = 1},
                     .n_rows = 2};
    kernel_call_t call = {.fn = route_rows, .arg = &shape};
    float *y;

    shape.scores = (float *)scores;
    call.scratch_bytes = ag_route_scratch_bytes(&shape.route);
    y = kernel_call(&call, 2 * ag_route_width(2), "equal scores");
    cr_expect_eq(ag_route_ids(2, y)[0], 1);
    cr_expect_eq(ag_route_ids(2, y)[1], 2);
    cr_expect_eq(*ag_route_gap(2, y), 0);
    cr_expect(isnan(y[ag_route_width(2)]), "a NaN among the scores");
    for (int i = 0; i < 2; i++) {
        cr_expect_lt((uint32_t)ag_route_ids(2, y + ag_route_width(2))[i], 4);
    }
    free(y);
}

typedef struct copying {
    const shape_t *shape;
    const float *x;
} copying_t;

static void permute(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const copying_t *c = arg;

    ag_kernel_permute(context, &c->shape->places, c->shape->routes, c->shape->n_rows, c->x,
                      c->shape->width, y);
}

static void combine(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const copying_t *c = arg;

    ag_kernel_combine(context, &c->shape->places, c->shape->routes, c->shape->n_rows, c->x,
                      c->shape->width, false, y);
}

static void count_rows(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const shape_t *shape = ((const copying_t *)arg)->shape;

    ag_kernel_count_rows(context, &shape->places, shape->routes, shape->n_rows,
                         (uint32_t *)(void *)y);
}

/* The copies of a part's rows, in order of places, then rows. @return how many. */
static uint64_t list_copies(const shape_t *shape, uint64_t *rows, uint32_t *slots)
{
    uint64_t begin, end, n = 0;

    ag_places_rows(&shape->places, shape->n_rows, &begin, &end);
    for (uint32_t p = 0; p < shape->places.n_places; p++) {
        for (uint64_t row = begin; row < end; row++) {
            for (uint32_t i = 0; i < shape->route.n_used; i++) {
                if (place_at(shape, row, i) == p) {
                    rows[n] = row;
                    slots[n++] = i;
                }
            }
        }
    }
    return n;
}

static void check_counts(const shape_t *shape, const float *y, const uint64_t *rows,
                         const uint32_t *slots, uint64_t n)
{
    uint32_t counts[120];
    uint64_t sum = 0;

    memcpy(counts, y, shape->places.n_places * sizeof(*counts));
    for (uint32_t p = 0; p < shape->places.n_places; p++) {
        for (uint32_t i = 0; i < counts[p]; i++, sum++) {
            cr_assert_lt(sum, n);
            cr_expect_eq(place_at(shape, rows[sum], slots[sum]), p);
        }
    }
    cr_expect_eq(sum, n);
}

static void check_copies(uint64_t seed)
{
    shape_t shape;
    copying_t copying = {.shape = &shape};
    kernel_call_t call = {.arg = &copying};
    uint64_t rows[40 * 18], n, begin, end;
    uint32_t slots[40 * 18];
    float *x, *counts, *copies, *back, *expected;

    draw_shape(seed, true, &shape);
    call.scratch_bytes = ag_places_scratch_bytes(&shape.places);
    x = random_floats(seed + 1000, shape.n_rows * shape.width, 1);
    n = list_copies(&shape, rows, slots);
    copying.x = x;
    call.fn = count_rows;
    counts = kernel_call(&call, shape.places.n_places, "counts");
    check_counts(&shape, counts, rows, slots, n);
    call.fn = permute;
    copies = kernel_call(&call, n * shape.width, "copies");
    call.fn = combine;
    copying.x = copies;
    back = kernel_call(&call, shape.n_rows * shape.width, "sums");
    expected = take(shape.n_rows * shape.width * sizeof(float));
    memcpy(expected, back, shape.n_rows * shape.width * sizeof(float));
    ag_places_rows(&shape.places, shape.n_rows, &begin, &end);
    for (uint64_t i = begin * shape.width; i < end * shape.width; i++) {
        expected[i] = 0;
    }
    for (uint64_t i = 0; i < n; i++) {
        const float *weights = shape.routes + rows[i] * ag_route_width(shape.route.n_used);

        cr_expect_arr_eq(copies + i * shape.width, x + rows[i] * shape.width,
                         shape.width * sizeof(float), "seed %lu: copy %lu", (unsigned long)seed,
                         (unsigned long)i);
        for (uint64_t j = 0; j < shape.width; j++) {
            expected[rows[i] * shape.width + j] += weights[slots[i]] * copies[i * shape.width + j];
        }
    }
    for (uint64_t i = 0; i < shape.n_rows * shape.width; i++) {
        cr_assert(memcmp(&back[i], &expected[i], sizeof(float)) == 0 ||
                      fabsf(back[i] - expected[i]) < 1e-5f,
                  "seed %lu: sum %lu", (unsigned long)seed, (unsigned long)i);
    }
    free(x);
    free(counts);
    free(copies);
    free(back);
    free(expected);
    free_shape(&shape);
}

Test(experts, copies_lie_place_after_place_and_come_together_again)
{
    for (uint64_t seed = 100; seed < 160; seed++) {
        check_copies(seed);
    }
}

typedef struct product {
    ag_groups_t groups;
    ag_linear_t linear;
    const void *weights[6];
    float *biases[6];
    const float *x;
    uint64_t n_rows;
    bool exact, prepare, back;
} product_t;

static void regroup(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const product_t *p = arg;

    ag_kernel_regroup(context, &p->groups, p->back, p->x, p->linear.k, y);
}

Test(experts, rows_of_several_sources_are_grouped_and_put_back)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        uint32_t counts[30];
        product_t product = {.groups = {.n_groups = (uint32_t)random_below(seed, 0, 6),
                                        .n_sources = 1 + (uint32_t)random_below(seed, 1, 5),
                                        .counts = counts},
                             .linear.k = 1 + random_below(seed, 2, 9)};
        kernel_call_t call = {.fn = regroup, .arg = &product};
        uint64_t n_rows = 0, width = product.linear.k, at = 0;
        float *x, *grouped, *back;

        for (uint32_t i = 0; i < product.groups.n_groups * product.groups.n_sources; i++) {
            counts[i] = (uint32_t)random_below(seed, 10 + i, 5);
            n_rows += counts[i];
        }
        call.scratch_bytes = ag_groups_scratch_bytes(&product.groups);
        x = random_floats(seed, n_rows * width, 1);
        product.x = x;
        grouped = kernel_call(&call, n_rows * width, "grouped");
        for (uint32_t g = 0; g < product.groups.n_groups; g++) {
            uint64_t from = 0;

            for (uint32_t i = 0; i < product.groups.n_groups * product.groups.n_sources; i++) {
                if (i % product.groups.n_groups == g && counts[i] > 0) {
                    cr_expect_arr_eq(grouped + at * width, x + from * width,
                                     counts[i] * width * sizeof(float));
                    at += counts[i];
                }
                from += counts[i];
            }
        }
        cr_expect_eq(at, ag_groups_all_rows(&product.groups));
        product.x = grouped;
        product.back = true;
        back = kernel_call(&call, n_rows * width, "back");
        cr_expect_eq(memcmp(back, x, n_rows * width * sizeof(float)), 0);
        free(x);
        free(grouped);
        free(back);
    }
}

static void prepare(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const product_t *p = arg;

    ag_kernel_prepare_groups(context, &p->groups, &p->linear, p->x, y);
}

static void group_linear(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const product_t *p = arg;
    ag_group_weights_t weights = {(const unsigned char *)p->weights, sizeof(p->weights[0]),
                                  (const unsigned char *)p->biases};

    ag_kernel_group_linear(context, &p->groups, &p->linear, &weights, p->x, p->exact, y);
}

static void *pack(ag_dtype_t dtype, ag_packing_t packing, const unsigned char *rows, uint64_t n,
                  uint64_t k)
{
    const ag_packing_info_t *info = ag_packing_info(packing);
    unsigned char *packed = aligned_alloc(64, ag_align_up(ag_packing_bytes(packing, dtype, n, k)));

    cr_assert_not_null(packed);
    for (uint64_t i = 0; i < n; i += info->group_rows) {
        const unsigned char *group[AG_PACKING_MAX_ROWS] = {NULL};

        for (uint64_t r = 0; r < info->group_rows && i + r < n; r++) {
            group[r] = rows + (i + r) * ag_dtype_bytes(dtype, k);
        }
        info->pack(dtype, group, k, packed + i / info->group_rows * info->group_bytes(dtype, k));
    }
    return packed;
}

/* Every row by a product of its own has the same bits, and is near the sum in double precision. */
static void check_rows(const product_t *product, kernel_call_t *call, const float *y,
                       float *const *decoded, const double bound)
{
    const ag_groups_t *groups = &product->groups;
    uint64_t n = product->linear.n, k = product->linear.k, row = 0;

    for (uint32_t g = 0; g < groups->n_groups; g++) {
        for (uint64_t end = row + ag_groups_rows(groups, g); row < end; row++) {
            uint32_t lone[6] = {0};
            product_t one = *product;
            float *alone;

            lone[g] = 1;
            one.groups.counts = lone;
            one.groups.n_sources = 1;
            one.x = product->x + row * k;
            one.linear.prepared = NULL;
            call->arg = &one;
            alone = kernel_call(call, n, "a row alone");
            cr_expect_eq(memcmp(alone, y + row * n, n * sizeof(float)), 0,
                         "row %lu has other bits among others", (unsigned long)row);
            for (uint64_t j = 0; j < n; j++) {
                double sum = (double)product->biases[g][j];

                for (uint64_t i = 0; i < k; i++) {
                    sum += (double)one.x[i] * (double)decoded[g][j * k + i];
                }
                cr_assert(fabs(sum - (double)alone[j]) <= bound * sqrt((double)k),
                          "row %lu, column %lu: %g, not %g", (unsigned long)row, (unsigned long)j,
                          (double)alone[j], sum);
            }
            free(alone);
        }
    }
}

static void check_product(ag_dtype_t dtype, ag_packing_t packing, const ag_isa_t *isa,
                          ag_gemm_cache_t *gemm, bool exact, double bound)
{
    static const uint32_t counts[2][5] = {{3, 0, 1, 11, 2}, {0, 0, 1, 9, 5}};
    enum { GROUPS = 5, K = 256, N = 83 };
    product_t product = {
        .groups = {.n_groups = GROUPS, .n_sources = 2, .counts = counts[0]},
        .linear = {.dtype = dtype, .packing = packing, .n = N, .k = K},
        .exact = exact,
    };
    kernel_call_t call = {.arg = &product, .isa = exact ? NULL : isa, .gemm = gemm};
    uint64_t n_rows = ag_groups_all_rows(&product.groups), x_bytes;
    float *x = random_floats(1, n_rows * K, 1), *y, *decoded[GROUPS], *prepared, *again;

    for (uint32_t g = 0; g < GROUPS; g++) {
        unsigned char *rows = random_weights(dtype, 20 + g, N * K);

        decoded[g] = decode(dtype, rows, N * K);
        product.weights[g] = pack(dtype, packing, rows, N, K);
        product.biases[g] = random_floats(30 + g, N, 1);
        free(rows);
    }
    product.x = x;
    call.scratch_bytes = ag_linear_scratch_bytes(&product.linear);
    call.fn = group_linear;
    y = kernel_call(&call, n_rows * N, "products of groups");
    x_bytes = ag_linear_prepared_bytes(&product.linear, exact);
    if (isa != NULL && !exact && x_bytes > 0) {
        call.fn = prepare;
        prepared = kernel_call(&call, n_rows * x_bytes / sizeof(float), "prepared groups");
        call.fn = group_linear;
        product.linear.prepared = prepared;
        again = kernel_call(&call, n_rows * N, "products of prepared groups");
        cr_expect_eq(memcmp(again, y, n_rows * N * sizeof(float)), 0, "prepared rows");
        free(again);
        free(prepared);
    }
    check_rows(&product, &call, y, decoded, bound);
    for (uint32_t g = 0; g < GROUPS; g++) {
        free(decoded[g]);
        free((void *)product.weights[g]);
        free(product.biases[g]);
    }
    free(x);
    free(y);
}

Test(experts, packed_weights_give_each_row_what_it_gets_alone, .timeout = 300)
{
    for (int i = 1; i < N_ISAS; i++) {
        const ag_isa_t *isa;

        for (int d = 0; d < AG_N_DTYPES && isa_at(i, &isa); d++) {
            if (ag_packing_choose((ag_dtype_t)d, 256) == AG_PACKING_R16) {
                check_product((ag_dtype_t)d, AG_PACKING_R16, isa, NULL, false, 0.05);
            }
        }
    }
}

Test(experts, rows_as_in_the_file_give_each_row_what_it_gets_alone, .timeout = 300)
{
    ag_gemm_cache_t *gemm;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    check_product(AG_F32, AG_PACKING_ROWS, NULL, NULL, true, 1e-6);
    check_product(AG_F32, AG_PACKING_ROWS, NULL, gemm, true, 1e-6);
    check_product(AG_Q8_0, AG_PACKING_ROWS, NULL, NULL, true, 1e-6);
    check_product(AG_Q8_0, AG_PACKING_ROWS, ag_isa_best(), gemm, false, 0.02);
    ag_gemm_cache_destroy(gemm);
}
