/* Neighbouring segments become one operation. */
#include "parallel/pass/pass.h"

/* What the two do to a buffer, seen from outside: a read of what the first wrote is inside. */
static ag_status_t join_uses(ag_program_t *program, uint32_t rank, uint32_t op, const ag_op_t *next)
{
    ag_rank_program_t *r = &program->ranks[rank];

    for (uint32_t i = 0; i < next->n_uses; i++) {
        ag_use_t use = ag_op_uses(r, next)[i];
        ag_op_t *o = &ag_rank_ops(r)[op];
        ag_use_t *known = NULL;

        for (uint32_t j = 0; j < o->n_uses; j++) {
            ag_use_t *candidate = &AG_ITEMS(&r->uses, ag_use_t)[o->first_use + j];

            known = candidate->buffer == use.buffer ? candidate : known;
        }
        if (known == NULL) {
            ag_status_t status = ag_program_add_use(program, rank, op, &use);

            if (status != AG_OK) {
                return status;
            }
        } else if (known->mode & AG_USE_WRITE) {
            known->mode |= use.mode & (AG_USE_PARTIAL | AG_USE_SHARE);
        } else {
            known->mode |= use.mode;
        }
    }
    return AG_OK;
}

static ag_status_t join(ag_program_t *program, uint32_t rank, uint32_t op, const ag_op_t *next)
{
    ag_rank_program_t *r = &program->ranks[rank];
    ag_segment_t *segments = AG_ITEMS(&r->segments, ag_segment_t);
    ag_segment_t *into = &segments[ag_rank_ops(r)[op].subject];
    ag_segment_t *from = &segments[next->subject];
    ag_status_t status = ag_graph_append(into->inside, from->inside);

    if (status == AG_OK) {
        status = ag_array_append(&into->parts, from->parts.items, from->parts.n_items);
    }
    if (status == AG_OK) {
        status = join_uses(program, rank, op, next);
    }
    program->free_inside(from->inside);
    from->inside = NULL;
    from->parts.n_items = 0;
    return status;
}

static ag_status_t fuse_rank(ag_program_t *program, uint32_t rank)
{
    ag_array_t before = program->ranks[rank].ops;
    ag_array_t *ops = &program->ranks[rank].ops;
    ag_status_t status = AG_OK;

    *ops = AG_ARRAY(ag_op_t);
    for (size_t i = 0; i < before.n_items && status == AG_OK; i++) {
        const ag_op_t *op = &AG_ITEMS(&before, ag_op_t)[i];
        const ag_op_t *last = ops->n_items > 0 ? &AG_ITEMS(ops, ag_op_t)[ops->n_items - 1] : NULL;

        if (last != NULL && last->kind == AG_OP_SEGMENT && op->kind == AG_OP_SEGMENT &&
            last->stream == op->stream && last->half == op->half &&
            last->micro_batch == op->micro_batch && last->chunk == op->chunk) {
            status = join(program, rank, (uint32_t)ops->n_items - 1, op);
        } else {
            status = ag_array_append(ops, op, 1);
        }
    }
    ag_array_fini(&before);
    return status;
}

ag_status_t ag_pass_fuse(ag_program_t *program, const ag_plan_t *plan)
{
    ag_status_t status = AG_OK;

    (void)plan;
    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        status = fuse_rank(program, r);
    }
    return status;
}
