/* Rotary position embedding, in place. The angle is position * frequency in float32, as
 * transformers'. */
#include <math.h>

#include "runtime/kernel/kernel_priv.h"

static void rotate_pair(const ag_rope_t *rope, float *row, uint32_t i, float angle)
{
    float cosine = cosf(angle) * rope->magnitude, sine = sinf(angle) * rope->magnitude;
    uint32_t half = rope->rotary / 2;

    for (uint32_t h = 0; h < rope->n_heads; h++) {
        float *head = row + (uint64_t)h * rope->head_dim;
        float low = head[i], high = head[i + half];

        head[i] = low * cosine - high * sine;
        head[i + half] = high * cosine + low * sine;
    }
}

void ag_kernel_rope(const ag_kernel_context_t *context, const ag_rope_t *rope, float *x,
                    uint64_t row_stride)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t r = begin; r < end; r++) {
        float position = (float)context->step->positions[r];

        for (uint32_t i = 0; i < rope->rotary / 2; i++) {
            rotate_pair(rope, x + r * row_stride, i, position * rope->inverse_freq[i]);
        }
    }
}
