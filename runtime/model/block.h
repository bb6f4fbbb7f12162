/* The only place that knows a transformer: a spec and a shard become segments. */
#pragma once

#include "runtime/model/params.h"

/* Where a segment is written to, and the program's buffers it works on. */
typedef struct ag_block {
    const ag_model_t *model;
    const ag_shard_t *shard;
    ag_params_t *params;
    int32_t x;            /* (tokens, hidden): the residual stream */
    int32_t partial;      /* (tokens, hidden): this rank's part of what is to be added to it */
    int32_t logits;       /* (outputs, vocabulary held) */
    uint32_t first_layer; /* of the stage: its KV cache is number 0 */
} ag_block_t;

/** x = this rank's part of the embedding rows; to be summed over the ranks. */
ag_status_t ag_block_embed(const ag_block_t *block, ag_graph_t *graph);

/** partial = attention of layer over norm(x); with add_partial, x += partial comes first. */
ag_status_t ag_block_attention(const ag_block_t *block, uint32_t layer, bool add_partial,
                               ag_graph_t *graph);

/** x += partial; partial = feed-forward of layer over norm(x). */
ag_status_t ag_block_ffn(const ag_block_t *block, uint32_t layer, ag_graph_t *graph);

/** x += partial: what a stage hands on is whole. */
ag_status_t ag_block_add(const ag_block_t *block, ag_graph_t *graph);

/** x += partial; logits = the head over norm(x's rows that are asked for). */
ag_status_t ag_block_head(const ag_block_t *block, ag_graph_t *graph);
