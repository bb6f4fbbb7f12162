/*
 * The 16-bit floats. Inline and without branches, so that loops over them are vectorised: they
 * stand in the inner loops of kernels.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float ag_f32_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint32_t ag_bits_of_f32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* A ternary would let the compiler put floating-point work into a branch, and then vectorise
 * nothing. */
static inline uint32_t ag_select(bool condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;

    return (yes & mask) | (no & ~mask);
}

/** Exact; NaN stays NaN. */
static inline float ag_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
    /* the exponent is rebased by a product, which leaves infinity and NaN what they are */
    float normal = ag_f32_of_bits(magnitude + (224u << 23)) * 0x1p-112f;
    /* a mantissa put into the low bits of 0.5 counts multiples of 2^-24 */
    float subnormal = ag_f32_of_bits(magnitude >> 13 | 126u << 23) - 0.5f;

    return ag_f32_of_bits(
        sign | ag_select(magnitude < 1u << 23, ag_bits_of_f32(subnormal), ag_bits_of_f32(normal)));
}

/** Round to nearest even; NaN stays NaN. */
static inline uint16_t ag_f32_to_f16(float value)
{
    uint32_t bits = ag_bits_of_f32(value), magnitude = bits & 0x7fffffffu;
    /* adding 0.5 leaves the rounded multiple of 2^-24 in the low bits */
    uint32_t subnormal = ag_bits_of_f32(ag_f32_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    uint32_t half = ag_select(magnitude < 0x38800000u, subnormal, normal);

    half = ag_select(magnitude >= 0x477ff000u, 0x7c00u, half); /* 65520 rounds to infinity */
    half = ag_select(magnitude > 0x7f800000u, 0x7e00u, half);
    return (uint16_t)(bits >> 16 & 0x8000u) | (uint16_t)half;
}

/** Exact. */
static inline float ag_bf16_to_f32(uint16_t bits)
{
    return ag_f32_of_bits((uint32_t)bits << 16);
}

/** Round to nearest even; NaN stays NaN. */
static inline uint16_t ag_f32_to_bf16(float value)
{
    uint32_t bits = ag_bits_of_f32(value);
    uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);

    return (uint16_t)(ag_select((bits & 0x7fffffffu) > 0x7f800000u, bits | 0x400000u, rounded) >>
                      16);
}
