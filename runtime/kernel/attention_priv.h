/* What attention by rows and attention by parts of the positions share. */
#pragma once

#include <math.h>

#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

/* A piece of work, and this thread's scratch cut up. */
typedef struct ag_attention_piece {
    uint32_t sequence, kv_head, head_begin, head_end;
    uint64_t row_begin, row_end;
    float *keys, *values; /* (block_tokens, head_dim) */
    float *scores;        /* (block_tokens) */
    float *gathered;      /* (rows, heads, value size) */
    float *maximum, *sum; /* (rows, heads) */
    /* what this thread will attend to after the piece, to be called near: a span of a KV head of
     * the same sequence; past the last position there is none */
    uint32_t next_head, next_first;
} ag_attention_piece_t;

/** The first position that a row sees. */
static inline uint32_t ag_attention_first(const ag_attention_t *attention, int32_t position)
{
    uint32_t window = attention->window_tokens, n = (uint32_t)position + 1;

    return window == 0 || n <= window ? 0 : n - window;
}

/** A head's sink, weighed against the largest score so far; 0 where there is none. */
static inline float ag_attention_sink(const ag_attention_t *attention, uint64_t head, float maximum)
{
    return attention->sinks == NULL ? 0 : expf(attention->sinks[head] - maximum);
}

/** Cut a thread's scratch up. @param piece  out, at no row yet; NULL: only the size. @return bytes.
 */
size_t ag_attention_split_scratch(const ag_attention_t *attention, const ag_kv_t *kv,
                                  float *scratch, ag_attention_piece_t *piece);

/** Move a piece to the next tile of the step: rows of one sequence. False: there is none. */
bool ag_attention_next_tile(const ag_step_t *step, ag_attention_piece_t *piece);

/** The query heads that use the piece's KV head: consecutive. */
void ag_attention_find_heads(const ag_attention_t *attention, ag_attention_piece_t *piece);

/** The piece's rows and heads against positions [begin, end); begin is a span's first. Of a row
 * that sees none of them the sum is 0 and the maximum -infinity. */
void ag_attention_run(const ag_kernel_context_t *context, const ag_attention_t *attention,
                      const ag_kv_t *kv, const ag_attention_piece_t *piece, const float *q,
                      uint32_t begin, uint32_t end);
