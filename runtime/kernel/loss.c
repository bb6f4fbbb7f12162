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

/* Floats without a cap are worked on as they stand, all at once. */
static uint64_t span_of(const ag_loss_t *loss, ag_elements_t logits, uint64_t left)
{
    return (logits.rounded || loss->cap > 0) && left > AG_SPAN ? AG_SPAN : left;
}

/* Logits from `at` on, capped where there is a cap. */
static const float *capped(const ag_isa_t *isa, const ag_loss_t *loss, ag_elements_t row,
                           uint64_t at, uint64_t n, float room[AG_SPAN])
{
    const float *logits = ag_span_floats(isa, row, at, n, room);

    if (loss->cap > 0) {
        ag_span_caps(isa, &(ag_caps_t){1, loss->cap}, logits, n, room);
        logits = room;
    }
    return logits;
}

/* Of a row: the largest logit, the sum of exponentials against it, the target's. A cap keeps which
 * is the largest. */
static void describe_row(const ag_isa_t *isa, const ag_loss_t *loss, ag_elements_t row,
                         int64_t target, float statistics[AG_LOSS_STATISTICS])
{
    uint64_t n = loss->vocab_end - loss->vocab_begin;
    float room[AG_SPAN], most = -INFINITY, of_target = 0;
    double sum = 0;

    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        float here;

        n_span = span_of(loss, row, n - at);
        here = ag_span_largest(isa, ag_span_floats(isa, row, at, n_span, room), n_span);
        most = here > most ? here : most;
    }
    most = loss->cap > 0 ? loss->cap * tanhf(most / loss->cap) : most;
    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        const float *logits;

        n_span = span_of(loss, row, n - at);
        logits = capped(isa, loss, row, at, n_span, room);
        sum +=
            (double)ag_span_exps(isa, AG_GEMM_F32, &(ag_exps_t){1, most, 1}, logits, n_span, NULL);
        if (target >= (int64_t)at && target < (int64_t)(at + n_span)) {
            of_target = logits[target - (int64_t)at];
        }
    }
    statistics[0] = most;
    statistics[1] = (float)sum;
    statistics[2] = of_target;
}

/* A row's logits to their gradient. @param target  its column; it may be another part's. */
static void put_gradient(const ag_isa_t *isa, const ag_loss_t *loss, const ag_exps_t *exps,
                         int64_t target, ag_elements_t row)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin;
    float of_logits[AG_SPAN], of_slopes[AG_SPAN];

    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        float *to = ag_span_room(row, at, of_slopes);
        const float *logits;

        n_span = span_of(loss, row, n - at);
        logits = capped(isa, loss, row, at, n_span, of_logits);
        ag_span_exps(isa, AG_GEMM_F32, exps, logits, n_span, to);
        if (target >= (int64_t)at && target < (int64_t)(at + n_span)) {
            to[target - (int64_t)at] -= exps->factor;
        }
        for (uint64_t j = 0; loss->cap > 0 && j < n_span; j++) {
            to[j] *= 1 - logits[j] / loss->cap * (logits[j] / loss->cap);
        }
        ag_span_put(isa, row, at, n_span, to);
    }
}

void ag_kernel_loss_statistics(const ag_kernel_context_t *context, const ag_loss_t *loss,
                               ag_elements_t logits, const int32_t *targets, uint64_t n_rows,
                               float *statistics)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin, width, begin, end;

    width = (uint64_t)loss->n_parts * AG_LOSS_STATISTICS;
    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        float *mine = statistics + i * width + (uint64_t)loss->part * AG_LOSS_STATISTICS;

        memset(statistics + i * width, 0, width * sizeof(float));
        describe_row(context->isa, loss, ag_elements_at(logits, i * n),
                     targets[i] - (int64_t)loss->vocab_begin, mine);
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
                    ag_elements_t logits, float *losses)
{
    uint64_t n = loss->vocab_end - loss->vocab_begin, begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = statistics + i * loss->n_parts * AG_LOSS_STATISTICS;
        ag_elements_t slopes;
        double target, lse = log_sum(loss, row, &target);

        losses[i] = targets[i] < 0 ? 0.0f : (float)(lse - target);
        if (logits.data == NULL) {
            continue;
        }
        slopes = ag_elements_at(logits, i * n);
        if (targets[i] < 0) {
            memset(slopes.data, 0, n * ag_element_bytes(logits.rounded));
            continue;
        }
        put_gradient(context->isa, loss, &(ag_exps_t){1, (float)lse, scale},
                     targets[i] - (int64_t)loss->vocab_begin, slopes);
        ag_kernel_yield(context);
    }
}
