/* Places for internal values, and barriers between nodes. */
#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph_priv.h"

enum { ALIGN_BYTES = 64 };

typedef struct span {
    uint64_t bytes;
    size_t first, last; /* nodes that touch it */
    int32_t value;
} span_t;

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static uint64_t value_bytes(const ag_value_t *value, const uint64_t *bounds)
{
    return align_up(bounds[value->counter] * value->width * ag_element_bytes(value->rounded));
}

static int by_size_then_value(const void *a, const void *b)
{
    const span_t *x = a, *y = b;

    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return (x->value > y->value) - (x->value < y->value);
}

/* The span of nodes over which each internal value lives. */
static ag_status_t find_spans(const ag_graph_t *graph, const uint64_t *bounds, ag_array_t *spans)
{
    ag_status_t status = ag_array_append(spans, NULL, graph->values.n_items);
    span_t *items = AG_ITEMS(spans, span_t);

    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < graph->values.n_items; i++) {
        const ag_value_t *value = ag_graph_get(graph, (int32_t)i);

        items[i] = (span_t){.bytes = value->buffer == AG_INTERNAL ? value_bytes(value, bounds) : 0,
                            .first = SIZE_MAX,
                            .value = (int32_t)i};
    }
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];

        for (int j = 0; j < AG_NODE_MAX_TOUCHED; j++) {
            int32_t touched = ag_node_touched(node, j);

            if (touched != AG_NO_VALUE) {
                span_t *span = &items[touched];

                span->first = i < span->first ? i : span->first;
                span->last = i;
            }
        }
    }
    return AG_OK;
}

/* First fit, the largest first: the lowest place that no value alive at the same time occupies. */
static uint64_t find_place(const ag_graph_t *graph, const span_t *spans, size_t n_placed,
                           const span_t *span)
{
    uint64_t begin = 0;
    bool moved = true;

    while (moved) {
        moved = false;
        for (size_t i = 0; i < n_placed; i++) {
            const ag_value_t *placed = ag_graph_get(graph, spans[i].value);
            uint64_t other = placed->offset_bytes;
            bool same_space = placed->is_own == ag_graph_get(graph, span->value)->is_own;
            bool alive_together = spans[i].first <= span->last && span->first <= spans[i].last;

            if (same_space && alive_together && other < begin + span->bytes &&
                begin < other + spans[i].bytes) {
                begin = other + spans[i].bytes;
                moved = true;
            }
        }
    }
    return begin;
}

static ag_status_t place_values(ag_graph_t *graph, const uint64_t *bounds)
{
    ag_array_t spans = AG_ARRAY(span_t);
    ag_status_t status = find_spans(graph, bounds, &spans);
    span_t *items = AG_ITEMS(&spans, span_t);

    graph->scratch_bytes = graph->thread_scratch_bytes = 0;
    if (status == AG_OK && spans.n_items > 0) {
        qsort(items, spans.n_items, sizeof(*items), by_size_then_value);
    }
    for (size_t i = 0; status == AG_OK && i < spans.n_items && items[i].bytes > 0; i++) {
        ag_value_t *value = &AG_ITEMS(&graph->values, ag_value_t)[items[i].value];
        uint64_t *all = value->is_own ? &graph->thread_scratch_bytes : &graph->scratch_bytes;

        value->offset_bytes = find_place(graph, items, i, &items[i]);
        if (value->offset_bytes + items[i].bytes > *all) {
            *all = value->offset_bytes + items[i].bytes;
        }
    }
    ag_array_fini(&spans);
    return status;
}

/* What a node touches: a value's bytes, or a layer's KV cache. */
typedef struct touch {
    int32_t space; /* buffer number, AG_INTERNAL for scratch, or -2 - layer for a cache */
    uint64_t begin, end;
    bool writes;
    int32_t value; /* AG_NO_VALUE: a cache */
    ag_sharing_t sharing;
    uint32_t grain;
} touch_t;

/* How a node's threads share out its output or an input: of what each does alone, all touch all. */
static ag_sharing_t sharing_of(const ag_graph_t *graph, const ag_node_t *node, bool is_out)
{
    ag_sharing_t sharing;

    if (node->out != AG_NO_VALUE && ag_graph_get(graph, node->out)->is_own) {
        return AG_BY_ANY;
    }
    sharing = is_out ? ag_node_ops[node->kind].out : ag_node_ops[node->kind].in;
    return sharing == AG_BY_COLUMNS && node->grain == 0 ? AG_BY_ROWS : sharing;
}

static touch_t touch_value(const ag_graph_t *graph, const uint64_t *bounds, const ag_node_t *node,
                           int32_t number, bool writes)
{
    const ag_value_t *value = ag_graph_get(graph, number);
    touch_t touch = {.space = value->buffer,
                     .begin = value->begin_bytes,
                     .writes = writes,
                     .value = number,
                     .sharing = sharing_of(graph, node, writes),
                     .grain = node->grain};

    if (value->buffer == AG_INTERNAL) {
        touch.begin = value->offset_bytes;
    }
    touch.end = touch.begin + value_bytes(value, bounds);
    return touch;
}

static uint32_t node_touches(const ag_graph_t *graph, const uint64_t *bounds, const ag_node_t *node,
                             touch_t touches[AG_NODE_MAX_TOUCHED + 1])
{
    uint32_t n = 0;

    for (int i = 0; i < AG_NODE_MAX_TOUCHED; i++) {
        int32_t value = ag_node_touched(node, i);

        if (value != AG_NO_VALUE && !ag_graph_get(graph, value)->is_own) {
            touches[n++] = touch_value(graph, bounds, node, value, i >= AG_NODE_MAX_IN);
        }
    }
    if (node->kind == AG_NODE_KV_APPEND || node->kind == AG_NODE_ATTENTION ||
        node->kind == AG_NODE_ATTENTION_PARTS) {
        touches[n++] = (touch_t){.space = -2 - (int32_t)node->layer,
                                 .end = 1,
                                 .writes = node->kind == AG_NODE_KV_APPEND,
                                 .value = AG_NO_VALUE};
    }
    return n;
}

/* What is shared out alike each time: a thread meets what it left there itself. */
static bool share_alike(const touch_t *a, const touch_t *b)
{
    return a->value != AG_NO_VALUE && a->value == b->value && a->sharing == b->sharing &&
           (a->sharing == AG_BY_ROWS || (a->sharing == AG_BY_COLUMNS && a->grain == b->grain));
}

static bool conflict(const touch_t *a, const touch_t *b)
{
    if (share_alike(a, b)) {
        return false;
    }
    return (a->writes || b->writes) && a->space == b->space && a->begin < b->end &&
           b->begin < a->end;
}

static ag_status_t place_barriers(ag_graph_t *graph, const uint64_t *bounds)
{
    ag_array_t open = AG_ARRAY(touch_t); /* since the last barrier */
    ag_status_t status = AG_OK;

    for (size_t i = 0; status == AG_OK && i < graph->nodes.n_items; i++) {
        ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];
        touch_t touches[AG_NODE_MAX_TOUCHED + 1];
        uint32_t n = node_touches(graph, bounds, node, touches);

        node->barrier_before = false;
        for (size_t j = 0; j < open.n_items && !node->barrier_before; j++) {
            for (uint32_t k = 0; k < n; k++) {
                node->barrier_before |= conflict(&AG_ITEMS(&open, touch_t)[j], &touches[k]);
            }
        }
        if (node->barrier_before) {
            open.n_items = 0;
        }
        status = ag_array_append(&open, touches, n);
    }
    ag_array_fini(&open);
    return status;
}

ag_status_t ag_graph_compile(ag_graph_t *graph, const uint64_t *bounds,
                             const ag_graph_param_t *params, bool exact)
{
    ag_status_t status;

    graph->exact = exact;
    status = ag_graph_lower(graph, bounds, params);
    if (status == AG_OK) {
        status = place_values(graph, bounds);
    }
    graph->own_offset_bytes = 0;
    graph->n_claims = 0;
    for (size_t i = 0; status == AG_OK && i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];
        const ag_node_ops_t *ops = &ag_node_ops[node->kind];

        graph->n_claims += ag_node_has_claims(node);
        if (ops->thread_scratch != NULL) {
            uint64_t bytes = ops->thread_scratch(graph, node, params);

            if (bytes > graph->own_offset_bytes) {
                graph->own_offset_bytes = align_up(bytes);
            }
        }
    }
    graph->thread_scratch_bytes += graph->own_offset_bytes;
    graph->claims_offset_bytes = align_up(graph->thread_scratch_bytes);
    graph->thread_scratch_bytes = graph->claims_offset_bytes + graph->n_claims * sizeof(ag_claim_t);
    return status == AG_OK ? place_barriers(graph, bounds) : status;
}
