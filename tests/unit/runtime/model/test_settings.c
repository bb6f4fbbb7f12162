/* Settings of wrong kinds, those that files leave out, those that nobody looks at. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "spec_of.h"

#define LLAMA "\"model_type\": \"llama\", "
#define GEMMA "\"model_type\": \"gemma2\", "
#define EXPERTS                                                                                    \
    "\"num_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 4, "               \
    "\"shared_expert_intermediate_size\": 4, "
#define QWEN_MOE "\"model_type\": \"qwen2_moe\", " EXPERTS

Test(settings, of_a_wrong_kind_are_told_by_file_and_key)
{
    static const struct {
        const char *more, *words;
    } cases[] = {
        {"\"model_type\": 7", "config.json: model_type is a number, where a string must stand"},
        {GEMMA "\"sliding_window\": \"9\"",
         "config.json: sliding_window is a string, where a number must stand"},
        {GEMMA "\"sliding_window\": true", "sliding_window is true or false"},
        {GEMMA "\"sliding_window\": [9]", "sliding_window is a list"},
        {GEMMA "\"attn_logit_softcapping\": \"1.5\"", "attn_logit_softcapping is a string"},
        {LLAMA "\"tie_word_embeddings\": \"true\"",
         "tie_word_embeddings is a string, where true or false must stand"},
        {LLAMA "\"hidden_act\": 3", "hidden_act is a number"},
        {LLAMA "\"rope_theta\": \"10000\"", "rope_theta is a string"},
        {LLAMA "\"rope_parameters\": {\"rope_theta\": \"10000\"}",
         "rope_parameters.rope_theta is a string"},
        {LLAMA "\"rope_parameters\": \"yarn\"",
         "rope_parameters is a string, where a group of settings must stand"},
        {LLAMA "\"rope_scaling\": \"yarn\"", "rope_scaling is a string"},
        {LLAMA "\"rope_scaling\": [1]", "rope_scaling is a list"},
        {LLAMA "\"rope_scaling\": {\"rope_type\": 5}", "rope_scaling.rope_type is a number"},
        {LLAMA "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": \"2\"}",
         "rope_scaling.factor is a string"},
        {LLAMA "\"rope_parameters\": {\"type\": {}}", "rope_parameters.type is a group"},
        {LLAMA "\"rope_parameters\": {\"rope_type\": \"longrope\", \"short_factor\": 1, "
               "\"original_max_position_embeddings\": 512, \"factor\": 4}",
         "rope_parameters.short_factor is a number, where a list must stand"},
        {"\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"full_attention\": \"x\"}",
         "rope_parameters.full_attention is a string"},
        {"\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"sliding_attention\": "
         "{\"rope_type\": 1}}",
         "rope_parameters.sliding_attention.rope_type is a number"},
        {GEMMA "\"layer_types\": \"full_attention\"", "layer_types is a string"},
        {QWEN_MOE "\"mlp_only_layers\": \"0\"", "mlp_only_layers is a string"},
        {QWEN_MOE "\"mlp_only_layers\": [\"0\"]", "mlp_only_layers[0]"},
        {QWEN_MOE "\"norm_topk_prob\": \"true\"", "norm_topk_prob is a string"},
        {QWEN_MOE "\"decoder_sparse_step\": \"2\"", "decoder_sparse_step is a string"},
        {QWEN_MOE "\"qkv_bias\": \"false\"", "qkv_bias is a string"},
        {LLAMA "\"is_causal\": \"no\"", "is_causal is a string"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_spec_t *spec;

        cr_expect_eq(spec_of(cases[i].more, &spec), AG_ERR_FORMAT, "%s", cases[i].more);
        cr_expect_not_null(strstr(ag_error(), cases[i].words), "%s: %s", cases[i].more, ag_error());
    }
}

Test(settings, that_are_null_are_absent)
{
    static const char *const cases[] = {
        LLAMA "\"rope_scaling\": null, \"rope_parameters\": null, \"hidden_act\": null, "
              "\"tie_word_embeddings\": null, \"attention_bias\": null, \"is_causal\": null",
        LLAMA "\"rope_scaling\": {\"rope_type\": null, \"type\": \"linear\", \"factor\": 2, "
              "\"attention_factor\": null}",
        GEMMA "\"sliding_window\": null, \"layer_types\": null, \"attn_logit_softcapping\": null",
        QWEN_MOE "\"mlp_only_layers\": null, \"sliding_window\": null, \"rope_scaling\": {}",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_spec_t *spec;

        cr_assert_eq(spec_of(cases[i], &spec), AG_OK, "%s: %s", cases[i], ag_error());
        cr_expect_eq(spec->layer_kinds[0].window_tokens, 0);
        cr_expect_eq(spec->layer_kinds[0].score_cap, 0);
        ag_spec_destroy(spec);
    }
}

/* @param wrong_key  put apart from what is right; a number, a string, a yes or a list. */
static ag_status_t load_gguf(const char *wrong_key, ag_gguf_kind_t kind)
{
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"llama.block_count", 2},          {"llama.embedding_length", 16},
        {"llama.vocab_size", 20},          {"llama.context_length", 64},
        {"llama.attention.head_count", 2}, {"llama.feed_forward_length", 24},
    };
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    ag_spec_t *spec = NULL;
    ag_status_t status;

    ag_gguf_put_string(&metadata, "general.architecture", "llama", 5);
    ag_gguf_put_f32(&metadata, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (wrong_key == NULL || strcmp(sizes[i].key, wrong_key) != 0) {
            ag_gguf_put_u32(&metadata, sizes[i].key, sizes[i].value);
        }
    }
    if (wrong_key != NULL && kind == AG_GGUF_STRING) {
        ag_gguf_put_string(&metadata, wrong_key, "10000", 5);
    } else if (wrong_key != NULL && kind == AG_GGUF_BOOL) {
        ag_gguf_put_bool(&metadata, wrong_key, true);
    } else if (wrong_key != NULL && kind == AG_GGUF_ARRAY) {
        ag_gguf_put_array(&metadata, wrong_key, AG_GGUF_I32, 1);
        ag_gguf_add_i32(&metadata, 2);
    } else if (wrong_key != NULL) {
        ag_gguf_put_u32(&metadata, wrong_key, 7);
    }
    status = spec_of_gguf(&metadata, &spec);
    ag_spec_destroy(spec);
    return status;
}

Test(settings, of_a_gguf_file_of_a_wrong_kind_are_told_by_key)
{
    static const struct {
        const char *key;
        ag_gguf_kind_t kind;
        const char *words;
    } cases[] = {
        {"llama.rope.freq_base", AG_GGUF_STRING, "llama.rope.freq_base is a string"},
        {"llama.rope.freq_base", AG_GGUF_BOOL, "llama.rope.freq_base is true or false"},
        {"llama.block_count", AG_GGUF_STRING, "llama.block_count is a string"},
        {"llama.attention.head_count", AG_GGUF_ARRAY, "llama.attention.head_count is a list"},
        {"llama.rope.scaling.type", AG_GGUF_U32, "llama.rope.scaling.type is no string"},
        {"llama.rope.scaling.factor", AG_GGUF_STRING, "llama.rope.scaling.factor is a string"},
        {"llama.rope.scale_linear", AG_GGUF_STRING, "llama.rope.scale_linear is a string"},
        {"llama.expert_count", AG_GGUF_STRING, "llama.expert_count is a string"},
        {"llama.attention.causal", AG_GGUF_STRING, "llama.attention.causal is a string"},
    };

    cr_expect_eq(load_gguf(NULL, 0), AG_OK, "%s", ag_error());
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(load_gguf(cases[i].key, cases[i].kind), AG_ERR_FORMAT, "%s", cases[i].words);
        cr_expect_not_null(strstr(ag_error(), cases[i].words), "%s: %s", cases[i].key, ag_error());
    }
}

Test(settings, of_which_one_value_is_known_are_refused_with_another)
{
    static const char *const cases[][2] = {
        {LLAMA "\"is_causal\": false", "is_causal is false"},
        {LLAMA "\"use_bidirectional_attention\": true", "use_bidirectional_attention is true"},
        {LLAMA "\"partial_rotary_factor\": 0.5", "partial_rotary_factor is 0.5"},
        {LLAMA "\"rope_parameters\": {\"partial_rotary_factor\": 0.5}",
         "rope_parameters.partial_rotary_factor is 0.5"},
        {LLAMA "\"rope_scaling\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}",
         "rope_scaling.partial_rotary_factor is 0.5"},
        {LLAMA "\"scale_attn_weights\": false", "scale_attn_weights is false"},
    };
    ag_spec_t *spec;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(spec_of(cases[i][0], &spec), AG_ERR_UNSUPPORTED, "%s", cases[i][0]);
        cr_expect_not_null(strstr(ag_error(), cases[i][1]), "%s: %s", cases[i][0], ag_error());
    }
    cr_assert_eq(spec_of("\"model_type\": \"phi3\", \"partial_rotary_factor\": 0.5", &spec), AG_OK);
    cr_expect_eq(spec->layer_kinds[0].rope.rotary, 4);
    ag_spec_destroy(spec);
    cr_assert_eq(spec_of("\"model_type\": \"phi3\", \"rope_parameters\": {\"rope_theta\": 5, "
                         "\"partial_rotary_factor\": 1}, \"rope_scaling\": {\"type\": \"default\", "
                         "\"partial_rotary_factor\": 0.5}",
                         &spec),
                 AG_OK);
    cr_expect_eq(spec->layer_kinds[0].rope.rotary, 4);
    ag_spec_destroy(spec);
}

#define SIZES                                                                                      \
    "\"num_hidden_layers\": 6, \"hidden_size\": 2048, \"vocab_size\": 20, "                        \
    "\"intermediate_size\": 8, \"max_position_embeddings\": 2048, \"num_attention_heads\": 32, "   \
    "\"rms_norm_eps\": 1e-5"

/* What transformers 5.23 makes of a config.json with such sizes alone. */
Test(settings, that_are_left_out_are_what_transformers_has_for_the_family)
{
    static const struct {
        const char *config;
        uint32_t n_kv_heads, head_dim, window;
        double base;
    } cases[] = {
        {"\"model_type\": \"llama\"", 32, 64, 0, 10000},
        {"\"model_type\": \"mistral\"", 8, 64, 4096, 10000},
        {"\"model_type\": \"mixtral\", \"num_local_experts\": 4, \"num_experts_per_tok\": 2", 8, 64,
         0, 1e6},
        {"\"model_type\": \"gemma2\"", 4, 256, 4096, 10000},
        {"\"model_type\": \"gemma3_text\"", 4, 256, 4096, 10000}, /* of the first layer */
        {"\"model_type\": \"gpt_oss\", \"num_local_experts\": 4, \"num_experts_per_tok\": 2", 8, 64,
         128, 150000},
        {"\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": 0", 32,
         64, 4096, 10000},
        {"\"model_type\": \"qwen3\"", 32, 128, 0, 10000},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const ag_layer_spec_t *layer;
        char text[1024];
        ag_spec_t *spec;

        snprintf(text, sizeof(text), "{%s, %s}", cases[i].config, SIZES);
        cr_assert_eq(spec_of_config(text, NULL, &spec), AG_OK, "%s: %s", text, ag_error());
        layer = ag_spec_layer(spec, 0);
        cr_expect_eq(layer->n_kv_heads, cases[i].n_kv_heads, "%s", text);
        cr_expect_eq(layer->head_dim, cases[i].head_dim, "%s", text);
        cr_expect_eq(layer->window_tokens, cases[i].window, "%s", text);
        cr_expect_eq(layer->rope.base, cases[i].base, "%s: %g", text, layer->rope.base);
        ag_spec_destroy(spec);
    }
}

Test(settings, of_gpt_oss_and_gemma_3_that_are_left_out)
{
    const ag_layer_spec_t *layer;
    ag_spec_t *spec;

    cr_assert_eq(spec_of("\"model_type\": \"gpt_oss\", \"num_local_experts\": 4, "
                         "\"num_experts_per_tok\": 2",
                         &spec),
                 AG_OK, "%s", ag_error());
    layer = ag_spec_layer(spec, 0);
    cr_expect_eq(layer->rope.kind, AG_ROPE_YARN);
    cr_expect_eq(layer->rope.factor, 32);
    cr_expect_eq(layer->rope.original_context_tokens, 4096);
    cr_expect_not(layer->rope.truncates);
    cr_expect(layer->q_bias);
    cr_expect_eq(layer->ffn_limit, 7);
    ag_spec_destroy(spec);
    cr_assert_eq(spec_of("\"model_type\": \"gemma3_text\", \"attn_logit_softcapping\": 2, "
                         "\"sliding_window_pattern\": 2",
                         &spec),
                 AG_OK, "%s", ag_error());
    cr_expect_eq(ag_spec_layer(spec, 0)->score_cap, 0, "which neither transformers applies");
    cr_expect_eq(ag_spec_layer(spec, 1)->rope.base, 1e6);
    ag_spec_destroy(spec);
}

#define DEEPSEEK                                                                                   \
    "\"num_hidden_layers\": 4, \"hidden_size\": 32, \"vocab_size\": 20, "                          \
    "\"intermediate_size\": 8, \"max_position_embeddings\": 2048, \"num_attention_heads\": 2, "    \
    "\"rms_norm_eps\": 1e-5, \"qk_nope_head_dim\": 8, \"qk_rope_head_dim\": 8, "                   \
    "\"v_head_dim\": 8, \"kv_lora_rank\": 16, \"n_routed_experts\": 16, "                          \
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 4"

static ag_spec_t *deepseek(const char *type, const char *more)
{
    char text[1024];
    ag_spec_t *spec = NULL;

    snprintf(text, sizeof(text), "{\"model_type\": \"%s\", %s%s}", type, DEEPSEEK, more);
    cr_assert_eq(spec_of_config(text, NULL, &spec), AG_OK, "%s: %s", text, ag_error());
    return spec;
}

Test(settings, of_deepseek_that_are_left_out)
{
    ag_spec_t *spec = deepseek("deepseek_v3", "");
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    cr_expect_eq(ag_spec_layer(spec, 2)->route.n_experts, 0);
    cr_expect_eq(ag_spec_layer(spec, 3)->route.n_experts, 16);
    cr_expect_eq(layer->q_rank, 1536);
    cr_expect(layer->route.sums_to_1);
    cr_expect_eq(layer->route.scale, 2.5f);
    cr_expect_eq(layer->route.n_groups, 8);
    cr_expect_eq(layer->route.n_groups_used, 4);
    cr_expect_eq(layer->shared_width, 4);
    cr_expect(layer->rope_by_turns);
    cr_expect_eq(layer->latent_norm_eps, 1e-6f, "the modules' own, whatever rms_norm_eps is");
    cr_expect_eq(spec->norm_eps, 1e-5f);
    ag_spec_destroy(spec);
    spec = deepseek("deepseek_v2", "");
    cr_expect_eq(spec->layer_kinds[0].shared_width, 8);
    cr_expect_not(spec->layer_kinds[0].route.sums_to_1);
    cr_expect_eq(spec->layer_kinds[0].route.scale, 1);
    cr_expect_eq(ag_spec_layer(spec, 0)->route.n_experts, 16);
    ag_spec_destroy(spec);
}

/* transformers' modeling_deepseek_v3.py: yarn_apply_mscale(); modeling_rope_utils.py. */
Test(settings, of_deepseeks_rope_scale_scores_and_magnitudes_apart)
{
    static const struct {
        const char *rope;
        double scores, magnitude; /* but for 1/sqrt(16) */
    } cases[] = {
        {"\"yarn\", \"factor\": 4, \"mscale\": 0.7", 1, 1.13862943611},
        {"\"yarn\", \"factor\": 4, \"mscale_all_dim\": 0.7", 1.20349649, 1.13862943611},
        {"\"yarn\", \"factor\": 4, \"mscale\": 1, \"mscale_all_dim\": 0.7", 1.20349649,
         1.13862943611 / 1.09704060528},
        {"\"linear\", \"factor\": 4, \"mscale_all_dim\": 0.7", 1.20349649, 1},
        {"\"default\", \"factor\": 4, \"mscale_all_dim\": 0.7", 1, 1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char more[512];
        ag_spec_t *spec;

        snprintf(more, sizeof(more), ", \"rope_scaling\": {\"rope_type\": %s}", cases[i].rope);
        spec = deepseek("deepseek_v3", more);
        cr_expect_float_eq(spec->layer_kinds[0].attention_scale, cases[i].scores / 4, 1e-6, "%s",
                           more);
        cr_expect_float_eq(spec->layer_kinds[0].rope_magnitude, cases[i].magnitude, 1e-6, "%s",
                           more);
        ag_spec_destroy(spec);
    }
}

Test(settings, of_a_rope_scaling_stand_in_the_place_of_all_rope_parameters)
{
    static const char *const both =
        LLAMA "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_theta\": 500, "
              "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 8, \"rope_theta\": 300}";
    static const char *const early =
        LLAMA "\"rope_parameters\": {\"type\": \"linear\", \"factor\": 8, \"rope_theta\": 300}";
    ag_spec_t *spec;

    cr_assert_eq(spec_of(both, &spec), AG_OK, "%s", ag_error());
    cr_expect_eq(spec->layer_kinds[0].rope.kind, AG_ROPE_LINEAR);
    cr_expect_eq(spec->layer_kinds[0].rope.factor, 2);
    cr_expect_eq(spec->layer_kinds[0].rope.base, 500);
    ag_spec_destroy(spec);
    cr_assert_eq(spec_of(early, &spec), AG_OK, "%s", ag_error());
    cr_expect_eq(spec->layer_kinds[0].rope.kind, AG_ROPE_LINEAR);
    cr_expect_eq(spec->layer_kinds[0].rope.factor, 8);
    ag_spec_destroy(spec);
    cr_expect_eq(spec_of(LLAMA "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, "
                               "\"attention_factor\": 0.0}",
                         &spec),
                 AG_ERR_FORMAT);
    cr_expect_not_null(strstr(ag_error(), "attention_factor"), "%s", ag_error());
}

Test(settings, that_nobody_looks_at_are_found)
{
    static const char config[] =
        "{" SIZES ", " LLAMA "\"torch_dtype\": \"float32\", \"bos_token_id\": 1, "
        "\"attention_dropout\": 0.1, \"id2label\": {}, \"residual_multiplier\": 0.3, "
        "\"logits_scaling\": null, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, "
        "\"ramp\": 3}, \"attn_logit_softcapping\": 3, \"is_causal\": true}";
    static const char *const wanted[] = {"residual_multiplier", "attn_logit_softcapping",
                                         "rope_scaling.ramp"};
    ag_array_t names;
    ag_spec_t *spec;

    cr_assert_eq(spec_of_config(config, &names, &spec), AG_OK, "%s", ag_error());
    cr_assert_eq(names.n_items, 3);
    for (size_t i = 0; i < 3; i++) {
        cr_expect_str_eq(AG_ITEMS(&names, ag_setting_name_t)[i].text, wanted[i]);
    }
    ag_array_fini(&names);
    ag_spec_destroy(spec);
}
