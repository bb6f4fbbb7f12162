/*
 * What a stage of several ranks computes is done in two halves of the rows, one behind the other:
 *
 *     attn.a  sum(attn.a) attn.b  sum(attn.b) ffn.a  sum(ffn.a) ffn.b  ...
 *
 * Each sum is of half the rows of its buffer, and what waits for it comes after a segment of the
 * other half: while that is computed, the sum is on its way. The halves share the graphs, which are
 * compiled for the larger one. Half B attends to keys that half A has put in the cache just before.
 */
#include "parallel/pass/pass.h"

/* Operations that are cut: from the first segment to the last sum. */
typedef struct span {
    size_t begin, end;
} span_t;

static span_t span_of(const ag_rank_program_t *rank)
{
    span_t span = {rank->ops.n_items, 0};

    for (size_t i = rank->ops.n_items; i-- > 0;) {
        const ag_op_t *op = &ag_rank_ops(rank)[i];

        if (op->kind == AG_OP_SEGMENT) {
            span.begin = i;
        } else if (op->kind == AG_OP_ALL_REDUCE && span.end == 0) {
            span.end = i + 1;
        }
    }
    return span;
}

/* Each is a segment of rows, or a sum of them. */
static bool can_be_cut(const ag_rank_program_t *rank)
{
    span_t span = span_of(rank);

    for (size_t i = span.begin; i < span.end; i++) {
        const ag_op_t *op = &ag_rank_ops(rank)[i];

        for (uint32_t u = 0; u < op->n_uses; u++) {
            const ag_use_t *use = &ag_op_uses(rank, op)[u];

            if (AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].counter != AG_SIZE_TOKENS) {
                return false;
            }
        }
        if (!ag_op_infos[op->kind].has_halves) {
            return false;
        }
    }
    return span.begin < span.end;
}

/* A segment and the sums behind it, of one half. */
static ag_status_t add_half(ag_array_t *ops, const ag_op_t *from, size_t n, ag_half_t half)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        ag_op_t op = from[i];

        op.half = (uint8_t)half;
        status = ag_array_append(ops, &op, 1);
    }
    return status;
}

static ag_status_t cut_rank(ag_rank_program_t *rank)
{
    span_t span = span_of(rank);
    ag_array_t before = rank->ops;
    const ag_op_t *ops = AG_ITEMS(&before, ag_op_t);
    ag_status_t status;

    rank->ops = AG_ARRAY(ag_op_t);
    status = ag_array_append(&rank->ops, ops, span.begin);
    for (size_t i = span.begin, n; i < span.end && status == AG_OK; i += n) {
        n = 1;
        while (i + n < span.end && ops[i + n].kind != AG_OP_SEGMENT) {
            n++;
        }
        status = add_half(&rank->ops, ops + i, n, AG_HALF_A);
        if (status == AG_OK) {
            status = add_half(&rank->ops, ops + i, n, AG_HALF_B);
        }
    }
    if (status == AG_OK) {
        status = ag_array_append(&rank->ops, ops + span.end, before.n_items - span.end);
    }
    ag_array_fini(&before);
    return status;
}

static ag_status_t cut_replica(ag_program_t *program, const ag_replica_t *replica)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        if (!can_be_cut(&program->ranks[replica->ranks[i]])) {
            return AG_OK; /* all ranks of a group sum alike */
        }
    }
    for (uint32_t i = 0; i < replica->n_ranks && status == AG_OK; i++) {
        status = cut_rank(&program->ranks[replica->ranks[i]]);
    }
    return status;
}

ag_status_t ag_pass_split(ag_program_t *program, const ag_plan_t *plan)
{
    ag_status_t status = AG_OK;

    if (plan->overlap_tokens == 0 || program->bounds[AG_SIZE_TOKENS] < plan->overlap_tokens ||
        program->bounds[AG_SIZE_TOKENS] <= program->bounds[AG_SIZE_SEQUENCES]) {
        return AG_OK; /* a row for each sequence: a step may be of any number of them */
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].n_replicas && status == AG_OK; i++) {
            status = cut_replica(program, &plan->stages[s].replicas[i]);
        }
    }
    return status;
}
