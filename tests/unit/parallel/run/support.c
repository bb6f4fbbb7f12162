#include "support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/driver.h"
#include "runtime/base/philox.h"

static ag_status_t keep_logits(void *arg, const float *logits, uint64_t n_rows)
{
    work_t *work = arg;

    cr_assert_leq(work->n_rows + n_rows, work->n_ids);
    memcpy(work->logits + work->n_rows * VOCAB, logits, n_rows * VOCAB * sizeof(float));
    work->n_rows += n_rows;
    return AG_OK;
}

const ag_device_lazy_opts_t *devices_of_tests(void)
{
    static const ag_device_lazy_opts_t lazy = {.seed = 7};
    const char *name = getenv("ARGOSY_DEVICE");

    return name != NULL && strcmp(name, "lazy") == 0 ? &lazy : NULL;
}

static const ag_device_lazy_opts_t *device_of(const work_t *work, int rank,
                                              ag_device_lazy_opts_t *lazy)
{
    const ag_device_lazy_opts_t *opts = work->lazy != NULL ? work->lazy : devices_of_tests();

    if (opts == NULL) {
        return NULL;
    }
    *lazy = *opts;
    if (rank != work->lazy_rank) {
        lazy->forgotten = lazy->late = 0;
    }
    return lazy;
}

ag_status_t open_rank(ag_turn_t *turn, ag_rank_t *rank)
{
    const work_t *work = turn->arg;
    ag_device_lazy_opts_t lazy;
    char path[256];

    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA,
             work->model != NULL ? work->model : "/tiny/llama");
    return ag_rank_open(turn,
                        &(ag_rank_opts_t){.model = path,
                                          .plan = &work->opts,
                                          .hosts = work->hosts,
                                          .lazy = device_of(work, turn->net->rank, &lazy),
                                          .clock = work->clock,
                                          .cancel = work->cancel,
                                          .change = work->change,
                                          .change_arg = work->change_arg},
                        rank);
}

void close_rank(ag_rank_t *rank)
{
    cr_expect_eq(ag_rank_close(rank), 0, "memory is given back");
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    work_t *work = turn->arg;
    ag_eval_opts_t opts = {
        .window_tokens = work->n_ids, .bos = -1, .on_logits = keep_logits, .arg = work};
    ag_run_figures_t figures = {0};
    ag_eval_result_t result = {0};
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        status = ag_eval(rank.job, work->ids, work->n_ids, &opts, &result, &figures);
        work->router_gap = ag_job_router_gap(rank.job);
        cr_expect_eq(ag_job_stop(rank.job), AG_OK);
    }
    if (status != AG_OK && status != AG_ERR_INVALID) {
        printf("rank %d: %s\n", turn->net->rank, ag_error());
    }
    close_rank(&rank);
    return status;
}

static uint32_t up_to(uint64_t seed, uint64_t *at, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(seed, 2, (*at)++) * n);
}

void draw_options(uint64_t seed, draw_t *draw)
{
    uint64_t at = 0;
    uint32_t n_stages = 1 + up_to(seed, &at, 3), layers_left = 3;

    memset(draw, 0, sizeof(*draw));
    for (uint32_t s = 0; s < n_stages; s++) {
        uint32_t degree = 1 + up_to(seed, &at, s == 0 ? 5 : 3);
        uint32_t layers = s + 1 == n_stages
                              ? layers_left
                              : 1 + up_to(seed, &at, layers_left - (n_stages - s - 1));

        layers_left -= layers;
        draw->n_ranks += degree;
        sprintf(draw->tp + strlen(draw->tp), "%s%u", s > 0 ? "," : "", degree);
        sprintf(draw->pipeline_split + strlen(draw->pipeline_split), "%s%u", s > 0 ? "," : "",
                layers);
        for (uint32_t i = 0; i < degree; i++) {
            sprintf(draw->tensor_split + strlen(draw->tensor_split), "%s%u",
                    i > 0   ? ","
                    : s > 0 ? ";"
                            : "",
                    1 + up_to(seed, &at, 4));
        }
    }
    draw->opts = (ag_plan_opts_t){.tp = draw->tp,
                                  .tensor_split = draw->tensor_split,
                                  .pipeline_split = draw->pipeline_split,
                                  .compute = AG_COMPUTE_F32,
                                  .batch_tokens = 1 + up_to(seed, &at, 40)};
    if (draw->n_ranks > n_stages) { /* else no stage has several */
        sprintf(draw->overlap_tokens, "%u", up_to(seed, &at, 12));
        draw->opts.overlap_tokens = draw->overlap_tokens;
    }
}

void draw_experts(uint64_t seed, draw_t *draw)
{
    uint64_t at = 0;
    uint32_t n_stages = 1 + up_to(seed, &at, 2);

    memset(draw, 0, sizeof(*draw));
    draw->model = "/tiny/mixtral";
    for (uint32_t s = 0; s < n_stages; s++) {
        uint32_t degree = 1 + up_to(seed, &at, s == 0 ? 6 : 3), left = 5;
        bool is_tensor = degree <= 3 && up_to(seed, &at, 2) == 0;

        draw->n_ranks += degree;
        sprintf(draw->tp + strlen(draw->tp), "%s%u", s > 0 ? "," : "", is_tensor ? degree : 1);
        sprintf(draw->ep + strlen(draw->ep), "%s%u", s > 0 ? "," : "", degree);
        for (uint32_t i = 0; i < degree; i++) {
            uint32_t n = i + 1 == degree ? left : up_to(seed, &at, left + 1);

            left -= n;
            sprintf(draw->expert_split + strlen(draw->expert_split), "%s%u",
                    i > 0   ? ","
                    : s > 0 ? ";"
                            : "",
                    n);
        }
    }
    draw->opts = (ag_plan_opts_t){.tp = draw->tp,
                                  .pp = n_stages,
                                  .ep = draw->ep,
                                  .expert_split = draw->expert_split,
                                  .compute = AG_COMPUTE_F32,
                                  .batch_tokens = 1 + up_to(seed, &at, 40)};
}

bool run_work(work_t *work, uint32_t n_ranks, uint64_t seed, const char *what)
{
    ag_status_t statuses[16];
    uint32_t n_refused = 0;

    ag_turns_run(n_ranks, seed, run_rank, work, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        n_refused += statuses[r] == AG_ERR_INVALID;
    }
    if (n_refused == n_ranks) {
        return false;
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "%s: rank %u: %s", what, r, ag_status_name(statuses[r]));
    }
    cr_assert_eq(work->n_rows, work->n_ids, "%s: %lu rows", what, (unsigned long)work->n_rows);
    return true;
}

/* Uneven shares of so many floats, which draw none in some places. */
static void draw_shares(uint64_t seed, uint64_t n, uint64_t *floats, uint32_t n_ranks)
{
    for (uint32_t r = 0; r + 1 < n_ranks; r++) {
        double drawn = ag_philox_uniform(seed, r, 0);

        floats[r] = drawn < 0.2 ? 0 : (uint64_t)(drawn * (double)n);
        n -= floats[r];
    }
    floats[n_ranks - 1] = n;
}

/* An operation that comes right after another one, and that others wait for in its place. */
static void insert_after(ag_rank_program_t *rank, uint32_t at, const ag_op_t *op,
                         const ag_use_t *use)
{
    ag_op_t added = *op;
    uint32_t *deps = AG_ITEMS(&rank->deps, uint32_t);

    for (size_t i = 0; i < rank->deps.n_items; i++) {
        deps[i] += deps[i] >= at;
    }
    added.first_use = (uint32_t)rank->uses.n_items;
    added.n_deps = 0;
    cr_assert_eq(ag_array_append(&rank->uses, use, 1), AG_OK);
    cr_assert_eq(ag_array_append(&rank->ops, NULL, 1), AG_OK);
    memmove(&ag_rank_ops(rank)[at + 2], &ag_rank_ops(rank)[at + 1],
            (rank->ops.n_items - at - 2) * sizeof(ag_op_t));
    ag_rank_ops(rank)[at + 1] = added;
}

void sum_in_shares(void *arg, ag_programs_t *programs)
{
    ag_program_t *program = programs->programs[0];
    unsigned *n_met_p = arg;

    for (uint32_t r = 0; r < program->n_ranks; r++) {
        ag_rank_program_t *rank = &program->ranks[r];
        uint32_t n = 0; /* of the rank's */

        for (uint32_t i = 0; i < rank->ops.n_items; i++) {
            ag_op_t *op = &ag_rank_ops(rank)[i], gather;
            ag_use_t *use = &AG_ITEMS(&rank->uses, ag_use_t)[op->first_use], gathered = *use;
            uint64_t floats[16];
            uint32_t n_ranks;

            if (op->kind != AG_OP_ALL_REDUCE || program->bounds[op->counter] != 1) {
                continue;
            }
            n_ranks = AG_ITEMS(&program->groups, ag_program_group_t)[op->subject].n_ranks;
            draw_shares(op->subject * 1000 + n++, op->unit_bytes / sizeof(float), floats, n_ranks);
            cr_assert_eq(ag_program_share_out(program, floats, n_ranks, &op->shares), AG_OK);
            op->kind = AG_OP_REDUCE_SCATTER;
            use->mode |= AG_USE_SHARE;
            gather = *op;
            gather.kind = AG_OP_ALL_GATHER;
            insert_after(rank, i++, &gather, &gathered);
        }
        *n_met_p += n;
    }
}
