/*
 * Attention whose keys and values come from a latent vector (DeepSeek-AI 2024), expanded to those
 * of ordinary heads:
 *
 *     q = q_b norm(q_a x), or q x                 of each head: one part, and one that rotates
 *     c = norm(kv_a x), r = what of kv_a x rotates
 *     k = of each head: its part of k_b c, then r, the same for all
 *     v = of each head: its part of v_b c, as long as a key with zeros behind it
 *
 * Every rank makes the latent vectors whole, and of them its own heads.
 */
#include "runtime/model/block_priv.h"

static int32_t add_linear(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t weight,
                          uint32_t width)
{
    int32_t y = ag_emit_internal(emit, width);

    ag_emit_linear(emit, layer, x, weight, AG_NO_PARAM, y);
    return y;
}

/* norm(rows [0, rank) of a weight times x) */
static int32_t add_latent(ag_emit_t *emit, ag_role_t role, ag_role_t norm, uint32_t layer,
                          uint32_t rows, uint32_t rank, int32_t x)
{
    int32_t weight =
        ag_emit_rows_param(emit, role, layer, rows, 0, rank, ag_emit_spec(emit)->hidden);
    int32_t made = add_linear(emit, layer, x, weight, rank);
    int32_t normed = emit->block->trains ? ag_emit_internal(emit, rank) : made;

    ag_emit_norm(emit, norm, layer, 1, rank, made, normed);
    return normed;
}

static void add_rope(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t angles, uint32_t n_heads,
                     uint32_t head_dim)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ROPE,
                                    .layer = layer,
                                    .in = {x, angles},
                                    .out = x,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.rope = {.n_heads = n_heads,
                                                  .head_dim = head_dim,
                                                  .rotary = kind->rope.rotary,
                                                  .begin = head_dim - kind->rope.rotary,
                                                  .by_turns = kind->rope_by_turns}});
}

static void add_columns(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t y,
                        const ag_head_columns_t *columns)
{
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_HEAD_COLUMNS,
                                    .layer = layer,
                                    .in = {x, AG_NO_VALUE},
                                    .out = y,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.head_columns = *columns});
}

static int32_t add_queries(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t angles,
                           uint32_t begin, uint32_t end)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    uint64_t dim = kind->head_dim;
    uint32_t cols = kind->q_rank > 0 ? kind->q_rank : spec->hidden;
    int32_t from = x, weight, q;

    if (kind->q_rank > 0) {
        from =
            add_latent(emit, AG_ROLE_Q_A, AG_ROLE_Q_A_NORM, layer, kind->q_rank, kind->q_rank, x);
    }
    weight = ag_emit_rows_param(emit, kind->q_rank > 0 ? AG_ROLE_Q_B : AG_ROLE_Q, layer,
                                kind->n_heads * dim, begin * dim, end * dim, cols);
    q = add_linear(emit, layer, from, weight, (uint32_t)((end - begin) * dim));
    add_rope(emit, layer, q, angles, end - begin, kind->head_dim);
    return q;
}

/* What of keys rotates. */
static int32_t add_rotating_keys(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t angles)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    uint32_t rows = kind->kv_rank + kind->rope.rotary;
    int32_t weight = ag_emit_rows_param(emit, AG_ROLE_KV_A, layer, rows, kind->kv_rank, rows,
                                        ag_emit_spec(emit)->hidden);
    int32_t keys = add_linear(emit, layer, x, weight, kind->rope.rotary);

    add_rope(emit, layer, keys, angles, 1, kind->rope.rotary);
    return keys;
}

/* What of the latent vector belongs to the heads held, so many columns of each. */
static int32_t add_heads(ag_emit_t *emit, uint32_t layer, ag_role_t role, int32_t latent,
                         uint64_t columns)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    int32_t weight =
        ag_emit_rows_param(emit, role, layer, kind->n_heads * columns, held->head_begin * columns,
                           held->head_end * columns, kind->kv_rank);

    return add_linear(emit, layer, latent, weight,
                      (uint32_t)((held->head_end - held->head_begin) * columns));
}

int32_t ag_emit_latent_attention(ag_emit_t *emit, uint32_t layer, int32_t x)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    uint32_t n = held->head_end - held->head_begin, dim = kind->head_dim;
    uint32_t rotary = kind->rope.rotary, part = dim - rotary, values = ag_layer_value_dim(kind);
    int32_t made = ag_emit_internal(emit, n * values);
    int32_t q, k, v, y, latent, rotating, keys, heads_values, angles;

    if (n == 0) {
        return made;
    }
    k = ag_emit_internal(emit, n * dim);
    v = ag_emit_internal(emit, n * dim);
    y = ag_emit_internal(emit, n * dim);
    angles = ag_emit_angles(emit, kind);
    q = add_queries(emit, layer, x, angles, held->head_begin, held->head_end);
    latent = add_latent(emit, AG_ROLE_KV_A, AG_ROLE_KV_A_NORM, layer, kind->kv_rank + rotary,
                        kind->kv_rank, x);
    rotating = add_rotating_keys(emit, layer, x, angles);
    keys = add_heads(emit, layer, AG_ROLE_K_B, latent, part);
    heads_values = add_heads(emit, layer, AG_ROLE_V_B, latent, values);
    add_columns(emit, layer, keys, k,
                &(ag_head_columns_t){.n_heads = n, .x_dim = part, .y_dim = dim, .n = part});
    add_columns(emit, layer, rotating, k,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = rotary,
                                     .y_dim = dim,
                                     .y_begin = part,
                                     .n = rotary,
                                     .x_is_shared = true,
                                     .keeps = true});
    add_columns(emit, layer, heads_values, v,
                &(ag_head_columns_t){.n_heads = n, .x_dim = values, .y_dim = dim, .n = values});
    ag_emit_attention(emit, layer, q, k, v, y);
    add_columns(emit, layer, y, made,
                &(ag_head_columns_t){.n_heads = n, .x_dim = dim, .y_dim = values, .n = values});
    return made;
}
