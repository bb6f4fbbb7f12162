/* LINEAR over weights on an integer grid: x is brought to int8 with a scale for 32 columns,
 * products are of integers. What belongs to one type is its way to unpack quants and to read
 * scales. */
#include "runtime/kernel/isa/r16_run.h"
#include "runtime/tensor/blocks.h"

enum { HALVES = 2 * AG_GROUP_ROWS, PART_HALVES = 2 * AG_VEC_LANES };

/* Below it a row's block is zero: 127 divided by it would not be finite. */
#define LEAST_MAXIMUM 0x1p-110f

/* What is stored for a tile's rows beside the int8: r16_tile.inc. */
typedef struct x_form {
    int offset;
    int n_scales; /* of the weight, for 32 columns: 1 or 2 */
    int has_min;
} x_form_t;

enum { BLOCK_VECS = 32 / AG_VEC_LANES };

/*
 * 32 floats to int8 in [-127, 127] and a scale; sums of the first and of the last 16. Where one is
 * infinite or no number, so is the scale, and the quants are zero: no product by it is finite.
 */
AG_INLINE float quantize_block(const float *x, int8_t *q, int32_t sums[2])
{
    ag_vec_f_t v[BLOCK_VECS], size = ag_vec_splat_f(0);
    ag_vec_i_t lanes[2] = {ag_vec_splat_i(0), ag_vec_splat_i(0)};
    float largest, inverse;

    for (int i = 0; i < BLOCK_VECS; i++) {
        v[i] = ag_vec_load_f(x + i * AG_VEC_LANES);
        size = ag_vec_max_size(ag_vec_abs(v[i]), size);
    }
    largest = ag_vec_largest_size(size);
    if (!(largest < AG_VEC_INFINITY)) {
        memset(q, 0, 32);
        sums[0] = sums[1] = 0;
        return largest;
    }
    inverse = largest > LEAST_MAXIMUM ? 127.0f / largest : 0.0f;
    for (int i = 0; i < BLOCK_VECS; i++) {
        ag_vec_i_t rounded = ag_vec_round(v[i] * inverse);

        ag_vec_store_s8(q + i * AG_VEC_LANES, rounded);
        lanes[i / (BLOCK_VECS / 2)] += rounded;
    }
    sums[0] = ag_vec_sum_i(lanes[0]);
    sums[1] = ag_vec_sum_i(lanes[1]);
    return largest > LEAST_MAXIMUM ? largest / 127.0f : 0.0f;
}

static void quantize(const float *x, uint64_t n_rows, uint64_t k, const x_form_t *form,
                     uint8_t *dst)
{
    uint64_t x_row = 36 + 4 * (uint64_t)form->n_scales, n;

    for (uint64_t row = 0; row < n_rows; row += n) {
        n = ag_tile_rows(n_rows - row);
        for (uint64_t b = 0; b < k / 32; b++, dst += n * x_row) {
            for (uint64_t r = 0; r < n; r++) {
                uint8_t *last = dst + 36 * n + 4 * (uint64_t)form->n_scales * r;
                int32_t sums[2], begin[2];
                float scale =
                    quantize_block(x + (row + r) * k + 32 * b, (int8_t *)(dst + 32 * r), sums);

                memcpy(dst + 32 * n + 4 * r, &scale, 4);
                if (form->n_scales == 1) {
                    sums[0] += sums[1];
                }
                if (form->has_min) {
                    float of_mins[2] = {scale * (float)sums[0], scale * (float)sums[1]};

                    memcpy(last, of_mins, 4 * (size_t)form->n_scales);
                } else {
                    begin[0] = -form->offset * sums[0];
                    begin[1] = -form->offset * sums[1];
                    memcpy(last, begin, 4 * (size_t)form->n_scales);
                }
            }
        }
    }
}

/* Quants of a part of 16 rows: 8 vectors, AG_R16_VECTOR bytes apart in memory. */

AG_INLINE void weights_8_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    for (int j = 0; j < 8; j++) {
        w[j] = ag_vec_load_b(quants + j * AG_R16_VECTOR);
        if (AG_VEC_BYTE_OFFSET != 0) {
            w[j] ^= 128;
        }
    }
}

AG_INLINE void weights_4_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    for (int j = 0; j < 4; j++) {
        ag_vec_b_t both = ag_vec_load_b(quants + j * AG_R16_VECTOR);

        w[j] = ag_vec_bits(both, 0, 15);
        w[j + 4] = ag_vec_bits(both, 4, 15);
    }
}

AG_INLINE void weights_5_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    ag_vec_b_t high = ag_vec_load_b(quants + 4 * AG_R16_VECTOR);

    weights_4_bits(quants, w);
    for (int j = 0; j < 8; j++) {
        w[j] |= ag_vec_bits(high, j - 4, 16);
    }
}

AG_INLINE void weights_6_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    weights_4_bits(quants, w);
    for (int v = 0; v < 2; v++) {
        ag_vec_b_t high = ag_vec_load_b(quants + (4 + v) * AG_R16_VECTOR);

        for (int i = 0; i < 4; i++) {
            w[4 * v + i] |= ag_vec_bits(high, 2 * i - 4, 48);
        }
    }
}

AG_INLINE void weights_2_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    for (int v = 0; v < 2; v++) {
        ag_vec_b_t four = ag_vec_load_b(quants + v * AG_R16_VECTOR);

        for (int i = 0; i < 4; i++) {
            w[4 * v + i] = ag_vec_bits(four, 2 * i, 3);
        }
    }
}

AG_INLINE void weights_3_bits(const uint8_t *quants, ag_vec_b_t w[8])
{
    ag_vec_b_t high = ag_vec_load_b(quants + 2 * AG_R16_VECTOR);

    weights_2_bits(quants, w);
    for (int j = 0; j < 8; j++) {
        w[j] |= ag_vec_bits(high, j - 2, 4);
    }
}

/* Places in a table, of values that the offset makes unsigned. */
AG_INLINE void weights_of_table(const int8_t table[16], const uint8_t offset, const uint8_t *quants,
                                ag_vec_b_t w[8])
{
    ag_vec_b_t values = ag_vec_load_16(table) + offset;

    weights_4_bits(quants, w);
    for (int j = 0; j < 8; j++) {
        w[j] = ag_vec_look_up(values, w[j]);
    }
}

AG_INLINE void weights_iq4(const uint8_t *quants, ag_vec_b_t w[8])
{
    weights_of_table(ag_iq4_values, AG_VEC_BYTE_OFFSET, quants, w);
}

enum { MXFP4_OFFSET = 12 };

AG_INLINE void weights_mxfp4(const uint8_t *quants, ag_vec_b_t w[8])
{
    weights_of_table(ag_mxfp4_values, MXFP4_OFFSET, quants, w);
}

/* Scales of a part of 16 rows, for a piece of a block: 32 columns. */

AG_INLINE void scale_of_32(const uint8_t *block, uint32_t piece, int part, ag_vec_f_t *d,
                           ag_vec_f_t *m)
{
    (void)m;
    d[0] = ag_vec_load_f16(block + piece * HALVES + part * PART_HALVES);
}

AG_INLINE void scale_and_min_of_32(const uint8_t *block, uint32_t piece, int part, ag_vec_f_t *d,
                                   ag_vec_f_t *m)
{
    (void)piece;
    d[0] = ag_vec_load_f16(block + part * PART_HALVES);
    m[0] = ag_vec_load_f16(block + HALVES + part * PART_HALVES);
}

/* As ag_mxfp4_scale(): of the exponents 0 and 1 it is subnormal. */
AG_INLINE void scale_of_mxfp4(const uint8_t *block, uint32_t piece, int part, ag_vec_f_t *d,
                              ag_vec_f_t *m)
{
    ag_vec_i_t bytes = ag_vec_load_u8(block + piece * AG_GROUP_ROWS + part * AG_VEC_LANES);
    ag_vec_u_t exponents = (ag_vec_u_t)bytes, small = (ag_vec_u_t)(bytes < 2);

    (void)m;
    d[0] = (ag_vec_f_t)((small & (exponents + 1) << 21) | (~small & (exponents - 1) << 23));
}

AG_INLINE void scale_and_min_of_6_bits(const uint8_t *block, uint32_t piece, int part,
                                       ag_vec_f_t *d, ag_vec_f_t *m)
{
    const uint8_t *low = block + 2 * HALVES + piece * AG_GROUP_ROWS + part * AG_VEC_LANES;
    const uint8_t *high =
        block + 2 * HALVES + (8 + piece / 2) * AG_GROUP_ROWS + part * AG_VEC_LANES;
    ag_vec_i_t four = ag_vec_load_u8(low), two = ag_vec_load_u8(high) >> (int)(piece % 2 * 4);
    ag_vec_i_t scales = (four & 15) | (two & 3) << 4, mins = four >> 4 | (two & 12) << 2;

    d[0] = ag_vec_load_f16(block + part * PART_HALVES) * ag_vec_to_f(scales);
    m[0] = ag_vec_load_f16(block + HALVES + part * PART_HALVES) * -ag_vec_to_f(mins);
}

AG_INLINE void scales_of_8_bits(const uint8_t *block, uint32_t piece, int part, ag_vec_f_t *d,
                                ag_vec_f_t *m)
{
    const int8_t *small =
        (const int8_t *)block + 2 * HALVES + 2 * piece * AG_GROUP_ROWS + part * AG_VEC_LANES;
    ag_vec_f_t scale = ag_vec_load_f16(block + part * PART_HALVES);

    (void)m;
    d[0] = scale * ag_vec_load_s8(small);
    d[1] = scale * ag_vec_load_s8(small + AG_GROUP_ROWS);
}

AG_INLINE void scale_of_8_bits(const uint8_t *block, uint32_t piece, int part, ag_vec_f_t *d,
                               ag_vec_f_t *m)
{
    const int8_t *small =
        (const int8_t *)block + 2 * HALVES + piece * AG_GROUP_ROWS + part * AG_VEC_LANES;

    (void)m;
    d[0] = ag_vec_load_f16(block + part * PART_HALVES) * ag_vec_load_s8(small);
}

AG_INLINE void scales_and_mins_of_4_bits(const uint8_t *block, uint32_t piece, int part,
                                         ag_vec_f_t *d, ag_vec_f_t *m)
{
    const uint8_t *small = block + 2 * HALVES + 2 * piece * AG_GROUP_ROWS + part * AG_VEC_LANES;
    ag_vec_f_t scale = ag_vec_load_f16(block + part * PART_HALVES);
    ag_vec_f_t min = -ag_vec_load_f16(block + HALVES + part * PART_HALVES);

    for (int i = 0; i < 2; i++) {
        ag_vec_i_t both = ag_vec_load_u8(small + i * AG_GROUP_ROWS);

        d[i] = scale * ag_vec_to_f(both & 15);
        m[i] = min * ag_vec_to_f(both >> 4);
    }
}

#define TILE_NAME(name) name##_q8_0
#define TILE_DTYPE AG_Q8_0
#define TILE_BITS 8
#define TILE_OFFSET AG_VEC_BYTE_OFFSET
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 2
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 512
#define TILE_IS_CALLED 0
#define TILE_WEIGHTS weights_8_bits
#define TILE_READ_SCALES scale_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q4_0
#define TILE_DTYPE AG_Q4_0
#define TILE_BITS 4
#define TILE_OFFSET 8
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 2
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_4_bits
#define TILE_READ_SCALES scale_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q4_1
#define TILE_DTYPE AG_Q4_1
#define TILE_BITS 4
#define TILE_OFFSET 0
#define TILE_HAS_MIN 1
#define TILE_SCALES 1
#define TILE_PIECES 1
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_4_bits
#define TILE_READ_SCALES scale_and_min_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q5_0
#define TILE_DTYPE AG_Q5_0
#define TILE_BITS 5
#define TILE_OFFSET 16
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 2
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 320
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_5_bits
#define TILE_READ_SCALES scale_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q5_1
#define TILE_DTYPE AG_Q5_1
#define TILE_BITS 5
#define TILE_OFFSET 0
#define TILE_HAS_MIN 1
#define TILE_SCALES 1
#define TILE_PIECES 1
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 320
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_5_bits
#define TILE_READ_SCALES scale_and_min_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q4_k
#define TILE_DTYPE AG_Q4_K
#define TILE_BITS 4
#define TILE_OFFSET 0
#define TILE_HAS_MIN 1
#define TILE_SCALES 1
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 12 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_4_bits
#define TILE_READ_SCALES scale_and_min_of_6_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q6_k
#define TILE_DTYPE AG_Q6_K
#define TILE_BITS 6
#define TILE_OFFSET 32
#define TILE_HAS_MIN 0
#define TILE_SCALES 2
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 16 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 384
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_6_bits
#define TILE_READ_SCALES scales_of_8_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q5_k
#define TILE_DTYPE AG_Q5_K
#define TILE_BITS 5
#define TILE_OFFSET 0
#define TILE_HAS_MIN 1
#define TILE_SCALES 1
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 12 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 320
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_5_bits
#define TILE_READ_SCALES scale_and_min_of_6_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q2_k
#define TILE_DTYPE AG_Q2_K
#define TILE_BITS 2
#define TILE_OFFSET 0
#define TILE_HAS_MIN 1
#define TILE_SCALES 2
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 16 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 128
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_2_bits
#define TILE_READ_SCALES scales_and_mins_of_4_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_q3_k
#define TILE_DTYPE AG_Q3_K
#define TILE_BITS 3
#define TILE_OFFSET 4
#define TILE_HAS_MIN 0
#define TILE_SCALES 2
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 16 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 192
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_3_bits
#define TILE_READ_SCALES scales_of_8_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_iq4_nl
#define TILE_DTYPE AG_IQ4_NL
#define TILE_BITS 8
#define TILE_OFFSET AG_VEC_BYTE_OFFSET
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 2
#define TILE_SCALE_BYTES (2 * HALVES)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_iq4
#define TILE_READ_SCALES scale_of_32
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_iq4_xs
#define TILE_DTYPE AG_IQ4_XS
#define TILE_BITS 8
#define TILE_OFFSET AG_VEC_BYTE_OFFSET
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 8
#define TILE_SCALE_BYTES (2 * HALVES + 8 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_iq4
#define TILE_READ_SCALES scale_of_8_bits
#include "runtime/kernel/isa/r16_tile.inc"

#define TILE_NAME(name) name##_mxfp4
#define TILE_DTYPE AG_MXFP4
#define TILE_BITS 5
#define TILE_OFFSET MXFP4_OFFSET
#define TILE_HAS_MIN 0
#define TILE_SCALES 1
#define TILE_PIECES 4
#define TILE_SCALE_BYTES (4 * AG_GROUP_ROWS)
#define TILE_COLS_BYTES 256
#define TILE_IS_CALLED 1
#define TILE_WEIGHTS weights_mxfp4
#define TILE_READ_SCALES scale_of_mxfp4
#include "runtime/kernel/isa/r16_tile.inc"

const ag_r16_kernel_t AG_ISA_FN(ag_r16_q8_0) = {prepare_q8_0, run_q8_0};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q4_0) = {prepare_q4_0, run_q4_0};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q4_1) = {prepare_q4_1, run_q4_1};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q5_0) = {prepare_q5_0, run_q5_0};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q5_1) = {prepare_q5_1, run_q5_1};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q4_k) = {prepare_q4_k, run_q4_k};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q6_k) = {prepare_q6_k, run_q6_k};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q5_k) = {prepare_q5_k, run_q5_k};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q2_k) = {prepare_q2_k, run_q2_k};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_q3_k) = {prepare_q3_k, run_q3_k};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_iq4_nl) = {prepare_iq4_nl, run_iq4_nl};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_iq4_xs) = {prepare_iq4_xs, run_iq4_xs};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_mxfp4) = {prepare_mxfp4, run_mxfp4};
