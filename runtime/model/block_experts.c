/* A feed-forward part of several experts: one rank has all, or ranks share them out. */
#include "runtime/model/block_priv.h"

bool ag_block_is_spread(const ag_block_t *block, uint32_t layer)
{
    return ag_spec_layer(block->model->spec, layer)->route.n_experts > 0 &&
           block->shard->experts.n_ranks > 1;
}

static ag_places_t places_of(const ag_emit_t *emit, uint32_t layer)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    const ag_shard_t *shard = emit->block->shard;

    return (ag_places_t){.n_experts = kind->route.n_experts,
                         .n_used = kind->route.n_used,
                         .n_places = shard->experts.n_places,
                         .begin = shard->experts.place_begin,
                         .places = shard->experts.places,
                         .part = shard->row_part,
                         .part_end = shard->row_part_end,
                         .n_parts = shard->n_row_parts};
}

/* copies = rows of norm(x) for their experts; with add_partial, x += partial comes first.
 * @return norm(x) */
static int32_t add_routing(ag_emit_t *emit, uint32_t layer, bool add_partial, int32_t routes,
                           int32_t counts, int32_t copies)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    ag_places_t places = places_of(emit, layer);
    int32_t scores = ag_emit_internal(emit, kind->route.n_experts), normed;
    uint32_t n = kind->route.n_experts;
    ag_node_t node = {.layer = layer, .weight = AG_NO_PARAM, .bias = AG_NO_PARAM};

    if (add_partial) {
        ag_emit_partial_to_x(emit, AG_ROLE_ATTN_POST_NORM, layer);
    }
    normed = ag_emit_input(emit, AG_ROLE_FFN_NORM, layer);
    ag_emit_linear(
        emit, layer, normed, ag_emit_rows_param(emit, AG_ROLE_ROUTER, layer, n, 0, n, spec->hidden),
        ag_emit_vector_param(emit, kind->router_bias, AG_ROLE_ROUTER_BIAS, layer, n, 0, n), scores);
    node.kind = AG_NODE_ROUTE;
    node.in[0] = scores;
    node.out = routes;
    node.bias = ag_emit_vector_param(emit, kind->route_preference, AG_ROLE_ROUTE_PREFERENCE, layer,
                                     n, 0, n);
    node.attr.route.of = kind->route;
    node.attr.route.part = places.part;
    node.attr.route.part_end = places.part_end;
    node.attr.route.n_parts = places.n_parts;
    ag_emit_node(emit, &node);
    node.bias = AG_NO_PARAM;
    node.kind = AG_NODE_COUNT_ROWS;
    node.in[0] = routes;
    node.out = counts;
    node.attr.places = places;
    ag_emit_node(emit, &node);
    node.kind = AG_NODE_PERMUTE;
    node.in[0] = normed;
    node.in[1] = routes;
    node.out = copies;
    ag_emit_node(emit, &node);
    return normed;
}

static int32_t add_shared_columns(ag_emit_t *emit, ag_role_t role, uint32_t layer, int32_t x)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    int32_t y = ag_emit_internal(emit, held->shared_end - held->shared_begin);

    ag_emit_linear(emit, layer, x,
                   ag_emit_rows_param(emit, role, layer, ag_spec_layer(spec, layer)->shared_width,
                                      held->shared_begin, held->shared_end, spec->hidden),
                   AG_NO_PARAM, y);
    return y;
}

/* product times the sigmoid of a number of each row of x */
static int32_t add_shared_gate(ag_emit_t *emit, uint32_t layer, int32_t x, uint32_t width,
                               int32_t product)
{
    int32_t gates = ag_emit_internal(emit, 1);
    int32_t gated = emit->block->trains ? ag_emit_internal(emit, width) : product;

    ag_emit_linear(
        emit, layer, x,
        ag_emit_rows_param(emit, AG_ROLE_SHARED_SCALE, layer, 1, 0, 1, ag_emit_spec(emit)->hidden),
        AG_NO_PARAM, gates);
    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_GATE_ROWS,
                                    .layer = layer,
                                    .in = {product, gates},
                                    .out = gated,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM});
    return gated;
}

/* partial = this rank's columns of the expert that all rows use; what others make is added. */
static void add_shared(ag_emit_t *emit, uint32_t layer, int32_t x)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    uint32_t width = held->shared_end - held->shared_begin;
    int32_t gate, up, product;

    if (kind->shared_width == 0) {
        return;
    }
    gate = add_shared_columns(emit, AG_ROLE_SHARED_GATE, layer, x);
    up = add_shared_columns(emit, AG_ROLE_SHARED_UP, layer, x);
    product = ag_emit_glu(emit, layer, AG_COUNT_TOKENS, width, gate, up);
    if (kind->shared_is_gated) {
        product = add_shared_gate(emit, layer, x, width, product);
    }
    ag_emit_linear(emit, layer, product,
                   ag_emit_cols_param(emit, AG_ROLE_SHARED_DOWN, layer, spec->hidden,
                                      kind->shared_width, held->shared_begin, held->shared_end),
                   AG_NO_PARAM, ag_emit_partial(emit));
}

/* What of a role this rank holds: one weight an expert, one after the other; vectors have rows 0.
 */
static int32_t expert_params(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                             uint64_t cols)
{
    const ag_expert_shard_t *held = &emit->block->shard->experts;
    int32_t first = AG_NO_PARAM;

    for (uint32_t i = 0; i < held->n_held; i++) {
        int32_t number = ag_emit_param(emit, role, layer,
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

static int32_t add_grouped(ag_emit_t *emit, const ag_node_t *like, ag_role_t role,
                           ag_role_t bias_role, uint64_t rows, uint64_t cols, int32_t x, int32_t y)
{
    ag_node_t node = *like;

    node.kind = AG_NODE_GROUPED_LINEAR;
    node.in[0] = x;
    node.out = y;
    node.weight = expert_params(emit, role, node.layer, rows, cols);
    if (ag_spec_layer(ag_emit_spec(emit), node.layer)->ffn_bias) {
        node.bias = expert_params(emit, bias_role, node.layer, 0, rows);
    }
    ag_emit_node(emit, &node);
    return y;
}

/* results = what the experts make of copies: rows lie expert after expert, as counts say. */
static void add_experts(ag_emit_t *emit, const ag_node_t *like, ag_counter_t counter,
                        int32_t copies, int32_t results)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, like->layer);
    uint32_t width = kind->ffn_width;
    int32_t gate = ag_emit_value(emit, counter, width, AG_INTERNAL);
    int32_t up = ag_emit_value(emit, counter, width, AG_INTERNAL);

    add_grouped(emit, like, AG_ROLE_EXPERT_GATE, AG_ROLE_EXPERT_GATE_BIAS, width, spec->hidden,
                copies, gate);
    add_grouped(emit, like, AG_ROLE_EXPERT_UP, AG_ROLE_EXPERT_UP_BIAS, width, spec->hidden, copies,
                up);
    add_grouped(emit, like, AG_ROLE_EXPERT_DOWN, AG_ROLE_EXPERT_DOWN_BIAS, spec->hidden, width,
                ag_emit_glu(emit, like->layer, counter, width, gate, up), results);
}

static ag_node_t groups_node(const ag_emit_t *emit, uint32_t layer, uint32_t n_sources,
                             int32_t counts)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);

    return (ag_node_t){.layer = layer,
                       .in = {AG_NO_VALUE, counts, AG_NO_VALUE},
                       .weight = AG_NO_PARAM,
                       .bias = AG_NO_PARAM,
                       .attr.groups = {.n_groups = emit->block->shard->experts.n_held,
                                       .n_sources = n_sources,
                                       .n_used = kind->route.n_used,
                                       .n_experts = kind->route.n_experts}};
}

static void add_combining(ag_emit_t *emit, uint32_t layer, int32_t copies, int32_t routes)
{
    ag_emit_node(emit,
                 &(ag_node_t){.kind = AG_NODE_COMBINE,
                              .layer = layer,
                              .in = {copies, routes},
                              .out = ag_emit_partial(emit),
                              .adds = ag_spec_layer(ag_emit_spec(emit), layer)->shared_width > 0,
                              .weight = AG_NO_PARAM,
                              .bias = AG_NO_PARAM,
                              .attr.places = places_of(emit, layer)});
}

static int32_t routes_value(ag_emit_t *emit, uint32_t layer, int32_t buffer)
{
    uint32_t n_used = ag_spec_layer(ag_emit_spec(emit), layer)->route.n_used;

    return ag_emit_value(emit, AG_COUNT_TOKENS, ag_route_width(n_used), buffer);
}

ag_status_t ag_emit_all_experts(ag_emit_t *emit, uint32_t layer, bool add_partial)
{
    int32_t routes = routes_value(emit, layer, AG_INTERNAL);
    int32_t counts =
        ag_emit_value(emit, AG_COUNT_ONE, emit->block->shard->experts.n_places, AG_INTERNAL);
    int32_t copies = ag_emit_value(emit, AG_COUNT_SENT, ag_emit_spec(emit)->hidden, AG_INTERNAL);
    int32_t results = emit->block->trains ? ag_emit_value(emit, AG_COUNT_SENT,
                                                          ag_emit_spec(emit)->hidden, AG_INTERNAL)
                                          : copies;
    ag_node_t like = groups_node(emit, layer, 1, counts);

    add_shared(emit, layer, add_routing(emit, layer, add_partial, routes, counts, copies));
    add_experts(emit, &like, AG_COUNT_SENT, copies, results);
    add_combining(emit, layer, results, routes);
    return emit->status;
}

ag_status_t ag_block_route(const ag_block_t *block, uint32_t layer, bool add_partial,
                           ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    int32_t counts =
        ag_emit_value(&emit, AG_COUNT_ONE, block->shard->experts.n_places, block->n_sent);
    int32_t copies = ag_emit_value(&emit, AG_COUNT_SENT, ag_emit_spec(&emit)->hidden, block->sent);

    add_shared(&emit, layer,
               add_routing(&emit, layer, add_partial, routes_value(&emit, layer, block->routes),
                           counts, copies));
    return emit.status;
}

ag_status_t ag_block_experts(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_shard_t *shard = block->shard;
    uint32_t hidden = ag_emit_spec(&emit)->hidden;
    int32_t counts = ag_emit_value(
        &emit, AG_COUNT_ONE, shard->experts.n_ranks * shard->experts.n_held, block->n_received);
    int32_t received = ag_emit_value(&emit, AG_COUNT_RECEIVED, hidden, block->received);
    int32_t results = ag_emit_value(&emit, AG_COUNT_RECEIVED, hidden, block->results);
    int32_t rows = ag_emit_value(&emit, AG_COUNT_RECEIVED, hidden, AG_INTERNAL);
    int32_t made =
        block->trains ? ag_emit_value(&emit, AG_COUNT_RECEIVED, hidden, AG_INTERNAL) : rows;
    ag_node_t node = groups_node(&emit, layer, shard->experts.n_ranks, counts), like = node;

    if (shard->experts.n_held == 0) {
        return emit.status;
    }
    node.kind = AG_NODE_REGROUP;
    node.in[0] = received;
    node.out = rows;
    ag_emit_node(&emit, &node);
    add_experts(&emit, &like, AG_COUNT_RECEIVED, rows, made);
    node.in[0] = made;
    node.out = results;
    node.attr.groups.back = true;
    ag_emit_node(&emit, &node);
    return emit.status;
}

ag_status_t ag_block_combine(const ag_block_t *block, uint32_t layer, ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    int32_t results =
        ag_emit_value(&emit, AG_COUNT_SENT, ag_emit_spec(&emit)->hidden, block->returned);

    add_combining(&emit, layer, results, routes_value(&emit, layer, block->routes));
    return emit.status;
}
