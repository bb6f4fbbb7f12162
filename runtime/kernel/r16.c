/* Encoded rows to groups of 16 and back. Layouts of the file are ggml's (ggml-common.h); decoding
 * gives its bits: this file is compiled without contraction. */
#include "runtime/kernel/r16_blocks_priv.h"

enum { COLS_AT_ONCE = 1024 /* whole blocks of every type */ };

/* Bytes of a block: its scales, then the quants of its pieces. */
enum {
    PAIR_SCALES = 2 * AG_R16_HALVES, /* of two pieces, or of one with minimums */
    FOUR_EXPONENTS = 4 * AG_R16_ROWS,
    Q8_QUANTS = 8 * AG_R16_VECTOR,
    Q4_1_BYTES = PAIR_SCALES + AG_R16_FOURS,
    Q5_1_BYTES = PAIR_SCALES + AG_R16_FIVES,
    MXFP4_BYTES = FOUR_EXPONENTS + 4 * AG_R16_FOURS,
};

/* Of blocks of two pieces: where piece b has its scales, and its quants. */
static uint64_t pair_scales(uint64_t b, uint32_t quant_bytes)
{
    return b / 2 * (PAIR_SCALES + 2 * quant_bytes) + b % 2 * AG_R16_HALVES;
}

static uint64_t pair_quants(uint64_t b, uint32_t quant_bytes)
{
    return b / 2 * (PAIR_SCALES + 2 * quant_bytes) + PAIR_SCALES + b % 2 * quant_bytes;
}

static void pack_q8_0(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 34) {
        memcpy(blocks + pair_scales(b, Q8_QUANTS) + 2 * row, src, 2);
        for (uint32_t j = 0; j < 8; j++) {
            memcpy(ag_r16_lane(blocks + pair_quants(b, Q8_QUANTS), j, row), src + 2 + 4 * j, 4);
        }
    }
}

static void unpack_q8_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        const uint8_t *quants = blocks + pair_quants(i / 32, Q8_QUANTS);
        int8_t q = (int8_t)ag_r16_const_lane(quants, i % 32 / 4, row)[i % 4];

        dst[i] = (float)q * ag_r16_half_at(blocks + pair_scales(i / 32, Q8_QUANTS), row);
    }
}

static void pack_q4_0(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 18) {
        memcpy(blocks + pair_scales(b, AG_R16_FOURS) + 2 * row, src, 2);
        ag_r16_put_words(ag_r16_words_at(src + 2), blocks + pair_quants(b, AG_R16_FOURS), row);
    }
}

static void pack_q4_1(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 20, blocks += Q4_1_BYTES) {
        memcpy(blocks + 2 * row, src, 2);
        memcpy(blocks + AG_R16_HALVES + 2 * row, src + 2, 2);
        ag_r16_put_words(ag_r16_words_at(src + 4), blocks + PAIR_SCALES, row);
    }
}

static void unpack_q4_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        float d = ag_r16_half_at(blocks + pair_scales(b, AG_R16_FOURS), row);

        ag_r16_read_nibbles(blocks + pair_quants(b, AG_R16_FOURS), row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)(q[i] - 8) * d;
        }
    }
}

static void unpack_q4_1(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32, blocks += Q4_1_BYTES) {
        float d = ag_r16_half_at(blocks, row), m = ag_r16_half_at(blocks + AG_R16_HALVES, row);

        ag_r16_read_nibbles(blocks + PAIR_SCALES, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)q[i] * d + m;
        }
    }
}

/* Bits 0, 4, .. 28 of a word to bits 0 to 7. */
static uint8_t gather_fourths(uint32_t x)
{
    x &= 0x11111111u;
    x = (x | x >> 3) & 0x03030303u;
    x = (x | x >> 6) & 0x000f000fu;
    return (uint8_t)(x | x >> 12);
}

/* 32 fifth bits, then 16 bytes of nibbles. */
static void put_fives(const uint8_t *src, uint8_t *quants, uint32_t row)
{
    uint32_t high = ag_r16_word_at(src);

    ag_r16_put_words(ag_r16_words_at(src + 4), quants, row);
    for (uint32_t j = 0; j < 4; j++) {
        ag_r16_lane(quants, 4, row)[j] = gather_fourths(high >> j);
    }
}

static void pack_q5_0(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 22) {
        memcpy(blocks + pair_scales(b, AG_R16_FIVES) + 2 * row, src, 2);
        put_fives(src + 2, blocks + pair_quants(b, AG_R16_FIVES), row);
    }
}

static void pack_q5_1(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 24, blocks += Q5_1_BYTES) {
        memcpy(blocks + 2 * row, src, 2);
        memcpy(blocks + AG_R16_HALVES + 2 * row, src + 2, 2);
        put_fives(src + 4, blocks + PAIR_SCALES, row);
    }
}

static void unpack_q5_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        float d = ag_r16_half_at(blocks + pair_scales(b, AG_R16_FIVES), row);

        ag_r16_read_fives(blocks + pair_quants(b, AG_R16_FIVES), row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)(q[i] - 16) * d;
        }
    }
}

static void unpack_q5_1(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32, blocks += Q5_1_BYTES) {
        float d = ag_r16_half_at(blocks, row), m = ag_r16_half_at(blocks + AG_R16_HALVES, row);

        ag_r16_read_fives(blocks + PAIR_SCALES, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)q[i] * d + m;
        }
    }
}

/* Its blocks are those of q4_0. */
static void unpack_iq4_nl(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        float d = ag_r16_half_at(blocks + pair_scales(b, AG_R16_FOURS), row);

        ag_r16_read_nibbles(blocks + pair_quants(b, AG_R16_FOURS), row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)ag_iq4_values[q[i]];
        }
    }
}

static void pack_mxfp4(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 17) {
        uint8_t *block = blocks + b / 4 * MXFP4_BYTES;

        block[b % 4 * AG_R16_ROWS + row] = src[0];
        ag_r16_put_words(ag_r16_words_at(src + 1), block + FOUR_EXPONENTS + b % 4 * AG_R16_FOURS,
                         row);
    }
}

static void unpack_mxfp4(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 4 * MXFP4_BYTES;
        float d = ag_mxfp4_scale(block[b % 4 * AG_R16_ROWS + row]);

        ag_r16_read_nibbles(block + FOUR_EXPONENTS + b % 4 * AG_R16_FOURS, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)ag_mxfp4_values[q[i]];
        }
    }
}

static void pack_bf16(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t i = 0; i < n_cols / 2; i++) {
        memcpy(ag_r16_lane(blocks, (uint32_t)i, row), src + 4 * i, 4);
    }
    if (n_cols % 2 != 0) {
        memcpy(ag_r16_lane(blocks, (uint32_t)(n_cols / 2), row), src + 2 * (n_cols - 1), 2);
    }
}

static void unpack_bf16(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        uint16_t bits;

        memcpy(&bits, blocks + i / 2 * AG_R16_VECTOR + 4 * row + 2 * (i % 2), 2);
        dst[i] = ag_bf16_to_f32(bits);
    }
}

static void pack_f16(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        memcpy(blocks + i * AG_R16_HALVES + 2 * row, src + 2 * i, 2);
    }
}

static void unpack_f16(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        dst[i] = ag_r16_half_at(blocks + i * AG_R16_HALVES, row);
    }
}

enum { F8_COLS = 128, F8_BYTES = (sizeof(float) + F8_COLS) * AG_R16_ROWS };

/* A block with a NaN gets a scale of NaN: kernels need not look for one. */
static void pack_f8_e4m3_128(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / F8_COLS; b++, blocks += F8_BYTES) {
        uint8_t *scale = blocks + sizeof(float) * row;
        uint8_t *quants = blocks + sizeof(float) * AG_R16_ROWS + row;
        bool has_nan = false;

        memcpy(scale, src, sizeof(float));
        src += sizeof(float);
        for (uint32_t i = 0; i < F8_COLS; i++, src++) {
            quants[i * AG_R16_ROWS] = *src;
            has_nan = has_nan || (*src & 127) == 127;
        }
        if (has_nan) {
            memcpy(scale, &(float){__builtin_nanf("")}, sizeof(float));
        }
    }
}

static void unpack_f8_e4m3_128(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t block[sizeof(float) + F8_COLS];

    for (uint64_t b = 0; b < n_cols / F8_COLS; b++, blocks += F8_BYTES, dst += F8_COLS) {
        const uint8_t *quants = blocks + sizeof(float) * AG_R16_ROWS + row;

        memcpy(block, blocks + sizeof(float) * row, sizeof(float));
        for (uint32_t i = 0; i < F8_COLS; i++) {
            block[sizeof(float) + i] = quants[i * AG_R16_ROWS];
        }
        ag_dtype_info(AG_F8_E4M3_128)->unpack(block, dst, 1);
    }
}

/* Prepared columns of x are 32 int8, a scale, and something for every scale of the weight there;
 * or two bf16, or a float. */
const ag_r16_type_t ag_r16_types[AG_N_DTYPES] = {
    [AG_Q8_0] = {32, 2, PAIR_SCALES, Q8_QUANTS, 32, 40, pack_q8_0, unpack_q8_0},
    [AG_Q4_0] = {32, 2, PAIR_SCALES, AG_R16_FOURS, 32, 40, pack_q4_0, unpack_q4_0},
    [AG_Q4_1] = {32, 1, PAIR_SCALES, AG_R16_FOURS, 32, 40, pack_q4_1, unpack_q4_1},
    [AG_Q5_0] = {32, 2, PAIR_SCALES, AG_R16_FIVES, 32, 40, pack_q5_0, unpack_q5_0},
    [AG_Q5_1] = {32, 1, PAIR_SCALES, AG_R16_FIVES, 32, 40, pack_q5_1, unpack_q5_1},
    [AG_IQ4_NL] = {32, 2, PAIR_SCALES, AG_R16_FOURS, 32, 40, pack_q4_0, unpack_iq4_nl},
    [AG_MXFP4] = {32, 4, FOUR_EXPONENTS, AG_R16_FOURS, 32, 40, pack_mxfp4, unpack_mxfp4},
    [AG_Q4_K] = {32, 8, AG_R16_12_SMALL, AG_R16_FOURS, 32, 40, ag_r16_pack_q4_k,
                 ag_r16_unpack_q4_k},
    [AG_Q5_K] = {32, 8, AG_R16_12_SMALL, AG_R16_FIVES, 32, 40, ag_r16_pack_q5_k,
                 ag_r16_unpack_q5_k},
    [AG_Q6_K] = {32, 8, AG_R16_16_SMALL, AG_R16_SIXES, 32, 44, ag_r16_pack_q6_k,
                 ag_r16_unpack_q6_k},
    [AG_Q2_K] = {32, 8, AG_R16_16_SMALL, AG_R16_TWOS, 32, 44, ag_r16_pack_q2_k, ag_r16_unpack_q2_k},
    [AG_Q3_K] = {32, 8, AG_R16_16_SMALL, AG_R16_THREES, 32, 44, ag_r16_pack_q3_k,
                 ag_r16_unpack_q3_k},
    [AG_IQ4_XS] = {32, 8, AG_R16_8_SMALL, AG_R16_FOURS, 32, 40, ag_r16_pack_iq4_xs,
                   ag_r16_unpack_iq4_xs},
    [AG_F8_E4M3_128] = {F8_COLS, 1, sizeof(float) * AG_R16_ROWS, F8_COLS *AG_R16_ROWS, 2, 4,
                        pack_f8_e4m3_128, unpack_f8_e4m3_128},
    [AG_BF16] = {2, 1, 0, AG_R16_VECTOR, 2, 4, pack_bf16, unpack_bf16},
    [AG_F16] = {1, 1, 0, AG_R16_HALVES, 1, 4, pack_f16, unpack_f16},
};

/* Where the block begins that holds a column which is a block's first; or the end of all. */
static uint64_t offset_of(const ag_r16_type_t *type, uint64_t column)
{
    uint64_t pieces = (column + type->piece_cols - 1) / type->piece_cols;

    return (pieces + type->pieces - 1) / type->pieces * type->scale_bytes +
           pieces * type->quant_bytes;
}

bool ag_r16_can(ag_dtype_t dtype, uint64_t cols)
{
    return ag_r16_types[dtype].pieces != 0 && cols % ag_dtype_info(dtype)->block_elements == 0;
}

uint64_t ag_r16_group_bytes(ag_dtype_t dtype, uint64_t cols)
{
    uint64_t bytes = offset_of(&ag_r16_types[dtype], cols);

    return (bytes + AG_R16_ALIGN - 1) / AG_R16_ALIGN * AG_R16_ALIGN;
}

/* A few columns of all rows at a time: their lanes are neighbours, which stay in L1. */
void ag_r16_pack(ag_dtype_t dtype, const unsigned char *const *rows, uint64_t cols,
                 unsigned char *group)
{
    const ag_r16_type_t *type = &ag_r16_types[dtype];

    if (rows[AG_R16_ROWS - 1] == NULL || cols % type->piece_cols != 0) {
        memset(group, 0, ag_r16_group_bytes(dtype, cols)); /* what no row fills */
    }
    for (uint64_t begin = 0; begin < cols; begin += COLS_AT_ONCE) {
        uint64_t n = cols - begin < COLS_AT_ONCE ? cols - begin : COLS_AT_ONCE;
        unsigned char *blocks = group + offset_of(type, begin);

        for (uint32_t r = 0; r < AG_R16_ROWS; r++) {
            if (rows[r] != NULL) {
                type->pack(rows[r] + ag_dtype_bytes(dtype, begin), n, r, blocks);
            }
        }
    }
}

void ag_r16_unpack(ag_dtype_t dtype, const unsigned char *group, uint64_t cols, uint32_t row,
                   float *dst)
{
    ag_r16_types[dtype].unpack(group, cols, row, dst);
}
