/* Rope frequencies, in float32 as transformers' modeling_rope_utils.py computes them. */
#include <math.h>

#include "runtime/model/spec.h"

static const double two_pi = 6.283185307179586476925;

/* The dimension at which a rope makes n_rotations over the original context. */
static double correction_dim(const ag_rope_spec_t *rope, double n_rotations)
{
    return rope->rotary * log(rope->original_context_tokens / (n_rotations * two_pi)) /
           (2.0 * log(rope->base));
}

static void scale_llama3(const ag_rope_spec_t *rope, float *inverse_freq)
{
    float context = (float)rope->original_context_tokens;
    float low = (float)rope->low_freq_factor, high = (float)rope->high_freq_factor;
    float factor = (float)rope->factor;

    for (uint32_t i = 0; i < rope->rotary / 2; i++) {
        float wavelength = (float)two_pi / inverse_freq[i];

        if (wavelength > context / low) {
            inverse_freq[i] /= factor;
        } else if (wavelength >= context / high) {
            float smooth = (context / wavelength - low) / (high - low);

            inverse_freq[i] = (1.0f - smooth) * inverse_freq[i] / factor + smooth * inverse_freq[i];
        }
    }
}

static void scale_yarn(const ag_rope_spec_t *rope, float *inverse_freq)
{
    double first = correction_dim(rope, rope->beta_fast);
    double last = correction_dim(rope, rope->beta_slow);

    first = rope->truncates ? floor(first) : first;
    last = rope->truncates ? ceil(last) : last;
    first = first < 0 ? 0 : first;
    last = last > rope->rotary - 1 ? rope->rotary - 1 : last;
    last = last == first ? first + 0.001 : last;
    for (uint32_t i = 0; i < rope->rotary / 2; i++) {
        float ramp = (float)((i - first) / (last - first));

        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        inverse_freq[i] =
            inverse_freq[i] / (float)rope->factor * ramp + inverse_freq[i] * (1 - ramp);
    }
}

double ag_yarn_magnitude(double factor, double scale)
{
    return factor > 1 ? 0.1 * scale * log(factor) + 1.0 : 1.0;
}

double ag_rope_magnitude(const ag_rope_spec_t *rope)
{
    if (rope->kind != AG_ROPE_YARN && rope->kind != AG_ROPE_LONG) {
        return 1;
    }
    if (rope->attention_factor > 0) {
        return rope->attention_factor;
    }
    return rope->kind == AG_ROPE_YARN ? ag_yarn_magnitude(rope->factor, 1)
           : rope->factor > 1
               ? sqrt(1 + log(rope->factor) / log((double)rope->original_context_tokens))
               : 1;
}

void ag_rope_frequencies(const ag_rope_spec_t *rope, const float *factors, float *inverse_freq)
{
    for (uint32_t i = 0; i < rope->rotary / 2; i++) {
        float wavelength = powf((float)rope->base, (float)(2 * i) / (float)rope->rotary);

        if (rope->kind == AG_ROPE_LONG) {
            inverse_freq[i] = 1.0f / (factors[i] * wavelength);
            continue;
        }
        inverse_freq[i] = 1.0f / wavelength;
        if (factors != NULL) {
            inverse_freq[i] /= factors[i];
        }
    }
    switch (rope->kind) {
    case AG_ROPE_DEFAULT:
    case AG_ROPE_LONG:
        break;
    case AG_ROPE_LINEAR:
        for (uint32_t i = 0; i < rope->rotary / 2; i++) {
            inverse_freq[i] /= (float)rope->factor;
        }
        break;
    case AG_ROPE_LLAMA3:
        scale_llama3(rope, inverse_freq);
        break;
    case AG_ROPE_YARN:
        scale_yarn(rope, inverse_freq);
        break;
    }
}
