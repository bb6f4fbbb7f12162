/* The operators of an update: gradients to zero, their sums, the optimizer, what it changed. What
 * they compute is said in runtime/kernel/train.h. */
#include <math.h>
#include <string.h>

#include "runtime/graph/graph_priv.h"

/* ZERO: nothing but its output */

bool ag_zero_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->out);
    return true;
}

void ag_zero_run(const ag_graph_run_t *run, const ag_node_t *node,
                 const ag_kernel_context_t *context)
{
    enum { PIECE_FLOATS = 4096 };
    uint64_t n = ag_run_rows(run, node->out) * ag_graph_width(run->graph, node->out), begin, end;

    ag_worker_share(context->worker, n, PIECE_FLOATS, &begin, &end);
    if (end > begin) {
        memset(ag_run_data(run, context, node->out) + begin, 0, (end - begin) * sizeof(float));
    }
}

/* SUM_SQUARES: (1, n) -> doubles, one for each chunk */

bool ag_sum_squares_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = (uint32_t)(ag_sum_chunks(ag_graph_width(graph, node->in[0])) * sizeof(double) /
                          sizeof(float));
    return ag_graph_counter(graph, node->in[0]) == AG_COUNT_ONE &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE;
}

void ag_sum_squares_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_kernel_sum_squares(context, ag_run_data(run, context, node->in[0]),
                          ag_graph_width(run->graph, node->in[0]),
                          (double *)(void *)ag_run_data(run, context, node->out));
}

/* TOTALS: a sum of losses, sums of squares (doubles) -> both as float, this rank's */

bool ag_totals_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                     uint32_t *width_p)
{
    (void)params;
    *width_p = AG_N_TOTALS;
    return ag_graph_has_shape(graph, node->in[0], AG_COUNT_ONE, sizeof(double) / sizeof(float)) &&
           ag_graph_counter(graph, node->in[1]) == AG_COUNT_ONE &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE;
}

void ag_totals_run(const ag_graph_run_t *run, const ag_node_t *node,
                   const ag_kernel_context_t *context)
{
    const double *loss = (const double *)(const void *)ag_run_data(run, context, node->in[0]);
    const double *squares = (const double *)(const void *)ag_run_data(run, context, node->in[1]);
    float *totals = ag_run_data(run, context, node->out);

    if (context->worker->thread == 0) {
        totals[AG_TOTAL_LOSS] = (float)*loss;
        totals[AG_TOTAL_SQUARES] = (float)ag_add_sums(
            squares, ag_graph_width(run->graph, node->in[1]) * sizeof(float) / sizeof(double));
    }
}

/* ADAMW: gradient of a run of a weight's elements, totals of all ranks -> the weight and its
 * moments change */

static bool is_run_of(const ag_graph_t *graph, const ag_node_t *node, int32_t value,
                      const ag_graph_param_t *params)
{
    const ag_graph_param_t *param = &params[node->weight];

    return ag_graph_counter(graph, value) == AG_COUNT_ONE &&
           node->attr.first_element + ag_graph_width(graph, value) <= param->rows * param->cols;
}

bool ag_adamw_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                    uint32_t *width_p)
{
    *width_p = 0;
    return is_run_of(graph, node, node->in[0], params) &&
           node->attr.first_element >= params[node->weight].own_begin &&
           ag_graph_has_shape(graph, node->in[1], AG_COUNT_ONE, AG_N_TOTALS);
}

/* What gradients are multiplied by, as torch.nn.utils.clip_grad_norm_() does. */
static float clip_factor(const ag_update_t *update, float squares)
{
    double factor = update->clip_norm / (sqrt((double)squares) + 1e-6);

    return update->clip_norm > 0 && factor < 1 ? (float)factor : 1;
}

/* A step that is frozen, or whose gradients are no numbers, changes nothing. */
void ag_adamw_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    const ag_graph_param_t *param = &run->params[node->weight];
    const ag_update_t *update = run->step->update;
    const float *totals = ag_run_data(run, context, node->in[1]);
    ag_adamw_t adamw = {
        .lr = update->learning_rate,
        .beta1 = update->beta1,
        .beta2 = update->beta2,
        .eps = update->eps,
        .weight_decay = param->decays ? update->weight_decay : 0,
        .correction1 = (float)(1 - pow(update->beta1, (double)update->number)),
        .correction2 = (float)(1 - pow(update->beta2, (double)update->number)),
        .gradient_factor = clip_factor(update, totals[AG_TOTAL_SQUARES]),
        .before_write = run->before_write,
    };

    if (!update->is_frozen && isfinite(totals[AG_TOTAL_SQUARES]) &&
        isfinite(totals[AG_TOTAL_LOSS])) {
        uint64_t first = node->attr.first_element, own = first - param->own_begin;

        ag_kernel_adamw(context, &adamw, ag_graph_width(run->graph, node->in[0]),
                        ag_run_data(run, context, node->in[0]), param->trained + first,
                        param->moments[0] + own, param->moments[1] + own);
    }
}

/* PUBLISH: a run of a weight's elements -> (1, n); ADOPT: back */

bool ag_publish_infer(const ag_graph_t *graph, const ag_node_t *node,
                      const ag_graph_param_t *params, uint32_t *width_p)
{
    *width_p = ag_graph_width(graph, node->out);
    return is_run_of(graph, node, node->out, params);
}

bool ag_adopt_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                    uint32_t *width_p)
{
    *width_p = 0;
    return is_run_of(graph, node, node->in[0], params);
}

/* @param before_write  of what is copied to; NULL: nobody is told. */
static void copy_share(const ag_kernel_context_t *context, const float *from, uint64_t n, float *to,
                       const ag_before_write_t *before_write)
{
    enum { PIECE_FLOATS = 4096 };
    uint64_t begin, end;

    ag_worker_share(context->worker, n, PIECE_FLOATS, &begin, &end);
    for (; begin < end; begin += PIECE_FLOATS) {
        uint64_t span = end - begin < PIECE_FLOATS ? end - begin : PIECE_FLOATS;

        ag_tell_before_write(before_write, to + begin, span);
        memcpy(to + begin, from + begin, span * sizeof(float));
    }
}

void ag_publish_run(const ag_graph_run_t *run, const ag_node_t *node,
                    const ag_kernel_context_t *context)
{
    copy_share(context, run->params[node->weight].trained + node->attr.first_element,
               ag_graph_width(run->graph, node->out), ag_run_data(run, context, node->out), NULL);
}

void ag_adopt_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    copy_share(context, ag_run_data(run, context, node->in[0]),
               ag_graph_width(run->graph, node->in[0]),
               run->params[node->weight].trained + node->attr.first_element, run->before_write);
}
