/* Known tokens in chunks and single rows, several steps in flight: the logits of one window. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/driver.h"
#include "runtime/file/npy.h"
#include "support.h"

/* What rank 0 replays, and what came of it. */
typedef struct tape {
    work_t work;
    ag_replay_opts_t opts;
    ag_status_t expected;
    uint64_t n_rows;
} tape_t;

static ag_status_t keep(void *arg, uint64_t token, const float *logits, uint32_t n_rows)
{
    tape_t *tape = arg;

    cr_expect_eq(token, tape->n_rows, "in order");
    cr_expect(n_rows == 1 || token + n_rows <= tape->opts.n_prefill);
    cr_expect_leq(n_rows, tape->opts.chunk_tokens);
    memcpy(tape->work.logits + token * VOCAB, logits, n_rows * VOCAB * sizeof(*logits));
    tape->n_rows += n_rows;
    return AG_OK;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    tape_t *tape = turn->arg;
    ag_turn_t own = *turn;
    ag_rank_t rank = {0};
    ag_status_t status;

    own.arg = &tape->work;
    status = open_rank(&own, &rank);
    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        cr_expect_eq(ag_replay(rank.job, &tape->opts), tape->expected, "%s", ag_error());
        status = ag_job_stop(rank.job);
    }
    close_rank(&rank);
    return status;
}

static void fill_tape(tape_t *tape, const int32_t *ids, const ag_plan_opts_t *plan)
{
    memset(tape, 0, sizeof(*tape));
    tape->work.opts = *plan;
    tape->opts = (ag_replay_opts_t){.tokens = ids,
                                    .n_tokens = MOST_IDS,
                                    .n_prefill = 24,
                                    .chunk_tokens = 5,
                                    .on_logits = keep,
                                    .arg = tape};
}

Test(replay, chunks_and_rows_give_the_logits_of_one_window, .timeout = 300)
{
    static work_t window;
    static tape_t tape;
    uint32_t n_split = 0;
    int32_t *ids;
    size_t n_ids;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq33.npy", &ids, &n_ids), AG_OK);
    window = (work_t){.opts = {.compute = AG_COMPUTE_F32}, .ids = ids, .n_ids = MOST_IDS};
    cr_assert(run_work(&window, 1, 0, "one window"));
    for (uint64_t seed = 0; seed < 20; seed++) {
        ag_status_t statuses[16];
        double worst = 0;
        draw_t draw;

        draw_options(seed, &draw);
        draw.opts.batch_tokens = 7;
        fill_tape(&tape, ids, &draw.opts);
        ag_turns_run(draw.n_ranks, seed, run_rank, &tape, statuses);
        if (statuses[0] == AG_ERR_INVALID) {
            continue; /* shares that leave a rank nothing */
        }
        for (uint32_t r = 0; r < draw.n_ranks; r++) {
            cr_assert_eq(statuses[r], AG_OK, "seed %lu, rank %u", (unsigned long)seed, r);
        }
        cr_assert_eq(tape.n_rows, MOST_IDS);
        for (size_t i = 0; i < MOST_IDS * VOCAB; i++) {
            worst = fmax(worst, fabs((double)tape.work.logits[i] - (double)window.logits[i]));
        }
        cr_expect_leq(worst, 2e-5, "seed %lu: logits differ by %g", (unsigned long)seed, worst);
        n_split += draw.n_ranks > 1;
    }
    cr_expect_gt(n_split, 8);
    free(ids);
}

Test(replay, what_does_not_fit_is_refused_before_a_step)
{
    static const int32_t ids[MOST_IDS];
    static tape_t tape;
    ag_plan_opts_t plan = {.compute = AG_COMPUTE_F32, .context_tokens = 32, .batch_tokens = 4};

    for (int i = 0; i < 4; i++) {
        ag_status_t status;

        fill_tape(&tape, ids, &plan);
        tape.expected = AG_ERR_INVALID;
        tape.opts.n_tokens = i == 0 ? 33 : i == 1 ? 23 : 32;
        tape.opts.chunk_tokens = i == 2 ? 0 : i == 3 ? 5 : 4;
        ag_turns_run(1, 0, run_rank, &tape, &status);
        cr_expect_eq(status, AG_OK);
        cr_expect_eq(tape.n_rows, 0);
    }
}
