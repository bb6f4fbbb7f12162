/*
 * Philox4x32-10: a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011). The same (key, counter) gives the same bits on any layout.
 */
#pragma once

#include <stdint.h>

/** Four random words for one counter. */
void ag_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4]);

/** A double in [0, 1) for element `index` of stream `stream` under `seed`. */
double ag_philox_uniform(uint64_t seed, uint64_t stream, uint64_t index);
