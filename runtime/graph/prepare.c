/*
 * Layers of one input share its prepared rows: int8 with scales, or bf16. For many rows each thread
 * prepares its share and meets the others' behind a barrier; a few rows cost less than the barrier,
 * so that each thread prepares all of them for itself (ag_kernel_linear()).
 */
#include "runtime/graph/graph_priv.h"

enum { FEW_ROWS = 8 };

/* A value's prepared rows, as long as the value stays what it is. */
typedef struct held {
    int32_t value, prepared;
    ag_dtype_t dtype;
} held_t;

static void remove_prepared(ag_graph_t *graph)
{
    ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);
    size_t n_kept = 0;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        if (nodes[i].kind == AG_NODE_PREPARE) { /* its values are the last ones */
            if ((size_t)nodes[i].out < graph->values.n_items) {
                graph->values.n_items = (size_t)nodes[i].out;
            }
            continue;
        }
        nodes[n_kept] = nodes[i];
        if (nodes[n_kept].kind == AG_NODE_LINEAR) {
            nodes[n_kept].in[1] = AG_NO_VALUE;
        }
        n_kept++;
    }
    graph->nodes.n_items = n_kept;
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
    ag_node_t prepare = {.kind = AG_NODE_PREPARE,
                         .layer = layer->layer,
                         .in = {layer->in[0], AG_NO_VALUE},
                         .weight = layer->weight,
                         .bias = AG_NO_PARAM};
    ag_status_t status = AG_OK;

    layer->in[1] = find_held(held, made.value, made.dtype);
    if (layer->in[1] == AG_NO_VALUE) {
        made.prepared = ag_graph_value(graph, ag_graph_get(graph, layer->in[0])->counter,
                                       (uint32_t)(row_bytes / sizeof(float)), AG_INTERNAL);
        prepare.out = layer->in[1] = made.prepared;
        status = made.prepared < 0 ? ag_fail_nomem("compiling a segment", sizeof(ag_value_t))
                                   : ag_array_append(nodes, &prepare, 1);
        if (status == AG_OK) {
            status = ag_array_append(held, &made, 1);
        }
    }
    return status == AG_OK ? ag_array_append(nodes, layer, 1) : status;
}

ag_status_t ag_graph_prepare(ag_graph_t *graph, const uint64_t *bounds,
                             const ag_graph_param_t *params)
{
    ag_array_t nodes = AG_ARRAY(ag_node_t), held = AG_ARRAY(held_t);
    ag_status_t status = AG_OK;

    remove_prepared(graph);
    for (size_t i = 0; i < graph->nodes.n_items && status == AG_OK; i++) {
        ag_node_t node = AG_ITEMS(&graph->nodes, ag_node_t)[i];
        bool many = ag_node_prepared_bytes(graph, &node, params) > 0 &&
                    bounds[ag_graph_get(graph, node.in[0])->counter] > FEW_ROWS;

        status = many ? add_layer(graph, params, &node, &nodes, &held)
                      : ag_array_append(&nodes, &node, 1);
        forget(&held, node.out);
    }
    ag_array_fini(&held);
    if (status != AG_OK) {
        ag_array_fini(&nodes);
        return status;
    }
    ag_array_fini(&graph->nodes);
    graph->nodes = nodes;
    return AG_OK;
}
