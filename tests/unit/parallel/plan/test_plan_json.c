#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_plans.h"

static const char good[] =
    "{\"argosy_plan\": 1, \"model\": {\"spec_hash\": \"00112233aabbccdd\", \"family\": \"llama\"}, "
    "\"mode\": \"forward\", \"stages\": [{\"layers\": [0, 20], \"replicas\": [{\"ranks\": [0, 1], "
    "\"shares\": [5, 4], \"micro_batches\": 1}]}, {\"layers\": [20, 30], \"replicas\": "
    "[{\"ranks\": [2], \"shares\": [1], \"micro_batches\": 1}]}], \"experts\": [], \"compute\": "
    "\"auto\", \"context_tokens\": 4096, \"batch_tokens\": 512, \"sequences\": 1, \"kv_type\": "
    "\"f16\", \"budgets\": [{\"dram_bytes\": 2147483648}, {\"dram_bytes\": 1024}, "
    "{\"dram_bytes\": 9007199254740993}]}";

/* Refused in one line that names the file and has the word. */
static bool refused_with(const char *piece, const char *other, const char *word)
{
    char *text = text_with(good, piece, other);
    ag_plan_t *plan = NULL;
    ag_status_t status = read_plan(text, &plan);

    free(text);
    ag_plan_destroy(plan);
    return status == AG_ERR_INVALID && plan == NULL && error_says("p.json", word, NULL);
}

Test(plan_json, reads_as_it_was_written)
{
    ag_plan_t *plan;
    char *text;

    cr_assert_eq(read_plan(good, &plan), AG_OK, "%s", ag_error());
    text = plan_text(plan);
    cr_expect_str_eq(text, good);
    cr_expect_eq(plan->n_stages, 2);
    cr_expect_eq(plan->stages[1].layer_begin, 20);
    cr_expect_eq(plan->stages[0].replicas[0].shares[1], 4);
    cr_expect_eq(plan->budget_bytes[2], 9007199254740993);
    cr_expect_eq(plan->kv_type, AG_F16);
    free(text);
    ag_plan_destroy(plan);
}

Test(plan_json, every_plan_that_options_make_comes_back_the_same)
{
    static const ag_plan_opts_t options[] = {
        {0},
        {.tp = "5", .tensor_split = "7,1,0,0,1", .max_memory = "1G,2G,3G,4G,1.5T"},
        {.pp = 30, .compute = AG_COMPUTE_F32, .n_sequences = 65536},
        {.tp = "3,1,2", .pipeline_split = "1,28,1", .context_tokens = 1, .max_memory = "1"},
        {.tp = "254", .batch_tokens = UINT32_MAX},
        {.tensor_split = "1000000,1"},
    };
    ag_plan_model_t model = smol_model();

    model.context_tokens = UINT32_MAX; /* a model may say so; a plan is bounded */
    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
        ag_plan_t *plan, *back;
        char *text, *again, hash[17], hash_again[17];

        cr_assert_eq(ag_plan_make(&model, &options[i], &plan), AG_OK, "%s", ag_error());
        text = plan_text(plan);
        cr_assert_eq(read_plan(text, &back), AG_OK, "%s", ag_error());
        again = plan_text(back);
        cr_expect_str_eq(again, text);
        cr_assert_eq(ag_plan_hash(plan, hash), AG_OK);
        cr_assert_eq(ag_plan_hash(back, hash_again), AG_OK);
        cr_expect_str_eq(hash, hash_again);
        free(text);
        free(again);
        ag_plan_destroy(plan);
        ag_plan_destroy(back);
    }
}

Test(plan_json, members_nobody_knows_are_refused_with_their_place)
{
    cr_expect(refused_with("\"mode\"", "\"zero\": 3, \"mode\"", "\"zero\" is nothing"));
    cr_expect(refused_with("\"family\"", "\"arch\": 1, \"family\"", "model: \"arch\""));
    cr_expect(refused_with("\"layers\"", "\"\\n\u00e9\": 1, \"layers\"", "stages[0]: \"???\""));
    cr_expect(refused_with("\"micro_batches\"", "\"rank\": 1, \"micro_batches\"",
                           "known: ranks, shares, tensor_ranks, micro_batches"));
    cr_expect(refused_with("1024}", "1024, \"vram_bytes\": 7}", "budgets[1]: \"vram_bytes\""));
    cr_expect(refused_with("\"budgets\"", "\"budget\"", "\"budget\" is nothing"));
}

Test(plan_json, remarks_and_budgets_left_out_do_no_harm)
{
    char *text =
        text_with(good, "\"mode\"", "\"predicted\": {\"memory\": []}, \"hash\": \"\", \"mode\"");
    char *budgets = strstr(text, ", \"budgets\"");
    ag_plan_t *plan = NULL;

    strcpy(budgets, "}");
    cr_expect_eq(read_plan(text, &plan), AG_OK, "%s", ag_error());
    cr_expect_eq(plan->n_budgets, 0);
    ag_plan_destroy(plan);
    free(text);
}

Test(plan_json, what_is_no_plan_of_this_version_is_refused)
{
    static const char *const others[] = {"[]", "1", "null", "\"plan\"", "{}"};
    ag_plan_t *plan = NULL;

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        cr_expect_eq(read_plan(others[i], &plan), AG_ERR_INVALID);
        cr_expect(error_says("p.json", "argosy plan", NULL));
    }
    cr_expect_eq(ag_plan_from_json(NULL, "p.json", &plan), AG_ERR_INVALID);
    cr_expect(refused_with("\"argosy_plan\": 1", "\"argosy_plan\": 2", "argosy_plan must be 1"));
    cr_expect(refused_with("\"argosy_plan\": 1", "\"argosy_plan\": \"1\"", "argosy_plan"));
    cr_expect(refused_with("\"argosy_plan\": 1", "\"argosy_plan\": 1.0", "argosy_plan"));
}

Test(plan_json, every_member_that_is_missing_is_named)
{
    static const char *const members[][2] = {
        {"\"spec_hash\"", "model.spec_hash"},
        {"\"family\"", "model.family"},
        {"\"mode\"", "mode"},
        {"\"stages\"", "stages"},
        {"\"layers\"", "stages[0].layers"},
        {"\"replicas\"", "stages[0].replicas"},
        {"\"ranks\"", "stages[0].replicas[0].ranks"},
        {"\"shares\"", "stages[0].replicas[0].shares"},
        {"\"micro_batches\"", "stages[0].replicas[0].micro_batches"},
        {"\"compute\"", "compute"},
        {"\"context_tokens\"", "context_tokens"},
        {"\"batch_tokens\"", "batch_tokens"},
        {"\"sequences\"", "sequences"},
        {"\"kv_type\"", "kv_type"},
        {"\"dram_bytes\"", "budgets[0].dram_bytes"},
    };

    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        cr_expect(refused_with(members[i][0], "\"mislaid\"", members[i][1]), "%s", members[i][0]);
    }
}

/* Every place of the good plan, filled with what does not belong there. */
Test(plan_json, members_of_the_wrong_kind_or_size_are_refused_with_their_place)
{
    static const char *const wrong[] = {
        "null",    "true",          "-1",
        "0.5",     "4294967297",    "9223372036854775807",
        "{}",      "[null]",        "\"\"",
        "\"\\n\"", "\"a\\u0000b\"", "\"0123456789012345678901234567890123\"",
    };
    static const struct {
        const char *piece, *name, *place;
    } members[] = {
        {"{\"spec_hash\": \"00112233aabbccdd\", \"family\": \"llama\"}", "", "model.spec_hash"},
        {"\"00112233aabbccdd\"", "", "model.spec_hash"},
        {"\"llama\"", "", "model.family"},
        {"\"forward\"", "", "mode"},
        {"[0, 20]", "", "stages[0].layers"},
        {"20", "", "stages[0].layers"},
        {"\"ranks\": [0, 1]", "\"ranks\": ", "stages[0].replicas[0].ranks"},
        {"[5, 4]", "", "stages[0].replicas[0].shares"},
        {"\"micro_batches\": 1", "\"micro_batches\": ", "stages[0].replicas[0].micro_batches"},
        {"[]", "", "experts"},
        {"\"auto\"", "", "compute"},
        {"4096", "", "context_tokens"},
        {"512", "", "batch_tokens"},
        {"\"sequences\": 1", "\"sequences\": ", "sequences"},
        {"\"f16\"", "", "kv_type"},
        {"{\"dram_bytes\": 1024}", "", "budgets[1].dram_bytes"},
    };

    for (size_t m = 0; m < sizeof(members) / sizeof(*members); m++) {
        for (size_t w = 0; w < sizeof(wrong) / sizeof(*wrong); w++) {
            char other[128];

            snprintf(other, sizeof(other), "%s%s", members[m].name, wrong[w]);
            cr_expect(refused_with(members[m].piece, other, members[m].place), "%s = %s",
                      members[m].place, wrong[w]);
        }
    }
}

Test(plan_json, stages_must_follow_each_other)
{
    cr_expect(refused_with("[20, 30]", "[19, 30]", "stages[1].layers"));
    cr_expect(refused_with("[20, 30]", "[21, 30]", "stages[1].layers"));
    cr_expect(refused_with("[20, 30]", "[20, 20]", "stages[1].layers"));
    cr_expect(refused_with("[20, 30]", "[20, 10]", "stages[1].layers"));
    cr_expect(refused_with("[0, 20]", "[1, 20]", "stages[0].layers"));
    cr_expect(refused_with("[0, 20]", "[0, 10, 20]", "stages[0].layers"));
    cr_expect(refused_with("[20, 30]", "[20, 1048577]", "stages[1].layers"));
}

Test(plan_json, ranks_must_be_all_below_their_number_each_once)
{
    cr_expect(refused_with("[0, 1]", "[0, 0]", "ranks[1] is 0"));
    cr_expect(
        refused_with("[2]", "[1]", "stages[1].replicas[0].ranks[0] is 1, which stands twice"));
    cr_expect(refused_with("[2]", "[3]", "which stands beyond the last"));
    cr_expect(refused_with("[2]", "[65536]", "stages[1].replicas[0].ranks[0]"));
    cr_expect(refused_with("[2]", "[]", "stages[1].replicas[0].ranks"));
}

Test(plan_json, ranks_may_stand_in_any_order)
{
    char *text = text_with(good, "[0, 1]", "[2, 0]"), *at = strstr(text, "[2],");
    ag_plan_t *plan = NULL;

    at[1] = '1';
    cr_assert_eq(read_plan(text, &plan), AG_OK, "%s", ag_error());
    cr_expect_eq(plan->stages[0].replicas[0].ranks[0], 2);
    ag_plan_destroy(plan);
    free(text);
}

Test(plan_json, shares_must_be_one_a_rank_and_not_all_zero)
{
    cr_expect(refused_with("[5, 4]", "[5]", "stages[0].replicas[0].shares"));
    cr_expect(refused_with("[5, 4]", "[5, 4, 3]", "stages[0].replicas[0].shares"));
    cr_expect(refused_with("[5, 4]", "[0, 0]", "stages[0].replicas[0].shares"));
    cr_expect(refused_with("[5, 4]", "[5, 1000001]", "stages[0].replicas[0].shares[1]"));
}

Test(plan_json, decisions_that_nobody_here_carries_out_are_refused)
{
    cr_expect(refused_with("\"forward\"", "\"train\"", "train.virtual_stages"));
    cr_expect(refused_with("\"experts\": []", "\"experts\": [1]", "experts"));
    cr_expect(refused_with("\"auto\"", "\"fp8\"", "compute"));
    cr_expect(refused_with("\"f16\"", "\"f32\"", "kv_type"));
    cr_expect(refused_with("\"micro_batches\": 1", "\"micro_batches\": 2", "micro_batches"));
    cr_expect(refused_with("[{\"ranks\": [2]", "[{}, {\"ranks\": [2]", "stages[1].replicas"));
}

Test(plan_json, sizes_must_make_sense_together)
{
    cr_expect(refused_with("4096", "0", "context_tokens"));
    cr_expect(refused_with("4096", "16777217", "context_tokens"));
    cr_expect(refused_with("512", "4097", "batch_tokens"));
    cr_expect(refused_with("\"sequences\": 1", "\"sequences\": 65537", "sequences"));
    cr_expect(refused_with("{\"dram_bytes\": 1024}, ", "", "budgets"));
    cr_expect(refused_with("1024", "0", "budgets[1].dram_bytes"));
    cr_expect(refused_with("1024", "1024.0", "budgets[1].dram_bytes"));
}

Test(plan_json, a_mountain_of_stages_is_refused_before_it_is_built)
{
    enum { N = 5000 };
    char *piece = malloc(2 * N + 64), *at = piece;

    at += sprintf(at, "\"stages\": [0");
    for (int i = 1; i < N; i++) {
        at += sprintf(at, ",0");
    }
    sprintf(at, "], \"others\": [");
    cr_expect(refused_with("\"stages\": [", piece, "stages must be a list of 1 to 4096"));
    free(piece);
    cr_expect(refused_with("\"stages\": [", "\"stages\": [], \"others\": [", "stages"));
}
