/*
 * Encoding, the reverse of unpack.c. The types of blocks of 32 get the bits of ggml's reference
 * (quantize_row_*_ref) and of the gguf package: the same operations on float32 in the same order,
 * none fused (this folder is compiled with -ffp-contract=off). The K types are pack_k.c's.
 */
#include <math.h>
#include <string.h>

#include "runtime/tensor/dtype_priv.h"

void ag_pack_f32(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    memcpy(blocks, src, n_blocks * sizeof(float));
}

void ag_pack_f16(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;

    for (size_t i = 0; i < n_blocks; i++) {
        ag_store_half(dst + 2 * i, src[i]);
    }
}

void ag_pack_bf16(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;

    for (size_t i = 0; i < n_blocks; i++) {
        uint16_t bits = ag_f32_to_bf16(src[i]);

        memcpy(dst + 2 * i, &bits, sizeof(bits));
    }
}

/* The scale may be so small that its inverse is infinite: then the product may be none. */
static uint8_t to_grid(float value, uint8_t most)
{
    return value >= (float)most ? most : value >= 0 ? (uint8_t)value : 0;
}

static float inverse(float d)
{
    return d == 0 ? 0 : 1 / d;
}

/* The value of the largest magnitude, the first of several. */
static float extreme(const float *src)
{
    float most = 0, value = 0;

    for (int i = 0; i < 32; i++) {
        float magnitude = fabsf(src[i]);

        if (magnitude > most) {
            most = magnitude;
            value = src[i];
        }
    }
    return value;
}

static void range(const float *src, float *least_p, float *most_p)
{
    float least = src[0], most = src[0];

    for (int i = 1; i < 32; i++) {
        least = src[i] < least ? src[i] : least;
        most = src[i] > most ? src[i] : most;
    }
    *least_p = least;
    *most_p = most;
}

/* 16 bytes: low nibbles are values 0 to 15, high ones 16 to 31. */
static void store_nibbles(const uint8_t *q, uint8_t *dst)
{
    for (int i = 0; i < 16; i++) {
        dst[i] = (uint8_t)((q[i] & 15) | q[i + 16] << 4);
    }
}

static void store_fifth_bits(const uint8_t *q, uint8_t *dst)
{
    uint32_t bits = 0;

    for (int i = 0; i < 32; i++) {
        bits |= (uint32_t)(q[i] >> 4) << i;
    }
    memcpy(dst, &bits, sizeof(bits));
}

void ag_pack_q8_0(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 34) {
        float d = fabsf(extreme(src)) / 127, id = inverse(d);

        ag_store_half(dst, d);
        for (int i = 0; i < 32; i++) {
            float q = roundf(src[i] * id); /* halves away from zero */

            q = q >= 127 ? 127 : q >= -127 ? q : -127;
            dst[2 + i] = (uint8_t)(int8_t)q;
        }
    }
}

/* Around zero: the extreme is the grid's least, the grid goes from -half to half - 1. */
static void to_signed_grid(const float *src, uint8_t half, uint8_t *scale_p, uint8_t *q)
{
    float d = extreme(src) / -(float)half, id = inverse(d);

    ag_store_half(scale_p, d);
    for (int i = 0; i < 32; i++) {
        q[i] = to_grid(src[i] * id + ((float)half + 0.5f), (uint8_t)(2 * half - 1));
    }
}

/* From the least value on. */
static void to_min_grid(const float *src, uint8_t most, uint8_t *scales_p, uint8_t *q)
{
    float low, high, d, id;

    range(src, &low, &high);
    d = (high - low) / (float)most;
    id = inverse(d);
    ag_store_half(scales_p, d);
    ag_store_half(scales_p + 2, low);
    for (int i = 0; i < 32; i++) {
        q[i] = to_grid((src[i] - low) * id + 0.5f, most);
    }
}

void ag_pack_q4_0(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;
    uint8_t q[32];

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 18) {
        to_signed_grid(src, 8, dst, q);
        store_nibbles(q, dst + 2);
    }
}

void ag_pack_q4_1(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;
    uint8_t q[32];

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 20) {
        to_min_grid(src, 15, dst, q);
        store_nibbles(q, dst + 4);
    }
}

void ag_pack_q5_0(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;
    uint8_t q[32];

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 22) {
        to_signed_grid(src, 16, dst, q);
        store_fifth_bits(q, dst + 2);
        store_nibbles(q, dst + 6);
    }
}

void ag_pack_q5_1(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;
    uint8_t q[32];

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 24) {
        to_min_grid(src, 31, dst, q);
        store_fifth_bits(q, dst + 4);
        store_nibbles(q, dst + 8);
    }
}

/* The nearest of the sixteen values, the first of two that are as near. */
static uint8_t nearest_mxfp4(float d, float value)
{
    uint8_t best = 0;
    float least = fabsf(value);

    for (uint8_t q = 1; q < 16; q++) {
        float off = fabsf(d * (float)ag_mxfp4_values[q] - value);

        best = off < least ? q : best;
        least = off < least ? off : least;
    }
    return best;
}

/* The exponent is that of the extreme, less the largest of E2M1's. */
void ag_pack_mxfp4(const float *restrict src, void *restrict blocks, size_t n_blocks)
{
    uint8_t *restrict dst = blocks;
    uint8_t q[32];

    for (size_t b = 0; b < n_blocks; b++, src += 32, dst += 17) {
        float most = fabsf(extreme(src)), exponent = most > 0 ? floorf(log2f(most)) - 2 + 127 : 0;

        dst[0] = (uint8_t)(exponent > 0 ? exponent : 0);
        for (int i = 0; i < 32; i++) {
            q[i] = nearest_mxfp4(ag_mxfp4_scale(dst[0]), src[i]);
        }
        store_nibbles(q, dst + 1);
    }
}
