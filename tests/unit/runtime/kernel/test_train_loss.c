/* Cross entropy over shared vocabularies, its gradient, and the optimizer. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "differences.h"
#include "kernel_call.h"
#include "runtime/kernel/train.h"

/* LOSS: a vocabulary in parts, one part after the other in place of ranks. */

enum { N_PARTS = 3 };

typedef struct loss_case {
    uint64_t bounds[N_PARTS + 1]; /* of the parts; the last is the vocabulary */
    uint32_t part;
    const float *logits, *statistics; /* this part's (rows, columns); of all parts */
    const int32_t *targets;
    uint64_t n_rows;
    float scale, cap;
} loss_case_t;

static ag_loss_t part_of(const loss_case_t *c)
{
    return (ag_loss_t){c->bounds[c->part], c->bounds[c->part + 1], c->part, N_PARTS, c->cap};
}

static double capped(const loss_case_t *c, double logit)
{
    return c->cap > 0 ? (double)c->cap * tanh(logit / (double)c->cap) : logit;
}

static double wide_loss(const void *arg, const double *logits)
{
    const loss_case_t *c = arg;
    uint64_t n = c->bounds[N_PARTS];
    double all = 0;

    for (uint64_t row = 0; row < c->n_rows; row++) {
        double sum = 0;

        for (uint64_t j = 0; j < n; j++) {
            sum += exp(capped(c, logits[row * n + j]));
        }
        if (c->targets[row] >= 0) {
            all += log(sum) - capped(c, logits[row * n + (uint64_t)c->targets[row]]);
        }
    }
    return all;
}

static void run_statistics(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const loss_case_t *c = arg;
    ag_loss_t loss = part_of(c);

    ag_kernel_loss_statistics(context, &loss, ag_floats(c->logits), c->targets, c->n_rows, y);
}

/* y: logits, then losses */
static void run_loss(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const loss_case_t *c = arg;
    ag_loss_t loss = part_of(c);
    uint64_t n = c->n_rows * (loss.vocab_end - loss.vocab_begin);

    ag_kernel_loss(context, &loss, c->statistics, c->targets, c->n_rows, c->scale, ag_floats(y),
                   y + n);
}

static void run_loss_alone(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const loss_case_t *c = arg;
    ag_loss_t loss = part_of(c);

    ag_kernel_loss(context, &loss, c->statistics, c->targets, c->n_rows, c->scale, ag_floats(NULL),
                   y);
}

/* Columns of a part. */
static float *cut_columns(const loss_case_t *c, const float *logits)
{
    uint64_t begin = c->bounds[c->part], n = c->bounds[c->part + 1] - begin;
    float *part = take((c->n_rows * n + c->n_rows) * sizeof(float));

    for (uint64_t row = 0; row < c->n_rows; row++) {
        memcpy(part + row * n, logits + row * c->bounds[N_PARTS] + begin, n * sizeof(float));
    }
    memset(part + c->n_rows * n, 0, c->n_rows * sizeof(float));
    return part;
}

/* The sum over the parts, which an all-reduce makes. */
static float *sum_statistics(loss_case_t *c, const float *logits, const kernel_call_t *with)
{
    uint64_t n = c->n_rows * N_PARTS * AG_LOSS_STATISTICS;
    float *sum = take(n * sizeof(float));
    kernel_call_t call = *with;

    memset(sum, 0, n * sizeof(float));
    call.arg = c;
    call.fn = run_statistics;
    for (c->part = 0; c->part < N_PARTS; c->part++) {
        float *part = cut_columns(c, logits), *y;

        c->logits = part;
        y = kernel_call(&call, n, "statistics");
        for (uint64_t i = 0; i < n; i++) {
            sum[i] += y[i];
        }
        free(part);
        free(y);
    }
    return sum;
}

static void expect_part(const loss_case_t *c, const float *y, const double *slopes,
                        const double *losses)
{
    uint64_t begin = c->bounds[c->part], n = c->bounds[c->part + 1] - begin;

    for (uint64_t i = 0; i < c->n_rows * n; i++) {
        double slope = slopes[i / n * c->bounds[N_PARTS] + begin + i % n] * (double)c->scale;

        cr_assert(is_near((double)y[i], slope, 1e-6), "part %u, [%u]: %g, not %g", c->part,
                  (unsigned)i, (double)y[i], slope);
    }
    for (uint64_t row = 0; row < c->n_rows; row++) {
        cr_assert(is_near((double)y[c->n_rows * n + row], losses[row], 1e-6));
    }
}

static void check_loss(uint64_t n_rows, const uint64_t *bounds, float cap,
                       const kernel_call_t *with)
{
    uint64_t n = n_rows * bounds[N_PARTS];
    float *logits = random_floats(41, n, 6), *statistics;
    int32_t *targets = take(n_rows * sizeof(int32_t));
    double *wide = widen(logits, n), *slopes = take(n * sizeof(double));
    double *losses = take(n_rows * sizeof(double));
    loss_case_t c = {.targets = targets, .n_rows = n_rows, .scale = 0.37f, .cap = cap};
    kernel_call_t call = *with;

    memcpy(c.bounds, bounds, sizeof(c.bounds));
    for (uint64_t row = 0; row < n_rows; row++) {
        targets[row] = row % 4 == 3 ? -1 : (int32_t)random_below(42, row, bounds[N_PARTS]);
    }
    for (uint64_t i = 0; i < n; i++) {
        slopes[i] = difference(wide_loss, &c, wide, i);
    }
    for (uint64_t row = 0; row < n_rows; row++) {
        loss_case_t one = c;

        one.n_rows = 1;
        one.targets = targets + row;
        losses[row] = wide_loss(&one, wide + row * bounds[N_PARTS]);
    }
    statistics = sum_statistics(&c, logits, with);
    c.statistics = statistics;
    call.arg = &c;
    for (c.part = 0; c.part < N_PARTS; c.part++) {
        float *part = cut_columns(&c, logits), *y, *alone;
        uint64_t n_part = n_rows * (bounds[c.part + 1] - bounds[c.part]);

        call.y_at_first = part;
        call.fn = run_loss;
        y = kernel_call(&call, n_part + n_rows, "loss");
        expect_part(&c, y, slopes, losses);
        call.fn = run_loss_alone;
        alone = kernel_call(&call, n_rows, "loss alone");
        cr_expect_arr_eq(alone, y + n_part, n_rows * sizeof(float));
        free(part);
        free(y);
        free(alone);
    }
    free(logits);
    free(statistics);
    free(targets);
    free(wide);
    free(slopes);
    free(losses);
}

Test(train_loss, is_the_cross_entropy_whoever_has_which_columns)
{
    static const uint64_t bounds[][N_PARTS + 1] = {
        {0, 0, 37, 37}, {0, 1, 2, 3}, {0, 20, 64, 93}, {0, 0, 0, 1}};

    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < N_ISAS; j++) {
            kernel_call_t call = {0};

            if (isa_at(j, &call.isa)) {
                check_loss(0, bounds[i], 0, &call);
                check_loss(1, bounds[i], 0, &call);
                check_loss(6, bounds[i], 0, &call);
                check_loss(3, bounds[i], 2.5f, &call);
            }
        }
    }
}

Test(train_loss, capped_logits_of_many_columns)
{
    static const uint64_t bounds[N_PARTS + 1] = {0, 1024, 2300, 2301};
    kernel_call_t call = {.isa = ag_isa_best()};

    check_loss(2, bounds, 4, &call);
}

Test(train_loss, large_logits_overflow_nowhere_and_no_number_is_seen)
{
    static const int32_t targets[] = {0, 1, 4};

    for (int j = 0; j < N_ISAS; j++) {
        float logits[15] = {5000, -5000, 0, 1, 2, 90, 91, 92, 93, 94, 1, 2, NAN, 3, 4}, *y;
        loss_case_t c = {.bounds = {0, 2, 4, 5}, .targets = targets, .n_rows = 3, .scale = 1};
        kernel_call_t call = {.fn = run_loss_alone, .arg = &c};

        if (!isa_at(j, &call.isa)) {
            continue;
        }
        c.statistics = sum_statistics(&c, logits, &call);
        c.part = 0;
        y = kernel_call(&call, 3, "large");
        cr_expect_eq(y[0], 0.0f);
        cr_expect_float_eq(y[1], 3.4519f, 1e-4f);
        cr_expect(isnan(y[2]));
        free((void *)c.statistics);
        free(y);
    }
}

/* ADAMW: y is w, m, v. */

typedef struct adamw_case {
    ag_adamw_t adamw;
    uint64_t n;
    const float *g;
} adamw_case_t;

static void run_adamw(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const adamw_case_t *c = arg;

    ag_kernel_adamw(context, &c->adamw, c->n, c->g, y, y + c->n, y + 2 * c->n);
}

/* torch.optim.AdamW's documentation, in double precision. */
static void wide_adamw(const ag_adamw_t *a, double g, double *w, double *m, double *v)
{
    g *= (double)a->gradient_factor;
    *w -= (double)a->lr * (double)a->weight_decay * *w;
    *m = (double)a->beta1 * *m + (1 - (double)a->beta1) * g;
    *v = (double)a->beta2 * *v + (1 - (double)a->beta2) * g * g;
    *w -= (double)a->lr * (*m / (double)a->correction1) /
          (sqrt(*v / (double)a->correction2) + (double)a->eps);
}

static void check_adamw(uint64_t n, const ag_isa_t *isa)
{
    float *first = random_floats(51, 3 * n, 1), *g = random_floats(52, n, 1), *y;
    ag_adamw_t adamw = {.lr = 0.01f,
                        .beta1 = 0.9f,
                        .beta2 = 0.95f,
                        .eps = 1e-3f,
                        .weight_decay = 0.1f,
                        .correction1 = 1 - 0.9f * 0.9f,
                        .correction2 = 1 - 0.95f * 0.95f,
                        .gradient_factor = 0.3f};
    adamw_case_t c = {adamw, n, g};

    for (uint64_t i = 2 * n; i < 3 * n; i++) {
        first[i] = fabsf(first[i]);
    }
    y = kernel_call(
        &(kernel_call_t){
            .fn = run_adamw, .arg = &c, .isa = isa, .y_at_first = first, .yields = n > 0},
        3 * n, "adamw");
    for (uint64_t i = 0; i < n; i++) {
        double w = (double)first[i], m = (double)first[n + i], v = (double)first[2 * n + i];

        wide_adamw(&adamw, (double)g[i], &w, &m, &v);
        cr_assert(is_near((double)y[i], w, 3e-7), "w[%u] is %g, not %g", (unsigned)i, (double)y[i],
                  w);
        cr_assert(is_near((double)y[n + i], m, 3e-7));
        cr_assert(is_near((double)y[2 * n + i], v, 3e-7));
    }
    free(first);
    free(g);
    free(y);
}

Test(optimizer, adamw_is_what_its_authors_say)
{
    static const uint64_t sizes[] = {0, 1, 15, 16, 4097, 20000};

    for (int i = 0; i < N_ISAS; i++) {
        const ag_isa_t *isa;

        for (int j = 0; j < 6 && isa_at(i, &isa); j++) {
            check_adamw(sizes[j], isa);
        }
    }
}

/* SUM OF SQUARES */

typedef struct squares_case {
    const float *x;
    uint64_t n;
} squares_case_t;

static void run_squares(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const squares_case_t *c = arg;

    ag_kernel_sum_squares(context, c->x, c->n, (double *)(void *)y);
}

Test(optimizer, squares_are_summed_chunk_by_chunk)
{
    static const uint64_t sizes[] = {
        0, 1, 1023, AG_SUM_CHUNK, AG_SUM_CHUNK + 1, 3 * AG_SUM_CHUNK - 5};

    for (int i = 0; i < N_ISAS; i++) {
        kernel_call_t call = {.fn = run_squares};

        for (int j = 0; j < 6 && isa_at(i, &call.isa); j++) {
            float *x = random_floats(61, sizes[j], 1e4), *y;
            squares_case_t c = {x, sizes[j]};
            double sum = 0, expected = 0;

            call.arg = &c;
            y = kernel_call(&call, 2 * ag_sum_chunks(sizes[j]), "squares");
            sum = ag_add_sums((double *)(void *)y, ag_sum_chunks(sizes[j]));
            for (uint64_t k = 0; k < sizes[j]; k++) {
                expected += (double)x[k] * (double)x[k];
            }
            cr_assert_leq(fabs(sum - expected), 5e-7 * expected);
            free(x);
            free(y);
        }
    }
}
