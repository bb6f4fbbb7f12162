/*
 * Attention whose keys and values come from a latent vector (DeepSeek-AI 2024):
 *
 *     q = q_b norm(q_a x), or q x                 of each head: one part, and one that rotates
 *     c = norm(kv_a x), r = what of kv_a x rotates
 *
 * Training expands them to those of ordinary heads:
 *
 *     k = of each head: its part of k_b c, then r, the same for all
 *     v = of each head: its part of v_b c, as long as a key with zeros behind it
 *
 * Elsewhere the cache has c and r alone, once for all heads, and k_b and v_b go to the other side
 * of attention: q (k_b c) = (q k_b) c, and what is gathered of values is v_b times what is gathered
 * of latent vectors:
 *
 *     q' = of each head: k_b^T times its first part, then the one that rotates
 *     y  = of each head: v_b times attention of q' over keys (c, r), of which c are the values
 *
 * Every rank makes the latent vectors whole, and of them its own heads.
 */
#include "runtime/model/block_priv.h"

/* What a layer's heads are made of. */
typedef struct heads {
    const ag_layer_spec_t *kind;
    uint32_t layer, begin, end, n;  /* of the heads held */
    uint32_t dim, part, rotary;     /* of a key: all, made of the latent vector, rotating */
    uint32_t values, rank, latents; /* of a value, of the latent vector, of it and what rotates */
} heads_t;

static heads_t heads_of(const ag_emit_t *emit, uint32_t layer)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];

    return (heads_t){.kind = kind,
                     .layer = layer,
                     .begin = held->head_begin,
                     .end = held->head_end,
                     .n = held->head_end - held->head_begin,
                     .dim = kind->head_dim,
                     .part = kind->head_dim - kind->rope.rotary,
                     .rotary = kind->rope.rotary,
                     .values = ag_layer_value_dim(kind),
                     .rank = kind->kv_rank,
                     .latents = kind->kv_rank + kind->rope.rotary};
}

static int32_t add_linear(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t weight,
                          uint32_t width)
{
    int32_t y = ag_emit_internal(emit, width);

    ag_emit_linear(emit, layer, x, weight, AG_NO_PARAM, y);
    return y;
}

float ag_emit_norm_eps(const ag_emit_t *emit, ag_role_t role, uint32_t layer)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    bool of_latent = role == AG_ROLE_Q_A_NORM || role == AG_ROLE_KV_A_NORM;
    float own = of_latent ? ag_spec_layer(spec, layer)->latent_norm_eps : 0;

    return own > 0 ? own : spec->norm_eps;
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

static int32_t add_queries(ag_emit_t *emit, const heads_t *heads, int32_t x, int32_t angles)
{
    const ag_layer_spec_t *kind = heads->kind;
    uint64_t dim = heads->dim;
    uint32_t cols = kind->q_rank > 0 ? kind->q_rank : ag_emit_spec(emit)->hidden;
    uint32_t layer = heads->layer;
    int32_t from = x, weight, q;

    if (kind->q_rank > 0) {
        from =
            add_latent(emit, AG_ROLE_Q_A, AG_ROLE_Q_A_NORM, layer, kind->q_rank, kind->q_rank, x);
    }
    weight = ag_emit_rows_param(emit, kind->q_rank > 0 ? AG_ROLE_Q_B : AG_ROLE_Q, layer,
                                kind->n_heads * dim, heads->begin * dim, heads->end * dim, cols);
    q = add_linear(emit, layer, from, weight, (uint32_t)(heads->n * dim));
    add_rope(emit, layer, q, angles, heads->n, heads->dim);
    return q;
}

/* What of keys rotates. */
static int32_t add_rotating_keys(ag_emit_t *emit, const heads_t *heads, int32_t x, int32_t angles)
{
    int32_t weight = ag_emit_rows_param(emit, AG_ROLE_KV_A, heads->layer, heads->latents,
                                        heads->rank, heads->latents, ag_emit_spec(emit)->hidden);
    int32_t keys = add_linear(emit, heads->layer, x, weight, heads->rotary);

    add_rope(emit, heads->layer, keys, angles, 1, heads->rotary);
    return keys;
}

/* What of the latent vector belongs to the heads held, so many columns of each. */
static int32_t add_expanded(ag_emit_t *emit, const heads_t *heads, ag_role_t role, int32_t latent,
                            uint64_t columns)
{
    int32_t weight = ag_emit_rows_param(emit, role, heads->layer, heads->kind->n_heads * columns,
                                        heads->begin * columns, heads->end * columns, heads->rank);

    return add_linear(emit, heads->layer, latent, weight, (uint32_t)(heads->n * columns));
}

/* Attention of ordinary heads. */
static int32_t add_expanded_attention(ag_emit_t *emit, const heads_t *heads, int32_t q,
                                      int32_t latent, int32_t rotating)
{
    uint32_t n = heads->n, dim = heads->dim, part = heads->part, values = heads->values;
    int32_t k = ag_emit_internal(emit, n * dim), v = ag_emit_internal(emit, n * dim);
    int32_t y = ag_emit_internal(emit, n * dim), made = ag_emit_internal(emit, n * values);

    add_columns(emit, heads->layer, add_expanded(emit, heads, AG_ROLE_K_B, latent, part), k,
                &(ag_head_columns_t){.n_heads = n, .x_dim = part, .y_dim = dim, .n = part});
    add_columns(emit, heads->layer, rotating, k,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->rotary,
                                     .y_dim = dim,
                                     .y_begin = part,
                                     .n = heads->rotary,
                                     .x_is_shared = true,
                                     .keeps = true});
    add_columns(emit, heads->layer, add_expanded(emit, heads, AG_ROLE_V_B, latent, values), v,
                &(ag_head_columns_t){.n_heads = n, .x_dim = values, .y_dim = dim, .n = values});
    ag_emit_attention(emit, heads->layer, q, k, v, y);
    add_columns(emit, heads->layer, y, made,
                &(ag_head_columns_t){.n_heads = n, .x_dim = dim, .y_dim = values, .n = values});
    return made;
}

/* Each head's rows, (heads, tokens, k) or as one value (tokens, heads * k), by weights of its own
 * (n, k). */
static int32_t add_head_linear(ag_emit_t *emit, const heads_t *heads, int32_t x, int32_t weight,
                               uint32_t width)
{
    int32_t y = ag_emit_internal(emit, heads->n * width);

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_HEAD_LINEAR,
                                    .layer = heads->layer,
                                    .in = {x, AG_NO_VALUE},
                                    .out = y,
                                    .weight = weight,
                                    .bias = AG_NO_PARAM,
                                    .attr.groups.n_groups = heads->n});
    return y;
}

/* The weights of each head held, one after the other: (rows, cols) of it. @return the first. */
static int32_t add_head_params(ag_emit_t *emit, const heads_t *heads, ag_role_t role, uint64_t rows,
                               uint64_t cols, bool is_turned)
{
    uint32_t n_heads = heads->kind->n_heads;
    int32_t first = AG_NO_PARAM;

    for (uint32_t h = heads->begin; h < heads->end; h++) {
        int32_t param = ag_emit_param(emit, role, heads->layer,
                                      &(ag_slice_t){.rows = n_heads * rows,
                                                    .cols = cols,
                                                    .row_begin = h * rows,
                                                    .row_end = (h + 1) * rows,
                                                    .col_end = cols,
                                                    .n_turned = is_turned ? n_heads : 0});

        first = h == heads->begin ? param : first;
    }
    return first;
}

/* (tokens, heads * latents): k_b^T q, then what of q rotates */
static int32_t add_latent_queries(ag_emit_t *emit, const heads_t *heads, int32_t q)
{
    uint32_t n = heads->n;
    int32_t by_head = ag_emit_internal(emit, n * heads->part), made;
    int32_t queries = ag_emit_internal(emit, n * heads->latents);
    int32_t weight = add_head_params(emit, heads, AG_ROLE_K_B, heads->rank, heads->part, true);

    add_columns(emit, heads->layer, q, by_head,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->dim,
                                     .y_dim = heads->part,
                                     .n = heads->part,
                                     .y_by_head = true});
    made = add_head_linear(emit, heads, by_head, weight, heads->rank);
    add_columns(emit, heads->layer, made, queries,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->rank,
                                     .y_dim = heads->latents,
                                     .n = heads->rank,
                                     .x_by_head = true});
    add_columns(emit, heads->layer, q, queries,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->dim,
                                     .y_dim = heads->latents,
                                     .x_begin = heads->part,
                                     .y_begin = heads->rank,
                                     .n = heads->rotary,
                                     .keeps = true});
    return queries;
}

/* (tokens, heads * rank): attention over the cache of latent vectors, to which this step's go */
static int32_t add_latent_sums(ag_emit_t *emit, const heads_t *heads, int32_t queries,
                               int32_t latent, int32_t rotating)
{
    int32_t sums = ag_emit_internal(emit, heads->n * heads->rank);
    uint32_t cache = heads->layer - emit->block->first_layer;

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_KV_APPEND,
                                    .layer = cache,
                                    .in = {latent, rotating},
                                    .out = AG_NO_VALUE,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.kv = {.n_kv_heads = 1,
                                                .head_dim = heads->latents,
                                                .value_dim = heads->rank}});
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ATTENTION,
                                    .layer = cache,
                                    .in = {queries, AG_NO_VALUE},
                                    .out = sums,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.attention = {
                                        .args = {.n_heads = heads->n,
                                                 .scale = heads->kind->attention_scale,
                                                 .window_tokens = heads->kind->window_tokens,
                                                 .score_cap = heads->kind->score_cap},
                                        .n_kv_heads = 1,
                                        .head_dim = heads->latents,
                                        .value_dim = heads->rank,
                                        .sight = ag_emit_spec(emit)->kind_of_layer[heads->layer]}});
    return sums;
}

static int32_t add_absorbed_attention(ag_emit_t *emit, const heads_t *heads, int32_t q,
                                      int32_t latent, int32_t rotating)
{
    uint32_t n = heads->n;
    int32_t queries = add_latent_queries(emit, heads, q);
    int32_t sums = add_latent_sums(emit, heads, queries, latent, rotating);
    int32_t by_head = ag_emit_internal(emit, n * heads->rank), y;
    int32_t made = ag_emit_internal(emit, n * heads->values);
    int32_t weight = add_head_params(emit, heads, AG_ROLE_V_B, heads->values, heads->rank, false);

    add_columns(emit, heads->layer, sums, by_head,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->rank,
                                     .y_dim = heads->rank,
                                     .n = heads->rank,
                                     .y_by_head = true});
    y = add_head_linear(emit, heads, by_head, weight, heads->values);
    add_columns(emit, heads->layer, y, made,
                &(ag_head_columns_t){.n_heads = n,
                                     .x_dim = heads->values,
                                     .y_dim = heads->values,
                                     .n = heads->values,
                                     .x_by_head = true});
    return made;
}

int32_t ag_emit_latent_attention(ag_emit_t *emit, uint32_t layer, int32_t x)
{
    heads_t heads = heads_of(emit, layer);
    int32_t q, latent, rotating, angles;

    if (heads.n == 0) {
        return ag_emit_internal(emit, 0);
    }
    angles = ag_emit_angles(emit, heads.kind);
    q = add_queries(emit, &heads, x, angles);
    latent = add_latent(emit, AG_ROLE_KV_A, AG_ROLE_KV_A_NORM, layer, heads.latents, heads.rank, x);
    rotating = add_rotating_keys(emit, &heads, x, angles);
    return (emit->block->trains ? add_expanded_attention
                                : add_absorbed_attention)(emit, &heads, q, latent, rotating);
}
