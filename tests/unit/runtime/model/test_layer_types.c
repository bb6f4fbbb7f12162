/* Settings of layers that differ: which have a window, and what goes with it. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "spec_of.h"

/* Each layer's window, as a letter for none and for one. */
static void expect_windows(const char *more, uint32_t window, const char *wanted)
{
    ag_spec_t *spec;

    cr_assert_eq(spec_of(more, &spec), AG_OK, "%s: %s", more, ag_error());
    for (uint32_t i = 0; i < 4; i++) {
        cr_expect_eq(ag_spec_layer(spec, i)->window_tokens, wanted[i] == 'w' ? window : 0,
                     "%s: layer %u has a window of %u", more, i,
                     ag_spec_layer(spec, i)->window_tokens);
    }
    ag_spec_destroy(spec);
}

Test(layer_types, windows_stand_where_the_settings_say_or_the_family_knows)
{
    expect_windows("\"model_type\": \"mistral\", \"sliding_window\": 5", 5, "wwww");
    expect_windows("\"model_type\": \"mistral\", \"sliding_window\": null", 0, "----");
    expect_windows("\"model_type\": \"mistral\"", 4096, "wwww");
    expect_windows("\"model_type\": \"mistral\", \"sliding_window\": 5, \"layer_types\": "
                   "[\"sliding_attention\", \"full_attention\", \"sliding_attention\", "
                   "\"full_attention\"]",
                   5, "w-w-");
    expect_windows("\"model_type\": \"gemma2\", \"sliding_window\": 5", 5, "w-w-");
    expect_windows("\"model_type\": \"gemma2\"", 4096, "w-w-");
    expect_windows("\"model_type\": \"gemma3_text\", \"sliding_window\": 7", 7, "wwww");
    expect_windows("\"model_type\": \"gemma3_text\", \"sliding_window\": 7, "
                   "\"sliding_window_pattern\": 3",
                   7, "ww-w");
    expect_windows("\"model_type\": \"gemma3_text\", \"sliding_window\": 7, "
                   "\"sliding_window_pattern\": 3, \"layer_types\": [\"full_attention\", "
                   "\"sliding_attention\", \"full_attention\", \"full_attention\"]",
                   7, "-w--");
}

Test(layer_types, windows_of_qwen_are_off_unless_used)
{
    static const char experts[] =
        "\"sliding_window\": 5, \"num_experts\": 2, \"num_experts_per_tok\": 1, "
        "\"moe_intermediate_size\": 4, \"shared_expert_intermediate_size\": 4";
    static const struct {
        const char *more, *wanted;
    } cases[] = {
        {"\"model_type\": \"qwen2_moe\"", "----"},
        {"\"model_type\": \"qwen2_moe\", \"use_sliding_window\": true", "w-w-"},
        {"\"model_type\": \"qwen2_moe\", \"use_sliding_window\": true, \"max_window_layers\": 2",
         "w---"},
        {"\"model_type\": \"qwen2_moe\", \"use_sliding_window\": true, \"mlp_only_layers\": [2]",
         "w-w-"},
        {"\"model_type\": \"qwen3_moe\", \"use_sliding_window\": true, \"decoder_sparse_step\": 2",
         "wwww"},
    };

    expect_windows("\"model_type\": \"qwen2\", \"sliding_window\": 5, \"max_window_layers\": 1", 5,
                   "----");
    expect_windows("\"model_type\": \"qwen2\", \"sliding_window\": 5, \"max_window_layers\": 1, "
                   "\"use_sliding_window\": true",
                   5, "-www");
    expect_windows("\"model_type\": \"qwen3\", \"sliding_window\": 5, \"use_sliding_window\": true",
                   5, "----"); /* of models of more than 28 layers the last */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];

        snprintf(text, sizeof(text), "%s, %s", cases[i].more, experts);
        expect_windows(text, 5, cases[i].wanted);
    }
}

Test(layer_types, layers_with_a_window_have_a_rope_of_their_own_in_both_spellings)
{
    static const char *const spellings[] = {
        "\"model_type\": \"gemma3_text\", \"sliding_window\": 7, \"sliding_window_pattern\": 2, "
        "\"rope_theta\": 5000, \"rope_local_base_freq\": 300, \"rope_scaling\": {\"rope_type\": "
        "\"linear\", \"factor\": 4}, \"query_pre_attn_scalar\": 25",
        "\"model_type\": \"gemma3_text\", \"sliding_window\": 7, \"sliding_window_pattern\": 2, "
        "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 4, "
        "\"rope_theta\": 5000}, \"sliding_attention\": {\"rope_type\": \"default\", "
        "\"rope_theta\": 300}}, \"query_pre_attn_scalar\": 25",
    };

    for (int i = 0; i < 2; i++) {
        const ag_layer_spec_t *windowed, *other;
        ag_spec_t *spec;

        cr_assert_eq(spec_of(spellings[i], &spec), AG_OK, "%s", ag_error());
        windowed = ag_spec_layer(spec, 0);
        other = ag_spec_layer(spec, 1);
        cr_expect_eq(windowed->rope.kind, AG_ROPE_DEFAULT);
        cr_expect_float_eq(windowed->inverse_freq[1], pow(300, -0.25), 1e-6);
        cr_expect_eq(other->rope.kind, AG_ROPE_LINEAR);
        cr_expect_float_eq(other->inverse_freq[1], pow(5000, -0.25) / 4, 1e-6);
        cr_expect_eq(other->attention_scale, 0.2f);
        cr_expect_eq(windowed->attention_scale, 0.2f);
        cr_expect_eq(spec->embed_scale, 6.0f);
        cr_expect(spec->tied);
        ag_spec_destroy(spec);
    }
}

Test(layer_types, what_makes_no_sense_is_told)
{
    static const struct {
        const char *more;
        ag_status_t status;
        const char *word;
    } cases[] = {
        {"\"model_type\": \"gemma3_text\", \"layer_types\": [\"full_attention\"]", AG_ERR_FORMAT,
         "layer_types names 1 layers, the model has 4"},
        {"\"model_type\": \"gemma2\", \"layer_types\": [\"full_attention\", 3, \"full_attention\", "
         "\"full_attention\"]",
         AG_ERR_UNSUPPORTED, "layer 1"},
        {"\"model_type\": \"gemma2\", \"layer_types\": [\"full_attention\", \"full_attention\", "
         "\"chunked_attention\", \"full_attention\"]",
         AG_ERR_UNSUPPORTED, "\"chunked_attention\""},
        {"\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"full_attention\": {}, "
         "\"sliding_attention\": {\"rope_type\": \"yarn\"}}",
         AG_ERR_UNSUPPORTED, "\"yarn\""},
        {"\"model_type\": \"gemma3_text\", \"use_bidirectional_attention\": true",
         AG_ERR_UNSUPPORTED, "use_bidirectional_attention is true"},
        {"\"model_type\": \"gemma2\", \"attn_logit_softcapping\": -2", AG_ERR_FORMAT, "-2"},
        {"\"model_type\": \"mistral\", \"sliding_window\": 1.5", AG_ERR_FORMAT, "sliding_window"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_spec_t *spec;

        cr_expect_eq(spec_of(cases[i].more, &spec), cases[i].status, "%s", cases[i].more);
        cr_expect_not_null(strstr(ag_error(), cases[i].word), "%s: %s", cases[i].more, ag_error());
    }
}
