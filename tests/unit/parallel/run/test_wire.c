/* What of a step goes to the other ranks. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/job_priv.h"
#include "turns.h"

enum { STRIDE = 100, N_SEQUENCES = 3, N_ROWS = 7 };

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

/* A job as far as the wire looks at it: as much room as the step needs, and no more. */
static ag_status_t pass_step(ag_turn_t *turn)
{
    int32_t tables[N_SEQUENCES * STRIDE];
    ag_job_t job = {.opts = {.net = turn->net, .idle = turn->idle}};
    ag_step_t sent = step, got = {0};
    bool stop = false;
    ag_status_t status;

    for (int32_t i = 0; i < N_SEQUENCES * STRIDE; i++) {
        tables[i] = i;
    }
    sent.block_tables = tables;
    job.wire_ints = 2 * N_ROWS + 1 + N_SEQUENCES + 1 + 3 * N_SEQUENCES;
    job.wire = malloc(job.wire_ints * sizeof(*job.wire));
    cr_assert_not_null(job.wire);
    if (turn->net->rank == 0) {
        status = ag_wire_send(&job, &sent);
        status = status == AG_OK ? ag_wire_send(&job, NULL) : status;
    } else {
        status = ag_wire_recv(&job, &got, &stop);
        cr_assert_eq(status, AG_OK, "%s", ag_error());
        cr_expect_not(stop);
        cr_expect_arr_eq(got.counts, step.counts, sizeof(step.counts));
        cr_expect_arr_eq(got.tokens, tokens, sizeof(tokens));
        cr_expect_arr_eq(got.positions, positions, sizeof(positions));
        cr_expect_arr_eq(got.row_begin, row_begin, sizeof(row_begin));
        cr_expect_arr_eq(got.outputs, outputs, sizeof(outputs));
        cr_assert_eq(got.table_stride, 3, "the blocks up to position 67");
        for (int s = 0; s < N_SEQUENCES; s++) {
            for (int i = 0; i < 3; i++) {
                cr_expect_eq(got.block_tables[3 * s + i], STRIDE * s + i);
            }
        }
        status = ag_wire_recv(&job, &got, &stop);
        cr_expect(stop);
    }
    free(job.wire);
    return status;
}

Test(wire, a_step_arrives_with_the_blocks_that_it_uses)
{
    ag_status_t statuses[3];

    ag_turns_run(3, 1, pass_step, NULL, statuses);
    for (int r = 0; r < 3; r++) {
        cr_expect_eq(statuses[r], AG_OK, "rank %d: %s", r, ag_status_name(statuses[r]));
    }
}

static ag_status_t send_to_nobody(ag_turn_t *turn)
{
    ag_job_t job = {.opts = {.net = turn->net, .idle = turn->idle}};

    return ag_wire_send(&job, &step); /* there is no room to write it to, nor a table to read */
}

Test(wire, a_step_of_one_rank_is_not_copied)
{
    ag_status_t status;

    ag_turns_run(1, 1, send_to_nobody, NULL, &status);
    cr_expect_eq(status, AG_OK);
}
