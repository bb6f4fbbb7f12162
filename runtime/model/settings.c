/* A model's settings: from its files, and to the spec and back. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/settings_priv.h"

typedef struct number {
    bool present;
    double value;
} number_t;

static number_t json_number(const ag_json_t *json)
{
    switch (ag_json_kind(json)) {
    case AG_JSON_BOOL:
        return (number_t){.present = true, .value = ag_json_bool(json, false)};
    case AG_JSON_INTEGER:
    case AG_JSON_REAL:
        return (number_t){.present = true, .value = ag_json_number(json, 0)};
    default:
        return (number_t){0};
    }
}

/* Where models have a rope for each type of layers, their main one is that of full attention. */
static const char rope_group[] = "rope_parameters.";
static const char main_rope[] = "rope_parameters.full_attention";

void ag_rope_path(const char *path, size_t n_chars, bool has_several, char at[AG_PATH_BYTES])
{
    size_t n_group = sizeof(rope_group) - 1;
    const char *rest = strchr(path, '.');

    if (has_several && strncmp(path, rope_group, n_group) == 0 && n_chars > n_group &&
        memchr(rest + 1, '.', n_chars - n_group) == NULL) {
        snprintf(at, AG_PATH_BYTES, "%s.%.*s", main_rope, (int)(n_chars - n_group), path + n_group);
    } else {
        snprintf(at, AG_PATH_BYTES, "%.*s", (int)n_chars, path);
    }
}

static bool has_several_ropes(const ag_json_t *config)
{
    return ag_json_path(config, main_rope) != NULL;
}

/* paths: alternatives joined by '|', the first that is there counts */
static number_t config_number(const ag_json_t *config, const char *paths)
{
    while (paths != NULL && *paths != '\0') {
        const char *end = strchr(paths, '|');
        size_t n_chars = end == NULL ? strlen(paths) : (size_t)(end - paths);
        char path[AG_PATH_BYTES];
        number_t number;

        ag_rope_path(paths, n_chars, has_several_ropes(config), path);
        number = json_number(ag_json_path(config, path));
        if (number.present) {
            return number;
        }
        paths += n_chars + (end != NULL);
    }
    return (number_t){0};
}

static number_t gguf_number(const ag_gguf_t *gguf, const char *arch, const char *key)
{
    char full[128];
    const ag_gguf_value_t *value;

    if (key == NULL) {
        return (number_t){0};
    }
    snprintf(full, sizeof(full), "%s.%s", arch, key);
    value = ag_gguf_get(gguf, full);
    if (value == NULL || value->kind == AG_GGUF_STRING || value->kind == AG_GGUF_ARRAY) {
        return (number_t){0};
    }
    if (value->kind == AG_GGUF_F32 || value->kind == AG_GGUF_F64) {
        return (number_t){.present = true, .value = value->as.real};
    }
    return (number_t){.present = true, .value = (double)value->as.integer};
}

static ag_status_t store_setting(const ag_model_files_t *files, const ag_key_row_t *row,
                                 const char *key, double value, ag_settings_t *settings)
{
    void *field = (char *)settings + row->offset;

    switch (row->kind) {
    case AG_SETTING_U32:
        if (!(value >= 0 && value <= UINT32_MAX) || value != floor(value)) {
            return ag_fail(AG_ERR_FORMAT, "%s: %s is %g, which makes no sense",
                           ag_model_files_path(files), key, value);
        }
        *(uint32_t *)field = (uint32_t)value;
        break;
    case AG_SETTING_REAL:
        if (!isfinite(value)) {
            return ag_fail(AG_ERR_FORMAT, "%s: %s is not a finite number",
                           ag_model_files_path(files), key);
        }
        *(double *)field = value;
        break;
    case AG_SETTING_BOOL:
        *(bool *)field = value != 0;
        break;
    }
    return AG_OK;
}

ag_status_t ag_settings_read(const ag_model_files_t *files, const ag_family_t *family,
                             const ag_key_row_t *keys, ag_settings_t *settings)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);

    for (const ag_key_row_t *row = keys; row->hf != NULL || row->gguf != NULL; row++) {
        const char *key = gguf != NULL ? row->gguf : row->hf;
        number_t number = gguf != NULL ? gguf_number(gguf, family->gguf_arch, row->gguf)
                                       : config_number(ag_model_files_config(files), row->hf);
        ag_status_t status;

        if (!number.present) {
            if (row->required) {
                return ag_fail(AG_ERR_FORMAT, "%s: %s%s%s is missing or not a number",
                               ag_model_files_path(files), gguf != NULL ? family->gguf_arch : "",
                               gguf != NULL ? "." : "config.json: ", key);
            }
            continue;
        }
        status = store_setting(files, row, key, number.value, settings);
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

const char *ag_setting_text(const ag_model_files_t *files, const char *hf_path,
                            const char *gguf_key, char *text, size_t n_bytes)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *value = gguf != NULL ? ag_gguf_get(gguf, gguf_key) : NULL;

    if (gguf == NULL) {
        return ag_json_string(ag_json_path(ag_model_files_config(files), hf_path), NULL);
    }
    if (value == NULL || value->kind != AG_GGUF_STRING || value->as.string.n_bytes >= n_bytes) {
        return NULL;
    }
    memcpy(text, value->as.string.bytes, value->as.string.n_bytes);
    text[value->as.string.n_bytes] = '\0';
    return text;
}

const ag_json_t *ag_rope_setting(const ag_json_t *config, const char *name)
{
    static const char *const groups[] = {"rope_scaling", "rope_parameters"};
    const ag_json_t *setting = NULL;

    for (int i = 0; i < 2 && setting == NULL; i++) {
        char plain[AG_PATH_BYTES], path[AG_PATH_BYTES];
        int n = snprintf(plain, sizeof(plain), "%s.%s", groups[i], name);

        ag_rope_path(plain, (size_t)n, has_several_ropes(config), path);
        setting = ag_json_path(config, path);
    }
    return setting;
}

double ag_gguf_number(const ag_gguf_t *gguf, const char *arch, const char *key, double otherwise)
{
    number_t number = gguf_number(gguf, arch, key);

    return number.present ? number.value : otherwise;
}

static void set_experts(const ag_settings_t *settings, ag_layer_spec_t *layer)
{
    layer->ffn_width = settings->expert_width > 0 ? settings->expert_width : settings->ffn_width;
    layer->shared_width = settings->shared_width;
    layer->route =
        (ag_route_t){.n_experts = settings->n_experts,
                     .n_used = settings->n_experts_used,
                     .sums_to_1 = settings->expert_weights_sum_1,
                     .scale = settings->expert_scale != 0 ? (float)settings->expert_scale : 1.0f,
                     .n_groups = settings->n_expert_groups,
                     .n_groups_used = settings->n_expert_groups_used};
}

void ag_settings_to_spec(const ag_settings_t *settings, ag_spec_t *spec)
{
    spec->n_layers = settings->n_layers;
    spec->hidden = settings->hidden;
    spec->vocab = settings->vocab;
    spec->context_tokens = settings->context_tokens;
    spec->norm_kind = AG_NORM_RMS;
    spec->norm_eps = (float)settings->norm_eps;
    spec->embed_scale = 1.0f;
    spec->tied = settings->tied;
    spec->n_layer_kinds = 1;
    spec->layer_kinds[0] = (ag_layer_spec_t){.norms_before = true,
                                             .ffn_is_gated = true,
                                             .n_heads = settings->n_heads,
                                             .n_kv_heads = settings->n_kv_heads,
                                             .head_dim = settings->head_dim,
                                             .rope = settings->rope,
                                             .ffn_width = settings->ffn_width};
    if (settings->n_experts > 0) {
        set_experts(settings, &spec->layer_kinds[0]);
    }
}

void ag_settings_of_spec(const ag_spec_t *spec, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    *settings = (ag_settings_t){
        .n_layers = spec->n_layers,
        .hidden = spec->hidden,
        .vocab = spec->vocab,
        .context_tokens = spec->context_tokens,
        .n_heads = layer->n_heads,
        .n_kv_heads = layer->n_kv_heads,
        .head_dim = layer->head_dim,
        .value_dim = layer->head_dim,
        .ffn_width = layer->ffn_width,
        .rotary = layer->rope.rotary,
        .n_experts = layer->route.n_experts,
        .n_experts_used = layer->route.n_used,
        .expert_width = layer->route.n_experts > 0 ? layer->ffn_width : 0,
        .shared_width = layer->shared_width,
        .n_expert_groups = layer->route.n_groups,
        .n_expert_groups_used = layer->route.n_groups_used,
        .expert_scale = (double)layer->route.scale,
        .expert_weights_sum_1 = layer->route.sums_to_1,
        .norm_eps = spec->norm_eps,
        .rope = layer->rope,
        .tied = spec->tied,
    };
}

/* The first name of an activation is what is written. */
static const struct {
    const char *name;
    ag_act_t act;
} acts[] = {{"silu", AG_ACT_SILU},
            {"swish", AG_ACT_SILU},
            {"gelu", AG_ACT_GELU},
            {"gelu_pytorch_tanh", AG_ACT_GELU_TANH},
            {"gelu_new", AG_ACT_GELU_TANH},
            {"relu", AG_ACT_RELU},
            {"quick_gelu", AG_ACT_GELU_QUICK}};

ag_status_t ag_family_activation(const ag_model_files_t *files, const char *key, ag_act_t otherwise,
                                 ag_act_t *act_p)
{
    const char *name = ag_json_string(ag_json_get(ag_model_files_config(files), key), NULL);

    if (name == NULL) {
        *act_p = otherwise;
        return AG_OK;
    }
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        if (strcmp(name, acts[i].name) == 0) {
            *act_p = acts[i].act;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: activation \"%s\" is not known (known: silu, gelu, gelu_new, "
                   "gelu_pytorch_tanh, relu, quick_gelu)",
                   ag_model_files_path(files), ag_quote_string(name).text);
}

ag_status_t ag_family_check_act(const ag_spec_t *spec, bool gguf, ag_act_t implied)
{
    ag_act_t act = spec->layer_kinds[0].ffn_act;

    return !gguf || act == implied
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED,
                         "the model's activation is %s; in a GGUF file of its architecture it "
                         "would be %s",
                         ag_activation_name(act), ag_activation_name(implied));
}

ag_status_t ag_family_check_plain(const ag_spec_t *spec, bool gguf, ag_act_t implied)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    if (gguf && (layer->q_bias || layer->k_bias || layer->v_bias || layer->o_bias)) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model has biases on its attention's matrices, which "
                       "GGUF files of its architecture have not");
    }
    return ag_family_check_act(spec, gguf, implied);
}

const char *ag_activation_name(ag_act_t act)
{
    size_t i = 0;

    while (i + 1 < sizeof(acts) / sizeof(acts[0]) && acts[i].act != act) {
        i++;
    }
    return acts[i].name;
}
