/* The graphs inside segments get their places and barriers; each segment its scratch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/pass/pass.h"

enum { UNSEEN = -2, NO_SCRATCH = -1 };

/* Half A is the larger one; what is not halved has all rows, or this rank's. */
static ag_status_t compile_graph(const ag_program_t *program, const ag_build_t *build,
                                 uint32_t rank, const ag_op_t *op, const ag_graph_t **graph_p)
{
    const ag_params_t *params = &build->ranks[rank].params;
    ag_graph_t *graph = AG_ITEMS(&program->ranks[rank].segments, ag_segment_t)[op->subject].inside;
    uint64_t bounds[AG_N_SIZE_COUNTERS];

    memcpy(bounds, program->bounds, sizeof(bounds));
    bounds[AG_SIZE_TOKENS] =
        op->half == AG_ROWS_SHARE
            ? ag_shard_most_rows(&build->ranks[rank].shard, bounds[AG_SIZE_TOKENS])
            : ag_half_rows(op->half, bounds[AG_SIZE_TOKENS]);
    *graph_p = graph;
    graph->trains = build->plan->train.sequence_tokens > 0;
    return ag_graph_compile(graph, bounds, ag_params_held(params),
                            build->plan->compute == AG_COMPUTE_F32);
}

/* @param scratch  the segment's buffer; UNSEEN: not compiled yet. Its two halves share it. */
static ag_status_t compile_op(ag_program_t *program, const ag_build_t *build, uint32_t rank,
                              uint32_t op, int64_t *scratch)
{
    const ag_graph_t *graph = NULL;
    ag_use_t use = {.mode = AG_USE_WRITE};
    ag_status_t status = AG_OK;
    char name[24];

    if (*scratch == UNSEEN) {
        status =
            compile_graph(program, build, rank, &ag_rank_ops(&program->ranks[rank])[op], &graph);
        *scratch = NO_SCRATCH;
    }
    if (status == AG_OK && graph != NULL && graph->scratch_bytes > 0) {
        snprintf(name, sizeof(name), "scratch%u", op);
        status = ag_program_add_buffer(program, rank, name, graph->scratch_bytes, AG_SIZE_ONE,
                                       &use.buffer);
        *scratch = use.buffer;
    }
    if (status != AG_OK || *scratch == NO_SCRATCH) {
        return status;
    }
    use.buffer = (uint32_t)*scratch;
    return ag_program_add_use(program, rank, op, &use);
}

static ag_status_t compile_rank(ag_program_t *program, const ag_build_t *build, uint32_t r)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    size_t n = rank->segments.n_items;
    int64_t *scratches = malloc((n + 1) * sizeof(*scratches)); /* by segment */
    ag_status_t status = AG_OK;

    if (scratches == NULL) {
        return ag_fail_nomem("compiling a program", n * sizeof(*scratches));
    }
    for (size_t i = 0; i < n; i++) {
        scratches[i] = UNSEEN;
    }
    for (uint32_t op = 0; op < rank->ops.n_items && status == AG_OK; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        if (o->kind == AG_OP_SEGMENT) {
            status = compile_op(program, build, r, op, &scratches[o->subject]);
        }
    }
    free(scratches);
    return status;
}

ag_status_t ag_pass_compile(ag_program_t *program, const ag_build_t *build)
{
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        status = compile_rank(program, build, r);
    }
    return status;
}
