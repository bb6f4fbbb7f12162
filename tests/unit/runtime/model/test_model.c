#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/model/sampling.h"
#include "runtime/model/unused.h"
#include "spec_of.h"

#define TINY AG_TEST_DATA "/tiny/llama"

Test(rope, default_frequencies_are_powers_of_the_base)
{
    ag_rope_spec_t rope = {.base = 10000, .rotary = 8};
    float freq[4];

    ag_rope_frequencies(&rope, NULL, freq);
    for (int i = 0; i < 4; i++) {
        cr_expect_float_eq(freq[i], pow(10000, -2.0 * i / 8), 1e-7 * freq[i] + 1e-12);
    }
    cr_expect_eq(ag_rope_magnitude(&rope), 1);
}

Test(rope, linear_divides_and_factors_of_a_file_divide_each)
{
    ag_rope_spec_t rope = {.kind = AG_ROPE_LINEAR, .base = 500, .rotary = 4, .factor = 4};
    float freq[2], factors[2] = {2, 8};

    ag_rope_frequencies(&rope, factors, freq);
    cr_expect_float_eq(freq[0], 1.0 / 2 / 4, 1e-7);
    cr_expect_float_eq(freq[1], pow(500, -0.5) / 8 / 4, 1e-8);
}

/* Llama 3.1's own code: apply_scaling(). */
Test(rope, llama3_keeps_high_frequencies_divides_low_ones_and_blends_between)
{
    ag_rope_spec_t rope = {.kind = AG_ROPE_LLAMA3,
                           .base = 500000,
                           .rotary = 128,
                           .factor = 8,
                           .low_freq_factor = 1,
                           .high_freq_factor = 4,
                           .original_context_tokens = 8192};
    float freq[64];
    int n_kept = 0, n_divided = 0, n_blended = 0;

    ag_rope_frequencies(&rope, NULL, freq);
    for (int i = 0; i < 64; i++) {
        double plain = pow(500000, -2.0 * i / 128), length = 2 * M_PI / plain, wanted = plain;

        if (length > 8192) {
            wanted = plain / 8;
            n_divided++;
        } else if (length > 8192 / 4.0) {
            double smooth = (8192 / length - 1) / (4 - 1);

            wanted = (1 - smooth) * plain / 8 + smooth * plain;
            n_blended++;
        } else {
            n_kept++;
        }
        cr_expect_float_eq(freq[i], wanted, 1e-5 * wanted, "frequency %d", i);
    }
    cr_expect(n_kept > 0 && n_divided > 0 && n_blended > 0);
}

Test(spec, is_what_the_config_says)
{
    ag_model_files_t *files;
    const ag_family_t *family;
    ag_spec_t *spec;

    cr_assert_eq(ag_model_files_open(TINY, &files), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_spec_load(files, &spec, &family), AG_OK, "%s", ag_error());
    cr_expect_eq(spec->n_layers, 3);
    cr_expect_eq(spec->hidden, 72);
    cr_expect_eq(spec->vocab, 307);
    cr_expect_eq(spec->layer_kinds[0].n_kv_heads, 3);
    cr_expect_eq(spec->layer_kinds[0].head_dim, 8);
    cr_expect_eq(strlen(spec->hash), 16);
    cr_expect_not(spec->tied);
    ag_spec_destroy(spec);
    ag_model_files_close(files);
}

Test(spec, what_a_config_names_and_nobody_knows_stays_on_one_line)
{
    static const char *const configs[] = {
        "\"model_type\": \"llama\", \"hidden_act\": \"si\\nlu\"",
        "\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"ya\\u0001rn\"}",
        "\"model_type\": \"gemma3_text\", \"layer_types\": [\"a\\tb\", \"c\", \"c\", \"c\"]",
        "\"model_type\": \"lla\\rma\"",
    };

    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        ag_spec_t *spec = NULL;

        cr_expect_eq(spec_of(configs[i], &spec), AG_ERR_UNSUPPORTED, "%s", configs[i]);
        cr_expect(strchr(ag_error(), '?') != NULL, "%s", ag_error());
        for (const char *at = ag_error(); *at != '\0'; at++) {
            cr_expect_geq((unsigned char)*at, ' ', "%s: %s", configs[i], ag_error());
        }
    }
}

Test(shard, uneven_heads_replicate_the_kv_head_they_share)
{
    ag_model_t *model;
    ag_shard_t shard = {.n_ranks = 2};

    cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
    shard.layers[0].head_begin = 5;
    shard.layers[0].head_end = 9;
    cr_assert_eq(ag_shard_complete(model->spec, &shard), AG_OK);
    cr_expect_eq(shard.layers[0].kv_begin, 1);
    cr_expect_eq(shard.layers[0].kv_end, 3);
    cr_expect_eq(shard.layers[0].kv_head[0], 0);
    cr_expect_eq(shard.layers[0].kv_head[1], 1);
    ag_shard_fini(&shard);
    ag_model_close(model);
}

static int32_t pick(const ag_sampling_t *sampling, const float *logits, uint32_t n, uint64_t index)
{
    ag_sampler_t *sampler;
    int32_t id = -1;

    cr_assert_eq(ag_sampler_create(n, sampling, &sampler), AG_OK);
    cr_assert_eq(ag_sampler_pick(sampler, logits, index, &id), AG_OK);
    ag_sampler_destroy(sampler);
    return id;
}

Test(sampling, greedy_takes_the_lowest_id_among_equals)
{
    cr_expect_eq(pick(&(ag_sampling_t){0}, (float[]){1, 3, 3, 2}, 4, 0), 1);
}

Test(sampling, draws_follow_the_probabilities)
{
    enum { N = 20000 };
    ag_sampling_t sampling = {.temperature = 2, .seed = 7};
    float logits[] = {0, 2, 4, -2};
    double weights[4], sum = 0;
    int counts[4] = {0};

    for (int i = 0; i < 4; i++) {
        weights[i] = exp(logits[i] / 2.0);
        sum += weights[i];
    }
    for (uint64_t i = 0; i < N; i++) {
        counts[pick(&sampling, logits, 4, i)]++;
    }
    for (int i = 0; i < 4; i++) {
        double p = weights[i] / sum;

        cr_expect_lt(fabs(counts[i] - N * p), 4 * sqrt(N * p * (1 - p)), "id %d: %d", i, counts[i]);
    }
}

static unsigned ids_drawn(const ag_sampling_t *sampling, const float *logits, uint32_t n)
{
    unsigned set = 0;

    for (uint64_t i = 0; i < 2000; i++) {
        set |= 1u << pick(sampling, logits, n, i);
    }
    return set;
}

Test(sampling, top_k_top_p_and_min_p_leave_just_the_likely)
{
    float logits[] = {logf(0.1f), logf(0.5f), logf(0.3f), logf(0.06f), logf(0.04f)};

    cr_expect_eq(ids_drawn(&(ag_sampling_t){.temperature = 1, .top_k = 2}, logits, 5), 0x6);
    cr_expect_eq(ids_drawn(&(ag_sampling_t){.temperature = 1, .top_p = 0.75}, logits, 5), 0x6);
    cr_expect_eq(ids_drawn(&(ag_sampling_t){.temperature = 1, .top_p = 0.85}, logits, 5), 0x7);
    cr_expect_eq(ids_drawn(&(ag_sampling_t){.temperature = 1, .min_p = 0.15}, logits, 5), 0x7);
}

typedef struct likely {
    double weight;
    int32_t id;
} likely_t;

static int by_weight(const void *a, const void *b)
{
    const likely_t *x = a, *y = b;

    return x->weight != y->weight ? (x->weight < y->weight ? 1 : -1) : x->id - y->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const likely_t *)a)->id - ((const likely_t *)b)->id;
}

/* By sorting everything: transformers' order of penalty (none here), temperature, k, p, min-p. */
static int32_t pick_by_sorting(const ag_sampling_t *s, const float *logits, uint32_t n,
                               uint64_t index)
{
    likely_t all[1000];
    double sum = 0, kept = 0, draw;
    uint32_t n_kept = 0, i = 0;

    for (uint32_t j = 0; j < n; j++) {
        all[j] = (likely_t){exp((double)logits[j] / s->temperature), (int32_t)j};
    }
    qsort(all, n, sizeof(all[0]), by_weight);
    n = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    for (uint32_t j = 0; j < n; j++) {
        sum += all[j].weight;
    }
    while (n_kept < n &&
           (n_kept == 0 || !(s->top_p > 0 && s->top_p < 1) || kept < s->top_p * sum)) {
        kept += all[n_kept++].weight;
    }
    while (s->min_p > 0 && all[n_kept - 1].weight < s->min_p * all[0].weight) {
        n_kept--;
    }
    qsort(all, n_kept, sizeof(all[0]), by_id);
    kept = 0;
    for (uint32_t j = 0; j < n_kept; j++) {
        kept += all[j].weight;
    }
    draw = ag_philox_uniform(s->seed, 0, index) * kept;
    while (i + 1 < n_kept && draw >= all[i].weight) {
        draw -= all[i++].weight;
    }
    return all[i].id;
}

Test(sampling, draws_what_sorting_the_vocabulary_would)
{
    enum { N = 1000, N_CASES = 3000 };
    static const uint32_t ks[] = {0, 1, 2, 40, 999, 1000, 5000};
    static const double ps[] = {0, 1e-9, 0.5, 0.95, 0.999999, 1}, ms[] = {0, 0.001, 0.3, 1};
    float logits[N];
    int n_differ = 0;

    for (uint64_t i = 0; i < N_CASES; i++) {
        ag_sampling_t sampling = {.temperature = 0.2 + (double)(i % 5),
                                  .seed = 3,
                                  .top_k = ks[i % 7],
                                  .top_p = ps[i / 7 % 6],
                                  .min_p = ms[i / 42 % 4]};

        for (uint32_t j = 0; j < N; j++) { /* some alike, some far off */
            double u = ag_philox_uniform(5, i, j);

            logits[j] = (float)(i % 2 == 0 ? floor(u * 20) : -3 * log(u));
        }
        n_differ += pick(&sampling, logits, N, i) != pick_by_sorting(&sampling, logits, N, i);
    }
    /* a draw may fall on the edge between two ids, where rounding decides */
    cr_expect_leq(n_differ, 1, "%d of %d differ", n_differ, N_CASES);
}

Test(sampling, a_penalty_below_1_raises_what_was_seen)
{
    ag_sampling_t sampling = {.repeat_penalty = 0.5};
    ag_sampler_t *sampler;
    float logits[600] = {[3] = 2, [599] = 1.5f};
    int32_t id;

    cr_assert_eq(ag_sampler_create(600, &sampling, &sampler), AG_OK);
    ag_sampler_begin(sampler, 0);
    ag_sampler_see(sampler, (int32_t[]){599}, 1);
    cr_assert_eq(ag_sampler_pick(sampler, logits, 0, &id), AG_OK);
    cr_expect_eq(id, 599);
    logits[500] = INFINITY;
    cr_expect_eq(ag_sampler_pick(sampler, logits, 0, &id), AG_ERR_FORMAT);
    logits[500] = 0;
    logits[0] = NAN;
    cr_expect_eq(ag_sampler_pick(sampler, logits, 0, &id), AG_ERR_FORMAT);
    ag_sampler_destroy(sampler);
}

Test(sampling, a_penalty_turns_to_what_was_not_seen)
{
    ag_sampling_t sampling = {.repeat_penalty = 2};
    ag_sampler_t *sampler;
    int32_t id;

    cr_assert_eq(ag_sampler_create(3, &sampling, &sampler), AG_OK);
    ag_sampler_begin(sampler, 0);
    ag_sampler_see(sampler, (int32_t[]){0}, 1);
    cr_assert_eq(ag_sampler_pick(sampler, (float[]){3, 2, -1}, 0, &id), AG_OK);
    cr_expect_eq(id, 1);
    ag_sampler_begin(sampler, 1);
    ag_sampler_see(sampler, (int32_t[]){1, 2}, 2);
    cr_assert_eq(ag_sampler_pick(sampler, (float[]){3, 4, -1}, 0, &id), AG_OK);
    cr_expect_eq(id, 0, "of another sequence");
    cr_expect_eq(ag_sampler_pick(sampler, (float[]){3, NAN, -1}, 0, &id), AG_ERR_FORMAT);
    ag_sampler_destroy(sampler);
}

Test(kv_pool, gives_each_block_once_and_refuses_more)
{
    ag_kv_pool_t pool;
    int32_t blocks[4], other[2];

    cr_assert_eq(ag_kv_pool_init(4, &pool), AG_OK);
    cr_assert_eq(ag_kv_pool_take(&pool, 3, blocks), AG_OK);
    cr_expect_eq(ag_kv_pool_take(&pool, 2, other), AG_ERR_BUDGET);
    cr_expect_eq(pool.n_free, 1);
    ag_kv_pool_give(&pool, 3, blocks);
    cr_assert_eq(ag_kv_pool_take(&pool, 4, blocks), AG_OK);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) {
            cr_expect_neq(blocks[i], blocks[j]);
        }
    }
    ag_kv_pool_fini(&pool);
}

Test(unused, is_what_nobody_holds_but_a_head_that_may_be_another_ones)
{
    ag_slice_t all = {.rows = 307, .cols = 72, .row_end = 307, .col_end = 72};
    const ag_model_tensor_t *tensor;
    size_t n_tensors, n_seen = 0;
    ag_model_t *model;
    ag_params_t params;
    ag_array_t names;
    int32_t param;

    cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
    tensor = ag_model_files_tensors(model->files, &n_tensors);
    ag_params_init(&params, true);
    cr_assert_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &all, &param), AG_OK);
    cr_assert_eq(ag_unused_find(model, &(const ag_params_t *){&params}, 1, &names), AG_OK);
    for (size_t i = 0; i < n_tensors; i++) {
        bool known = strcmp(tensor[i].name, "model.embed_tokens.weight") == 0 ||
                     strcmp(tensor[i].name, "lm_head.weight") == 0;

        if (!known && n_seen < names.n_items) {
            cr_expect_str_eq(AG_ITEMS(&names, const char *)[n_seen], tensor[i].name);
        }
        n_seen += !known;
    }
    cr_expect_eq(names.n_items, n_tensors - 2);
    ag_array_fini(&names);
    ag_params_fini(&params);
    ag_model_close(model);
}

Test(model, pairs_are_those_that_rows_see_in_each_kind_of_layers)
{
    ag_spec_t spec = {
        .n_layer_kinds = 3,
        .layer_kinds = {{.window_tokens = 0}, {.window_tokens = 1}, {.window_tokens = 5}}};

    for (uint64_t position = 0; position < 12; position++) {
        for (uint64_t n = 0; n < 12; n++) {
            ag_attended_t attended = {{1, 1, 1}};
            uint64_t expected[3] = {1, 1, 1};

            ag_spec_attend(&spec, position, n, &attended);
            for (uint64_t row = position; row < position + n; row++) {
                expected[0] += row + 1;
                expected[1] += 1;
                expected[2] += row < 5 ? row + 1 : 5;
            }
            cr_expect_arr_eq(attended.pairs, expected, sizeof(expected), "%u rows from %u",
                             (unsigned)n, (unsigned)position);
        }
    }
}
