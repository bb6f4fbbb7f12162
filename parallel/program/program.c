#include "parallel/program/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { R = AG_USE_READ, W = AG_USE_WRITE, S = AG_USE_SHARE };

/* A name, and how it is called in a trace. */
#define NAMED(name)                                                                                \
    name,                                                                                          \
    {                                                                                              \
        name, name ".a", name ".b", name ".s"                                                      \
    }

const ag_op_info_t ag_op_infos[AG_N_OP_KINDS] = {
    [AG_OP_SEGMENT] = {NAMED("SEGMENT"), false, false, true, 0, 0, {0}},
    [AG_OP_SEND] = {NAMED("SEND"), true, false, false, 1, 1, {R}},
    [AG_OP_RECV] = {NAMED("RECV"), true, false, false, 1, 1, {W}},
    [AG_OP_ALL_REDUCE] = {NAMED("ALL_REDUCE"), false, true, true, 1, 1, {R | W}},
    [AG_OP_REDUCE_SCATTER] = {NAMED("REDUCE_SCATTER"), false, true, false, 1, 1, {R | W | S}},
    [AG_OP_ALL_GATHER] = {NAMED("ALL_GATHER"), false, true, false, 1, 1, {R | W}},
    [AG_OP_ALL_TO_ALL] = {NAMED("ALL_TO_ALL"), false, true, false, 2, 4, {R, W, R, R}},
};

const char *const ag_stream_names[AG_N_STREAMS] = {"compute", "tensor",  "out",
                                                   "in",      "collect", "grad"};
const char *const ag_counter_names[AG_N_SIZE_COUNTERS] = {"one",       "tokens", "outputs",
                                                          "sequences", "sent",   "received"};

const ag_part_info_t ag_part_infos[AG_N_PART_KINDS] = {
    [AG_PART_EMBED] = {NAMED("embed"), false},
    [AG_PART_ATTN] = {NAMED("attn"), true},
    [AG_PART_FFN] = {NAMED("ffn"), true},
    [AG_PART_ATTN_NORM] = {NAMED("attn_n"), true},
    [AG_PART_FFN_NORM] = {NAMED("ffn_n"), true},
    [AG_PART_ROUTE] = {NAMED("route"), true},
    [AG_PART_EXPERTS] = {NAMED("experts"), true},
    [AG_PART_COMBINE] = {NAMED("combine"), true},
    [AG_PART_ADD] = {NAMED("add"), false},
    [AG_PART_HEAD] = {NAMED("head"), false},
    [AG_PART_COLLECT] = {NAMED("collect"), false},
    [AG_PART_ATTN_ADD] = {NAMED("attn_add"), true},
    [AG_PART_FFN_ADD] = {NAMED("ffn_add"), true},
    [AG_PART_LOSS] = {NAMED("loss"), false},
    [AG_PART_HEAD_B] = {NAMED("head_b"), false},
    [AG_PART_HEAD_NORM_B] = {NAMED("head_nb"), false},
    [AG_PART_FFN_ADD_B] = {NAMED("ffn_add_b"), true},
    [AG_PART_FFN_B] = {NAMED("ffn_b"), true},
    [AG_PART_COMBINE_B] = {NAMED("combine_b"), true},
    [AG_PART_EXPERTS_B] = {NAMED("experts_b"), true},
    [AG_PART_ROUTE_B] = {NAMED("route_b"), true},
    [AG_PART_FFN_NORM_B] = {NAMED("ffn_nb"), true},
    [AG_PART_ATTN_ADD_B] = {NAMED("attn_add_b"), true},
    [AG_PART_ATTN_B] = {NAMED("attn_b"), true},
    [AG_PART_ATTN_NORM_B] = {NAMED("attn_nb"), true},
    [AG_PART_EMBED_B] = {NAMED("embed_b"), false},
    [AG_PART_FFN_W] = {NAMED("ffn_w"), true},
    [AG_PART_ATTN_W] = {NAMED("attn_w"), true},
    [AG_PART_ZERO] = {NAMED("zero"), false},
    [AG_PART_SHARE] = {NAMED("share"), false},
    [AG_PART_SHARED] = {NAMED("shared"), false},
    [AG_PART_TOTALS] = {NAMED("totals"), false},
    [AG_PART_UPDATE] = {NAMED("update"), false},
    [AG_PART_ADOPT] = {NAMED("adopt"), false},
};

#undef NAMED

ag_status_t ag_program_create(uint32_t n_ranks, const uint64_t bounds[AG_N_SIZE_COUNTERS],
                              void (*free_inside)(void *inside), ag_program_t **program_p)
{
    ag_program_t *program = calloc(1, sizeof(*program));

    if (program == NULL) {
        return ag_fail_nomem("making a program", sizeof(*program));
    }
    program->ranks = calloc((size_t)n_ranks + 1, sizeof(*program->ranks));
    if (program->ranks == NULL) {
        free(program);
        return ag_fail_nomem("making a program", n_ranks * sizeof(*program->ranks));
    }
    program->n_ranks = n_ranks;
    program->free_inside = free_inside;
    program->groups = AG_ARRAY(ag_program_group_t);
    program->shares = AG_ARRAY(ag_program_shares_t);
    memcpy(program->bounds, bounds, sizeof(program->bounds));
    for (uint32_t r = 0; r < n_ranks; r++) {
        program->ranks[r] = (ag_rank_program_t){.ops = AG_ARRAY(ag_op_t),
                                                .uses = AG_ARRAY(ag_use_t),
                                                .deps = AG_ARRAY(uint32_t),
                                                .buffers = AG_ARRAY(ag_buffer_t),
                                                .segments = AG_ARRAY(ag_segment_t)};
    }
    *program_p = program;
    return AG_OK;
}

bool ag_program_trains(const ag_program_t *program)
{
    const ag_rank_program_t *rank = &program->ranks[0];
    const ag_op_t *first = ag_rank_ops(rank);
    const ag_array_t *parts;

    if (rank->ops.n_items == 0 || first->kind != AG_OP_SEGMENT) {
        return false;
    }
    parts = &AG_ITEMS(&rank->segments, ag_segment_t)[first->subject].parts;
    return parts->n_items > 0 && AG_ITEMS(parts, ag_part_t)[0].kind == AG_PART_ZERO;
}

static bool goes_on(uint32_t kind)
{
    return (kind >= AG_PART_HEAD_B && kind <= AG_PART_EMBED_B) || kind == AG_PART_UPDATE;
}

bool ag_program_evaluates(const ag_program_t *program)
{
    const ag_rank_program_t *rank = &program->ranks[0];

    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];
        const ag_array_t *parts;

        if (o->kind != AG_OP_SEGMENT) {
            continue;
        }
        parts = &AG_ITEMS(&rank->segments, ag_segment_t)[o->subject].parts;
        for (size_t i = 0; i < parts->n_items; i++) {
            if (goes_on(AG_ITEMS(parts, ag_part_t)[i].kind)) {
                return false;
            }
        }
    }
    return ag_program_trains(program);
}

static void free_segment(const ag_program_t *program, ag_segment_t *segment)
{
    ag_array_fini(&segment->parts);
    if (segment->inside != NULL && program->free_inside != NULL) {
        program->free_inside(segment->inside);
    }
}

void ag_program_destroy(ag_program_t *program)
{
    if (program == NULL) {
        return;
    }
    for (uint32_t r = 0; r < program->n_ranks; r++) {
        ag_rank_program_t *rank = &program->ranks[r];

        for (size_t i = 0; i < rank->segments.n_items; i++) {
            free_segment(program, &AG_ITEMS(&rank->segments, ag_segment_t)[i]);
        }
        ag_array_fini(&rank->ops);
        ag_array_fini(&rank->uses);
        ag_array_fini(&rank->deps);
        ag_array_fini(&rank->buffers);
        ag_array_fini(&rank->segments);
    }
    for (size_t i = 0; i < program->groups.n_items; i++) {
        free(AG_ITEMS(&program->groups, ag_program_group_t)[i].ranks);
    }
    ag_array_fini(&program->groups);
    for (size_t i = 0; i < program->shares.n_items; i++) {
        free(AG_ITEMS(&program->shares, ag_program_shares_t)[i].floats);
    }
    ag_array_fini(&program->shares);
    free(program->ranks);
    free(program);
}

ag_status_t ag_program_add_buffer(ag_program_t *program, uint32_t rank, const char *name,
                                  uint64_t unit_bytes, ag_size_counter_t counter,
                                  uint32_t *buffer_p)
{
    ag_array_t *buffers = &program->ranks[rank].buffers;
    ag_buffer_t buffer = {.counter = counter,
                          .unit_bytes = unit_bytes,
                          .bytes = unit_bytes * program->bounds[counter]};

    snprintf(buffer.name, sizeof(buffer.name), "%s", name);
    *buffer_p = (uint32_t)buffers->n_items;
    return ag_array_append(buffers, &buffer, 1);
}

ag_status_t ag_program_add_segment(ag_program_t *program, uint32_t rank, const ag_part_t *part,
                                   void *inside, uint32_t *segment_p)
{
    ag_array_t *segments = &program->ranks[rank].segments;
    ag_segment_t segment = {.parts = AG_ARRAY(ag_part_t), .inside = inside};
    ag_status_t status = ag_array_append(&segment.parts, part, 1);

    *segment_p = (uint32_t)segments->n_items;
    if (status == AG_OK) {
        status = ag_array_append(segments, &segment, 1);
    }
    if (status != AG_OK) {
        free_segment(program, &segment);
    }
    return status;
}

ag_status_t ag_program_add_op(ag_program_t *program, uint32_t rank, const ag_op_t *op,
                              const ag_use_t *uses, uint32_t n_uses)
{
    ag_rank_program_t *r = &program->ranks[rank];
    ag_op_t added = *op;
    ag_status_t status;

    if (n_uses > AG_MAX_USES) {
        return ag_fail(AG_ERR_UNSUPPORTED, "an operation that uses %u buffers (at most %d)", n_uses,
                       AG_MAX_USES);
    }
    added.first_use = (uint32_t)r->uses.n_items;
    added.n_uses = (uint16_t)n_uses;
    status = ag_array_append(&r->uses, uses, n_uses);
    return status == AG_OK ? ag_array_append(&r->ops, &added, 1) : status;
}

ag_op_t ag_program_sum(const ag_program_t *program, uint32_t rank, uint32_t group, uint32_t buffer)
{
    const ag_buffer_t *summed = &AG_ITEMS(&program->ranks[rank].buffers, ag_buffer_t)[buffer];

    return (ag_op_t){.kind = AG_OP_ALL_REDUCE,
                     .stream = AG_STREAM_TENSOR,
                     .counter = (uint8_t)summed->counter,
                     .unit_bytes = summed->unit_bytes,
                     .subject = group,
                     .peer = -1,
                     .channel = AG_ITEMS(&program->groups, ag_program_group_t)[group].channel};
}

ag_status_t ag_program_add_sum(ag_program_t *program, uint32_t rank, const ag_op_t *sum,
                               uint32_t buffer)
{
    return ag_program_add_op(program, rank, sum, &(ag_use_t){buffer, AG_USE_READ | AG_USE_WRITE},
                             1);
}

ag_status_t ag_program_add_use(ag_program_t *program, uint32_t rank, uint32_t op,
                               const ag_use_t *use)
{
    ag_rank_program_t *r = &program->ranks[rank];
    uint32_t first_use = (uint32_t)r->uses.n_items;

    if (ag_rank_ops(r)[op].n_uses == AG_MAX_USES) {
        return ag_fail(AG_ERR_UNSUPPORTED, "an operation that uses more than %d buffers",
                       AG_MAX_USES);
    }
    for (uint32_t i = 0; i < ag_rank_ops(r)[op].n_uses; i++) {
        ag_use_t known = ag_op_uses(r, &ag_rank_ops(r)[op])[i];
        ag_status_t status = ag_array_append(&r->uses, &known, 1);

        if (status != AG_OK) {
            return status;
        }
    }
    ag_rank_ops(r)[op].first_use = first_use;
    ag_rank_ops(r)[op].n_uses++;
    return ag_array_append(&r->uses, use, 1);
}

ag_status_t ag_program_group(ag_program_t *program, const uint32_t *ranks, uint32_t n_ranks,
                             uint32_t *group_p)
{
    ag_program_group_t group = {.n_ranks = n_ranks};
    ag_status_t status;

    for (size_t i = 0; i < program->groups.n_items; i++) {
        const ag_program_group_t *known = &AG_ITEMS(&program->groups, ag_program_group_t)[i];

        if (known->n_ranks == n_ranks &&
            memcmp(known->ranks, ranks, n_ranks * sizeof(*ranks)) == 0) {
            *group_p = (uint32_t)i;
            return AG_OK;
        }
    }
    group.ranks = malloc(n_ranks * sizeof(*ranks) + 1);
    if (group.ranks == NULL) {
        return ag_fail_nomem("making a group", n_ranks * sizeof(*ranks));
    }
    memcpy(group.ranks, ranks, n_ranks * sizeof(*ranks));
    group.channel = AG_LINK_CHANNEL + 1 + (uint32_t)program->groups.n_items;
    group.channel += group.channel >= AG_BACK_CHANNEL;
    *group_p = (uint32_t)program->groups.n_items;
    status = ag_array_append(&program->groups, &group, 1);
    if (status != AG_OK) {
        free(group.ranks);
    }
    return status;
}

bool ag_program_is_member(const ag_program_t *program, uint32_t group, uint32_t rank)
{
    const ag_program_group_t *of = &AG_ITEMS(&program->groups, ag_program_group_t)[group];

    for (uint32_t i = 0; i < of->n_ranks; i++) {
        if (of->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

ag_status_t ag_program_share_out(ag_program_t *program, const uint64_t *floats, uint32_t n_ranks,
                                 uint16_t *shares_p)
{
    ag_program_shares_t shares = {.n_ranks = n_ranks};
    size_t bytes = n_ranks * sizeof(*floats), n = program->shares.n_items;
    ag_status_t status;

    for (size_t i = 0; i < n; i++) {
        const ag_program_shares_t *known = &AG_ITEMS(&program->shares, ag_program_shares_t)[i];

        if (known->n_ranks == n_ranks && memcmp(known->floats, floats, bytes) == 0) {
            *shares_p = (uint16_t)(i + 1);
            return AG_OK;
        }
    }
    if (n == UINT16_MAX) {
        return ag_fail(AG_ERR_UNSUPPORTED, "buffers shared out in more than %d ways", UINT16_MAX);
    }
    shares.floats = malloc(bytes + 1);
    if (shares.floats == NULL) {
        return ag_fail_nomem("sharing a buffer out", bytes);
    }
    memcpy(shares.floats, floats, bytes);
    status = ag_array_append(&program->shares, &shares, 1);
    if (status != AG_OK) {
        free(shares.floats);
        return status;
    }
    *shares_p = (uint16_t)(n + 1);
    return AG_OK;
}

const ag_program_shares_t *ag_op_shares(const ag_program_t *program, const ag_op_t *op)
{
    return op->shares > 0 ? &AG_ITEMS(&program->shares, ag_program_shares_t)[op->shares - 1] : NULL;
}

ag_status_t ag_program_dag(const ag_program_t *program, uint32_t rank, ag_dag_t *dag_p)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    uint32_t n_ops = (uint32_t)r->ops.n_items;
    uint8_t *streams = malloc((size_t)n_ops + 1);
    uint32_t *dep_begin = calloc((size_t)n_ops + 1, sizeof(*dep_begin));
    ag_array_t deps = AG_ARRAY(uint32_t);
    ag_status_t status = AG_OK;

    if (streams == NULL || dep_begin == NULL) {
        status = ag_fail_nomem("making a dag", n_ops * 5ull);
    }
    for (uint32_t i = 0; i < n_ops && status == AG_OK; i++) {
        const ag_op_t *op = &ag_rank_ops(r)[i];

        streams[i] = op->stream;
        if (op->n_deps > 0) {
            status =
                ag_array_append(&deps, AG_ITEMS(&r->deps, uint32_t) + op->first_dep, op->n_deps);
        }
        dep_begin[i + 1] = (uint32_t)deps.n_items;
    }
    if (status == AG_OK) {
        status =
            ag_dag_init(n_ops, AG_N_STREAMS, streams, dep_begin, AG_ITEMS(&deps, uint32_t), dag_p);
    }
    ag_array_fini(&deps);
    free(streams);
    free(dep_begin);
    return status;
}
