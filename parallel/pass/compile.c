/* The graphs inside segments get their places and barriers; each segment its scratch. */
#include <stdio.h>

#include "parallel/pass/pass.h"

static ag_status_t compile_op(ag_program_t *program, const ag_build_t *build, uint32_t rank,
                              uint32_t op)
{
    ag_rank_program_t *r = &program->ranks[rank];
    const ag_params_t *params = &build->ranks[rank].params;
    ag_graph_t *graph = AG_ITEMS(&r->segments, ag_segment_t)[ag_rank_ops(r)[op].subject].inside;
    ag_status_t status =
        ag_graph_compile(graph, program->bounds, ag_params_held(params), params->exact);
    ag_use_t use = {.mode = AG_USE_WRITE};
    char name[24];

    if (status != AG_OK || graph->scratch_bytes == 0) {
        return status;
    }
    snprintf(name, sizeof(name), "scratch%u", op);
    status =
        ag_program_add_buffer(program, rank, name, graph->scratch_bytes, AG_SIZE_ONE, &use.buffer);
    return status == AG_OK ? ag_program_add_use(program, rank, op, &use) : status;
}

ag_status_t ag_pass_compile(ag_program_t *program, const ag_build_t *build)
{
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < program->n_ranks; r++) {
        for (uint32_t op = 0; op < program->ranks[r].ops.n_items && status == AG_OK; op++) {
            if (ag_rank_ops(&program->ranks[r])[op].kind == AG_OP_SEGMENT) {
                status = compile_op(program, build, r, op);
            }
        }
    }
    return status;
}
