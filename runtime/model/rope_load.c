/* Ropes of a model's files: settings, divisors that files list, the frequencies of both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/settings_priv.h"

/* What every family's rope may say, wherever its config puts it. */
const ag_key_row_t ag_rope_keys[] = {
    {offsetof(ag_settings_t, rope.factor), AG_SETTING_REAL, false,
     "rope_scaling.factor|rope_parameters.factor", "rope.scaling.factor"},
    {offsetof(ag_settings_t, rope.low_freq_factor), AG_SETTING_REAL, false,
     "rope_scaling.low_freq_factor|rope_parameters.low_freq_factor", NULL},
    {offsetof(ag_settings_t, rope.high_freq_factor), AG_SETTING_REAL, false,
     "rope_scaling.high_freq_factor|rope_parameters.high_freq_factor", NULL},
    {offsetof(ag_settings_t, rope.beta_fast), AG_SETTING_REAL, false,
     "rope_scaling.beta_fast|rope_parameters.beta_fast", "rope.scaling.yarn_beta_fast"},
    {offsetof(ag_settings_t, rope.beta_slow), AG_SETTING_REAL, false,
     "rope_scaling.beta_slow|rope_parameters.beta_slow", "rope.scaling.yarn_beta_slow"},
    {offsetof(ag_settings_t, rope.attention_factor), AG_SETTING_REAL, false,
     "rope_scaling.attention_factor|rope_parameters.attention_factor", "rope.scaling.attn_factor"},
    {offsetof(ag_settings_t, rope.mscale), AG_SETTING_REAL, false,
     "rope_scaling.mscale|rope_parameters.mscale", NULL},
    {offsetof(ag_settings_t, rope.mscale_all_dim), AG_SETTING_REAL, false,
     "rope_scaling.mscale_all_dim|rope_parameters.mscale_all_dim", NULL},
    {offsetof(ag_settings_t, rope.truncates), AG_SETTING_BOOL, false,
     "rope_scaling.truncate|rope_parameters.truncate", NULL},
    {offsetof(ag_settings_t, rope.original_context_tokens), AG_SETTING_U32, false,
     "original_max_position_embeddings|rope_scaling.original_max_position_embeddings|"
     "rope_parameters.original_max_position_embeddings",
     "rope.scaling.original_context_length"},
    {0},
};

/* The kinds of rope scaling by the names that files give them. */
const ag_rope_name_t ag_rope_names[] = {
    {"default", AG_ROPE_DEFAULT}, {"none", AG_ROPE_DEFAULT},    {"linear", AG_ROPE_LINEAR},
    {"llama3", AG_ROPE_LLAMA3},   {"yarn", AG_ROPE_YARN},       {"longrope", AG_ROPE_LONG},
    {"su", AG_ROPE_LONG},         {"dynamic", AG_ROPE_DEFAULT}, /* changes nothing within the
                                                                   model's own context */
    {NULL, AG_ROPE_DEFAULT},
};

const char *const ag_long_factors[2] = {"short_factor", "long_factor"};

/* What the files call the rope's scaling. */
static ag_status_t scaling_name(const ag_model_files_t *files, const ag_family_t *family,
                                ag_setting_text_t *name)
{
    char key[128];
    ag_status_t status;

    if (ag_model_files_gguf(files) != NULL) {
        snprintf(key, sizeof(key), "%s.rope.scaling.type", family->gguf_arch);
        status = ag_setting_text(files, NULL, key, name);
        if (ag_family_find(family, files, AG_ROLE_ROPE_FACTORS_LONG, 0, 0).tensor != NULL) {
            *name = (ag_setting_text_t){.is_there = true, .room = "longrope"};
        }
        return status;
    }
    status = ag_rope_text(files, "rope_type", name);
    return status == AG_OK && !name->is_there ? ag_rope_text(files, "type", name) : status;
}

static bool says_no_rope(const ag_json_t *config)
{
    return config != NULL && ag_json_size(ag_json_get(config, "rope_scaling")) == 0 &&
           ag_json_kind(ag_json_get(config, "rope_parameters")) <= AG_JSON_NULL;
}

/* A factor by itself. */
static ag_status_t read_gguf_factor(const ag_model_files_t *files, const ag_family_t *family,
                                    ag_rope_spec_t *rope)
{
    ag_status_t status = AG_OK;

    if (ag_model_files_gguf(files) != NULL) {
        if (rope->factor == 0) {
            status = ag_gguf_number(files, family->gguf_arch, "rope.scale_linear", AG_SETTING_REAL,
                                    &rope->factor);
        }
        rope->kind = rope->factor != 0 && rope->factor != 1 ? AG_ROPE_LINEAR : AG_ROPE_DEFAULT;
    }
    return status;
}

static ag_status_t read_rope_kind(const ag_model_files_t *files, const ag_family_t *family,
                                  ag_rope_spec_t *rope)
{
    ag_setting_text_t name;
    ag_status_t status = scaling_name(files, family, &name);

    if (family->default_rope != NULL && says_no_rope(ag_model_files_config(files))) {
        double base = rope->base;

        *rope = *family->default_rope;
        rope->base = base;
        return AG_OK;
    }
    if (status != AG_OK || !name.is_there) {
        return status == AG_OK ? read_gguf_factor(files, family, rope) : status;
    }
    for (size_t i = 0; ag_rope_names[i].name != NULL; i++) {
        if (strcmp(name.room, ag_rope_names[i].name) == 0) {
            rope->kind = ag_rope_names[i].kind;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: rope scaling \"%s\" is not known (known: default, linear, "
                   "dynamic, llama3, yarn, longrope)",
                   ag_model_files_path(files), ag_quote_string(name.room).text);
}

/* GGUF files say what multiplies that which follows from yarn's factor, and all of longrope's. */
static ag_status_t read_gguf_magnitude(const ag_model_files_t *files, ag_rope_spec_t *rope)
{
    double factor = rope->attention_factor;

    rope->attention_factor = rope->kind == AG_ROPE_LONG ? 1 : 0;
    if (factor == 0 || factor == 1) {
        return AG_OK;
    }
    if (rope->kind != AG_ROPE_LONG && rope->kind != AG_ROPE_YARN) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope.scaling.attn_factor of %g of a rope that is neither yarn nor "
                       "longrope is not known",
                       ag_model_files_path(files), factor);
    }
    rope->attention_factor =
        factor * (rope->kind == AG_ROPE_YARN ? ag_yarn_magnitude(rope->factor, 1) : 1);
    return AG_OK;
}

/* Beside null, which is what follows from the others. */
static bool says_zero(const ag_model_files_t *files)
{
    static const char plain[] = "rope_parameters.attention_factor";
    const ag_json_t *config = ag_model_files_config(files);
    char path[AG_PATH_BYTES];

    ag_rope_setting_path(config, plain, sizeof(plain) - 1, path);
    return ag_json_number(ag_json_path(config, path), 1) == 0;
}

/* What the numbers leave out. */
static ag_status_t complete_rope(const ag_model_files_t *files, const ag_settings_t *settings,
                                 ag_rope_spec_t *rope)
{
    rope->rotary = settings->rotary > 0 ? settings->rotary
                   : settings->rotary_factor > 0
                       ? (uint32_t)(settings->head_dim * settings->rotary_factor)
                       : settings->head_dim;
    if (rope->original_context_tokens == 0 && rope->kind == AG_ROPE_LONG) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: a longrope needs the context that the model had before "
                       "(original_max_position_embeddings)",
                       ag_model_files_path(files));
    }
    if (rope->original_context_tokens == 0) {
        rope->original_context_tokens = settings->context_tokens;
    } else if (rope->factor == 0 && (rope->kind == AG_ROPE_YARN || rope->kind == AG_ROPE_LONG)) {
        rope->factor = (double)settings->context_tokens / rope->original_context_tokens;
    }
    if (ag_model_files_gguf(files) != NULL) {
        ag_status_t status = read_gguf_magnitude(files, rope);

        if (status != AG_OK) {
            return status;
        }
    }
    if (rope->kind == AG_ROPE_YARN && rope->attention_factor == 0 && rope->mscale > 0 &&
        rope->mscale_all_dim > 0) {
        rope->attention_factor = ag_yarn_magnitude(rope->factor, rope->mscale) /
                                 ag_yarn_magnitude(rope->factor, rope->mscale_all_dim);
    }
    if (rope->attention_factor < 0 || (rope->attention_factor == 0 && says_zero(files))) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: its rope's attention_factor is %g, it must be above zero",
                       ag_model_files_path(files), rope->attention_factor);
    }
    rope->beta_fast = rope->beta_fast > 0 ? rope->beta_fast : 32.0;
    rope->beta_slow = rope->beta_slow > 0 ? rope->beta_slow : 1.0;
    return AG_OK;
}

ag_status_t ag_settings_read_rope(const ag_model_files_t *files, const ag_family_t *family,
                                  ag_settings_t *settings)
{
    ag_rope_spec_t *rope = &settings->rope;
    ag_status_t status = read_rope_kind(files, family, rope);

    if (status == AG_OK) {
        status = complete_rope(files, settings, rope);
    }
    if (status != AG_OK) {
        return status;
    }
    if (!(rope->base > 0)) {
        return ag_fail(AG_ERR_FORMAT, "%s: the base of its rope is %g, it must be above zero",
                       ag_model_files_path(files), rope->base);
    }
    if (rope->kind != AG_ROPE_DEFAULT && !(rope->factor > 0)) {
        return ag_fail(AG_ERR_FORMAT, "%s: its rope scaling lacks a factor above zero",
                       ag_model_files_path(files));
    }
    if (rope->kind == AG_ROPE_LLAMA3 &&
        !(rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor)) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: llama3 rope scaling needs low_freq_factor above 0 and a larger "
                       "high_freq_factor",
                       ag_model_files_path(files));
    }
    return AG_OK;
}

static ag_status_t check_factors(const ag_model_files_t *files, const char *name,
                                 const float *factors, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!(factors[i] > 0 && isfinite(factors[i]))) {
            return ag_fail(AG_ERR_FORMAT, "%s: %s holds a factor that is not above zero",
                           ag_model_files_path(files), name);
        }
    }
    return AG_OK;
}

static ag_status_t read_tensor(const ag_model_files_t *files, const ag_found_tensor_t *found,
                               uint32_t n, float *factors)
{
    const ag_model_tensor_t *tensor = found->tensor;
    ag_status_t status;

    if (tensor->dtype != AG_F32 || tensor->bytes != n * sizeof(float)) {
        return ag_fail(AG_ERR_FORMAT, "%s: tensor %s should be %u float32 values",
                       ag_model_files_path(files), found->name, n);
    }
    status = ag_model_files_read(files, tensor, 0, tensor->bytes, factors);
    return status == AG_OK ? check_factors(files, found->name, factors, n) : status;
}

static ag_status_t read_list(const ag_model_files_t *files, const char *name, uint32_t n,
                             float *factors)
{
    const ag_json_t *list;
    char plain[AG_PATH_BYTES], path[AG_PATH_BYTES];
    int n_chars = snprintf(plain, sizeof(plain), "rope_parameters.%s", name);
    ag_status_t status;

    ag_rope_setting_path(ag_model_files_config(files), plain, (size_t)n_chars, path);
    status = ag_setting_list(files, path, &list);
    if (status != AG_OK) {
        return status;
    }
    if (ag_json_size(list) != n) {
        return ag_fail(AG_ERR_FORMAT, "%s: a longrope needs a %s of %u numbers",
                       ag_model_files_path(files), name, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        factors[i] = (float)ag_json_number(ag_json_at(list, i), 0);
    }
    return check_factors(files, name, factors, n);
}

/* Of a short context, and of a long one. */
static ag_status_t read_long(const ag_model_files_t *files, const ag_family_t *family, uint32_t n,
                             float *factors)
{
    static const ag_role_t roles[] = {AG_ROLE_ROPE_FACTORS, AG_ROLE_ROPE_FACTORS_LONG};
    ag_status_t status = AG_OK;

    for (int i = 0; i < 2 && status == AG_OK; i++) {
        ag_found_tensor_t found = ag_family_find(family, files, roles[i], 0, 0);

        if (ag_model_files_gguf(files) == NULL) {
            status = read_list(files, ag_long_factors[i], n, factors + (size_t)i * n);
        } else if (found.tensor != NULL) {
            status = read_tensor(files, &found, n, factors + (size_t)i * n);
        } else {
            status = ag_fail(AG_ERR_FORMAT,
                             "%s: its rope has other factors in long contexts, and %s is "
                             "missing",
                             ag_model_files_path(files),
                             found.name[0] != '\0' ? found.name : "a tensor of them");
        }
    }
    return status;
}

static ag_status_t make_long(const ag_model_files_t *files, const ag_family_t *family,
                             ag_layer_spec_t *layer)
{
    uint32_t n = layer->rope.rotary / 2;
    ag_status_t status;

    layer->rope_factors = calloc((size_t)layer->rope.rotary + 1, sizeof(float));
    if (layer->rope_factors == NULL) {
        return ag_fail_nomem("making a rope", layer->rope.rotary * sizeof(float));
    }
    status = read_long(files, family, n, layer->rope_factors);
    for (uint32_t i = 0; i < 2 && status == AG_OK; i++) {
        ag_rope_frequencies(&layer->rope, layer->rope_factors + i * n, layer->inverse_freq + i * n);
    }
    return status;
}

/* With the divisors of a file that lists some. */
static ag_status_t make(const ag_model_files_t *files, const ag_family_t *family,
                        ag_layer_spec_t *layer)
{
    ag_found_tensor_t found = ag_family_find(family, files, AG_ROLE_ROPE_FACTORS, 0, 0);
    float *factors = NULL;
    ag_status_t status = AG_OK;

    if (found.tensor != NULL) {
        factors = calloc((size_t)layer->rope.rotary / 2 + 1, sizeof(float));
        status = factors != NULL
                     ? read_tensor(files, &found, layer->rope.rotary / 2, factors)
                     : ag_fail_nomem("making a rope", layer->rope.rotary / 2 * sizeof(float));
    }
    if (status == AG_OK) {
        ag_rope_frequencies(&layer->rope, factors, layer->inverse_freq);
    }
    free(factors);
    return status;
}

ag_status_t ag_rope_load(const ag_model_files_t *files, const ag_family_t *family,
                         ag_layer_spec_t *layer)
{
    uint32_t rotary = layer->rope.rotary;

    if (rotary % 2 != 0 || rotary > layer->head_dim) {
        return ag_fail(AG_ERR_FORMAT, "%s: %u of %u dimensions of a head cannot rotate",
                       ag_model_files_path(files), rotary, layer->head_dim);
    }
    layer->inverse_freq = calloc((size_t)rotary + 1, sizeof(float));
    if (layer->inverse_freq == NULL) {
        return ag_fail_nomem("making a rope", rotary * sizeof(float));
    }
    layer->rope_magnitude = (float)ag_rope_magnitude(&layer->rope);
    return layer->rope.kind == AG_ROPE_LONG ? make_long(files, family, layer)
                                            : make(files, family, layer);
}
