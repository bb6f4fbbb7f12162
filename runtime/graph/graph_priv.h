#pragma once

#include "runtime/graph/graph.h"

/* What of a value a node's threads touch: how they share it out. */
typedef enum ag_sharing {
    AG_BY_ANY,     /* each may touch all of it */
    AG_BY_ROWS,    /* each its share of the rows */
    AG_BY_COLUMNS, /* each its share of the columns, node->grain together */
} ag_sharing_t;

/* One row per node kind: adding an operator adds a row. */
typedef struct ag_node_ops {
    const char *name;
    uint32_t n_in;
    bool makes_value;
    ag_sharing_t in, out; /* of every input and of the output */
    /** Check widths against params and attributes; fills *width_p with the output's width. NULL:
     * only compiling makes such nodes. */
    bool (*infer)(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                  uint32_t *width_p);
    void (*run)(const ag_graph_run_t *run, const ag_node_t *node,
                const ag_kernel_context_t *context);
    /** Add this node's share to *cost; NULL: what it costs is too little to count. */
    void (*cost)(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                 const ag_cost_shape_t *shape, ag_cost_t *cost);
    /** Scratch of each thread; NULL: none. */
    uint64_t (*thread_scratch)(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params);
} ag_node_ops_t;

extern const ag_node_ops_t ag_node_ops[AG_N_NODE_KINDS];

/** Bytes of a prepared row that a node multiplies by; 0: it takes none. */
uint64_t ag_node_prepared_bytes(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params);

/**
 * Choose what the class's number of rows decides (lower.c): PREPARE before layers of many rows,
 * attention of few rows in parts, norms of few rows by every thread for itself; and the nodes'
 * grains. What an earlier call made goes first.
 */
ag_status_t ag_graph_lower(ag_graph_t *graph, const uint64_t *bounds,
                           const ag_graph_param_t *params);

static inline const ag_value_t *ag_graph_get(const ag_graph_t *graph, int32_t value)
{
    return &AG_ITEMS(&graph->values, ag_value_t)[value];
}
