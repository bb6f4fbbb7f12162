/* What a training program does once a step: gradients begin at zero; their norm and the loss are
 * added up; the optimizer changes the weights. */
#include "parallel/pass/expand_priv.h"

static const ag_params_t *params_of(const ag_train_t *train, uint32_t rank)
{
    return &train->build->ranks[rank].params;
}

static ag_status_t add_node(ag_graph_t *graph, const ag_train_t *train, uint32_t rank,
                            ag_node_kind_t kind, const int32_t in[2], int32_t out, int32_t weight,
                            uint64_t first_element)
{
    return ag_graph_add(graph,
                        &(ag_node_t){.kind = kind,
                                     .in = {in[0], in[1]},
                                     .out = out,
                                     .weight = weight,
                                     .bias = AG_NO_PARAM,
                                     .attr.first_element = first_element},
                        ag_params_held(params_of(train, rank)));
}

/* A run of floats in a buffer. */
static ag_status_t floats_of(ag_graph_t *graph, uint32_t buffer, uint64_t begin_bytes, uint64_t n,
                             int32_t *value_p)
{
    if (n > UINT32_MAX) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "a weight of %llu elements on one rank: split it over more",
                       (unsigned long long)n);
    }
    *value_p = ag_graph_value_at(graph, AG_COUNT_ONE, (uint32_t)n, (int32_t)buffer, begin_bytes);
    return *value_p < 0 ? ag_fail_nomem("expanding a program", sizeof(ag_value_t)) : AG_OK;
}

/* A graph of its own, as a segment. */
static ag_status_t add_segment(const ag_train_t *train, uint32_t rank, ag_part_kind_t kind,
                               ag_status_t (*write)(const ag_train_t *train, uint32_t rank,
                                                    ag_graph_t *graph))
{
    ag_part_t part = {kind, 0};
    ag_graph_t *graph;
    ag_status_t status = ag_expand_graph(&graph);

    if (status != AG_OK) {
        return status;
    }
    status = write(train, rank, graph);
    if (status != AG_OK) {
        train->program->free_inside(graph);
        return status;
    }
    return ag_train_add(train, rank, &part, graph, AG_NO_BUFFER);
}

static ag_status_t add_zero(const ag_train_t *train, uint32_t rank, ag_graph_t *graph,
                            uint32_t buffer, uint64_t bytes)
{
    const int32_t none[2] = {AG_NO_VALUE, AG_NO_VALUE};
    int32_t value = AG_NO_VALUE;
    ag_status_t status = floats_of(graph, buffer, 0, bytes / sizeof(float), &value);

    return status == AG_OK ? add_node(graph, train, rank, AG_NODE_ZERO, none, value, AG_NO_PARAM, 0)
                           : status;
}

static ag_status_t write_zero(const ag_train_t *train, uint32_t rank, ag_graph_t *graph)
{
    const ag_train_rank_t *of = &train->ranks[rank];
    ag_status_t status = add_zero(train, rank, graph, of->loss, sizeof(double));

    for (size_t i = 0; i < of->buckets.n_items && status == AG_OK; i++) {
        uint32_t buffer = AG_ITEMS(&of->buckets, uint32_t)[i];

        status =
            add_zero(train, rank, graph, buffer,
                     AG_ITEMS(&train->program->ranks[rank].buffers, ag_buffer_t)[buffer].bytes);
    }
    return status;
}

ag_status_t ag_train_add_zero(const ag_train_t *train, uint32_t rank)
{
    return add_segment(train, rank, AG_PART_ZERO, write_zero);
}

/* Rows of a weight that earlier ranks hold too are theirs to count: where this rank's own begin. */
static uint64_t first_counted(const ag_train_t *train, const ag_holding_t *of)
{
    uint64_t begin = of->begin;
    size_t n;
    const ag_holding_t *others = ag_holdings_find(&train->holdings, of->tensor, &n);

    for (size_t i = 0; i < n && others[i].rank < of->rank; i++) {
        if (ag_holdings_meet(train->build, of, &others[i]) && others[i].begin <= begin &&
            others[i].end > begin) {
            begin = others[i].end < of->end ? others[i].end : of->end;
        }
    }
    return begin;
}

static const ag_param_t *param_of(const ag_train_t *train, uint32_t rank, uint32_t param)
{
    return &AG_ITEMS(&params_of(train, rank)->items, ag_param_t)[param];
}

/* Append the sum of squares of a weight's gradient, as far as it is this rank's to count. */
static ag_status_t add_squares(const ag_train_t *train, uint32_t rank, uint32_t param,
                               uint64_t *chunks, ag_graph_t *graph)
{
    const ag_graph_param_t *held = &ag_params_held(params_of(train, rank))[param];
    const ag_param_t *of = param_of(train, rank, param);
    ag_holding_t run = ag_holding_of(train->build, rank, param);
    uint64_t begin = (first_counted(train, &run) - run.begin) * run.across, n, n_chunks;
    bool shares = ag_plan_shares_update(train->build->plan);
    int32_t in[2] = {AG_NO_VALUE, AG_NO_VALUE}, out = AG_NO_VALUE;
    ag_status_t status;

    begin = begin > held->own_begin ? begin : held->own_begin;
    n = held->own_end > begin ? held->own_end - begin : 0;
    n_chunks = ag_sum_chunks(n);
    if (n == 0 || (!shares && !run.spans && train->build->ranks[rank].place.replica > 0)) {
        return AG_OK;
    }
    status =
        floats_of(graph, of->grad_buffer, of->grad_begin_bytes + begin * sizeof(float), n, &in[0]);
    if (status == AG_OK) {
        status = floats_of(graph, train->ranks[rank].squares, *chunks * sizeof(double),
                           n_chunks * sizeof(double) / sizeof(float), &out);
    }
    *chunks += n_chunks;
    return status == AG_OK
               ? add_node(graph, train, rank, AG_NODE_SUM_SQUARES, in, out, AG_NO_PARAM, 0)
               : status;
}

static ag_status_t write_totals(const ag_train_t *train, uint32_t rank, ag_graph_t *graph)
{
    const ag_train_rank_t *of = &train->ranks[rank];
    ag_buffer_t *squares =
        &AG_ITEMS(&train->program->ranks[rank].buffers, ag_buffer_t)[of->squares];
    uint64_t chunks = 0;
    int32_t in[2] = {AG_NO_VALUE, AG_NO_VALUE}, out = AG_NO_VALUE;
    ag_status_t status = AG_OK;

    for (uint32_t i = 0;
         i < params_of(train, rank)->items.n_items && !train->evaluates && status == AG_OK; i++) {
        status = add_squares(train, rank, i, &chunks, graph);
    }
    squares->unit_bytes = squares->bytes = chunks * sizeof(double);
    if (status == AG_OK) {
        status = floats_of(graph, of->loss, 0, sizeof(double) / sizeof(float), &in[0]);
    }
    if (status == AG_OK) {
        status = floats_of(graph, of->squares, 0, chunks * sizeof(double) / sizeof(float), &in[1]);
    }
    if (status == AG_OK && chunks == 0) { /* others count all that this rank has, or nobody does */
        status = add_zero(train, rank, graph, of->squares, 0);
    }
    if (status == AG_OK) {
        status = floats_of(graph, of->totals, 0, AG_N_TOTALS, &out);
    }
    return status == AG_OK ? add_node(graph, train, rank, AG_NODE_TOTALS, in, out, AG_NO_PARAM, 0)
                           : status;
}

/* A node over elements [begin, end) of a weight, which lie in its bucket. */
static ag_status_t add_run(const ag_train_t *train, uint32_t rank, ag_node_kind_t kind,
                           uint32_t param, uint64_t begin, uint64_t end, ag_graph_t *graph)
{
    const ag_param_t *of = param_of(train, rank, param);
    bool is_out = kind == AG_NODE_PUBLISH;
    int32_t in[2] = {AG_NO_VALUE, AG_NO_VALUE}, value = AG_NO_VALUE;
    ag_status_t status;

    if (begin >= end) {
        return AG_OK;
    }
    status = floats_of(graph, of->grad_buffer, of->grad_begin_bytes + begin * sizeof(float),
                       end - begin, &value);
    if (status == AG_OK && kind == AG_NODE_ADAMW) {
        status = floats_of(graph, train->ranks[rank].totals, 0, AG_N_TOTALS, &in[1]);
    }
    in[0] = is_out ? AG_NO_VALUE : value;
    return status == AG_OK ? add_node(graph, train, rank, kind, in, is_out ? value : AG_NO_VALUE,
                                      (int32_t)param, begin)
                           : status;
}

/* The elements that this rank changes, and hands out where others have the same weight. */
static ag_status_t write_update(const ag_train_t *train, uint32_t rank, ag_graph_t *graph)
{
    const ag_params_t *params = params_of(train, rank);
    bool shares = ag_plan_shares_update(train->build->plan);
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < params->items.n_items && status == AG_OK; i++) {
        const ag_graph_param_t *held = &ag_params_held(params)[i];

        status = add_run(train, rank, AG_NODE_ADAMW, i, held->own_begin, held->own_end, graph);
        if (status == AG_OK && shares && !param_of(train, rank, i)->spans_replicas) {
            status =
                add_run(train, rank, AG_NODE_PUBLISH, i, held->own_begin, held->own_end, graph);
        }
    }
    return status;
}

static ag_status_t write_adopt(const ag_train_t *train, uint32_t rank, ag_graph_t *graph)
{
    const ag_params_t *params = params_of(train, rank);
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < params->items.n_items && status == AG_OK; i++) {
        const ag_graph_param_t *held = &ag_params_held(params)[i];

        status = add_run(train, rank, AG_NODE_ADOPT, i, 0, held->own_begin, graph);
        if (status == AG_OK) {
            status = add_run(train, rank, AG_NODE_ADOPT, i, held->own_end, held->rows * held->cols,
                             graph);
        }
    }
    return status;
}

ag_status_t ag_train_add_update(const ag_train_t *train, uint32_t rank)
{
    ag_status_t status = ag_program_add_buffer(train->program, rank, "squares", 0, AG_SIZE_ONE,
                                               &train->ranks[rank].squares);

    if (status == AG_OK) {
        status = add_segment(train, rank, AG_PART_TOTALS, write_totals);
    }
    if (status == AG_OK && !train->evaluates) {
        status = add_segment(train, rank, AG_PART_UPDATE, write_update);
    }
    return status == AG_OK && !train->evaluates && ag_plan_shares_update(train->build->plan)
               ? add_segment(train, rank, AG_PART_ADOPT, write_adopt)
               : status;
}
