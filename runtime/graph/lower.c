/*
 * What the number of rows decides. Layers of one input share its prepared rows: int8 with scales,
 * or bf16. For many rows each thread prepares its share and meets the others' behind a barrier; a
 * few rows cost less than the barrier, so that each thread norms and prepares all of them for
 * itself (ag_kernel_linear()). Attention of few rows is cut by positions, of many by rows; where
 * each sequence has but one, by positions, too, however many they are: its bits are the same in any
 * company.
 */
#include "runtime/graph/graph_priv.h"

enum { FEW_ROWS = 8 };

/* A value's prepared rows, as long as the value stays what it is. */
typedef struct held {
    int32_t value, prepared;
    ag_dtype_t dtype;
} held_t;

/* What an earlier lowering made goes; its values are the last ones. */
static void restore(ag_graph_t *graph)
{
    ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);
    size_t n_kept = 0;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        ag_node_t node = nodes[i];

        if ((node.kind == AG_NODE_PREPARE || node.kind == AG_NODE_ATTENTION_PARTS) &&
            (size_t)node.out < graph->values.n_items) {
            graph->values.n_items = (size_t)node.out;
        }
        if (node.kind == AG_NODE_PREPARE || node.kind == AG_NODE_ATTENTION_MERGE) {
            continue;
        }
        if (node.kind == AG_NODE_ATTENTION_PARTS) { /* the merge follows */
            node.kind = AG_NODE_ATTENTION;
            node.out = nodes[i + 1].out;
        }
        if (ag_node_is_layer(&node)) {
            *ag_node_prepared(&node) = AG_NO_VALUE;
        }
        nodes[n_kept++] = node;
    }
    graph->nodes.n_items = n_kept;
    for (size_t i = 0; i < graph->values.n_items; i++) {
        ag_value_t *value = &AG_ITEMS(&graph->values, ag_value_t)[i];

        value->is_own = false;
        value->rounded &= value->buffer != AG_INTERNAL;
    }
}

/* What only products and the like read they would round each for itself. */
static void round_values(ag_graph_t *graph)
{
    for (size_t i = 0; i < graph->values.n_items && ag_graph_rounds(graph); i++) {
        if (ag_graph_get(graph, (int32_t)i)->buffer == AG_INTERNAL &&
            ag_graph_may_round(graph, (int32_t)i)) {
            ag_graph_round(graph, (int32_t)i);
        }
    }
}

/* Does nothing but layers read what a norm makes, so that each thread may have its own? */
static bool may_be_own(const ag_graph_t *graph, const ag_node_t *norm)
{
    if (norm->in[0] == norm->out || ag_graph_get(graph, norm->out)->buffer != AG_INTERNAL) {
        return false;
    }
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];
        bool reads = false;

        for (int j = 0; j < AG_NODE_MAX_IN; j++) {
            reads |= node->in[j] == norm->out;
        }
        if ((reads && node->kind != AG_NODE_LINEAR) ||
            (node->out == norm->out && (reads || node->kind != AG_NODE_NORM))) {
            return false;
        }
    }
    return true;
}

/* Of a class: is its attention cut by positions? */
static bool has_parts(const uint64_t *bounds)
{
    return bounds[AG_COUNT_TOKENS] <= FEW_ROWS ||
           bounds[AG_COUNT_TOKENS] <= bounds[AG_COUNT_SEQUENCES];
}

static void find_own_values(ag_graph_t *graph, const uint64_t *bounds)
{
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];

        if (node->kind == AG_NODE_NORM &&
            bounds[ag_graph_get(graph, node->out)->counter] <= FEW_ROWS) {
            AG_ITEMS(&graph->values, ag_value_t)[node->out].is_own = may_be_own(graph, node);
        }
    }
}

/* Over few rows of a layer's output threads take the columns that they have made, over many whole
 * rows, which lie together in memory. */
static void set_grains(ag_graph_t *graph, const uint64_t *bounds, const ag_graph_param_t *params)
{
    ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        bool by_columns = ag_node_ops[nodes[i].kind].out == AG_BY_COLUMNS;

        nodes[i].grain = 0;
        if (nodes[i].kind == AG_NODE_LINEAR || nodes[i].kind == AG_NODE_GROUPED_LINEAR) {
            nodes[i].grain = ag_linear_grain(params[nodes[i].weight].packing);
            continue;
        }
        if (!by_columns || bounds[ag_graph_get(graph, nodes[i].out)->counter] > FEW_ROWS) {
            continue;
        }
        nodes[i].grain = ag_linear_grain(AG_PACKING_R16);
        for (size_t j = i; j > 0; j--) {
            if (nodes[j - 1].out == nodes[i].in[ag_node_ops[nodes[i].kind].n_in - 1]) {
                nodes[i].grain = nodes[j - 1].grain;
                break;
            }
        }
    }
}

static int32_t find_held(const ag_array_t *held, int32_t value, ag_dtype_t dtype)
{
    for (size_t i = 0; i < held->n_items; i++) {
        const held_t *h = &AG_ITEMS(held, held_t)[i];

        if (h->value == value && h->dtype == dtype) {
            return h->prepared;
        }
    }
    return AG_NO_VALUE;
}

/* A value is written to: what was prepared of it is of another. */
static void forget(ag_array_t *held, int32_t value)
{
    held_t *items = AG_ITEMS(held, held_t);
    size_t n_kept = 0;

    for (size_t i = 0; i < held->n_items; i++) {
        if (items[i].value != value) {
            items[n_kept++] = items[i];
        }
    }
    held->n_items = n_kept;
}

/* Append a layer to nodes, behind a PREPARE where nothing is held of its input. */
static ag_status_t add_layer(ag_graph_t *graph, const ag_graph_param_t *params, ag_node_t *layer,
                             ag_array_t *nodes, ag_array_t *held)
{
    uint64_t row_bytes = ag_node_prepared_bytes(graph, layer, params);
    held_t made = {.value = layer->in[0], .dtype = params[layer->weight].dtype};
    ag_node_t prepare = *layer;
    int32_t *prepared = ag_node_prepared(layer);
    ag_status_t status = AG_OK;

    prepare.kind = AG_NODE_PREPARE;
    prepare.bias = AG_NO_PARAM;
    prepare.in[2] = AG_NO_VALUE;
    if (layer->kind != AG_NODE_GROUPED_LINEAR) { /* its second input is the groups' counts */
        prepare.in[1] = AG_NO_VALUE;
    }
    *prepared = find_held(held, made.value, made.dtype);
    if (*prepared == AG_NO_VALUE) {
        made.prepared = ag_graph_value(graph, ag_graph_get(graph, layer->in[0])->counter,
                                       (uint32_t)(row_bytes / sizeof(float)), AG_INTERNAL);
        prepare.out = *prepared = made.prepared;
        status = made.prepared < 0 ? ag_fail_nomem("compiling a segment", sizeof(ag_value_t))
                                   : ag_array_append(nodes, &prepare, 1);
        if (status == AG_OK) {
            status = ag_array_append(held, &made, 1);
        }
    }
    return status == AG_OK ? ag_array_append(nodes, layer, 1) : status;
}

/* Append attention to nodes as its parts and their merging. */
static ag_status_t add_parts(ag_graph_t *graph, const ag_node_t *attention, ag_array_t *nodes)
{
    ag_node_t parts = *attention, merge = *attention;
    ag_status_t status;

    parts.kind = AG_NODE_ATTENTION_PARTS;
    parts.out = ag_graph_value(
        graph, AG_COUNT_TOKENS,
        ag_attention_parts_width(&parts.attr.attention.args, ag_node_value_dim(attention)),
        AG_INTERNAL);
    merge.kind = AG_NODE_ATTENTION_MERGE;
    merge.in[0] = parts.out;
    status = parts.out < 0 ? ag_fail_nomem("compiling a segment", sizeof(ag_value_t))
                           : ag_array_append(nodes, &parts, 1);
    return status == AG_OK ? ag_array_append(nodes, &merge, 1) : status;
}

ag_status_t ag_graph_lower(ag_graph_t *graph, const uint64_t *bounds,
                           const ag_graph_param_t *params)
{
    ag_array_t nodes = AG_ARRAY(ag_node_t), held = AG_ARRAY(held_t);
    ag_status_t status = AG_OK;

    restore(graph);
    round_values(graph);
    find_own_values(graph, bounds);
    for (size_t i = 0; i < graph->nodes.n_items && status == AG_OK; i++) {
        ag_node_t node = AG_ITEMS(&graph->nodes, ag_node_t)[i];

        if (ag_node_prepared_bytes(graph, &node, params) > 0 &&
            bounds[ag_graph_get(graph, node.in[0])->counter] > FEW_ROWS) {
            status = add_layer(graph, params, &node, &nodes, &held);
        } else if (node.kind == AG_NODE_ATTENTION && has_parts(bounds)) {
            status = add_parts(graph, &node, &nodes);
        } else {
            status = ag_array_append(&nodes, &node, 1);
        }
        forget(&held, node.out);
    }
    ag_array_fini(&held);
    if (status != AG_OK) {
        ag_array_fini(&nodes);
        return status;
    }
    ag_array_fini(&graph->nodes);
    graph->nodes = nodes;
    set_grains(graph, bounds, params);
    return AG_OK;
}
