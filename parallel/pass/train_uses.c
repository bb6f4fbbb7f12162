/* A graph as a segment of a training program: what it does to buffers follows from its nodes. */
#include "parallel/pass/expand_priv.h"

/* A use of a buffer by a node, joined with those before it. */
static ag_status_t note_use(ag_array_t *uses, uint32_t buffer, uint32_t mode)
{
    for (size_t i = 0; i < uses->n_items; i++) {
        ag_use_t *use = &AG_ITEMS(uses, ag_use_t)[i];

        if (use->buffer != buffer) {
            continue;
        }
        if (mode != AG_USE_READ &&
            mode != use->mode) { /* what is read was written here, or before */
            use->mode = (use->mode & ~(uint32_t)AG_USE_ADD) | AG_USE_WRITE;
        } else if (mode == AG_USE_READ && (use->mode & AG_USE_ADD)) {
            use->mode &= ~(uint32_t)AG_USE_ADD; /* it is more than added to */
        }
        return AG_OK;
    }
    return ag_array_append(uses, &(ag_use_t){buffer, mode}, 1);
}

static ag_status_t note_node(const ag_graph_t *graph, const ag_node_t *node, ag_array_t *uses)
{
    const ag_value_t *values = AG_ITEMS(&graph->values, ag_value_t);
    ag_status_t status = AG_OK;

    for (int i = 0; i < AG_NODE_MAX_IN + 1 + AG_NODE_MAX_MORE && status == AG_OK; i++) {
        bool is_in = i < AG_NODE_MAX_IN;
        int32_t value = is_in                 ? node->in[i]
                        : i == AG_NODE_MAX_IN ? node->out
                                              : node->more[i - AG_NODE_MAX_IN - 1];
        uint32_t mode = is_in         ? AG_USE_READ
                        : !node->adds ? AG_USE_WRITE
                                      : AG_USE_READ | AG_USE_WRITE | AG_USE_ADD;

        if (value != AG_NO_VALUE && values[value].buffer != AG_INTERNAL) {
            status = note_use(uses, (uint32_t)values[value].buffer, mode);
        }
    }
    return status;
}

/* Of this rank's rows: what has all rows is used in these alone; what has but these lies
 * packed. */
static void work_on_share(const ag_train_t *train, uint32_t rank, ag_graph_t *graph,
                          ag_array_t *uses)
{
    const ag_buffer_t *buffers = AG_ITEMS(&train->program->ranks[rank].buffers, ag_buffer_t);

    for (size_t i = 0; i < uses->n_items; i++) {
        ag_use_t *use = &AG_ITEMS(uses, ag_use_t)[i];

        if (buffers[use->buffer].counter == AG_SIZE_TOKENS) {
            use->mode = (use->mode & ~(uint32_t)AG_USE_ADD) | AG_USE_SHARE;
        }
    }
    for (size_t i = 0; i < graph->values.n_items; i++) {
        ag_value_t *value = &AG_ITEMS(&graph->values, ag_value_t)[i];

        value->is_packed =
            value->buffer != AG_INTERNAL && buffers[value->buffer].counter == AG_SIZE_ONE;
    }
}

/* What an operation is whose uses are known. Takes the graph over. */
static ag_status_t add(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                       ag_graph_t *graph, uint32_t half, const ag_array_t *uses)
{
    ag_op_t op = {.kind = AG_OP_SEGMENT,
                  .stream = AG_STREAM_COMPUTE,
                  .half = (uint8_t)half,
                  .chunk = train->chunk,
                  .micro_batch = train->micro_batch,
                  .peer = -1};
    ag_status_t status = ag_program_add_segment(train->program, rank, part, graph, &op.subject);

    return status == AG_OK ? ag_program_add_op(train->program, rank, &op, AG_ITEMS(uses, ag_use_t),
                                               (uint32_t)uses->n_items)
                           : status;
}

/* Append the uses of a graph's nodes. */
static ag_status_t note_nodes(const ag_graph_t *graph, ag_array_t *uses)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < graph->nodes.n_items && status == AG_OK; i++) {
        status = note_node(graph, &AG_ITEMS(&graph->nodes, ag_node_t)[i], uses);
    }
    return status;
}

ag_status_t ag_train_add(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                         ag_graph_t *graph, uint32_t sum)
{
    return ag_train_add_using(train, rank, part, graph, sum, NULL, 0);
}

ag_status_t ag_train_add_using(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                               ag_graph_t *graph, uint32_t sum, const ag_use_t *first,
                               uint32_t n_first)
{
    const ag_shard_t *shard = &train->build->ranks[rank].shard;
    ag_array_t uses = AG_ARRAY(ag_use_t);
    ag_status_t status = ag_array_append(&uses, first, n_first);

    if (status == AG_OK) {
        status = note_nodes(graph, &uses);
    }
    for (size_t i = 0; i < uses.n_items && shard->n_stage_ranks > 1; i++) {
        ag_use_t *use = &AG_ITEMS(&uses, ag_use_t)[i];

        use->mode |= use->buffer == sum ? AG_USE_PARTIAL : 0;
    }
    if (status == AG_OK) {
        status = add(train, rank, part, graph, AG_HALF_BOTH, &uses);
    } else {
        train->program->free_inside(graph);
    }
    ag_array_fini(&uses);
    return status;
}

ag_status_t ag_train_add_rows(const ag_train_t *train, uint32_t rank, const ag_part_t *part,
                              ag_graph_t *graph)
{
    ag_array_t uses = AG_ARRAY(ag_use_t);
    ag_status_t status = note_nodes(graph, &uses);

    if (status == AG_OK) {
        work_on_share(train, rank, graph, &uses);
        status = add(train, rank, part, graph, AG_ROWS_SHARE, &uses);
    } else {
        train->program->free_inside(graph);
    }
    ag_array_fini(&uses);
    return status;
}
