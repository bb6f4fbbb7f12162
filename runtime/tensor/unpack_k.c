/* Decoding of the types of blocks of 256, whose parts have scales of their own: as unpack.c's. */
#include <string.h>

#include "runtime/tensor/dtype_priv.h"

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

/* As q4_k, and 32 bytes of fifth bits before the nibbles: bit j of each belongs to part j. */
void ag_unpack_q5_k(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 176, dst += 256) {
        float d = ag_load_half(src), dmin = ag_load_half(src + 2);

        for (int j = 0; j < 8; j++) {
            const uint8_t *high = src + 16, *q = src + 48 + 32 * (j / 2);
            int scale, min;
            float dj, mj;

            scale_min_k4(src + 4, j, &scale, &min);
            dj = d * (float)scale;
            mj = dmin * (float)min;
            for (int i = 0; i < 32; i++) {
                int four = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;

                dst[32 * j + i] = dj * (float)(four | (high[i] >> j & 1) << 4) - mj;
            }
        }
    }
}

/* Of 256 values in pairs of bits: where the j-th 16 have theirs, and how far up the bytes. */
static const uint8_t *pairs_of(const uint8_t *pairs, int j, int *shift_p)
{
    *shift_p = j % 8 / 2 * 2;
    return pairs + 32 * (j / 8) + 16 * (j % 2);
}

/* 16 bytes of a scale and a minimum of 4 bits, 64 of pairs of bits, f16 scale of scales, f16 scale
 * of minimums */
void ag_unpack_q2_k(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 84, dst += 256) {
        float d = ag_load_half(src + 80), dmin = ag_load_half(src + 82);

        for (int j = 0; j < 16; j++) {
            float dj = d * (float)(src[j] & 15), mj = dmin * (float)(src[j] >> 4);
            int shift;
            const uint8_t *q = pairs_of(src + 16, j, &shift);

            for (int i = 0; i < 16; i++) {
                dst[16 * j + i] = dj * (float)(q[i] >> shift & 3) - mj;
            }
        }
    }
}

void ag_q3_k_scales(const uint8_t *packed, int8_t scales[16])
{
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;

        scales[j] = (int8_t)((low | (packed[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32);
    }
}

/* 32 bytes of third bits, bit j of each for 32 values; 64 of pairs of bits, 12 of 6-bit scales, f16
 * scale; less 4 */
void ag_unpack_q3_k(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 110, dst += 256) {
        float d = ag_load_half(src + 108);
        int8_t scales[16];

        ag_q3_k_scales(src + 96, scales);
        for (int j = 0; j < 16; j++) {
            const uint8_t *high = src + 16 * (j % 2);
            float dj = d * (float)scales[j];
            int shift;
            const uint8_t *q = pairs_of(src + 32, j, &shift);

            for (int i = 0; i < 16; i++) {
                int third = high[i] >> (j / 2) & 1;

                dst[16 * j + i] = dj * (float)((q[i] >> shift & 3) + 4 * third - 4);
            }
        }
    }
}

void ag_iq4_xs_scales(const uint8_t *block, int8_t scales[8])
{
    uint16_t high;

    memcpy(&high, block + 2, sizeof(high));
    for (int j = 0; j < 8; j++) {
        int low = block[4 + j / 2] >> j % 2 * 4 & 15;

        scales[j] = (int8_t)((low | (high >> 2 * j & 3) << 4) - 32);
    }
}

/* f16 scale, 16 high pairs of the scales' bits, 4 bytes of low nibbles, 128 bytes of nibbles:
 * places in the table of iq4_nl */
void ag_unpack_iq4_xs(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 136, dst += 256) {
        float d = ag_load_half(src);
        int8_t scales[8];

        ag_iq4_xs_scales(src, scales);
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = src + 8 + 16 * j;
            float dj = d * (float)scales[j];

            for (int i = 0; i < 16; i++) {
                dst[32 * j + i] = dj * (float)ag_iq4_values[q[i] & 15];
                dst[32 * j + i + 16] = dj * (float)ag_iq4_values[q[i] >> 4];
            }
        }
    }
}
