#include "mutate.h"

#include <criterion/criterion.h>
#include <string.h>

#include "runtime/base/philox.h"

/* What a mutation draws on. */
typedef struct draws {
    uint64_t seed, n;
} draws_t;

static uint32_t draw(draws_t *draws, size_t n)
{
    return (uint32_t)(ag_philox_uniform(draws->seed, 4, draws->n++) * (double)n);
}

static bool is_collective(const ag_op_t *op)
{
    return ag_op_infos[op->kind].is_collective;
}

static bool is_exchange(const ag_op_t *op)
{
    return op->kind != AG_OP_SEGMENT;
}

static bool has_edge(const ag_op_t *op)
{
    return op->n_deps > 0;
}

/* Any operation of a kind, but not this one; -1 where there is none. */
static int64_t draw_op(const ag_rank_program_t *rank, bool (*is_fit)(const ag_op_t *op),
                       int64_t but_not, draws_t *draws)
{
    uint32_t n_fit = 0, chosen;

    for (uint32_t i = 0; i < rank->ops.n_items; i++) {
        n_fit += i != but_not && is_fit(&ag_rank_ops(rank)[i]);
    }
    chosen = draw(draws, n_fit);
    for (uint32_t i = 0; i < rank->ops.n_items && n_fit > 0; i++) {
        if (i != but_not && is_fit(&ag_rank_ops(rank)[i]) && chosen-- == 0) {
            return i;
        }
    }
    return -1;
}

static ag_buffer_t *draw_buffer(const ag_rank_program_t *rank, draws_t *draws)
{
    return &AG_ITEMS(&rank->buffers, ag_buffer_t)[draw(draws, rank->buffers.n_items)];
}

static bool drop_edge(ag_rank_program_t *rank, draws_t *draws)
{
    int64_t at = draw_op(rank, has_edge, -1, draws);
    ag_op_t *op = &ag_rank_ops(rank)[at];
    uint32_t *deps;

    if (at < 0) {
        return false;
    }
    deps = AG_ITEMS(&rank->deps, uint32_t) + op->first_dep;
    deps[draw(draws, op->n_deps)] = deps[op->n_deps - 1];
    op->n_deps--;
    return true;
}

/* Whoever waits for one of them still does, wherever it stands. */
static bool swap_ops(ag_rank_program_t *rank, bool (*is_fit)(const ag_op_t *op), draws_t *draws)
{
    int64_t a = draw_op(rank, is_fit, -1, draws);
    int64_t b = a < 0 ? -1 : draw_op(rank, is_fit, a, draws);
    ag_op_t *ops = ag_rank_ops(rank), op;

    if (b < 0) {
        return false;
    }
    op = ops[a];
    ops[a] = ops[b];
    ops[b] = op;
    for (size_t i = 0; i < rank->deps.n_items; i++) {
        uint32_t *dep = &AG_ITEMS(&rank->deps, uint32_t)[i];

        *dep = *dep == a ? (uint32_t)b : *dep == b ? (uint32_t)a : *dep;
    }
    return true;
}

static bool any(const ag_op_t *op)
{
    (void)op;
    return true;
}

static bool shrink_buffer(ag_rank_program_t *rank, draws_t *draws)
{
    ag_buffer_t *buffer = draw_buffer(rank, draws);

    if (buffer->bytes == 0) {
        return false;
    }
    buffer->bytes -= 1 + draw(draws, buffer->bytes);
    return true;
}

static bool shift_offset(ag_rank_program_t *rank, draws_t *draws)
{
    ag_buffer_t *buffer = draw_buffer(rank, draws);
    uint64_t unit = draw(draws, 4) > 0 ? AG_BUFFER_ALIGN_BYTES : 1;
    uint64_t offset = unit * draw(draws, rank->memory_bytes / unit + 16);

    if (buffer->bytes == 0 || offset == buffer->offset_bytes) {
        return false;
    }
    buffer->offset_bytes = offset;
    return true;
}

/* What an operation moves, and, where it is to fit, its buffer and all that move it. */
static bool resize_message(ag_rank_program_t *rank, draws_t *draws)
{
    int64_t at = draw_op(rank, is_exchange, -1, draws);
    bool recount = draw(draws, 4) == 0, all = draw(draws, 2) == 0;
    uint32_t fewer = 4 * (1 + draw(draws, 8)), buffer;

    if (at < 0) {
        return false;
    }
    buffer = ag_op_uses(rank, &ag_rank_ops(rank)[at])[0].buffer;
    for (uint32_t i = 0; i < rank->ops.n_items; i++) {
        ag_op_t *op = &ag_rank_ops(rank)[i];

        if (i == at || (all && is_exchange(op) && ag_op_uses(rank, op)[0].buffer == buffer)) {
            op->counter =
                recount ? (uint8_t)(op->counter % (AG_N_SIZE_COUNTERS - 1) + 1) : op->counter;
            op->unit_bytes -= recount ? 0 : fewer;
        }
    }
    if (all) {
        ag_buffer_t *b = &AG_ITEMS(&rank->buffers, ag_buffer_t)[buffer];

        b->counter = recount ? b->counter % (AG_N_SIZE_COUNTERS - 1) + 1 : b->counter;
        b->unit_bytes -= recount ? 0 : fewer;
    }
    return true;
}

static bool reorder_collectives(ag_rank_program_t *rank, draws_t *draws)
{
    int64_t at;

    if (draw(draws, 4) > 0) {
        return swap_ops(rank, is_collective, draws);
    }
    at = draw_op(rank, is_collective, -1, draws);
    if (at < 0) {
        return false;
    }
    ag_rank_ops(rank)[at].channel++;
    return true;
}

/* Dependencies name operations by number: those from a place on move by one. */
static void renumber(ag_rank_program_t *rank, uint32_t from, int by)
{
    for (size_t i = 0; i < rank->deps.n_items; i++) {
        uint32_t *dep = &AG_ITEMS(&rank->deps, uint32_t)[i];

        *dep = *dep >= from ? (uint32_t)((int64_t)*dep + by) : *dep;
    }
}

/* Nobody waits for it any more. */
static bool lose_op(ag_rank_program_t *rank, draws_t *draws)
{
    uint32_t at = draw(draws, rank->ops.n_items);
    ag_op_t *ops = ag_rank_ops(rank);

    for (uint32_t i = 0; i < rank->ops.n_items; i++) {
        uint32_t *deps = AG_ITEMS(&rank->deps, uint32_t) + ops[i].first_dep;

        for (uint32_t d = 0; d < ops[i].n_deps; d++) {
            if (deps[d] == at) {
                deps[d] = deps[--ops[i].n_deps];
                break;
            }
        }
    }
    memmove(&ops[at], &ops[at + 1], (rank->ops.n_items - at - 1) * sizeof(*ops));
    rank->ops.n_items--;
    renumber(rank, at + 1, -1);
    return true;
}

/* The second one follows the first. */
static bool double_op(ag_rank_program_t *rank, draws_t *draws)
{
    uint32_t at = draw(draws, rank->ops.n_items);
    ag_op_t copy = ag_rank_ops(rank)[at], *ops;

    cr_assert_eq(ag_array_append(&rank->ops, &copy, 1), AG_OK);
    ops = ag_rank_ops(rank);
    memmove(&ops[at + 1], &ops[at], (rank->ops.n_items - at - 1) * sizeof(*ops));
    renumber(rank, at + 1, 1);
    return true;
}

static bool change_half(ag_rank_program_t *rank, draws_t *draws)
{
    ag_op_t *op = &ag_rank_ops(rank)[draw(draws, rank->ops.n_items)];

    op->half = (uint8_t)((op->half + 1 + draw(draws, AG_N_HALVES - 1)) % AG_N_HALVES);
    return true;
}

bool mutate(ag_program_t *program, fault_t fault, uint64_t seed)
{
    draws_t draws = {.seed = seed};
    ag_rank_program_t *rank = &program->ranks[draw(&draws, program->n_ranks)];

    switch (fault) {
    case EDGE_DROPPED:
        return drop_edge(rank, &draws);
    case OPS_SWAPPED:
        return swap_ops(rank, any, &draws);
    case BUFFER_SHRUNK:
        return shrink_buffer(rank, &draws);
    case OFFSET_SHIFTED:
        return shift_offset(rank, &draws);
    case MESSAGE_SIZE:
        return resize_message(rank, &draws);
    case COLLECTIVE_ORDER:
        return reorder_collectives(rank, &draws);
    case OP_LOST:
        return lose_op(rank, &draws);
    case OP_DOUBLED:
        return double_op(rank, &draws);
    default:
        return change_half(rank, &draws);
    }
}
