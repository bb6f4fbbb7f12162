/* What is foretold beside the regions, of which the ledger knows: steps, and what makes them. */
#include <criterion/criterion.h>
#include <string.h>

#include "comm/net_loop.h"
#include "count_bytes.h"
#include "parallel/run/driver.h"
#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"
#include "support.h"

enum { MOST_RANKS = 7 };

static uint64_t foretold_steps(const ag_rank_t *rank, uint32_t number)
{
    ag_memory_t memory = ag_memory_foretell(rank->build, &rank->programs, number, 1, false);

    for (uint32_t i = 0; i < memory.n_parts; i++) {
        if (strcmp(memory.parts[i].name, "steps") == 0) {
            return memory.parts[i].bytes;
        }
    }
    cr_assert_fail("steps are not foretold");
    return 0;
}

static uint64_t taken_by_wire(const ag_rank_t *rank, ag_net_t *net)
{
    ag_wire_t wire;
    uint64_t bytes;

    count_bytes_begin();
    cr_assert_eq(
        ag_wire_init(net, rank->plan, ag_memory_step_ints(rank->plan, &rank->programs), &wire),
        AG_OK);
    bytes = count_bytes_end();
    ag_wire_fini(&wire);
    return bytes;
}

/* The clock is looked at when all is there, before any other rank has a turn: in one thread what
 * that asks for would be counted too. */
static uint64_t look(void *arg)
{
    count_bytes_end();
    return ++*(uint64_t *)arg;
}

static uint64_t taken_by_generating(const ag_rank_t *rank, uint32_t n)
{
    static const int32_t prompt[] = {3};
    ag_generate_opts_t opts = {.sampling = &(ag_sampling_t){0}};
    ag_run_figures_t figures = {0};
    ag_answer_t answers[32];
    uint64_t bytes;

    for (uint32_t i = 0; i < n; i++) {
        answers[i] = (ag_answer_t){.prompt = prompt, .n_prompt = 1, .tokens = AG_ARRAY(int32_t)};
    }
    count_bytes_begin();
    cr_assert_eq(ag_generate(rank->job, answers, n, &opts, &figures), AG_OK, "%s", ag_error());
    bytes = count_bytes_end(); /* until then */
    cr_assert_eq(answers[n - 1].stop, AG_STOP_LENGTH);
    return bytes - ag_sampler_bytes(VOCAB);
}

static ag_status_t expect_steps(ag_turn_t *turn)
{
    const work_t *work = turn->arg;
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);
    uint64_t taken = 0;

    cr_assert_eq(status, AG_OK, "%s", ag_error());
    if (turn->net->rank == 0) {
        taken = taken_by_generating(&rank, rank.plan->n_sequences + 1);
        status = ag_job_stop(rank.job);
    } else {
        status = ag_job_follow(rank.job);
    }
    taken += taken_by_wire(&rank, turn->net);
    cr_expect_eq(foretold_steps(&rank, (uint32_t)turn->net->rank), taken, "--tp %s, rank %d: %lu",
                 work->opts.tp, turn->net->rank, (unsigned long)taken);
    close_rank(&rank);
    return status;
}

Test(memory, of_steps_is_taken_what_is_foretold)
{
    static const char *const degrees[] = {"1", "3", "1,1", "2,1", "3,1,2"};

    for (size_t i = 0; i < sizeof(degrees) / sizeof(degrees[0]); i++) {
        for (uint32_t n = 1; n <= 10; n += 9) {
            uint32_t pp = 1 + ((uint32_t)strlen(degrees[i]) - 1) / 2, n_ranks = 0;
            uint64_t now_ns = 0;
            work_t work = {.clock = {look, &now_ns},
                           .opts = {.tp = degrees[i],
                                    .pp = pp,
                                    .compute = AG_COMPUTE_F32,
                                    .batch_tokens = 6,
                                    .n_sequences = n}};
            ag_status_t statuses[MOST_RANKS];

            for (const char *at = degrees[i]; *at != '\0'; at += at[1] == ',' ? 2 : 1) {
                n_ranks += (uint32_t)(*at - '0');
            }
            ag_turns_run(n_ranks, i, expect_steps, &work, statuses);
            for (uint32_t r = 0; r < n_ranks; r++) {
                cr_expect_eq(statuses[r], AG_OK);
            }
        }
    }
}

/* Where replicas share the update out; else gradients stay where they are. */
static ag_status_t expect_gradients(ag_turn_t *turn)
{
    const ag_plan_opts_t *opts = turn->arg;
    uint32_t number = (uint32_t)turn->net->rank;
    ag_rank_t rank = {0};
    ag_status_t status = ag_rank_open(
        turn, &(ag_rank_opts_t){.model = AG_TEST_DATA "/tiny/llama", .plan = opts}, &rank);
    uint64_t taken;

    cr_assert_eq(status, AG_OK, "%s", ag_error());
    count_bytes_begin();
    cr_expect_eq(ag_job_keep_gradients(rank.job), AG_OK);
    taken = count_bytes_end();
    cr_expect_eq(ag_job_gradients_bytes(rank.build, number), taken, "rank %u: %lu", number,
                 (unsigned long)taken);
    cr_expect_eq(taken > 0, opts->zero_stage > 0);
    status = number == 0 ? ag_job_stop(rank.job) : ag_job_follow(rank.job);
    cr_expect_eq(ag_rank_close(&rank), 0);
    return status;
}

Test(memory, of_gradients_that_are_kept_is_taken_what_is_foretold)
{
    for (uint32_t zero_stage = 0; zero_stage <= 1; zero_stage++) {
        ag_plan_opts_t opts = {
            .dp = 2, .zero_stage = zero_stage, .sequence_tokens = 8, .compute = AG_COMPUTE_F32};
        ag_status_t statuses[2];

        ag_turns_run(2, 1, expect_gradients, &opts, statuses);
        cr_expect(statuses[0] == AG_OK && statuses[1] == AG_OK);
    }
}
