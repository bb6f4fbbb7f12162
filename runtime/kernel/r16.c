/* Encoded rows to groups of 16 and back. Layouts of the file are ggml's (ggml-common.h); decoding
 * gives its bits: this file is compiled without contraction. */
#include "runtime/kernel/r16_priv.h"

#include <string.h>

enum {
    HALVES = 2 * AG_R16_ROWS, /* bytes of 16 halves */
    COLS_AT_ONCE = 1024,      /* whole blocks of every type */
};

#define EACH_BYTE 0x01010101u

static uint32_t word_at(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* 16 bytes of a row: its lanes of 4 vectors. */
typedef uint32_t words_t __attribute__((vector_size(16)));

static words_t words_at(const uint8_t *bytes)
{
    words_t words;

    memcpy(&words, bytes, sizeof(words));
    return words;
}

static uint8_t *lane(uint8_t *vectors, uint32_t vector, uint32_t row)
{
    return vectors + vector * AG_R16_VECTOR + 4 * row;
}

static const uint8_t *const_lane(const uint8_t *vectors, uint32_t vector, uint32_t row)
{
    return vectors + vector * AG_R16_VECTOR + 4 * row;
}

static void put_words(words_t words, uint8_t *vectors, uint32_t row)
{
    for (uint32_t j = 0; j < 4; j++) {
        uint32_t word = words[j];

        memcpy(lane(vectors, j, row), &word, sizeof(word));
    }
}

static float half_at(const uint8_t *halves, uint32_t row)
{
    uint16_t half;

    memcpy(&half, halves + 2 * row, sizeof(half));
    return ag_f16_to_f32(half);
}

/* 32 values of 4 bits from the lanes of 4 vectors. */
static void read_nibbles(const uint8_t *quants, uint32_t row, uint8_t values[32])
{
    for (uint32_t i = 0; i < 16; i++) {
        uint8_t byte = const_lane(quants, i / 4, row)[i % 4];

        values[i] = byte & 15;
        values[i + 16] = byte >> 4;
    }
}

/* Bytes of a block: its scales, then the quants of its pieces. */
enum {
    PAIR_SCALES = 2 * HALVES, /* of two pieces, or of one with minimums */
    Q4_K_SCALES = 2 * HALVES + 12 * AG_R16_ROWS,
    Q6_K_SCALES = 2 * HALVES + 16 * AG_R16_ROWS, /* half of the first vector is empty */
    NIBBLES = 4 * AG_R16_VECTOR,                 /* 32 columns of 4 bits */
    Q8_QUANTS = 8 * AG_R16_VECTOR,
    Q5_QUANTS = NIBBLES + AG_R16_VECTOR,
    Q6_QUANTS = NIBBLES + 2 * AG_R16_VECTOR,
    Q4_1_BYTES = PAIR_SCALES + NIBBLES,
    Q5_1_BYTES = PAIR_SCALES + Q5_QUANTS,
    Q4_K_BYTES = Q4_K_SCALES + 8 * NIBBLES,
    Q6_K_BYTES = Q6_K_SCALES + 8 * Q6_QUANTS,
};

/* Of blocks of two pieces: where piece b has its scales, and its quants. */
static uint64_t pair_scales(uint64_t b, uint32_t quant_bytes)
{
    return b / 2 * (PAIR_SCALES + 2 * quant_bytes) + b % 2 * HALVES;
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
            memcpy(lane(blocks + pair_quants(b, Q8_QUANTS), j, row), src + 2 + 4 * j, 4);
        }
    }
}

static void unpack_q8_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        const uint8_t *quants = blocks + pair_quants(i / 32, Q8_QUANTS);
        int8_t q = (int8_t)const_lane(quants, i % 32 / 4, row)[i % 4];

        dst[i] = (float)q * half_at(blocks + pair_scales(i / 32, Q8_QUANTS), row);
    }
}

static void pack_q4_0(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 18) {
        memcpy(blocks + pair_scales(b, NIBBLES) + 2 * row, src, 2);
        put_words(words_at(src + 2), blocks + pair_quants(b, NIBBLES), row);
    }
}

static void pack_q4_1(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 20, blocks += Q4_1_BYTES) {
        memcpy(blocks + 2 * row, src, 2);
        memcpy(blocks + HALVES + 2 * row, src + 2, 2);
        put_words(words_at(src + 4), blocks + PAIR_SCALES, row);
    }
}

static void unpack_q4_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        float d = half_at(blocks + pair_scales(b, NIBBLES), row);

        read_nibbles(blocks + pair_quants(b, NIBBLES), row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)(q[i] - 8) * d;
        }
    }
}

static void unpack_q4_1(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32, blocks += Q4_1_BYTES) {
        float d = half_at(blocks, row), m = half_at(blocks + HALVES, row);

        read_nibbles(blocks + PAIR_SCALES, row, q);
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
    uint32_t high = word_at(src);

    put_words(words_at(src + 4), quants, row);
    for (uint32_t j = 0; j < 4; j++) {
        lane(quants, 4, row)[j] = gather_fourths(high >> j);
    }
}

static void read_fives(const uint8_t *quants, uint32_t row, uint8_t values[32])
{
    const uint8_t *high = const_lane(quants, 4, row);

    read_nibbles(quants, row, values);
    for (int i = 0; i < 32; i++) {
        values[i] |= (uint8_t)((high[i % 4] >> (i / 4) & 1) << 4);
    }
}

static void pack_q5_0(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 22) {
        memcpy(blocks + pair_scales(b, Q5_QUANTS) + 2 * row, src, 2);
        put_fives(src + 2, blocks + pair_quants(b, Q5_QUANTS), row);
    }
}

static void pack_q5_1(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, src += 24, blocks += Q5_1_BYTES) {
        memcpy(blocks + 2 * row, src, 2);
        memcpy(blocks + HALVES + 2 * row, src + 2, 2);
        put_fives(src + 4, blocks + PAIR_SCALES, row);
    }
}

static void unpack_q5_0(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        float d = half_at(blocks + pair_scales(b, Q5_QUANTS), row);

        read_fives(blocks + pair_quants(b, Q5_QUANTS), row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)(q[i] - 16) * d;
        }
    }
}

static void unpack_q5_1(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32, blocks += Q5_1_BYTES) {
        float d = half_at(blocks, row), m = half_at(blocks + HALVES, row);

        read_fives(blocks + PAIR_SCALES, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = (float)q[i] * d + m;
        }
    }
}

/* Eight 6-bit scales and eight minimums that share 12 bytes: the last four of each have their high
 * bits above those of the first four. */
static void read_k4_scales(const uint8_t *packed, uint8_t scales[16])
{
    uint32_t a = word_at(packed), b = word_at(packed + 4), c = word_at(packed + 8);
    uint32_t six = 63 * EACH_BYTE, four = 15 * EACH_BYTE, two = 3 * EACH_BYTE;
    uint32_t words[4] = {a & six, (c & four) | (a >> 6 & two) << 4, b & six,
                         (c >> 4 & four) | (b >> 6 & two) << 4};

    memcpy(scales, words, sizeof(words));
}

/* In the file low and high nibbles of 32 bytes are two blocks of 32; here, halves of one. */
static void pack_q4_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 144, blocks += Q4_K_BYTES) {
        uint8_t *small = blocks + 2 * HALVES + row, *quants = blocks + Q4_K_SCALES, both[16];

        memcpy(blocks + 2 * row, src, 2);
        memcpy(blocks + HALVES + 2 * row, src + 2, 2);
        read_k4_scales(src + 4, both);
        for (uint32_t j = 0; j < 8; j++) {
            small[j * AG_R16_ROWS] = (both[j] & 15) | (uint8_t)(both[8 + j] << 4);
        }
        for (uint32_t j = 0; j < 8; j += 2) {
            small[(8 + j / 2) * AG_R16_ROWS] =
                (uint8_t)(both[j] >> 4 | both[8 + j] >> 4 << 2 | both[j + 1] >> 4 << 4 |
                          both[9 + j] >> 4 << 6);
        }
        for (const uint8_t *q = src + 16; q < src + 144; q += 32, quants += 2 * NIBBLES) {
            words_t first = words_at(q), second = words_at(q + 16);

            put_words((first & 15 * EACH_BYTE) | (second & 15 * EACH_BYTE) << 4, quants, row);
            put_words((first >> 4 & 15 * EACH_BYTE) | (second & ~(15 * EACH_BYTE)),
                      quants + NIBBLES, row);
        }
    }
}

static void unpack_q4_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q4_K_BYTES;
        const uint8_t *small = block + 2 * HALVES + row;
        uint8_t four = small[b % 8 * AG_R16_ROWS];
        uint8_t two = small[(8 + b % 8 / 2) * AG_R16_ROWS] >> b % 2 * 4;
        float d = half_at(block, row) * (float)((four & 15) | (two & 3) << 4);
        float m = half_at(block + HALVES, row) * (float)(four >> 4 | (two & 12) << 2);

        read_nibbles(block + Q4_K_SCALES + b % 8 * NIBBLES, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)q[i] - m;
        }
    }
}

/* Pair c of bits in every byte of word i becomes pair i of word c. */
static void transpose_pairs(uint32_t words[4])
{
    for (int i = 0; i < 4; i += 2) {
        uint32_t swap = (words[i] >> 2 ^ words[i + 1]) & 0x33333333u;

        words[i + 1] ^= swap;
        words[i] ^= swap << 2;
    }
    for (int i = 0; i < 2; i++) {
        uint32_t swap = (words[i] >> 4 ^ words[i + 2]) & 15 * EACH_BYTE;

        words[i + 2] ^= swap;
        words[i] ^= swap << 4;
    }
}

/* Quarter c of 128 values: nibbles of 32 bytes out of 64, and bits 2c, 2c + 1 of 32 bytes. */
static void pack_q6_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 210, blocks += Q6_K_BYTES) {
        uint8_t *quants = blocks + Q6_K_SCALES;

        memcpy(blocks + 2 * row, src + 208, 2);
        for (uint32_t j = 0; j < 16; j++) {
            blocks[2 * HALVES + j * AG_R16_ROWS + row] = src[192 + j];
        }
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t high[2][4];

            memcpy(high, src + 128 + 32 * half, sizeof(high));
            transpose_pairs(high[0]);
            transpose_pairs(high[1]);
            for (uint32_t c = 0; c < 4; c++, quants += Q6_QUANTS) {
                const uint8_t *low = src + 64 * half + 32 * (c % 2);
                words_t first = words_at(low) >> c / 2 * 4 & 15 * EACH_BYTE;
                words_t second = words_at(low + 16) >> c / 2 * 4 & 15 * EACH_BYTE;

                put_words(first | second << 4, quants, row);
                memcpy(lane(quants, 4, row), &high[0][c], 4);
                memcpy(lane(quants, 5, row), &high[1][c], 4);
            }
        }
    }
}

static void unpack_q6_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q6_K_BYTES;
        const uint8_t *quants = block + Q6_K_SCALES + b % 8 * Q6_QUANTS;
        float d = half_at(block, row);

        read_nibbles(quants, row, q);
        for (uint32_t i = 0; i < 32; i++) {
            int8_t scale = (int8_t)block[2 * HALVES + (2 * (b % 8) + i / 16) * AG_R16_ROWS + row];
            int high = const_lane(quants, 4 + i / 16, row)[i % 4] >> 2 * (i % 16 / 4) & 3;

            dst[i] = d * (float)scale * (float)((q[i] | high << 4) - 32);
        }
    }
}

static void pack_bf16(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t i = 0; i < n_cols / 2; i++) {
        memcpy(lane(blocks, (uint32_t)i, row), src + 4 * i, 4);
    }
    if (n_cols % 2 != 0) {
        memcpy(lane(blocks, (uint32_t)(n_cols / 2), row), src + 2 * (n_cols - 1), 2);
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
        memcpy(blocks + i * HALVES + 2 * row, src + 2 * i, 2);
    }
}

static void unpack_f16(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t i = 0; i < n_cols; i++) {
        dst[i] = half_at(blocks + i * HALVES, row);
    }
}

/* Prepared columns of x are 32 int8, a scale, and something for every scale of the weight there. */
const ag_r16_type_t ag_r16_types[AG_N_DTYPES] = {
    [AG_Q8_0] = {32, 2, PAIR_SCALES, Q8_QUANTS, 32, 40, pack_q8_0, unpack_q8_0},
    [AG_Q4_0] = {32, 2, PAIR_SCALES, NIBBLES, 32, 40, pack_q4_0, unpack_q4_0},
    [AG_Q4_1] = {32, 1, PAIR_SCALES, NIBBLES, 32, 40, pack_q4_1, unpack_q4_1},
    [AG_Q5_0] = {32, 2, PAIR_SCALES, Q5_QUANTS, 32, 40, pack_q5_0, unpack_q5_0},
    [AG_Q5_1] = {32, 1, PAIR_SCALES, Q5_QUANTS, 32, 40, pack_q5_1, unpack_q5_1},
    [AG_Q4_K] = {32, 8, Q4_K_SCALES, NIBBLES, 32, 40, pack_q4_k, unpack_q4_k},
    [AG_Q6_K] = {32, 8, Q6_K_SCALES, Q6_QUANTS, 32, 44, pack_q6_k, unpack_q6_k},
    [AG_BF16] = {2, 1, 0, AG_R16_VECTOR, 2, 4, pack_bf16, unpack_bf16},
    [AG_F16] = {1, 1, 0, HALVES, 1, 4, pack_f16, unpack_f16},
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
