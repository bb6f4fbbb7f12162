/*
 * Decoding, bit for bit what ggml's dequantize_row_* and the gguf package give: the layouts are
 * ggml-common.h's, products and sums stay apart (this folder is compiled with -ffp-contract=off).
 * The types of blocks of 256 are unpack_k.c's.
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

const int8_t ag_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

/* f16 scale, 16 bytes of nibbles: places in the table */
void ag_unpack_iq4_nl(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
        float d = ag_load_half(src);

        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)ag_iq4_values[src[2 + i] & 15];
            dst[i + 16] = d * (float)ag_iq4_values[src[2 + i] >> 4];
        }
    }
}

/* Of a sign, 4 bits of exponent and 3 of mantissa (OCP 8-bit Floating Point Specification 1.0): as
 * a float's bits they stand for 2^-120 of the value, those of subnormals too. */
static inline float f8_e4m3(uint8_t bits)
{
    uint32_t sign = (uint32_t)(bits & 128) << 24;
    uint32_t size = ag_bits_of_f32(ag_f32_of_bits((uint32_t)(bits & 127) << 20) * 0x1p120f);

    return ag_f32_of_bits(((bits & 127) == 127 ? 0x7fc00000u : size) | sign);
}

void ag_unpack_f8_e4m3(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t i = 0; i < n_blocks; i++) {
        dst[i] = f8_e4m3(src[i]);
    }
}

/* float32 scale, 128 values */
void ag_unpack_f8_e4m3_128(const void *restrict blocks, float *restrict dst, size_t n_blocks)
{
    const uint8_t *restrict src = blocks;

    for (size_t b = 0; b < n_blocks; b++, src += 132, dst += 128) {
        float scale;

        memcpy(&scale, src, sizeof(scale));
        for (int i = 0; i < 128; i++) {
            dst[i] = f8_e4m3(src[4 + i]) * scale;
        }
    }
}
