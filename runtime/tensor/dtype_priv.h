/* One unpack and one pack function per type; each is named in one row of dtype.c. */
#pragma once

#include <string.h>

#include "runtime/tensor/dtype.h"

void ag_unpack_f32(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_f16(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_bf16(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q8_0(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q4_0(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q4_1(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q6_k(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q4_k(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q5_0(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q5_1(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_mxfp4(const void *blocks, float *dst, size_t n_blocks);

void ag_pack_f32(const float *src, void *blocks, size_t n_blocks);
void ag_pack_f16(const float *src, void *blocks, size_t n_blocks);
void ag_pack_bf16(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q8_0(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q4_0(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q4_1(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q6_k(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q4_k(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q5_0(const float *src, void *blocks, size_t n_blocks);
void ag_pack_q5_1(const float *src, void *blocks, size_t n_blocks);
void ag_pack_mxfp4(const float *src, void *blocks, size_t n_blocks);

/* The values of MXFP4's four bits, doubled: of a sign and E2M1 (OCP Microscaling Formats 1.0). */
extern const int8_t ag_mxfp4_values[16];

/** Half of 2 to the power of (exponent - 127): what the doubled values are multiplied by. */
static inline float ag_mxfp4_scale(uint8_t exponent)
{
    return ag_f32_of_bits(exponent < 2 ? 0x00200000u << exponent : (uint32_t)(exponent - 1) << 23);
}

/* A float16, at any address. Not inline: GCC would work on both scales of a block as a vector, and
 * take longer over them than over the block's values. */
float ag_load_half(const uint8_t *bytes);

static inline void ag_store_half(uint8_t *bytes, float value)
{
    uint16_t half = ag_f32_to_f16(value);

    memcpy(bytes, &half, sizeof(half));
}
