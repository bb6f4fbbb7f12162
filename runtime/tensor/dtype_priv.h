/* One unpack and one pack function per type; each is named in one row of dtype.c. */
#pragma once

#include <string.h>

#include "runtime/tensor/blocks.h"
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
void ag_unpack_q5_k(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q2_k(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_q3_k(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_iq4_nl(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_iq4_xs(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_f8_e4m3(const void *blocks, float *dst, size_t n_blocks);
void ag_unpack_f8_e4m3_128(const void *blocks, float *dst, size_t n_blocks);

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

/* A float16, at any address. Not inline: GCC would work on both scales of a block as a vector, and
 * take longer over them than over the block's values. */
float ag_load_half(const uint8_t *bytes);

static inline void ag_store_half(uint8_t *bytes, float value)
{
    uint16_t half = ag_f32_to_f16(value);

    memcpy(bytes, &half, sizeof(half));
}
