/*
 * Cross entropy over a vocabulary that ranks share, row by row:
 *
 *     statistics  largest logit m, s = sum of exp(l - m), the target's logit: two passes over a row
 *     loss        M = largest m, S = sum of s * exp(m - M), lse = M + log S;
 *                 loss = lse - target's logit, d logit = (exp(l - lse) - 1 if target) * scale
 *
 * A row of logits is read twice and written once, two exponentials for each.
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/spans_priv.h"

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
        mine[0] = ag_span_largest(context->isa, row, n);
        mine[1] =
            ag_span_exps(context->isa, AG_GEMM_F32, &(ag_exps_t){1, mine[0], 1}, row, n, NULL);
        mine[2] = at >= 0 && at < (int64_t)n ? row[at] : 0.0f;
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
        ag_span_exps(context->isa, AG_GEMM_F32, &(ag_exps_t){1, (float)lse, scale}, logits + i * n,
                     n, logits + i * n);
        if (at >= 0 && at < (int64_t)n) {
            logits[i * n + (uint64_t)at] -= scale;
        }
        ag_kernel_yield(context);
    }
}
