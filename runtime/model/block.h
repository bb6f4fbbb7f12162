/*
 * The only place that knows a transformer: a spec and a shard become segments. Of a layer, "norm"
 * and "+=" are as its kind says: norm(x) is x where it has no norms before its parts, and where it
 * has norms after them, x += partial is x += norm(partial), which stands behind the sum over the
 * ranks.
 */
#pragma once

#include "runtime/model/params.h"

/* Where a segment is written to, and the program's buffers it works on. */
typedef struct ag_block {
    const ag_model_t *model;
    const ag_shard_t *shard;
    ag_params_t *params;
    int32_t x;       /* (tokens, hidden): the residual stream */
    int32_t partial; /* (tokens, hidden): this rank's part of what is to be added to it */
    int32_t logits;  /* (outputs, vocabulary held) */
    /* of a layer whose experts several ranks hold: */
    int32_t routes;          /* (tokens, route) which experts each row uses */
    int32_t n_sent;          /* (1, places) copies of this rank's rows for each */
    int32_t sent;            /* (copies, hidden) those */
    int32_t n_received;      /* (ranks of the stage, experts held) */
    int32_t received;        /* (copies, hidden) those */
    int32_t results;         /* (copies, hidden) of this rank's experts; in inference received */
    int32_t returned;        /* (copies, hidden) of this rank's rows; in inference sent */
    uint32_t context_tokens; /* that sequences may have: some ropes differ by it */
    uint32_t first_layer;    /* of the stage: its KV cache is number 0 */
    uint32_t last_layer;     /* of the stage, or chunk: what ag_block_add() adds is of it */
    /* Training writes no value over one that gradients read, and keeps no cache. */
    bool trains;
    bool rounds;        /* logits are bfloat16 */
    int32_t x_out;      /* (tokens, hidden): where x + partial goes; in inference that is x */
    int32_t statistics; /* (outputs, parts of the vocabulary): of the logits */
    int32_t loss;       /* (1, a double): the sum of losses, added to */
} ag_block_t;

/** x = this rank's part of the embedding rows; to be summed over the ranks. */
ag_status_t ag_block_embed(const ag_block_t *block, ag_graph_t *graph);

/** partial = attention of layer over norm(x); with add_partial, x += partial comes first. */
ag_status_t ag_block_attention(const ag_block_t *block, uint32_t layer, bool add_partial,
                               ag_graph_t *graph);

/** Does the layer have experts, and do several ranks of the stage share them out? Then the next
 * three take ag_block_ffn()'s place. */
bool ag_block_is_spread(const ag_block_t *block, uint32_t layer);

/** sent = copies of this rank's rows of norm(x), for whom their routes say; with add_partial,
 * x += partial comes first. Where an expert is shared, partial = this rank's part of a sum over the
 * stage's ranks. */
ag_status_t ag_block_route(const ag_block_t *block, uint32_t layer, bool add_partial,
                           ag_graph_t *graph);

/** results = what this rank's experts make of received. */
ag_status_t ag_block_experts(const ag_block_t *block, uint32_t layer, ag_graph_t *graph);

/** This rank's rows of partial = the sums of their results in returned, or are added to. */
ag_status_t ag_block_combine(const ag_block_t *block, uint32_t layer, ag_graph_t *graph);

/** partial = feed-forward of layer over norm(x); with add_partial, x += partial comes first. */
ag_status_t ag_block_ffn(const ag_block_t *block, uint32_t layer, bool add_partial,
                         ag_graph_t *graph);

/** x += partial, which attention of a layer made, or its feed-forward part. */
ag_status_t ag_block_add_attention(const ag_block_t *block, uint32_t layer, ag_graph_t *graph);
ag_status_t ag_block_add_ffn(const ag_block_t *block, uint32_t layer, ag_graph_t *graph);

/** The latter of the last layer: what a stage hands on is whole. */
ag_status_t ag_block_add(const ag_block_t *block, ag_graph_t *graph);

/** x += partial of the last layer; logits = the head over norm(x's rows that are asked for). In
 * training x is whole before, and this rank's statistics of the logits follow. */
ag_status_t ag_block_head(const ag_block_t *block, ag_graph_t *graph);

/** Training: from the statistics of all ranks, the losses' sum; logits become their gradient. */
ag_status_t ag_block_loss(const ag_block_t *block, ag_graph_t *graph);
