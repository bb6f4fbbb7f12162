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
