#include "support.h"

#include <criterion/criterion.h>
#include <stdio.h>
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

ag_status_t open_rank(ag_turn_t *turn, rank_t *rank)
{
    work_t *work = turn->arg;
    ag_plan_model_t facts;
    char path[256];
    ag_status_t status;

    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA,
             work->model != NULL ? work->model : "/tiny/llama");
    status = ag_model_open(path, &rank->model);

#define THEN(call) status = status == AG_OK ? (call) : status
    if (status == AG_OK) {
        facts = ag_build_plan_model(rank->model);
    }
    THEN(ag_plan_make(&facts, &work->opts, &rank->plan));
    THEN(ag_build_create(rank->plan, rank->model, &rank->build));
    THEN(ag_programs_create(rank->build, true, true, &rank->programs));
    if (status == AG_OK && work->change != NULL) {
        work->change(work->change_arg, &rank->programs);
    }
    THEN(ag_ledger_create(0, &rank->ledger));
    THEN(ag_team_create(&(ag_team_opts_t){.n_threads = 1}, &rank->team));
    THEN(ag_device_cpu_open(rank->team, rank->ledger, &rank->device));
    THEN(ag_job_create(
        &(ag_job_opts_t){.build = rank->build,
                         .programs = &rank->programs,
                         .net = turn->net,
                         .team = rank->team,
                         .device = rank->device,
                         .clock = work->clock.now_ns != NULL ? work->clock : ag_clock_monotonic(),
                         .wait = turn->wait,
                         .idle = turn->idle,
                         .cancel = work->cancel},
        &rank->job));
#undef THEN
    return status;
}

void close_rank(rank_t *rank)
{
    ag_job_destroy(rank->job);
    ag_device_close(rank->device);
    ag_team_destroy(rank->team);
    cr_expect(rank->ledger == NULL || ag_ledger_total(rank->ledger) == 0, "memory is given back");
    ag_ledger_destroy(rank->ledger);
    ag_programs_destroy(&rank->programs);
    ag_build_destroy(rank->build);
    ag_plan_destroy(rank->plan);
    ag_model_close(rank->model);
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    work_t *work = turn->arg;
    ag_eval_opts_t opts = {
        .window_tokens = work->n_ids, .bos = -1, .on_logits = keep_logits, .arg = work};
    ag_run_figures_t figures = {0};
    ag_eval_result_t result = {0};
    rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        status = ag_eval(rank.job, work->ids, work->n_ids, &opts, &result, &figures);
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
