#include "runtime/tensor/half.h"

#include <criterion/criterion.h>
#include <math.h>

static bool is_nan16(uint16_t half)
{
    return (half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0;
}

/* What the format's definition says, without a look at the bits of a float. */
static float f16_by_definition(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    float magnitude = exponent == 31  ? INFINITY
                      : exponent == 0 ? ldexpf((float)mantissa, -24)
                                      : ldexpf((float)(mantissa + 1024), exponent - 25);

    return half & 0x8000 ? -magnitude : magnitude;
}

Test(f16, every_half_becomes_its_float_and_comes_back)
{
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;
        float value = ag_f16_to_f32(half);

        if (is_nan16(half)) {
            cr_assert(isnan(value) && is_nan16(ag_f32_to_f16(value)), "%04x", i);
            cr_assert_eq(signbit(value) != 0, half >> 15);
        } else {
            cr_assert_eq(ag_bits_of_f32(value), ag_bits_of_f32(f16_by_definition(half)), "%04x", i);
            cr_assert_eq(ag_f32_to_f16(value), half, "%04x", i);
        }
    }
}

Test(f16, between_two_halves_the_nearer_one_is_taken_and_the_even_one_of_two)
{
    for (uint16_t half = 0; half < 0x7bff; half++) {
        float low = ag_f16_to_f32(half), high = ag_f16_to_f32(half + 1);
        float middle = (low + high) / 2; /* exact: a float has more digits */

        cr_assert_eq(ag_f32_to_f16(nextafterf(middle, low)), half, "%04x", half);
        cr_assert_eq(ag_f32_to_f16(middle), half + (half & 1), "%04x", half);
        cr_assert_eq(ag_f32_to_f16(nextafterf(middle, high)), half + 1, "%04x", half);
        cr_assert_eq(ag_f32_to_f16(-middle), 0x8000 + half + (half & 1), "%04x", half);
    }
}

Test(f16, what_is_too_large_becomes_infinite)
{
    cr_expect_eq(ag_f32_to_f16(65504.0f), 0x7bff);
    cr_expect_eq(ag_f32_to_f16(nextafterf(65520.0f, 0.0f)), 0x7bff);
    cr_expect_eq(ag_f32_to_f16(65520.0f), 0x7c00);
    cr_expect_eq(ag_f32_to_f16(-3e38f), 0xfc00);
    cr_expect_eq(ag_f32_to_f16(INFINITY), 0x7c00);
    cr_expect_eq(ag_f32_to_f16(0x1p-149f), 0);
    cr_expect_eq(ag_f32_to_f16(-0x1p-149f), 0x8000);
}

Test(bf16, every_value_comes_back)
{
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        float value = ag_bf16_to_f32(bits);

        cr_assert_eq(ag_bits_of_f32(value), i << 16);
        if (isnan(value)) {
            cr_assert(isnan(ag_bf16_to_f32(ag_f32_to_bf16(value))), "%04x", i);
        } else {
            cr_assert_eq(ag_f32_to_bf16(value), bits, "%04x", i);
        }
    }
}

Test(bf16, between_two_values_the_nearer_one_is_taken_and_the_even_one_of_two)
{
    for (uint32_t i = 0; i < 0x7f80; i++) {
        cr_assert_eq(ag_f32_to_bf16(ag_f32_of_bits(i << 16 | 0x7fff)), i);
        cr_assert_eq(ag_f32_to_bf16(ag_f32_of_bits(i << 16 | 0x8000)), i + (i & 1));
        cr_assert_eq(ag_f32_to_bf16(ag_f32_of_bits(i << 16 | 0x8001)), i + 1);
    }
}

Test(bf16, a_nan_whose_high_bits_are_those_of_infinity_stays_a_nan)
{
    cr_expect(isnan(ag_bf16_to_f32(ag_f32_to_bf16(ag_f32_of_bits(0x7f800001)))));
    cr_expect(isnan(ag_bf16_to_f32(ag_f32_to_bf16(ag_f32_of_bits(0xffffffff)))));
}
