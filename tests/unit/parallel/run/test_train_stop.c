/* Where training ends: behind its last step; asked to, behind a step or within an evaluation. */
#include <criterion/criterion.h>

#include "parallel/run/train.h"
#include "support.h"

enum { ROW_TOKENS = 8, N_STEPS = 3, NEVER = 1 << 20 };

/* One rank is asked, from this of the times on that it looks. */
typedef struct stop {
    ag_plan_opts_t opts;
    int rank;
    unsigned from_look;
    unsigned n_evals, n_steps; /* rank 0's */
    ag_train_end_t end;        /* the last rank's */
} stop_t;

typedef struct asked {
    const stop_t *stop;
    int rank;
    bool trains; /* loading looks, too */
    unsigned n_looks;
} asked_t;

static bool is_asked(void *arg)
{
    asked_t *asked = arg;

    return asked->trains && asked->rank == asked->stop->rank &&
           ++asked->n_looks >= asked->stop->from_look;
}

static ag_status_t on_step(void *arg, const ag_train_step_t *step)
{
    stop_t *stop = arg;

    stop->n_steps += step->n_targets > 0;
    return AG_OK;
}

static ag_status_t on_eval(void *arg, uint64_t step, double loss, uint64_t n_targets)
{
    stop_t *stop = arg;

    stop->n_evals += step > 0 && loss > 0 && n_targets > 0;
    return AG_OK;
}

static ag_status_t open_data(ag_dataset_t **data_p)
{
    static const char *const paths[] = {AG_TEST_DATA "/tiny/train_stream.npy"};

    return ag_dataset_open(&(ag_dataset_opts_t){.paths = paths,
                                                .n_paths = 1,
                                                .vocab_size = VOCAB,
                                                .seq_length = ROW_TOKENS,
                                                .are_ids = true},
                           data_p);
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    stop_t *stop = turn->arg;
    asked_t asked = {.stop = stop, .rank = turn->net->rank};
    ag_rank_t rank = {0};
    ag_dataset_t *data = NULL;
    ag_train_end_t end = {0};
    ag_status_t status =
        ag_rank_open(turn,
                     &(ag_rank_opts_t){.model = AG_TEST_DATA "/tiny/llama",
                                       .plan = &stop->opts,
                                       .lazy = devices_of_tests(),
                                       .cancel = {.is_asked = is_asked, .arg = &asked}},
                     &rank);

    if (status == AG_OK) {
        status = open_data(&data);
    }
    if (status == AG_OK) {
        ag_train_opts_t opts = {.n_steps = N_STEPS,
                                .data = data,
                                .position = ag_dataset_start(data),
                                .eval_data = data,
                                .eval_steps = 1,
                                .lr = {.most = 1e-3, .n_steps = N_STEPS},
                                .update = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f},
                                .on_step = on_step,
                                .on_eval = on_eval,
                                .arg = stop};

        cr_expect_gt(ag_dataset_counts(data).rows, 8);
        asked.trains = true;
        status = ag_train(rank.job, &opts, &end);
    }
    if (turn->net->rank + 1 == turn->net->n_ranks) {
        stop->end = end;
    }
    ag_dataset_close(data);
    cr_expect_eq(ag_rank_close(&rank), 0);
    return status;
}

static stop_t run_all(uint32_t n_ranks, int of_rank, unsigned from_look)
{
    stop_t stop = {.opts = {.sequence_tokens = ROW_TOKENS,
                            .global_batch_size = 2,
                            .pp = n_ranks,
                            .compute = AG_COMPUTE_F32},
                   .rank = of_rank,
                   .from_look = from_look};
    ag_status_t statuses[2];

    ag_turns_run(n_ranks, 1, run_rank, &stop, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "rank %u", r);
    }
    return stop;
}

Test(train_stop, nobody_asks_and_every_step_is_evaluated)
{
    for (uint32_t n_ranks = 1; n_ranks <= 2; n_ranks++) {
        stop_t stop = run_all(n_ranks, 0, NEVER);

        cr_expect_eq(stop.end.done_steps, N_STEPS);
        cr_expect_not(stop.end.is_interrupted);
        cr_expect_eq(stop.n_evals, N_STEPS);
    }
}

/* Rank 0 looks behind each step, then behind each of an evaluation's. */
Test(train_stop, no_evaluation_begins_or_goes_on_then)
{
    for (uint32_t n_ranks = 1; n_ranks <= 2; n_ranks++) {
        for (unsigned from_look = 1; from_look <= 3; from_look++) {
            stop_t stop = run_all(n_ranks, 0, from_look);

            cr_expect_eq(stop.end.done_steps, 1);
            cr_expect_eq(stop.n_steps, 1);
            cr_expect(stop.end.is_interrupted);
            cr_expect_eq(stop.n_evals, 0, "look %u of rank 0, %u ranks", from_look, n_ranks);
        }
    }
}

Test(train_stop, another_rank_is_heard_within_an_evaluation)
{
    stop_t stop = run_all(2, 1, 1);

    cr_expect_eq(stop.end.done_steps, 1);
    cr_expect(stop.end.is_interrupted);
    cr_expect_eq(stop.n_evals, 0);
}

/* Steps that were done may have been of more rows, or of fewer. */
Test(train_stop, an_epoch_ends_with_its_rows_whatever_steps_came_before)
{
    ag_data_position_t at;
    ag_dataset_t *data;
    uint64_t n;

    cr_assert_eq(open_data(&data), AG_OK, "%s", ag_error());
    n = ag_dataset_counts(data).rows;
    at = ag_dataset_start(data);
    cr_expect_eq(ag_train_steps_left(data, at, 1, 1), n);
    cr_expect_eq(ag_train_steps_left(data, at, 3, 2), (3 * n + 1) / 2);
    at = ag_dataset_after(data, at, 10 * 2);
    cr_expect_eq(ag_train_steps_left(data, at, 1, 4), (n - 20 + 3) / 4);
    cr_expect_eq(ag_train_steps_left(data, at, 2, 1), 2 * n - 20);
    at = ag_dataset_after(data, at, n - 20);
    cr_expect_eq(ag_train_steps_left(data, at, 1, 4), 0);
    cr_expect_eq(ag_train_steps_left(data, at, 2, n), 1);
    at = ag_dataset_after(data, at, 3);
    cr_expect_eq(ag_train_steps_left(data, at, 1, 4), 0, "beyond it already");
    ag_dataset_close(data);
}
