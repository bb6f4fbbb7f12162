/*
 * Ropes between the two kinds of files. Config files name a llama3 rope by four numbers; GGUF files
 * list what each frequency is divided by (llama.cpp's convert_hf_to_gguf.py). Of several ropes, the
 * first kind of layers'.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/export_priv.h"

static const double two_pi = 6.283185307179586476925;

/* Frequencies as they would be without divisors of their own. @return NULL: no memory. */
static float *plain_frequencies(const ag_layer_spec_t *layer)
{
    ag_rope_spec_t rope = layer->rope;
    float *plain = calloc(rope.rotary / 2 + 1, sizeof(*plain));

    if (plain != NULL) {
        rope.kind = rope.kind == AG_ROPE_LLAMA3 ? AG_ROPE_DEFAULT : rope.kind;
        ag_rope_frequencies(&rope, NULL, plain);
    }
    return plain;
}

/* The float that `from` is to be divided by to become `to`, exactly where there is one. */
static float divisor(float from, float to)
{
    float nearest = from / to, below = nearest, above = nearest;

    for (int i = 0; i < 4; i++) {
        if (from / above == to) {
            return above;
        }
        if (from / below == to) {
            return below;
        }
        above = nextafterf(above, INFINITY);
        below = nextafterf(below, 0);
    }
    return nearest;
}

/* Those of a longrope, as they are. */
static ag_status_t copy_factors(const ag_layer_spec_t *layer, float **factors_p)
{
    size_t n_bytes = layer->rope.rotary * sizeof(float);

    *factors_p = malloc(n_bytes + 1);
    if (*factors_p == NULL) {
        return ag_fail_nomem("writing a rope", n_bytes);
    }
    memcpy(*factors_p, layer->rope_factors, n_bytes);
    return AG_OK;
}

ag_status_t ag_export_rope_factors(const ag_model_t *model, float **factors_p)
{
    const ag_layer_spec_t *layer = &model->spec->layer_kinds[0];
    float *factors;
    bool divided = false;

    if (layer->rope.kind == AG_ROPE_LONG) {
        return copy_factors(layer, factors_p);
    }
    factors = plain_frequencies(layer);
    if (factors == NULL) {
        return ag_fail_nomem("writing a rope", layer->rope.rotary * sizeof(float));
    }
    for (uint32_t i = 0; i < layer->rope.rotary / 2; i++) {
        divided = divided || factors[i] != layer->inverse_freq[i];
        factors[i] = divisor(factors[i], layer->inverse_freq[i]);
    }
    if (!divided) {
        free(factors);
        factors = NULL;
    }
    *factors_p = factors;
    return AG_OK;
}

/* Does it give the frequencies that the model has, but for rounding? */
static bool gives(const ag_rope_spec_t *rope, const ag_layer_spec_t *layer)
{
    float *frequencies = calloc(rope->rotary / 2 + 1, sizeof(*frequencies));
    bool same = frequencies != NULL;

    if (same) {
        ag_rope_frequencies(rope, NULL, frequencies);
    }
    for (uint32_t i = 0; i < rope->rotary / 2 && same; i++) {
        same = fabsf(frequencies[i] - layer->inverse_freq[i]) <= 2e-6f * layer->inverse_freq[i];
    }
    free(frequencies);
    return same;
}

/*
 * A llama3 rope divides by 1 up to the wavelength context/high, by its factor from context/low on;
 * between them 1/divisor = (1 - s)/factor + s with s = (context/wavelength - low)/(high - low): a
 * line in 1/wavelength. Of three unknowns one is free, and low is 1 wherever it was seen. With one
 * divisor between, or none, high is 4, as in Llama 3.1, where that may be.
 */
static void fit_llama3(ag_rope_spec_t *rope, const float *plain, const float *inverse_freq)
{
    double x[2] = {0}, s[2] = {0}, context; /* the first and the last between */
    double longest_whole = 0, shortest_divided = INFINITY;
    int n = 0;

    for (uint32_t i = 0; i < rope->rotary / 2; i++) {
        double part = inverse_freq[i] / (double)plain[i], wavelength = two_pi / plain[i];

        if (part >= 1 - 1e-5) {
            longest_whole = wavelength > longest_whole ? wavelength : longest_whole;
        } else if (part <= (1 + 1e-5) / rope->factor) {
            shortest_divided = wavelength < shortest_divided ? wavelength : shortest_divided;
        } else {
            x[n > 0] = 1 / wavelength;
            s[n > 0] = (part - 1 / rope->factor) / (1 - 1 / rope->factor);
            n++;
        }
    }
    if (n > 1) {
        double slope = (s[1] - s[0]) / (x[1] - x[0]);
        double start = slope * x[0] - s[0]; /* low / (high - low) */

        context = slope / start;
        rope->high_freq_factor = 1 + 1 / start;
    } else if (n == 1) {
        context = (3 * s[0] + 1) / x[0];
    } else {
        longest_whole = longest_whole > 0 ? longest_whole : shortest_divided / 16;
        context = sqrt(4 * longest_whole * shortest_divided);
        rope->high_freq_factor = 4;
        if (4 * longest_whole >= shortest_divided) {
            rope->high_freq_factor = sqrt(shortest_divided / longest_whole);
            context = shortest_divided / sqrt(rope->high_freq_factor);
        }
    }
    rope->original_context_tokens = context < UINT32_MAX ? (uint32_t)lround(context) : 0;
    if (fabs(rope->high_freq_factor - round(rope->high_freq_factor)) < 1e-3) {
        rope->high_freq_factor = round(rope->high_freq_factor);
    }
}

ag_status_t ag_export_rope(const ag_model_t *model, ag_rope_spec_t *rope)
{
    const ag_layer_spec_t *layer = &model->spec->layer_kinds[0];
    uint32_t n = layer->rope.rotary / 2;
    float *plain;

    *rope = layer->rope;
    if (rope->kind == AG_ROPE_LONG) { /* its divisors are lists of config.json, too */
        return AG_OK;
    }
    if (gives(rope, layer)) {
        return AG_OK;
    }
    plain = plain_frequencies(layer);
    if (plain == NULL) {
        return ag_fail_nomem("writing a rope", n * sizeof(float));
    }
    *rope = (ag_rope_spec_t){.kind = AG_ROPE_LLAMA3,
                             .base = layer->rope.base,
                             .rotary = layer->rope.rotary,
                             .factor = plain[n - 1] / layer->inverse_freq[n - 1],
                             .low_freq_factor = 1,
                             .high_freq_factor = 4,
                             .original_context_tokens = 8192}; /* Llama 3.1's */
    if (fabs(rope->factor - round(rope->factor)) < 1e-4) {
        rope->factor = round(rope->factor);
    }
    if (layer->rope.kind == AG_ROPE_DEFAULT && !gives(rope, layer)) {
        fit_llama3(rope, plain, layer->inverse_freq);
    }
    free(plain);
    if (layer->rope.kind != AG_ROPE_DEFAULT || !gives(rope, layer)) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model's file lists divisors of its rope's "
                                           "frequencies that config.json has no words for");
    }
    return AG_OK;
}
