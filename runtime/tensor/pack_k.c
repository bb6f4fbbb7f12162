/*
 * Encoding of the K types: blocks of 256 whose parts have scales of their own, in steps of one
 * float16 scale. A part's scale is sought, by least squares on the grid that each of several first
 * guesses rounds to; ggml seeks it alike, but with weights that count large values more.
 *
 *     for each block of 256
 *         for each part: the scale (and minimum) of the least squared error
 *         the block's scale, and the parts' in its steps
 *         each value to the grid of the scale that it then has
 */
#include <math.h>
#include <string.h>

#include "runtime/tensor/dtype_priv.h"

enum { GUESSES = 20 };

/* To the nearest whole number in [least, most], without a call: sums with 1.5 x 2^23 have no
 * fraction. What is no number becomes least. */
static inline float to_whole(float value, float least, float most)
{
    value = value > least ? value : least;
    value = value < most ? value : most;
    return value + 0x1.8p23f - 0x1.8p23f;
}

/* Sums of float32 in a fixed number of parts, which vectors hold. */
enum { LANES = 8 };

static float sum_of(const float *parts)
{
    return ((parts[0] + parts[4]) + (parts[2] + parts[6])) +
           ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

static float error_of(const float *src, int n, float scale, float base, float least, float most)
{
    float inverse = scale == 0 ? 0 : 1 / scale, error[LANES] = {0};

    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float q = to_whole((src[i + k] - base) * inverse, least, most);
            float off = src[i + k] - (scale * q + base);

            error[k] += off * off;
        }
    }
    return sum_of(error);
}

/* Of a grid from -32 to 31 around zero. @return the scale; either sign. */
static float seek_scale(const float *src, int n)
{
    float extreme = 0, best = 0, best_error = 0;

    for (int i = 0; i < n; i++) {
        extreme = fabsf(src[i]) > fabsf(extreme) ? src[i] : extreme;
        best_error += src[i] * src[i];
    }
    if (extreme == 0) {
        return 0;
    }
    for (int guess = -GUESSES / 2; guess <= GUESSES / 2; guess++) {
        float inverse = -(32 + 0.1f * (float)guess) / extreme;
        float dots[LANES] = {0}, squares[LANES] = {0}, scale, error;

        for (int i = 0; i < n; i += LANES) {
            for (int k = 0; k < LANES; k++) {
                float q = to_whole(src[i + k] * inverse, -32, 31);

                dots[k] += src[i + k] * q;
                squares[k] += q * q;
            }
        }
        scale = sum_of(dots) / sum_of(squares);
        error = error_of(src, n, scale, 0, -32, 31);
        if (error < best_error) {
            best = scale;
            best_error = error;
        }
    }
    return best;
}

/* 128 bytes of low nibbles, 64 of high pairs: of each 128 values a quarter shares its 32 high bytes
 * with the other three. */
static void store_q6(const uint8_t *q, uint8_t *dst)
{
    for (int half = 0; half < 2; half++, q += 128) {
        uint8_t *low = dst + 64 * half, *high = dst + 128 + 32 * half;

        for (int i = 0; i < 32; i++) {
            low[i] = (uint8_t)((q[i] & 15) | (q[i + 64] & 15) << 4);
            low[i + 32] = (uint8_t)((q[i + 32] & 15) | (q[i + 96] & 15) << 4);
            high[i] = (uint8_t)(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 |
                                q[i + 96] >> 4 << 6);
        }
    }
}

void ag_pack_q6_k(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 256, dst += 210) {
        float scales[16], extreme = 0, d, inverse;
        uint8_t q[256];

        for (int j = 0; j < 16; j++) {
            scales[j] = seek_scale(src + 16 * j, 16);
            extreme = fabsf(scales[j]) > fabsf(extreme) ? scales[j] : extreme;
        }
        ag_store_half(dst + 208, extreme / -128); /* the extreme is the steps' least */
        d = ag_load_half(dst + 208);
        inverse = d == 0 ? 0 : 1 / d;
        for (int j = 0; j < 16; j++) {
            float steps = to_whole(scales[j] * inverse, -128, 127), scale = d * steps;
            float part_inverse = scale == 0 ? 0 : 1 / scale;

            dst[192 + j] = (uint8_t)(int8_t)steps;
            for (int i = 0; i < 16; i++) {
                float grid = to_whole(src[16 * j + i] * part_inverse, -32, 31);

                q[16 * j + i] = (uint8_t)(grid + 32);
            }
        }
        store_q6(q, dst);
    }
}

/* Least squares of scale * q + base over the values' places on a grid. */
static void fit_line(const float *src, const float *q, int n, float *scale_p, float *base_p)
{
    float parts[4][LANES] = {0}, sum, sum_q, squares, dot, det;

    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            parts[0][k] += src[i + k];
            parts[1][k] += q[i + k];
            parts[2][k] += q[i + k] * q[i + k];
            parts[3][k] += q[i + k] * src[i + k];
        }
    }
    sum = sum_of(parts[0]);
    sum_q = sum_of(parts[1]);
    squares = sum_of(parts[2]);
    dot = sum_of(parts[3]);
    det = (float)n * squares - sum_q * sum_q;
    if (det > 0) {
        *scale_p = ((float)n * dot - sum * sum_q) / det;
        *base_p = (squares * sum - sum_q * dot) / det;
    }
    if (!(det > 0) || *base_p > 0) { /* a minimum is never above zero */
        *base_p = 0;
        *scale_p = squares > 0 ? dot / squares : 0;
    }
}

/* Of a grid from base to base + 15 * scale, base at most zero. */
static void seek_line(const float *src, int n, float *best_scale_p, float *best_base_p)
{
    float low = 0, high = src[0], best_error;

    for (int i = 0; i < n; i++) {
        low = src[i] < low ? src[i] : low;
        high = src[i] > high ? src[i] : high;
    }
    *best_base_p = low;
    *best_scale_p = high > low ? (high - low) / 15 : 0;
    if (*best_scale_p == 0) {
        return;
    }
    best_error = error_of(src, n, *best_scale_p, low, 0, 15);
    for (int guess = 0; guess <= GUESSES; guess++) {
        float inverse = (14 + 0.1f * (float)guess) / (high - low), q[32], scale = 0, base = 0,
              error;

        for (int i = 0; i < n; i++) {
            q[i] = to_whole((src[i] - low) * inverse, 0, 15);
        }
        fit_line(src, q, n, &scale, &base);
        error = scale > 0 && isfinite(base) ? error_of(src, n, scale, base, 0, 15) : INFINITY;
        if (error < best_error) {
            *best_scale_p = scale;
            *best_base_p = base;
            best_error = error;
        }
    }
}

/* The j-th of eight 6-bit scales and minimums that share 12 bytes. */
static void store_scale_min(uint8_t *packed, int j, uint8_t scale, uint8_t min)
{
    if (j < 4) {
        packed[j] |= scale;
        packed[j + 4] |= min;
    } else {
        packed[j + 4] |= (uint8_t)((scale & 15) | min << 4);
        packed[j - 4] |= (uint8_t)(scale >> 4 << 6);
        packed[j] |= (uint8_t)(min >> 4 << 6);
    }
}

void ag_pack_q4_k(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 256, dst += 144) {
        float scales[8], bases[8], most_scale = 0, least_base = 0, d, dmin;
        uint8_t q[256];

        for (int j = 0; j < 8; j++) {
            seek_line(src + 32 * j, 32, &scales[j], &bases[j]);
            most_scale = scales[j] > most_scale ? scales[j] : most_scale;
            least_base = bases[j] < least_base ? bases[j] : least_base;
        }
        memset(dst, 0, 16);
        ag_store_half(dst, most_scale / 63);
        ag_store_half(dst + 2, -least_base / 63);
        d = ag_load_half(dst);
        dmin = ag_load_half(dst + 2);
        for (int j = 0; j < 8; j++) {
            float steps = d == 0 ? 0 : to_whole(scales[j] / d, 0, 63), scale = d * steps;
            float min_steps = dmin == 0 ? 0 : to_whole(-bases[j] / dmin, 0, 63);
            float min = dmin * min_steps;

            store_scale_min(dst + 4, j, (uint8_t)steps, (uint8_t)min_steps);
            for (int i = 0; i < 32; i++) {
                float x = src[32 * j + i] + min;

                q[32 * j + i] = scale == 0 ? 0 : (uint8_t)to_whole(x / scale, 0, 15);
            }
        }
        for (int i = 0; i < 128; i++) { /* 32 low nibbles, then the next 32 values in the high */
            const uint8_t *pair = q + 64 * (i / 32) + i % 32;

            dst[16 + i] = (uint8_t)(pair[0] | pair[32] << 4);
        }
    }
}
