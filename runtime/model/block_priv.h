/* What emits a block's nodes into a segment: block.c, and block_experts.c for layers of experts. */
#pragma once

#include "runtime/model/block.h"

/* What a block's emission carries along: the first failure ends it. */
typedef struct ag_emit {
    const ag_block_t *block;
    ag_graph_t *graph;
    int32_t x; /* the buffer that has the residual stream now */
    ag_status_t status;
} ag_emit_t;

ag_emit_t ag_emit_begin(const ag_block_t *block, ag_graph_t *graph);
const ag_spec_t *ag_emit_spec(const ag_emit_t *emit);

/* Values: of any kind, internal ones (tokens, width), the residual stream, this rank's part of what
 * is to be added to it. */
int32_t ag_emit_value(ag_emit_t *emit, ag_counter_t counter, uint32_t width, int32_t buffer);
int32_t ag_emit_internal(ag_emit_t *emit, uint32_t width);
int32_t ag_emit_x(ag_emit_t *emit);
int32_t ag_emit_partial(ag_emit_t *emit);

/** A weight's slice, and rows or columns [begin, end) of a (rows, cols) one. @return a param's
 * number. */
int32_t ag_emit_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, const ag_slice_t *slice);
int32_t ag_emit_rows_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                           uint64_t begin, uint64_t end, uint64_t cols);

int32_t ag_emit_cols_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                           uint64_t cols, uint64_t begin, uint64_t end);

/** Elements [begin, end) of a vector of n; AG_NO_PARAM where the spec has none. */
int32_t ag_emit_vector_param(ag_emit_t *emit, bool present, ag_role_t role, uint32_t layer,
                             uint64_t n, uint64_t begin, uint64_t end);

void ag_emit_node(ag_emit_t *emit, const ag_node_t *node);
void ag_emit_linear(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t weight, int32_t bias,
                    int32_t y);
/** What a part of a layer reads: the residual stream, normed by that role's weight where the layer
 * has norms before its parts. */
int32_t ag_emit_input(ag_emit_t *emit, ag_role_t norm, uint32_t layer);
/** x += what a part of a layer left in partial, normed by that role's weight where the layer has
 * norms after its parts; in training into x_out, which is x then. */
void ag_emit_partial_to_x(ag_emit_t *emit, ag_role_t post_norm, uint32_t layer);

/** What a norm adds to a mean square: those of latent vectors may have their own. */
float ag_emit_norm_eps(const ag_emit_t *emit, ag_role_t role, uint32_t layer);

/** y = norm(x), of (tokens, n_groups * width). */
void ag_emit_norm(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint32_t n_groups,
                  uint32_t width, int32_t x, int32_t y);
/** Of a kind's rope. @return their value */
int32_t ag_emit_angles(ag_emit_t *emit, const ag_layer_spec_t *kind);
/** y = attention of the query heads held; in inference k and v are added to the cache. */
void ag_emit_attention(ag_emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v, int32_t y);
/** That of a layer whose keys and values come from a latent vector. @return (tokens, heads held *
 * size of values) */
int32_t ag_emit_latent_attention(ag_emit_t *emit, uint32_t layer, int32_t x);

/** act(gate) * up of a layer, (counter, width). @return the product's value, in inference gate's */
int32_t ag_emit_glu(ag_emit_t *emit, uint32_t layer, ag_counter_t counter, uint32_t width,
                    int32_t gate, int32_t up);

/** ag_block_ffn() of a layer whose experts one rank holds. */
ag_status_t ag_emit_all_experts(ag_emit_t *emit, uint32_t layer, bool add_partial);
