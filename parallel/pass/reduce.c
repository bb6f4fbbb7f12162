/*
 * Sums over the ranks of a training job: of each bucket of gradients over the replicas, as soon as
 * its last micro-batch has added to it, behind the arithmetic that is left; and of the totals over
 * all ranks, before the optimizer reads them.
 */
#include <stdlib.h>

#include "parallel/pass/pass.h"

enum { NONE = UINT32_MAX };

/* What each operation adds to. @param last_p  of each buffer the last operation that does. */
static void find_last(const ag_rank_program_t *rank, uint32_t *last)
{
    for (size_t i = 0; i < rank->buffers.n_items; i++) {
        last[i] = NONE;
    }
    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        for (uint32_t i = 0; i < o->n_uses; i++) {
            if (ag_op_uses(rank, o)[i].mode & AG_USE_ADD) {
                last[ag_op_uses(rank, o)[i].buffer] = op;
            }
        }
    }
}

static const ag_op_t *find_part(const ag_rank_program_t *rank, ag_part_kind_t kind)
{
    const ag_op_t *op = ag_rank_ops(rank);

    while (!ag_op_begins_with(rank, op, kind)) {
        op++;
    }
    return op;
}

static ag_use_t *find_use(ag_rank_program_t *rank, const ag_op_t *op, uint32_t buffer)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        ag_use_t *use = &AG_ITEMS(&rank->uses, ag_use_t)[op->first_use + i];

        if (use->buffer == buffer) {
            return use;
        }
    }
    return NULL;
}

/* @param kind  ALL_REDUCE, or of shares REDUCE_SCATTER and ALL_GATHER. */
static ag_status_t add_collective(ag_program_t *program, uint32_t rank, ag_op_kind_t kind,
                                  uint32_t group, ag_stream_t stream, uint32_t buffer,
                                  uint16_t shares)
{
    ag_op_t op = ag_program_sum(program, rank, group, buffer);
    ag_use_t use = {buffer, AG_USE_READ | AG_USE_WRITE |
                                (kind == AG_OP_REDUCE_SCATTER ? AG_USE_SHARE : 0u)};

    op.kind = (uint8_t)kind;
    op.stream = (uint8_t)stream;
    op.shares = shares;
    return ag_program_add_op(program, rank, &op, &use, 1);
}

/* What of a rank is summed over whom. */
typedef struct sums {
    uint32_t replicas, all; /* groups; NONE: there is one rank alone */
    ag_stream_t of_all;     /* that of the group's other sums, if there are any */
    bool *is_bucket;        /* (buffers) */
    uint32_t *last;         /* (buffers) the last operation that adds to it */
    uint16_t *shares;       /* (buffers) of the program: which replica sums what */
    bool keeps_shares;      /* replicas share the optimizer out, too */
    uint32_t totals;        /* the buffer */
} sums_t;

/* Buckets hold gradients; whoever shares weights over replicas has summed theirs. */
static void find_buckets(const ag_rank_program_t *rank, const ag_params_t *params, bool *is_bucket)
{
    const ag_param_t *items = AG_ITEMS(&params->items, ag_param_t);

    for (size_t i = 0; i < params->items.n_items; i++) {
        uint32_t buffer = items[i].grad_buffer;

        is_bucket[buffer] = AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer].bytes > 0;
    }
    for (size_t i = 0; i < params->items.n_items; i++) {
        if (items[i].spans_replicas) {
            is_bucket[items[i].grad_buffer] = false;
        }
    }
}

/* Where replicas are to sum them, they begin as this rank's part. */
static void look_at_buckets(ag_rank_program_t *rank, const ag_params_t *params, sums_t *sums)
{
    const ag_op_t *zero = find_part(rank, AG_PART_ZERO);

    find_buckets(rank, params, sums->is_bucket);
    for (uint32_t b = 0; b < rank->buffers.n_items && sums->replicas != NONE; b++) {
        if (sums->is_bucket[b]) {
            find_use(rank, zero, b)->mode |= AG_USE_PARTIAL;
        }
    }
}

/* Buckets, and totals, which TOTALS writes last: from here on both are this rank's part of a sum.
 */
static ag_status_t look_at(ag_rank_program_t *rank, const ag_params_t *params, bool evaluates,
                           sums_t *sums)
{
    const ag_op_t *totals = find_part(rank, AG_PART_TOTALS);
    size_t n = rank->buffers.n_items;

    sums->is_bucket = calloc(n + 1, sizeof(*sums->is_bucket));
    sums->last = malloc((n + 1) * sizeof(*sums->last));
    if (sums->is_bucket == NULL || sums->last == NULL) {
        return ag_fail_nomem("adding sums of gradients", n * sizeof(*sums->last));
    }
    find_last(rank, sums->last);
    sums->totals = ag_op_uses(rank, totals)[totals->n_uses - 1].buffer;
    if (!evaluates) {
        look_at_buckets(rank, params, sums);
    }
    if (sums->all != NONE) {
        find_use(rank, totals, sums->totals)->mode |= AG_USE_PARTIAL;
    }
    return AG_OK;
}

/* Each replica's share of a bucket is its to change. */
static ag_status_t share_out(ag_program_t *program, const ag_plan_t *plan, uint32_t r, sums_t *sums)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    uint32_t n = plan->stages[0].n_replicas;
    uint64_t floats[AG_MOST_REPLICAS];
    ag_status_t status = AG_OK;

    sums->shares = calloc(rank->buffers.n_items + 1, sizeof(*sums->shares));
    if (sums->shares == NULL) {
        return ag_fail_nomem("adding sums of gradients", rank->buffers.n_items * 2);
    }
    for (size_t b = 0; b < rank->buffers.n_items && status == AG_OK; b++) {
        if (sums->is_bucket[b]) {
            status = ag_plan_share_floats(
                plan, AG_ITEMS(&rank->buffers, ag_buffer_t)[b].bytes / sizeof(float), floats);
            if (status == AG_OK) {
                status = ag_program_share_out(program, floats, n, &sums->shares[b]);
            }
        }
    }
    return status;
}

/* Totals are taken of shares, and the optimizer changes and leaves its own. */
static void mark_shares(ag_rank_program_t *rank, const sums_t *sums)
{
    const ag_op_t *ops[] = {find_part(rank, AG_PART_TOTALS), find_part(rank, AG_PART_UPDATE)};

    for (int i = 0; i < 2; i++) {
        for (uint32_t u = 0; u < ops[i]->n_uses; u++) {
            ag_use_t *use = &AG_ITEMS(&rank->uses, ag_use_t)[ops[i]->first_use + u];

            use->mode |= sums->is_bucket[use->buffer] ? AG_USE_SHARE : 0;
        }
    }
}

/*
 * Behind an operation that is the last to add to a bucket: each replica sums its share, and has the
 * others' unless it is to change that share alone. So an element's sum has one order wherever it
 * stands, and ranks of a layer that hold the same weight in buckets of other sizes have the same
 * bits.
 */
static ag_status_t sum_buckets(ag_program_t *program, uint32_t r, const sums_t *sums, uint32_t op)
{
    size_t n_buffers = program->ranks[r].buffers.n_items;
    ag_status_t status = AG_OK;

    for (uint32_t b = 0; b < n_buffers && status == AG_OK; b++) {
        if (!sums->is_bucket[b] || sums->last[b] != op) {
            continue;
        }
        status = add_collective(program, r, AG_OP_REDUCE_SCATTER, sums->replicas, AG_STREAM_GRAD, b,
                                sums->shares[b]);
        if (status == AG_OK && !sums->keeps_shares) {
            status = add_collective(program, r, AG_OP_ALL_GATHER, sums->replicas, AG_STREAM_GRAD, b,
                                    sums->shares[b]);
        }
    }
    return status;
}

static ag_status_t gather_buckets(ag_program_t *program, uint32_t r, const sums_t *sums)
{
    size_t n_buffers = program->ranks[r].buffers.n_items;
    ag_status_t status = AG_OK;

    for (uint32_t b = 0; b < n_buffers && status == AG_OK; b++) {
        if (sums->is_bucket[b]) {
            status = add_collective(program, r, AG_OP_ALL_GATHER, sums->replicas, AG_STREAM_GRAD, b,
                                    sums->shares[b]);
        }
    }
    return status;
}

static ag_status_t sum_rank(ag_program_t *program, uint32_t r, const sums_t *sums)
{
    ag_array_t before = program->ranks[r].ops;
    ag_status_t status = AG_OK;

    program->ranks[r].ops = AG_ARRAY(ag_op_t);
    for (uint32_t op = 0; op < before.n_items && status == AG_OK; op++) {
        const ag_op_t *o = &AG_ITEMS(&before, ag_op_t)[op];

        status = ag_array_append(&program->ranks[r].ops, o, 1);
        if (status == AG_OK && sums->replicas != NONE) {
            status = sum_buckets(program, r, sums, op);
        }
        if (status == AG_OK && sums->all != NONE &&
            ag_op_begins_with(&program->ranks[r], o, AG_PART_TOTALS)) {
            status = add_collective(program, r, AG_OP_ALL_REDUCE, sums->all, sums->of_all,
                                    sums->totals, 0);
        }
        if (status == AG_OK && sums->keeps_shares &&
            ag_op_begins_with(&program->ranks[r], o, AG_PART_UPDATE)) {
            status = gather_buckets(program, r, sums);
        }
    }
    ag_array_fini(&before);
    return status;
}

/* What a group does is on one stream: that of what it does already. */
static ag_stream_t stream_of(const ag_rank_program_t *rank, uint32_t group, uint32_t replicas)
{
    for (size_t i = 0; i < rank->ops.n_items && group != replicas; i++) {
        const ag_op_t *op = &ag_rank_ops(rank)[i];

        if (ag_op_infos[op->kind].is_collective && op->subject == group) {
            return (ag_stream_t)op->stream;
        }
    }
    return AG_STREAM_GRAD;
}

/* The ranks that hold the same in all replicas, or all ranks. */
static ag_status_t find_groups(ag_program_t *program, const ag_build_t *build, uint32_t rank,
                               sums_t *sums)
{
    const ag_place_t *place = &build->ranks[rank].place;
    uint32_t *ranks = calloc((size_t)build->n_ranks + 1, sizeof(*ranks)), n = 0;
    ag_status_t status =
        ranks == NULL ? ag_fail_nomem("adding sums of gradients", build->n_ranks * 4ull) : AG_OK;

    *sums = (sums_t){.replicas = NONE, .all = NONE};
    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        const ag_place_t *other = &build->ranks[r].place;

        if (other->stage == place->stage && other->index == place->index) {
            ranks[n++] = r;
        }
    }
    if (status == AG_OK && n > 1) {
        status = ag_program_group(program, ranks, n, &sums->replicas);
    }
    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        ranks[r] = r;
    }
    if (status == AG_OK && build->n_ranks > 1) {
        status = ag_program_group(program, ranks, build->n_ranks, &sums->all);
    }
    sums->of_all = stream_of(&program->ranks[rank], sums->all, sums->replicas);
    free(ranks);
    return status;
}

ag_status_t ag_pass_reduce(ag_program_t *program, const ag_build_t *build)
{
    bool evaluates = ag_program_evaluates(program);
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        sums_t sums;

        status = find_groups(program, build, r, &sums);
        sums.replicas = evaluates ? NONE : sums.replicas; /* they have but the totals to sum */
        if (status == AG_OK) {
            status = look_at(&program->ranks[r], &build->ranks[r].params, evaluates, &sums);
        }
        if (status == AG_OK && sums.replicas != NONE) {
            sums.keeps_shares = ag_plan_shares_update(build->plan);
            status = share_out(program, build->plan, r, &sums);
        }
        if (status == AG_OK && sums.keeps_shares) {
            mark_shares(&program->ranks[r], &sums);
        }
        if (status == AG_OK) {
            status = sum_rank(program, r, &sums);
        }
        free(sums.is_bucket);
        free(sums.last);
        free(sums.shares);
    }
    return status;
}
