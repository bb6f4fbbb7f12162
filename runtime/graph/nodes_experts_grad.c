/* Gradients of the operators of several experts: shape and work. What they compute is said in
 * runtime/kernel/train.h. */
#include <string.h>

#include "runtime/graph/graph_priv.h"

/* ROUTE_GRAD: dweights (rows, used), scores (rows, experts), routes -> dscores */

bool ag_route_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_route_t *route = &node->attr.route.of;
    ag_counter_t counter = ag_graph_counter(graph, node->out);

    (void)params;
    *width_p = route->n_experts;
    return ag_graph_has_shape(graph, node->in[0], counter, route->n_used) &&
           ag_graph_has_shape(graph, node->in[1], counter, route->n_experts) &&
           ag_graph_has_shape(graph, node->in[2], counter, ag_route_width(route->n_used));
}

void ag_route_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    ag_kernel_route_grad(context, &node->attr.route.of, ag_run_data(run, context, node->in[1]),
                         ag_run_data(run, context, node->in[2]),
                         ag_run_data(run, context, node->in[0]), ag_run_rows(run, node->in[1]),
                         node->adds, ag_run_data(run, context, node->out));
}

/* PERMUTE_GRAD: dcopies (copies, width), routes -> dx (rows, width) */

bool ag_permute_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                           const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_counter(graph, node->in[0]) == AG_COUNT_SENT &&
           ag_graph_has_shape(graph, node->in[1], ag_graph_counter(graph, node->out),
                              ag_route_width(node->attr.places.n_used));
}

void ag_permute_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                         const ag_kernel_context_t *context)
{
    ag_kernel_permute_grad(context, &node->attr.places, ag_run_data(run, context, node->in[1]),
                           ag_run_rows(run, node->in[1]), ag_run_data(run, context, node->in[0]),
                           ag_graph_width(run->graph, node->in[0]), node->adds,
                           ag_run_data(run, context, node->out));
}

/* COMBINE_GRAD: dy (rows, width), results (copies, width), routes -> dresults, dweights (rows,
 * used) */

bool ag_combine_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                           const ag_graph_param_t *params, uint32_t *width_p)
{
    uint32_t n_used = node->attr.places.n_used;
    ag_counter_t counter = ag_graph_counter(graph, node->in[0]);

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_has_shape(graph, node->in[1], AG_COUNT_SENT, *width_p) &&
           ag_graph_has_shape(graph, node->in[2], counter, ag_route_width(n_used)) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_SENT && node->more[0] != AG_NO_VALUE &&
           ag_graph_has_shape(graph, node->more[0], counter, n_used);
}

void ag_combine_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                         const ag_kernel_context_t *context)
{
    ag_kernel_combine_grad(
        context, &node->attr.places, ag_run_data(run, context, node->in[2]),
        ag_run_rows(run, node->in[2]), ag_run_data(run, context, node->in[1]),
        ag_run_data(run, context, node->in[0]), ag_graph_width(run->graph, node->in[0]),
        ag_run_data(run, context, node->out), ag_run_data(run, context, node->more[0]));
}

/* GROUPED_LINEAR_GRAD: dy (copies, n), counts -> dx (copies, k) */

bool ag_grouped_linear_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                                  const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *first = &params[node->weight];

    *width_p = (uint32_t)first->cols;
    return ag_node_counts_fit(graph, node) &&
           ag_graph_has_shape(graph, node->in[0], ag_graph_counter(graph, node->out), first->rows);
}

void ag_grouped_linear_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                                const ag_kernel_context_t *context)
{
    ag_groups_t groups = ag_node_groups(run, node, context, node->in[1]);
    ag_linear_t linear = ag_node_linear(run->params, node);
    ag_group_weights_t weights = {
        .first = (const unsigned char *)&run->params[node->weight].data,
        .stride_bytes = sizeof(ag_graph_param_t),
    };

    ag_kernel_group_input_grad(context, &groups, &linear, &weights,
                               ag_run_data(run, context, node->in[0]), run->graph->exact,
                               node->adds, ag_run_data(run, context, node->out));
}

/* GROUPED_LINEAR_WEIGHT_GRAD: dy (copies, n), counts, x (copies, k) -> added to the groups'
 * dweights, which lie grad_stride floats apart in one value, and to dbiases, if there are any */

bool ag_grouped_linear_weight_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                                         const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *first = &params[node->weight];
    uint32_t n_groups = node->attr.groups.n_groups;

    *width_p =
        (uint32_t)((n_groups - 1) * node->attr.groups.grad_stride + first->rows * first->cols);
    return n_groups > 0 && ag_node_counts_fit(graph, node) &&
           (node->more[0] == AG_NO_VALUE ||
            ag_graph_has_shape(graph, node->more[0], AG_COUNT_ONE,
                               (n_groups - 1) * node->attr.groups.bias_grad_stride +
                                   first->rows)) &&
           ag_graph_has_shape(graph, node->in[0], ag_graph_counter(graph, node->in[2]),
                              first->rows) &&
           ag_graph_width(graph, node->in[2]) == first->cols &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE;
}

/* The groups' pointers stand behind what the products take. */
static uint64_t pointers_offset(void)
{
    enum { ALIGN_BYTES = 64 };

    return (ag_train_linear_scratch_bytes() + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

uint64_t ag_grouped_linear_weight_grad_scratch(const ag_graph_t *graph, const ag_node_t *node,
                                               const ag_graph_param_t *params)
{
    (void)graph;
    (void)params;
    return pointers_offset() + 2 * node->attr.groups.n_groups * sizeof(float *);
}

void ag_grouped_linear_weight_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                                       const ag_kernel_context_t *context)
{
    ag_groups_t groups = ag_node_groups(run, node, context, node->in[1]);
    ag_linear_t linear = ag_node_linear(run->params, node);
    float **pointers = (float **)(void *)((unsigned char *)context->scratch + pointers_offset());
    float **biases = pointers + groups.n_groups, *first = ag_run_data(run, context, node->out);
    bool has_biases = node->more[0] != AG_NO_VALUE;
    float *first_bias = has_biases ? ag_run_data(run, context, node->more[0]) : NULL;
    ag_group_weights_t dweights = {
        .first = (const unsigned char *)pointers,
        .stride_bytes = sizeof(*pointers),
        .first_bias = has_biases ? (const unsigned char *)biases : NULL,
    };

    for (uint32_t g = 0; g < groups.n_groups; g++) {
        pointers[g] = first + g * node->attr.groups.grad_stride;
        biases[g] = has_biases ? first_bias + g * node->attr.groups.bias_grad_stride : NULL;
    }
    ag_kernel_group_weight_grad(context, &groups, &linear, &dweights,
                                ag_run_data(run, context, node->in[0]),
                                ag_run_data(run, context, node->in[2]), run->graph->exact);
}

/*
 * ROUTER_STATISTICS: scores (rows, experts), routes -> (rows, statistics), of which the first hold
 * those of chunks of rows; ROUTER_LOSS_GRAD: scores, statistics -> added to this rank's rows of
 * dscores. The statistics are of all rows of the layer that the replica's micro-batch has, as those
 * of a forward pass in transformers: a global batch's are known when the last gradient is taken.
 * Nothing is done where a step has no factors for the losses.
 */

static bool has_router_losses(const ag_graph_run_t *run)
{
    return run->step->update->balance != 0 || run->step->update->z != 0;
}

bool ag_router_statistics_infer(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_route_t *route = &node->attr.route.of;
    ag_counter_t counter = ag_graph_counter(graph, node->out);

    (void)params;
    *width_p = ag_router_statistics(route->n_experts);
    return ag_graph_has_shape(graph, node->in[0], counter, route->n_experts) &&
           ag_graph_has_shape(graph, node->in[1], counter, ag_route_width(route->n_used));
}

void ag_router_statistics_run(const ag_graph_run_t *run, const ag_node_t *node,
                              const ag_kernel_context_t *context)
{
    if (has_router_losses(run)) {
        ag_kernel_router_statistics(
            context, &node->attr.route.of, ag_run_data(run, context, node->in[0]),
            ag_run_data(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
            ag_run_data(run, context, node->out));
    }
}

bool ag_router_loss_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params, uint32_t *width_p)
{
    uint32_t n_experts = node->attr.route.of.n_experts;
    ag_counter_t counter = ag_graph_counter(graph, node->out);

    (void)params;
    *width_p = n_experts;
    return node->adds && ag_graph_has_shape(graph, node->in[0], counter, n_experts) &&
           ag_graph_has_shape(graph, node->in[1], counter, ag_router_statistics(n_experts)) &&
           node->attr.route.part_end <= node->attr.route.n_parts;
}

uint64_t ag_router_loss_grad_scratch(const ag_graph_t *graph, const ag_node_t *node,
                                     const ag_graph_param_t *params)
{
    (void)graph;
    (void)params;
    return ag_router_statistics(node->attr.route.of.n_experts) * sizeof(float);
}

/* Every thread adds the chunks up for itself. */
void ag_router_loss_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                             const ag_kernel_context_t *context)
{
    const ag_route_t *route = &node->attr.route.of;
    const ag_places_t mine = {.part = node->attr.route.part,
                              .part_end = node->attr.route.part_end,
                              .n_parts = node->attr.route.n_parts};
    const ag_worker_t alone = {.n_threads = 1};
    ag_kernel_context_t own = *context;
    uint64_t n_rows = ag_run_rows(run, node->in[0]), begin, end;
    uint32_t width = ag_router_statistics(route->n_experts);
    ag_router_loss_t loss = {.balance = run->step->update->balance,
                             .z = run->step->update->z,
                             .n_rows = n_rows,
                             .statistics = context->scratch};

    if (!has_router_losses(run)) {
        return;
    }
    own.worker = &alone;
    memset(context->scratch, 0, width * sizeof(float));
    ag_kernel_add_rows(&own, ag_run_data(run, context, node->in[1]),
                       (n_rows + AG_ROUTER_CHUNK_ROWS - 1) / AG_ROUTER_CHUNK_ROWS, width,
                       context->scratch);
    ag_places_rows(&mine, n_rows, &begin, &end);
    ag_kernel_router_grad(
        context, route, &loss, ag_run_data(run, context, node->in[0]) + begin * route->n_experts,
        end - begin, 1, ag_run_data(run, context, node->out) + begin * route->n_experts);
}
