/* Kernels of training whose elements are bfloat16, against the same kernels over floats of the same
 * values: what they write differs by its rounding alone. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_call.h"
#include "runtime/kernel/train.h"

enum { MOST_IN = 5, HEADS = 4, KV_HEADS = 2 };

/* What a kernel reads, as floats and rounded, the last ones above 0; what it writes lies one after
 * the other in y. */
typedef struct rounded_case {
    bool rounded, exact;
    uint64_t n_rows, width, n; /* n: of a linear layer, whose k is width */
    float *floats[MOST_IN];
    uint16_t *halves[MOST_IN];
    const float *vector, *weight; /* (width), (n, width) */
    const float *bias;
    const int32_t *targets;
} rounded_case_t;

static ag_elements_t in(const rounded_case_t *c, int i)
{
    return c->rounded ? (ag_elements_t){c->halves[i], true} : ag_floats(c->floats[i]);
}

static ag_elements_t out(const rounded_case_t *c, float *y, uint64_t at)
{
    return (ag_elements_t){y + at, c->rounded};
}

static uint64_t size_of(const rounded_case_t *c)
{
    return c->n_rows * c->width;
}

static ag_norm_t norm_of(const rounded_case_t *c)
{
    return (ag_norm_t){.kind = c->exact ? AG_NORM_LAYER : AG_NORM_RMS,
                       .width = c->width,
                       .eps = 1e-5f,
                       .weight = c->vector,
                       .bias = c->exact ? c->vector : NULL};
}

static void run_norm(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_norm_t norm = norm_of(c);

    ag_kernel_norm(context, &norm, in(c, 0), c->n_rows, out(c, y, 0));
}

/* dx, then statistics. */
static void run_norm_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_norm_t norm = norm_of(c);

    ag_kernel_norm_grad(context, &norm, c->floats[1], in(c, 0), c->n_rows, false, y,
                        y + size_of(c));
}

/* dweight and dbias, against statistics that are others'. */
static void run_norm_weight_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_norm_t norm = norm_of(c);

    ag_kernel_norm_weight_grad(context, &norm, c->floats[1], in(c, 0), c->floats[4], c->n_rows, y,
                               y + c->width);
}

static void run_round(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;

    if (c->rounded) {
        ag_kernel_round(context, c->floats[0], size_of(c), out(c, y, 0));
    } else if (context->worker->thread == 0) {
        memcpy(y, c->floats[0], size_of(c) * sizeof(float));
    }
}

static void run_glu(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;

    ag_kernel_glu(context, &(ag_glu_t){.act = c->exact ? AG_ACT_GELU : AG_ACT_SILU}, in(c, 0),
                  in(c, 1), c->n_rows, c->width, 0, out(c, y, 0));
}

static void run_glu_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;

    ag_kernel_glu_grad(context, &(ag_glu_t){.act = c->exact ? AG_ACT_GELU : AG_ACT_SILU}, in(c, 2),
                       in(c, 0), in(c, 1), c->n_rows, c->width, 0, out(c, y, 0),
                       out(c, y, size_of(c)));
}

/* In place: y begins as what is rotated. */
static void run_rope(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_rope_t rope = {
        .n_heads = 1, .head_dim = (uint32_t)c->width, .rotary = (uint32_t)c->width / 2 * 2};

    ag_kernel_rope(context, &rope, c->floats[1], out(c, y, 0), c->width);
}

static ag_linear_t linear_of(const rounded_case_t *c)
{
    return (ag_linear_t){
        .dtype = AG_F32, .n = c->n, .k = c->width, .weight = c->weight, .bias = c->bias};
}

static void run_linear(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_linear_t linear = linear_of(c);

    ag_kernel_train_linear(context, &linear, in(c, 0), c->n_rows, c->exact, out(c, y, 0));
}

static void run_input_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_linear_t linear = linear_of(c);

    ag_kernel_linear_input_grad(context, &linear, in(c, 3), c->n_rows, c->exact, false,
                                out(c, y, 0));
}

static void run_weight_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_linear_t linear = linear_of(c);

    ag_kernel_linear_weight_grad(context, &linear, in(c, 3), in(c, 0), c->n_rows, c->exact, y,
                                 y + c->n * c->width);
}

static ag_self_attention_t attention_of(const rounded_case_t *c)
{
    static const uint32_t kv_head[HEADS] = {0, 0, 1, 1};

    return (ag_self_attention_t){.n_heads = HEADS,
                                 .n_kv_heads = KV_HEADS,
                                 .head_dim = (uint32_t)c->width / HEADS,
                                 .kv_head = kv_head,
                                 .scale = 0.3f,
                                 .exact = c->exact};
}

static void run_attention(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_self_attention_t attention = attention_of(c);

    ag_kernel_self_attention(context, &attention, in(c, 0), in(c, 1), in(c, 2), out(c, y, 0),
                             y + size_of(c));
}

static void run_attention_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_self_attention_t attention = attention_of(c);
    ag_self_attention_saved_t saved = {
        .q = in(c, 0), .k = in(c, 1), .v = in(c, 2), .y = in(c, 3), .lse = c->floats[4]};
    uint64_t n = size_of(c), n_kv = n * KV_HEADS / HEADS;

    ag_kernel_self_attention_grad(context, &attention, &saved, in(c, 3), y, y + n, y + n + n_kv);
}

static ag_loss_t loss_of(const rounded_case_t *c)
{
    return (ag_loss_t){.vocab_begin = 0, .vocab_end = c->width, .n_parts = 1};
}

static void run_statistics(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_loss_t loss = loss_of(c);

    ag_kernel_loss_statistics(context, &loss, in(c, 0), c->targets, c->n_rows, y);
}

/* In place, as a rope; against statistics that are no sums of these, but near them. */
static void run_loss(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rounded_case_t *c = arg;
    ag_loss_t loss = loss_of(c);

    ag_kernel_loss(context, &loss, c->floats[4], c->targets, c->n_rows, 0.5f, out(c, y, 0),
                   y + size_of(c));
}

typedef struct kernel {
    const char *name;
    void (*fn)(const ag_kernel_context_t *context, const void *arg, float *y);
    uint64_t (*n_rounded)(
        const rounded_case_t *c); /* of y, from its beginning; others are floats */
    uint64_t (*n_y)(const rounded_case_t *c);
    bool in_place;
    uint64_t n_parts; /* of what is rounded, each in the place of as many floats; 0: one */
} kernel_t;

static uint64_t none(const rounded_case_t *c)
{
    (void)c;
    return 0;
}
static uint64_t two(const rounded_case_t *c)
{
    return 2 * size_of(c);
}
static uint64_t of_linear(const rounded_case_t *c)
{
    return c->n_rows * c->n;
}
static uint64_t of_weights(const rounded_case_t *c)
{
    return c->n * c->width + c->n;
}
static uint64_t with_rows(const rounded_case_t *c)
{
    return size_of(c) + c->n_rows * HEADS;
}
static uint64_t with_statistics(const rounded_case_t *c)
{
    return size_of(c) + c->n_rows * AG_NORM_STATISTICS;
}
static uint64_t of_columns(const rounded_case_t *c)
{
    return 2 * c->width;
}
static uint64_t of_statistics(const rounded_case_t *c)
{
    return c->n_rows * AG_LOSS_STATISTICS;
}
static uint64_t with_losses(const rounded_case_t *c)
{
    return size_of(c) + c->n_rows;
}

static const kernel_t kernels[] = {
    {"norm", run_norm, size_of, size_of, false, 1},
    {"norm_grad", run_norm_grad, none, with_statistics, false, 1},
    {"norm_weight_grad", run_norm_weight_grad, none, of_columns, false, 1},
    {"round", run_round, size_of, size_of, false, 1},
    {"glu", run_glu, size_of, size_of, false, 1},
    {"glu_grad", run_glu_grad, two, two, false, 2},
    {"rope", run_rope, size_of, size_of, true, 1},
    {"linear", run_linear, of_linear, of_linear, false, 1},
    {"input_grad", run_input_grad, size_of, size_of, false, 1},
    {"weight_grad", run_weight_grad, none, of_weights, false, 1},
    {"self_attention", run_attention, size_of, with_rows, false, 1},
    {"self_attention_grad", run_attention_grad, none, two, false, 1},
    {"loss_statistics", run_statistics, none, of_statistics, false, 1},
    {"loss", run_loss, size_of, with_losses, true, 1},
};
enum { N_KERNELS = sizeof(kernels) / sizeof(kernels[0]) };

/* Element i of what was written. */
static float written(const kernel_t *kernel, const rounded_case_t *c, const float *y, uint64_t i)
{
    uint64_t n = kernel->n_rounded(c), part = n / kernel->n_parts;

    return i < n ? ag_bf16_to_f32(((const uint16_t *)(const void *)(y + i / part * part))[i % part])
                 : y[i];
}

static void check_kernel(const kernel_t *kernel, rounded_case_t *c, ag_gemm_cache_t *gemm,
                         const ag_isa_t *isa)
{
    int32_t row_begin[] = {0, (int32_t)(c->n_rows / 3), (int32_t)c->n_rows};
    ag_step_t step = {
        .counts = {[AG_COUNT_ONE] = 1, [AG_COUNT_TOKENS] = c->n_rows, [AG_COUNT_SEQUENCES] = 2},
        .row_begin = row_begin};
    ag_self_attention_t attention = attention_of(c);
    size_t scratch_bytes = ag_train_linear_scratch_bytes();
    uint64_t n = kernel->n_y(c);
    size_t of_attention = ag_self_attention_scratch_bytes(&attention);
    float *begin = take(n * sizeof(float)), *y[2];
    kernel_call_t call = {.fn = kernel->fn,
                          .arg = c,
                          .step = &step,
                          .scratch_bytes =
                              scratch_bytes > of_attention ? scratch_bytes : of_attention,
                          .gemm = gemm,
                          .isa = isa,
                          .y_at_first = begin};

    for (int rounded = 0; rounded < 2; rounded++) {
        c->rounded = rounded;
        memset(begin, 0, n * sizeof(float));
        if (kernel->in_place) {
            memcpy(begin, in(c, 0).data, size_of(c) * ag_element_bytes(c->rounded));
        }
        y[rounded] = kernel_call(&call, n, kernel->name);
    }
    for (uint64_t i = 0; i < n; i++) {
        float is = written(kernel, c, y[1], i), expected = y[0][i];

        cr_assert_leq(fabsf(is - expected), fabsf(expected) * 0x1p-8f + 1e-5f,
                      "%s of %u rows, width %u, n %u, exact %d: element %u is %g, not %g",
                      kernel->name, (unsigned)c->n_rows, (unsigned)c->width, (unsigned)c->n,
                      c->exact, (unsigned)i, (double)is, (double)expected);
    }
    free(begin);
    free(y[0]);
    free(y[1]);
}

/* @param only  a kernel by name; NULL: all */
static void check_shape(const char *only, uint64_t n_rows, uint64_t width, uint64_t n, bool exact,
                        ag_gemm_cache_t *gemm, const ag_isa_t *isa)
{
    float *vector = random_floats(20, width, 1), *weight = random_floats(21, n * width, 0.1);
    float *bias = random_floats(22, n, 1);
    int32_t *targets = take(n_rows * sizeof(int32_t));
    rounded_case_t c = {.exact = exact,
                        .n_rows = n_rows,
                        .width = width,
                        .n = n,
                        .vector = vector,
                        .weight = weight,
                        .bias = exact ? bias : NULL,
                        .targets = targets};
    uint64_t most = n_rows * (width > n ? width : n) + n_rows * HEADS;

    for (uint64_t i = 0; i < n_rows; i++) {
        targets[i] = i % 4 == 3 ? -1 : (int32_t)random_below(23, i, width);
    }
    for (int i = 0; i < MOST_IN; i++) {
        c.floats[i] = random_floats((uint64_t)i, most, 1);
        c.halves[i] = take(most * sizeof(uint16_t));
        for (uint64_t j = 0; j < most; j++) {
            c.halves[i][j] = ag_f32_to_bf16(i < 4 ? c.floats[i][j] : 0.1f + fabsf(c.floats[i][j]));
            c.floats[i][j] = ag_bf16_to_f32(c.halves[i][j]);
        }
    }
    for (int k = 0; k < N_KERNELS; k++) {
        if (only == NULL || strcmp(only, kernels[k].name) == 0) {
            check_kernel(&kernels[k], &c, gemm, isa);
        }
    }
    for (int i = 0; i < MOST_IN; i++) {
        free(c.floats[i]);
        free(c.halves[i]);
    }
    free(vector);
    free(weight);
    free(bias);
    free(targets);
}

static const uint64_t shapes[][3] = {/* rows, width, n */
                                     {1, 4, 1},
                                     {3, 8, 5},
                                     {70, 64, 300},
                                     {12, 1040, 33},
                                     {40, 96, 1601}};

Test(rounded, kernels_differ_by_rounding_alone)
{
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        for (int exact = 0; exact < 2; exact++) {
            check_shape(NULL, shapes[s][0], shapes[s][1], shapes[s][2], exact, gemm, ag_isa_best());
            check_shape(NULL, shapes[s][0], shapes[s][1], shapes[s][2], exact, NULL, NULL);
        }
    }
    ag_gemm_cache_destroy(gemm);
}

/* So many of k that sums over floats are taken in several blocks. */
Test(rounded, sums_are_rounded_once)
{
    enum { ROWS = 20, K = 6600, N = 40 };
    ag_gemm_cache_t *gemm = NULL;
    const ag_isa_t *isa = NULL;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    cr_assert(isa_at(1, &isa));
    check_shape("linear", ROWS, K, N, false, gemm, isa);
    check_shape("linear", ROWS, K, N, true, gemm, isa);
    ag_gemm_cache_destroy(gemm);
}
