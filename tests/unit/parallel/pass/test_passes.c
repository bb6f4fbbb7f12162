#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "support.h"

enum { HEADS = 9, KV_HEADS = 3, FFN = 187, VOCAB = 307, LAYERS = 3 };

static const struct {
    const char *tp;
    uint32_t pp;
    const char *tensor_split;
} plans[] = {
    {NULL, 0, NULL},   {"2", 0, NULL},   {"3", 0, NULL},      {"4", 0, NULL},
    {"5", 0, NULL},    {NULL, 2, NULL},  {NULL, 3, NULL},     {"2", 2, NULL},
    {"2", 3, NULL},    {"2,1", 0, NULL}, {"1,2", 0, NULL},    {"1,3,2", 0, NULL},
    {"3", 0, "7,1,1"}, {"2", 0, "5,4"},  {"2,1", 0, "1,8;1"}, {"5,4", 0, NULL},
};

enum { N_PLANS = sizeof(plans) / sizeof(plans[0]) };

Test(passes, every_plan_gives_a_program_that_the_checker_accepts_after_each_pass)
{
    for (int i = 0; i < N_PLANS; i++) {
        setup_t setup;
        ag_status_t status = open_setup(plans[i].tp, plans[i].pp, plans[i].tensor_split, &setup);

        cr_expect_eq(status, AG_OK, "plan %d: %s", i, ag_error());
        close_setup(&setup);
    }
}

Test(passes, a_model_on_one_rank_is_one_operation)
{
    setup_t setup;

    cr_assert_eq(open_setup(NULL, 0, NULL, &setup), AG_OK, "%s", ag_error());
    cr_expect_eq(setup.program->ranks[0].ops.n_items, 1);
    cr_expect_eq(count_ops(setup.program, 0, AG_OP_SEGMENT), 1);
    close_setup(&setup);
}

Test(passes, tensor_parallel_sums_once_after_the_embedding_and_twice_a_layer)
{
    setup_t setup;

    cr_assert_eq(open_setup("2", 0, NULL, &setup), AG_OK, "%s", ag_error());
    for (uint32_t r = 0; r < 2; r++) {
        cr_expect_eq(count_ops(setup.program, r, AG_OP_ALL_REDUCE), 1 + 2 * LAYERS);
    }
    cr_expect_eq(count_ops(setup.program, 1, AG_OP_SEND), 1, "its logits");
    cr_expect_eq(count_ops(setup.program, 0, AG_OP_RECV), 1);
    close_setup(&setup);
}

Test(passes, stages_of_different_degree_hand_the_stream_to_every_rank)
{
    setup_t setup;

    cr_assert_eq(open_setup("1,3,2", 0, NULL, &setup), AG_OK, "%s", ag_error());
    cr_expect_eq(count_ops(setup.program, 0, AG_OP_SEND), 3);
    for (uint32_t r = 1; r <= 5; r++) {
        cr_expect_eq(count_ops(setup.program, r, AG_OP_RECV), 1, "rank %u", r);
    }
    close_setup(&setup);
}

/* Heads, columns and ids of a stage are each held by exactly one of its ranks. */
Test(passes, shares_of_a_stage_add_up)
{
    for (int i = 0; i < N_PLANS; i++) {
        setup_t setup;

        cr_assert_eq(open_setup(plans[i].tp, plans[i].pp, plans[i].tensor_split, &setup), AG_OK);
        for (uint32_t s = 0; s < setup.plan->n_stages; s++) {
            const ag_replica_t *replica = &setup.plan->stages[s].replicas[0];
            uint32_t heads = 0, ffn = 0, vocab = 0;

            for (uint32_t r = 0; r < replica->n_ranks; r++) {
                const ag_shard_t *shard = &setup.build->ranks[replica->ranks[r]].shard;
                const ag_layer_shard_t *layer = &shard->layers[0];

                cr_expect_eq(layer->head_begin, heads);
                cr_expect_eq(layer->ffn_begin, ffn);
                cr_expect_eq(shard->vocab_begin, vocab);
                heads = layer->head_end;
                ffn = layer->ffn_end;
                vocab = shard->vocab_end;
                for (uint32_t h = layer->head_begin; h < layer->head_end; h++) {
                    cr_expect_eq(layer->kv_begin + layer->kv_head[h - layer->head_begin],
                                 h / (HEADS / KV_HEADS));
                }
            }
            cr_expect_eq(heads, HEADS);
            cr_expect_eq(ffn, FFN);
            cr_expect_eq(vocab, VOCAB);
        }
        close_setup(&setup);
    }
}

Test(passes, shares_of_5_to_4_replicate_a_kv_head)
{
    setup_t setup;

    cr_assert_eq(open_setup("2", 0, "5,4", &setup), AG_OK, "%s", ag_error());
    cr_expect_eq(setup.build->ranks[0].shard.layers[0].head_end, 5);
    cr_expect_eq(setup.build->ranks[0].shard.layers[0].kv_end, 2);
    cr_expect_eq(setup.build->ranks[1].shard.layers[0].kv_begin, 1);
    cr_expect_eq(setup.build->ranks[1].shard.layers[0].kv_end, 3);
    close_setup(&setup);
}

Test(passes, a_rank_that_would_hold_nothing_is_named)
{
    setup_t setup;

    cr_expect_eq(open_setup("2", 0, "1,0", &setup), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "rank 1") != NULL, "%s", ag_error());
    close_setup(&setup);
}

Test(passes, buffers_never_in_use_together_share_bytes)
{
    setup_t setup;
    uint64_t sum = 0;

    cr_assert_eq(open_setup("2", 0, NULL, &setup), AG_OK, "%s", ag_error());
    for (size_t i = 0; i < setup.program->ranks[0].buffers.n_items; i++) {
        sum += AG_ITEMS(&setup.program->ranks[0].buffers, ag_buffer_t)[i].bytes;
    }
    cr_expect_lt(setup.program->ranks[0].memory_bytes, sum);
    close_setup(&setup);
}

Test(passes, a_program_without_its_output_is_refused)
{
    setup_t setup;

    cr_assert_eq(open_setup("2", 0, NULL, &setup), AG_OK, "%s", ag_error());
    setup.program->output_buffer = (uint32_t)setup.program->ranks[0].buffers.n_items;
    cr_expect_eq(ag_program_check(setup.program, setup.plan, AG_CHECK_PLACED, "loss"),
                 AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "nothing writes the output") != NULL, "%s", ag_error());
    close_setup(&setup);
}
