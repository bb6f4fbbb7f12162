#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "make_plans.h"
#include "parallel/plan/mesh.h"

enum { WORKS_FOR_ANY = 1 << 20 };

/* A model that has something to hold for so many ranks of a stage; most of it is ag_plan_make(). */
static bool works(void *arg, const ag_plan_opts_t *opts)
{
    const uint32_t *most_ranks = arg;
    ag_plan_model_t model = smol_model();
    ag_plan_t *plan;
    bool fits = true;

    if (ag_plan_make(&model, opts, &plan) != AG_OK) {
        return false;
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        fits = fits && plan->stages[s].replicas[0].n_ranks <= *most_ranks;
    }
    ag_plan_destroy(plan);
    return fits;
}

/* The error that a plan by these options gets. */
static const char *refusal(const ag_plan_opts_t *opts, uint32_t most_ranks, uint32_t n_started)
{
    ag_plan_t *plan = make_plan(opts);
    ag_status_t status =
        ag_plan_check_ranks(plan, opts, n_started, &(ag_plan_trial_t){works, &most_ranks});

    cr_expect_eq(status, AG_ERR_INVALID);
    ag_plan_destroy(plan);
    return ag_error();
}

Test(plan, the_started_number_of_ranks_must_be_the_plans)
{
    const ag_plan_opts_t tp_2 = {.tp = "2"};
    ag_plan_t *plan = make_plan(&tp_2);

    cr_expect_eq(ag_plan_check_ranks(plan, &tp_2, 2, NULL), AG_OK);
    cr_expect_str_eq(refusal(&tp_2, WORKS_FOR_ANY, 3),
                     "the plan has 2 ranks (--tp 2), but 3 were started: run mpirun -n 2, or give "
                     "--tp 3, or --pp 3 instead");
    cr_expect_str_eq(refusal(&tp_2, WORKS_FOR_ANY, 1),
                     "the plan has 2 ranks (--tp 2), but 1 was started: run mpirun -n 2, or leave "
                     "--tp out");
    ag_plan_destroy(plan);
}

Test(plan, ranks_without_options_are_told_which_options_use_them)
{
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){0}, WORKS_FOR_ANY, 12),
                     "the plan has 1 rank, but 12 were started: run it without mpirun, or give "
                     "--tp 12, or --tp 4 --pp 3, or --pp 12");
}

Test(plan, the_options_that_were_given_are_named_and_no_others)
{
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){.pipeline_split = "20,10"}, WORKS_FOR_ANY, 1),
                     "the plan has 2 ranks (--pipeline-split 20,10), but 1 was started: run mpirun "
                     "-n 2, or leave --pipeline-split out");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){.pp = 2, .tensor_split = "1,2"}, WORKS_FOR_ANY, 1),
                     "the plan has 4 ranks (--pp 2 --tensor-split 1,2), but 1 was started: run "
                     "mpirun -n 4, or leave --pp and --tensor-split out");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){.tensor_split = "1,2"}, WORKS_FOR_ANY, 3),
                     "the plan has 2 ranks (--tensor-split 1,2), but 3 were started: run mpirun -n "
                     "2, or give --tp 3, or --pp 3 instead");
}

Test(plan, replicas_are_ranks_too)
{
    const ag_plan_opts_t replicas = {.sequence_tokens = 16, .dp = 2, .micro_batches = "2,1"};

    cr_expect_str_eq(refusal(&replicas, WORKS_FOR_ANY, 1),
                     "the plan has 2 ranks (--dp 2 --micro-batches 2,1), but 1 was started: run "
                     "mpirun -n 2, or leave --dp and --micro-batches out");
}

Test(plan, a_plan_from_a_file_is_named_as_such)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "2"});
    uint32_t most_ranks = WORKS_FOR_ANY;

    cr_expect_eq(ag_plan_check_ranks(plan, NULL, 1, &(ag_plan_trial_t){works, &most_ranks}),
                 AG_ERR_INVALID);
    cr_expect(error_says("(--plan)", "leave --plan out", NULL));
    ag_plan_destroy(plan);
}

Test(plan, what_the_model_cannot_be_split_into_is_not_named)
{
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){0}, 8, 18),
                     "the plan has 1 rank, but 18 were started: run it without mpirun, or give "
                     "--tp 6 --pp 3, or --pp 18");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){0}, 3, 34),
                     "the plan has 1 rank, but 34 were started: run it without mpirun, or give "
                     "--tp 2 --pp 17");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){0}, 8, 31),
                     "the plan has 1 rank, but 31 were started: run it without mpirun, or give "
                     "--tp 8,8,8,7");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){0}, 1, 31),
                     "the plan has 1 rank, but 31 were started: run it without mpirun");
    cr_expect_str_eq(refusal(&(ag_plan_opts_t){.tp = "2", .max_memory = "1G,2G"}, 8, 3),
                     "the plan has 2 ranks (--tp 2), but 3 were started: run mpirun -n 2");
}

/* The options of an alternative, as ", or --tp 4 --pp 3" has them. */
static void expect_makes(const char *option, uint32_t n_ranks)
{
    unsigned tp = 1, pp = 0;
    char degree[16];
    ag_plan_t *plan;

    if (sscanf(option, "--tp %u --pp %u", &tp, &pp) < 1) {
        cr_assert_eq(sscanf(option, "--pp %u", &pp), 1, "%s", option);
    }
    snprintf(degree, sizeof(degree), "%u", tp);
    plan = make_plan(&(ag_plan_opts_t){.tp = degree, .pp = pp});
    cr_expect_eq(ag_plan_ranks(plan), n_ranks, "%s for %u ranks", option, n_ranks);
    ag_plan_destroy(plan);
}

Test(plan, every_alternative_named_makes_a_plan_of_the_started_ranks)
{
    int n_options = 0;

    for (uint32_t n = 2; n <= 200; n++) {
        const char *at = n == 3 ? NULL : refusal(&(ag_plan_opts_t){.tp = "2,1"}, WORKS_FOR_ANY, n);

        cr_assert(n == 3 || strstr(at, "(--tp 2,1)") != NULL, "%s", at);
        for (at = n == 3 ? NULL : strstr(at, ", or "); at != NULL; at = strstr(at, ", or ")) {
            char option[64] = "";

            at += strlen(", or ");
            at += strncmp(at, "give ", 5) == 0 ? 5 : 0;
            memcpy(option, at, strcspn(at, ",") < 63 ? strcspn(at, ",") : 63);
            expect_makes(option, n);
            n_options++;
        }
    }
    cr_expect_gt(n_options, 300);
}

Test(plan, absurd_numbers_of_ranks_get_no_alternatives)
{
    refusal(&(ag_plan_opts_t){.tp = "2"}, WORKS_FOR_ANY, UINT32_MAX);
    cr_expect(error_says("mpirun -n 2", NULL));
    cr_expect_null(strstr(ag_error(), "give"));
}

Test(plan, a_list_of_degrees_too_long_for_a_line_is_left_out)
{
    char degrees[128] = "2";

    for (int i = 0; i < 29; i++) {
        strcat(degrees, i % 2 == 0 ? ",100" : ",2");
    }
    refusal(&(ag_plan_opts_t){.tp = degrees}, WORKS_FOR_ANY, 2);
    cr_expect(error_says("the plan has 1530 ranks (--tp), but 2 were started", NULL));
}

Test(plan, a_plan_for_another_model_is_refused)
{
    ag_plan_model_t model = smol_model();
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){0});

    cr_expect_eq(ag_plan_check_model(plan, &model), AG_OK);
    model.spec_hash[0] = 'f';
    cr_expect_eq(ag_plan_check_model(plan, &model), AG_ERR_INVALID);
    cr_expect(error_says("another model", "00112233aabbccdd", "f0112233aabbccdd", NULL));
    model = smol_model();
    model.n_layers = 31;
    cr_expect_eq(ag_plan_check_model(plan, &model), AG_ERR_INVALID);
    model = smol_model();
    model.context_tokens = 8191;
    cr_expect_eq(ag_plan_check_model(plan, &model), AG_ERR_INVALID);
    cr_expect(error_says("context", "8192", "8191", NULL));
    ag_plan_destroy(plan);
}

static void hash_of(const ag_plan_opts_t *opts, char hash[17])
{
    ag_plan_t *plan = make_plan(opts);

    cr_assert_eq(ag_plan_hash(plan, hash), AG_OK);
    ag_plan_destroy(plan);
}

Test(plan, the_hash_tells_every_decision_apart_but_budgets)
{
    static const ag_plan_opts_t decisions[] = {
        {0},
        {.tp = "2"},
        {.pp = 2},
        {.tp = "2", .tensor_split = "5,4"},
        {.tp = "2", .tensor_split = "4,5"},
        {.pipeline_split = "20,10"},
        {.compute = AG_COMPUTE_F32},
        {.context_tokens = 4096},
        {.batch_tokens = 64},
        {.n_sequences = 2},
        {.tp = "2", .overlap_tokens = "0"},
        {.tp = "2", .overlap_tokens = "64"},
    };
    enum { N = sizeof(decisions) / sizeof(*decisions) };
    char hashes[N][17], budgeted[17];

    for (int i = 0; i < N; i++) {
        ag_plan_opts_t with_budget = decisions[i];

        with_budget.max_memory = "1G";
        hash_of(&decisions[i], hashes[i]);
        hash_of(&with_budget, budgeted);
        cr_expect_str_eq(hashes[i], budgeted);
        cr_expect_eq(strspn(hashes[i], "0123456789abcdef"), 16);
        for (int j = 0; j < i; j++) {
            cr_expect_str_neq(hashes[i], hashes[j], "decisions %d and %d", i, j);
        }
    }
}

Test(plan, the_hash_is_the_same_on_every_machine)
{
    char hash[17];

    hash_of(&(ag_plan_opts_t){.tp = "2,1", .tensor_split = "5,4;1"}, hash);
    /* FNV-1a of the sorted, spaceless JSON, computed in Python */
    cr_expect_str_eq(hash, "4c6fd9841755aee9");
}

Test(mesh, every_rank_has_its_place)
{
    static const ag_place_t places[] = {{0, 0, 0}, {0, 0, 1}, {1, 0, 0},
                                        {2, 0, 0}, {2, 0, 1}, {2, 0, 2}};
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "2,1,3"});
    ag_place_t place;

    for (uint32_t rank = 0; rank < 6; rank++) {
        cr_assert_eq(ag_mesh_place(plan, rank, &place), AG_OK);
        cr_expect_eq(place.stage, places[rank].stage);
        cr_expect_eq(place.replica, places[rank].replica);
        cr_expect_eq(place.index, places[rank].index);
        cr_expect_eq(plan->stages[place.stage].replicas[place.replica].ranks[place.index], rank);
    }
    cr_expect_eq(ag_mesh_place(plan, 6, &place), AG_ERR_INVALID);
    cr_expect(error_says("6 ranks", "rank 6", NULL));
    ag_plan_destroy(plan);
}

Test(plan, steps_in_flight_share_the_sequences)
{
    static const uint32_t cases[][3] = {{1, 1, 1}, {5, 1, 5}, {1, 3, 1}, {6, 3, 2}, {7, 3, 3}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_plan_t *plan =
            make_plan(&(ag_plan_opts_t){.n_sequences = cases[i][0], .pp = cases[i][1]});

        cr_expect_eq(ag_plan_step_sequences(plan), cases[i][2], "case %zu", i);
        ag_plan_destroy(plan);
    }
}
