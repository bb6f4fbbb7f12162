/* The checker, tested by mutation: programs that were made wrong must be refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "parallel/program/check.h"
#include "runtime/base/philox.h"
#include "support.h"

typedef enum fault {
    DEP_DROPPED,
    OPS_SWAPPED,
    BUFFER_SHRUNK,
    OFFSET_SHIFTED,
    MESSAGE_SIZE,
    COLLECTIVE_ORDER,
    OP_LOST,
    OP_DOUBLED,
    N_FAULTS,
} fault_t;

static const struct {
    const char *name;
    double floor;
} faults[N_FAULTS] = {
    [DEP_DROPPED] = {"dependency dropped", 0.95}, [OPS_SWAPPED] = {"operations swapped", 0.95},
    [BUFFER_SHRUNK] = {"buffer shrunk", 1.0},     [OFFSET_SHIFTED] = {"offset shifted", 0.6},
    [MESSAGE_SIZE] = {"message size", 1.0},       [COLLECTIVE_ORDER] = {"collective order", 1.0},
    [OP_LOST] = {"operation lost", 1.0},          [OP_DOUBLED] = {"operation doubled", 1.0},
};

static uint32_t draw(uint64_t seed, uint64_t index, size_t n)
{
    return (uint32_t)(ag_philox_uniform(seed, 0, index) * (double)n);
}

/* The n-th operation of a rank that is (or is not) a segment; -1 where there is none. */
static int64_t nth_op(const ag_rank_program_t *rank, bool segments, uint32_t n)
{
    uint32_t n_found = 0;

    for (size_t i = 0; i < rank->ops.n_items; i++) {
        n_found += (ag_rank_ops(rank)[i].kind == AG_OP_SEGMENT) == segments;
    }
    for (size_t i = 0; n_found > 0 && i < rank->ops.n_items; i++) {
        if ((ag_rank_ops(rank)[i].kind == AG_OP_SEGMENT) == segments && n-- % n_found == 0) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* Dependencies name operations by number: those after a place move by one. */
static void renumber(ag_rank_program_t *rank, uint32_t from, int by)
{
    for (size_t i = 0; i < rank->deps.n_items; i++) {
        uint32_t *dep = &AG_ITEMS(&rank->deps, uint32_t)[i];

        *dep = *dep >= from ? (uint32_t)((int64_t)*dep + by) : *dep;
    }
}

static void lose_op(ag_rank_program_t *rank, uint32_t op)
{
    ag_op_t *ops = ag_rank_ops(rank);

    memmove(&ops[op], &ops[op + 1], (rank->ops.n_items - op - 1) * sizeof(*ops));
    rank->ops.n_items--;
    renumber(rank, op + 1, -1);
}

static void double_op(ag_rank_program_t *rank, uint32_t op)
{
    ag_op_t copy = ag_rank_ops(rank)[op], *ops;

    cr_assert_eq(ag_array_append(&rank->ops, &copy, 1), AG_OK);
    ops = ag_rank_ops(rank);
    memmove(&ops[op + 1], &ops[op], (rank->ops.n_items - op - 1) * sizeof(*ops));
    renumber(rank, op + 1, 1);
}

/* False where this program has nothing of the kind to be made wrong. */
static bool mutate(ag_program_t *program, fault_t fault, uint64_t seed)
{
    ag_rank_program_t *rank = &program->ranks[draw(seed, 0, program->n_ranks)];
    uint32_t op = draw(seed, 1, rank->ops.n_items);
    ag_op_t *ops = ag_rank_ops(rank), swap;
    ag_buffer_t *buffer;
    int64_t other;

    switch (fault) {
    case DEP_DROPPED:
        if (ops[op].n_deps == 0) {
            return false;
        }
        ops[op].first_dep++; /* the first of them */
        ops[op].n_deps--;
        return true;
    case OPS_SWAPPED:
        if (op + 1 >= rank->ops.n_items) {
            return false;
        }
        swap = ops[op];
        ops[op] = ops[op + 1];
        ops[op + 1] = swap;
        return true;
    case BUFFER_SHRUNK:
        buffer = &AG_ITEMS(&rank->buffers, ag_buffer_t)[draw(seed, 2, rank->buffers.n_items)];
        if (buffer->bytes == 0) {
            return false;
        }
        buffer->bytes -= 1 + draw(seed, 3, buffer->bytes);
        return true;
    case OFFSET_SHIFTED:
        buffer = &AG_ITEMS(&rank->buffers, ag_buffer_t)[draw(seed, 2, rank->buffers.n_items)];
        buffer->offset_bytes += 64 * (1 + draw(seed, 3, 64));
        return buffer->bytes > 0;
    case MESSAGE_SIZE:
        other = nth_op(rank, false, op);
        if (other < 0) {
            return false;
        }
        ops[other].unit_bytes -= 4;
        return true;
    case COLLECTIVE_ORDER:
        if (ops[op].kind != AG_OP_ALL_REDUCE) {
            return false;
        }
        ops[op].channel++;
        return true;
    case OP_LOST:
        lose_op(rank, op);
        return true;
    case OP_DOUBLED:
        double_op(rank, op);
        return true;
    default:
        return false;
    }
}

Test(mutants, are_refused, .timeout = 120)
{
    static const struct {
        const char *tp;
        uint32_t pp;
    } plans[] = {{"2", 0}, {NULL, 3}, {"2", 2}, {"2,1", 0}, {"3", 0}};
    enum { N_PLANS = sizeof(plans) / sizeof(plans[0]), N_SEEDS = 60 };
    uint32_t n_made[N_FAULTS] = {0}, n_refused[N_FAULTS] = {0};

    for (uint64_t i = 0; i < N_PLANS * N_SEEDS * N_FAULTS; i++) {
        fault_t fault = (fault_t)(i % N_FAULTS);
        setup_t setup;

        cr_assert_eq(open_setup(plans[i / N_FAULTS % N_PLANS].tp, plans[i / N_FAULTS % N_PLANS].pp,
                                NULL, &setup),
                     AG_OK);
        if (mutate(setup.program, fault, i)) {
            n_made[fault]++;
            n_refused[fault] +=
                ag_program_check(setup.program, setup.plan, AG_CHECK_PLACED, "mutation") != AG_OK;
        }
        close_setup(&setup);
    }
    for (int fault = 0; fault < N_FAULTS; fault++) {
        double share = (double)n_refused[fault] / n_made[fault];

        printf("%s: %u of %u mutants refused\n", faults[fault].name, n_refused[fault],
               n_made[fault]);
        cr_expect_gt(n_made[fault], 20, "%s: too few mutants", faults[fault].name);
        cr_expect_geq(share, faults[fault].floor, "%s: %u of %u", faults[fault].name,
                      n_refused[fault], n_made[fault]);
    }
}
