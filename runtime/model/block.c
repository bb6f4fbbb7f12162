/* It branches on the spec's fields, never on a family. */
#include "runtime/model/block.h"

/* What a block's emission carries along: the first failure ends it. */
typedef struct emit {
    const ag_block_t *block;
    ag_graph_t *graph;
    int32_t x; /* the buffer that has the residual stream now */
    ag_status_t status;
} emit_t;

static emit_t begin(const ag_block_t *block, ag_graph_t *graph)
{
    return (emit_t){.block = block, .graph = graph, .x = block->x, .status = AG_OK};
}

static const ag_spec_t *spec_of(const emit_t *emit)
{
    return emit->block->model->spec;
}

static int32_t value(emit_t *emit, ag_counter_t counter, uint32_t width, int32_t buffer)
{
    int32_t number = ag_graph_value(emit->graph, counter, width, buffer);

    if (number < 0 && emit->status == AG_OK) {
        emit->status = ag_fail_nomem("building a segment", sizeof(ag_value_t));
    }
    return number;
}

static int32_t internal(emit_t *emit, uint32_t width)
{
    return value(emit, AG_COUNT_TOKENS, width, AG_INTERNAL);
}

static int32_t x_value(emit_t *emit)
{
    return value(emit, AG_COUNT_TOKENS, spec_of(emit)->hidden, emit->x);
}

static int32_t partial_value(emit_t *emit)
{
    return value(emit, AG_COUNT_TOKENS, spec_of(emit)->hidden, emit->block->partial);
}

/* May ranks that hold the same rows each use them for other work? Query heads of one KV head, and a
 * table that is the head, too. */
static bool are_parts(const emit_t *emit, ag_role_t role)
{
    switch (role) {
    case AG_ROLE_K:
    case AG_ROLE_V:
    case AG_ROLE_K_BIAS:
    case AG_ROLE_V_BIAS:
        return emit->block->shard->n_ranks > 1;
    case AG_ROLE_EMBED:
        return spec_of(emit)->tied;
    default:
        return false;
    }
}

static int32_t param(emit_t *emit, ag_role_t role, uint32_t layer, const ag_slice_t *slice)
{
    ag_slice_t asked = *slice;
    int32_t number = AG_NO_PARAM;

    asked.grads_are_parts = are_parts(emit, role);
    if (emit->status == AG_OK) {
        emit->status =
            ag_params_add(emit->block->params, emit->block->model, role, layer, &asked, &number);
    }
    return number;
}

/* rows [begin, end) of a (rows, cols) weight */
static int32_t rows_param(emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                          uint64_t begin, uint64_t end, uint64_t cols)
{
    return param(
        emit, role, layer,
        &(ag_slice_t){
            .rows = rows, .cols = cols, .row_begin = begin, .row_end = end, .col_end = cols});
}

/* columns [begin, end) of a (rows, cols) weight */
static int32_t cols_param(emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                          uint64_t cols, uint64_t begin, uint64_t end)
{
    return param(
        emit, role, layer,
        &(ag_slice_t){
            .rows = rows, .cols = cols, .row_end = rows, .col_begin = begin, .col_end = end});
}

/* elements [begin, end) of a vector of n; AG_NO_PARAM where the spec has none */
static int32_t vector_param(emit_t *emit, bool present, ag_role_t role, uint32_t layer, uint64_t n,
                            uint64_t begin, uint64_t end)
{
    if (!present) {
        return AG_NO_PARAM;
    }
    return param(emit, role, layer, &(ag_slice_t){.cols = n, .col_begin = begin, .col_end = end});
}

static void add_node(emit_t *emit, const ag_node_t *node)
{
    if (emit->status == AG_OK) {
        emit->status = ag_graph_add(emit->graph, node, ag_params_held(emit->block->params));
    }
}

static void add_linear(emit_t *emit, uint32_t layer, int32_t x, int32_t weight, int32_t bias,
                       int32_t y)
{
    add_node(emit, &(ag_node_t){.kind = AG_NODE_LINEAR,
                                .layer = layer,
                                .in = {x, AG_NO_VALUE},
                                .out = y,
                                .weight = weight,
                                .bias = bias});
}

static void add_norm(emit_t *emit, ag_role_t role, uint32_t layer, int32_t x, int32_t y)
{
    const ag_spec_t *spec = spec_of(emit);

    add_node(emit, &(ag_node_t){.kind = AG_NODE_NORM,
                                .layer = layer,
                                .in = {x, AG_NO_VALUE},
                                .out = y,
                                .weight = vector_param(emit, true, role, layer, spec->hidden, 0,
                                                       spec->hidden),
                                .bias = AG_NO_PARAM,
                                .attr.norm = {.kind = spec->norm_kind, .eps = spec->norm_eps}});
}

static void add_partial_to_x(emit_t *emit)
{
    int32_t x = x_value(emit);

    emit->x = emit->block->trains ? emit->block->x_out : emit->x;
    add_node(emit, &(ag_node_t){.kind = AG_NODE_ADD,
                                .in = {x, partial_value(emit)},
                                .out = x_value(emit),
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM});
}

ag_status_t ag_block_embed(const ag_block_t *block, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    const ag_spec_t *spec = spec_of(&emit);
    const ag_shard_t *shard = block->shard;
    int32_t table = param(&emit, AG_ROLE_EMBED, 0,
                          &(ag_slice_t){.rows = spec->vocab,
                                        .cols = spec->hidden,
                                        .row_begin = shard->vocab_begin,
                                        .row_end = shard->vocab_end,
                                        .col_end = spec->hidden,
                                        .is_looked_up = true});

    add_node(&emit, &(ag_node_t){.kind = AG_NODE_EMBED,
                                 .in = {AG_NO_VALUE, AG_NO_VALUE},
                                 .out = x_value(&emit),
                                 .weight = table,
                                 .bias = AG_NO_PARAM,
                                 .attr.embed = {.vocab_begin = shard->vocab_begin,
                                                .scale = spec->embed_scale}});
    return emit.status;
}

static int32_t add_heads(emit_t *emit, ag_role_t role, ag_role_t bias_role, bool has_bias,
                         uint32_t layer, int32_t x, uint32_t n_heads, uint32_t begin, uint32_t end)
{
    const ag_spec_t *spec = spec_of(emit);
    uint64_t head_dim = ag_spec_layer(spec, layer)->head_dim;
    int32_t y = internal(emit, (uint32_t)((end - begin) * head_dim));
    int32_t weight = rows_param(emit, role, layer, n_heads * head_dim, begin * head_dim,
                                end * head_dim, spec->hidden);
    int32_t bias = vector_param(emit, has_bias, bias_role, layer, n_heads * head_dim,
                                begin * head_dim, end * head_dim);

    add_linear(emit, layer, x, weight, bias, y);
    return y;
}

static int32_t add_angles(emit_t *emit)
{
    const ag_spec_t *spec = spec_of(emit);
    int32_t angles = internal(emit, spec->rope.rotary);

    add_node(emit, &(ag_node_t){.kind = AG_NODE_ANGLES,
                                .in = {AG_NO_VALUE, AG_NO_VALUE},
                                .out = angles,
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.angles = {.rotary = spec->rope.rotary,
                                                .magnitude = spec->rope_magnitude,
                                                .inverse_freq = spec->inverse_freq}});
    return angles;
}

static void add_rope(emit_t *emit, uint32_t layer, int32_t x, int32_t angles, uint32_t n_heads)
{
    const ag_spec_t *spec = spec_of(emit);

    add_node(emit, &(ag_node_t){.kind = AG_NODE_ROPE,
                                .layer = layer,
                                .in = {x, angles},
                                .out = x,
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.rope = {.n_heads = n_heads,
                                              .head_dim = ag_spec_layer(spec, layer)->head_dim,
                                              .rotary = spec->rope.rotary}});
}

/* y = attention of q over the cache, to which k and v are added. */
static void add_cached_attention(emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v,
                                 int32_t y)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec_of(emit), layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec_of(emit)->kind_of_layer[layer]];
    uint32_t n_heads = held->head_end - held->head_begin;
    uint32_t n_kv_heads = held->kv_end - held->kv_begin;

    add_node(emit, &(ag_node_t){.kind = AG_NODE_KV_APPEND,
                                .layer = layer - emit->block->first_layer,
                                .in = {k, v},
                                .out = AG_NO_VALUE,
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.kv = {.n_kv_heads = n_kv_heads, .head_dim = kind->head_dim}});
    add_node(emit, &(ag_node_t){.kind = AG_NODE_ATTENTION,
                                .layer = layer - emit->block->first_layer,
                                .in = {q, AG_NO_VALUE},
                                .out = y,
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.attention = {.args = {.n_heads = n_heads,
                                                            .kv_head = held->kv_head,
                                                            .scale = kind->attention_scale},
                                                   .n_kv_heads = n_kv_heads,
                                                   .head_dim = kind->head_dim}});
}

/* y = attention of the step's rows among themselves. */
static void add_self_attention(emit_t *emit, uint32_t layer, int32_t q, int32_t k, int32_t v,
                               int32_t y)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec_of(emit), layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec_of(emit)->kind_of_layer[layer]];
    uint32_t n_heads = held->head_end - held->head_begin;

    add_node(emit, &(ag_node_t){.kind = AG_NODE_SELF_ATTENTION,
                                .layer = layer,
                                .in = {q, k, v},
                                .out = y,
                                .more = {internal(emit, n_heads)},
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.self_attention = {.n_heads = n_heads,
                                                        .n_kv_heads = held->kv_end - held->kv_begin,
                                                        .head_dim = kind->head_dim,
                                                        .kv_head = held->kv_head,
                                                        .scale = kind->attention_scale}});
}

/* Query heads over the rows so far: (tokens, heads held * head size), which may be no columns. */
static int32_t add_attention(emit_t *emit, uint32_t layer, int32_t x)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec_of(emit), layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec_of(emit)->kind_of_layer[layer]];
    uint32_t n_heads = held->head_end - held->head_begin;
    uint32_t n_kv_heads = held->kv_end - held->kv_begin;
    int32_t y = internal(emit, n_heads * kind->head_dim);
    int32_t q, k, v, angles;

    if (n_heads == 0) {
        return y;
    }
    q = add_heads(emit, AG_ROLE_Q, AG_ROLE_Q_BIAS, kind->q_bias, layer, x, kind->n_heads,
                  held->head_begin, held->head_end);
    k = add_heads(emit, AG_ROLE_K, AG_ROLE_K_BIAS, kind->k_bias, layer, x, kind->n_kv_heads,
                  held->kv_begin, held->kv_end);
    v = add_heads(emit, AG_ROLE_V, AG_ROLE_V_BIAS, kind->v_bias, layer, x, kind->n_kv_heads,
                  held->kv_begin, held->kv_end);
    angles = add_angles(emit);
    add_rope(emit, layer, q, angles, n_heads);
    add_rope(emit, layer, k, angles, n_kv_heads);
    if (emit->block->trains) {
        add_self_attention(emit, layer, q, k, v, y);
    } else {
        add_cached_attention(emit, layer, q, k, v, y);
    }
    return y;
}

ag_status_t ag_block_attention(const ag_block_t *block, uint32_t layer, bool add_partial,
                               ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    const ag_spec_t *spec = spec_of(&emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &block->shard->layers[spec->kind_of_layer[layer]];
    uint64_t head_dim = kind->head_dim;
    int32_t normed = internal(&emit, spec->hidden);
    int32_t heads, weight, bias;

    if (add_partial) {
        add_partial_to_x(&emit);
    }
    add_norm(&emit, AG_ROLE_ATTN_NORM, layer, x_value(&emit), normed);
    heads = add_attention(&emit, layer, normed);
    weight = cols_param(&emit, AG_ROLE_O, layer, spec->hidden, kind->n_heads * head_dim,
                        held->head_begin * head_dim, held->head_end * head_dim);
    /* a bias of a sum is added once: by the first rank */
    bias = vector_param(&emit, kind->o_bias && block->shard->index == 0, AG_ROLE_O_BIAS, layer,
                        spec->hidden, 0, spec->hidden);
    add_linear(&emit, layer, heads, weight, bias, partial_value(&emit));
    return emit.status;
}

static int32_t add_ffn_columns(emit_t *emit, ag_role_t role, ag_role_t bias_role, uint32_t layer,
                               int32_t x)
{
    const ag_spec_t *spec = spec_of(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    int32_t y = internal(emit, held->ffn_end - held->ffn_begin);
    int32_t weight = rows_param(emit, role, layer, kind->ffn_width, held->ffn_begin, held->ffn_end,
                                spec->hidden);
    int32_t bias = vector_param(emit, kind->ffn_bias, bias_role, layer, kind->ffn_width,
                                held->ffn_begin, held->ffn_end);

    add_linear(emit, layer, x, weight, bias, y);
    return y;
}

bool ag_block_is_spread(const ag_block_t *block, uint32_t layer)
{
    return ag_spec_layer(block->model->spec, layer)->n_experts > 0 &&
           block->shard->n_stage_ranks > 1;
}

static ag_places_t places_of(const emit_t *emit, uint32_t layer)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec_of(emit), layer);
    const ag_shard_t *shard = emit->block->shard;

    return (ag_places_t){.n_experts = kind->n_experts,
                         .n_used = kind->n_experts_used,
                         .n_places = shard->experts.n_places,
                         .begin = shard->experts.place_begin,
                         .places = shard->experts.places,
                         .part = shard->stage_index,
                         .n_parts = shard->n_stage_ranks};
}

/* x += partial; copies = rows of norm(x) for their experts. */
static void add_routing(emit_t *emit, uint32_t layer, int32_t routes, int32_t counts,
                        int32_t copies)
{
    const ag_spec_t *spec = spec_of(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    ag_places_t places = places_of(emit, layer);
    int32_t normed = internal(emit, spec->hidden), scores = internal(emit, kind->n_experts);
    ag_node_t node = {.layer = layer, .weight = AG_NO_PARAM, .bias = AG_NO_PARAM};

    add_partial_to_x(emit);
    add_norm(emit, AG_ROLE_FFN_NORM, layer, x_value(emit), normed);
    add_linear(
        emit, layer, normed,
        rows_param(emit, AG_ROLE_ROUTER, layer, kind->n_experts, 0, kind->n_experts, spec->hidden),
        AG_NO_PARAM, scores);
    node.kind = AG_NODE_ROUTE;
    node.in[0] = scores;
    node.out = routes;
    node.attr.route = (ag_route_t){.n_experts = kind->n_experts,
                                   .n_used = kind->n_experts_used,
                                   .sums_to_1 = kind->expert_weights_sum_1};
    add_node(emit, &node);
    node.kind = AG_NODE_COUNT_ROWS;
    node.in[0] = routes;
    node.out = counts;
    node.attr.places = places;
    add_node(emit, &node);
    node.kind = AG_NODE_PERMUTE;
    node.in[0] = normed;
    node.in[1] = routes;
    node.out = copies;
    add_node(emit, &node);
}

/* What of a role this rank holds: one weight an expert, one after the other. */
static int32_t expert_params(emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                             uint64_t cols)
{
    const ag_expert_shard_t *held = &emit->block->shard->experts;
    int32_t first = AG_NO_PARAM;

    for (uint32_t i = 0; i < held->n_held; i++) {
        int32_t number = param(emit, role, layer,
                               &(ag_slice_t){.rows = rows,
                                             .cols = cols,
                                             .row_end = rows,
                                             .col_end = cols,
                                             .expert = held->held[i]});

        first = i == 0 ? number : first;
        if (emit->status == AG_OK && number != first + (int32_t)i) {
            emit->status =
                ag_fail(AG_ERR_UNSUPPORTED, "%s: two experts of layer %u have one weight",
                        ag_model_files_path(emit->block->model->files), layer);
        }
    }
    return first;
}

static int32_t add_grouped(emit_t *emit, const ag_node_t *like, ag_role_t role, uint64_t rows,
                           uint64_t cols, int32_t x, int32_t y)
{
    ag_node_t node = *like;

    node.kind = AG_NODE_GROUPED_LINEAR;
    node.in[0] = x;
    node.out = y;
    node.weight = expert_params(emit, role, node.layer, rows, cols);
    add_node(emit, &node);
    return y;
}

/* copies = what the experts make of them: rows lie expert after expert, as counts say. */
static void add_experts(emit_t *emit, const ag_node_t *like, ag_counter_t counter, int32_t copies)
{
    const ag_spec_t *spec = spec_of(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, like->layer);
    uint32_t width = kind->ffn_width;
    int32_t gate = value(emit, counter, width, AG_INTERNAL);
    int32_t up = value(emit, counter, width, AG_INTERNAL);

    add_grouped(emit, like, AG_ROLE_EXPERT_GATE, width, spec->hidden, copies, gate);
    add_grouped(emit, like, AG_ROLE_EXPERT_UP, width, spec->hidden, copies, up);
    add_node(emit, &(ag_node_t){.kind = AG_NODE_GLU,
                                .layer = like->layer,
                                .in = {gate, up},
                                .out = gate,
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.act = kind->ffn_act});
    add_grouped(emit, like, AG_ROLE_EXPERT_DOWN, spec->hidden, width, gate, copies);
}

static ag_node_t groups_node(const emit_t *emit, uint32_t layer, uint32_t n_sources, int32_t counts)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec_of(emit), layer);

    return (ag_node_t){.layer = layer,
                       .in = {AG_NO_VALUE, counts, AG_NO_VALUE},
                       .weight = AG_NO_PARAM,
                       .bias = AG_NO_PARAM,
                       .attr.groups = {.n_groups = emit->block->shard->experts.n_held,
                                       .n_sources = n_sources,
                                       .n_used = kind->n_experts_used,
                                       .n_experts = kind->n_experts}};
}

static void add_combining(emit_t *emit, uint32_t layer, int32_t copies, int32_t routes)
{
    add_node(emit, &(ag_node_t){.kind = AG_NODE_COMBINE,
                                .layer = layer,
                                .in = {copies, routes},
                                .out = partial_value(emit),
                                .weight = AG_NO_PARAM,
                                .bias = AG_NO_PARAM,
                                .attr.places = places_of(emit, layer)});
}

static int32_t routes_value(emit_t *emit, uint32_t layer, int32_t buffer)
{
    uint32_t n_used = ag_spec_layer(spec_of(emit), layer)->n_experts_used;

    return value(emit, AG_COUNT_TOKENS, ag_route_width(n_used), buffer);
}

/* One rank holds all experts. */
static ag_status_t emit_all_experts(emit_t *emit, uint32_t layer)
{
    int32_t routes = routes_value(emit, layer, AG_INTERNAL);
    int32_t counts = value(emit, AG_COUNT_ONE, emit->block->shard->experts.n_places, AG_INTERNAL);
    int32_t copies = value(emit, AG_COUNT_SENT, spec_of(emit)->hidden, AG_INTERNAL);
    ag_node_t like = groups_node(emit, layer, 1, counts);

    add_routing(emit, layer, routes, counts, copies);
    add_experts(emit, &like, AG_COUNT_SENT, copies);
    add_combining(emit, layer, copies, routes);
    return emit->status;
}

ag_status_t ag_block_route(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    int32_t counts = value(&emit, AG_COUNT_ONE, block->shard->experts.n_places, block->n_sent);
    int32_t copies = value(&emit, AG_COUNT_SENT, spec_of(&emit)->hidden, block->sent);

    add_routing(&emit, layer, routes_value(&emit, layer, block->routes), counts, copies);
    return emit.status;
}

ag_status_t ag_block_experts(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    const ag_shard_t *shard = block->shard;
    uint32_t hidden = spec_of(&emit)->hidden;
    int32_t counts =
        value(&emit, AG_COUNT_ONE, shard->n_stage_ranks * shard->experts.n_held, block->n_received);
    int32_t received = value(&emit, AG_COUNT_RECEIVED, hidden, block->received);
    int32_t rows = value(&emit, AG_COUNT_RECEIVED, hidden, AG_INTERNAL);
    ag_node_t node = groups_node(&emit, layer, shard->n_stage_ranks, counts), like = node;

    if (shard->experts.n_held == 0) {
        return emit.status;
    }
    node.kind = AG_NODE_REGROUP;
    node.in[0] = received;
    node.out = rows;
    add_node(&emit, &node);
    add_experts(&emit, &like, AG_COUNT_RECEIVED, rows);
    node.in[0] = rows;
    node.out = received;
    node.attr.groups.back = true;
    add_node(&emit, &node);
    return emit.status;
}

ag_status_t ag_block_combine(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    int32_t copies = value(&emit, AG_COUNT_SENT, spec_of(&emit)->hidden, block->sent);

    add_combining(&emit, layer, copies, routes_value(&emit, layer, block->routes));
    return emit.status;
}

ag_status_t ag_block_ffn(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    const ag_spec_t *spec = spec_of(&emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &block->shard->layers[spec->kind_of_layer[layer]];
    int32_t normed = internal(&emit, spec->hidden);
    int32_t gate, up, product, weight, bias;

    if (kind->n_experts > 0) {
        return emit_all_experts(&emit, layer);
    }
    add_partial_to_x(&emit);
    add_norm(&emit, AG_ROLE_FFN_NORM, layer, x_value(&emit), normed);
    gate = add_ffn_columns(&emit, AG_ROLE_GATE, AG_ROLE_GATE_BIAS, layer, normed);
    up = add_ffn_columns(&emit, AG_ROLE_UP, AG_ROLE_UP_BIAS, layer, normed);
    product = block->trains ? internal(&emit, held->ffn_end - held->ffn_begin) : gate;
    add_node(&emit, &(ag_node_t){.kind = AG_NODE_GLU,
                                 .layer = layer,
                                 .in = {gate, up},
                                 .out = product,
                                 .weight = AG_NO_PARAM,
                                 .bias = AG_NO_PARAM,
                                 .attr.act = kind->ffn_act});
    weight = cols_param(&emit, AG_ROLE_DOWN, layer, spec->hidden, kind->ffn_width, held->ffn_begin,
                        held->ffn_end);
    bias = vector_param(&emit, kind->ffn_bias && block->shard->index == 0, AG_ROLE_DOWN_BIAS, layer,
                        spec->hidden, 0, spec->hidden);
    add_linear(&emit, layer, product, weight, bias, partial_value(&emit));
    return emit.status;
}

ag_status_t ag_block_add(const ag_block_t *block, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);

    add_partial_to_x(&emit);
    return emit.status;
}

static ag_loss_t loss_of(const emit_t *emit)
{
    const ag_shard_t *shard = emit->block->shard;

    return (ag_loss_t){.vocab_begin = shard->vocab_begin,
                       .vocab_end = shard->vocab_end,
                       .part = shard->stage_index,
                       .n_parts = shard->n_stage_ranks};
}

static int32_t statistics_value(emit_t *emit)
{
    return value(emit, AG_COUNT_OUTPUTS, AG_LOSS_STATISTICS * emit->block->shard->n_stage_ranks,
                 emit->block->statistics);
}

ag_status_t ag_block_head(const ag_block_t *block, ag_graph_t *graph)
{
    emit_t emit = begin(block, graph);
    const ag_spec_t *spec = spec_of(&emit);
    const ag_shard_t *shard = block->shard;
    ag_role_t role = spec->tied ? AG_ROLE_EMBED : AG_ROLE_HEAD;
    int32_t rows = value(&emit, AG_COUNT_OUTPUTS, spec->hidden, AG_INTERNAL);
    int32_t normed = value(&emit, AG_COUNT_OUTPUTS, spec->hidden, AG_INTERNAL);
    int32_t logits =
        value(&emit, AG_COUNT_OUTPUTS, shard->vocab_end - shard->vocab_begin, block->logits);
    int32_t weight;

    if (!block->trains) {
        add_partial_to_x(&emit);
    }
    add_node(&emit, &(ag_node_t){.kind = AG_NODE_SELECT,
                                 .in = {x_value(&emit), AG_NO_VALUE},
                                 .out = rows,
                                 .weight = AG_NO_PARAM,
                                 .bias = AG_NO_PARAM});
    add_norm(&emit, AG_ROLE_FINAL_NORM, 0, rows, normed);
    weight =
        rows_param(&emit, role, 0, spec->vocab, shard->vocab_begin, shard->vocab_end, spec->hidden);
    add_linear(&emit, 0, normed, weight, AG_NO_PARAM, logits);
    if (block->trains) {
        add_node(&emit, &(ag_node_t){.kind = AG_NODE_LOSS_STATISTICS,
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
    emit_t emit = begin(block, graph);
    const ag_shard_t *shard = block->shard;
    int32_t losses = value(&emit, AG_COUNT_OUTPUTS, 1, AG_INTERNAL);
    int32_t sum = value(&emit, AG_COUNT_ONE, sizeof(double) / sizeof(float), block->loss);
    int32_t logits =
        value(&emit, AG_COUNT_OUTPUTS, shard->vocab_end - shard->vocab_begin, block->logits);

    add_node(&emit, &(ag_node_t){.kind = AG_NODE_LOSS,
                                 .in = {logits, statistics_value(&emit)},
                                 .out = logits,
                                 .more = {losses},
                                 .weight = AG_NO_PARAM,
                                 .bias = AG_NO_PARAM,
                                 .attr.loss = loss_of(&emit)});
    if (shard->stage_index == 0) { /* all ranks of the stage know them: one counts */
        add_node(&emit, &(ag_node_t){.kind = AG_NODE_ADD_LOSSES,
                                     .in = {losses},
                                     .out = sum,
                                     .adds = true,
                                     .weight = AG_NO_PARAM,
                                     .bias = AG_NO_PARAM});
    }
    return emit.status;
}
