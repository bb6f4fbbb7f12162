/* FNV-1a, 64 bits (Fowler, Noll, Vo): for fingerprints that strangers do not attack. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define AG_HASH_SEED 0xcbf29ce484222325ull

static inline uint64_t ag_hash_bytes(uint64_t hash, const void *bytes, size_t n_bytes)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < n_bytes; i++) {
        hash = (hash ^ byte[i]) * 0x100000001b3ull;
    }
    return hash;
}

/** Spread the bits of a key over all of it (MurmurHash3's finalizer). */
static inline uint64_t ag_hash_mix(uint64_t key)
{
    key ^= key >> 33;
    key *= 0xff51afd7ed558ccdull;
    key ^= key >> 33;
    key *= 0xc4ceb9fe1a85ec53ull;
    return key ^ key >> 33;
}
