/* Rotary position embedding: angles once for a segment (all layers on one rank; a layer where
 * several share it), then in place. */
#include <math.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/spans_priv.h"
#include "runtime/kernel/train.h"

void ag_kernel_angles(const ag_kernel_context_t *context, const ag_angles_t *angles, float *y)
{
    uint32_t half = angles->rotary / 2;
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t r = begin; r < end; r++) {
        float position = (float)context->step->positions[r], *row = y + r * angles->rotary;

        for (uint32_t i = 0; i < half; i++) {
            float angle = position * angles->inverse_freq[i];

            row[i] = cosf(angle) * angles->magnitude;
            row[i + half] = sinf(angle) * angles->magnitude;
        }
    }
}

/* Some pairs. @param back  by the opposite angle */
static inline void rotate_pairs(const float *restrict cosines, const float *restrict sines,
                                const bool back, uint64_t n, float *restrict low,
                                float *restrict high)
{
    for (uint64_t i = 0; i < n; i++) {
        float was_low = low[i], was_high = high[i], sine = back ? -sines[i] : sines[i];

        low[i] = was_low * cosines[i] - was_high * sine;
        high[i] = was_high * cosines[i] + was_low * sine;
    }
}

/* A head whose elements are rounded: some pairs at a time as floats. */
static void rotate_rounded(const ag_kernel_context_t *context, const float *cosines,
                           const float *sines, const bool back, uint64_t half, ag_elements_t x)
{
    float low[AG_SPAN], high[AG_SPAN];

    for (uint64_t at = 0, n; at < half; at += n) {
        n = half - at < AG_SPAN ? half - at : AG_SPAN;
        ag_span_floats(context->isa, x, at, n, low);
        ag_span_floats(context->isa, x, half + at, n, high);
        rotate_pairs(cosines + at, sines + at, back, n, low, high);
        ag_span_put(context->isa, x, at, n, low);
        ag_span_put(context->isa, x, half + at, n, high);
    }
}

/* A head whose pairs lie side by side. */
static void rotate_by_turns(const ag_kernel_context_t *context, const float *cosines,
                            const float *sines, const bool back, uint64_t half, ag_elements_t x)
{
    float span[AG_SPAN], *pairs = x.data;

    for (uint64_t at = 0, n; at < 2 * half; at += n) {
        n = x.rounded && 2 * half - at > AG_SPAN ? AG_SPAN : 2 * half - at;
        if (x.rounded) {
            ag_span_floats(context->isa, x, at, n, span);
            pairs = span;
        }
        for (uint64_t i = 0; i < n / 2; i++) {
            rotate_pairs(cosines + at / 2 + i, sines + at / 2 + i, back, 1, pairs + 2 * i,
                         pairs + 2 * i + 1);
        }
        if (x.rounded) {
            ag_span_put(context->isa, x, at, n, span);
        }
    }
}

static void rotate(const ag_kernel_context_t *context, const ag_rope_t *rope, const float *angles,
                   const bool back, ag_elements_t x, uint64_t row_stride)
{
    uint32_t half = rope->rotary / 2;
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t r = begin; r < end; r++) {
        const float *cosines = angles + r * rope->rotary, *sines = cosines + half;

        for (uint32_t h = 0; h < rope->n_heads; h++) {
            ag_elements_t head =
                ag_elements_at(x, r * row_stride + (uint64_t)h * rope->head_dim + rope->begin);
            float *low = head.data;

            if (rope->by_turns) {
                rotate_by_turns(context, cosines, sines, back, half, head);
            } else if (head.rounded) {
                rotate_rounded(context, cosines, sines, back, half, head);
            } else {
                rotate_pairs(cosines, sines, back, half, low, low + half);
            }
        }
    }
}

void ag_kernel_rope(const ag_kernel_context_t *context, const ag_rope_t *rope, const float *angles,
                    ag_elements_t x, uint64_t row_stride)
{
    rotate(context, rope, angles, false, x, row_stride);
}

void ag_kernel_rope_grad(const ag_kernel_context_t *context, const ag_rope_t *rope,
                         const float *angles, ag_elements_t dy, uint64_t row_stride)
{
    rotate(context, rope, angles, true, dy, row_stride);
}
