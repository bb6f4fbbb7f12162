/* From logits to a token. The order of the steps is transformers': penalty, temperature, k, p,
 * min-p. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct ag_sampling {
    double temperature; /* 0 = greedy: the largest logit, the lowest id among equals */
    uint32_t top_k;     /* 0 = all */
    double top_p;       /* 0 or 1 = all: smallest set of at least this probability */
    double min_p;       /* 0 = all: at least this fraction of the most likely one's probability */
    double repeat_penalty; /* 0 or 1 = none: logits of tokens seen are divided (or, below zero,
                              multiplied) by it: Keskar et al. 2019 */
    uint64_t seed;
} ag_sampling_t;

typedef struct ag_sampler ag_sampler_t;

ag_status_t ag_sampler_create(uint32_t vocab, const ag_sampling_t *sampling,
                              ag_sampler_t **sampler_p);
void ag_sampler_destroy(ag_sampler_t *sampler); /* NULL is allowed */

/**
 * Turn to a sequence, which draws from stream number `stream` of the seed: the tokens of another
 * one are forgotten. Sequences share a sampler, one after the other, each with all its tokens.
 */
void ag_sampler_begin(ag_sampler_t *sampler, uint64_t stream);

/** Tokens (n) that are part of the sequence, for the repeat penalty; nothing where there is none.
 */
void ag_sampler_see(ag_sampler_t *sampler, const int32_t *ids, size_t n);

/** Choose among logits (vocab); draw number `index` of the stream. Not-a-number logits:
 * AG_ERR_FORMAT. */
ag_status_t ag_sampler_pick(ag_sampler_t *sampler, const float *logits, uint64_t index,
                            int32_t *id_p);

/** Bytes that a sampler takes. */
uint64_t ag_sampler_bytes(uint32_t vocab);
