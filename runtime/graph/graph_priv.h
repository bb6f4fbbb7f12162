#pragma once

#include "runtime/graph/graph.h"

/* What of a value a node's threads touch: how they share it out. */
typedef enum ag_sharing {
    AG_BY_ANY,     /* each may touch all of it */
    AG_BY_ROWS,    /* each its share of the rows */
    AG_BY_COLUMNS, /* each its share of the columns, node->grain together */
} ag_sharing_t;

/** Check widths against params and attributes; fills *width_p with the output's width. NULL: only
 * compiling makes such nodes. */
typedef bool ag_node_infer_fn_t(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params, uint32_t *width_p);
typedef void ag_node_run_fn_t(const ag_graph_run_t *run, const ag_node_t *node,
                              const ag_kernel_context_t *context);
/** Add this node's share to *cost; NULL: what it costs is too little to count. */
typedef void ag_node_cost_fn_t(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                               ag_cost_t *cost);
/** Scratch of each thread; NULL: none. */
typedef uint64_t ag_node_scratch_fn_t(const ag_graph_t *graph, const ag_node_t *node,
                                      const ag_graph_param_t *params);

typedef struct ag_backward ag_backward_t;

/** Append to the graph that is being written what gives a node's inputs and weights their
 * gradients; its output's is complete. NULL: there is none. */
typedef void ag_node_backward_fn_t(ag_backward_t *backward, const ag_node_t *node);

/* One row per node kind: adding an operator adds a row. */
typedef struct ag_node_ops {
    const char *name;
    uint32_t n_in;
    bool makes_value;
    ag_sharing_t in, out; /* of every input and of the output */
    ag_node_infer_fn_t *infer;
    ag_node_run_fn_t *run;
    ag_node_cost_fn_t *cost;
    ag_node_scratch_fn_t *thread_scratch;
    ag_node_backward_fn_t *backward;
    bool is_cheap; /* gradients make its output again rather than keep it; it has no further ones */
    bool is_of_weight; /* it adds to a weight's gradient, for which no other rank waits */
    bool is_of_rows;   /* a row of its output follows from that row of its inputs alone */
    uint32_t n_more;   /* further outputs; node->more may leave some out */
    /* In training, bits of inputs and of outputs (the first, then further ones) that may be rounded
     * to bfloat16; what an operator's rule reads of the forward run may be where its own is. */
    uint8_t rounded_in, rounded_out;
} ag_node_ops_t;

extern const ag_node_ops_t ag_node_ops[AG_N_NODE_KINDS];

/** Does a node multiply by weights that may be packed? */
static inline bool ag_node_is_layer(const ag_node_t *node)
{
    return node->kind == AG_NODE_LINEAR || node->kind == AG_NODE_GROUPED_LINEAR ||
           node->kind == AG_NODE_HEAD_LINEAR;
}

/** Of one of these: where the first input stands prepared; AG_NO_VALUE: nowhere. */
static inline int32_t *ag_node_prepared(ag_node_t *node)
{
    return &node->in[node->kind == AG_NODE_GROUPED_LINEAR ? 2 : 1];
}

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

static inline uint32_t ag_graph_width(const ag_graph_t *graph, int32_t value)
{
    return ag_graph_get(graph, value)->width;
}

static inline ag_counter_t ag_graph_counter(const ag_graph_t *graph, int32_t value)
{
    return ag_graph_get(graph, value)->counter;
}

static inline bool ag_graph_has_shape(const ag_graph_t *graph, int32_t value, ag_counter_t counter,
                                      uint64_t width)
{
    return ag_graph_counter(graph, value) == counter && ag_graph_width(graph, value) == width;
}

/* What a node touches: its inputs, then its outputs; AG_NO_VALUE where there is none. */
enum { AG_NODE_MAX_TOUCHED = AG_NODE_MAX_IN + 1 + AG_NODE_MAX_MORE };

static inline int32_t ag_node_touched(const ag_node_t *node, int i)
{
    return i < AG_NODE_MAX_IN    ? node->in[i]
           : i == AG_NODE_MAX_IN ? node->out
                                 : node->more[i - AG_NODE_MAX_IN - 1];
}

/** A layer whose rows were prepared by all: what each thread makes of it, others may make for it.
 */
static inline bool ag_node_has_claims(const ag_node_t *node)
{
    return node->kind == AG_NODE_LINEAR && node->in[1] != AG_NO_VALUE;
}

/** Of NORM: how many groups of a row's columns are normed, each for itself. */
uint32_t ag_node_groups_of_norm(const ag_node_t *node);
/** Append next's nodes [begin, end), as ag_graph_append() does. */
ag_status_t ag_graph_append_run(ag_graph_t *graph, const ag_graph_t *next, size_t begin,
                                size_t end);

/** Rows that a value has in a run. */
uint64_t ag_run_rows(const ag_graph_run_t *run, int32_t value);

/** May every node that makes the value round it, and may those that read it have it so? */
bool ag_graph_may_round(const ag_graph_t *graph, int32_t value);

/** A value, or this thread's copy of it; as floats: it is not rounded. */
float *ag_run_data(const ag_graph_run_t *run, const ag_kernel_context_t *context, int32_t value);
ag_elements_t ag_run_elements(const ag_graph_run_t *run, const ag_kernel_context_t *context,
                              int32_t value);

/** What a node multiplies by, of GROUPED_LINEAR the first group's. */
ag_linear_t ag_node_linear(const ag_graph_param_t *params, const ag_node_t *node);

/** Counts as a node's input has them; AG_NO_VALUE: each group has all rows of the node's first. */
ag_groups_t ag_node_groups(const ag_graph_run_t *run, const ag_node_t *node,
                           const ag_kernel_context_t *context, int32_t counts);

/* nodes_train.c's part of the table. */
ag_node_infer_fn_t ag_rope_infer, ag_self_attention_infer, ag_self_attention_grad_infer,
    ag_sinks_grad_infer, ag_loss_statistics_infer, ag_loss_infer, ag_add_losses_infer,
    ag_linear_grad_infer, ag_linear_weight_grad_infer, ag_norm_grad_infer,
    ag_norm_weight_grad_infer, ag_glu_grad_infer, ag_act_grad_infer, ag_embed_weight_grad_infer,
    ag_select_grad_infer, ag_zero_infer, ag_sum_squares_infer, ag_totals_infer, ag_adamw_infer,
    ag_publish_infer, ag_adopt_infer, ag_round_infer;
ag_node_run_fn_t ag_round_run, ag_self_attention_run, ag_self_attention_grad_run, ag_sinks_grad_run,
    ag_loss_statistics_run, ag_loss_run, ag_add_losses_run, ag_linear_grad_run,
    ag_linear_weight_grad_run, ag_norm_grad_run, ag_norm_weight_grad_run, ag_rope_grad_run,
    ag_glu_grad_run, ag_act_grad_run, ag_embed_weight_grad_run, ag_select_grad_run, ag_zero_run,
    ag_sum_squares_run, ag_totals_run, ag_adamw_run, ag_publish_run, ag_adopt_run;
ag_node_scratch_fn_t ag_norm_scratch, ag_self_attention_scratch, ag_train_linear_scratch;

/* nodes_attention.c's. */
ag_node_infer_fn_t ag_append_infer, ag_cached_attention_infer;
ag_node_run_fn_t ag_append_run, ag_cached_attention_run, ag_parts_run, ag_merge_run;
ag_node_scratch_fn_t ag_cached_attention_scratch;

/** Of attention over a cache: a head's columns of its output. */
uint32_t ag_node_value_dim(const ag_node_t *node);

/* nodes_rows.c's. */
ag_node_infer_fn_t ag_gate_rows_infer, ag_gate_rows_grad_infer, ag_head_columns_infer,
    ag_head_linear_infer;
ag_node_run_fn_t ag_gate_rows_run, ag_gate_rows_grad_run, ag_head_columns_run, ag_head_linear_run;

/* rules.c's. */
ag_node_backward_fn_t ag_linear_backward, ag_norm_backward, ag_add_backward, ag_rope_backward,
    ag_self_attention_backward, ag_glu_backward, ag_gate_rows_backward, ag_act_backward,
    ag_head_columns_backward, ag_embed_backward, ag_select_backward, ag_columns_backward,
    ag_grouped_linear_backward, ag_regroup_backward, ag_permute_backward, ag_combine_backward,
    ag_route_backward;

/* nodes_experts.c's part of the table. */
ag_node_infer_fn_t ag_route_infer, ag_count_rows_infer, ag_permute_infer, ag_regroup_infer,
    ag_grouped_linear_infer, ag_combine_infer;
ag_node_run_fn_t ag_route_run, ag_count_rows_run, ag_permute_run, ag_regroup_run,
    ag_grouped_linear_run, ag_combine_run;
ag_node_scratch_fn_t ag_route_scratch, ag_places_scratch, ag_regroup_scratch, ag_linear_scratch;

/* costs.c's. */
ag_node_cost_fn_t ag_embed_cost, ag_linear_cost, ag_attention_cost, ag_grouped_linear_cost,
    ag_head_linear_cost, ag_self_attention_cost, ag_self_attention_grad_cost,
    ag_linear_weight_grad_cost, ag_grouped_linear_weight_grad_cost, ag_embed_weight_grad_cost,
    ag_zero_cost, ag_sum_squares_cost, ag_adamw_cost, ag_publish_cost, ag_adopt_cost;

/* nodes_experts_grad.c's. */
ag_node_infer_fn_t ag_route_grad_infer, ag_permute_grad_infer, ag_combine_grad_infer,
    ag_grouped_linear_grad_infer, ag_grouped_linear_weight_grad_infer, ag_router_statistics_infer,
    ag_router_loss_grad_infer;
ag_node_run_fn_t ag_route_grad_run, ag_permute_grad_run, ag_combine_grad_run,
    ag_grouped_linear_grad_run, ag_grouped_linear_weight_grad_run, ag_router_statistics_run,
    ag_router_loss_grad_run;
ag_node_scratch_fn_t ag_grouped_linear_weight_grad_scratch, ag_router_loss_grad_scratch;

/** Are a node's counts of as many groups and sources as it says? */
bool ag_node_counts_fit(const ag_graph_t *graph, const ag_node_t *node);
