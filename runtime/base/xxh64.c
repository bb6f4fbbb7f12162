/* https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, XXH64; the names are its. */
#include "runtime/base/xxh64.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are read as they lie in memory"
#endif

static const uint64_t PRIME_1 = 0x9E3779B185EBCA87u, PRIME_2 = 0xC2B2AE3D27D4EB4Fu,
                      PRIME_3 = 0x165667B19E3779F9u, PRIME_4 = 0x85EBCA77C2B2AE63u,
                      PRIME_5 = 0x27D4EB2F165667C5u;

enum { LANES = 4, STRIPE_BYTES = 32 };

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static uint64_t read_64(const unsigned char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static uint64_t read_32(const unsigned char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static uint64_t round_of(uint64_t acc, uint64_t lane)
{
    return rotate(acc + lane * PRIME_2, 31) * PRIME_1;
}

static uint64_t finish(uint64_t acc, const unsigned char *at, size_t n_bytes)
{
    for (; n_bytes >= 8; at += 8, n_bytes -= 8) {
        acc = rotate(acc ^ round_of(0, read_64(at)), 27) * PRIME_1 + PRIME_4;
    }
    if (n_bytes >= 4) {
        acc = rotate(acc ^ read_32(at) * PRIME_1, 23) * PRIME_2 + PRIME_3;
        at += 4;
        n_bytes -= 4;
    }
    for (; n_bytes > 0; at++, n_bytes--) {
        acc = rotate(acc ^ *at * PRIME_5, 11) * PRIME_1;
    }
    acc = (acc ^ acc >> 33) * PRIME_2;
    acc = (acc ^ acc >> 29) * PRIME_3;
    return acc ^ acc >> 32;
}

uint64_t ag_xxh64(const void *bytes, size_t n_bytes)
{
    const unsigned char *at = bytes;
    uint64_t acc[LANES] = {PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1}, sum = PRIME_5;
    size_t left = n_bytes;

    for (; left >= STRIPE_BYTES; at += STRIPE_BYTES, left -= STRIPE_BYTES) {
        for (int i = 0; i < LANES; i++) {
            acc[i] = round_of(acc[i], read_64(at + 8 * i));
        }
    }
    if (n_bytes >= STRIPE_BYTES) {
        sum = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) + rotate(acc[3], 18);
        for (int i = 0; i < LANES; i++) {
            sum = (sum ^ round_of(0, acc[i])) * PRIME_1 + PRIME_4;
        }
    }
    return finish(sum + n_bytes, at, left);
}
