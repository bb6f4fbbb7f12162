/* A feed-forward part that every token goes through: gated, or plain. */
#include "runtime/model/block_priv.h"

static int32_t add_ffn_columns(ag_emit_t *emit, ag_role_t role, ag_role_t bias_role, uint32_t layer,
                               int32_t x)
{
    const ag_spec_t *spec = ag_emit_spec(emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &emit->block->shard->layers[spec->kind_of_layer[layer]];
    int32_t y = ag_emit_internal(emit, held->ffn_end - held->ffn_begin);
    int32_t weight = ag_emit_rows_param(emit, role, layer, kind->ffn_width, held->ffn_begin,
                                        held->ffn_end, spec->hidden);
    int32_t bias = ag_emit_vector_param(emit, kind->ffn_bias, bias_role, layer, kind->ffn_width,
                                        held->ffn_begin, held->ffn_end);

    ag_emit_linear(emit, layer, x, weight, bias, y);
    return y;
}

int32_t ag_emit_glu(ag_emit_t *emit, uint32_t layer, ag_counter_t counter, uint32_t width,
                    int32_t gate, int32_t up)
{
    const ag_layer_spec_t *kind = ag_spec_layer(ag_emit_spec(emit), layer);
    int32_t product = emit->block->trains ? ag_emit_value(emit, counter, width, AG_INTERNAL) : gate;

    ag_emit_node(emit, &(ag_node_t){.kind = AG_NODE_GLU,
                                    .layer = layer,
                                    .in = {gate, up},
                                    .out = product,
                                    .weight = AG_NO_PARAM,
                                    .bias = AG_NO_PARAM,
                                    .attr.glu = {.act = kind->ffn_act,
                                                 .limit = kind->ffn_limit,
                                                 .up_offset = kind->ffn_up_offset}});
    return product;
}

static int32_t add_act(ag_emit_t *emit, uint32_t layer, int32_t x, uint32_t width)
{
    int32_t y = emit->block->trains ? ag_emit_internal(emit, width) : x;

    ag_emit_node(emit,
                 &(ag_node_t){.kind = AG_NODE_ACT,
                              .layer = layer,
                              .in = {x, AG_NO_VALUE},
                              .out = y,
                              .weight = AG_NO_PARAM,
                              .bias = AG_NO_PARAM,
                              .attr.glu.act = ag_spec_layer(ag_emit_spec(emit), layer)->ffn_act});
    return y;
}

ag_status_t ag_block_ffn(const ag_block_t *block, uint32_t layer, bool add_partial,
                         ag_graph_t *graph)
{
    ag_emit_t emit = ag_emit_begin(block, graph);
    const ag_spec_t *spec = ag_emit_spec(&emit);
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &block->shard->layers[spec->kind_of_layer[layer]];
    int32_t normed, gate, up, product, weight, bias;

    if (kind->route.n_experts > 0) {
        return ag_emit_all_experts(&emit, layer, add_partial);
    }
    if (add_partial) {
        ag_emit_partial_to_x(&emit, AG_ROLE_ATTN_POST_NORM, layer);
    }
    normed = ag_emit_input(&emit, AG_ROLE_FFN_NORM, layer);
    if (kind->ffn_is_gated) {
        gate = add_ffn_columns(&emit, AG_ROLE_GATE, AG_ROLE_GATE_BIAS, layer, normed);
        up = add_ffn_columns(&emit, AG_ROLE_UP, AG_ROLE_UP_BIAS, layer, normed);
        product =
            ag_emit_glu(&emit, layer, AG_COUNT_TOKENS, held->ffn_end - held->ffn_begin, gate, up);
    } else {
        up = add_ffn_columns(&emit, AG_ROLE_UP, AG_ROLE_UP_BIAS, layer, normed);
        product = add_act(&emit, layer, up, held->ffn_end - held->ffn_begin);
    }
    weight = ag_emit_cols_param(&emit, AG_ROLE_DOWN, layer, spec->hidden, kind->ffn_width,
                                held->ffn_begin, held->ffn_end);
    bias = ag_emit_vector_param(&emit, kind->ffn_bias && block->shard->index == 0,
                                AG_ROLE_DOWN_BIAS, layer, spec->hidden, 0, spec->hidden);
    ag_emit_linear(&emit, layer, product, weight, bias, ag_emit_partial(&emit));
    return emit.status;
}
