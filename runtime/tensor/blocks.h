/* What parts of blocks mean that are not halves or plain integers: for decoding, and for those who
 * put blocks into another order. */
#pragma once

#include "runtime/tensor/half.h"

/* The values of MXFP4's four bits, doubled: of a sign and E2M1 (OCP Microscaling Formats 1.0). */
extern const int8_t ag_mxfp4_values[16];

/* The values of four bits of IQ4_NL and IQ4_XS. */
extern const int8_t ag_iq4_values[16];

/** Half of 2 to the power of (exponent - 127): what the doubled values are multiplied by. */
static inline float ag_mxfp4_scale(uint8_t exponent)
{
    return ag_f32_of_bits(exponent < 2 ? 0x00200000u << exponent : (uint32_t)(exponent - 1) << 23);
}

/** The 16 scales of a block of Q3_K, out of their 12 bytes. */
void ag_q3_k_scales(const uint8_t *packed, int8_t scales[16]);

/** The 8 scales of a block of IQ4_XS, out of its first 8 bytes. */
void ag_iq4_xs_scales(const uint8_t *block, int8_t scales[8]);
