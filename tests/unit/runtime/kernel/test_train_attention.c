/* Attention without a cache and its gradients, against the square matrix in double precision. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "differences.h"
#include "kernel_call.h"
#include "runtime/kernel/train.h"

typedef struct attention_case {
    ag_self_attention_t attention;
    const ag_step_t *step;
    uint64_t n_rows, n_q, n_kv; /* floats of q, of k */
    const float *numbers, *dy;  /* q, k, v */
    ag_self_attention_saved_t saved;
} attention_case_t;

static uint64_t sequence_begin(const attention_case_t *c, uint64_t row)
{
    uint64_t s = 0;

    while ((uint64_t)c->step->row_begin[s + 1] <= row) {
        s++;
    }
    return (uint64_t)c->step->row_begin[s];
}

/* The first row that a row sees. */
static uint64_t first_seen(const attention_case_t *c, uint64_t row)
{
    uint64_t begin = sequence_begin(c, row), window = c->attention.window_tokens;

    return window > 0 && row + 1 > begin + window ? row + 1 - window : begin;
}

/* One row of one head: y (head_dim) and the logarithm of its sum. */
static double attend_row(const attention_case_t *c, const double *numbers, uint64_t row, uint32_t h,
                         double *y)
{
    const ag_self_attention_t *a = &c->attention;
    const double *q = numbers + (row * a->n_heads + h) * a->head_dim;
    uint64_t begin = first_seen(c, row);
    double weights[600], sum = 0, cap = (double)a->score_cap;
    double sink = a->sinks != NULL ? numbers[c->n_q + 2 * c->n_kv + h] : -INFINITY, most = sink;

    for (uint64_t i = begin; i <= row; i++) {
        const double *k =
            numbers + c->n_q + (i * a->n_kv_heads + a->kv_head[h]) * (uint64_t)a->head_dim;
        double score = 0;

        for (uint32_t d = 0; d < a->head_dim; d++) {
            score += q[d] * k[d] * (double)a->scale;
        }
        weights[i - begin] = cap > 0 ? cap * tanh(score / cap) : score;
        most = fmax(most, weights[i - begin]);
    }
    memset(y, 0, a->head_dim * sizeof(double));
    sum = exp(sink - most);
    for (uint64_t i = begin; i <= row; i++) {
        sum += exp(weights[i - begin] - most);
    }
    for (uint64_t i = begin; i <= row; i++) {
        const double *v = numbers + c->n_q + c->n_kv +
                          (i * a->n_kv_heads + a->kv_head[h]) * (uint64_t)a->head_dim;

        for (uint32_t d = 0; d < a->head_dim; d++) {
            y[d] += exp(weights[i - begin] - most) / sum * v[d];
        }
    }
    return most + log(sum);
}

static double attention_loss(const void *arg, const double *numbers)
{
    const attention_case_t *c = arg;
    uint32_t n_heads = c->attention.n_heads, head_dim = c->attention.head_dim;
    double sum = 0, y[256];

    for (uint64_t row = 0; row < c->n_rows; row++) {
        for (uint32_t h = 0; h < n_heads; h++) {
            attend_row(c, numbers, row, h, y);
            sum += dot(c->dy + (row * n_heads + h) * head_dim, y, head_dim);
        }
    }
    return sum;
}

/* y, then lse. */
static void run_forward(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const attention_case_t *c = arg;

    ag_kernel_self_attention(context, &c->attention, ag_floats(c->numbers),
                             ag_floats(c->numbers + c->n_q),
                             ag_floats(c->numbers + c->n_q + c->n_kv), ag_floats(y), y + c->n_q);
}

/* dq, dk, dv, dsinks. */
static void run_backward(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const attention_case_t *c = arg;

    ag_kernel_self_attention_grad(context, &c->attention, &c->saved, ag_floats(c->dy), y,
                                  y + c->n_q, y + c->n_q + c->n_kv);
    if (c->attention.sinks != NULL) {
        ag_kernel_sinks_grad(context, &c->attention, &c->saved, ag_floats(c->dy),
                             y + c->n_q + 2 * c->n_kv);
    }
}

static void expect_forward(const attention_case_t *c, const double *wide, const float *y,
                           double relative)
{
    uint32_t n_heads = c->attention.n_heads, head_dim = c->attention.head_dim;
    double expected[256];

    for (uint64_t row = 0; row < c->n_rows; row++) {
        for (uint32_t h = 0; h < n_heads; h++) {
            double lse = attend_row(c, wide, row, h, expected);
            uint64_t at = row * n_heads + h;

            cr_assert(is_near((double)y[c->n_q + at], lse, relative), "row %u, head %u: lse %g, %g",
                      (unsigned)row, h, (double)y[c->n_q + at], lse);
            for (uint32_t d = 0; d < head_dim; d++) {
                cr_assert(is_near((double)y[at * head_dim + d], expected[d], relative),
                          "row %u, head %u, %u: %g, not %g", (unsigned)row, h, d,
                          (double)y[at * head_dim + d], expected[d]);
            }
        }
    }
}

/* A row that sees itself alone takes all of its own value, whatever the query: no rounding of it is
 * left as a gradient. */
static void expect_nothing_of_one_key(const attention_case_t *c, const float *dq)
{
    uint64_t width = (uint64_t)c->attention.n_heads * c->attention.head_dim;

    for (uint64_t row = 0; row < c->n_rows && c->attention.sinks == NULL; row++) {
        for (uint64_t i = 0; i < width && first_seen(c, row) == row; i++) {
            cr_assert_eq(dq[row * width + i], 0, "row %u: %g", (unsigned)row,
                         (double)dq[row * width + i]);
        }
    }
}

/* @param every  of how many gradients one is held to its difference */
static void check_attention(attention_case_t *c, const kernel_call_t *with, uint64_t every,
                            double relative)
{
    ag_self_attention_t *a = &c->attention;
    uint64_t n_rows = (uint64_t)c->step->row_begin[c->step->counts[AG_COUNT_SEQUENCES]], n_all;
    kernel_call_t call = *with;
    float *numbers, *dy, *y, *grads, *before;
    double *wide;

    c->n_rows = n_rows;
    c->n_q = n_rows * a->n_heads * a->head_dim;
    c->n_kv = n_rows * a->n_kv_heads * a->head_dim;
    n_all = c->n_q + 2 * c->n_kv + (a->sinks != NULL ? a->n_heads : 0);
    c->numbers = numbers = random_floats(31, n_all, 1);
    a->sinks = a->sinks != NULL ? numbers + c->n_q + 2 * c->n_kv : NULL;
    c->dy = dy = random_floats(32, c->n_q, 1);
    wide = widen(numbers, n_all);
    call.arg = c;
    call.step = c->step;
    call.scratch_bytes = ag_self_attention_scratch_bytes(a);
    call.fn = run_forward;
    y = kernel_call(&call, c->n_q + n_rows * a->n_heads, "attention");
    expect_forward(c, wide, y, relative);
    c->saved = (ag_self_attention_saved_t){.q = ag_floats(numbers),
                                           .k = ag_floats(numbers + c->n_q),
                                           .v = ag_floats(numbers + c->n_q + c->n_kv),
                                           .y = ag_floats(y),
                                           .lse = y + c->n_q};
    call.fn = run_backward;
    before = random_floats(34, n_all, 1); /* sinks' are added to */
    call.y_at_first = before;
    grads = kernel_call(&call, n_all, "attention grad");
    expect_nothing_of_one_key(c, grads);
    for (uint64_t i = 0; i < n_all; i += 1 + random_below(33, i, every)) {
        double expected = difference(attention_loss, c, wide, i);

        expected += i < c->n_q + 2 * c->n_kv ? 0 : (double)before[i];
        cr_assert(is_near((double)grads[i], expected, 3 * relative),
                  "gradient %u of %u (%u of q): %g, not %g", (unsigned)i, (unsigned)n_all,
                  (unsigned)c->n_q, (double)grads[i], expected);
    }
    free(numbers);
    free(dy);
    free(y);
    free(grads);
    free(before);
    free(wide);
}

static const uint32_t kv_heads[] = {0, 0, 0, 1, 1, 2}, one_kv_head[6] = {0},
                      not_first[] = {1, 1, 3};
static const float one_sink[1]; /* the case has its own, as many as heads */

static void check_shapes(const kernel_call_t *with, bool exact, double relative)
{
    static const int32_t ragged[] = {0, 1, 12, 12, 20}, alone[] = {0, 1}, none[] = {0};
    const struct {
        uint64_t n_sequences;
        const int32_t *row_begin;
        ag_self_attention_t attention;
        uint64_t every;
    } cases[] = {
        {4, ragged, {6, 3, 8, kv_heads, 0.4f, 0, 0, NULL, exact}, 80},
        {4, ragged, {6, 3, 8, kv_heads, 2.4f, 3, 0.9f, one_sink, exact}, 80},
        {4, ragged, {6, 3, 8, kv_heads, 0.4f, 1, 0, one_sink, exact}, 80},
        {4, ragged, {6, 3, 8, kv_heads, 0.4f, 1, 0.9f, NULL, exact}, 80},
        {4, ragged, {3, 5, 5, not_first, 1.1f, 0, 0, NULL, exact}, 80},
        {4, ragged, {3, 5, 5, not_first, 1.1f, 7, 0, NULL, exact}, 80},
        {1, alone, {6, 1, 64, one_kv_head, 0.125f, 0, 0, one_sink, exact}, 3},
        {1, alone, {0, 2, 4, NULL, 1, 0, 0, NULL, exact}, 1},
        {0, none, {3, 1, 4, one_kv_head, 1, 2, 3, one_sink, exact}, 1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_step_t step = {.counts = {[AG_COUNT_SEQUENCES] = cases[i].n_sequences},
                          .row_begin = cases[i].row_begin};
        attention_case_t c = {.attention = cases[i].attention, .step = &step};

        check_attention(&c, with, cases[i].every, relative);
    }
}

Test(train_attention, equals_the_square_matrix_and_its_differences)
{
    kernel_call_t call = {0};

    check_shapes(&call, true, 3e-6);
    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &call.gemm), AG_OK);
    for (int i = 0; i < N_ISAS; i++) {
        if (isa_at(i, &call.isa)) {
            check_shapes(&call, true, 3e-6);
            check_shapes(&call, false, 2e-2);
        }
    }
    ag_gemm_cache_destroy(call.gemm);
}

Test(train_attention, several_tiles_of_rows_and_keys_and_heads)
{
    static const int32_t rows[] = {0, 5, 200};
    ag_step_t step = {.counts = {[AG_COUNT_SEQUENCES] = 2}, .row_begin = rows};
    kernel_call_t call = {.isa = ag_isa_best(), .yields = true};
    static const uint32_t windows[] = {0, 30, 64, 90, 190};

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &call.gemm), AG_OK);
    for (int i = 0; i < 5; i++) {
        attention_case_t c = {.attention = {6, 1, 4, one_kv_head, 0.5f, windows[i],
                                            i == 2 ? 0.5f : 0, i > 2 ? one_sink : NULL, true},
                              .step = &step};

        check_attention(&c, &call, i == 0 ? 2000 : 4000, 5e-6);
    }
    ag_gemm_cache_destroy(call.gemm);
}

Test(train_attention, what_is_no_number_stays_so)
{
    static const int32_t rows[] = {0, 3};
    ag_step_t step = {.counts = {[AG_COUNT_SEQUENCES] = 1}, .row_begin = rows};
    float numbers[3 * 3 * 4];
    attention_case_t c = {.attention = {1, 1, 4, one_kv_head, 0.5f, 0, 0, NULL, true},
                          .step = &step,
                          .n_q = 12,
                          .n_kv = 12,
                          .numbers = numbers};
    kernel_call_t call = {.fn = run_forward, .arg = &c, .step = &step, .isa = ag_isa_best()};

    call.scratch_bytes = ag_self_attention_scratch_bytes(&c.attention);
    for (int i = 0; i < 36; i++) {
        float *y;

        for (int j = 0; j < 36; j++) {
            numbers[j] = j == i ? NAN : 0.5f;
        }
        y = kernel_call(&call, 12 + 3, "no number");
        for (int row = 0; row < 3; row++) {
            bool seen = i < 12 ? row == i / 4 : row >= i % 12 / 4;
            int at = i < 24 ? 0 : i % 4;

            /* rows that do not see it may lose their numbers too: 0 * NaN in a tile */
            cr_expect(!seen || isnan(y[row * 4 + at]), "number %d, row %d", i, row);
        }
        free(y);
    }
}
