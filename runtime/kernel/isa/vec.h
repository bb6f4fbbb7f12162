/*
 * Vectors of the width that the instruction set at hand has, and the functions that differ between
 * instruction sets. Arithmetic is written with the compiler's vector extensions. Types of another
 * width than the machine's are slow (GCC splits them through memory), so 16 rows side by side are
 * AG_VEC_PARTS vectors. Files of this folder are compiled once per instruction set, without
 * contraction: a fused product is asked for by ag_vec_fma().
 */
#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define AG_VEC_BYTES 64
#elif defined(__AVX2__)
#define AG_VEC_BYTES 32
#else
#define AG_VEC_BYTES 16
#endif

enum {
    AG_VEC_LANES = AG_VEC_BYTES / 4, /* of 32 bits */
    AG_GROUP_ROWS = 16,
    AG_VEC_PARTS = AG_GROUP_ROWS / AG_VEC_LANES,
};

typedef float ag_vec_f_t __attribute__((vector_size(AG_VEC_BYTES)));
typedef int32_t ag_vec_i_t __attribute__((vector_size(AG_VEC_BYTES)));
typedef uint32_t ag_vec_u_t __attribute__((vector_size(AG_VEC_BYTES)));
typedef uint8_t ag_vec_b_t __attribute__((vector_size(AG_VEC_BYTES)));

#define AG_INLINE static inline __attribute__((always_inline))
#define AG_VEC_INFINITY __builtin_inff()

AG_INLINE ag_vec_b_t ag_vec_load_b(const void *bytes)
{
    ag_vec_b_t v;

    memcpy(&v, bytes, sizeof(v));
    return v;
}

AG_INLINE ag_vec_f_t ag_vec_load_f(const void *floats)
{
    ag_vec_f_t v;

    memcpy(&v, floats, sizeof(v));
    return v;
}

AG_INLINE void ag_vec_store_f(float *floats, ag_vec_f_t v)
{
    memcpy(floats, &v, sizeof(v));
}

AG_INLINE ag_vec_i_t ag_vec_splat_i(int32_t x)
{
    return (ag_vec_i_t){0} + x;
}

/* By its bits: 0 + x is an addition, which the compiler must keep for the sake of -0. */
AG_INLINE ag_vec_f_t ag_vec_splat_f(float x)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return (ag_vec_f_t)ag_vec_splat_i(bits);
}

/** Four bytes, or two halves, in every lane. */
AG_INLINE ag_vec_i_t ag_vec_splat_bytes(const void *four)
{
    int32_t x;

    memcpy(&x, four, sizeof(x));
    return ag_vec_splat_i(x);
}

/** (bytes >> shift) & mask, where no bit that mask keeps comes from the next byte. */
AG_INLINE ag_vec_b_t ag_vec_bits(ag_vec_b_t bytes, int shift, uint8_t mask)
{
    ag_vec_u_t v = (ag_vec_u_t)bytes;

    return (ag_vec_b_t)(shift >= 0 ? v >> shift : v << -shift) & mask;
}

/** The same 16 bytes all along. */
AG_INLINE ag_vec_b_t ag_vec_load_16(const void *bytes)
{
#if defined(__AVX512F__)
    return (ag_vec_b_t)_mm512_broadcast_i32x4(_mm_loadu_si128(bytes));
#elif defined(__AVX2__)
    return (ag_vec_b_t)_mm256_broadcastsi128_si256(_mm_loadu_si128(bytes));
#else
    return ag_vec_load_b(bytes);
#endif
}

/** The entry of a table of 16 bytes, ag_vec_load_16(), that each byte below 16 says. */
AG_INLINE ag_vec_b_t ag_vec_look_up(ag_vec_b_t table, ag_vec_b_t places)
{
#if defined(__AVX512F__)
    return (ag_vec_b_t)_mm512_shuffle_epi8((__m512i)table, (__m512i)places);
#elif defined(__AVX2__)
    return (ag_vec_b_t)_mm256_shuffle_epi8((__m256i)table, (__m256i)places);
#else
    uint8_t entries[AG_VEC_BYTES], found[AG_VEC_BYTES];

    memcpy(entries, &table, sizeof(entries));
    memcpy(found, &places, sizeof(found));
    for (int i = 0; i < AG_VEC_BYTES; i++) {
        found[i] = entries[found[i]];
    }
    return ag_vec_load_b(found);
#endif
}

AG_INLINE ag_vec_f_t ag_vec_to_f(ag_vec_i_t v)
{
    return __builtin_convertvector(v, ag_vec_f_t);
}

/** x * y + z, rounded once where the machine can. */
AG_INLINE ag_vec_f_t ag_vec_fma(ag_vec_f_t x, ag_vec_f_t y, ag_vec_f_t z)
{
#if defined(__AVX512F__)
    return (ag_vec_f_t)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif defined(__FMA__)
    return (ag_vec_f_t)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#else
    return x * y + z;
#endif
}

AG_INLINE ag_vec_f_t ag_vec_sqrt(ag_vec_f_t v)
{
#if defined(__AVX512F__)
    return (ag_vec_f_t)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (ag_vec_f_t)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < AG_VEC_LANES; i++) {
        v[i] = __builtin_sqrtf(v[i]);
    }
    return v;
#endif
}

AG_INLINE ag_vec_f_t ag_vec_abs(ag_vec_f_t v)
{
    return (ag_vec_f_t)((ag_vec_u_t)v & 0x7fffffffu);
}

/** x where the mask has ones, y where zeros. */
AG_INLINE ag_vec_f_t ag_vec_choose(ag_vec_i_t mask, ag_vec_f_t x, ag_vec_f_t y)
{
    return (ag_vec_f_t)((mask & (ag_vec_i_t)x) | (~mask & (ag_vec_i_t)y));
}

/** The larger of two, lane by lane; the second where either is NaN. */
AG_INLINE ag_vec_f_t ag_vec_max(ag_vec_f_t x, ag_vec_f_t y)
{
#if defined(__AVX512F__)
    return (ag_vec_f_t)_mm512_max_ps((__m512)x, (__m512)y);
#elif defined(__AVX2__)
    return (ag_vec_f_t)_mm256_max_ps((__m256)x, (__m256)y);
#else
    ag_vec_i_t larger = x > y;

    return (ag_vec_f_t)((larger & (ag_vec_i_t)x) | (~larger & (ag_vec_i_t)y));
#endif
}

AG_INLINE float ag_vec_largest(ag_vec_f_t v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float largest = v[0];

    for (int i = 1; i < AG_VEC_LANES; i++) {
        largest = v[i] > largest ? v[i] : largest;
    }
    return largest;
#endif
}

/*
 * Of floats without their sign. Their bits are compared: as integers they stand in the same order,
 * infinity above all numbers and NaN above infinity, so none of these is lost.
 */

/** The larger of two, lane by lane. */
AG_INLINE ag_vec_f_t ag_vec_max_size(ag_vec_f_t x, ag_vec_f_t y)
{
#if defined(__AVX512F__)
    return (ag_vec_f_t)_mm512_max_epi32((__m512i)x, (__m512i)y);
#elif defined(__AVX2__)
    return (ag_vec_f_t)_mm256_max_epi32((__m256i)x, (__m256i)y);
#else
    ag_vec_i_t larger = (ag_vec_i_t)x > (ag_vec_i_t)y;

    return (ag_vec_f_t)((larger & (ag_vec_i_t)x) | (~larger & (ag_vec_i_t)y));
#endif
}

AG_INLINE float ag_vec_largest_size(ag_vec_f_t v)
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
    __m256i eight = _mm256_max_epi32(_mm512_castsi512_si256((__m512i)v),
                                     _mm512_extracti64x4_epi64((__m512i)v, 1));
#else
    __m256i eight = (__m256i)v;
#endif
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));

    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e)); /* the upper two with the lower */
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(four));
#else
    ag_vec_i_t bits = (ag_vec_i_t)v;
    int32_t largest = bits[0];
    float size;

    for (int i = 1; i < AG_VEC_LANES; i++) {
        largest = bits[i] > largest ? bits[i] : largest;
    }
    memcpy(&size, &largest, sizeof(size));
    return size;
#endif
}

AG_INLINE int32_t ag_vec_sum_i(ag_vec_i_t v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t sum = 0;

    for (int i = 0; i < AG_VEC_LANES; i++) {
        sum += v[i];
    }
    return sum;
#endif
}

/** Halves are added until one is left. */
AG_INLINE float ag_vec_sum(ag_vec_f_t v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float sums[AG_VEC_LANES];

    memcpy(sums, &v, sizeof(sums));
    for (int half = AG_VEC_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            sums[i] += sums[i + half];
        }
    }
    return sums[0];
#endif
}

/** Integers in [-128, 127] as bytes. */
AG_INLINE void ag_vec_store_s8(int8_t *bytes, ag_vec_i_t v)
{
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)(void *)bytes, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX2__)
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v),
                                    _mm256_extracti128_si256((__m256i)v, 1));

    _mm_storel_epi64((__m128i *)(void *)bytes, _mm_packs_epi16(words, words));
#else
    for (int i = 0; i < AG_VEC_LANES; i++) {
        bytes[i] = (int8_t)v[i];
    }
#endif
}

/** To the nearest integer, to even between two; |v| below 2^21. */
AG_INLINE ag_vec_i_t ag_vec_round(ag_vec_f_t v)
{
    /* the sum has the integer in its low bits */
    return (ag_vec_i_t)(v + 0x1.8p23f) - 0x4b400000;
}

/** AG_VEC_LANES IEEE halves. */
AG_INLINE ag_vec_f_t ag_vec_load_f16(const void *halves)
{
#if defined(__AVX512F__)
    return (ag_vec_f_t)_mm512_cvtph_ps(_mm256_loadu_si256(halves));
#elif defined(__F16C__)
    return (ag_vec_f_t)_mm256_cvtph_ps(_mm_loadu_si128(halves));
#else
    uint16_t h[AG_VEC_LANES];
    ag_vec_u_t bits = {0};
    ag_vec_f_t magnitude;

    memcpy(h, halves, sizeof(h));
    for (int i = 0; i < AG_VEC_LANES; i++) {
        bits[i] = h[i];
    }
    /* the exponent is rebased by a product, which also makes subnormals right; infinity would not
     * be: halves above 65504 keep their bits */
    magnitude = (ag_vec_f_t)((bits & 0x7fffu) << 13) * 0x1p112f;
    bits = (bits & 0x8000u) << 16 | ((ag_vec_u_t)((bits & 0x7c00u) == 0x7c00u) & 0x7f800000u) |
           (ag_vec_u_t)magnitude;
    return (ag_vec_f_t)bits;
#endif
}

/**
 * 8-bit floats E4M3 of two columns, 16 bytes apart, as pairs of bfloat16, which hold them: each is
 * 2^-8 of its value, for as a half its bits have another exponent. No NaN is known here.
 */
AG_INLINE ag_vec_b_t ag_vec_load_f8_pairs(const uint8_t *bytes)
{
#if defined(__AVX512F__)
    const __m512i keep = _mm512_set1_epi16((int16_t)0xbfff); /* not the sign's copy */
    __m512i high = _mm512_slli_epi16(
        _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)bytes)), 8);
    __m512i halves = _mm512_and_si512(_mm512_srai_epi16(high, 1), keep);
    ag_vec_u_t first = (ag_vec_u_t)_mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    ag_vec_u_t second = (ag_vec_u_t)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
#elif defined(__AVX2__)
    const __m128i keep = _mm_set1_epi16((int16_t)0xbfff);
    __m128i high[2];

    for (int c = 0; c < 2; c++) {
        __m128i words =
            _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(bytes + 16 * c)));

        high[c] = _mm_and_si128(_mm_srai_epi16(_mm_slli_epi16(words, 8), 1), keep);
    }
    ag_vec_u_t first = (ag_vec_u_t)_mm256_cvtph_ps(high[0]);
    ag_vec_u_t second = (ag_vec_u_t)_mm256_cvtph_ps(high[1]);
#else
    ag_vec_u_t first, second;
    uint16_t halves[2][AG_VEC_LANES];

    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < AG_VEC_LANES; i++) {
            uint8_t bits = bytes[16 * c + i];

            halves[c][i] = (uint16_t)((bits & 128) << 8 | (bits & 127) << 7);
        }
    }
    first = (ag_vec_u_t)ag_vec_load_f16(halves[0]);
    second = (ag_vec_u_t)ag_vec_load_f16(halves[1]);
#endif
    return (ag_vec_b_t)(first >> 16 | (second & 0xffff0000u));
}

/** Rounded to AG_VEC_LANES bfloat16, to even between two; no NaN becomes a number. AVX-512 makes
 * zeros of numbers below 2^-126. */
AG_INLINE void ag_vec_store_bf16(uint16_t *halves, ag_vec_f_t v)
{
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i *)(void *)halves, (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    ag_vec_u_t bits = (ag_vec_u_t)v, rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    ag_vec_u_t is_nan = (ag_vec_u_t)((bits & 0x7fffffffu) > 0x7f800000u);

    rounded = (is_nan & (bits >> 16 | 0x40u)) | (~is_nan & rounded);
#if defined(__AVX2__)
    __m256i words = _mm256_packus_epi32((__m256i)rounded, (__m256i)rounded);

    _mm_storeu_si128((__m128i *)(void *)halves,
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
#else
    for (int i = 0; i < AG_VEC_LANES; i++) {
        halves[i] = (uint16_t)rounded[i];
    }
#endif
#endif
}

/** AG_VEC_LANES bytes, unsigned. */
AG_INLINE ag_vec_i_t ag_vec_load_u8(const uint8_t *bytes)
{
#if defined(__AVX512F__)
    return (ag_vec_i_t)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)bytes));
#elif defined(__AVX2__)
    return (ag_vec_i_t)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)bytes));
#else
    return (ag_vec_i_t){bytes[0], bytes[1], bytes[2], bytes[3]};
#endif
}

/** AG_VEC_LANES bytes, signed. */
AG_INLINE ag_vec_f_t ag_vec_load_s8(const int8_t *bytes)
{
#if defined(__AVX512F__)
    return ag_vec_to_f(
        (ag_vec_i_t)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)bytes)));
#elif defined(__AVX2__)
    return ag_vec_to_f(
        (ag_vec_i_t)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)bytes)));
#else
    return ag_vec_to_f((ag_vec_i_t){bytes[0], bytes[1], bytes[2], bytes[3]});
#endif
}

/*
 * Products of unsigned bytes with signed ones in [-127, 127], summed by four without saturating:
 * lane i of the sum gets w[4i] * x[4i] + .. + w[4i + 3] * x[4i + 3].
 */
#if defined(__AVX512VNNI__)
AG_INLINE ag_vec_i_t ag_vec_dot4(ag_vec_i_t sum, ag_vec_b_t w, ag_vec_i_t x)
{
    return (ag_vec_i_t)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
}
#elif defined(__SSE2__) && !defined(__AVX2__)
AG_INLINE ag_vec_i_t ag_vec_dot4(ag_vec_i_t sum, ag_vec_b_t w, ag_vec_i_t x)
{
    const __m128i low = _mm_set1_epi16(255);
    __m128i w_even = _mm_and_si128((__m128i)w, low), w_odd = _mm_srli_epi16((__m128i)w, 8);
    __m128i x_even = _mm_srai_epi16(_mm_slli_epi16((__m128i)x, 8), 8);
    __m128i x_odd = _mm_srai_epi16((__m128i)x, 8);

    return sum + (ag_vec_i_t)_mm_madd_epi16(w_even, x_even) +
           (ag_vec_i_t)_mm_madd_epi16(w_odd, x_odd);
}
#elif !defined(__AVX2__)
AG_INLINE ag_vec_i_t ag_vec_dot4(ag_vec_i_t sum, ag_vec_b_t w, ag_vec_i_t x)
{
    int8_t signed_bytes[AG_VEC_BYTES];

    memcpy(signed_bytes, &x, sizeof(signed_bytes));
    for (int i = 0; i < AG_VEC_BYTES; i++) {
        sum[i / 4] += (int32_t)w[i] * signed_bytes[i];
    }
    return sum;
}
#endif

/**
 * The same over n vectors of weights and n times four bytes of x, for weights of n_bits bits. Sums
 * of eight bits stay exact everywhere: AVX2's sum of two products saturates at 16 bits, so weights
 * of 8 bits are multiplied by their absolute value there (offset 0 below).
 */
AG_INLINE ag_vec_i_t ag_vec_dot(ag_vec_i_t sum, const ag_vec_b_t *w, const int8_t *x, int n,
                                int n_bits)
{
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    /* how many sums of two products 16 bits hold */
    const int most = n_bits > 7 ? 1 : 32767 / (2 * 127 * ((1 << n_bits) - 1));

    for (int i = 0; i < n; i += most) {
        __m256i pairs = _mm256_setzero_si256();

        for (int j = i; j < n && j < i + most; j++) {
            __m256i a = (__m256i)w[j], b = (__m256i)ag_vec_splat_bytes(x + 4 * j);

            if (n_bits > 7) {
                b = _mm256_sign_epi8(b, a);
                a = _mm256_abs_epi8(a);
            }
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(a, b));
        }
        sum += (ag_vec_i_t)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    return sum;
#else
    (void)n_bits;
    for (int i = 0; i < n; i++) {
        sum = ag_vec_dot4(sum, w[i], ag_vec_splat_bytes(x + 4 * i));
    }
    return sum;
#endif
}

/** Whether bytes are held unsigned, as value + 128, by the dot product over 8 bits. */
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
enum { AG_VEC_BYTE_OFFSET = 0 };
#else
enum { AG_VEC_BYTE_OFFSET = 128 };
#endif

/** Products of pairs of bfloat16, summed by two into float32. */
AG_INLINE ag_vec_f_t ag_vec_dot2_bf16(ag_vec_f_t sum, ag_vec_b_t w, ag_vec_i_t x)
{
#if defined(__AVX512BF16__)
    return (ag_vec_f_t)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
#else
    ag_vec_u_t a = (ag_vec_u_t)w, b = (ag_vec_u_t)x;

    sum = ag_vec_fma((ag_vec_f_t)(a << 16), (ag_vec_f_t)(b << 16), sum);
    return ag_vec_fma((ag_vec_f_t)(a & 0xffff0000u), (ag_vec_f_t)(b & 0xffff0000u), sum);
#endif
}

/**
 * e^x, to two units in the last place; 0 below -87, NaN of NaN. Cody and Waite's reduction to
 * |r| <= ln 2 / 2, then Cephes' polynomial.
 */
AG_INLINE ag_vec_f_t ag_vec_exp(ag_vec_f_t x)
{
    ag_vec_f_t least = ag_vec_splat_f(-87.0f), most = ag_vec_splat_f(88.0f);
    ag_vec_i_t seen = ~(x <= least), whole;
    ag_vec_f_t clipped = -ag_vec_max(-most, -ag_vec_max(least, x)), n, r, p;

    whole = ag_vec_round(clipped * 1.44269504f);
    n = ag_vec_to_f(whole);
    r = ag_vec_fma(n, ag_vec_splat_f(-0x1.63p-1f), clipped);
    r = ag_vec_fma(n, ag_vec_splat_f(0x1.bd0106p-13f), r);
    p = ag_vec_splat_f(1.9875691500e-4f);
    p = ag_vec_fma(p, r, ag_vec_splat_f(1.3981999507e-3f));
    p = ag_vec_fma(p, r, ag_vec_splat_f(8.3334519073e-3f));
    p = ag_vec_fma(p, r, ag_vec_splat_f(4.1665795894e-2f));
    p = ag_vec_fma(p, r, ag_vec_splat_f(1.6666665459e-1f));
    p = ag_vec_fma(p, r, ag_vec_splat_f(5.0000001201e-1f));
    p = ag_vec_fma(p, r * r, r + 1.0f);
    return (ag_vec_f_t)((ag_vec_i_t)(p * (ag_vec_f_t)((ag_vec_u_t)(whole + 127) << 23)) & seen);
}

/** To two units in the last place, NaN of NaN: Cephes' polynomial near zero, else by exp(2 |x|). */
AG_INLINE ag_vec_f_t ag_vec_tanh(ag_vec_f_t x)
{
    ag_vec_f_t size = ag_vec_abs(x), square = x * x, near, far;
    ag_vec_i_t sign = (ag_vec_i_t)x & INT32_MIN;

    near = ag_vec_splat_f(-5.70498872745e-3f);
    near = ag_vec_fma(near, square, ag_vec_splat_f(2.06390887954e-2f));
    near = ag_vec_fma(near, square, ag_vec_splat_f(-5.37397155531e-2f));
    near = ag_vec_fma(near, square, ag_vec_splat_f(1.33314422036e-1f));
    near = ag_vec_fma(near, square, ag_vec_splat_f(-3.33332819422e-1f));
    near = ag_vec_fma(near * square, x, x);
    far = 1.0f - 2.0f / (ag_vec_exp(size + size) + 1.0f);
    return ag_vec_choose(size < ag_vec_splat_f(0.625f), near, (ag_vec_f_t)((ag_vec_i_t)far | sign));
}
