/* The three products of a linear layer that is trained, against loops in double precision over what
 * their factors are rounded to. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_call.h"
#include "runtime/kernel/train.h"

typedef enum product { FORWARD, INPUT_GRAD, WEIGHT_GRAD, N_PRODUCTS } product_t;

typedef struct linear_case {
    ag_linear_t linear;
    product_t product;
    uint64_t n_rows;
    bool exact, add, has_bias; /* WEIGHT_GRAD: y is dweight, and dbias behind it */
    const float *x, *dy;
} linear_case_t;

static void run_linear(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const linear_case_t *c = arg;
    float *dbias = c->has_bias ? y + c->linear.n * c->linear.k : NULL;

    switch (c->product) {
    case FORWARD:
        ag_kernel_train_linear(context, &c->linear, ag_floats(c->x), c->n_rows, c->exact,
                               ag_floats(y));
        break;
    case INPUT_GRAD:
        ag_kernel_linear_input_grad(context, &c->linear, ag_floats(c->dy), c->n_rows, c->exact,
                                    c->add, ag_floats(y));
        break;
    default:
        ag_kernel_linear_weight_grad(context, &c->linear, ag_floats(c->dy), ag_floats(c->x),
                                     c->n_rows, c->exact, y, dbias);
    }
}

/* A factor as it is multiplied, bfloat16 or whole. */
static double factor(float x, bool exact)
{
    return exact ? (double)x : (double)ag_bf16_to_f32(ag_f32_to_bf16(x));
}

/* What y[i] must be, and the sum of the sizes of what it is made of. */
static double expected_at(const linear_case_t *c, bool exact, uint64_t i, const float *before,
                          double *size_p)
{
    uint64_t n = c->linear.n, k = c->linear.k, width = c->product == FORWARD ? n : k;
    uint64_t length = c->product == FORWARD ? k : c->product == INPUT_GRAD ? n : c->n_rows;
    const float *weight = c->linear.weight;
    bool is_bias = c->product == WEIGHT_GRAD && i >= n * k;
    uint64_t row = is_bias ? i - n * k : i / width, column = is_bias ? 0 : i % width;
    double sum = c->product == WEIGHT_GRAD || c->add ? (double)before[i] : 0;

    if (c->product == FORWARD) {
        sum = c->linear.bias != NULL ? (double)c->linear.bias[column] : 0;
    }
    *size_p = fabs(sum);
    for (uint64_t l = 0; l < length; l++) {
        double a = c->product == FORWARD      ? factor(c->x[row * k + l], exact)
                   : c->product == INPUT_GRAD ? factor(c->dy[row * n + l], exact)
                                              : factor(c->dy[l * n + row], exact || is_bias);
        double b = c->product == FORWARD      ? factor(weight[column * k + l], exact)
                   : c->product == INPUT_GRAD ? factor(weight[l * k + column], exact)
                   : is_bias                  ? 1
                                              : factor(c->x[l * k + column], exact);

        sum += a * b;
        *size_p += fabs(a * b);
    }
    return sum;
}

static void check_case(const linear_case_t *c, ag_gemm_cache_t *gemm, const ag_isa_t *isa)
{
    uint64_t n = c->linear.n, k = c->linear.k;
    uint64_t n_y = c->product == FORWARD      ? c->n_rows * n
                   : c->product == INPUT_GRAD ? c->n_rows * k
                                              : n * k + (c->has_bias ? n : 0);
    bool exact = c->exact || gemm == NULL || !ag_gemm_is_fast(gemm, AG_GEMM_BF16);
    float *before = random_floats(7, n_y, 1), *y;
    kernel_call_t call = {.fn = run_linear,
                          .arg = c,
                          .gemm = gemm,
                          .isa = isa,
                          .y_at_first = before,
                          .scratch_bytes = ag_train_linear_scratch_bytes(),
                          .yields = n_y > 0 && c->n_rows * n * k > 0};
    char what[100];

    snprintf(what, sizeof(what), "product %d of %u rows, n %u, k %u, exact %d, oneDNN %d",
             (int)c->product, (unsigned)c->n_rows, (unsigned)n, (unsigned)k, c->exact,
             gemm != NULL);
    y = kernel_call(&call, n_y, what);
    for (uint64_t i = 0; i < n_y; i += 1 + n_y / 2000) {
        double size, expected = expected_at(c, exact, i, before, &size);

        cr_assert_leq(fabs((double)y[i] - expected), 2e-6 * size, "%s: y[%llu] is %g, not %g", what,
                      (unsigned long long)i, (double)y[i], expected);
    }
    free(before);
    free(y);
}

static void check_shape(ag_gemm_cache_t *gemm, const ag_isa_t *isa, uint64_t n_rows, uint64_t n,
                        uint64_t k, bool exact)
{
    float *x = random_floats(1, n_rows * k, 1), *dy = random_floats(2, n_rows * n, 1);
    float *weight = random_floats(3, n * k, 1), *bias = random_floats(4, n, 1);
    linear_case_t c = {.linear = {.dtype = AG_F32, .n = n, .k = k, .weight = weight},
                       .n_rows = n_rows,
                       .exact = exact,
                       .x = x,
                       .dy = dy};

    for (int product = FORWARD; product < N_PRODUCTS; product++) {
        c.product = (product_t)product;
        for (int i = 0; i < 2; i++) {
            c.linear.bias = i == 0 ? bias : NULL;
            c.has_bias = product == WEIGHT_GRAD && i == 0;
            c.add = i == 0;
            check_case(&c, gemm, isa);
        }
    }
    free(x);
    free(dy);
    free(weight);
    free(bias);
}

static const uint64_t shapes[][3] = {/* rows, n, k */
                                     {1, 1, 1},    {1, 70, 33},   {5, 7, 3}, {33, 65, 130},
                                     {0, 9, 5},    {3, 0, 5},     {3, 9, 0}, {300, 40, 66},
                                     {66, 300, 9}, {17, 150, 320}};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

Test(train_linear, products_by_onednn_equal_naive_loops)
{
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    for (int i = 0; i < N_SHAPES; i++) {
        const ag_isa_t *isa;

        if (isa_at(i % N_ISAS, &isa)) {
            check_shape(gemm, isa, shapes[i][0], shapes[i][1], shapes[i][2], true);
            check_shape(gemm, isa, shapes[i][0], shapes[i][1], shapes[i][2], false);
        }
    }
    ag_gemm_cache_destroy(gemm);
}

Test(train_linear, many_columns_are_cut)
{
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    check_shape(gemm, ag_isa_best(), 20, 1700, 40, true);
    check_shape(gemm, ag_isa_best(), 20, 40, 1700, false);
    check_shape(gemm, ag_isa_best(), 9, 1530, 1100, true); /* all at once, of k less */
    ag_gemm_cache_destroy(gemm);
}

Test(train_linear, long_sums_are_cut_and_added_up)
{
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    check_shape(gemm, ag_isa_best(), 3, 5, 3100, true);
    check_shape(gemm, ag_isa_best(), 3, 3100, 5, false);
    check_shape(gemm, ag_isa_best(), 3100, 5, 3, false);
    check_shape(gemm, ag_isa_best(), 32, 48, 3100, false); /* whole blocks of rows, in place */
    ag_gemm_cache_destroy(gemm);
}

Test(train_linear, products_in_plain_c_equal_naive_loops)
{
    for (int i = 0; i < N_SHAPES; i++) {
        check_shape(NULL, NULL, shapes[i][0], shapes[i][1], shapes[i][2], i % 2 == 0);
    }
}

/* Groups */

enum { N_GROUPS = 4 };

typedef struct groups_case {
    ag_groups_t groups;
    ag_linear_t linear;
    product_t product;
    const float *weights[N_GROUPS], *biases[N_GROUPS], *x, *dy;
    bool exact, add;
} groups_case_t;

static void run_groups(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const groups_case_t *c = arg;
    float *dweights[N_GROUPS], *dbiases[N_GROUPS];
    ag_group_weights_t weights = {(const unsigned char *)c->weights, sizeof(c->weights[0]),
                                  (const unsigned char *)c->biases};

    for (int g = 0; g < N_GROUPS; g++) {
        dweights[g] = y + (uint64_t)g * c->linear.n * (c->linear.k + 1);
        dbiases[g] = dweights[g] + c->linear.n * c->linear.k;
    }
    if (c->product == FORWARD) {
        ag_kernel_train_group_linear(context, &c->groups, &c->linear, &weights, c->x, c->exact, y);
    } else if (c->product == INPUT_GRAD) {
        ag_kernel_group_input_grad(context, &c->groups, &c->linear, &weights, c->dy, c->exact,
                                   c->add, y);
    } else {
        weights.first = (const unsigned char *)dweights;
        weights.first_bias = (const unsigned char *)dbiases;
        ag_kernel_group_weight_grad(context, &c->groups, &c->linear, &weights, c->dy, c->x,
                                    c->exact);
    }
}

/* What y must be from `at` on, of one group whose rows begin at `row`. */
static void expect_group(const groups_case_t *c, uint32_t group, uint64_t row, const float *y,
                         const float *before)
{
    linear_case_t one = {.linear = c->linear,
                         .product = c->product,
                         .n_rows = ag_groups_rows(&c->groups, group),
                         .add = c->add,
                         .x = c->x + row * c->linear.k,
                         .dy = c->dy + row * c->linear.n};
    uint64_t n = c->linear.n, k = c->linear.k;
    uint64_t n_y = c->product == FORWARD      ? one.n_rows * n
                   : c->product == INPUT_GRAD ? one.n_rows * k
                                              : n * (k + 1);

    one.linear.weight = c->weights[group];
    one.linear.bias = c->biases[group];
    for (uint64_t i = 0; i < n_y; i += 1 + n_y / 500) {
        double size, expected = expected_at(&one, c->exact, i, before, &size);

        cr_assert_leq(fabs((double)y[i] - expected), 2e-6 * size,
                      "product %d, group %u: y[%llu] is %g, not %g", (int)c->product, group,
                      (unsigned long long)i, (double)y[i], expected);
    }
}

static void check_groups(ag_gemm_cache_t *gemm, const groups_case_t *c, uint64_t n_rows)
{
    uint64_t n = c->linear.n, k = c->linear.k, row = 0, at = 0;
    uint64_t n_y = c->product == FORWARD      ? n_rows * n
                   : c->product == INPUT_GRAD ? n_rows * k
                                              : N_GROUPS * n * (k + 1);
    float *before = random_floats(8, n_y, 1);
    float *y = kernel_call(&(kernel_call_t){.fn = run_groups,
                                            .arg = c,
                                            .gemm = gemm,
                                            .isa = ag_isa_best(),
                                            .y_at_first = before,
                                            .scratch_bytes = ag_train_linear_scratch_bytes()},
                           n_y, "groups");

    for (uint32_t g = 0; g < N_GROUPS; g++) {
        uint64_t rows = ag_groups_rows(&c->groups, g);

        expect_group(c, g, row, y + at, before + at);
        row += rows;
        at += c->product == FORWARD ? rows * n : c->product == INPUT_GRAD ? rows * k : n * (k + 1);
    }
    cr_expect_eq(at, n_y);
    free(before);
    free(y);
}

Test(train_linear, groups_are_layers_of_their_own)
{
    const uint32_t counts[2 * N_GROUPS] = {3, 0, 400, 1, 2, 0, 200, 130};
    const uint64_t n_rows = 736, n = 35, k = 67;
    ag_gemm_cache_t *gemm = NULL;
    groups_case_t c = {.groups = {.n_groups = N_GROUPS, .n_sources = 2, .counts = counts},
                       .linear = {.dtype = AG_F32, .n = n, .k = k},
                       .x = random_floats(1, n_rows * k, 1),
                       .dy = random_floats(2, n_rows * n, 1)};

    for (int g = 0; g < N_GROUPS; g++) {
        c.weights[g] = random_floats(20 + (uint64_t)g, n * k, 1);
        c.biases[g] = random_floats(30 + (uint64_t)g, n, 1);
    }
    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    for (int i = 0; i < 2 * N_PRODUCTS; i++) {
        c.product = (product_t)(i % N_PRODUCTS);
        c.exact = i < N_PRODUCTS || !ag_gemm_is_fast(gemm, AG_GEMM_BF16);
        c.add = i < N_PRODUCTS;
        check_groups(gemm, &c, n_rows);
    }
    ag_gemm_cache_destroy(gemm);
    for (int g = 0; g < N_GROUPS; g++) {
        free((void *)c.weights[g]);
        free((void *)c.biases[g]);
    }
    free((void *)c.x);
    free((void *)c.dy);
}
