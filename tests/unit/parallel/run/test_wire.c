/* What of a step goes to the other ranks, and which way. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/job_priv.h"
#include "turns.h"

enum { STRIDE = 100, N_SEQUENCES = 3, N_ROWS = 7, N_STEPS = 5, MOST_RANKS = 7 };

/* Positions 31 to 33, none, 64 to 67. */
static const int32_t tokens[N_ROWS] = {1, 2, 3, 4, 5, 6, 7};
static const int32_t positions[N_ROWS] = {31, 32, 33, 64, 65, 66, 67};
static const int32_t row_begin[N_SEQUENCES + 1] = {0, 3, 3, 7};
static const int32_t outputs[1] = {6};

static const ag_step_t step = {.counts = {1, N_ROWS, 1, N_SEQUENCES},
                               .tokens = tokens,
                               .positions = positions,
                               .row_begin = row_begin,
                               .outputs = outputs,
                               .table_stride = STRIDE};

/* As much room as the step needs, and no more. */
enum { N_INTS = 2 * N_ROWS + 1 + N_SEQUENCES + 1 + 3 * N_SEQUENCES };

static ag_status_t until(ag_turn_t *turn, ag_status_t (*fn)(ag_wire_t *wire), ag_wire_t *wire)
{
    ag_status_t status;

    while ((status = fn(wire)) == AG_PENDING) {
        turn->wait.idle(turn->wait.arg, 0);
    }
    return status;
}

/* Of step i all rows have token 10 i. */
static ag_status_t post_steps(ag_turn_t *turn, ag_wire_t *wire)
{
    int32_t tables[N_SEQUENCES * STRIDE], ids[N_ROWS];
    ag_status_t status = AG_OK;
    ag_step_t sent = step;

    for (int32_t i = 0; i < N_SEQUENCES * STRIDE; i++) {
        tables[i] = i;
    }
    sent.block_tables = tables;
    sent.tokens = ids;
    for (int32_t i = 0; i <= N_STEPS && status == AG_OK; i++) {
        for (int r = 0; r < N_ROWS; r++) {
            ids[r] = 10 * i;
        }
        status = until(turn, ag_wire_is_free, wire);
        if (status == AG_OK) {
            status = ag_wire_post(wire, i < N_STEPS ? &sent : NULL);
        }
    }
    return status;
}

static void expect_step(const ag_step_t *got, int32_t i)
{
    cr_expect_arr_eq(got->counts, step.counts, sizeof(step.counts));
    cr_expect_arr_eq(got->positions, positions, sizeof(positions));
    cr_expect_arr_eq(got->row_begin, row_begin, sizeof(row_begin));
    cr_expect_arr_eq(got->outputs, outputs, sizeof(outputs));
    cr_assert_eq(got->table_stride, 3, "the blocks up to position 67");
    for (int s = 0; s < N_SEQUENCES; s++) {
        for (int b = 0; b < 3; b++) {
            cr_expect_eq(got->block_tables[3 * s + b], STRIDE * s + b);
        }
    }
    for (int r = 0; r < N_ROWS; r++) {
        cr_expect_eq(got->tokens[r], 10 * i, "step %d, row %d: %d", i, r, got->tokens[r]);
    }
}

static ag_status_t receive_steps(ag_turn_t *turn, ag_wire_t *wire)
{
    ag_status_t status = AG_OK;
    bool stop = false;
    int32_t n = 0;

    while (status == AG_OK && !stop) {
        status = until(turn, ag_wire_is_free, wire);
        while (status == AG_OK && (status = ag_wire_poll(wire, &stop)) == AG_PENDING) {
            turn->wait.idle(turn->wait.arg, 0);
            status = AG_OK;
        }
        if (status == AG_OK && !stop) {
            expect_step(ag_wire_step(wire), n++);
        }
    }
    cr_expect_eq(n, N_STEPS);
    return status;
}

static ag_status_t pass_steps(ag_turn_t *turn)
{
    const ag_plan_t *plan = turn->arg;
    ag_wire_t wire;
    ag_status_t status = ag_wire_init(turn->net, plan, N_INTS, &wire);

    cr_assert_eq(status, AG_OK, "%s", ag_error());
    cr_expect_eq(wire.parent == -1, turn->net->rank == 0);
    status = turn->net->rank == 0 ? post_steps(turn, &wire) : receive_steps(turn, &wire);
    if (status == AG_OK) {
        status = until(turn, ag_wire_is_sent, &wire);
    }
    ag_wire_fini(&wire);
    return status;
}

static void expect_passed(const ag_plan_t *plan, const char *what)
{
    ag_status_t statuses[MOST_RANKS];
    uint32_t n_ranks = ag_plan_ranks(plan);

    for (uint64_t seed = 0; seed < 10; seed++) {
        ag_turns_run(n_ranks, seed, pass_steps, (void *)plan, statuses);
        for (uint32_t r = 0; r < n_ranks; r++) {
            cr_expect_eq(statuses[r], AG_OK, "%s, rank %u: %s", what, r,
                         ag_status_name(statuses[r]));
        }
    }
}

Test(wire, steps_arrive_in_order_with_the_blocks_that_they_use)
{
    static const char *const degrees[] = {"1", "3", "1,1", "2,1", "1,2", "3,1,2", "2,2,3"};
    ag_plan_model_t facts = {.family = "llama", .n_layers = 4, .context_tokens = 4096};

    for (size_t i = 0; i < sizeof(degrees) / sizeof(degrees[0]); i++) {
        uint32_t pp = 1 + ((uint32_t)strlen(degrees[i]) - 1) / 2;
        ag_plan_t *plan = NULL;

        cr_assert_eq(ag_plan_make(&facts, &(ag_plan_opts_t){.tp = degrees[i], .pp = pp}, &plan),
                     AG_OK, "%s", ag_error());
        expect_passed(plan, degrees[i]);
        ag_plan_destroy(plan);
    }
}

/* A plan file may give rank 0 to any stage. */
Test(wire, rank_0_may_stand_in_the_middle)
{
    ag_plan_model_t facts = {.family = "llama", .n_layers = 4, .context_tokens = 4096};
    ag_plan_t *plan = NULL;

    cr_assert_eq(ag_plan_make(&facts, &(ag_plan_opts_t){.tp = "2,2,1", .pp = 3}, &plan), AG_OK);
    for (uint32_t s = 0; s < 3; s++) { /* ranks 3 4 | 1 0 | 2 */
        static const uint32_t ranks[3][2] = {{3, 4}, {1, 0}, {2, 2}};

        memcpy(plan->stages[s].replicas[0].ranks, ranks[s],
               plan->stages[s].replicas[0].n_ranks * sizeof(uint32_t));
    }
    expect_passed(plan, "rank 0 in the middle");
    ag_plan_destroy(plan);
}
