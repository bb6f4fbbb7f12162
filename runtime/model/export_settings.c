/* The settings of a spec in the two spellings: a family's keys, read backwards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/export_priv.h"
#include "runtime/model/settings_priv.h"

static ag_status_t settings_of(const ag_model_t *model, bool gguf, ag_settings_t *settings)
{
    ag_status_t status;

    ag_settings_of_spec(model->spec, settings);
    status = model->family->restore(model->spec, gguf, settings);
    if (status == AG_OK && gguf && settings->rope.kind == AG_ROPE_YARN &&
        !settings->rope.truncates) {
        status = ag_fail(AG_ERR_UNSUPPORTED, "the model's yarn rope has a ramp between parts of "
                                             "dimensions (truncate is false), which a GGUF file of "
                                             "its architecture cannot say");
    }
    return status;
}

static double value_of(const ag_settings_t *settings, const ag_key_row_t *row)
{
    const void *field = (const char *)settings + row->offset;

    switch (row->kind) {
    case AG_SETTING_U32:
        return *(const uint32_t *)field;
    case AG_SETTING_REAL:
        return *(const double *)field;
    default:
        return *(const bool *)field;
    }
}

/* Which numbers a kind of rope is named by. */
static bool is_of_rope(ag_rope_kind_t kind, size_t offset)
{
    switch (kind) {
    case AG_ROPE_LINEAR:
        return offset == AG_SETTING_FIELD(rope.factor) ||
               offset == AG_SETTING_FIELD(rope.mscale_all_dim);
    case AG_ROPE_LLAMA3:
        return offset == AG_SETTING_FIELD(rope.factor) ||
               offset == AG_SETTING_FIELD(rope.low_freq_factor) ||
               offset == AG_SETTING_FIELD(rope.high_freq_factor) ||
               offset == AG_SETTING_FIELD(rope.original_context_tokens);
    case AG_ROPE_YARN:
        return offset != AG_SETTING_FIELD(rope.low_freq_factor) &&
               offset != AG_SETTING_FIELD(rope.high_freq_factor);
    default:
        return false;
    }
}

/* Settings that are zero stand for absent ones. */
static bool is_written(const ag_key_row_t *row, double value)
{
    return row->required || row->kind == AG_SETTING_BOOL || value != 0;
}

/* What came through a float32 is the shortest decimal that it is. */
static double shortest(double value)
{
    char text[32];

    for (int digits = 1; digits < 10 && (double)(float)value == value; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value) {
            return strtod(text, NULL);
        }
    }
    return value;
}

static ag_json_t *json_of(ag_setting_kind_t kind, double value)
{
    return kind == AG_SETTING_U32    ? ag_json_new_integer((int64_t)value)
           : kind == AG_SETTING_REAL ? ag_json_new_real(shortest(value))
                                     : ag_json_new_bool(value != 0);
}

/* @param path  of one member, or of a member's member: "rope_parameters.factor" */
static void set_path(ag_json_t *json, const char *path, ag_json_t *value)
{
    const char *dot;

    for (; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        char outer[64];

        snprintf(outer, sizeof(outer), "%.*s", (int)(dot - path), path);
        if (ag_json_get(json, outer) == NULL) {
            ag_json_set(json, outer, ag_json_new_object());
        }
        json = ag_json_get(json, outer);
        if (json == NULL) {
            ag_json_destroy(value); /* no memory */
            return;
        }
    }
    ag_json_set(json, path, value);
}

/* Under each of the names that versions of transformers know it by. */
static void set_all(ag_json_t *json, const char *paths, bool several_ropes, ag_setting_kind_t kind,
                    double value)
{
    while (*paths != '\0') {
        size_t n = strcspn(paths, "|");
        char path[AG_PATH_BYTES];

        ag_rope_path(paths, n, several_ropes, path);
        set_path(json, path, json_of(kind, value));
        paths += n + (paths[n] == '|');
    }
}

static void set_text(ag_json_t *json, const char *path, const char *text)
{
    set_path(json, path, ag_json_new_string(text, strlen(text)));
}

static const char *rope_name(ag_rope_kind_t kind)
{
    size_t i = 0;

    while (ag_rope_names[i].kind != kind) {
        i++;
    }
    return ag_rope_names[i].name;
}

/* Do layers of different types have ropes of their own? */
static bool has_several_ropes(const ag_settings_t *settings)
{
    return settings->window_rope_base > 0;
}

static ag_json_t *json_of_floats(const float *values, uint32_t n)
{
    ag_json_t *list = ag_json_new_array();

    for (uint32_t i = 0; i < n; i++) {
        ag_json_append(list, ag_json_new_real(shortest(values[i])));
    }
    return list;
}

/* Version 4 of transformers takes three members of a rope_scaling, and finds the context beside. */
static void set_long_rope(ag_json_t *json, const ag_layer_spec_t *layer)
{
    static const char *const groups[] = {"rope_scaling", "rope_parameters"};
    ag_rope_spec_t rope = layer->rope;
    double magnitude = ag_rope_magnitude(&rope);

    rope.attention_factor = 0;
    for (int group = 0; group < 2; group++) {
        char path[AG_PATH_BYTES];

        for (uint32_t i = 0; i < 2; i++) {
            snprintf(path, sizeof(path), "%s.%s", groups[group], ag_long_factors[i]);
            set_path(json, path,
                     json_of_floats(layer->rope_factors + i * (rope.rotary / 2), rope.rotary / 2));
        }
        if (fabs(ag_rope_magnitude(&rope) - magnitude) > 1e-6) {
            snprintf(path, sizeof(path), "%s.attention_factor", groups[group]);
            set_path(json, path, ag_json_new_real(shortest(magnitude)));
        }
    }
    set_text(json, "rope_scaling.type", rope_name(rope.kind));
    set_text(json, "rope_parameters.rope_type", rope_name(rope.kind));
    set_path(json, "original_max_position_embeddings",
             ag_json_new_integer(rope.original_context_tokens));
}

static void set_rope(ag_json_t *json, const ag_settings_t *settings)
{
    static const char type[] = "rope_parameters.rope_type";
    ag_rope_kind_t kind = settings->rope.kind;
    bool several = has_several_ropes(settings);
    char path[AG_PATH_BYTES];

    ag_rope_path(type, strlen(type), several, path);
    set_text(json, path, rope_name(kind));
    if (several) {
        set_text(json, "rope_parameters.sliding_attention.rope_type", rope_name(AG_ROPE_DEFAULT));
    }
    if (kind != AG_ROPE_DEFAULT) {
        set_text(json, "rope_scaling.rope_type", rope_name(kind));
        set_text(json, "rope_scaling.type", rope_name(kind));
    }
    for (const ag_key_row_t *row = ag_rope_keys; row->hf != NULL || row->gguf != NULL; row++) {
        double value = value_of(settings, row);

        if (row->hf != NULL && is_of_rope(kind, row->offset) && is_written(row, value)) {
            set_all(json, row->hf, several, row->kind, value);
        }
    }
}

/* Where some have a window and others have none, or config.json would imply other ones. */
static void set_layer_types(ag_json_t *json, const ag_model_t *model, const ag_settings_t *settings)
{
    const ag_spec_t *spec = model->spec;
    ag_json_t *types;

    if (!ag_spec_windows_differ(spec) &&
        !(model->family->gguf_lists_windows && settings->window_tokens > 0)) {
        return;
    }
    types = ag_json_new_array();
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        const char *type = ag_layer_type_names[ag_spec_layer(spec, i)->window_tokens > 0];

        ag_json_append(types, ag_json_new_string(type, strlen(type)));
    }
    ag_json_set(json, "layer_types", types);
}

static ag_status_t config_of_spec(const ag_model_t *model, ag_json_t *json)
{
    const ag_family_t *family = model->family;
    ag_json_t *classes = ag_json_new_array();
    ag_settings_t settings;
    ag_status_t status = settings_of(model, false, &settings);

    ag_json_append(classes, ag_json_new_string(family->hf_class, strlen(family->hf_class)));
    ag_json_set(json, "architectures", classes);
    if (status == AG_OK) {
        status = ag_export_rope(model, &settings.rope);
    }
    if (status != AG_OK) {
        return status;
    }
    set_text(json, "model_type", family->hf_model_type);
    set_text(json, family->hf_act, ag_activation_name(model->spec->layer_kinds[0].ffn_act));
    for (const ag_key_row_t *row = family->keys; row->hf != NULL || row->gguf != NULL; row++) {
        double value = value_of(&settings, row);

        const ag_default_t *unsaid = ag_settings_default(family, row->offset);

        if (row->hf != NULL && value == 0 && unsaid != NULL && unsaid->is_null) {
            set_path(json, row->hf, ag_json_new_null());
        } else if (row->hf != NULL && (is_written(row, value) || unsaid != NULL)) {
            set_all(json, row->hf, has_several_ropes(&settings), row->kind, value);
        }
    }
    if (settings.rope.kind == AG_ROPE_LONG) {
        set_long_rope(json, &model->spec->layer_kinds[0]);
    } else if (settings.rope.rotary > 0) {
        set_rope(json, &settings);
    }
    set_layer_types(json, model, &settings);
    ag_json_set(json, "initializer_range", ag_json_new_real(0.02));
    return AG_OK;
}

static ag_status_t copy_json(const ag_json_t *from, const char *what, ag_json_t **json_p)
{
    char *text;
    ag_status_t status = ag_json_text(from, AG_JSON_LINE, &text);

    if (status == AG_OK) {
        status = ag_json_parse(text, strlen(text), what, json_p);
        free(text);
    }
    return status;
}

/* The type that most weights have: torch's name of it. */
static const char *torch_dtype(const ag_export_t *export)
{
    ag_dtype_t dtype = AG_ITEMS(&export->tensors, ag_export_tensor_t)[0].dtype;

    return dtype == AG_BF16 ? "bfloat16" : dtype == AG_F16 ? "float16" : "float32";
}

ag_status_t ag_export_config(const ag_export_t *export, ag_json_t **json_p)
{
    const ag_json_t *own = ag_model_files_config(export->model->files);
    ag_json_t *json = NULL;
    ag_status_t status = AG_OK;

    if (own != NULL) {
        status = copy_json(own, "config.json", &json);
    } else {
        json = ag_json_new_object();
        status = json != NULL ? config_of_spec(export->model, json)
                              : ag_fail_nomem("writing config.json", 1);
    }
    if (status != AG_OK) {
        ag_json_destroy(json);
        return status;
    }
    ag_json_destroy(
        ag_json_take(json, "quantization_config")); /* no type written has scales apart */
    set_text(json, "dtype", torch_dtype(export));   /* transformers 5 */
    set_text(json, "torch_dtype", torch_dtype(export));
    *json_p = json;
    return AG_OK;
}

/* llama.cpp's LLAMA_FTYPE_* of a file whose weights mostly have a type. */
static uint32_t file_type(ag_dtype_t dtype)
{
    static const struct {
        ag_dtype_t dtype;
        uint32_t number;
    } numbers[] = {{AG_F32, 0},   {AG_F16, 1},   {AG_BF16, 32},   {AG_Q8_0, 7},
                   {AG_Q4_0, 2},  {AG_Q4_1, 3},  {AG_Q5_0, 8},    {AG_Q5_1, 9},
                   {AG_Q4_K, 14}, {AG_Q6_K, 18}, {AG_MXFP4, 38},  {AG_Q5_K, 16},
                   {AG_Q2_K, 21}, {AG_Q3_K, 11}, {AG_IQ4_NL, 25}, {AG_IQ4_XS, 30}};
    size_t i = 0;

    while (i + 1 < sizeof(numbers) / sizeof(numbers[0]) && numbers[i].dtype != dtype) {
        i++;
    }
    return numbers[i].number;
}

/* The type that takes the most bytes. */
static ag_dtype_t main_dtype(const ag_export_t *export)
{
    uint64_t bytes[AG_N_DTYPES] = {0};
    ag_dtype_t most = AG_F32;

    for (size_t i = 0; i < export->tensors.n_items; i++) {
        const ag_export_tensor_t *tensor = &AG_ITEMS(&export->tensors, ag_export_tensor_t)[i];

        bytes[tensor->dtype] += ag_export_tensor_bytes(tensor);
    }
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        most = bytes[dtype] > bytes[most] ? (ag_dtype_t)dtype : most;
    }
    return most;
}

/* What a GGUF file says of itself; who wrote it is kept, how it is written is not. */
static void put_general(const ag_export_t *export, const char *name, ag_gguf_metadata_t *metadata)
{
    static const char *const ours[] = {"general.architecture", "general.file_type",
                                       "general.quantization_version", "general.alignment"};
    const ag_gguf_t *gguf = ag_model_files_gguf(export->model->files);
    const char *arch = export->model->family->gguf_arch, *key;
    const ag_gguf_value_t *value;
    ag_dtype_t dtype = main_dtype(export);

    ag_gguf_put_string(metadata, "general.architecture", arch, strlen(arch));
    for (size_t i = 0; gguf != NULL && (value = ag_gguf_entry(gguf, i, &key)) != NULL; i++) {
        bool skipped = strncmp(key, "general.", strlen("general.")) != 0 ||
                       (name != NULL && strcmp(key, "general.name") == 0);

        for (size_t k = 0; k < sizeof(ours) / sizeof(ours[0]); k++) {
            skipped = skipped || strcmp(key, ours[k]) == 0;
        }
        if (!skipped) {
            ag_gguf_put_value(metadata, key, value);
        }
    }
    if (name != NULL) {
        ag_gguf_put_string(metadata, "general.name", name, strlen(name));
    }
    ag_gguf_put_u32(metadata, "general.file_type", file_type(dtype));
    if (ag_dtype_info(dtype)->block_elements > 1) {
        ag_gguf_put_u32(metadata, "general.quantization_version", 2);
    }
}

static void put_setting(const ag_family_t *family, const ag_key_row_t *row, double value,
                        ag_gguf_metadata_t *metadata)
{
    char key[128];

    snprintf(key, sizeof(key), "%s.%s", family->gguf_arch, row->gguf);
    if (row->kind == AG_SETTING_U32) {
        ag_gguf_put_u32(metadata, key, (uint32_t)value);
    } else if (row->kind == AG_SETTING_REAL) {
        ag_gguf_put_f32(metadata, key, (float)value);
    } else {
        ag_gguf_put_bool(metadata, key, value != 0);
    }
}

/* Of a longrope the factors are tensors, and files do not name it (llama.cpp's converter). */
static void put_long_rope(const ag_family_t *family, const ag_rope_spec_t *rope,
                          ag_gguf_metadata_t *metadata)
{
    char key[128];

    snprintf(key, sizeof(key), "%s.rope.scaling.original_context_length", family->gguf_arch);
    ag_gguf_put_u32(metadata, key, rope->original_context_tokens);
    snprintf(key, sizeof(key), "%s.rope.scaling.attn_factor", family->gguf_arch);
    ag_gguf_put_f32(metadata, key, (float)ag_rope_magnitude(rope));
}

/* A llama3 rope is a tensor. */
static void put_rope(const ag_family_t *family, ag_settings_t *settings,
                     ag_gguf_metadata_t *metadata)
{
    ag_rope_spec_t *rope = &settings->rope;
    char key[128];

    if (rope->kind == AG_ROPE_LONG) {
        put_long_rope(family, rope, metadata);
    }
    if (rope->kind != AG_ROPE_LINEAR && rope->kind != AG_ROPE_YARN) {
        return;
    }
    rope->attention_factor /= ag_yarn_magnitude(rope->factor, 1); /* by which readers multiply */
    if (fabs(rope->attention_factor - 1) < 1e-6) {
        rope->attention_factor = 0;
    }
    snprintf(key, sizeof(key), "%s.rope.scaling.type", family->gguf_arch);
    ag_gguf_put_string(metadata, key, rope_name(rope->kind), strlen(rope_name(rope->kind)));
    for (const ag_key_row_t *row = ag_rope_keys; row->hf != NULL || row->gguf != NULL; row++) {
        double value = value_of(settings, row);

        if (row->gguf != NULL && is_of_rope(rope->kind, row->offset) && is_written(row, value)) {
            put_setting(family, row, value, metadata);
        }
    }
}

static void put_windows(const ag_model_t *model, ag_gguf_metadata_t *metadata)
{
    char key[128];

    snprintf(key, sizeof(key), "%s.%s", model->family->gguf_arch, ag_gguf_pattern_key);
    ag_gguf_put_array(metadata, key, AG_GGUF_BOOL, model->spec->n_layers);
    for (uint32_t i = 0; i < model->spec->n_layers; i++) {
        ag_gguf_add_bool(metadata, ag_spec_layer(model->spec, i)->window_tokens > 0);
    }
}

ag_status_t ag_export_metadata(const ag_export_t *export, const char *name,
                               ag_gguf_metadata_t *metadata)
{
    const ag_family_t *family = export->model->family;
    ag_settings_t settings;
    ag_status_t status = settings_of(export->model, true, &settings);

    if (status != AG_OK) {
        return status;
    }
    put_general(export, name, metadata);
    for (const ag_key_row_t *row = family->keys; row->hf != NULL || row->gguf != NULL; row++) {
        double value = value_of(&settings, row);

        if (row->gguf != NULL && is_written(row, value)) {
            put_setting(family, row, value, metadata);
        }
    }
    put_rope(family, &settings, metadata);
    if ((family->gguf_lists_windows && settings.window_tokens > 0) ||
        (family->gguf_window_is_ours && ag_spec_windows_differ(export->model->spec))) {
        put_windows(export->model, metadata);
    }
    return metadata->status;
}
