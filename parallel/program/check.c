#include <stdlib.h>

#include "parallel/program/check_priv.h"
#include "parallel/program/text.h"

enum { LINE_BYTES = 512 };

ag_status_t ag_check_fail_at(const ag_program_t *program, uint32_t rank, uint32_t op,
                             const char *what)
{
    char line[LINE_BYTES];

    return ag_fail(AG_ERR_INVALID, "rank %u: %s:\n%s", rank, what,
                   ag_op_text(program, rank, op, line, sizeof(line)));
}

ag_status_t ag_check_fail_buffer(const ag_buffer_t *buffer, uint32_t rank, const char *what)
{
    char line[LINE_BYTES];

    return ag_fail(AG_ERR_INVALID, "rank %u: %s:\n%s", rank, what,
                   ag_buffer_text(buffer, line, sizeof(line)));
}

/* Parts that a rank must compute of half of the rows, in order: a cursor over them. */
typedef struct cursor {
    const ag_plan_t *plan;
    ag_place_t place;
    uint32_t rank;
    ag_part_t next;
    bool ended;
} cursor_t;

static bool rank_collects(const ag_plan_t *plan, uint32_t rank)
{
    const ag_replica_t *last = &plan->stages[plan->n_stages - 1].replicas[0];

    return rank == 0 && !(last->n_ranks == 1 && last->ranks[0] == 0);
}

static void advance(cursor_t *cursor)
{
    const ag_stage_t *stage = &cursor->plan->stages[cursor->place.stage];
    bool last_stage = cursor->place.stage + 1 == cursor->plan->n_stages;

    switch (cursor->next.kind) {
    case AG_PART_EMBED:
        cursor->next = (ag_part_t){AG_PART_ATTN, stage->layer_begin};
        break;
    case AG_PART_ATTN:
        cursor->next.kind = AG_PART_FFN;
        break;
    case AG_PART_ROUTE:
        cursor->next.kind = AG_PART_EXPERTS;
        break;
    case AG_PART_EXPERTS:
        cursor->next.kind = AG_PART_COMBINE;
        break;
    case AG_PART_FFN:
    case AG_PART_COMBINE:
        if (cursor->next.layer + 1 < stage->layer_end) {
            cursor->next = (ag_part_t){AG_PART_ATTN, cursor->next.layer + 1};
        } else {
            cursor->next = (ag_part_t){last_stage ? AG_PART_HEAD : AG_PART_ADD, 0};
        }
        break;
    case AG_PART_HEAD:
    case AG_PART_ADD:
        cursor->next.kind = AG_PART_COLLECT;
        cursor->ended = !rank_collects(cursor->plan, cursor->rank);
        break;
    default:
        cursor->ended = true;
    }
}

/* Whether a layer has experts the plan does not say: where ranks share some out, either may come.
 */
static void allow_routes(cursor_t *cursor, const ag_part_t *part)
{
    const ag_stage_t *stage = &cursor->plan->stages[cursor->place.stage];

    if (cursor->next.kind == AG_PART_FFN && part->kind == AG_PART_ROUTE &&
        stage->experts.n_experts > 0 && stage->replicas[cursor->place.replica].n_ranks > 1) {
        cursor->next.kind = AG_PART_ROUTE;
    }
}

static bool is_next(const cursor_t *cursor, const ag_part_t *part)
{
    return !cursor->ended && part->kind == cursor->next.kind && part->layer == cursor->next.layer;
}

static bool are_level(const cursor_t cursors[2])
{
    return cursors[0].ended == cursors[1].ended && cursors[0].next.kind == cursors[1].next.kind &&
           cursors[0].next.layer == cursors[1].next.layer;
}

/*
 * A part is next for each half that it is of, and half A is never behind: what B attends to of A
 * is in the cache, which is kept in order by the compute stream.
 */
static bool take_part(void *arg, const ag_op_t *op, const ag_part_t *part)
{
    cursor_t *cursors = arg; /* (2) */
    bool a = op->half != AG_HALF_B, b = op->half != AG_HALF_A;

    for (int i = 0; i < 2; i++) {
        allow_routes(&cursors[i], part);
    }
    if ((a && !is_next(&cursors[0], part)) || (b && !is_next(&cursors[1], part)) ||
        (!a && are_level(cursors)) ||
        (ag_part_infos[part->kind].has_layer && op->stream != AG_STREAM_COMPUTE)) {
        return false;
    }
    if (a) {
        advance(&cursors[0]);
    }
    if (b) {
        advance(&cursors[1]);
    }
    return true;
}

ag_status_t ag_check_each_part(const ag_program_t *program, uint32_t r,
                               bool (*take)(void *arg, const ag_op_t *op, const ag_part_t *part),
                               void *arg)
{
    const ag_rank_program_t *rank = &program->ranks[r];

    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];
        const ag_segment_t *segment;

        if (o->kind != AG_OP_SEGMENT) {
            continue;
        }
        segment = &AG_ITEMS(&rank->segments, ag_segment_t)[o->subject];
        for (size_t i = 0; i < segment->parts.n_items; i++) {
            if (!take(arg, o, &AG_ITEMS(&segment->parts, ag_part_t)[i])) {
                return ag_check_fail_at(program, r, op,
                                        "this part of the model is out of its turn");
            }
        }
    }
    return AG_OK;
}

static ag_status_t check_parts(const ag_program_t *program, const ag_plan_t *plan, uint32_t r)
{
    cursor_t cursor = {.plan = plan, .rank = r}, cursors[2]; /* of halves A and B */
    ag_status_t status = ag_mesh_place(plan, r, &cursor.place);

    if (status != AG_OK) {
        return status;
    }
    cursor.next = cursor.place.stage == 0
                      ? (ag_part_t){AG_PART_EMBED, 0}
                      : (ag_part_t){AG_PART_ATTN, plan->stages[cursor.place.stage].layer_begin};
    cursors[0] = cursors[1] = cursor;
    status = ag_check_each_part(program, r, take_part, cursors);
    if (status != AG_OK) {
        return status;
    }
    for (int i = 0; i < 2; i++) {
        if (!cursors[i].ended) {
            return ag_fail(AG_ERR_INVALID, "rank %u: nobody computes %s of layer %u", r,
                           ag_part_infos[cursors[i].next.kind].name, cursors[i].next.layer);
        }
    }
    return AG_OK;
}

/* Of the rows of one half of a buffer. */
typedef enum content { UNWRITTEN, WHOLE, PARTIAL, SHARE } content_t;

/* What is wrong with reading a buffer of this content; NULL: nothing. */
static const char *fault_of_read(uint8_t kind, uint32_t mode, bool has_rows, content_t content,
                                 ag_check_stage_t stage)
{
    if (kind == AG_OP_ALL_REDUCE || kind == AG_OP_REDUCE_SCATTER) {
        return content == PARTIAL ? NULL : "sums what is no partial sum";
    }
    if (kind == AG_OP_ALL_GATHER) {
        return content == SHARE ? NULL : "gathers what are no shares of several ranks";
    }
    if (mode & AG_USE_SHARE) { /* a rank may work on its rows of what it has, or will be summed */
        bool may =
            content == SHARE ||
            (has_rows && (content == WHOLE || (content == PARTIAL && stage < AG_CHECK_SUMMED)));

        return may ? NULL : "reads a share of what is not shared out";
    }
    if (content == UNWRITTEN && stage >= AG_CHECK_EXCHANGED) {
        return "reads a buffer that nothing has written";
    }
    if (content == PARTIAL && stage >= AG_CHECK_SUMMED) {
        return "reads a partial sum that was not summed";
    }
    return content == SHARE && stage >= AG_CHECK_SUMMED
               ? "reads shares of several ranks that were not gathered"
               : NULL;
}

static ag_status_t check_use(const ag_program_t *program, uint32_t r, uint32_t op,
                             const ag_use_t *use, ag_check_stage_t stage, content_t *content)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    bool has_rows = AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].counter == AG_SIZE_TOKENS;
    const char *fault =
        use->mode & AG_USE_READ
            ? fault_of_read(ag_rank_ops(rank)[op].kind, use->mode, has_rows, *content, stage)
            : NULL;

    if (use->mode & AG_USE_ADD) { /* which parts of a sum may be, as long as nobody sums them */
        return *content == WHOLE || *content == PARTIAL
                   ? AG_OK
                   : ag_check_fail_at(program, r, op, "adds to what nothing has begun");
    }
    if (fault != NULL) {
        return ag_check_fail_at(program, r, op, fault);
    }
    if (use->mode & AG_USE_WRITE) {
        *content = use->mode & AG_USE_PARTIAL ? PARTIAL : use->mode & AG_USE_SHARE ? SHARE : WHOLE;
    }
    return AG_OK;
}

ag_status_t ag_check_contents(const ag_program_t *program, uint32_t r, ag_check_stage_t stage)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    const ag_buffer_t *buffers = AG_ITEMS(&rank->buffers, ag_buffer_t);
    size_t n_halves = 2 * rank->buffers.n_items;
    content_t *contents = calloc(n_halves + 1, sizeof(*contents));
    ag_status_t status = AG_OK;

    if (contents == NULL) {
        return ag_fail_nomem("checking a program", n_halves * sizeof(*contents));
    }
    for (uint32_t op = 0; op < rank->ops.n_items && status == AG_OK; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        for (uint32_t i = 0; i < 2u * o->n_uses && status == AG_OK; i++) {
            const ag_use_t *use = &ag_op_uses(rank, o)[i / 2];

            if (ag_op_meets_half(o, &buffers[use->buffer], AG_HALF_A + i % 2)) {
                status = check_use(program, r, op, use, stage, &contents[2 * use->buffer + i % 2]);
            }
        }
    }
    if (status == AG_OK && r == 0 &&
        (program->output_buffer >= rank->buffers.n_items ||
         contents[2 * program->output_buffer] != WHOLE ||
         contents[2 * program->output_buffer + 1] != WHOLE)) {
        status = ag_fail(AG_ERR_INVALID, "rank 0: nothing writes the output");
    }
    free(contents);
    return status;
}

static ag_status_t check_rank(const ag_program_t *program, const ag_plan_t *plan,
                              ag_check_stage_t stage, uint32_t rank)
{
    ag_status_t status = ag_check_form(program, rank);

    if (status == AG_OK) {
        status = plan->train.sequence_tokens > 0 ? ag_check_train_parts(program, plan, rank)
                                                 : check_parts(program, plan, rank);
    }
    if (status == AG_OK) {
        status = ag_check_contents(program, rank, stage);
    }
    return status;
}

ag_status_t ag_program_check(const ag_program_t *program, const ag_plan_t *plan,
                             ag_check_stage_t stage, const char *after)
{
    ag_status_t status = ag_check_groups(program);

    if (status == AG_OK && program->n_ranks != ag_plan_ranks(plan)) {
        status = ag_fail(AG_ERR_INVALID, "the plan has %u ranks, the program %u",
                         ag_plan_ranks(plan), program->n_ranks);
    }
    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        status = check_rank(program, plan, stage, r);
    }
    if (status == AG_OK) {
        status = ag_check_replicas(program, plan);
    }
    if (status == AG_OK && stage >= AG_CHECK_LINKED) {
        status = ag_check_rendezvous(program);
    }
    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK && stage >= AG_CHECK_LINKED; r++) {
        status = ag_check_memory(program, r, stage >= AG_CHECK_PLACED);
    }
    return status == AG_OK ? AG_OK : ag_fail_context(status, "the program after %s", after);
}
