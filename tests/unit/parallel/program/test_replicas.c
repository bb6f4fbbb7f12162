/* Groups over replicas of different numbers of micro-batches. */
#include <criterion/criterion.h>

#include "parallel/program/check_priv.h"
#include "support.h"

/* One stage of two replicas, of a rank each, the first with three micro-batches, the second with
 * two. */
static uint32_t ranks[] = {0, 1}, shares[] = {1, 1};
static ag_replica_t replicas[] = {
    {.n_ranks = 1, .ranks = ranks, .shares = shares, .micro_batches = 3, .tensor_ranks = 1},
    {.n_ranks = 1, .ranks = ranks + 1, .shares = shares, .micro_batches = 2, .tensor_ranks = 1}};
static ag_replica_t wide = {
    .n_ranks = 2, .ranks = ranks, .shares = shares, .micro_batches = 3, .tensor_ranks = 2};

static void expect_replicas(const ag_stage_t *stage, const char *lines, ag_status_t wanted)
{
    ag_plan_t plan = {.n_stages = 1, .stages = &(ag_stage_t){0}};
    ag_program_t *program = two_ranks_linked(lines);

    *plan.stages = *stage;
    for (uint32_t r = 0; r < 2; r++) {
        cr_assert_eq(ag_check_form(program, r), AG_OK, "%s", ag_error());
    }
    cr_expect_eq(ag_check_replicas(program, &plan), wanted, "%s", ag_error());
    ag_program_destroy(program);
}

static const ag_stage_t two_replicas = {.layer_end = 1, .n_replicas = 2, .replicas = replicas};
static const ag_stage_t one_replica = {.layer_end = 1, .n_replicas = 1, .replicas = &wide};

/* Each micro-batch adds to the gradients, the last one's segment leaves them to be summed. */
#define OF_THREE                                                                                   \
    "group {0,1} channel 1\n"                                                                      \
    "rank 0:\nbuffer g 16 x one\n"                                                                 \
    "0 compute SEGMENT attn L0 mb0 - - w+:g\n"                                                     \
    "1 compute SEGMENT attn L0 mb1 - - rw+:g\n"                                                    \
    "2 compute SEGMENT attn L0 mb2 - - rw+:g\n"
#define OF_TWO                                                                                     \
    "rank 1:\nbuffer g 16 x one\n"                                                                 \
    "0 compute SEGMENT attn L0 mb0 - - w+:g\n"                                                     \
    "1 compute SEGMENT attn L0 mb1 - - rw+:g\n"

Test(replicas, what_they_sum_once_a_step_may_be_of_different_numbers_of_micro_batches)
{
    expect_replicas(&two_replicas,
                    OF_THREE "3 tensor ALL_REDUCE {0,1} mb0 16 x one - rw:g\n" OF_TWO
                             "2 tensor ALL_REDUCE {0,1} mb0 16 x one - rw:g\n",
                    AG_OK);
}

#define SUMS_EACH(rank)                                                                            \
    "rank " rank ":\nbuffer g 16 x one\n"                                                          \
    "0 compute SEGMENT attn L0 mb0 - - w+:g\n"                                                     \
    "1 tensor ALL_REDUCE {0,1} mb0 16 x one - rw:g\n"                                              \
    "2 compute SEGMENT attn L0 mb1 - - w+:g\n"                                                     \
    "3 tensor ALL_REDUCE {0,1} mb1 16 x one - rw:g\n"
#define A_THIRD                                                                                    \
    "4 compute SEGMENT attn L0 mb2 - - w+:g\n"                                                     \
    "5 tensor ALL_REDUCE {0,1} mb2 16 x one - rw:g\n"

Test(replicas, what_they_sum_for_each_micro_batch_is_refused_where_one_has_more)
{
    expect_replicas(&two_replicas, "group {0,1} channel 1\n" SUMS_EACH("0") A_THIRD SUMS_EACH("1"),
                    AG_ERR_INVALID);
    cr_expect(error_has("rank 0 (stage 0, replica 0, 3 micro-batches) meets it 3 times") &&
              error_has("rank 1 (stage 0, replica 1, 2 micro-batches) 2 times"));
    cr_expect(error_has("5    tensor   ALL_REDUCE {0,1} mb2"), "the line that nobody meets");
    expect_replicas(&two_replicas, "group {0,1} channel 1\n" SUMS_EACH("0") SUMS_EACH("1") A_THIRD,
                    AG_ERR_INVALID);
    cr_expect(error_has("rank 1 (stage 0, replica 1, 2 micro-batches) meets it 3 times"));
    expect_replicas(&two_replicas, "group {0,1} channel 1\n" SUMS_EACH("0") SUMS_EACH("1"), AG_OK);
}

Test(replicas, a_group_of_one_replica_is_left_to_the_rendezvous)
{
    expect_replicas(&one_replica, "group {0,1} channel 1\n" SUMS_EACH("0") A_THIRD SUMS_EACH("1"),
                    AG_OK);
}

Test(replicas, the_whole_check_looks_at_them)
{
    ag_plan_t plan = {.n_stages = 1, .stages = &(ag_stage_t){0}};
    ag_program_t *program =
        two_ranks_linked("group {0,1} channel 1\n"
                         "rank 0:\nbuffer x 16 x one\n"
                         "0 compute SEGMENT embed attn+ffn L0 head mb0 - - w+:x\n"
                         "1 tensor ALL_REDUCE {0,1} mb0 16 x one - rw:x\n"
                         "rank 1:\nbuffer x 16 x one\n"
                         "0 compute SEGMENT embed attn+ffn L0 head mb0 - - w+:x\n");

    *plan.stages = two_replicas;
    cr_expect_eq(ag_program_check(program, &plan, AG_CHECK_SUMMED, "a test"), AG_ERR_INVALID);
    cr_expect(error_has("its group spans replicas") && error_has("after a test"));
    ag_program_destroy(program);
}
