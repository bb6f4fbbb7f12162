/* The operators of a feed-forward part of several experts: shape, work. */
#include "runtime/graph/graph_priv.h"

/* ROUTE: scores (rows, experts) -> (rows, route); its bias (experts) is for the choice alone */

bool ag_route_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                    uint32_t *width_p)
{
    const ag_route_t *route = &node->attr.route.of;

    *width_p = ag_route_width(route->n_used);
    return ag_graph_width(graph, node->in[0]) == route->n_experts && route->n_used > 0 &&
           (node->bias == AG_NO_PARAM || params[node->bias].cols == route->n_experts) &&
           route->n_used <= route->n_experts &&
           ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->out);
}

void ag_route_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    ag_kernel_route(context, &node->attr.route.of, ag_run_data(run, context, node->in[0]),
                    node->bias == AG_NO_PARAM ? NULL : run->params[node->bias].data,
                    ag_run_rows(run, node->in[0]), ag_run_data(run, context, node->out));
}

uint64_t ag_route_scratch(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params)
{
    (void)graph;
    (void)params;
    return ag_route_scratch_bytes(&node->attr.route.of);
}

/* COUNT_ROWS: routes (rows, route) -> (1, places) uint32 */

bool ag_count_rows_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_places_t *places = &node->attr.places;

    (void)params;
    *width_p = places->n_places;
    return ag_graph_width(graph, node->in[0]) == ag_route_width(places->n_used) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE;
}

static void note_gaps(float *routes, uint64_t n_rows, uint32_t n_used, float *least)
{
    for (uint64_t i = 0; i < n_rows; i++) {
        float gap = *ag_route_gap(n_used, routes + i * ag_route_width(n_used));

        *least = gap < *least ? gap : *least;
    }
}

void ag_count_rows_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    const ag_places_t *places = &node->attr.places;
    float *routes = ag_run_data(run, context, node->in[0]);
    uint64_t n_rows = ag_run_rows(run, node->in[0]);

    ag_kernel_count_rows(context, places, routes, n_rows,
                         (uint32_t *)(void *)ag_run_data(run, context, node->out));
    if (run->least_gap != NULL && context->worker->thread == 0) {
        note_gaps(routes, n_rows, places->n_used, run->least_gap);
    }
}

/* PERMUTE: (rows, width), routes -> (copies, width) */

bool ag_permute_infer(const ag_graph_t *graph, const ag_node_t *node,
                      const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_width(graph, node->in[1]) == ag_route_width(node->attr.places.n_used) &&
           ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->in[1]) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_SENT;
}

void ag_permute_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_kernel_permute(context, &node->attr.places, ag_run_data(run, context, node->in[1]),
                      ag_run_rows(run, node->in[1]), ag_run_data(run, context, node->in[0]),
                      ag_graph_width(run->graph, node->out), ag_run_data(run, context, node->out));
}

/* COMBINE: copies (copies, width), routes -> (rows, width), or added to that */

bool ag_combine_infer(const ag_graph_t *graph, const ag_node_t *node,
                      const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_width(graph, node->in[1]) == ag_route_width(node->attr.places.n_used) &&
           ag_graph_counter(graph, node->in[0]) == AG_COUNT_SENT &&
           ag_graph_counter(graph, node->in[1]) == ag_graph_counter(graph, node->out);
}

void ag_combine_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_kernel_combine(context, &node->attr.places, ag_run_data(run, context, node->in[1]),
                      ag_run_rows(run, node->in[1]), ag_run_data(run, context, node->in[0]),
                      ag_graph_width(run->graph, node->out), node->adds,
                      ag_run_data(run, context, node->out));
}

uint64_t ag_places_scratch(const ag_graph_t *graph, const ag_node_t *node,
                           const ag_graph_param_t *params)
{
    (void)graph;
    (void)params;
    return ag_places_scratch_bytes(&node->attr.places);
}

/* REGROUP: (copies, width), counts -> the same rows, group after group; or back */

bool ag_node_counts_fit(const ag_graph_t *graph, const ag_node_t *node)
{
    return ag_graph_counter(graph, node->in[1]) == AG_COUNT_ONE &&
           ag_graph_width(graph, node->in[1]) ==
               (uint64_t)node->attr.groups.n_groups * node->attr.groups.n_sources;
}

static bool counts_fit(const ag_graph_t *graph, const ag_node_t *node)
{
    return ag_node_counts_fit(graph, node) &&
           ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->out);
}

ag_groups_t ag_node_groups(const ag_graph_run_t *run, const ag_node_t *node,
                           const ag_kernel_context_t *context, int32_t counts)
{
    if (counts == AG_NO_VALUE) {
        return (ag_groups_t){.n_groups = node->attr.groups.n_groups,
                             .n_rows_each = ag_run_rows(run, node->in[0])};
    }
    return (ag_groups_t){.n_groups = node->attr.groups.n_groups,
                         .n_sources = node->attr.groups.n_sources,
                         .counts =
                             (const uint32_t *)(const void *)ag_run_data(run, context, counts)};
}

bool ag_regroup_infer(const ag_graph_t *graph, const ag_node_t *node,
                      const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return counts_fit(graph, node) && node->in[0] != node->out;
}

void ag_regroup_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_groups_t groups = ag_node_groups(run, node, context, node->in[1]);

    ag_kernel_regroup(context, &groups, node->attr.groups.back,
                      ag_run_data(run, context, node->in[0]), ag_graph_width(run->graph, node->out),
                      ag_run_data(run, context, node->out));
}

uint64_t ag_regroup_scratch(const ag_graph_t *graph, const ag_node_t *node,
                            const ag_graph_param_t *params)
{
    (void)graph;
    (void)params;
    return ag_groups_scratch_bytes(&(ag_groups_t){.n_groups = node->attr.groups.n_groups,
                                                  .n_sources = node->attr.groups.n_sources});
}

/* GROUPED_LINEAR: (copies, k), counts -> (copies, n), each group's rows by its own weight and bias;
 * the third input, if there is one, is the first prepared */

bool ag_grouped_linear_infer(const ag_graph_t *graph, const ag_node_t *node,
                             const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *first = &params[node->weight];
    const ag_graph_param_t *biases = node->bias == AG_NO_PARAM ? NULL : &params[node->bias];

    *width_p = (uint32_t)first->rows;
    for (uint32_t g = 0; g < node->attr.groups.n_groups; g++) {
        const ag_graph_param_t *weight = &first[g];

        if (weight->dtype != first->dtype || weight->packing != first->packing ||
            weight->rows != first->rows || weight->cols != first->cols ||
            (biases != NULL && biases[g].cols != first->rows)) {
            return false;
        }
    }
    return counts_fit(graph, node) && node->attr.groups.n_groups > 0 &&
           first->cols == ag_graph_width(graph, node->in[0]);
}

void ag_grouped_linear_run(const ag_graph_run_t *run, const ag_node_t *node,
                           const ag_kernel_context_t *context)
{
    ag_groups_t groups = ag_node_groups(run, node, context, node->in[1]);
    ag_linear_t linear = ag_node_linear(run->params, node);
    ag_group_weights_t weights = {
        .first = (const unsigned char *)&run->params[node->weight].data,
        .stride_bytes = sizeof(ag_graph_param_t),
        .first_bias =
            node->bias == AG_NO_PARAM ? NULL : (const unsigned char *)&run->params[node->bias].data,
    };

    if (node->in[2] != AG_NO_VALUE) {
        linear.prepared = ag_run_data(run, context, node->in[2]);
    }
    (run->graph->trains ? ag_kernel_train_group_linear : ag_kernel_group_linear)(
        context, &groups, &linear, &weights, ag_run_data(run, context, node->in[0]),
        run->graph->exact, ag_run_data(run, context, node->out));
}
