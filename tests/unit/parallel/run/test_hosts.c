/* Ranks on several hosts: what groups know of them, and what that leaves as it was. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file/npy.h"
#include "support.h"

/* A plan's programs, without a job. */
typedef struct setup {
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    ag_programs_t programs;
} setup_t;

static void open_setup(setup_t *setup, const ag_plan_opts_t *opts)
{
    ag_plan_model_t facts;

    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/mixtral", &setup->model), AG_OK);
    facts = ag_build_plan_model(setup->model);
    cr_assert_eq(ag_plan_make(&facts, opts, &setup->plan), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_build_create(setup->plan, setup->model, &setup->build), AG_OK);
    cr_assert_eq(ag_programs_create(setup->build, false, false, &setup->programs), AG_OK);
}

static void close_setup(setup_t *setup)
{
    ag_programs_destroy(&setup->programs);
    ag_build_destroy(setup->build);
    ag_plan_destroy(setup->plan);
    ag_model_close(setup->model);
}

/* The hosts of the group of these many ranks from the first on. */
static const uint32_t *hosts_of(const ag_programs_t *programs, uint32_t first, uint32_t n_ranks)
{
    const ag_array_t *groups = &programs->programs[0]->groups;

    for (size_t g = 0; g < groups->n_items; g++) {
        const ag_program_group_t *group = &AG_ITEMS(groups, ag_program_group_t)[g];

        if (group->n_ranks == n_ranks && group->ranks[0] == first) {
            return programs->hosts[g];
        }
    }
    cr_assert_fail("no group of ranks %u to %u", first, first + n_ranks - 1);
    return NULL;
}

/* Stages of ranks 0 to 3 and 4 to 5. */
Test(hosts, are_numbered_in_each_group_and_where_there_is_one_nobody_knows_of_it)
{
    static const uint32_t hosts[] = {70, 9, 70, 4, 9}, wanted[] = {0, 1, 0, 2};
    setup_t setup;

    open_setup(&setup, &(ag_plan_opts_t){.ep = "4,2", .tp = "1,1", .pp = 2});
    cr_assert_eq(ag_programs_set_hosts(&setup.programs, hosts, 5), AG_OK);
    cr_expect_arr_eq(hosts_of(&setup.programs, 0, 4), wanted, sizeof(wanted));
    cr_expect_null(hosts_of(&setup.programs, 4, 2), "rank 5 stands where rank 4 does");
    close_setup(&setup);
}

static uint64_t messages_of(const ag_plan_opts_t *opts, const uint32_t *hosts)
{
    uint64_t bytes = 0;
    ag_memory_t memory;
    setup_t setup;

    open_setup(&setup, opts);
    cr_assert_eq(ag_programs_set_hosts(&setup.programs, hosts, 4), AG_OK);
    memory = ag_memory_foretell(setup.build, &setup.programs, 1, 1, false);
    for (uint32_t i = 0; i < memory.n_parts; i++) {
        bytes += strcmp(memory.parts[i].name, "messages") == 0 ? memory.parts[i].bytes : 0;
    }
    close_setup(&setup);
    return bytes;
}

/* What is passed on for others is staged, and all numbers are known, where hosts have several. */
Test(hosts, of_several_ranks_each_cost_memory_for_what_is_passed_on)
{
    static const uint32_t one[] = {0, 0, 0, 0}, apart[] = {0, 1, 2, 3}, two[] = {0, 1, 1, 0};
    static const ag_plan_opts_t opts = {.ep = "4", .tp = "1"};
    uint64_t alone = messages_of(&opts, one);

    cr_expect_eq(messages_of(&opts, apart), alone);
    cr_expect_gt(messages_of(&opts, two), alone);
}

/* Rows for experts go by host, sums of attention are small: nothing is added in another order. */
Test(hosts, leave_the_bits_of_small_jobs_as_they_are)
{
    static const uint32_t hosts[][6] = {{0, 1, 1, 0, 1}, {3, 3, 3, 3, 8}, {0, 1, 0, 1, 0, 1}};
    static const ag_plan_opts_t opts[] = {
        {.ep = "5", .tp = "1"}, {.ep = "5", .tp = "1"}, {.ep = "3,3", .tp = "3,3", .pp = 2}};
    static const uint32_t n_ranks[] = {5, 5, 6};
    static work_t one, spread;
    int32_t *ids;
    size_t n_ids;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq33.npy", &ids, &n_ids), AG_OK);
    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        one = (work_t){
            .model = "/tiny/mixtral", .opts = opts[i], .ids = ids, .n_ids = (uint32_t)n_ids};
        one.opts.compute = AG_COMPUTE_F32;
        spread = one;
        spread.hosts = hosts[i];
        cr_assert(run_work(&one, n_ranks[i], i, "on one host"));
        cr_assert(run_work(&spread, n_ranks[i], i + 10, "on several"));
        cr_expect_eq(memcmp(one.logits, spread.logits, sizeof(one.logits)), 0, "job %zu", i);
    }
    free(ids);
}
