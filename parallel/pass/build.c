#include "parallel/pass/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/pass/pass.h"
#include "parallel/program/check.h"
#include "parallel/schedule/schedule.h"

ag_plan_model_t ag_build_plan_model(const ag_model_t *model)
{
    ag_plan_model_t facts = {.family = model->spec->family,
                             .n_layers = model->spec->n_layers,
                             .context_tokens = model->spec->context_tokens,
                             .n_experts = ag_spec_experts(model->spec).n};

    for (uint32_t i = 0; i < model->spec->n_layer_kinds; i++) {
        const ag_layer_spec_t *kind = &model->spec->layer_kinds[i];

        facts.norms_elsewhere |= !kind->norms_before || kind->norms_after;
    }
    snprintf(facts.spec_hash, sizeof(facts.spec_hash), "%s", model->spec->hash);
    return facts;
}

/* One dimension of a stage, shared out: range i of `ranges` is the replica's i-th rank's. */
static ag_status_t share_out(const ag_replica_t *replica, uint64_t total, uint64_t unit,
                             ag_range_t *ranges)
{
    return ag_shares_split(total, unit, replica->shares, replica->n_ranks, ranges);
}

/* The same of what ranks have whole that are not tensor-parallel. */
static ag_status_t share_out_tensor(const ag_replica_t *replica, uint64_t total, uint64_t unit,
                                    ag_range_t *ranges)
{
    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        ranges[i] = (ag_range_t){0, total};
    }
    return replica->tensor_ranks > 1 ? share_out(replica, total, unit, ranges) : AG_OK;
}

static ag_status_t share_kind(ag_build_t *build, const ag_replica_t *replica, uint32_t kind,
                              ag_range_t *ranges)
{
    const ag_layer_spec_t *layer = &build->model->spec->layer_kinds[kind];
    ag_model_units_t units;
    ag_status_t status = ag_model_units(build->model, kind, &units);

    if (status == AG_OK) {
        status = share_out_tensor(replica, layer->n_heads, units.heads, ranges);
    }
    for (uint32_t i = 0; status == AG_OK && i < replica->n_ranks; i++) {
        ag_layer_shard_t *shard = &build->ranks[replica->ranks[i]].shard.layers[kind];

        shard->head_begin = (uint32_t)ranges[i].begin;
        shard->head_end = (uint32_t)ranges[i].end;
    }
    if (status == AG_OK) {
        status = share_out_tensor(replica, layer->route.n_experts > 0 ? 0 : layer->ffn_width,
                                  units.ffn_columns, ranges);
    }
    for (uint32_t i = 0; status == AG_OK && i < replica->n_ranks; i++) {
        ag_layer_shard_t *shard = &build->ranks[replica->ranks[i]].shard.layers[kind];

        shard->ffn_begin = (uint32_t)ranges[i].begin;
        shard->ffn_end = (uint32_t)ranges[i].end;
    }
    if (status == AG_OK) {
        status = share_out(replica, layer->shared_width, units.shared_columns, ranges);
    }
    for (uint32_t i = 0; status == AG_OK && i < replica->n_ranks; i++) {
        ag_layer_shard_t *shard = &build->ranks[replica->ranks[i]].shard.layers[kind];

        shard->shared_begin = (uint32_t)ranges[i].begin;
        shard->shared_end = (uint32_t)ranges[i].end;
    }
    return status;
}

/* What of a step's rows is the replica's i-th rank's alone: by its share where ranks do for their
 * rows what they have whole, else the same of each. */
static void share_rows(const ag_replica_t *replica, bool by_shares, uint32_t i, ag_shard_t *shard)
{
    shard->norms_own_rows = by_shares;
    shard->row_part = shard->n_row_parts = 0;
    for (uint32_t r = 0; r < replica->n_ranks; r++) {
        uint32_t n = by_shares ? replica->shares[r] : 1;

        shard->row_part += r < i ? n : 0;
        shard->row_part_end = r == i ? shard->row_part + n : shard->row_part_end;
        shard->n_row_parts += n;
    }
}

static ag_status_t share_vocabulary(ag_build_t *build, const ag_replica_t *replica,
                                    ag_range_t *ranges)
{
    bool by_shares = ag_plan_shares_rows(build->plan, replica);
    ag_model_units_t units;
    ag_status_t status = ag_model_units(build->model, 0, &units);

    if (status == AG_OK) {
        status = share_out(replica, build->model->spec->vocab, units.vocab, ranges);
    }
    for (uint32_t i = 0; status == AG_OK && i < replica->n_ranks; i++) {
        ag_shard_t *shard = &build->ranks[replica->ranks[i]].shard;

        shard->index = replica->tensor_ranks > 1 ? i : 0;
        shard->n_ranks = replica->tensor_ranks;
        shard->stage_index = i;
        shard->n_stage_ranks = replica->n_ranks;
        share_rows(replica, by_shares, i, shard);
        shard->vocab_begin = (uint32_t)ranges[i].begin;
        shard->vocab_end = (uint32_t)ranges[i].end;
    }
    return status;
}

static bool is_holder(const ag_holders_t *holders, uint32_t expert, uint32_t rank)
{
    for (uint32_t i = holders->begin[expert]; i < holders->begin[expert + 1]; i++) {
        if (holders->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

/* Ranks that send each other rows. */
typedef struct exchange {
    uint32_t *ranks; /* (n) */
    uint32_t n, n_replicas;
    bool are_alike; /* replicas of the stage */
} exchange_t;

static bool is_member(const exchange_t *exchange, uint32_t rank)
{
    for (uint32_t i = 0; i < exchange->n; i++) {
        if (exchange->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

/* The number of a place: of the holds before it, rank after rank. */
static uint32_t place_of(const ag_holders_t *holders, const exchange_t *exchange, uint32_t rank,
                         uint32_t expert)
{
    uint32_t place = 0;

    for (uint32_t i = 0; exchange->ranks[i] != rank; i++) {
        for (uint32_t e = 0; e < holders->n_experts; e++) {
            place += is_holder(holders, e, exchange->ranks[i]);
        }
    }
    for (uint32_t e = 0; e < expert; e++) {
        place += is_holder(holders, e, rank);
    }
    return place;
}

/* Where a rank's rows go: to itself where it holds the expert, else to one of the holders. */
static void list_places(const ag_holders_t *holders, const exchange_t *exchange, uint32_t rank,
                        ag_expert_shard_t *experts)
{
    uint32_t at = 0;

    for (uint32_t e = 0; e < holders->n_experts; e++) {
        for (uint32_t i = holders->begin[e]; i < holders->begin[e + 1]; i++) {
            if (is_member(exchange, holders->ranks[i]) &&
                (holders->ranks[i] == rank || !is_holder(holders, e, rank))) {
                experts->places[at++] = place_of(holders, exchange, holders->ranks[i], e);
            }
        }
        experts->place_begin[e + 1] = at;
        if (is_holder(holders, e, rank)) {
            experts->held[experts->n_held++] = e;
        }
    }
}

static ag_status_t share_experts(const ag_holders_t *holders, const exchange_t *exchange,
                                 uint32_t index, ag_expert_shard_t *experts)
{
    uint32_t n = holders->n_experts;

    experts->index = index;
    experts->n_ranks = exchange->n;
    experts->n_replicas = exchange->n_replicas;
    experts->are_alike = exchange->are_alike;
    experts->held = calloc(n, sizeof(uint32_t));
    experts->n_held_of = calloc(exchange->n, sizeof(uint32_t));
    experts->place_begin = calloc((size_t)n + 1, sizeof(uint32_t));
    experts->places = calloc(holders->begin[n], sizeof(uint32_t));
    if (experts->held == NULL || experts->n_held_of == NULL || experts->place_begin == NULL ||
        experts->places == NULL) {
        return ag_fail_nomem("sharing experts out", holders->begin[n] * sizeof(uint32_t));
    }
    list_places(holders, exchange, exchange->ranks[index], experts);
    for (uint32_t i = 0; i < exchange->n; i++) {
        for (uint32_t e = 0; e < n; e++) {
            experts->n_held_of[i] += is_holder(holders, e, exchange->ranks[i]);
        }
        experts->n_places += experts->n_held_of[i];
    }
    return AG_OK;
}

/* A stage's experts: over the ranks of each run of replicas that hold all of them. */
static ag_status_t share_stage_experts(ag_build_t *build, const ag_stage_t *stage)
{
    exchange_t exchange = {.ranks = calloc((size_t)build->n_ranks + 1, sizeof(uint32_t)),
                           .are_alike = ag_stage_experts_are_alike(stage)};
    ag_status_t status = exchange.ranks == NULL
                             ? ag_fail_nomem("sharing experts out", build->n_ranks * 4ull)
                             : AG_OK;

    for (uint32_t begin = 0, end; begin < stage->n_replicas && status == AG_OK; begin = end) {
        end = ag_stage_experts_end(stage, begin);
        exchange.n = 0;
        exchange.n_replicas = end - begin;
        for (uint32_t i = begin; i < end; i++) {
            for (uint32_t r = 0; r < stage->replicas[i].n_ranks; r++) {
                exchange.ranks[exchange.n++] = stage->replicas[i].ranks[r];
            }
        }
        for (uint32_t i = 0; i < exchange.n && status == AG_OK; i++) {
            status = share_experts(&stage->experts, &exchange, i,
                                   &build->ranks[exchange.ranks[i]].shard.experts);
        }
    }
    free(exchange.ranks);
    return status;
}

static bool holds_nothing(const ag_build_t *build, uint32_t rank)
{
    const ag_shard_t *shard = &build->ranks[rank].shard;
    uint32_t stage = build->ranks[rank].place.stage;
    bool has_vocab = stage == 0 || stage + 1 == build->plan->n_stages;

    for (uint32_t k = 0; k < shard->n_layer_kinds; k++) {
        if (shard->layers[k].head_end > shard->layers[k].head_begin ||
            shard->layers[k].ffn_end > shard->layers[k].ffn_begin ||
            shard->layers[k].shared_end > shard->layers[k].shared_begin) {
            return false;
        }
    }
    return shard->experts.n_held == 0 && (!has_vocab || shard->vocab_end == shard->vocab_begin);
}

static unsigned long long sum_of_shares(const ag_replica_t *replica)
{
    unsigned long long sum = 0;

    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        sum += replica->shares[i];
    }
    return sum;
}

/* KV heads that query heads of several ranks use. */
static void find_shared_heads(ag_build_t *build, const ag_replica_t *replica, uint32_t kind)
{
    for (uint32_t i = 0; i < replica->n_ranks; i++) {
        ag_layer_shard_t *of = &build->ranks[replica->ranks[i]].shard.layers[kind];

        for (uint32_t j = 0; j < replica->n_ranks; j++) {
            const ag_layer_shard_t *other = &build->ranks[replica->ranks[j]].shard.layers[kind];

            of->shares_kv |= i != j && of->kv_begin < other->kv_end && other->kv_begin < of->kv_end;
        }
    }
}

static ag_status_t share_replica(ag_build_t *build, uint32_t stage, const ag_replica_t *replica)
{
    ag_range_t *ranges = calloc((size_t)replica->n_ranks + 1, sizeof(*ranges));
    ag_status_t status = ranges == NULL ? ag_fail_nomem("sharing a stage out", replica->n_ranks)
                                        : share_vocabulary(build, replica, ranges);

    for (uint32_t k = 0; k < build->model->spec->n_layer_kinds && status == AG_OK; k++) {
        status = share_kind(build, replica, k, ranges);
    }
    for (uint32_t i = 0; i < replica->n_ranks && status == AG_OK; i++) {
        uint32_t rank = replica->ranks[i];

        status = ag_shard_complete(build->model->spec, &build->ranks[rank].shard);
        if (status == AG_OK && holds_nothing(build, rank)) {
            status = ag_fail(AG_ERR_INVALID,
                             "rank %u would have nothing to hold (a share of %u in %llu of stage "
                             "%u): use fewer ranks there, or give it a larger share",
                             rank, replica->shares[i], sum_of_shares(replica), stage);
        }
    }
    for (uint32_t k = 0; k < build->model->spec->n_layer_kinds && status == AG_OK; k++) {
        find_shared_heads(build, replica, k);
    }
    free(ranges);
    return status;
}

ag_status_t ag_build_create(const ag_plan_t *plan, const ag_model_t *model, ag_build_t **build_p)
{
    ag_build_t *build = calloc(1, sizeof(*build));
    uint32_t n_ranks = ag_plan_ranks(plan);
    ag_status_t status = AG_OK;

    if (build != NULL) {
        build->ranks = calloc((size_t)n_ranks + 1, sizeof(*build->ranks));
    }
    if (build == NULL || build->ranks == NULL) {
        free(build);
        return ag_fail_nomem("building a job", n_ranks * sizeof(*build->ranks));
    }
    if (plan->train.sequence_parallel && ag_build_plan_model(model).norms_elsewhere) {
        ag_build_destroy(build);
        return ag_fail(
            AG_ERR_INVALID,
            "the plan's train.sequence_parallel is for models that have norms before the "
            "parts of their layers alone, this %s has others: make it false",
            model->spec->family);
    }
    build->plan = plan;
    build->model = model;
    build->n_ranks = n_ranks;
    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        ag_params_init(&build->ranks[r].params,
                       plan->compute == AG_COMPUTE_F32 || plan->train.sequence_tokens > 0);
        status = ag_mesh_place(plan, r, &build->ranks[r].place);
    }
    for (uint32_t s = 0; s < plan->n_stages && status == AG_OK; s++) {
        if (plan->stages[s].experts.n_experts > 0) {
            status = share_stage_experts(build, &plan->stages[s]);
        }
        for (uint32_t i = 0; i < plan->stages[s].n_replicas && status == AG_OK; i++) {
            status = share_replica(build, s, &plan->stages[s].replicas[i]);
        }
    }
    if (status != AG_OK) {
        ag_build_destroy(build);
        return status;
    }
    *build_p = build;
    return AG_OK;
}

void ag_build_destroy(ag_build_t *build)
{
    if (build == NULL) {
        return;
    }
    for (uint32_t r = 0; r < build->n_ranks; r++) {
        ag_shard_fini(&build->ranks[r].shard);
        ag_params_fini(&build->ranks[r].params);
    }
    free(build->ranks);
    free(build);
}

static void free_graph(void *inside)
{
    ag_graph_fini(inside);
    free(inside);
}

/* Inference: one micro-batch through the stages and back. */
static ag_status_t expand(ag_program_t *program, ag_build_t *build)
{
    ag_schedule_t *schedule = NULL;
    ag_status_t status = ag_generate_ring(
        &(ag_pipeline_shape_t){.stages = build->plan->n_stages, .micro_batches = 1}, &schedule);

    if (status == AG_OK) {
        status = ag_pass_expand(program, build, schedule);
    }
    ag_schedule_destroy(schedule);
    return status;
}

/* The passes in order, and what the checker may expect after each. */
static ag_status_t run_passes(ag_program_t *program, ag_build_t *build, bool evaluates, bool check)
{
    const ag_plan_t *plan = build->plan;
    bool trains = plan->train.sequence_tokens > 0;
    ag_status_t status =
        trains ? ag_pass_expand_train(program, build, evaluates) : expand(program, build);

#define CHECK(stage, name)                                                                         \
    status = status == AG_OK && check ? ag_program_check(program, plan, stage, name) : status
    CHECK(AG_CHECK_EXPANDED, "expand");
    status = status == AG_OK ? ag_pass_tensor(program, plan) : status;
    CHECK(AG_CHECK_SUMMED, "tensor");
    status = status == AG_OK ? ag_pass_expert(program, build) : status;
    CHECK(AG_CHECK_EXCHANGED, "expert");
    status = status == AG_OK && trains && !evaluates ? ag_pass_share(program, build) : status;
    CHECK(AG_CHECK_EXCHANGED, "share");
    status = status == AG_OK && trains ? ag_pass_reduce(program, build) : status;
    CHECK(AG_CHECK_EXCHANGED, "reduce");
    status = status == AG_OK ? ag_pass_fuse(program, plan) : status;
    CHECK(AG_CHECK_EXCHANGED, "fuse");
    status = status == AG_OK && !trains ? ag_pass_split(program, plan) : status;
    CHECK(AG_CHECK_EXCHANGED, "split");
    status = status == AG_OK ? ag_pass_compile(program, build) : status;
    CHECK(AG_CHECK_EXCHANGED, "compile");
    status = status == AG_OK ? ag_program_link(program) : status;
    CHECK(AG_CHECK_LINKED, "linking");
    status = status == AG_OK ? ag_pass_place(program, plan) : status;
#undef CHECK
    return status == AG_OK ? ag_program_check(program, plan, AG_CHECK_PLACED, "place") : status;
}

/* What a step's bounds leave to its routes: every row may go to experts of one rank. */
static void find_bounds(const ag_build_t *build, const uint64_t *step_bounds,
                        uint64_t bounds[AG_N_SIZE_COUNTERS])
{
    uint32_t n_used = ag_spec_experts(build->model->spec).n_used;

    memset(bounds, 0, AG_N_SIZE_COUNTERS * sizeof(*bounds));
    memcpy(bounds, step_bounds, AG_N_STEP_COUNTERS * sizeof(*bounds));
    for (uint32_t r = 0; r < build->n_ranks && n_used > 0; r++) {
        const ag_shard_t *shard = &build->ranks[r].shard;
        uint64_t n_held = shard->experts.n_held < n_used ? shard->experts.n_held : n_used;
        uint64_t tokens = bounds[AG_SIZE_TOKENS];
        uint64_t sent = ag_shard_most_rows(shard, tokens) * n_used;
        uint64_t received =
            shard->experts.n_ranks > 1 ? tokens * shard->experts.n_replicas * n_held : 0;

        bounds[AG_SIZE_SENT] = sent > bounds[AG_SIZE_SENT] ? sent : bounds[AG_SIZE_SENT];
        bounds[AG_SIZE_RECEIVED] =
            received > bounds[AG_SIZE_RECEIVED] ? received : bounds[AG_SIZE_RECEIVED];
    }
}

ag_status_t ag_build_program(ag_build_t *build, const uint64_t bounds[AG_N_SIZE_COUNTERS],
                             bool check, ag_program_t **program_p)
{
    uint64_t all_bounds[AG_N_SIZE_COUNTERS];
    ag_program_t *program = NULL;
    ag_status_t status;

    find_bounds(build, bounds, all_bounds);
    status = ag_program_create(build->n_ranks, all_bounds, free_graph, &program);
    if (status == AG_OK) {
        status = run_passes(program, build, false, check);
    }
    if (status != AG_OK) {
        ag_program_destroy(program);
        return status;
    }
    *program_p = program;
    return AG_OK;
}

ag_status_t ag_build_evaluation(ag_build_t *build, const ag_program_t *training, bool check,
                                ag_program_t **program_p)
{
    const ag_program_group_t *groups = AG_ITEMS(&training->groups, ag_program_group_t);
    ag_program_t *program = NULL;
    ag_status_t status = ag_program_create(build->n_ranks, training->bounds, free_graph, &program);

    for (size_t i = 0; i < training->groups.n_items && status == AG_OK; i++) {
        uint32_t number;

        status = ag_program_group(program, groups[i].ranks, groups[i].n_ranks, &number);
    }
    if (status == AG_OK) {
        status = run_passes(program, build, true, check);
    }
    if (status != AG_OK) {
        ag_program_destroy(program);
        return status;
    }
    *program_p = program;
    return AG_OK;
}
