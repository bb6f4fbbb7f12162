/* Rotary position embedding: angles once for a segment (all layers on one rank; a layer where
 * several share it), then in place. */
#include <math.h>

#include "runtime/kernel/kernel_priv.h"
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

/* @param back  by the opposite angle */
static void rotate(const ag_kernel_context_t *context, const ag_rope_t *rope, const float *angles,
                   const bool back, float *x, uint64_t row_stride)
{
    uint32_t half = rope->rotary / 2;
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t r = begin; r < end; r++) {
        const float *restrict cosines = angles + r * rope->rotary;
        const float *restrict sines = cosines + half;

        for (uint32_t h = 0; h < rope->n_heads; h++) {
            float *restrict low = x + r * row_stride + (uint64_t)h * rope->head_dim;
            float *restrict high = low + half;

            for (uint32_t i = 0; i < half; i++) {
                float was_low = low[i], was_high = high[i], sine = back ? -sines[i] : sines[i];

                low[i] = was_low * cosines[i] - was_high * sine;
                high[i] = was_high * cosines[i] + was_low * sine;
            }
        }
    }
}

void ag_kernel_rope(const ag_kernel_context_t *context, const ag_rope_t *rope, const float *angles,
                    float *x, uint64_t row_stride)
{
    rotate(context, rope, angles, false, x, row_stride);
}

void ag_kernel_rope_grad(const ag_kernel_context_t *context, const ag_rope_t *rope,
                         const float *angles, float *dy, uint64_t row_stride)
{
    rotate(context, rope, angles, true, dy, row_stride);
}
