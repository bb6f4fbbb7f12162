/* Encoded rows to groups of 16 and back: types of blocks of 256. What r16.c says holds here. */
#include "runtime/kernel/r16_blocks_priv.h"

#define EACH_BYTE 0x01010101u

enum {
    PIECES = 8, /* of a block */
    Q4_K_BYTES = AG_R16_12_SMALL + PIECES * AG_R16_FOURS,
    Q5_K_BYTES = AG_R16_12_SMALL + PIECES * AG_R16_FIVES,
    Q6_K_BYTES = AG_R16_16_SMALL + PIECES * AG_R16_SIXES,
    Q2_K_BYTES = AG_R16_16_SMALL + PIECES * AG_R16_TWOS,
    Q3_K_BYTES = AG_R16_16_SMALL + PIECES * AG_R16_THREES,
    IQ4_XS_BYTES = AG_R16_8_SMALL + PIECES * AG_R16_FOURS,
};

/* Byte j of the row's small scales. */
static uint8_t *small(uint8_t *block, uint32_t j, uint32_t row)
{
    return block + 2 * AG_R16_HALVES + j * AG_R16_ROWS + row;
}

static uint8_t small_at(const uint8_t *block, uint32_t j, uint32_t row)
{
    return block[2 * AG_R16_HALVES + j * AG_R16_ROWS + row];
}

static void put_halves(const uint8_t *src, uint32_t n, uint32_t row, uint8_t *block)
{
    for (uint32_t i = 0; i < n; i++) {
        memcpy(block + i * AG_R16_HALVES + 2 * row, src + 2 * i, 2);
    }
}

/* Eight 6-bit scales and eight minimums that share 12 bytes: the last four of each have their high
 * bits above those of the first four. */
static void read_k4_scales(const uint8_t *packed, uint8_t scales[16])
{
    uint32_t a = ag_r16_word_at(packed), b = ag_r16_word_at(packed + 4),
             c = ag_r16_word_at(packed + 8);
    uint32_t six = 63 * EACH_BYTE, four = 15 * EACH_BYTE, two = 3 * EACH_BYTE;
    uint32_t words[4] = {a & six, (c & four) | (a >> 6 & two) << 4, b & six,
                         (c >> 4 & four) | (b >> 6 & two) << 4};

    memcpy(scales, words, sizeof(words));
}

/* Four bits of the scale and the minimum of each piece, then two of both for two pieces. */
static void put_k4_scales(const uint8_t *packed, uint32_t row, uint8_t *block)
{
    uint8_t both[16];

    read_k4_scales(packed, both);
    for (uint32_t j = 0; j < 8; j++) {
        *small(block, j, row) = (both[j] & 15) | (uint8_t)(both[8 + j] << 4);
    }
    for (uint32_t j = 0; j < 8; j += 2) {
        *small(block, 8 + j / 2, row) = (uint8_t)(both[j] >> 4 | both[8 + j] >> 4 << 2 |
                                                  both[j + 1] >> 4 << 4 | both[9 + j] >> 4 << 6);
    }
}

static void read_k4_scale(const uint8_t *block, uint32_t piece, uint32_t row, float *d, float *m)
{
    uint8_t four = small_at(block, piece, row);
    uint8_t two = small_at(block, 8 + piece / 2, row) >> piece % 2 * 4;

    *d = ag_r16_half_at(block, row) * (float)((four & 15) | (two & 3) << 4);
    *m = ag_r16_half_at(block + AG_R16_HALVES, row) * (float)(four >> 4 | (two & 12) << 2);
}

/* In the file low and high nibbles of 32 bytes are two pieces; here, halves of one. */
static void put_k4_nibbles(const uint8_t *q, uint32_t quant_bytes, uint32_t row, uint8_t *quants)
{
    for (uint32_t b = 0; b < PIECES; b += 2, q += 32, quants += 2 * quant_bytes) {
        ag_r16_words_t first = ag_r16_words_at(q), second = ag_r16_words_at(q + 16);

        ag_r16_put_words((first & 15 * EACH_BYTE) | (second & 15 * EACH_BYTE) << 4, quants, row);
        ag_r16_put_words((first >> 4 & 15 * EACH_BYTE) | (second & ~(15 * EACH_BYTE)),
                         quants + quant_bytes, row);
    }
}

void ag_r16_pack_q4_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 144, blocks += Q4_K_BYTES) {
        put_halves(src, 2, row, blocks);
        put_k4_scales(src + 4, row, blocks);
        put_k4_nibbles(src + 16, AG_R16_FOURS, row, blocks + AG_R16_12_SMALL);
    }
}

void ag_r16_unpack_q4_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q4_K_BYTES;
        float d, m;

        read_k4_scale(block, b % 8, row, &d, &m);
        ag_r16_read_nibbles(block + AG_R16_12_SMALL + b % 8 * AG_R16_FOURS, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)q[i] - m;
        }
    }
}

/* Bit j of byte i becomes bit i of byte j (Warren, Hacker's Delight 7-3). */
static uint64_t transpose_bits(uint64_t x)
{
    uint64_t swap = (x ^ x >> 7) & 0x00aa00aa00aa00aau;

    x ^= swap ^ swap << 7;
    swap = (x ^ x >> 14) & 0x0000cccc0000ccccu;
    x ^= swap ^ swap << 14;
    swap = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
    return x ^ swap ^ swap << 28;
}

/* 32 bytes, of which bit b belongs to piece b: to one vector of each, there bit j of each byte to
 * vector j. */
static void put_bits(const uint8_t *src, uint32_t quant_bytes, uint32_t vector, uint32_t row,
                     uint8_t *quants)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t bits = 0;

        for (uint32_t j = 0; j < 8; j++) {
            bits |= (uint64_t)src[4 * j + i] << 8 * j;
        }
        bits = transpose_bits(bits);
        for (uint32_t b = 0; b < PIECES; b++) {
            ag_r16_lane(quants + b * quant_bytes, vector, row)[i] = (uint8_t)(bits >> 8 * b);
        }
    }
}

void ag_r16_pack_q5_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 176, blocks += Q5_K_BYTES) {
        put_halves(src, 2, row, blocks);
        put_k4_scales(src + 4, row, blocks);
        put_bits(src + 16, AG_R16_FIVES, 4, row, blocks + AG_R16_12_SMALL);
        put_k4_nibbles(src + 48, AG_R16_FIVES, row, blocks + AG_R16_12_SMALL);
    }
}

void ag_r16_unpack_q5_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q5_K_BYTES;
        float d, m;

        read_k4_scale(block, b % 8, row, &d, &m);
        ag_r16_read_fives(block + AG_R16_12_SMALL + b % 8 * AG_R16_FIVES, row, q);
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

/* 64 bytes, of 32 of which pair c of bits belongs to piece c of four: to two vectors of each, there
 * bits 2i, 2i + 1 of vector v to vector 4v + i. */
static void put_pairs(const uint8_t *src, uint32_t quant_bytes, uint32_t vector, uint32_t row,
                      uint8_t *quants)
{
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t words[2][4];

        memcpy(words, src + 32 * half, sizeof(words));
        transpose_pairs(words[0]);
        transpose_pairs(words[1]);
        for (uint32_t c = 0; c < 4; c++, quants += quant_bytes) {
            memcpy(ag_r16_lane(quants, vector, row), &words[0][c], 4);
            memcpy(ag_r16_lane(quants, vector + 1, row), &words[1][c], 4);
        }
    }
}

static int pair_at(const uint8_t *quants, uint32_t vector, uint32_t row, uint32_t i)
{
    return ag_r16_const_lane(quants, vector + i / 16, row)[i % 4] >> 2 * (i % 16 / 4) & 3;
}

/* Quarter c of 128 values: nibbles of 32 bytes out of 64, and bits 2c, 2c + 1 of 32 bytes. */
void ag_r16_pack_q6_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 210, blocks += Q6_K_BYTES) {
        uint8_t *quants = blocks + AG_R16_16_SMALL;

        put_halves(src + 208, 1, row, blocks);
        for (uint32_t j = 0; j < 16; j++) {
            *small(blocks, j, row) = src[192 + j];
        }
        put_pairs(src + 128, AG_R16_SIXES, 4, row, quants);
        for (uint32_t c = 0; c < PIECES; c++, quants += AG_R16_SIXES) {
            const uint8_t *low = src + 64 * (c / 4) + 32 * (c % 2);
            uint32_t shift = c % 4 / 2 * 4;
            ag_r16_words_t first = ag_r16_words_at(low) >> shift & 15 * EACH_BYTE;
            ag_r16_words_t second = ag_r16_words_at(low + 16) >> shift & 15 * EACH_BYTE;

            ag_r16_put_words(first | second << 4, quants, row);
        }
    }
}

void ag_r16_unpack_q6_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q6_K_BYTES;
        const uint8_t *quants = block + AG_R16_16_SMALL + b % 8 * AG_R16_SIXES;
        float d = ag_r16_half_at(block, row);

        ag_r16_read_nibbles(quants, row, q);
        for (uint32_t i = 0; i < 32; i++) {
            int8_t scale = (int8_t)small_at(block, 2 * (b % 8) + i / 16, row);

            dst[i] = d * (float)scale * (float)((q[i] | pair_at(quants, 4, row, i) << 4) - 32);
        }
    }
}

void ag_r16_pack_q2_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 84, blocks += Q2_K_BYTES) {
        put_halves(src + 80, 2, row, blocks);
        for (uint32_t j = 0; j < 16; j++) {
            *small(blocks, j, row) = src[j];
        }
        put_pairs(src + 16, AG_R16_TWOS, 0, row, blocks + AG_R16_16_SMALL);
    }
}

void ag_r16_unpack_q2_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q2_K_BYTES;
        const uint8_t *quants = block + AG_R16_16_SMALL + b % 8 * AG_R16_TWOS;
        float d = ag_r16_half_at(block, row), dmin = ag_r16_half_at(block + AG_R16_HALVES, row);

        for (uint32_t i = 0; i < 32; i++) {
            uint8_t both = small_at(block, 2 * (b % 8) + i / 16, row);

            dst[i] = d * (float)(both & 15) * (float)pair_at(quants, 0, row, i) -
                     dmin * (float)(both >> 4);
        }
    }
}

void ag_r16_pack_q3_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 110, blocks += Q3_K_BYTES) {
        int8_t scales[16];

        put_halves(src + 108, 1, row, blocks);
        ag_q3_k_scales(src + 96, scales);
        for (uint32_t j = 0; j < 16; j++) {
            *small(blocks, j, row) = (uint8_t)scales[j];
        }
        put_pairs(src + 32, AG_R16_THREES, 0, row, blocks + AG_R16_16_SMALL);
        put_bits(src, AG_R16_THREES, 2, row, blocks + AG_R16_16_SMALL);
    }
}

void ag_r16_unpack_q3_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * Q3_K_BYTES;
        const uint8_t *quants = block + AG_R16_16_SMALL + b % 8 * AG_R16_THREES;
        float d = ag_r16_half_at(block, row);

        for (uint32_t i = 0; i < 32; i++) {
            int8_t scale = (int8_t)small_at(block, 2 * (b % 8) + i / 16, row);
            int third = ag_r16_const_lane(quants, 2, row)[i % 4] >> i / 4 & 1;

            dst[i] = d * (float)scale * (float)(pair_at(quants, 0, row, i) + 4 * third - 4);
        }
    }
}

void ag_r16_pack_iq4_xs(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks)
{
    for (uint64_t b = 0; b < n_cols / 256; b++, src += 136, blocks += IQ4_XS_BYTES) {
        int8_t scales[PIECES];

        put_halves(src, 1, row, blocks);
        ag_iq4_xs_scales(src, scales);
        for (uint32_t j = 0; j < PIECES; j++) {
            *small(blocks, j, row) = (uint8_t)scales[j];
            ag_r16_put_words(ag_r16_words_at(src + 8 + 16 * j),
                             blocks + AG_R16_8_SMALL + j * AG_R16_FOURS, row);
        }
    }
}

void ag_r16_unpack_iq4_xs(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst)
{
    uint8_t q[32];

    for (uint64_t b = 0; b < n_cols / 32; b++, dst += 32) {
        const uint8_t *block = blocks + b / 8 * IQ4_XS_BYTES;
        float d = ag_r16_half_at(block, row) * (float)(int8_t)small_at(block, b % 8, row);

        ag_r16_read_nibbles(block + AG_R16_8_SMALL + b % 8 * AG_R16_FOURS, row, q);
        for (int i = 0; i < 32; i++) {
            dst[i] = d * (float)ag_iq4_values[q[i]];
        }
    }
}
