/* What the types' ways to pack and unpack have in common. Decoding gives the bits of the type's
 * own: the files that include this are compiled without contraction. */
#pragma once

#include <string.h>

#include "runtime/kernel/r16_priv.h"
#include "runtime/tensor/blocks.h"

enum {
    AG_R16_HALVES = 2 * AG_R16_ROWS, /* bytes of 16 halves */

    /* Of the scales of a block of a K type: two halves and so many bytes a row. One without
     * minimums leaves half of the first vector empty. */
    AG_R16_8_SMALL = 2 * AG_R16_HALVES + 8 * AG_R16_ROWS,
    AG_R16_12_SMALL = 2 * AG_R16_HALVES + 12 * AG_R16_ROWS,
    AG_R16_16_SMALL = 2 * AG_R16_HALVES + 16 * AG_R16_ROWS,

    /* Of 32 columns of quants of so many bits. */
    AG_R16_TWOS = 2 * AG_R16_VECTOR,
    AG_R16_THREES = 3 * AG_R16_VECTOR,
    AG_R16_FOURS = 4 * AG_R16_VECTOR,
    AG_R16_FIVES = 5 * AG_R16_VECTOR,
    AG_R16_SIXES = 6 * AG_R16_VECTOR,
};

static inline uint32_t ag_r16_word_at(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* 16 bytes of a row: its lanes of 4 vectors. */
typedef uint32_t ag_r16_words_t __attribute__((vector_size(16)));

static inline ag_r16_words_t ag_r16_words_at(const uint8_t *bytes)
{
    ag_r16_words_t words;

    memcpy(&words, bytes, sizeof(words));
    return words;
}

static inline uint8_t *ag_r16_lane(uint8_t *vectors, uint32_t vector, uint32_t row)
{
    return vectors + vector * AG_R16_VECTOR + 4 * row;
}

static inline const uint8_t *ag_r16_const_lane(const uint8_t *vectors, uint32_t vector,
                                               uint32_t row)
{
    return vectors + vector * AG_R16_VECTOR + 4 * row;
}

static inline void ag_r16_put_words(ag_r16_words_t words, uint8_t *vectors, uint32_t row)
{
    for (uint32_t j = 0; j < 4; j++) {
        uint32_t word = words[j];

        memcpy(ag_r16_lane(vectors, j, row), &word, sizeof(word));
    }
}

static inline float ag_r16_half_at(const uint8_t *halves, uint32_t row)
{
    uint16_t half;

    memcpy(&half, halves + 2 * row, sizeof(half));
    return ag_f16_to_f32(half);
}

/* 32 values of 4 bits from the lanes of 4 vectors. */
static inline void ag_r16_read_nibbles(const uint8_t *quants, uint32_t row, uint8_t values[32])
{
    for (uint32_t i = 0; i < 16; i++) {
        uint8_t byte = ag_r16_const_lane(quants, i / 4, row)[i % 4];

        values[i] = byte & 15;
        values[i + 16] = byte >> 4;
    }
}

static inline void ag_r16_read_fives(const uint8_t *quants, uint32_t row, uint8_t values[32])
{
    const uint8_t *high = ag_r16_const_lane(quants, 4, row);

    ag_r16_read_nibbles(quants, row, values);
    for (int i = 0; i < 32; i++) {
        values[i] |= (uint8_t)((high[i % 4] >> (i / 4) & 1) << 4);
    }
}

/* Of blocks of 256: r16_k.c. */
void ag_r16_pack_q4_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_q4_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
void ag_r16_pack_q5_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_q5_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
void ag_r16_pack_q6_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_q6_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
void ag_r16_pack_q2_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_q2_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
void ag_r16_pack_q3_k(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_q3_k(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
void ag_r16_pack_iq4_xs(const uint8_t *src, uint64_t n_cols, uint32_t row, uint8_t *blocks);
void ag_r16_unpack_iq4_xs(const uint8_t *blocks, uint64_t n_cols, uint32_t row, float *dst);
