/* One unpack function per type; each is named in one row of dtype.c. */
#pragma once

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
