/* Attention over latent vectors: what inference computes from a cache of them is what training
 * computes of the heads that they are expanded to. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/block.h"
#include "runtime/model/kv_cache.h"

enum { MOST_ROWS = 70, N_BLOCKS = 3, LAYER = 1, X = 0, PARTIAL = 1 };

/* Some query heads of a model, on a team. */
typedef struct held {
    ag_model_t *model;
    ag_team_t *team;
    ag_device_t *device;
    ag_shard_t shard;
    float *x; /* (MOST_ROWS, hidden) */
} held_t;

static held_t hold(const char *name, uint32_t begin, uint32_t end)
{
    held_t held = {0};
    char path[512];
    uint64_t n;

    snprintf(path, sizeof(path), AG_TEST_DATA "/experts/%s", name);
    cr_assert_eq(ag_model_open(path, &held.model), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 3, .spin_us = 1}, &held.team),
                 AG_OK);
    cr_assert_eq(ag_device_cpu_open(held.team, NULL, &held.device), AG_OK);
    held.shard = (ag_shard_t){.n_ranks = 1, .n_stage_ranks = 1, .n_row_parts = 1};
    for (uint32_t i = 0; i < held.model->spec->n_layer_kinds; i++) {
        held.shard.layers[i].head_begin = begin;
        held.shard.layers[i].head_end = end;
    }
    cr_assert_eq(ag_shard_complete(held.model->spec, &held.shard), AG_OK);
    n = (uint64_t)MOST_ROWS * held.model->spec->hidden;
    held.x = malloc(n * sizeof(float));
    cr_assert_not_null(held.x);
    for (uint64_t i = 0; i < n; i++) {
        held.x[i] = sinf((float)i * 0.7f + (float)(i % 11));
    }
    return held;
}

static void let_go(held_t *held)
{
    free(held->x);
    ag_shard_fini(&held->shard);
    ag_device_close(held->device);
    ag_team_destroy(held->team);
    ag_model_close(held->model);
}

/* A layer's attention, compiled, with its weights. */
typedef struct layer {
    held_t *held;
    ag_params_t params;
    ag_graph_t graph;
    unsigned char *weights, *cache;
    ag_kv_t kv;
} layer_t;

static void make_layer(held_t *held, bool expands, bool exact, layer_t *layer)
{
    uint64_t n_bytes, bounds[AG_N_COUNTERS] = {1, MOST_ROWS, 0, 1};
    ag_dtype_t dtype = exact ? AG_F32 : AG_F16;
    ag_block_t block;

    *layer = (layer_t){.held = held};
    ag_params_init(&layer->params, exact);
    ag_graph_init(&layer->graph);
    block = (ag_block_t){.model = held->model,
                         .shard = &held->shard,
                         .params = &layer->params,
                         .x = X,
                         .partial = PARTIAL,
                         .first_layer = LAYER,
                         .last_layer = LAYER,
                         .trains = expands};
    cr_assert_eq(ag_block_attention(&block, LAYER, false, &layer->graph), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_graph_compile(&layer->graph, bounds, ag_params_held(&layer->params), exact),
                 AG_OK);
    layer->weights = aligned_alloc(64, layer->params.bytes);
    cr_assert_not_null(layer->weights);
    cr_assert_eq(
        ag_params_load(&layer->params, held->model, held->team, NULL, held->device, layer->weights),
        AG_OK, "%s", ag_error());
    n_bytes = ag_kv_bytes(held->model->spec, &held->shard, LAYER, LAYER + 1, dtype, N_BLOCKS);
    layer->cache = aligned_alloc(64, n_bytes);
    cr_assert_not_null(layer->cache);
    memset(layer->cache, 0xff, n_bytes); /* no numbers */
    ag_kv_bind(held->model->spec, &held->shard, LAYER, LAYER + 1, dtype, N_BLOCKS, layer->cache,
               &layer->kv);
}

static void free_layer(layer_t *layer)
{
    free(layer->weights);
    free(layer->cache);
    ag_params_fini(&layer->params);
    ag_graph_fini(&layer->graph);
}

/* Rows [begin, end) of one sequence go through: partial (MOST_ROWS, hidden) has theirs. */
static void run_rows(layer_t *layer, const ag_isa_t *isa, uint32_t begin, uint32_t end,
                     float *partial)
{
    uint64_t row_bytes = layer->held->model->spec->hidden * sizeof(float), n = end - begin;
    uint64_t offsets[2] = {0, MOST_ROWS * row_bytes};
    int32_t positions[MOST_ROWS], row_begin[2] = {0, (int32_t)n}, tables[N_BLOCKS] = {2, 0, 1};
    ag_step_t step = {.counts = {1, n, 0, 1},
                      .positions = positions,
                      .row_begin = row_begin,
                      .block_tables = tables,
                      .table_stride = N_BLOCKS};
    ag_graph_run_t run = {.graph = &layer->graph,
                          .step = &step,
                          .params = ag_params_held(&layer->params),
                          .kv = &layer->kv,
                          .memory = calloc(1, 2 * offsets[1] + layer->graph.scratch_bytes),
                          .offsets = offsets,
                          .scratch_offset = 2 * offsets[1],
                          .thread_scratch = calloc(3, layer->graph.thread_scratch_bytes + 64),
                          .thread_scratch_stride = layer->graph.thread_scratch_bytes,
                          .isa = isa};

    cr_assert(run.memory != NULL && run.thread_scratch != NULL);
    for (uint64_t i = 0; i < n; i++) {
        positions[i] = (int32_t)(begin + i);
    }
    memcpy(run.memory, layer->held->x + begin * layer->held->model->spec->hidden, n * row_bytes);
    ag_graph_begin(&run, 3);
    ag_team_run(layer->held->team, ag_graph_region, &run);
    memcpy(partial + begin * layer->held->model->spec->hidden, run.memory + offsets[PARTIAL],
           n * row_bytes);
    free(run.memory);
    free(run.thread_scratch);
}

/* @param exact  else float16 in the cache, and weights as they are multiplied by. */
static void check(held_t *held, bool exact, const ag_isa_t *isa, double bound)
{
    uint64_t n = (uint64_t)MOST_ROWS * held->model->spec->hidden;
    float *wanted = malloc(n * sizeof(float)), *got = malloc(n * sizeof(float));
    double largest = 0, worst = 0;
    layer_t expanded, absorbed;

    cr_assert(wanted != NULL && got != NULL);
    make_layer(held, true, true, &expanded);
    make_layer(held, false, exact, &absorbed);
    run_rows(&expanded, NULL, 0, MOST_ROWS, wanted);
    run_rows(&absorbed, isa, 0, 37, got); /* many rows, some, one at a time */
    run_rows(&absorbed, isa, 37, 42, got);
    for (uint32_t row = 42; row < 45; row++) {
        run_rows(&absorbed, isa, row, row + 1, got);
    }
    run_rows(&absorbed, isa, 45, MOST_ROWS, got);
    for (uint64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)wanted[i]));
        worst = fmax(worst, fabs((double)wanted[i] - (double)got[i]));
    }
    cr_expect_gt(largest, 1e-3);
    cr_expect_leq(worst, bound * largest, "%s, %s: %g away, of %g", exact ? "exact" : "rounded",
                  isa == NULL ? "plain C" : ag_isa_name(isa), worst, largest);
    free_layer(&expanded);
    free_layer(&absorbed);
    free(wanted);
    free(got);
}

Test(latent, what_is_absorbed_is_what_is_expanded)
{
    static const struct {
        const char *name;
        uint32_t begin, end;
    } cases[] = {
        {"deepseek_v2", 0, 6}, {"deepseek_v3", 0, 6}, {"deepseek_v3", 2, 5}, {"deepseek_v2", 5, 6}};
    static const char *const isas[] = {"base", "avx2", "avx512"};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        held_t held = hold(cases[i].name, cases[i].begin, cases[i].end);

        check(&held, true, NULL, 1e-5);
        for (size_t j = 0; j < sizeof(isas) / sizeof(isas[0]); j++) {
            const ag_isa_t *isa = NULL;

            if (ag_isa_find(isas[j], &isa) == AG_OK) {
                check(&held, false, isa, 2e-2);
            }
        }
        let_go(&held);
    }
}

/* One row of a latent vector and what rotates, whoever holds heads: nothing by head. */
Test(latent, the_cache_holds_what_all_heads_are_made_of_once)
{
    for (uint32_t n = 0; n <= 6; n += 3) {
        held_t held = hold("deepseek_v3", 0, n);
        const ag_layer_spec_t *kind = ag_spec_layer(held.model->spec, LAYER);
        uint64_t row = n == 0 ? 0 : kind->kv_rank + kind->rope.rotary, tokens = 10 * 32;

        cr_expect_eq(ag_kv_bytes(held.model->spec, &held.shard, LAYER, LAYER + 1, AG_F16, 10),
                     (2 * row * tokens + 63) / 64 * 64);
        cr_expect_eq(ag_kv_bytes(held.model->spec, &held.shard, LAYER, LAYER + 2, AG_F32, 10),
                     2 * ((4 * row * tokens + 63) / 64 * 64));
        let_go(&held);
    }
}
