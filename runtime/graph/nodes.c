/* The operators: shape, work. */
#include "runtime/graph/graph_priv.h"

/* Inputs and output are rows of the same things. */
static bool same_rows(const ag_graph_t *graph, const ag_node_t *node)
{
    const ag_node_ops_t *ops = &ag_node_ops[node->kind];
    ag_counter_t counter = ag_graph_get(graph, node->in[0])->counter;

    for (uint32_t i = 1; i < ops->n_in; i++) {
        if (ag_graph_get(graph, node->in[i])->counter != counter) {
            return false;
        }
    }
    return !ops->makes_value || ag_graph_get(graph, node->out)->counter == counter;
}

uint64_t ag_run_rows(const ag_graph_run_t *run, int32_t value)
{
    ag_counter_t counter = ag_graph_get(run->graph, value)->counter;

    return counter == AG_COUNT_SENT       ? run->n_sent
           : counter == AG_COUNT_RECEIVED ? run->n_received
                                          : run->step->counts[counter];
}

ag_elements_t ag_run_elements(const ag_graph_run_t *run, const ag_kernel_context_t *context,
                              int32_t value)
{
    const ag_value_t *v = ag_graph_get(run->graph, value);
    unsigned char *bytes = run->memory + run->scratch_offset + v->offset_bytes;

    if (v->buffer != AG_INTERNAL) {
        uint64_t first_row = v->counter == AG_COUNT_TOKENS && !v->is_packed ? run->first_row : 0;

        bytes = run->memory + run->offsets[v->buffer] + v->begin_bytes +
                first_row * v->width * ag_element_bytes(v->rounded);
    } else if (v->is_own) {
        bytes = run->thread_scratch + context->worker->thread * run->thread_scratch_stride +
                run->graph->own_offset_bytes + v->offset_bytes;
    }
    return (ag_elements_t){.data = bytes, .rounded = v->rounded};
}

float *ag_run_data(const ag_graph_run_t *run, const ag_kernel_context_t *context, int32_t value)
{
    return ag_run_elements(run, context, value).data;
}

static const float *vector_of(const ag_graph_run_t *run, int32_t param)
{
    return param == AG_NO_PARAM ? NULL : run->params[param].data;
}

/* EMBED: tokens of the step, or their positions -> (tokens, hidden) */

static bool embed_infer(const ag_graph_t *graph, const ag_node_t *node,
                        const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)graph;
    *width_p = (uint32_t)params[node->weight].cols;
    return true;
}

static void embed_run(const ag_graph_run_t *run, const ag_node_t *node,
                      const ag_kernel_context_t *context)
{
    const ag_graph_param_t *table = &run->params[node->weight];
    ag_embed_t embed = {
        .dtype = table->dtype,
        .packing = table->packing,
        .vocab_begin = node->attr.embed.vocab_begin,
        .vocab_end = node->attr.embed.vocab_begin + table->rows,
        .width = table->cols,
        .scale = node->attr.embed.scale,
        .table = table->data,
        .by_position = node->attr.embed.by_position,
    };

    ag_kernel_embed(context, &embed, ag_run_data(run, context, node->out));
}

/* NORM: (rows, groups * width) -> the same */

uint32_t ag_node_groups_of_norm(const ag_node_t *node)
{
    return node->attr.norm.n_groups > 0 ? node->attr.norm.n_groups : 1;
}

static bool norm_infer(const ag_graph_t *graph, const ag_node_t *node,
                       const ag_graph_param_t *params, uint32_t *width_p)
{
    *width_p = ag_graph_width(graph, node->in[0]);
    return same_rows(graph, node) &&
           params[node->weight].cols * ag_node_groups_of_norm(node) == *width_p &&
           (node->bias == AG_NO_PARAM || params[node->bias].cols == params[node->weight].cols);
}

static void norm_run(const ag_graph_run_t *run, const ag_node_t *node,
                     const ag_kernel_context_t *context)
{
    ag_norm_t norm = {
        .kind = node->attr.norm.kind,
        .width = run->params[node->weight].cols,
        .n_groups = ag_node_groups_of_norm(node),
        .eps = node->attr.norm.eps,
        .weight = vector_of(run, node->weight),
        .bias = vector_of(run, node->bias),
    };
    const ag_worker_t alone = {.n_threads = 1};
    ag_kernel_context_t own = *context;
    ag_elements_t x = ag_run_elements(run, context, node->in[0]);
    ag_elements_t y = ag_run_elements(run, context, node->out);

    if (ag_graph_get(run->graph, node->out)->is_own) {
        own.worker = &alone;
    }
    ag_kernel_norm(&own, &norm, x, ag_run_rows(run, node->in[0]), y);
}

/* LINEAR: (rows, k) -> (rows, n); the second input, if there is one, is the first prepared */

ag_linear_t ag_node_linear(const ag_graph_param_t *params, const ag_node_t *node)
{
    const ag_graph_param_t *weight = &params[node->weight];

    return (ag_linear_t){
        .dtype = weight->dtype,
        .packing = weight->packing,
        .n = weight->rows,
        .k = weight->cols,
        .weight = weight->data,
        .bias = node->bias == AG_NO_PARAM ? NULL : params[node->bias].data,
    };
}

uint64_t ag_node_prepared_bytes(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params)
{
    uint64_t n = node->kind == AG_NODE_HEAD_LINEAR ? node->attr.groups.n_groups : 1;
    ag_linear_t linear;

    if (!ag_node_is_layer(node) || graph->trains) {
        return 0;
    }
    linear = ag_node_linear(params, node);
    return n * ag_linear_prepared_bytes(&linear, graph->exact);
}

static bool linear_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *weight = &params[node->weight];

    *width_p = (uint32_t)weight->rows;
    return same_rows(graph, node) && weight->cols == ag_graph_width(graph, node->in[0]) &&
           (node->bias == AG_NO_PARAM || params[node->bias].cols == weight->rows);
}

/* The layer that follows; false: none does. */
static bool find_next(const ag_graph_run_t *run, const ag_node_t *node, ag_linear_t *next)
{
    const ag_node_t *end = AG_ITEMS(&run->graph->nodes, ag_node_t) + run->graph->nodes.n_items;

    do {
        node++;
    } while (node < end && node->kind != AG_NODE_LINEAR);
    if (node < end) {
        *next = ag_node_linear(run->params, node);
    }
    return node < end;
}

static void linear_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    ag_linear_t linear = ag_node_linear(run->params, node), next;
    uint64_t n_rows = ag_run_rows(run, node->in[0]);

    if (node->in[1] != AG_NO_VALUE) {
        linear.prepared = ag_run_data(run, context, node->in[1]);
    } else if (find_next(run, node, &next)) { /* few rows: memory is what they wait for */
        linear.next = &next;
    }
    if (run->graph->trains) {
        ag_kernel_train_linear(context, &linear, ag_run_elements(run, context, node->in[0]), n_rows,
                               run->graph->exact, ag_run_elements(run, context, node->out));
    } else if (n_rows > 0) {
        ag_kernel_linear(context, &linear, ag_run_data(run, context, node->in[0]), n_rows,
                         run->graph->exact, ag_run_data(run, context, node->out));
    }
}

uint64_t ag_linear_scratch(const ag_graph_t *graph, const ag_node_t *node,
                           const ag_graph_param_t *params)
{
    ag_linear_t linear = ag_node_linear(params, node);

    if (graph->trains) {
        return ag_train_linear_scratch_bytes();
    }
    return node->in[ag_node_ops[node->kind].n_in] != AG_NO_VALUE ? 0
                                                                 : ag_linear_scratch_bytes(&linear);
}

/* PREPARE: (rows, k) -> the same rows in a form of their own, for LINEAR by the same weight */

static void prepare_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_linear_t linear = ag_node_linear(run->params, node);

    if (node->attr.groups.n_groups > 0) { /* each group's begin anew */
        ag_groups_t groups = ag_node_groups(run, node, context, node->in[1]);

        ag_kernel_prepare_groups(context, &groups, &linear, ag_run_data(run, context, node->in[0]),
                                 ag_run_data(run, context, node->out));
        return;
    }
    ag_kernel_prepare(context, &linear, ag_run_data(run, context, node->in[0]),
                      ag_run_rows(run, node->in[0]), ag_run_data(run, context, node->out));
}

/* ANGLES: positions of the step -> (tokens, rotary) */

static bool angles_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = node->attr.angles.rotary;
    return ag_graph_get(graph, node->out)->counter == AG_COUNT_TOKENS;
}

static void angles_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    ag_kernel_angles(context, &node->attr.angles, ag_run_data(run, context, node->out));
}

/* ROPE: by angles (tokens, rotary), in place on the leading columns of (tokens, width) */

bool ag_rope_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   uint32_t *width_p)
{
    const ag_rope_t *rope = &node->attr.rope;

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return same_rows(graph, node) && node->in[0] == node->out &&
           ag_graph_width(graph, node->in[1]) == rope->rotary &&
           (uint64_t)rope->n_heads * rope->head_dim <= *width_p;
}

static void rope_run(const ag_graph_run_t *run, const ag_node_t *node,
                     const ag_kernel_context_t *context)
{
    ag_kernel_rope(context, &node->attr.rope, ag_run_data(run, context, node->in[1]),
                   ag_run_elements(run, context, node->out), ag_graph_width(run->graph, node->out));
}

/* GLU: act(gate) * up */

static bool same_width_infer(const ag_graph_t *graph, const ag_node_t *node,
                             const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return same_rows(graph, node) && *width_p == ag_graph_width(graph, node->in[1]);
}

static void glu_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_kernel_glu(context, &node->attr.glu, ag_run_elements(run, context, node->in[0]),
                  ag_run_elements(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
                  ag_graph_width(run->graph, node->in[0]), node->grain,
                  ag_run_elements(run, context, node->out));
}

/* ACT: act(x) */

static bool act_infer(const ag_graph_t *graph, const ag_node_t *node,
                      const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return same_rows(graph, node);
}

static void act_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_kernel_act(context, node->attr.glu.act, ag_run_data(run, context, node->in[0]),
                  ag_run_rows(run, node->in[0]), ag_graph_width(run->graph, node->in[0]),
                  node->grain, ag_run_data(run, context, node->out));
}

/* ADD: a + b */

static void add_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    ag_kernel_add(context, ag_run_data(run, context, node->in[0]),
                  ag_run_data(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
                  ag_graph_width(run->graph, node->in[0]), node->grain,
                  ag_run_data(run, context, node->out));
}

/* SOFTCAP: cap * tanh(x / cap) */

static bool softcap_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return same_rows(graph, node);
}

static void softcap_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_kernel_softcap(context, node->attr.cap, ag_run_data(run, context, node->in[0]),
                      ag_run_rows(run, node->in[0]), ag_graph_width(run->graph, node->in[0]),
                      node->grain, ag_run_data(run, context, node->out));
}

/* SELECT: the rows whose logits are asked for, (tokens, width) -> (outputs, width) */

static bool select_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_get(graph, node->in[0])->counter == AG_COUNT_TOKENS &&
           ag_graph_get(graph, node->out)->counter == AG_COUNT_OUTPUTS;
}

static void select_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    ag_kernel_select_rows(context, ag_run_data(run, context, node->in[0]),
                          ag_graph_width(run->graph, node->in[0]),
                          ag_run_data(run, context, node->out));
}

/* COLUMNS: (rows, width) -> some columns of a wider value, or of those some */

static bool columns_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    uint32_t width = ag_graph_width(graph, node->in[0]);

    (void)params;
    *width_p = ag_graph_width(graph, node->out);
    return same_rows(graph, node) &&
           (uint64_t)node->attr.column_begin + (width < *width_p ? width : *width_p) <=
               (width < *width_p ? *width_p : width);
}

static void columns_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_kernel_copy_columns(context, ag_run_data(run, context, node->in[0]),
                           ag_run_rows(run, node->in[0]), ag_graph_width(run->graph, node->in[0]),
                           ag_run_data(run, context, node->out),
                           ag_graph_width(run->graph, node->out), node->attr.column_begin);
}

const ag_node_ops_t ag_node_ops[AG_N_NODE_KINDS] = {
    [AG_NODE_EMBED] = {"EMBED", 0, true, AG_BY_ROWS, AG_BY_ROWS, embed_infer, embed_run,
                       ag_embed_cost, NULL, .backward = ag_embed_backward},
    [AG_NODE_NORM] = {"NORM", 1, true, AG_BY_ROWS, AG_BY_ROWS, norm_infer, norm_run, NULL,
                      ag_norm_scratch, .backward = ag_norm_backward, .is_cheap = true,
                      .is_of_rows = true, .rounded_in = 1, .rounded_out = 1},
    [AG_NODE_PREPARE] = {"PREPARE", 1, true, AG_BY_ANY, AG_BY_ANY, NULL, prepare_run, NULL, NULL,
                         .backward = NULL},
    [AG_NODE_LINEAR] = {"LINEAR", 1, true, AG_BY_ANY, AG_BY_COLUMNS, linear_infer, linear_run,
                        ag_linear_cost, ag_linear_scratch, .backward = ag_linear_backward,
                        .rounded_in = 1, .rounded_out = 1},
    [AG_NODE_ANGLES] = {"ANGLES", 0, true, AG_BY_ROWS, AG_BY_ROWS, angles_infer, angles_run, NULL,
                        NULL, .is_cheap = true},
    [AG_NODE_ROPE] = {"ROPE", 2, true, AG_BY_ROWS, AG_BY_ROWS, ag_rope_infer, rope_run, NULL, NULL,
                      .backward = ag_rope_backward, .is_cheap = true, .rounded_in = 1,
                      .rounded_out = 1},
    [AG_NODE_HEAD_COLUMNS] = {"HEAD_COLUMNS", 1, true, AG_BY_ROWS, AG_BY_ROWS,
                              ag_head_columns_infer, ag_head_columns_run, NULL, NULL,
                              .backward = ag_head_columns_backward, .is_cheap = true},
    [AG_NODE_KV_APPEND] = {"KV_APPEND", 2, false, AG_BY_ROWS, AG_BY_ROWS, ag_append_infer,
                           ag_append_run, NULL, NULL, .backward = NULL},
    [AG_NODE_ATTENTION] = {"ATTENTION", 1, true, AG_BY_ANY, AG_BY_ANY, ag_cached_attention_infer,
                           ag_cached_attention_run, ag_attention_cost, ag_cached_attention_scratch,
                           .backward = NULL},
    [AG_NODE_ATTENTION_PARTS] = {"ATTENTION_PARTS", 1, true, AG_BY_ANY, AG_BY_ANY, NULL,
                                 ag_parts_run, ag_attention_cost, ag_cached_attention_scratch,
                                 .backward = NULL},
    [AG_NODE_ATTENTION_MERGE] = {"ATTENTION_MERGE", 1, true, AG_BY_ANY, AG_BY_ANY, NULL,
                                 ag_merge_run, NULL, NULL, .backward = NULL},
    [AG_NODE_GLU] = {"GLU", 2, true, AG_BY_COLUMNS, AG_BY_COLUMNS, same_width_infer, glu_run, NULL,
                     NULL, .backward = ag_glu_backward, .is_cheap = true, .rounded_in = 3,
                     .rounded_out = 1},
    [AG_NODE_ACT] = {"ACT", 1, true, AG_BY_COLUMNS, AG_BY_COLUMNS, act_infer, act_run, NULL, NULL,
                     .backward = ag_act_backward, .is_cheap = true},
    [AG_NODE_GATE_ROWS] = {"GATE_ROWS", 2, true, AG_BY_ROWS, AG_BY_ROWS, ag_gate_rows_infer,
                           ag_gate_rows_run, NULL, NULL, .backward = ag_gate_rows_backward,
                           .is_cheap = true},
    [AG_NODE_ADD] = {"ADD", 2, true, AG_BY_COLUMNS, AG_BY_COLUMNS, same_width_infer, add_run, NULL,
                     NULL, .backward = ag_add_backward, .is_of_rows = true},
    [AG_NODE_SOFTCAP] = {"SOFTCAP", 1, true, AG_BY_COLUMNS, AG_BY_COLUMNS, softcap_infer,
                         softcap_run, NULL, NULL, .backward = NULL},
    [AG_NODE_SELECT] = {"SELECT", 1, true, AG_BY_ANY, AG_BY_ANY, select_infer, select_run, NULL,
                        NULL, .backward = ag_select_backward, .is_cheap = true},
    [AG_NODE_COLUMNS] = {"COLUMNS", 1, true, AG_BY_ANY, AG_BY_ANY, columns_infer, columns_run, NULL,
                         NULL, .backward = ag_columns_backward, .is_cheap = true,
                         .is_of_rows = true},
    [AG_NODE_ROUTE] = {"ROUTE", 1, true, AG_BY_ROWS, AG_BY_ROWS, ag_route_infer, ag_route_run, NULL,
                       ag_route_scratch, .backward = ag_route_backward},
    [AG_NODE_COUNT_ROWS] = {"COUNT_ROWS", 1, true, AG_BY_ANY, AG_BY_ANY, ag_count_rows_infer,
                            ag_count_rows_run, NULL, NULL, .backward = NULL},
    [AG_NODE_PERMUTE] = {"PERMUTE", 2, true, AG_BY_ANY, AG_BY_ANY, ag_permute_infer, ag_permute_run,
                         NULL, ag_places_scratch, .backward = ag_permute_backward,
                         .is_cheap = true},
    [AG_NODE_REGROUP] = {"REGROUP", 2, true, AG_BY_ANY, AG_BY_ANY, ag_regroup_infer, ag_regroup_run,
                         NULL, ag_regroup_scratch, .backward = ag_regroup_backward,
                         .is_cheap = true},
    [AG_NODE_GROUPED_LINEAR] = {"GROUPED_LINEAR", 2, true, AG_BY_ANY, AG_BY_COLUMNS,
                                ag_grouped_linear_infer, ag_grouped_linear_run,
                                ag_grouped_linear_cost, ag_linear_scratch,
                                .backward = ag_grouped_linear_backward},
    [AG_NODE_HEAD_LINEAR] = {"HEAD_LINEAR", 1, true, AG_BY_ANY, AG_BY_ANY, ag_head_linear_infer,
                             ag_head_linear_run, ag_head_linear_cost, ag_linear_scratch,
                             .backward = NULL},
    [AG_NODE_COMBINE] = {"COMBINE", 2, true, AG_BY_ANY, AG_BY_ROWS, ag_combine_infer,
                         ag_combine_run, NULL, ag_places_scratch, .backward = ag_combine_backward},
    [AG_NODE_SELF_ATTENTION] = {"SELF_ATTENTION", 3, true, AG_BY_ANY, AG_BY_ANY,
                                ag_self_attention_infer, ag_self_attention_run,
                                ag_self_attention_cost, ag_self_attention_scratch, .n_more = 1,
                                .backward = ag_self_attention_backward, .rounded_in = 7,
                                .rounded_out = 1},
    [AG_NODE_LOSS_STATISTICS] = {"LOSS_STATISTICS", 1, true, AG_BY_ANY, AG_BY_ANY,
                                 ag_loss_statistics_infer, ag_loss_statistics_run, NULL, NULL,
                                 .rounded_in = 1},
    [AG_NODE_LOSS] = {"LOSS", 2, true, AG_BY_ANY, AG_BY_ANY, ag_loss_infer, ag_loss_run, NULL, NULL,
                      .n_more = 1, .rounded_in = 1, .rounded_out = 1},
    [AG_NODE_ROUND] = {"ROUND", 1, true, AG_BY_ANY, AG_BY_ANY, ag_round_infer, ag_round_run, NULL,
                       NULL, .rounded_out = 1},
    [AG_NODE_ADD_LOSSES] = {"ADD_LOSSES", 1, true, AG_BY_ANY, AG_BY_ANY, ag_add_losses_infer,
                            ag_add_losses_run, NULL, NULL, .backward = NULL},
    [AG_NODE_LINEAR_GRAD] = {"LINEAR_GRAD", 1, true, AG_BY_ANY, AG_BY_ANY, ag_linear_grad_infer,
                             ag_linear_grad_run, ag_linear_cost, ag_train_linear_scratch,
                             .rounded_in = 1, .rounded_out = 1},
    [AG_NODE_LINEAR_WEIGHT_GRAD] = {"LINEAR_WEIGHT_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY,
                                    ag_linear_weight_grad_infer, ag_linear_weight_grad_run,
                                    ag_linear_weight_grad_cost, ag_train_linear_scratch,
                                    .n_more = 1, .rounded_in = 3, .is_of_weight = true},
    [AG_NODE_NORM_GRAD] = {"NORM_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY, ag_norm_grad_infer,
                           ag_norm_grad_run, NULL, ag_norm_scratch, .n_more = 1, .rounded_in = 2},
    [AG_NODE_NORM_WEIGHT_GRAD] = {"NORM_WEIGHT_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY,
                                  ag_norm_weight_grad_infer, ag_norm_weight_grad_run, NULL, NULL,
                                  .n_more = 1, .rounded_in = 2},
    [AG_NODE_ROPE_GRAD] = {"ROPE_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY, ag_rope_infer,
                           ag_rope_grad_run, NULL, NULL, .backward = NULL},
    [AG_NODE_SELF_ATTENTION_GRAD] = {"SELF_ATTENTION_GRAD", 6, true, AG_BY_ANY, AG_BY_ANY,
                                     ag_self_attention_grad_infer, ag_self_attention_grad_run,
                                     ag_self_attention_grad_cost, ag_self_attention_scratch,
                                     .n_more = 2, .rounded_in = 31},
    [AG_NODE_SINKS_GRAD] = {"SINKS_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY, ag_sinks_grad_infer,
                            ag_sinks_grad_run, NULL, NULL, .rounded_in = 3},
    [AG_NODE_ACT_GRAD] = {"ACT_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY, ag_act_grad_infer,
                          ag_act_grad_run, NULL, NULL, .backward = NULL},
    [AG_NODE_GLU_GRAD] = {"GLU_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY, ag_glu_grad_infer,
                          ag_glu_grad_run, NULL, NULL, .n_more = 1, .rounded_in = 7,
                          .rounded_out = 3},
    [AG_NODE_GATE_ROWS_GRAD] = {"GATE_ROWS_GRAD", 3, true, AG_BY_ROWS, AG_BY_ROWS,
                                ag_gate_rows_grad_infer, ag_gate_rows_grad_run, NULL, NULL,
                                .n_more = 1},
    [AG_NODE_EMBED_WEIGHT_GRAD] = {"EMBED_WEIGHT_GRAD", 1, true, AG_BY_ANY, AG_BY_ANY,
                                   ag_embed_weight_grad_infer, ag_embed_weight_grad_run,
                                   ag_embed_weight_grad_cost, NULL, .backward = NULL},
    [AG_NODE_SELECT_GRAD] = {"SELECT_GRAD", 1, true, AG_BY_ANY, AG_BY_ANY, ag_select_grad_infer,
                             ag_select_grad_run, NULL, NULL, .backward = NULL},
    [AG_NODE_ROUTE_GRAD] = {"ROUTE_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY, ag_route_grad_infer,
                            ag_route_grad_run, NULL, NULL, .backward = NULL},
    [AG_NODE_PERMUTE_GRAD] = {"PERMUTE_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY, ag_permute_grad_infer,
                              ag_permute_grad_run, NULL, ag_places_scratch, .backward = NULL},
    [AG_NODE_GROUPED_LINEAR_GRAD] = {"GROUPED_LINEAR_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY,
                                     ag_grouped_linear_grad_infer, ag_grouped_linear_grad_run,
                                     ag_grouped_linear_cost, ag_train_linear_scratch,
                                     .backward = NULL},
    [AG_NODE_GROUPED_LINEAR_WEIGHT_GRAD] =
        {"GROUPED_LINEAR_WEIGHT_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY,
         ag_grouped_linear_weight_grad_infer, ag_grouped_linear_weight_grad_run,
         ag_grouped_linear_weight_grad_cost, ag_grouped_linear_weight_grad_scratch, .n_more = 1,
         .is_of_weight = true},
    [AG_NODE_COMBINE_GRAD] = {"COMBINE_GRAD", 3, true, AG_BY_ANY, AG_BY_ANY, ag_combine_grad_infer,
                              ag_combine_grad_run, NULL, ag_places_scratch, .n_more = 1},
    [AG_NODE_ROUTER_STATISTICS] = {"ROUTER_STATISTICS", 2, true, AG_BY_ANY, AG_BY_ANY,
                                   ag_router_statistics_infer, ag_router_statistics_run, NULL, NULL,
                                   .backward = NULL},
    [AG_NODE_ROUTER_LOSS_GRAD] = {"ROUTER_LOSS_GRAD", 2, true, AG_BY_ANY, AG_BY_ANY,
                                  ag_router_loss_grad_infer, ag_router_loss_grad_run, NULL,
                                  ag_router_loss_grad_scratch, .backward = NULL},
    [AG_NODE_ZERO] = {"ZERO", 0, true, AG_BY_ANY, AG_BY_ANY, ag_zero_infer, ag_zero_run,
                      ag_zero_cost, NULL, .backward = NULL},
    [AG_NODE_SUM_SQUARES] = {"SUM_SQUARES", 1, true, AG_BY_ANY, AG_BY_ANY, ag_sum_squares_infer,
                             ag_sum_squares_run, ag_sum_squares_cost, NULL, .backward = NULL},
    [AG_NODE_TOTALS] = {"TOTALS", 2, true, AG_BY_ANY, AG_BY_ANY, ag_totals_infer, ag_totals_run,
                        NULL, NULL, .backward = NULL},
    [AG_NODE_ADAMW] = {"ADAMW", 2, false, AG_BY_ANY, AG_BY_ANY, ag_adamw_infer, ag_adamw_run,
                       ag_adamw_cost, NULL, .backward = NULL},
    [AG_NODE_PUBLISH] = {"PUBLISH", 0, true, AG_BY_ANY, AG_BY_ANY, ag_publish_infer, ag_publish_run,
                         ag_publish_cost, NULL, .backward = NULL},
    [AG_NODE_ADOPT] = {"ADOPT", 1, false, AG_BY_ANY, AG_BY_ANY, ag_adopt_infer, ag_adopt_run,
                       ag_adopt_cost, NULL, .backward = NULL},
};
