/* Ranks of a layer that share the rows of the residual stream out, in training. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "program_text.h"
#include "support.h"

enum { LAYERS = 3, TOKENS = 40, HIDDEN = 63 };

static void open_training(ag_plan_opts_t opts, setup_t *setup)
{
    const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, TOKENS, TOKENS, TOKENS};

    opts.sequence_tokens = TOKENS;
    opts.compute = AG_COMPUTE_F32;
    cr_assert_eq(open_model("/tiny/llama", &opts, bounds, setup), AG_OK, "%s", ag_error());
}

/* A sum is one in shares where a rank's rows are what is read, and these are gathered where all
 * are: of the embedding, of each part, and of each norm's gradient; what norms make, there and
 * back, and the residual stream's gradient before each part but the last, and the embedding. */
Test(rows, sums_between_parts_are_in_shares_and_norms_are_gathered)
{
    setup_t shared, whole;

    open_training((ag_plan_opts_t){.tp = "2"}, &shared);
    open_training((ag_plan_opts_t){.tp = "2", .sequence_parallel = AG_CHOICE_OFF}, &whole);
    for (uint32_t r = 0; r < 2; r++) {
        cr_expect_eq(count_ops(shared.program, r, AG_OP_REDUCE_SCATTER), 1 + 4 * LAYERS);
        cr_expect_eq(count_ops(shared.program, r, AG_OP_ALL_GATHER), 4 * LAYERS + 1 + 2 * LAYERS);
        cr_expect_eq(count_ops(whole.program, r, AG_OP_REDUCE_SCATTER), 0);
        cr_expect_eq(count_ops(whole.program, r, AG_OP_ALL_GATHER), 0);
        cr_expect_eq(count_ops(whole.program, r, AG_OP_ALL_REDUCE),
                     count_ops(shared.program, r, AG_OP_ALL_REDUCE) + 1 + 4 * LAYERS,
                     "norms' gradients are summed with those of heads that both ranks hold");
    }
    close_setup(&shared);
    close_setup(&whole);
}

/* Norms' gradients, and those of KV heads that both ranks of a layer use, are complete at a step's
 * end; all others of a layer are summed over the replicas behind the arithmetic that is left. */
Test(rows, layers_are_summed_over_replicas_before_what_their_ranks_have_in_common)
{
    static const ag_plan_opts_t opts[] = {{.tp = "2", .dp = 2},
                                          {.tp = "2", .dp = 2, .zero_stage = 1},
                                          {.tp = "2", .dp = 2, .sequence_parallel = AG_CHOICE_OFF}};

    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        setup_t setup;

        open_training(opts[i], &setup);
        for (uint32_t r = 0; r < 4; r++) {
            const ag_rank_program_t *rank = &setup.program->ranks[r];
            uint32_t n_sums = 0, n_before = 0;

            for (size_t op = 0; op < rank->ops.n_items; op++) {
                const ag_op_t *o = &ag_rank_ops(rank)[op];

                n_before = ag_op_begins_with(rank, o, AG_PART_SHARE) ? n_sums : n_before;
                n_sums += o->kind == AG_OP_REDUCE_SCATTER && o->stream == AG_STREAM_GRAD;
            }
            cr_expect_geq(n_before, LAYERS, "plan %zu, rank %u: %u", i, r, n_before);
            cr_expect_gt(n_sums, n_before, "plan %zu, rank %u: what they have in common", i, r);
        }
        close_setup(&setup);
    }
}

/* In f32 without being asked, in bf16 where it is asked for, and never where norms stand behind
 * parts. */
Test(rows, are_shared_out_by_default_where_it_saves)
{
    const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, TOKENS, TOKENS, TOKENS};
    ag_plan_opts_t opts = {.tp = "2", .sequence_tokens = TOKENS};
    setup_t setup;

    for (int asked = AG_CHOICE_DEFAULT; asked <= AG_CHOICE_OFF; asked++) {
        opts.sequence_parallel = (ag_choice_t)asked;
        opts.compute = AG_COMPUTE_F32;
        cr_assert_eq(open_model("/tiny/llama", &opts, bounds, &setup), AG_OK, "%s", ag_error());
        cr_expect_eq(setup.plan->train.sequence_parallel, asked != AG_CHOICE_OFF);
        close_setup(&setup);
        opts.compute = AG_COMPUTE_AUTO;
        cr_assert_eq(open_model("/tiny/llama", &opts, bounds, &setup), AG_OK, "%s", ag_error());
        cr_expect_eq(setup.plan->train.sequence_parallel, asked == AG_CHOICE_ON);
        close_setup(&setup);
    }
    opts.compute = AG_COMPUTE_F32;
    opts.sequence_parallel = AG_CHOICE_DEFAULT;
    cr_assert_eq(open_model("/tiny/gemma3", &opts, bounds, &setup), AG_OK, "%s", ag_error());
    cr_expect(!setup.plan->train.sequence_parallel);
    close_setup(&setup);
    opts.sequence_parallel = AG_CHOICE_ON;
    cr_expect_eq(open_model("/tiny/gemma3", &opts, bounds, &setup), AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "--sequence-parallel on"), "%s", ag_error());
    close_setup(&setup);
}

/* Of each layer and micro-batch on its way two runs of rows. */
Test(rows, are_kept_by_shares)
{
    static const ag_plan_opts_t opts[] = {
        {.tp = "2", .schedule = "gpipe", .global_batch_size = 4},
        {.tensor_split = "2,1", .schedule = "gpipe", .global_batch_size = 4},
        {.tp = "3", .schedule = "gpipe", .global_batch_size = 4}};

    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        ag_plan_opts_t whole_opts = opts[i];
        setup_t shared, whole;

        whole_opts.sequence_parallel = AG_CHOICE_OFF;
        open_training(opts[i], &shared);
        open_training(whole_opts, &whole);
        for (uint32_t r = 0; r < shared.build->n_ranks; r++) {
            cr_expect_lt(shared.program->ranks[r].memory_bytes,
                         whole.program->ranks[r].memory_bytes, "plan %zu, rank %u", i, r);
        }
        close_setup(&shared);
        close_setup(&whole);
    }
}

Test(rows, are_each_one_ranks_in_the_proportion_of_its_share)
{
    setup_t setup;

    open_training((ag_plan_opts_t){.tensor_split = "30,5,20"}, &setup);
    for (uint64_t n = 0; n <= TOKENS; n++) {
        uint64_t at = 0, begin, end;

        for (uint32_t r = 0; r < 3; r++) {
            const ag_shard_t *shard = &setup.build->ranks[r].shard;

            ag_shard_rows(shard, n, &begin, &end);
            cr_expect_eq(begin, at);
            cr_expect_leq(end - begin, ag_shard_most_rows(shard, TOKENS));
            at = end;
        }
        cr_expect_eq(at, n);
    }
    cr_expect_eq(ag_shard_most_rows(&setup.build->ranks[1].shard, TOKENS), 4);
    cr_expect_eq(ag_shard_most_rows(&setup.build->ranks[2].shard, TOKENS), 15);
    close_setup(&setup);
}

Test(rows, a_program_reads_as_it_was_printed)
{
    ag_program_t *back = NULL;
    setup_t setup;
    char *text, *again;

    open_training((ag_plan_opts_t){.tensor_split = "2,1", .recompute = true}, &setup);
    text = program_text(setup.program);
    cr_expect_not_null(strstr(text, "SEGMENT ffn_n L1 mb0.s"), "%s", text);
    cr_assert_eq(program_from_text(text, &back), AG_OK, "%s", ag_error());
    again = program_text(back);
    cr_expect_str_eq(again, text);
    cr_expect_eq(ag_program_check(back, setup.plan, AG_CHECK_PLACED, "reading"), AG_OK, "%s",
                 ag_error());
    free(text);
    free(again);
    ag_program_destroy(back);
    close_setup(&setup);
}

/* Gradients of weights are operations of their own, behind what is handed to the stage before. */
Test(rows, gradients_of_weights_may_have_operations_of_their_own)
{
    ag_program_t *back = NULL;
    setup_t split, together;
    const char *at;
    char *text;

    open_training((ag_plan_opts_t){.pp = 2, .split_backward = true}, &split);
    open_training((ag_plan_opts_t){.pp = 2}, &together);
    text = program_text(split.program);
    at = strstr(text, "SEGMENT ffn_b");
    cr_assert_not_null(at);
    at = strstr(strstr(text, "rank 1:"), "SEND to rank 0");
    cr_assert_not_null(at);
    cr_expect_not_null(strstr(at, "SEGMENT ffn_w"), "%s", text);
    cr_assert_eq(program_from_text(text, &back), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_program_check(back, split.plan, AG_CHECK_PLACED, "reading"), AG_OK, "%s",
                 ag_error());
    for (uint32_t r = 0; r < 2; r++) {
        cr_expect_gt(split.program->ranks[r].memory_bytes, together.program->ranks[r].memory_bytes,
                     "what weights' gradients read is kept longer");
    }
    free(text);
    ag_program_destroy(back);
    close_setup(&split);
    close_setup(&together);
}

/* The checker knows which parts are of shares, and in which order they are made again. */
Test(rows, a_program_changed_is_refused)
{
    static const struct {
        const char *from, *to, *says;
    } changes[] = {
        {"SEGMENT ffn_n L1 mb0.s", "SEGMENT ffn_n L1 mb0  ", "out of its turn"},
        {"SEGMENT attn_n L2 mb0.s", "SEGMENT attn_n L1 mb0.s", "out of its turn"},
        {"SEGMENT ffn L1 mb0  ", "SEGMENT ffn L1 mb0.s", "half of what has no rows"},
        {"SEGMENT attn_nb L0 mb0.s", "SEGMENT attn_nb L0 mb0.a", "out of its turn"},
        {"REDUCE_SCATTER {0,1} mb0 ", "ALL_GATHER     {0,1} mb0 ", "what it moves"},
        {"rw/:p", "rw:p ", "what it moves"},
    };
    setup_t setup;
    char *text;

    open_training((ag_plan_opts_t){.tp = "2"}, &setup);
    text = program_text(setup.program);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        char *copy = strdup(text), *at = strstr(copy, changes[i].from);
        ag_program_t *changed = NULL;

        cr_assert_not_null(at, "change %zu", i);
        memcpy(at, changes[i].to, strlen(changes[i].to));
        cr_assert_eq(program_from_text(copy, &changed), AG_OK, "change %zu: %s", i, ag_error());
        cr_expect_eq(ag_program_check(changed, setup.plan, AG_CHECK_PLACED, "a change"),
                     AG_ERR_INVALID, "change %zu", i);
        cr_expect_not_null(strstr(ag_error(), changes[i].says), "change %zu: %s", i, ag_error());
        ag_program_destroy(changed);
        free(copy);
    }
    free(text);
    close_setup(&setup);
}
