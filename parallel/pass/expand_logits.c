/* The way of the logits to rank 0. */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"

static ag_status_t add_columns(ag_graph_t *graph, uint32_t from, uint32_t width, uint32_t to,
                               uint32_t to_width, uint64_t column_begin)
{
    ag_node_t node = {
        .kind = AG_NODE_COLUMNS,
        .in = {ag_graph_value(graph, AG_COUNT_OUTPUTS, width, (int32_t)from), AG_NO_VALUE},
        .out = ag_graph_value(graph, AG_COUNT_OUTPUTS, to_width, (int32_t)to),
        .weight = AG_NO_PARAM,
        .bias = AG_NO_PARAM,
        .attr.column_begin = (uint32_t)column_begin};

    return ag_graph_add(graph, &node, NULL);
}

/* Rank 0 gets one shard of the logits: its own, or by a message. @param shard_p its buffer there.
 */
static ag_status_t bring_shard(ag_expand_t *expand, uint32_t from, uint32_t width,
                               uint32_t *shard_p)
{
    ag_status_t status;
    char name[24];

    if (from == 0) {
        *shard_p = expand->ranks[0].logits;
        return AG_OK;
    }
    snprintf(name, sizeof(name), "shard%u", from);
    status = ag_program_add_buffer(expand->program, 0, name, width * sizeof(float), AG_SIZE_OUTPUTS,
                                   shard_p);
    return status == AG_OK
               ? ag_expand_message(expand, from, expand->ranks[from].logits, 0, *shard_p)
               : status;
}

/* The shards of the logits come to rank 0, which puts them side by side. */
ag_status_t ag_expand_logits(ag_expand_t *expand, const ag_replica_t *last)
{
    uint32_t vocab = expand->build->model->spec->vocab, n_uses = 0;
    ag_part_t part = {AG_PART_COLLECT, 0};
    ag_use_t *uses = calloc((size_t)last->n_ranks + 1, sizeof(*uses));
    ag_graph_t *graph = NULL;
    uint32_t output;
    ag_status_t status =
        uses == NULL ? ag_fail_nomem("collecting logits", last->n_ranks)
                     : ag_program_add_buffer(expand->program, 0, "output", vocab * sizeof(float),
                                             AG_SIZE_OUTPUTS, &output);

    if (status == AG_OK) {
        status = ag_expand_graph(&graph);
    }
    for (uint32_t i = 0; i < last->n_ranks && status == AG_OK; i++) {
        const ag_shard_t *shard = &expand->build->ranks[last->ranks[i]].shard;
        uint32_t width = shard->vocab_end - shard->vocab_begin, buffer;

        if (width == 0) {
            continue;
        }
        status = bring_shard(expand, last->ranks[i], width, &buffer);
        if (status == AG_OK) {
            uses[n_uses++] = (ag_use_t){buffer, AG_USE_READ};
            status = add_columns(graph, buffer, width, output, vocab, shard->vocab_begin);
        }
    }
    if (status == AG_OK) {
        uses[n_uses++] = (ag_use_t){output, AG_USE_WRITE};
        expand->program->output_buffer = output;
        status = ag_expand_segment(expand, 0, &part, graph, uses, n_uses);
    } else if (graph != NULL) {
        expand->program->free_inside(graph);
    }
    free(uses);
    return status;
}
