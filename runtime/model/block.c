/* It branches on the spec's fields, never on a family. */
#include "runtime/model/block_priv.h"

ag_emit_t ag_emit_begin(const ag_block_t *block, ag_graph_t *graph)
{
    return (ag_emit_t){.block = block, .graph = graph, .x = block->x, .status = AG_OK};
}

const ag_spec_t *ag_emit_spec(const ag_emit_t *emit)
{
    return emit->block->model->spec;
}

int32_t ag_emit_value(ag_emit_t *emit, ag_counter_t counter, uint32_t width, int32_t buffer)
{
    int32_t number = ag_graph_value(emit->graph, counter, width, buffer);

    if (number < 0 && emit->status == AG_OK) {
        emit->status = ag_fail_nomem("building a segment", sizeof(ag_value_t));
    }
    return number;
}

int32_t ag_emit_internal(ag_emit_t *emit, uint32_t width)
{
    return ag_emit_value(emit, AG_COUNT_TOKENS, width, AG_INTERNAL);
}

int32_t ag_emit_x(ag_emit_t *emit)
{
    return ag_emit_value(emit, AG_COUNT_TOKENS, ag_emit_spec(emit)->hidden, emit->x);
}

int32_t ag_emit_partial(ag_emit_t *emit)
{
    return ag_emit_value(emit, AG_COUNT_TOKENS, ag_emit_spec(emit)->hidden, emit->block->partial);
}

void ag_emit_node(ag_emit_t *emit, const ag_node_t *node)
{
    if (emit->status == AG_OK) {
        emit->status = ag_graph_add(emit->graph, node, ag_params_held(emit->block->params));
    }
}

void ag_emit_linear(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t weight, int32_t bias,
                    int32_t y)
{
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_LINEAR,
                                    .layer = layer,
                                    .in = {x, AG_NO_VALUE},
                                    .out = y,
                                    .weight = weight,
                                    .bias = bias});
}

/* AG_N_ROLES: it has none. */
static ag_role_t bias_of_norm(ag_role_t norm)
{
    switch (norm) {
    case AG_ROLE_ATTN_NORM:
        return AG_ROLE_ATTN_NORM_BIAS;
    case AG_ROLE_FFN_NORM:
        return AG_ROLE_FFN_NORM_BIAS;
    case AG_ROLE_FINAL_NORM:
        return AG_ROLE_FINAL_NORM_BIAS;
    default:
        return AG_N_ROLES;
    }
}

void ag_emit_norm(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint32_t n_groups,
                  uint32_t width, int32_t x, int32_t y)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    ag_role_t bias = bias_of_norm(role);
    bool has_bias = spec->norm_bias && bias != AG_N_ROLES;
    float eps = ag_emit_norm_eps(emit, role, layer);

    ag_emit_node(
        emit,
        &(ag_node_t){.kind = AG_NODE_NORM,
                     .layer = layer,
                     .in = {x, AG_NO_VALUE},
                     .out = y,
                     .weight = ag_emit_vector_param(emit, true, role, layer, width, 0, width),
                     .bias = ag_emit_vector_param(emit, has_bias, bias, layer, width, 0, width),
                     .attr.norm = {.kind = spec->norm_kind, .eps = eps, .n_groups = n_groups}});
}

int32_t ag_emit_input(ag_emit_t *emit, ag_role_t norm, uint32_t layer)
{
    uint32_t hidden = ag_emit_spec(emit)->hidden;
    int32_t x = ag_emit_x(emit), y = x;

    if (ag_spec_layer(ag_emit_spec(emit), layer)->norms_before) {
        y = ag_emit_internal(emit, hidden);
        ag_emit_norm(emit, norm, layer, 1, hidden, x, y);
    }
    return y;
}

void ag_emit_partial_to_x(ag_emit_t *emit, ag_role_t post_norm, uint32_t layer)
{
    uint32_t hidden = ag_emit_spec(emit)->hidden;
    int32_t x = ag_emit_x(emit), added = ag_emit_partial(emit);

    if (ag_spec_layer(ag_emit_spec(emit), layer)->norms_after) {
        added = ag_emit_internal(emit, hidden);
        ag_emit_norm(emit, post_norm, layer, 1, hidden, ag_emit_partial(emit), added);
    }
    emit->x = emit->block->trains ? emit->block->x_out : emit->x;
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ADD,
                                    .in = {x, added},
                                    .out = ag_emit_x(emit),
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM});
}

/* x += rows of the positions */
static void add_positions(ag_emit_t *emit)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    int32_t x = ag_emit_x(emit), rows = ag_emit_internal(emit, spec->hidden);

    ag_emit_node(emit,
                 &(ag_node_t){.kind = AG_NODE_EMBED,
                              .in = {AG_NO_VALUE, AG_NO_VALUE},
                              .out = rows,
                              .weight = ag_emit_param(emit, AG_ROLE_POSITIONS, 0,
                                                      &(ag_slice_t){.rows = spec->n_positions,
                                                                    .cols = spec->hidden,
                                                                    .row_end = spec->n_positions,
                                                                    .col_end = spec->hidden,
                                                                    .is_looked_up = true}),
                              .bias = AG_NO_PARAM,
                              .attr.embed = {.scale = 1, .by_position = true}});
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ADD,
                                    .in = {x, rows},
                                    .out = x,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM});
}

ag_status_t ag_block_embed(const ag_block_t *block, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_spec_t *spec = ag_emit_spec(&emit);
    const ag_shard_t *shard = block->shard;
    int32_t table = ag_emit_param(&emit, AG_ROLE_EMBED, 0,
                                  &(ag_slice_t){.rows = spec->vocab,
                                                .cols = spec->hidden,
                                                .row_begin = shard->vocab_begin,
                                                .row_end = shard->vocab_end,
                                                .col_end = spec->hidden,
                                                .is_looked_up = true});

    ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_EMBED,
                                     .in = {AG_NO_VALUE, AG_NO_VALUE},
                                     .out = ag_emit_x(&emit),
                                     .weight = table,
                                     .bias = AG_NO_PARAM,
                                     .attr.embed = {.vocab_begin = shard->vocab_begin,
                                                    .scale = spec->embed_scale}});
    if (spec->n_positions > 0 &&
        shard->stage_index == 0) { /* of a sum over the ranks one adds them */
        add_positions(&emit);
    }
    return emit.status;
}

static int32_t add_heads(ag_emit_t *emit, ag_role_t role, ag_role_t bias_role, bool has_bias,
                         uint32_t layer, int32_t x, uint32_t n_heads, uint32_t begin, uint32_t end)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    uint64_t head_dim = ag_spec_layer(spec, layer)->head_dim;
    int32_t y = ag_emit_internal(emit, (uint32_t)((end - begin) * head_dim));
    int32_t weight = ag_emit_rows_param(emit, role, layer, n_heads * head_dim, begin * head_dim,
                                        end * head_dim, spec->hidden);
    int32_t bias = ag_emit_vector_param(emit, has_bias, bias_role, layer, n_heads * head_dim,
                                        begin * head_dim, end * head_dim);

    ag_emit_linear(emit, layer, x, weight, bias, y);
    return y;
}

/*
 * Queries or keys of this rank's heads, normed. A norm over all heads needs them all: every rank
 * computes them, and takes its own of what comes out. That costs each rank the whole projection,
 * and no exchange in the midst of attention.
 */
static int32_t add_normed_heads(ag_emit_t *emit, ag_role_t role, ag_role_t bias_role,
                                ag_role_t norm, bool has_bias, uint32_t layer, int32_t x,
                                uint32_t n_heads, uint32_t begin, uint32_t end)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    bool whole = kind->qk_norm == AG_QK_NORM_WHOLE;
    uint32_t first = whole ? 0 : begin, n = whole ? n_heads : end - begin;
    int32_t made = add_heads(emit, role, bias_role, has_bias, layer, x, n_heads, first, first + n);
    int32_t normed, own;

    if (kind->qk_norm == AG_QK_NORM_NONE) {
        return made;
    }
    normed = emit->block->trains ? ag_emit_internal(emit, n * kind->head_dim) : made;
    ag_emit_norm(emit, norm, layer, whole ? 1 : n, (whole ? n : 1) * kind->head_dim, made, normed);
    if (n == end - begin) {
        return normed;
    }
    own = ag_emit_internal(emit, (end - begin) * kind->head_dim);
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_COLUMNS,
                                    .layer = layer,
                                    .in = {normed, AG_NO_VALUE},
                                    .out = own,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.column_begin = begin * kind->head_dim});
    return own;
}

int32_t ag_emit_angles(ag_emit_t *emit, const ag_layer_spec_t *kind)
{
    int32_t angles = ag_emit_internal(emit, kind->rope.rotary);
    const float *frequencies = ag_layer_frequencies(kind, emit->block->context_tokens);

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ANGLES,
                                    .in = {AG_NO_VALUE, AG_NO_VALUE},
                                    .out = angles,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.angles = {.rotary = kind->rope.rotary,
                                                    .magnitude = kind->rope_magnitude,
                                                    .inverse_freq = frequencies}});
    return angles;
}

static void add_rope(ag_emit_t *emit, uint32_t layer, int32_t x, int32_t angles, uint32_t n_heads)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_ROPE,
                                    .layer = layer,
                                    .in = {x, angles},
                                    .out = x,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.rope = {.n_heads = n_heads,
                                                  .head_dim = kind->head_dim,
                                                  .rotary = kind->rope.rotary}});
}

/* Those of the query heads held; AG_NO_PARAM where the spec has none. */
static int32_t add_sinks(ag_emit_t *emit, uint32_t layer)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    const ag_layer_shard_t *held =
        &emit->block->shard->layers[ag_emit_spec(emit)->kind_of_layer[layer]];

    return ag_emit_vector_param(emit, kind->sinks, AG_ROLE_SINKS, layer, kind->n_heads,
                                held->head_begin, held->head_end);
}

/* y = attention of q over the cache, to which k and v are added. */
static void add_cached_attention(ag_emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v,
                                 int32_t y)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    uint32_t sight = ag_emit_spec(emit)->kind_of_layer[layer];
    const ag_layer_shard_t *held = &emit->block->shard->layers[sight];
    uint32_t n_heads = held->head_end - held->head_begin;
    uint32_t n_kv_heads = held->kv_end - held->kv_begin;

    ag_emit_node(emit,
                 &(ag_node_t){.kind = AG_NODE_KV_APPEND,
                              .layer = layer - emit->block->first_layer,
                              .in = {k, v},
                              .out = AG_NO_VALUE,
                              .weight = AG_NO_PARAM,
                              .bias = AG_NO_PARAM,
                              .attr.kv = {.n_kv_heads = n_kv_heads, .head_dim = kind->head_dim}});
    ag_emit_node(emit,
                 &(ag_node_t){.kind = AG_NODE_ATTENTION,
                              .layer = layer - emit->block->first_layer,
                              .in = {q, AG_NO_VALUE},
                              .out = y,
                              .weight = add_sinks(emit, layer),
                              .bias = AG_NO_PARAM,
                              .attr.attention = {.args = {.n_heads = n_heads,
                                                          .kv_head = held->kv_head,
                                                          .scale = kind->attention_scale,
                                                          .window_tokens = kind->window_tokens,
                                                          .score_cap = kind->score_cap},
                                                 .n_kv_heads = n_kv_heads,
                                                 .head_dim = kind->head_dim,
                                                 .sight = sight}});
}

/* y = attention of the step's rows among themselves. */
static void add_self_attention(ag_emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v,
                               int32_t y)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    const ag_layer_shard_t *held =
        &emit->block->shard->layers[ag_emit_spec(emit)->kind_of_layer[layer]];
    uint32_t n_heads = held->head_end - held->head_begin;

    ag_emit_node(
        emit, &(ag_node_t){.kind = AG_NODE_SELF_ATTENTION,
                           .layer = layer,
                           .in = {q, k, v},
                           .out = y,
                           .more = {ag_emit_internal(emit, n_heads)},
                           .weight = add_sinks(emit, layer),
                           .bias = AG_NO_PARAM,
                           .attr.self_attention.args = {.n_heads = n_heads,
                                                        .n_kv_heads = held->kv_end - held->kv_begin,
                                                        .head_dim = kind->head_dim,
                                                        .kv_head = held->kv_head,
                                                        .scale = kind->attention_scale,
                                                        .window_tokens = kind->window_tokens,
                                                        .score_cap = kind->score_cap},
                           .attr.self_attention.sight = ag_emit_spec(emit)->kind_of_layer[layer]});
}

void ag_emit_attention(ag_emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v, int32_t y)
{
    if (emit->block->trains) {
        add_self_attention(emit, layer, q, k, v, y);
    } else {
        add_cached_attention(emit, layer, q, k, v, y);
    }
}

/* Query heads over the rows so far: (tokens, heads held * head size), which may be no columns. */
static int32_t add_attention(ag_emit_t *emit, uint32_t layer, int32_t x)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    const ag_layer_shard_t *held =
        &emit->block->shard->layers[ag_emit_spec(emit)->kind_of_layer[layer]];
    uint32_t n_heads = held->head_end - held->head_begin;
    uint32_t n_kv_heads = held->kv_end - held->kv_begin;
    int32_t y = ag_emit_internal(emit, n_heads * kind->head_dim);
    int32_t q, k, v, angles;

    if (n_heads == 0) {
        return y;
    }
    q = add_normed_heads(emit, AG_ROLE_Q, AG_ROLE_Q_BIAS, AG_ROLE_Q_NORM, kind->q_bias, layer, x,
                         kind->n_heads, held->head_begin, held->head_end);
    k = add_normed_heads(emit, AG_ROLE_K, AG_ROLE_K_BIAS, AG_ROLE_K_NORM, kind->k_bias, layer, x,
                         kind->n_kv_heads, held->kv_begin, held->kv_end);
    v = add_heads(emit, AG_ROLE_V, AG_ROLE_V_BIAS, kind->v_bias, layer, x, kind->n_kv_heads,
                  held->kv_begin, held->kv_end);
    if (kind->rope.rotary > 0) {
        angles = ag_emit_angles(emit, kind);
        add_rope(emit, layer, q, angles, n_heads);
        add_rope(emit, layer, k, angles, n_kv_heads);
    }
    ag_emit_attention(emit, layer, q, k, v, y);
    return y;
}

ag_status_t ag_block_attention(const ag_block_t *block, uint32_t layer, bool add_partial,
                               ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_spec_t *spec = ag_emit_spec(&emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &block->shard->layers[spec->kind_of_layer[layer]];
    uint64_t value_dim = ag_layer_value_dim(kind);
    int32_t heads, weight, bias;

    if (add_partial) {
        ag_emit_partial_to_x(&emit, AG_ROLE_FFN_POST_NORM, layer - 1);
    }
    heads = (kind->kv_rank > 0 ? ag_emit_latent_attention : add_attention)(
        &emit, layer, ag_emit_input(&emit, AG_ROLE_ATTN_NORM, layer));
    weight = ag_emit_cols_param(&emit, AG_ROLE_O, layer, spec->hidden, kind->n_heads * value_dim,
                                held->head_begin * value_dim, held->head_end * value_dim);
    /* a bias of a sum is added once: by the first rank */
    bias = ag_emit_vector_param(&emit, kind->o_bias && block->shard->index == 0, AG_ROLE_O_BIAS,
                                layer, spec->hidden, 0, spec->hidden);
    ag_emit_linear(&emit, layer, heads, weight, bias, ag_emit_partial(&emit));
    return emit.status;
}

ag_status_t ag_block_add_attention(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);

    ag_emit_partial_to_x(&emit, AG_ROLE_ATTN_POST_NORM, layer);
    return emit.status;
}

ag_status_t ag_block_add_ffn(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);

    ag_emit_partial_to_x(&emit, AG_ROLE_FFN_POST_NORM, layer);
    return emit.status;
}

ag_status_t ag_block_add(const ag_block_t *block, ag_graph_t *graph)
{
    return ag_block_add_ffn(block, block->last_layer, graph);
}

static ag_loss_t loss_of(const ag_emit_t *emit)
{
    const ag_shard_t *shard = emit->block->shard;

    return (ag_loss_t){.vocab_begin = shard->vocab_begin,
                       .vocab_end = shard->vocab_end,
                       .part = shard->stage_index,
                       .n_parts = shard->n_stage_ranks,
                       .cap = ag_emit_spec(emit)->logit_cap};
}

static int32_t statistics_value(ag_emit_t *emit)
{
    return ag_emit_value(emit, AG_COUNT_OUTPUTS,
                         AG_LOSS_STATISTICS * emit->block->shard->n_stage_ranks,
                         emit->block->statistics);
}

static int32_t logits_value(ag_emit_t *emit)
{
    const ag_block_t *block = emit->block;
    int32_t logits = ag_emit_value(
        emit, AG_COUNT_OUTPUTS, block->shard->vocab_end - block->shard->vocab_begin, block->logits);

    if (block->rounds && emit->status == AG_OK) {
        ag_graph_round(emit->graph, logits);
    }
    return logits;
}

ag_status_t ag_block_head(const ag_block_t *block, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_spec_t *spec = ag_emit_spec(&emit);
    const ag_shard_t *shard = block->shard;
    ag_role_t role = spec->tied ? AG_ROLE_EMBED : AG_ROLE_HEAD;
    int32_t rows = ag_emit_value(&emit, AG_COUNT_OUTPUTS, spec->hidden, AG_INTERNAL);
    int32_t normed = ag_emit_value(&emit, AG_COUNT_OUTPUTS, spec->hidden, AG_INTERNAL);
    int32_t logits = logits_value(&emit);
    int32_t weight;

    if (!block->trains) {
        ag_emit_partial_to_x(&emit, AG_ROLE_FFN_POST_NORM, spec->n_layers - 1);
    }
    ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_SELECT,
                                     .in = {ag_emit_x(&emit), AG_NO_VALUE},
                                     .out = rows,
                                     .weight = AG_NO_PARAM,
                                     .bias = AG_NO_PARAM});
    ag_emit_norm(&emit, AG_ROLE_FINAL_NORM, 0, 1, spec->hidden, rows, normed);
    weight = ag_emit_rows_param(&emit, role, 0, spec->vocab, shard->vocab_begin, shard->vocab_end,
                                spec->hidden);
    ag_emit_linear(&emit, 0, normed, weight, AG_NO_PARAM, logits);
    if (spec->logit_cap > 0 && !block->trains) { /* there the loss caps them */
        ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_SOFTCAP,
                                         .in = {logits, AG_NO_VALUE},
                                         .out = logits,
                                         .weight = AG_NO_PARAM,
                                         .bias = AG_NO_PARAM,
                                         .attr.cap = spec->logit_cap});
    }
    if (block->trains) {
        ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_LOSS_STATISTICS,
                                         .in = {logits},
                                         .out = statistics_value(&emit),
                                         .weight = AG_NO_PARAM,
                                         .bias = AG_NO_PARAM,
                                         .attr.loss = loss_of(&emit)});
    }
    return emit.status;
}

ag_status_t ag_block_loss(const ag_block_t *block, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_shard_t *shard = block->shard;
    int32_t losses = ag_emit_value(&emit, AG_COUNT_OUTPUTS, 1, AG_INTERNAL);
    int32_t sum = ag_emit_value(&emit, AG_COUNT_ONE, sizeof(double) / sizeof(float), block->loss);
    int32_t logits = logits_value(&emit);

    ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_LOSS,
                                     .in = {logits, statistics_value(&emit)},
                                     .out = logits,
                                     .more = {losses},
                                     .weight = AG_NO_PARAM,
                                     .bias = AG_NO_PARAM,
                                     .attr.loss = loss_of(&emit)});
    if (shard->stage_index == 0) { /* all ranks of the stage know them: one counts */
        ag_emit_node(&emit, &(ag_node_t){.kind = AG_NODE_ADD_LOSSES,
                                         .in = {losses},
                                         .out = sum,
                                         .adds = true,
                                         .weight = AG_NO_PARAM,
                                         .bias = AG_NO_PARAM});
    }
    return emit.status;
}
