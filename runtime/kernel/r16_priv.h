/*
 * The packing r16: groups of 16 rows. A group is its blocks of columns one after the other, so that
 * a thread reads one stream; a block is its scales, whole vectors so that all stands aligned, then
 * the quants of its pieces, 32 columns each: two of q8_0, q4_0, q5_0 and iq4_nl, one of q4_1 and
 * q5_1, four of mxfp4, eight of the K types and iq4_xs. The last block may have fewer pieces.
 *
 *     scales      16 halves for each piece; of q4_1 and q5_1 16 scales, then 16 minimums; of mxfp4
 *                 16 exponents for each piece
 *     of blocks of eight pieces: 16 scales of scales, then of minimums, or nothing; then
 *     q6_k, q3_k  16 bytes for 16 columns
 *     q2_k        16 bytes for 16 columns: low nibbles are scales, high ones minimums
 *     iq4_xs      16 bytes for each piece
 *     q4_k, q5_k  whose scales and minimums have 6 bits: 16 bytes for each piece (the low four of
 *                 both), then 16 bytes for two pieces (the high two)
 *
 *     q8_0        8 vectors of 64 bytes for 32 columns; in vector j, lane r (4 bytes) holds columns
 *                 4j .. 4j + 3 of row r
 *     4 bits      4 vectors: low nibbles are vector j, high ones vector j + 4 of those
 *     5 bits      then 1 vector: bit j of each byte belongs to vector j
 *     6 bits      then 2 vectors: bits 2i, 2i + 1 of vector v belong to vector 4v + i
 *     2 bits      these 2 vectors alone
 *     3 bits      then 1 vector, as of 5 bits
 *     bf16        a vector for two columns: lane r holds both of row r
 *     f16         half a vector for a column
 *     f8_e4m3_128 of 128 columns 16 float32 scales, then 16 bytes for a column
 */
#pragma once

#include "runtime/tensor/dtype.h"

enum { AG_R16_ROWS = 16, AG_R16_VECTOR = 64, AG_R16_ALIGN = 64 };

typedef struct ag_r16_type {
    uint32_t piece_cols;  /* columns whose quants stand together */
    uint32_t pieces;      /* of a block; 0: the type has no such packing */
    uint32_t scale_bytes; /* of a block of 16 rows, however many pieces the last one has */
    uint32_t quant_bytes; /* of a piece of 16 rows */
    uint32_t x_cols;      /* of an input, which is brought into a form of the type's own… */
    uint32_t x_bytes;     /* … that takes so many bytes for these columns of a row */
    /** Put whole blocks of a row into its lanes. */
    void (*pack)(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
    /** Decode the row in some lanes. */
    void (*unpack)(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
} ag_r16_type_t;

extern const ag_r16_type_t ag_r16_types[AG_N_DTYPES];

/** Bytes of a prepared row of x. */
static inline uint64_t ag_r16_x_bytes(ag_dtype_t dtype, uint64_t cols)
{
    const ag_r16_type_t *type = &ag_r16_types[dtype];

    return (cols + type->x_cols - 1) / type->x_cols * type->x_bytes;
}

/** Whether x is rounded to int8. */
static inline bool ag_r16_is_int8(ag_dtype_t dtype)
{
    return ag_r16_types[dtype].x_cols == 32;
}

/* packing.h says what these do. */
bool ag_r16_can(ag_dtype_t dtype, uint64_t cols);
uint64_t ag_r16_group_bytes(ag_dtype_t dtype, uint64_t cols);
void ag_r16_pack(ag_dtype_t dtype, const unsigned char *const *rows, uint64_t cols,
                 unsigned char *group);
void ag_r16_unpack(ag_dtype_t dtype, const unsigned char *group, uint64_t cols, uint32_t row,
                   float *dst);
