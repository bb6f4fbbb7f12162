/*
 * Decoding, bit for bit what ggml's dequantize_row_* and the gguf package give: the layouts are
 * ggml-common.h's, products and sums stay apart (this folder is compiled with -ffp-contract=off).
 */
#include <string.h>

#include "runtime/tensor/dtype_priv.h"

__attribute__((noinline)) float ag_load_half(const uint8_t *bytes)
{
    uint16_t half;

    memcpy(&half, bytes, sizeof(half));
    return ag_f16_to_f32(half);
}

void ag_unpack_f32(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    memcpy(dst, blocks, n_blocks * sizeof(float));
}

void ag_unpack_f16(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t i = 0; i < n_blocks; i++) {
        uint16_t half;

        memcpy(&half, src + 2 * i, sizeof(half));
        dst[i] = ag_f16_to_f32(half);
    }
}

void ag_unpack_bf16(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t i = 0; i < n_blocks; i++) {
        uint16_t bits;

        memcpy(&bits, src + 2 * i, sizeof(bits));
        dst[i] = ag_bf16_to_f32(bits);
    }
}

/* f16 scale, 32 int8 */
void ag_unpack_q8_0(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 34, dst += 32) {
        float d = ag_load_half(src);

        for (int i = 0; i < 32; i++) {
            dst[i] = (float)(int8_t)src[2 + i] * d;
        }
    }
}

/* f16 scale, 16 bytes: low nibbles are values 0 to 15, high ones 16 to 31; less 8 */
void ag_unpack_q4_0(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
        float d = ag_load_half(src);

        for (int i = 0; i < 16; i++) {
            dst[i] = (float)((src[2 + i] & 15) - 8) * d;
            dst[i + 16] = (float)((src[2 + i] >> 4) - 8) * d;
        }
    }
}

/* f16 scale, f16 minimum, 16 bytes of nibbles */
void ag_unpack_q4_1(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 20, dst += 32) {
        float d = ag_load_half(src), m = ag_load_half(src + 2);

        for (int i = 0; i < 16; i++) {
            dst[i] = (float)(src[4 + i] & 15) * d + m;
            dst[i + 16] = (float)(src[4 + i] >> 4) * d + m;
        }
    }
}

/* 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales of 16 values each, f16 scale */
void ag_unpack_q6_k(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 210, dst += 256) {
        float d = ag_load_half(src + 208);

        /* of each 128 values a quarter shares its 32 high bytes with the other three */
        for (int sixteen = 0; sixteen < 4; sixteen++) {
            int half = sixteen / 2, first = sixteen % 2 * 16;
            const uint8_t *low = src + 64 * half + first, *high = src + 128 + 32 * half + first;
            const int8_t *scale = (const int8_t *)src + 192 + 8 * half + sixteen % 2;
            float d0 = d * (float)scale[0], d1 = d * (float)scale[2];
            float d2 = d * (float)scale[4], d3 = d * (float)scale[6];
            float *out = dst + 128 * half + first;

            for (int i = 0; i < 16; i++) {
                out[i] = d0 * (float)(((low[i] & 15) | (high[i] & 3) << 4) - 32);
                out[i + 32] = d1 * (float)(((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4) - 32);
                out[i + 64] = d2 * (float)((low[i] >> 4 | (high[i] >> 4 & 3) << 4) - 32);
                out[i + 96] = d3 * (float)((low[i + 32] >> 4 | high[i] >> 6 << 4) - 32);
            }
        }
    }
}

/* The j-th of eight 6-bit scales and minimums that share 12 bytes. */
static void scale_min_k4(const uint8_t *packed, int j, int *scale_p, int *min_p)
{
    if (j < 4) {
        *scale_p = packed[j] & 63;
        *min_p = packed[j + 4] & 63;
    } else {
        *scale_p = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *min_p = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    }
}

/* f16 scale of scales, f16 scale of minimums, 12 bytes of both, 128 bytes of nibbles */
void ag_unpack_q4_k(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 144, dst += 256) {
        float d = ag_load_half(src), dmin = ag_load_half(src + 2);

        for (int j = 0; j < 4; j++) {
            const uint8_t *q = src + 16 + 32 * j;
            int scale[2], min[2];
            float d0, d1, m0, m1;

            scale_min_k4(src + 4, 2 * j, &scale[0], &min[0]);
            scale_min_k4(src + 4, 2 * j + 1, &scale[1], &min[1]);
            d0 = d * (float)scale[0];
            d1 = d * (float)scale[1];
            m0 = dmin * (float)min[0];
            m1 = dmin * (float)min[1];
            for (int i = 0; i < 32; i++) {
                dst[64 * j + i] = d0 * (float)(q[i] & 15) - m0;
                dst[64 * j + 32 + i] = d1 * (float)(q[i] >> 4) - m1;
            }
        }
    }
}

/* A table, for vectors have no shift by different counts before AVX2. */
static const uint16_t fifth_bits[16] = {1,   2,   4,    8,    16,   32,   64,    128,
                                        256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

/* f16 scale, 32 fifth bits, 16 bytes of nibbles; less 16 */
void ag_unpack_q5_0(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 22, dst += 32) {
        float d = ag_load_half(src);
        uint16_t high[2];

        memcpy(high, src + 2, sizeof(high));
        for (int i = 0; i < 16; i++) {
            int low_fifth = high[0] & fifth_bits[i] ? 0 : 16;
            int high_fifth = high[1] & fifth_bits[i] ? 0 : 16;

            dst[i] = (float)((src[6 + i] & 15) - low_fifth) * d;
            dst[i + 16] = (float)((src[6 + i] >> 4) - high_fifth) * d;
        }
    }
}

/* f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles */
void ag_unpack_q5_1(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 24, dst += 32) {
        float d = ag_load_half(src), m = ag_load_half(src + 2);
        uint16_t high[2];

        memcpy(high, src + 4, sizeof(high));
        for (int i = 0; i < 16; i++) {
            int low_fifth = high[0] & fifth_bits[i] ? 16 : 0;
            int high_fifth = high[1] & fifth_bits[i] ? 16 : 0;

            dst[i] = (float)((src[8 + i] & 15) + low_fifth) * d + m;
            dst[i + 16] = (float)((src[8 + i] >> 4) + high_fifth) * d + m;
        }
    }
}

const int8_t ag_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* an exponent, 16 bytes of nibbles: low ones are values 0 to 15 */
void ag_unpack_mxfp4(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 17, dst += 32) {
        float d = ag_mxfp4_scale(src[0]);

        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)ag_mxfp4_values[src[1 + i] & 15];
            dst[i + 16] = d * (float)ag_mxfp4_values[src[1 + i] >> 4];
        }
    }
}
