/* What a saver takes is known before it is made. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel/run/catalog.h"
#include "rank.h"

typedef struct foretold {
    const char *model;
    ag_plan_opts_t opts;
    char dir[64];
} foretold_t;

static ag_status_t run_rank(ag_turn_t *turn)
{
    const foretold_t *foretold = turn->arg;
    uint32_t number = (uint32_t)turn->net->rank;
    ag_catalog_t *catalog = NULL;
    ag_saver_t *saver = NULL;
    ag_rank_t rank = {0};
    char path[256];
    size_t n;
    ag_status_t status;

    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA, foretold->model);
    status = ag_rank_open(turn, &(ag_rank_opts_t){.model = path, .plan = &foretold->opts}, &rank);
    if (status == AG_OK) {
        status = ag_catalog_foretell(rank.build);
    }
    if (status == AG_OK) {
        status = ag_catalog_create(rank.job, &catalog);
    }
    if (status == AG_OK) {
        const ag_saved_tensor_t *saved = ag_catalog_saved(catalog, &n);

        status = ag_saver_create(
            turn->net, &turn->idle,
            &(ag_saver_opts_t){.dir = foretold->dir, .spec_hash = "0", .is_stepped = true}, saved,
            n, &saver);
    }
    if (status == AG_OK) {
        uint64_t bytes = ag_saver_bytes(saver);

        cr_expect_gt(bytes, 0);
        cr_expect_eq(rank.build->ranks[number].saved_bytes, bytes, "rank %u: %lu, not %lu", number,
                     (unsigned long)rank.build->ranks[number].saved_bytes, (unsigned long)bytes);
        status = number == 0 ? ag_job_stop(rank.job) : ag_job_follow(rank.job);
    }
    ag_saver_destroy(saver);
    ag_catalog_destroy(catalog);
    ag_rank_close(&rank);
    return status;
}

Test(checkpoint_foretold, is_what_each_rank_writes)
{
    static const struct {
        const char *model;
        ag_plan_opts_t opts;
        uint32_t n_ranks;
    } of[] = {
        {"/tiny/llama", {.dp = 1}, 1},
        {"/tiny/llama", {.tensor_split = "5,4", .pp = 2}, 4},
        {"/tiny/llama", {.dp = 3, .micro_batches = "2,1,1", .zero_stage = 1}, 3},
        {"/tiny/llama", {.dp = 2, .tp = "2"}, 4},
        {"/tiny/mixtral", {.tp = "2", .dp = 2, .ep = "4"}, 4},
        {"/tiny/mixtral", {.pp = 2, .ep = "2", .expert_split = "1,4", .zero_stage = 1}, 4},
    };

    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        foretold_t foretold = {.model = of[i].model, .opts = of[i].opts};
        ag_status_t statuses[4];

        snprintf(foretold.dir, sizeof(foretold.dir), "%s", "/tmp/argosy-foretold-XXXXXX");
        cr_assert_not_null(mkdtemp(foretold.dir));
        foretold.opts.sequence_tokens = 16;
        foretold.opts.global_batch_size = 4;
        ag_turns_run(of[i].n_ranks, 1, run_rank, &foretold, statuses);
        for (uint32_t r = 0; r < of[i].n_ranks; r++) {
            cr_expect_eq(statuses[r], AG_OK, "plan %zu, rank %u", i, r);
        }
        remove(foretold.dir);
    }
}
