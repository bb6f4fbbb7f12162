#include <criterion/criterion.h>

#include "launch/train.h"

/* The tiny llama by hand: 3 layers, 9 heads of 8 and 3 KV heads, hidden 72, 192 columns, a table
 * of looked-up rows, which cost nothing, and a head. */
Test(train_flops, are_those_of_the_models_matrices)
{
    ag_model_t *model;
    const ag_spec_t *spec;
    double layer, expected;

    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/llama", &model), AG_OK, "%s", ag_error());
    spec = model->spec;
    cr_assert(spec->n_layers == 3 && spec->hidden == 72 && !spec->tied);
    layer = 72.0 * (72 + 24 + 24 + 72) + 3.0 * 72 * ag_spec_layer(spec, 0)->ffn_width;
    expected = 6 * (3 * layer * 10 + (double)spec->vocab * 72 * 7) + 12.0 * 3 * 72 * 55;
    cr_expect_float_eq(ag_train_flops(spec, 10, 7, &(ag_attended_t){{55}}), expected, 1);
    ag_model_close(model);
}

Test(train_flops, an_expert_has_its_share_of_tokens)
{
    ag_model_t *model;
    const ag_layer_spec_t *kind;
    double with_all;

    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/mixtral", &model), AG_OK, "%s", ag_error());
    kind = ag_spec_layer(model->spec, 0);
    with_all = 6.0 * 10 * 3 * model->spec->hidden * kind->ffn_width * kind->route.n_experts *
               model->spec->n_layers;
    cr_expect_lt(ag_train_flops(model->spec, 10, 0, &(ag_attended_t){{0}}), with_all);
    cr_expect_gt(ag_train_flops(model->spec, 10, 0, &(ag_attended_t){{0}}),
                 with_all * kind->route.n_used / kind->route.n_experts);
    ag_model_close(model);
}

/* What the programs of all ranks do, by their operators, in steps of two micro-batches. */
static void expect_flops_of_programs(const char *path, ag_plan_opts_t opts)
{
    ag_session_t session = {0};
    ag_training_t training = {.session = &session,
                              .n_tokens = 20,
                              .n_learned = 14,
                              .attended = {{110}},
                              .n_micro_batches = 2};
    ag_model_t *model;
    ag_plan_model_t facts;
    double flops = 0, expected;

    opts.sequence_tokens = 16;
    opts.micro_batch_size = 1;
    opts.global_batch_size = 2;
    cr_assert_eq(ag_model_open(path, &model), AG_OK, "%s", ag_error());
    facts = ag_build_plan_model(model);
    session.model = model;
    cr_assert_eq(ag_plan_make(&facts, &opts, &session.plan), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_build_create(session.plan, model, &session.build), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_programs_create(session.build, false, false, &session.programs), AG_OK, "%s",
                 ag_error());
    for (uint32_t r = 0; r < ag_plan_ranks(session.plan); r++) {
        flops += ag_train_program_flops(&training, r);
    }
    expected = ag_train_flops(model->spec, 20, 14, &training.attended);
    cr_expect_float_eq(flops / expected, 1, 1e-12, "%s: %.9g, not %.9g", path, flops, expected);
    ag_programs_destroy(&session.programs);
    ag_build_destroy(session.build);
    ag_plan_destroy(session.plan);
    ag_model_close(model);
}

Test(train_flops, are_what_the_operators_of_programs_cost)
{
    expect_flops_of_programs(AG_TEST_DATA "/tiny/llama", (ag_plan_opts_t){.dp = 1});
    expect_flops_of_programs(AG_TEST_DATA "/tiny/llama",
                             (ag_plan_opts_t){.tensor_split = "6,3", .pp = 2});
    expect_flops_of_programs(AG_TEST_DATA "/tiny/mixtral", (ag_plan_opts_t){.dp = 1});
    expect_flops_of_programs(AG_TEST_DATA "/tiny/mixtral",
                             (ag_plan_opts_t){.compute = AG_COMPUTE_F32, .pp = 2});
}
