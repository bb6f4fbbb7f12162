/*
 * Weights that several ranks of a replica hold, each with its own part of their gradient: KV heads
 * whose query heads are on several ranks, an embedding table that is the head of the last stage,
 * too; and experts that ranks of several replicas share out. Before the totals are taken, the parts
 * are put together in a buffer for each set of ranks, summed over them, and put back:
 *
 *     share, ALL_REDUCE for each set, shared
 */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"

/* A run of rows of a tensor that the same ranks hold. */
typedef struct piece {
    uint32_t group;
    ag_holding_t of; /* the first of them; its begin and end are the run's */
} piece_t;

static uint64_t piece_bytes(const piece_t *piece)
{
    return (piece->of.end - piece->of.begin) * piece->of.across * sizeof(float);
}

typedef struct share {
    ag_train_t train;  /* of program, build and holdings */
    ag_array_t pieces; /* piece_t, in the same order for all ranks of a group */
    uint32_t *ranks;   /* (ranks) scratch */
} share_t;

/* Ranks that hold row `at`, of this slice's replica; where the run of rows ends that they all do.
 */
static uint32_t find_holders(share_t *share, const ag_holding_t *of, uint64_t at, uint64_t *end_p)
{
    size_t n;
    const ag_holding_t *others = ag_holdings_find(&share->train.holdings, of->tensor, &n);
    uint32_t n_holders = 0;

    *end_p = of->end;
    for (size_t i = 0; i < n; i++) {
        const ag_holding_t *other = &others[i];

        if (!ag_holdings_meet(share->train.build, of, other)) {
            continue;
        }
        if (other->begin > at && other->begin < *end_p) {
            *end_p = other->begin;
        }
        if (other->begin <= at && other->end > at) {
            share->ranks[n_holders++] = other->rank;
            *end_p = other->end < *end_p ? other->end : *end_p;
        }
    }
    return n_holders;
}

/* The runs of a slice that it is the first to hold. */
static ag_status_t add_pieces(share_t *share, const ag_holding_t *of)
{
    ag_status_t status = AG_OK;
    uint64_t end;

    for (uint64_t at = of->begin; at < of->end && status == AG_OK; at = end) {
        uint32_t n = find_holders(share, of, at, &end);
        piece_t piece = {.of = *of};

        if (n < 2 || share->ranks[0] != of->rank) {
            continue;
        }
        piece.of.begin = at;
        piece.of.end = end;
        status = ag_program_group(share->train.program, share->ranks, n, &piece.group);
        if (status == AG_OK) {
            status = ag_array_append(&share->pieces, &piece, 1);
        }
    }
    return status;
}

static ag_status_t find_pieces(share_t *share)
{
    const ag_build_t *build = share->train.build;
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        for (uint32_t i = 0; i < build->ranks[r].params.items.n_items && status == AG_OK; i++) {
            ag_holding_t of = ag_holding_of(build, r, i);

            status = of.is_part ? add_pieces(share, &of) : AG_OK;
        }
    }
    return status;
}

/* Copy a piece between a rank's gradients and a group's buffer. */
static ag_status_t add_copy(const share_t *share, const piece_t *piece, uint32_t rank,
                            uint32_t buffer, uint64_t at_bytes, bool back, ag_graph_t *graph)
{
    uint64_t n = piece_bytes(piece) / sizeof(float);
    const ag_holding_t *held =
        ag_holdings_find_around(share->train.build, &share->train.holdings, &piece->of, rank);
    const ag_param_t *param;
    int32_t own, common;

    if (held == NULL || n > UINT32_MAX) {
        return ag_fail(AG_ERR_UNSUPPORTED, "rank %u: %s cannot be shared", rank,
                       piece->of.tensor->name);
    }
    param = &AG_ITEMS(&share->train.build->ranks[rank].params.items, ag_param_t)[held->param];
    own = ag_graph_value_at(graph, AG_COUNT_ONE, (uint32_t)n, (int32_t)param->grad_buffer,
                            param->grad_begin_bytes +
                                (piece->of.begin - held->begin) * piece->of.across * sizeof(float));
    common = ag_graph_value_at(graph, AG_COUNT_ONE, (uint32_t)n, (int32_t)buffer, at_bytes);
    if (own < 0 || common < 0) {
        return ag_fail_nomem("sharing gradients", sizeof(ag_value_t));
    }
    return ag_graph_add(graph,
                        &(ag_node_t){.kind = AG_NODE_COLUMNS,
                                     .in = {back ? common : own},
                                     .out = back ? own : common,
                                     .weight = AG_NO_PARAM,
                                     .bias = AG_NO_PARAM},
                        NULL);
}

/* A rank's buffers, one a group that it is in; in the groups' order. */
typedef struct shared_buffer {
    uint32_t group, buffer;
    uint64_t bytes;
} shared_buffer_t;

static ag_status_t make_buffers(const share_t *share, uint32_t rank, ag_array_t *buffers)
{
    ag_program_t *program = share->train.program;
    ag_status_t status = AG_OK;

    for (uint32_t group = 0; group < program->groups.n_items && status == AG_OK; group++) {
        shared_buffer_t buffer = {.group = group};
        char name[24];

        for (size_t i = 0; i < share->pieces.n_items; i++) {
            const piece_t *piece = &AG_ITEMS(&share->pieces, piece_t)[i];

            buffer.bytes += piece->group == group ? piece_bytes(piece) : 0;
        }
        if (buffer.bytes == 0 || !ag_program_is_member(program, group, rank)) {
            continue;
        }
        snprintf(name, sizeof(name), "shared%u", group);
        status =
            ag_program_add_buffer(program, rank, name, buffer.bytes, AG_SIZE_ONE, &buffer.buffer);
        if (status == AG_OK) {
            status = ag_array_append(buffers, &buffer, 1);
        }
    }
    return status;
}

/* Nothing but sums come to stand in the gradients, and where these are parts of a sum over replicas
 * they stay that. */
static void keep_contents(ag_rank_program_t *rank, const ag_array_t *buffers)
{
    const ag_op_t *op = &ag_rank_ops(rank)[rank->ops.n_items - 1];

    for (uint32_t i = 0; i < op->n_uses; i++) {
        ag_use_t *use = &AG_ITEMS(&rank->uses, ag_use_t)[op->first_use + i];
        bool is_common = false;

        for (size_t b = 0; b < buffers->n_items; b++) {
            is_common |= AG_ITEMS(buffers, shared_buffer_t)[b].buffer == use->buffer;
        }
        use->mode = is_common ? use->mode : AG_USE_READ | AG_USE_WRITE | AG_USE_ADD;
    }
}

static ag_status_t add_copies(const share_t *share, uint32_t rank, const ag_array_t *buffers,
                              bool back)
{
    ag_part_t part = {back ? AG_PART_SHARED : AG_PART_SHARE, 0};
    ag_graph_t *graph;
    ag_status_t status = ag_expand_graph(&graph);

    if (status != AG_OK) {
        return status;
    }
    for (size_t b = 0; b < buffers->n_items && status == AG_OK; b++) {
        const shared_buffer_t *buffer = &AG_ITEMS(buffers, shared_buffer_t)[b];
        uint64_t at = 0;

        for (size_t i = 0; i < share->pieces.n_items && status == AG_OK; i++) {
            const piece_t *piece = &AG_ITEMS(&share->pieces, piece_t)[i];

            if (piece->group == buffer->group) {
                status = add_copy(share, piece, rank, buffer->buffer, at, back, graph);
                at += piece_bytes(piece);
            }
        }
    }
    if (status != AG_OK) {
        share->train.program->free_inside(graph);
        return status;
    }
    status = ag_train_add(&share->train, rank, &part, graph, AG_NO_BUFFER);
    if (status == AG_OK) {
        keep_contents(&share->train.program->ranks[rank], buffers);
    }
    return status;
}

/* Groups over replicas sum gradients on a stream of their own. */
static ag_stream_t stream_of(const share_t *share, uint32_t group)
{
    const ag_program_group_t *of =
        &AG_ITEMS(&share->train.program->groups, ag_program_group_t)[group];
    const ag_rank_build_t *ranks = share->train.build->ranks;

    for (uint32_t i = 1; i < of->n_ranks; i++) {
        if (ranks[of->ranks[i]].place.replica != ranks[of->ranks[0]].place.replica) {
            return AG_STREAM_GRAD;
        }
    }
    return AG_STREAM_TENSOR;
}

/* What was copied out is this rank's part of a sum. */
static ag_status_t add_sums(const share_t *share, uint32_t rank, const ag_array_t *buffers)
{
    ag_program_t *program = share->train.program;
    ag_rank_program_t *of = &program->ranks[rank];
    const ag_op_t *copies = &ag_rank_ops(of)[of->ops.n_items - 1];
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < copies->n_uses; i++) {
        ag_use_t *use = &AG_ITEMS(&of->uses, ag_use_t)[copies->first_use + i];

        use->mode |= use->mode == AG_USE_WRITE ? AG_USE_PARTIAL : 0;
    }
    for (size_t b = 0; b < buffers->n_items && status == AG_OK; b++) {
        const shared_buffer_t *buffer = &AG_ITEMS(buffers, shared_buffer_t)[b];
        ag_op_t sum = ag_program_sum(program, rank, buffer->group, buffer->buffer);

        sum.stream = (uint8_t)stream_of(share, buffer->group);
        status = ag_program_add_sum(program, rank, &sum, buffer->buffer);
    }
    return status;
}

static ag_status_t share_rank(const share_t *share, uint32_t r)
{
    ag_rank_program_t *rank = &share->train.program->ranks[r];
    ag_array_t before = rank->ops, buffers = AG_ARRAY(shared_buffer_t);
    const ag_op_t *ops = AG_ITEMS(&before, ag_op_t);
    ag_status_t status = make_buffers(share, r, &buffers);

    rank->ops = AG_ARRAY(ag_op_t);
    for (size_t op = 0; op < before.n_items && status == AG_OK; op++) {
        if (buffers.n_items > 0 && ag_op_begins_with(rank, &ops[op], AG_PART_TOTALS)) {
            status = add_copies(share, r, &buffers, false);
            if (status == AG_OK) {
                status = add_sums(share, r, &buffers);
            }
            if (status == AG_OK) {
                status = add_copies(share, r, &buffers, true);
            }
        }
        if (status == AG_OK) {
            status = ag_array_append(&rank->ops, &ops[op], 1);
        }
    }
    ag_array_fini(&before);
    ag_array_fini(&buffers);
    return status;
}

ag_status_t ag_pass_share(ag_program_t *program, ag_build_t *build)
{
    share_t share = {.train = {.program = program, .build = build},
                     .pieces = AG_ARRAY(piece_t),
                     .ranks = calloc((size_t)build->n_ranks + 1, sizeof(*share.ranks))};
    ag_status_t status = share.ranks == NULL
                             ? ag_fail_nomem("sharing gradients", build->n_ranks * 4ull)
                             : ag_holdings_init(build, &share.train.holdings);

    if (status == AG_OK) {
        status = find_pieces(&share);
    }
    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        status = share_rank(&share, r);
    }
    ag_holdings_fini(&share.train.holdings);
    ag_array_fini(&share.pieces);
    free(share.ranks);
    return status;
}
