/* A model's settings: from its files, and to the spec and back. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/settings_priv.h"

/* What files say of a setting. */
typedef struct number {
    bool present; /* a number */
    bool is_null; /* there is none, whatever a file implies that does not say */
    double value;
} number_t;

static ag_status_t wrong_kind(const ag_model_files_t *files, const char *key, const char *what,
                              const char *wanted)
{
    return ag_fail(AG_ERR_FORMAT, "%s: %s%s is %s, where %s must stand", ag_model_files_path(files),
                   ag_model_files_gguf(files) == NULL ? "config.json: " : "", key, what, wanted);
}

static const char *name_of_kind(ag_json_kind_t kind)
{
    static const char *const names[] = {
        [AG_JSON_NONE] = "absent",        [AG_JSON_NULL] = "null",
        [AG_JSON_BOOL] = "true or false", [AG_JSON_INTEGER] = "a number",
        [AG_JSON_REAL] = "a number",      [AG_JSON_STRING] = "a string",
        [AG_JSON_ARRAY] = "a list",       [AG_JSON_OBJECT] = "a group of settings",
    };

    return names[kind];
}

/* As Python does, a yes or no may be a number. */
static ag_status_t json_number(const ag_model_files_t *files, const ag_json_t *json,
                               const char *path, ag_setting_kind_t wanted, number_t *number)
{
    ag_json_kind_t kind = ag_json_kind(json);

    *number = (number_t){.is_null = kind == AG_JSON_NULL};
    if (kind == AG_JSON_NONE || kind == AG_JSON_NULL) {
        return AG_OK;
    }
    if (kind == AG_JSON_BOOL && wanted == AG_SETTING_BOOL) {
        *number = (number_t){.present = true, .value = ag_json_bool(json, false)};
        return AG_OK;
    }
    if (kind == AG_JSON_INTEGER || kind == AG_JSON_REAL) {
        *number = (number_t){.present = true, .value = ag_json_number(json, 0)};
        return AG_OK;
    }
    return wrong_kind(files, path, name_of_kind(kind),
                      wanted == AG_SETTING_BOOL ? "true or false" : "a number");
}

ag_status_t ag_setting_number(const ag_model_files_t *files, const char *path,
                              ag_setting_kind_t kind, double *value_p)
{
    number_t number;
    ag_status_t status =
        json_number(files, ag_json_path(ag_model_files_config(files), path), path, kind, &number);

    if (status == AG_OK && number.present) {
        *value_p = number.value;
    }
    return status;
}

ag_status_t ag_setting_list(const ag_model_files_t *files, const char *path,
                            const ag_json_t **list_p)
{
    const ag_json_t *list = ag_json_path(ag_model_files_config(files), path);
    ag_json_kind_t kind = ag_json_kind(list);

    *list_p = kind == AG_JSON_ARRAY ? list : NULL;
    return kind == AG_JSON_ARRAY || kind == AG_JSON_NONE || kind == AG_JSON_NULL
               ? AG_OK
               : wrong_kind(files, path, name_of_kind(kind), "a list");
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

/*
 * As transformers has it: a rope_scaling with anything in it stands in the place of the whole of
 * rope_parameters; where several ropes are, it changes the main one.
 */
void ag_rope_setting_path(const ag_json_t *config, const char *path, size_t n_chars,
                          char at[AG_PATH_BYTES])
{
    bool several = ag_json_kind(ag_json_path(config, main_rope)) == AG_JSON_OBJECT;
    size_t n_group = sizeof(rope_group) - 1;

    if (!several && ag_json_size(ag_json_get(config, "rope_scaling")) > 0 &&
        strncmp(path, rope_group, n_group) == 0 && n_chars > n_group) {
        snprintf(at, AG_PATH_BYTES, "rope_scaling.%.*s", (int)(n_chars - n_group), path + n_group);
    } else {
        ag_rope_path(path, n_chars, several, at);
    }
}

ag_status_t ag_rope_check_groups(const ag_model_files_t *files)
{
    static const char *const groups[] = {"rope_scaling", "rope_parameters", main_rope,
                                         "rope_parameters.sliding_attention"};

    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        ag_json_kind_t kind = ag_json_kind(ag_json_path(ag_model_files_config(files), groups[i]));

        if (kind != AG_JSON_NONE && kind != AG_JSON_NULL && kind != AG_JSON_OBJECT) {
            return wrong_kind(files, groups[i], name_of_kind(kind), "a group of settings");
        }
    }
    return AG_OK;
}

/* paths: alternatives joined by '|', the first that is there counts */
static ag_status_t config_number(const ag_model_files_t *files, const char *paths,
                                 ag_setting_kind_t wanted, number_t *number_p)
{
    const ag_json_t *config = ag_model_files_config(files);

    *number_p = (number_t){0};
    while (paths != NULL && *paths != '\0' && !number_p->present) {
        size_t n_chars = strcspn(paths, "|");
        char path[AG_PATH_BYTES];
        number_t number;
        ag_status_t status;

        ag_rope_setting_path(config, paths, n_chars, path);
        status = json_number(files, ag_json_path(config, path), path, wanted, &number);
        if (status != AG_OK) {
            return status;
        }
        number.is_null |= number_p->is_null;
        *number_p = number;
        paths += n_chars + (paths[n_chars] == '|');
    }
    return AG_OK;
}

static ag_status_t gguf_number(const ag_model_files_t *files, const char *arch, const char *key,
                               ag_setting_kind_t wanted, number_t *number_p)
{
    char full[128];
    const ag_gguf_value_t *value;

    *number_p = (number_t){0};
    if (key == NULL) {
        return AG_OK;
    }
    snprintf(full, sizeof(full), "%s.%s", arch, key);
    value = ag_gguf_get(ag_model_files_gguf(files), full);
    if (value == NULL) {
        return AG_OK;
    }
    if (value->kind == AG_GGUF_STRING || value->kind == AG_GGUF_ARRAY ||
        (value->kind == AG_GGUF_BOOL && wanted != AG_SETTING_BOOL)) {
        return wrong_kind(files, full,
                          value->kind == AG_GGUF_STRING  ? "a string"
                          : value->kind == AG_GGUF_ARRAY ? "a list"
                                                         : "true or false",
                          wanted == AG_SETTING_BOOL ? "true or false" : "a number");
    }
    *number_p = (number_t){.present = true,
                           .value = value->kind == AG_GGUF_F32 || value->kind == AG_GGUF_F64
                                        ? value->as.real
                                        : (double)value->as.integer};
    return AG_OK;
}

static void set_field(const ag_key_row_t *row, double value, ag_settings_t *settings)
{
    void *field = (char *)settings + row->offset;

    if (row->kind == AG_SETTING_U32) {
        *(uint32_t *)field = (uint32_t)value;
    } else if (row->kind == AG_SETTING_REAL) {
        *(double *)field = value;
    } else {
        *(bool *)field = value != 0;
    }
}

static ag_status_t store_setting(const ag_model_files_t *files, const ag_key_row_t *row,
                                 const char *key, double value, ag_settings_t *settings)
{
    if (row->kind == AG_SETTING_U32 &&
        (!(value >= 0 && value <= UINT32_MAX) || value != floor(value))) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s is %g, which makes no sense",
                       ag_model_files_path(files), key, value);
    }
    if (row->kind == AG_SETTING_REAL && !isfinite(value)) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s is not a finite number", ag_model_files_path(files),
                       key);
    }
    set_field(row, value, settings);
    return AG_OK;
}

const ag_default_t *ag_settings_default(const ag_family_t *family, size_t offset)
{
    for (const ag_default_t *row = family->defaults;
         row != NULL && (row->hf != 0 || row->gguf != 0); row++) {
        if (row->offset == offset) {
            return row;
        }
    }
    return NULL;
}

static void set_default(const ag_model_files_t *files, const ag_family_t *family,
                        const ag_key_row_t *row, ag_settings_t *settings)
{
    const ag_default_t *known = ag_settings_default(family, row->offset);
    double value = known == NULL ? 0 : ag_model_files_gguf(files) != NULL ? known->gguf : known->hf;

    if (value != 0) {
        set_field(row, value, settings);
    }
}

ag_status_t ag_settings_read(const ag_model_files_t *files, const ag_family_t *family,
                             const ag_key_row_t *keys, ag_settings_t *settings)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);

    for (const ag_key_row_t *row = keys; row->hf != NULL || row->gguf != NULL; row++) {
        const char *key = gguf != NULL ? row->gguf : row->hf;
        number_t number;
        ag_status_t status =
            gguf != NULL ? gguf_number(files, family->gguf_arch, row->gguf, row->kind, &number)
                         : config_number(files, row->hf, row->kind, &number);

        if (status == AG_OK && !number.present && row->required) {
            return ag_fail(AG_ERR_FORMAT, "%s: %s%s%s is missing", ag_model_files_path(files),
                           gguf != NULL ? family->gguf_arch : "",
                           gguf != NULL ? "." : "config.json: ", key);
        }
        set_default(files, family, row, settings);
        if (status == AG_OK && (number.present || number.is_null)) {
            status = store_setting(files, row, key, number.value, settings);
        }
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

ag_status_t ag_setting_text(const ag_model_files_t *files, const char *hf_path,
                            const char *gguf_key, ag_setting_text_t *text)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *value = gguf != NULL ? ag_gguf_get(gguf, gguf_key) : NULL;
    const ag_json_t *json =
        gguf == NULL ? ag_json_path(ag_model_files_config(files), hf_path) : NULL;
    ag_json_kind_t kind = ag_json_kind(json);

    *text = (ag_setting_text_t){0};
    if (value != NULL && value->kind != AG_GGUF_STRING) {
        return wrong_kind(files, gguf_key, "no string", "one");
    }
    if (value != NULL && value->as.string.n_bytes >= sizeof(text->room)) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s is a string of %zu bytes, which makes no sense",
                       ag_model_files_path(files), gguf_key, value->as.string.n_bytes);
    }
    if (value != NULL) {
        memcpy(text->room, value->as.string.bytes, value->as.string.n_bytes);
        text->is_there = true;
    }
    if (kind == AG_JSON_STRING) {
        snprintf(text->room, sizeof(text->room), "%s", ag_json_string(json, NULL));
        text->is_there = true;
    } else if (kind != AG_JSON_NONE && kind != AG_JSON_NULL) {
        return wrong_kind(files, hf_path, name_of_kind(kind), "a string");
    }
    return AG_OK;
}

ag_status_t ag_rope_text(const ag_model_files_t *files, const char *name, ag_setting_text_t *text)
{
    static const char *const groups[] = {"rope_scaling", "rope_parameters"};
    ag_status_t status = AG_OK;

    *text = (ag_setting_text_t){0};
    for (int i = 0; i < 2 && !text->is_there && status == AG_OK; i++) {
        char plain[AG_PATH_BYTES], path[AG_PATH_BYTES];
        int n = snprintf(plain, sizeof(plain), "%s.%s", groups[i], name);

        ag_rope_setting_path(ag_model_files_config(files), plain, (size_t)n, path);
        status = ag_setting_text(files, path, NULL, text);
    }
    return status;
}

ag_status_t ag_gguf_number(const ag_model_files_t *files, const char *arch, const char *key,
                           ag_setting_kind_t kind, double *value_p)
{
    number_t number;
    ag_status_t status = gguf_number(files, arch, key, kind, &number);

    if (status == AG_OK && number.present) {
        *value_p = number.value;
    }
    return status;
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
        .rope_by_turns = layer->rope_by_turns,
        .sparse_step = 1,
        .glu_limit = (double)layer->ffn_limit,
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
    ag_setting_text_t name = {0};
    ag_status_t status =
        ag_model_files_gguf(files) == NULL ? ag_setting_text(files, key, NULL, &name) : AG_OK;

    if (status != AG_OK || !name.is_there) {
        *act_p = otherwise;
        return status;
    }
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        if (strcmp(name.room, acts[i].name) == 0) {
            *act_p = acts[i].act;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: activation \"%s\" is not known (known: silu, gelu, gelu_new, "
                   "gelu_pytorch_tanh, relu, quick_gelu)",
                   ag_model_files_path(files), ag_quote_string(name.room).text);
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
