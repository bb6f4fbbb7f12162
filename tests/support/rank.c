#include "rank.h"

#include <stdlib.h>
#include <string.h>

static ag_status_t make_plan(const ag_rank_opts_t *opts, ag_rank_t *rank)
{
    ag_plan_model_t facts = ag_build_plan_model(rank->model);
    ag_json_t *json = NULL;
    ag_status_t status;

    if (opts->plan != NULL) {
        return ag_plan_make(&facts, opts->plan, &rank->plan);
    }
    status = ag_json_parse(opts->plan_json, strlen(opts->plan_json), "the plan", &json);
    if (status == AG_OK) {
        status = ag_plan_from_json(json, "the plan", &rank->plan);
    }
    ag_json_destroy(json);
    return status == AG_OK ? ag_plan_check_model(rank->plan, &facts) : status;
}

/* What the ledger will be asked for. */
static uint64_t foretold_bytes(const ag_rank_t *rank, int number, bool staged)
{
    ag_memory_t memory =
        ag_memory_foretell(rank->build, &rank->programs, (uint32_t)number, 1, staged);
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < memory.n_parts; i++) {
        bytes += memory.parts[i].is_region ? memory.parts[i].bytes : 0;
    }
    return bytes;
}

void ag_rank_fill_budgets(ag_plan_t *plan, const ag_build_t *build, const ag_programs_t *programs,
                          bool staged)
{
    plan->n_budgets = ag_plan_ranks(plan);
    free(plan->budget_bytes);
    plan->budget_bytes = calloc(plan->n_budgets, sizeof(uint64_t));
    for (uint32_t r = 0; r < plan->n_budgets && plan->budget_bytes != NULL; r++) {
        ag_memory_t memory = ag_memory_foretell(build, programs, r, 1, staged);

        for (uint32_t i = 0; i < memory.n_parts; i++) {
            plan->budget_bytes[r] += memory.parts[i].bytes;
        }
    }
}

static ag_status_t open_device(const ag_turn_t *turn, const ag_rank_opts_t *opts, ag_rank_t *rank)
{
    ag_device_lazy_opts_t lazy;

    if (opts->lazy == NULL) {
        return ag_device_cpu_open(rank->team, rank->ledger, &rank->device);
    }
    lazy = *opts->lazy;
    lazy.seed = lazy.seed * 64 + (uint64_t)turn->net->rank;
    lazy.on_work = turn->work.fn;
    lazy.arg = turn->work.arg;
    return ag_device_lazy_open(rank->team, rank->ledger, &lazy, &rank->device);
}

ag_status_t ag_rank_open(const ag_turn_t *turn, const ag_rank_opts_t *opts, ag_rank_t *rank)
{
    ag_status_t status = ag_model_open(opts->model, &rank->model);

#define THEN(call) status = status == AG_OK ? (call) : status
    THEN(make_plan(opts, rank));
    THEN(ag_build_create(rank->plan, rank->model, &rank->build));
    THEN(ag_programs_create(rank->build, !opts->last_outputs_only, true, &rank->programs));
    if (status == AG_OK && opts->hosts != NULL) {
        status = ag_programs_set_hosts(&rank->programs, opts->hosts, (uint32_t)turn->net->n_ranks);
    }
    if (status == AG_OK && opts->change != NULL) {
        opts->change(opts->change_arg, &rank->programs);
    }
    if (status == AG_OK && opts->has_budget) {
        ag_rank_fill_budgets(rank->plan, rank->build, &rank->programs, opts->lazy != NULL);
    }
    THEN(ag_ledger_create(
        opts->has_budget ? foretold_bytes(rank, turn->net->rank, opts->lazy != NULL) : 0,
        &rank->ledger));
    THEN(ag_team_create(&(ag_team_opts_t){.n_threads = 1}, &rank->team));
    THEN(open_device(turn, opts, rank));
    THEN(ag_job_create(
        &(ag_job_opts_t){.build = rank->build,
                         .programs = &rank->programs,
                         .net = turn->net,
                         .team = rank->team,
                         .device = rank->device,
                         .clock = opts->clock.now_ns != NULL ? opts->clock : turn->clock,
                         .wait = turn->wait,
                         .idle = turn->idle,
                         .cancel = opts->cancel},
        &rank->job));
#undef THEN
    return status;
}

uint64_t ag_rank_close(ag_rank_t *rank)
{
    uint64_t bytes;

    ag_job_destroy(rank->job);
    ag_device_close(rank->device);
    ag_team_destroy(rank->team);
    bytes = rank->ledger != NULL ? ag_ledger_total(rank->ledger) : 0;
    ag_ledger_destroy(rank->ledger);
    ag_programs_destroy(&rank->programs);
    ag_build_destroy(rank->build);
    ag_plan_destroy(rank->plan);
    ag_model_close(rank->model);
    return bytes;
}
