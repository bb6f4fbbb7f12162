/*
 * Cross entropy over a vocabulary that ranks share, row by row:
 *
 *     statistics  largest logit m, s = sum of exp(l - m), the target's logit: two passes over a row
 *     loss        M = largest m, S = sum of s * exp(m - M), lse = M + log S;
 *                 loss = lse - target's logit, d logit = (exp(l - lse) - 1 if target) * scale
 *
 * A row of logits is read twice and written once, two exponentials for each. Where logits are
 * capped, c = cap * tanh(l / cap) takes the place of l, some columns at a time, and d l = d c * (1
 * - (c / cap)^2).
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/spans_priv.h"

enum { PIECE_COLUMNS = 1024 };

/* Sum of exp(c - largest) over n logits. */
static float sum_capped(const ag_isa_t *isa, float cap, float largest, const float *row, uint64_t n)
{
    float piece[PIECE_COLUMNS];
    double sum = 0;

    for (uint64_t i = 0; i < n; i += PIECE_COLUMNS) {
        uint64_t n_piece = n - i < PIECE_COLUMNS ? n - i : PIECE_COLUMNS;

        ag_span_caps(isa, &(ag_caps_t){1, cap}, row + i, n_piece, piece);
        sum += (double)ag_span_exps(isa, AG_GEMM_F32, &(ag_exps_t){1, largest, 1}, piece, n_piece,
                                    NULL);
    }
    return (float)sum;
}

static float capped(float cap, float logit)
{
    return cap > 0 ? cap * tanhf(logit / cap) : logit;
}

/* n logits to exp(c - lse) * scale * slope of c. */
static void put_capped(const ag_isa_t *isa, float cap, const ag_exps_t *exps, uint64_t n,
                       float *logits)
{
    float piece[PIECE_COLUMNS];

    for (uint64_t i = 0; i < n; i += PIECE_COLUMNS) {
        uint64_t n_piece = n - i < PIECE_COLUMNS ? n - i : PIECE_COLUMNS;

        ag_span_caps(isa, &(ag_caps_t){1, cap}, logits + i, n_piece, piece);
        ag_span_exps(isa, AG_GEMM_F32, exps, piece, n_piece, logits + i);
        for (uint64_t j = 0; j < n_piece; j++) {
            logits[i + j] *= 1 - piece[j] / cap * (piece[j] / cap);
        }
    }
}

void ag_kernel_loss_statistics(const ag_kernel_context_t *context, const ag_loss_t *loss,
                               const float *logits, const int32_t *targets, uint64_t n_rows,
                               float *statistics)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin, width, begin, end;

    width = (uint64_t)loss->n_parts * AG_LOSS_STATISTICS;
    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = logits + i * n;
        float *mine = statistics + i * width + (uint64_t)loss->part * AG_LOSS_STATISTICS;
        int64_t at = targets[i] - (int64_t)loss->vocab_begin;

        memset(statistics + i * width, 0, width * sizeof(float));
        mine[0] = capped(loss->cap, ag_span_largest(context->isa, row, n));
        mine[1] = loss->cap > 0 ? sum_capped(context->isa, loss->cap, mine[0], row, n)
                                : ag_span_exps(context->isa, AG_GEMM_F32,
                                               &(ag_exps_t){1, mine[0], 1}, row, n, NULL);
        mine[2] = at >= 0 && at < (int64_t)n ? capped(loss->cap, row[at]) : 0.0f;
        ag_kernel_yield(context);
    }
}

/* log of the sum of all exponentials; the target's logit. */
static double log_sum(const ag_loss_t *loss, const float *statistics, double *target_p)
{
    double most = -INFINITY, sum = 0, target = 0;

    for (uint32_t p = 0; p < loss->n_parts; p++) {
        const float *part = statistics + (uint64_t)p * AG_LOSS_STATISTICS;

        most = (double)part[0] > most ? (double)part[0] : most;
        target += (double)part[2];
    }
    for (uint32_t p = 0; p < loss->n_parts; p++) {
        const float *part = statistics + (uint64_t)p * AG_LOSS_STATISTICS;

        /* a part without columns has a sum of 0, one of NaN keeps it */
        sum += part[1] == 0 ? 0 : (double)part[1] * exp((double)part[0] - most);
    }
    *target_p = target;
    return most + log(sum);
}

/* A row's logits to their gradient. @param at  the target's column; it may be another part's. */
static void put_gradient(const ag_isa_t *isa, const ag_loss_t *loss, const ag_exps_t *exps,
                         int64_t at, float *logits)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin;
    bool is_here = at >= 0 && at < (int64_t)n;
    float part = is_here && loss->cap > 0 ? tanhf(logits[at] / loss->cap) : 0;

    if (loss->cap > 0) {
        put_capped(isa, loss->cap, exps, n, logits);
    } else {
        ag_span_exps(isa, AG_GEMM_F32, exps, logits, n, logits);
    }
    if (is_here) {
        logits[at] -= exps->factor * (1 - part * part);
    }
}

void ag_kernel_loss(const ag_kernel_context_t *context, const ag_loss_t *loss,
                    const float *statistics, const int32_t *targets, uint64_t n_rows, float scale,
                    float *logits, float *losses)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin, begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = statistics + i * loss->n_parts * AG_LOSS_STATISTICS;
        int64_t at = targets[i] - (int64_t)loss->vocab_begin;
        double target, lse = log_sum(loss, row, &target);

        losses[i] = targets[i] < 0 ? 0.0f : (float)(lse - target);
        if (logits == NULL) {
            continue;
        }
        if (targets[i] < 0) {
            memset(logits + i * n, 0, n * sizeof(float));
            continue;
        }
        put_gradient(context->isa, loss, &(ag_exps_t){1, (float)lse, scale}, at, logits + i * n);
        ag_kernel_yield(context);
    }
}
