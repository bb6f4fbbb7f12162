#include "runtime/graph/graph_priv.h"

#include <limits.h>
#include <string.h>

void ag_graph_init(ag_graph_t *graph)
{
    *graph = (ag_graph_t){.values = AG_ARRAY(ag_value_t), .nodes = AG_ARRAY(ag_node_t)};
}

void ag_graph_fini(ag_graph_t *graph)
{
    ag_array_fini(&graph->values);
    ag_array_fini(&graph->nodes);
}

const char *ag_node_name(ag_node_kind_t kind)
{
    return ag_node_ops[kind].name;
}

int32_t ag_graph_value(ag_graph_t *graph, ag_counter_t counter, uint32_t width, int32_t buffer)
{
    return ag_graph_value_at(graph, counter, width, buffer, 0);
}

int32_t ag_graph_value_at(ag_graph_t *graph, ag_counter_t counter, uint32_t width, int32_t buffer,
                          uint64_t begin_bytes)
{
    ag_value_t value = {
        .counter = counter, .width = width, .buffer = buffer, .begin_bytes = begin_bytes};

    for (size_t i = 0; buffer != AG_INTERNAL && i < graph->values.n_items; i++) {
        const ag_value_t *known = ag_graph_get(graph, (int32_t)i);

        if (known->buffer == buffer && known->begin_bytes == begin_bytes && known->width == width) {
            return (int32_t)i;
        }
    }
    if (graph->values.n_items >= INT32_MAX || ag_array_append(&graph->values, &value, 1) != AG_OK) {
        return AG_NO_VALUE;
    }
    return (int32_t)graph->values.n_items - 1;
}

void ag_graph_round(ag_graph_t *graph, int32_t value)
{
    AG_ITEMS(&graph->values, ag_value_t)[value].rounded = true;
}

/* Does a node leave what it touches as number i rounded if it is? */
static bool takes_rounded(const ag_node_t *node, int i)
{
    const ag_node_ops_t *ops = &ag_node_ops[node->kind];

    return i < AG_NODE_MAX_IN ? (ops->rounded_in >> i & 1) != 0
                              : !node->adds && (ops->rounded_out >> (i - AG_NODE_MAX_IN) & 1) != 0;
}

bool ag_graph_may_round(const ag_graph_t *graph, int32_t value)
{
    bool made = false, read = false;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];

        for (int j = 0; j < AG_NODE_MAX_TOUCHED; j++) {
            if (ag_node_touched(node, j) != value) {
                continue;
            }
            if (!takes_rounded(node, j)) {
                return false;
            }
            made |= j >= AG_NODE_MAX_IN;
            read |= j < AG_NODE_MAX_IN;
        }
    }
    return made && read;
}

static bool value_exists(const ag_graph_t *graph, int32_t value)
{
    return value >= 0 && (size_t)value < graph->values.n_items;
}

ag_status_t ag_graph_add(ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params)
{
    const ag_node_ops_t *ops = &ag_node_ops[node->kind];
    ag_node_t added = *node;
    uint32_t width = 0;

    if (ops->infer == NULL) {
        return ag_fail(AG_ERR_INVALID, "%s of layer %u: only compiling makes such a node",
                       ops->name, node->layer);
    }
    for (uint32_t i = 0; i < ops->n_in; i++) {
        if (!value_exists(graph, node->in[i])) {
            return ag_fail(AG_ERR_INVALID, "%s of layer %u: input %u is not a value of its graph",
                           ops->name, node->layer, i);
        }
    }
    if (ops->makes_value && !value_exists(graph, node->out)) {
        return ag_fail(AG_ERR_INVALID, "%s of layer %u: its output is not a value of its graph",
                       ops->name, node->layer);
    }
    for (uint32_t i = 0; i < ops->n_more; i++) {
        if (node->more[i] != AG_NO_VALUE && !value_exists(graph, node->more[i])) {
            return ag_fail(AG_ERR_INVALID, "%s of layer %u: an output is not a value of its graph",
                           ops->name, node->layer);
        }
    }
    for (int i = 0; i < AG_NODE_MAX_TOUCHED; i++) {
        int32_t value = ag_node_touched(node, i);

        if (value_exists(graph, value) && ag_graph_get(graph, value)->rounded &&
            !takes_rounded(node, i)) {
            return ag_fail(AG_ERR_INVALID, "%s of layer %u cannot work on rounded values",
                           ops->name, node->layer);
        }
    }
    if (!ops->infer(graph, node, params, &width)) {
        return ag_fail(AG_ERR_INVALID,
                       "%s of layer %u: its inputs' shapes do not fit each other or its weights",
                       ops->name, node->layer);
    }
    if (ops->makes_value && ag_graph_get(graph, node->out)->width != width) {
        return ag_fail(AG_ERR_INVALID, "%s of layer %u gives %u columns where %u are expected",
                       ops->name, node->layer, width, ag_graph_get(graph, node->out)->width);
    }
    for (uint32_t i = ops->n_in; i < AG_NODE_MAX_IN; i++) {
        added.in[i] = AG_NO_VALUE;
    }
    for (uint32_t i = ops->n_more; i < AG_NODE_MAX_MORE; i++) {
        added.more[i] = AG_NO_VALUE;
    }
    return ag_array_append(&graph->nodes, &added, 1);
}

/* Where graph has the angles that a node would make; AG_NO_VALUE: nowhere, or it makes others. */
static int32_t find_angles(const ag_graph_t *graph, const ag_node_t *wanted)
{
    for (size_t i = 0; wanted->kind == AG_NODE_ANGLES && i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];
        const ag_angles_t *a = &node->attr.angles, *b = &wanted->attr.angles;

        if (node->kind == AG_NODE_ANGLES && a->rotary == b->rotary &&
            a->magnitude == b->magnitude && a->inverse_freq == b->inverse_freq) {
            return node->out;
        }
    }
    return AG_NO_VALUE;
}

/* Which of graph's values a value of next becomes: a new one where it is first met. */
static ag_status_t map_value(ag_graph_t *graph, const ag_graph_t *next, int32_t *numbers,
                             int32_t *value)
{
    const ag_value_t *from;

    if (*value < 0) {
        *value = AG_NO_VALUE;
        return AG_OK;
    }
    from = ag_graph_get(next, *value);
    if (numbers[*value] == AG_NO_VALUE) {
        numbers[*value] =
            ag_graph_value_at(graph, from->counter, from->width, from->buffer, from->begin_bytes);
        if (numbers[*value] >= 0) {
            AG_ITEMS(&graph->values, ag_value_t)[numbers[*value]].is_packed = from->is_packed;
            AG_ITEMS(&graph->values, ag_value_t)[numbers[*value]].rounded |= from->rounded;
        }
    }
    *value = numbers[*value];
    return *value < 0 ? ag_fail_nomem("joining segments", sizeof(*from)) : AG_OK;
}

static ag_status_t append_node(ag_graph_t *graph, const ag_graph_t *next, int32_t *numbers,
                               ag_node_t node)
{
    int32_t angles = find_angles(graph, &node);
    ag_status_t status = AG_OK;

    if (angles != AG_NO_VALUE) { /* graph's, or those of an earlier node of next */
        numbers[node.out] = angles;
        return AG_OK;
    }
    for (int i = 0; i < AG_NODE_MAX_IN && status == AG_OK; i++) {
        status = map_value(graph, next, numbers, &node.in[i]);
    }
    if (status == AG_OK) {
        status = map_value(graph, next, numbers, &node.out);
    }
    for (int i = 0; i < AG_NODE_MAX_MORE && status == AG_OK; i++) {
        status = map_value(graph, next, numbers, &node.more[i]);
    }
    return status == AG_OK ? ag_array_append(&graph->nodes, &node, 1) : status;
}

/* Is anything that a node makes read by those that stay, or seen from outside? */
static bool is_wanted(const ag_graph_t *graph, const ag_node_t *node, int32_t buffer,
                      const bool *is_read)
{
    bool wanted = !ag_node_ops[node->kind].makes_value;

    for (int i = AG_NODE_MAX_IN; i < AG_NODE_MAX_TOUCHED; i++) {
        int32_t value = ag_node_touched(node, i);

        if (value != AG_NO_VALUE) {
            int32_t of = ag_graph_get(graph, value)->buffer;

            wanted |= is_read[value] || (of != AG_INTERNAL && of != buffer);
        }
    }
    return wanted;
}

ag_status_t ag_graph_drop(ag_graph_t *graph, int32_t buffer)
{
    ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);
    ag_array_t read = AG_ARRAY(bool);
    size_t n = graph->nodes.n_items, first_kept = n;
    ag_status_t status = ag_array_append(&read, NULL, graph->values.n_items);
    bool *is_read = AG_ITEMS(&read, bool);

    if (status != AG_OK) {
        return status;
    }
    for (size_t v = 0; v < graph->values.n_items; v++) {
        is_read[v] = false;
    }
    for (size_t i = n; i > 0; i--) { /* those that stay move to the end */
        ag_node_t node = nodes[i - 1];

        if (!is_wanted(graph, &node, buffer, is_read)) {
            continue;
        }
        for (int j = 0; j < AG_NODE_MAX_IN; j++) {
            if (node.in[j] != AG_NO_VALUE) {
                is_read[node.in[j]] = true;
            }
        }
        nodes[--first_kept] = node;
    }
    if (first_kept > 0) {
        memmove(nodes, nodes + first_kept, (n - first_kept) * sizeof(*nodes));
    }
    graph->nodes.n_items = n - first_kept;
    ag_array_fini(&read);
    return AG_OK;
}

ag_status_t ag_graph_append_run(ag_graph_t *graph, const ag_graph_t *next, size_t begin, size_t end)
{
    ag_array_t map = AG_ARRAY(int32_t); /* next's value -> graph's */
    ag_status_t status = ag_array_append(&map, NULL, next->values.n_items);
    int32_t *numbers = AG_ITEMS(&map, int32_t);

    for (size_t i = 0; i < next->values.n_items && status == AG_OK; i++) {
        numbers[i] = AG_NO_VALUE;
    }
    for (size_t i = begin; i < end && status == AG_OK; i++) {
        status = append_node(graph, next, numbers, AG_ITEMS(&next->nodes, ag_node_t)[i]);
    }
    ag_array_fini(&map);
    return status;
}

ag_status_t ag_graph_append(ag_graph_t *graph, const ag_graph_t *next)
{
    return ag_graph_append_run(graph, next, 0, next->nodes.n_items);
}

static bool is_product(const ag_node_t *node)
{
    return node->kind == AG_NODE_LINEAR || node->kind == AG_NODE_GROUPED_LINEAR;
}

static ag_dtype_t weight_type(const ag_node_t *node, const ag_graph_param_t *params)
{
    return is_product(node) ? params[node->weight].dtype : AG_F32;
}

void ag_graph_cost(const ag_graph_t *graph, const ag_graph_param_t *params,
                   const ag_cost_shape_t *shape, ag_costs_t *costs)
{
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];

        if (ag_node_ops[node->kind].cost != NULL) {
            ag_node_ops[node->kind].cost(graph, node, params, shape,
                                         &costs->of[node->kind][weight_type(node, params)]);
        }
    }
}

ag_cost_t ag_costs_sum(const ag_costs_t *costs)
{
    ag_cost_t sum = {0};

    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            const ag_cost_t *cost = &costs->of[kind][type];

            for (int in = 0; in < AG_N_GEMM_KINDS; in++) {
                sum.ops[in] += cost->ops[in];
            }
            sum.bytes += cost->bytes;
        }
    }
    return sum;
}

void ag_profile_add(ag_profile_t *sum, const ag_profile_t *one)
{
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            sum->ns[kind][type] += one->ns[kind][type];
        }
    }
    sum->barrier_ns += one->barrier_ns;
}

/* What thread 0 notes of a run: each stretch of time is a kernel's or a barrier's. */
typedef struct lap {
    bool wanted;
    uint64_t at_ns;
} lap_t;

static lap_t begin_lap(const ag_graph_run_t *run, const ag_worker_t *worker)
{
    lap_t lap = {.wanted = run->profile != NULL && worker->thread == 0};

    lap.at_ns = lap.wanted ? ag_clock_now_ns(run->clock) : 0;
    return lap;
}

/* @param node  NULL: a barrier. */
static void end_lap(const ag_graph_run_t *run, const ag_node_t *node, lap_t *lap)
{
    uint64_t begin_ns = lap->at_ns;
    ag_dtype_t type;

    if (!lap->wanted) {
        return;
    }
    lap->at_ns = ag_clock_now_ns(run->clock);
    if (node == NULL) {
        run->profile->barrier_ns += lap->at_ns - begin_ns;
        return;
    }
    type = weight_type(node, run->params);
    run->profile->ns[node->kind][type] += lap->at_ns - begin_ns;
    ag_trace_add(run->trace,
                 &(ag_trace_event_t){.name = ag_node_ops[node->kind].name,
                                     .type = is_product(node) ? ag_dtype_info(type)->name : NULL,
                                     .track = run->track,
                                     .detail = node->layer,
                                     .begin_ns = begin_ns,
                                     .end_ns = lap->at_ns});
}

static unsigned char *claims_of(const ag_graph_run_t *run, unsigned thread)
{
    return run->thread_scratch + thread * run->thread_scratch_stride +
           run->graph->claims_offset_bytes;
}

void ag_graph_begin(ag_graph_run_t *run, unsigned n_threads)
{
    run->has_claims = n_threads > 1 && run->graph->n_claims > 0;
    for (unsigned t = 0; run->has_claims && t < n_threads; t++) {
        memset(claims_of(run, t), 0, run->graph->n_claims * sizeof(ag_claim_t));
    }
}

void ag_graph_region(void *arg, const ag_worker_t *worker)
{
    const ag_graph_run_t *run = arg;
    lap_t lap = begin_lap(run, worker);
    ag_prepared_t prepared = {0};
    size_t n_claims = 0;
    ag_kernel_context_t context = {
        .worker = worker,
        .yield = run->yield,
        .step = run->step,
        .prepared = &prepared,
        .claim_stride = run->thread_scratch_stride,
        .gemm = run->gemm,
        .isa = run->graph->exact && !run->graph->trains ? NULL : run->isa,
    };

    if (run->thread_scratch_stride > 0) {
        context.scratch = run->thread_scratch + worker->thread * run->thread_scratch_stride;
    }
    for (size_t i = 0; i < run->graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&run->graph->nodes, ag_node_t)[i];

        context.claims = run->has_claims && ag_node_has_claims(node)
                             ? claims_of(run, 0) + n_claims++ * sizeof(ag_claim_t)
                             : NULL;
        if (node->barrier_before) {
            ag_team_barrier(worker);
            end_lap(run, NULL, &lap);
        }
        if (node->kind != AG_NODE_LINEAR) {
            prepared.x = NULL;
        }
        ag_node_ops[node->kind].run(run, node, &context);
        end_lap(run, node, &lap);
        if (worker->thread == 0 && run->yield != NULL && run->yield->fn != NULL) {
            run->yield->fn(run->yield->arg);
        }
    }
}
