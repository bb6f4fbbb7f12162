/* From a model's files to its spec. */
#include "runtime/model/spec.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/model/family_priv.h"

/* Beyond these a file is damaged, not large. */
enum { MAX_EXPERTS = 4096 };
enum { MAX_HIDDEN = 1 << 20, MAX_HEADS = 1 << 16, MAX_VOCAB = 1 << 24, MAX_FFN = 1 << 24 };

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

/* paths: alternatives joined by '|', the first that is there counts */
static number_t config_number(const ag_json_t *config, const char *paths)
{
    while (paths != NULL && *paths != '\0') {
        const char *end = strchr(paths, '|');
        size_t n_chars = end == NULL ? strlen(paths) : (size_t)(end - paths);
        char path[96];
        number_t number;

        snprintf(path, sizeof(path), "%.*s", (int)n_chars, paths);
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

static ag_status_t read_settings(const ag_model_files_t *files, const ag_family_t *family,
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

/* What every family's rope may say, wherever its config puts it. */
static const ag_key_row_t rope_keys[] = {
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
     "rope_scaling.attention_factor|rope_parameters.attention_factor", NULL},
    {offsetof(ag_settings_t, rope.original_context_tokens), AG_SETTING_U32, false,
     "rope_scaling.original_max_position_embeddings|"
     "rope_parameters.original_max_position_embeddings",
     "rope.scaling.original_context_length"},
    {0},
};

/* The kinds of rope scaling by the names that files give them. */
static const struct {
    const char *name;
    ag_rope_kind_t kind;
} rope_kinds[] = {
    {"default", AG_ROPE_DEFAULT},
    {"none", AG_ROPE_DEFAULT},
    {"linear", AG_ROPE_LINEAR},
    {"llama3", AG_ROPE_LLAMA3},
    {"yarn", AG_ROPE_YARN},
    {"dynamic", AG_ROPE_DEFAULT}, /* changes nothing within the model's own context */
};

/* A string setting, or NULL. */
static const char *setting_text(const ag_model_files_t *files, const char *hf_path,
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

static ag_status_t read_rope(const ag_model_files_t *files, const ag_family_t *family,
                             ag_settings_t *settings)
{
    static const char *const paths[] = {"rope_scaling.rope_type", "rope_scaling.type",
                                        "rope_parameters.rope_type"};
    ag_rope_spec_t *rope = &settings->rope;
    const char *name = NULL;
    char key[128], text[64];

    snprintf(key, sizeof(key), "%s.rope.scaling.type", family->gguf_arch);
    for (size_t i = 0; name == NULL && i < sizeof(paths) / sizeof(paths[0]); i++) {
        name = setting_text(files, paths[i], key, text, sizeof(text));
    }
    for (size_t i = 0; name != NULL && i < sizeof(rope_kinds) / sizeof(rope_kinds[0]); i++) {
        if (strcmp(name, rope_kinds[i].name) == 0) {
            rope->kind = rope_kinds[i].kind;
            name = NULL;
        }
    }
    if (name != NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: rope scaling \"%s\" is not known (known: default, linear, dynamic, "
                       "llama3, yarn)",
                       ag_model_files_path(files), name);
    }
    if (!(rope->base > 0)) {
        return ag_fail(AG_ERR_FORMAT, "%s: the base of its rope is %g, it must be above zero",
                       ag_model_files_path(files), rope->base);
    }
    rope->rotary = settings->rotary > 0 ? settings->rotary : settings->head_dim;
    rope->beta_fast = rope->beta_fast > 0 ? rope->beta_fast : 32.0;
    rope->beta_slow = rope->beta_slow > 0 ? rope->beta_slow : 1.0;
    if (rope->original_context_tokens == 0) {
        rope->original_context_tokens = settings->context_tokens;
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

/* A vocabulary that the settings leave out is as long as the embedding table. */
static uint32_t embedding_rows(const ag_model_files_t *files, const ag_family_t *family)
{
    const ag_model_tensor_t *tensor = ag_family_find(family, files, AG_ROLE_EMBED, 0, 0).tensor;

    return tensor != NULL && tensor->dims[0] <= MAX_VOCAB ? (uint32_t)tensor->dims[0] : 0;
}

static ag_status_t complete_settings(const ag_model_files_t *files, const ag_family_t *family,
                                     ag_settings_t *s)
{
    const char *path = ag_model_files_path(files);

    s->n_kv_heads = s->n_kv_heads > 0 ? s->n_kv_heads : s->n_heads;
    s->vocab = s->vocab > 0 ? s->vocab : embedding_rows(files, family);
    if (s->n_heads == 0 || s->n_heads > MAX_HEADS || s->n_heads % s->n_kv_heads != 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: %u query heads over %u key-value heads make no sense",
                       path, s->n_heads, s->n_kv_heads);
    }
    s->head_dim = s->head_dim > 0 ? s->head_dim : s->hidden / s->n_heads;
    if (s->n_layers == 0 || s->n_layers > AG_MAX_LAYERS || s->hidden == 0 ||
        s->hidden > MAX_HIDDEN || s->vocab == 0 || s->vocab > MAX_VOCAB || s->ffn_width == 0 ||
        s->ffn_width > MAX_FFN || s->head_dim == 0 || s->head_dim > MAX_HIDDEN ||
        s->context_tokens == 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: %u layers, hidden %u, vocabulary %u, feed-forward %u, head size %u, "
                       "context %u: one of these makes no sense",
                       path, s->n_layers, s->hidden, s->vocab, s->ffn_width, s->head_dim,
                       s->context_tokens);
    }
    if (s->n_experts > MAX_EXPERTS ||
        (s->n_experts > 0 && (s->n_experts_used == 0 || s->n_experts_used > s->n_experts))) {
        return ag_fail(AG_ERR_FORMAT, "%s: %u of %u experts for a token make no sense", path,
                       s->n_experts_used, s->n_experts);
    }
    if (s->norm_eps < 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: what its norms add to a mean square is %g, below zero",
                       path, s->norm_eps);
    }
    return AG_OK;
}

/* The divisors of a model whose file lists them. */
static ag_status_t read_rope_factors(const ag_model_files_t *files, const ag_family_t *family,
                                     uint32_t n_factors, float **factors_p)
{
    ag_found_tensor_t found = ag_family_find(family, files, AG_ROLE_ROPE_FACTORS, 0, 0);
    const ag_model_tensor_t *tensor = found.tensor;
    const char *name = found.name;
    float *factors;
    ag_status_t status;

    *factors_p = NULL;
    if (tensor == NULL) {
        return AG_OK;
    }
    if (tensor->dtype != AG_F32 || tensor->bytes != n_factors * sizeof(float)) {
        return ag_fail(AG_ERR_FORMAT, "%s: tensor %s should be %u float32 values",
                       ag_model_files_path(files), name, n_factors);
    }
    factors = malloc(tensor->bytes + 1);
    if (factors == NULL) {
        return ag_fail_nomem("reading rope factors", tensor->bytes);
    }
    status = ag_model_files_read(files, tensor, 0, tensor->bytes, factors);
    for (uint32_t i = 0; status == AG_OK && i < n_factors; i++) {
        if (!(factors[i] > 0)) {
            status = ag_fail(AG_ERR_FORMAT, "%s: tensor %s holds a factor that is not above zero",
                             ag_model_files_path(files), name);
        }
    }
    if (status != AG_OK) {
        free(factors);
        return status;
    }
    *factors_p = factors;
    return AG_OK;
}

static ag_status_t make_rope(const ag_model_files_t *files, const ag_family_t *family,
                             ag_spec_t *spec)
{
    float *factors;
    ag_status_t status;

    if (spec->rope.rotary % 2 != 0 || spec->rope.rotary > spec->layer_kinds[0].head_dim) {
        return ag_fail(AG_ERR_FORMAT, "%s: %u of %u dimensions of a head cannot rotate",
                       ag_model_files_path(files), spec->rope.rotary,
                       spec->layer_kinds[0].head_dim);
    }
    status = read_rope_factors(files, family, spec->rope.rotary / 2, &factors);
    if (status != AG_OK) {
        return status;
    }
    spec->inverse_freq = calloc(spec->rope.rotary / 2 + 1, sizeof(float));
    if (spec->inverse_freq == NULL) {
        free(factors);
        return ag_fail_nomem("making a rope", spec->rope.rotary * 2);
    }
    ag_rope_frequencies(&spec->rope, factors, spec->inverse_freq, &spec->rope_magnitude);
    free(factors);
    return AG_OK;
}

enum { SAMPLED_TENSORS = 16, SAMPLE_BYTES = 256 };

/*
 * What weights there are and some of what is in them, whatever order or files they stand in: ranks
 * with two encodings of one model would cut it differently, with two fine-tunings mix them.
 */
static ag_status_t hash_tensors(const ag_model_files_t *files, uint64_t *hash_p)
{
    size_t n;
    const ag_model_tensor_t *tensors = ag_model_files_tensors(files, &n);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        const ag_model_tensor_t *tensor = &tensors[i];
        uint64_t name = ag_hash_bytes(AG_HASH_SEED, tensor->name, strlen(tensor->name));
        uint64_t hash = ag_hash_bytes(name, &tensor->dtype, sizeof(tensor->dtype));
        uint64_t n_sample = tensor->bytes < SAMPLE_BYTES ? tensor->bytes : SAMPLE_BYTES;
        unsigned char sample[SAMPLE_BYTES];

        hash = ag_hash_bytes(hash, tensor->dims, tensor->n_dims * sizeof(tensor->dims[0]));
        if (ag_hash_mix(name) % (n / SAMPLED_TENSORS + 1) == 0) {
            ag_status_t status = ag_model_files_read(files, tensor, (tensor->bytes - n_sample) / 2,
                                                     n_sample, sample);

            if (status != AG_OK) {
                return status;
            }
            hash = ag_hash_bytes(hash, sample, n_sample);
        }
        sum += ag_hash_mix(hash);
    }
    *hash_p = ag_hash_bytes(*hash_p, &sum, sizeof(sum));
    return AG_OK;
}

/* Fields one by one: padding must not count. */
static ag_status_t hash_spec(const ag_model_files_t *files, ag_spec_t *spec)
{
    uint64_t hash = AG_HASH_SEED;
    ag_status_t status;

#define HASH(field) hash = ag_hash_bytes(hash, &(field), sizeof(field))
    hash = ag_hash_bytes(hash, spec->family, strlen(spec->family));
    HASH(spec->n_layers);
    HASH(spec->hidden);
    HASH(spec->vocab);
    HASH(spec->context_tokens);
    HASH(spec->norm_kind);
    HASH(spec->norm_eps);
    HASH(spec->embed_scale);
    HASH(spec->tied);
    HASH(spec->rope_magnitude);
    hash = ag_hash_bytes(hash, spec->inverse_freq, spec->rope.rotary / 2 * sizeof(float));
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        const ag_layer_spec_t *layer = &spec->layer_kinds[i];

        HASH(layer->n_heads);
        HASH(layer->n_kv_heads);
        HASH(layer->head_dim);
        HASH(layer->attention_scale);
        HASH(layer->q_bias);
        HASH(layer->k_bias);
        HASH(layer->v_bias);
        HASH(layer->o_bias);
        HASH(layer->ffn_width);
        HASH(layer->ffn_act);
        HASH(layer->ffn_bias);
        if (layer->n_experts > 0) { /* models without keep the hash that they had */
            HASH(layer->n_experts);
            HASH(layer->n_experts_used);
            HASH(layer->expert_weights_sum_1);
        }
    }
    hash = ag_hash_bytes(hash, spec->kind_of_layer, spec->n_layers);
#undef HASH
    status = hash_tensors(files, &hash);
    snprintf(spec->hash, sizeof(spec->hash), "%016" PRIx64, hash);
    return status;
}

static bool has_mark(const ag_model_files_t *files, const ag_family_t *family)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);

    return gguf == NULL || family->gguf_mark == NULL ||
           gguf_number(gguf, family->gguf_arch, family->gguf_mark).value > 0;
}

static ag_status_t find_family(const ag_model_files_t *files, const ag_family_t **family_p)
{
    char text[64], known[512] = "";
    const char *name =
        setting_text(files, "model_type", "general.architecture", text, sizeof(text));
    bool gguf = ag_model_files_gguf(files) != NULL;

    for (size_t i = 0; ag_families[i] != NULL; i++) {
        const char *theirs = gguf ? ag_families[i]->gguf_arch : ag_families[i]->hf_model_type;
        size_t n_chars = strlen(known);

        if (name != NULL && strcmp(name, theirs) == 0 && has_mark(files, ag_families[i])) {
            *family_p = ag_families[i];
            return AG_OK;
        }
        if (!gguf || ag_families[i]->gguf_mark == NULL) { /* a marked one shares another's name */
            snprintf(known + n_chars, sizeof(known) - n_chars, "%s%s", n_chars > 0 ? ", " : "",
                     theirs);
        }
    }
    if (name == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s is missing, so its architecture is not known",
                       ag_model_files_path(files), gguf ? "general.architecture" : "model_type");
    }
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not known (known: %s)",
                   ag_model_files_path(files), name, known);
}

static void fill_spec(const ag_family_t *family, const ag_settings_t *settings, ag_spec_t *spec)
{
    snprintf(spec->family, sizeof(spec->family), "%s", family->name);
    spec->n_layers = settings->n_layers;
    spec->hidden = settings->hidden;
    spec->vocab = settings->vocab;
    spec->context_tokens = settings->context_tokens;
    spec->norm_kind = AG_NORM_RMS;
    spec->norm_eps = (float)settings->norm_eps;
    spec->embed_scale = 1.0f;
    spec->rope = settings->rope;
    spec->tied = settings->tied;
    spec->n_layer_kinds = 1;
    spec->layer_kinds[0] =
        (ag_layer_spec_t){.n_heads = settings->n_heads,
                          .n_kv_heads = settings->n_kv_heads,
                          .head_dim = settings->head_dim,
                          .ffn_width = settings->ffn_width,
                          .n_experts = settings->n_experts,
                          .n_experts_used = settings->n_experts > 0 ? settings->n_experts_used : 0};
}

ag_status_t ag_spec_load(const ag_model_files_t *files, ag_spec_t **spec_p,
                         const ag_family_t **family_p)
{
    const ag_family_t *family = NULL;
    ag_settings_t settings = {.rope.base = 10000.0};
    ag_spec_t *spec;
    ag_status_t status = find_family(files, &family);

    if (status == AG_OK) {
        status = read_settings(files, family, family->keys, &settings);
    }
    if (status == AG_OK) {
        status = read_settings(files, family, rope_keys, &settings);
    }
    if (status == AG_OK) {
        status = complete_settings(files, family, &settings);
    }
    if (status == AG_OK) {
        status = read_rope(files, family, &settings);
    }
    if (status != AG_OK) {
        return status;
    }
    spec = calloc(1, sizeof(*spec));
    if (spec == NULL) {
        return ag_fail_nomem("reading a model's settings", sizeof(*spec));
    }
    fill_spec(family, &settings, spec);
    spec->kind_of_layer = calloc(spec->n_layers, 1);
    status = spec->kind_of_layer == NULL ? ag_fail_nomem("reading settings", spec->n_layers)
                                         : family->adjust(files, &settings, spec);
    if (status == AG_OK) {
        status = make_rope(files, family, spec);
    }
    if (status == AG_OK) {
        status = hash_spec(files, spec);
    }
    if (status != AG_OK) {
        ag_spec_destroy(spec);
        return status;
    }
    *spec_p = spec;
    *family_p = family;
    return AG_OK;
}

ag_expert_counts_t ag_spec_experts(const ag_spec_t *spec)
{
    ag_expert_counts_t most = {0};

    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        const ag_layer_spec_t *kind = &spec->layer_kinds[i];

        most.n = kind->n_experts > most.n ? kind->n_experts : most.n;
        most.n_used = kind->n_experts_used > most.n_used ? kind->n_experts_used : most.n_used;
    }
    return most;
}

void ag_spec_destroy(ag_spec_t *spec)
{
    if (spec != NULL) {
        free(spec->inverse_freq);
        free(spec->kind_of_layer);
        free(spec);
    }
}

ag_status_t ag_family_activation(const ag_model_files_t *files, const char *key, ag_act_t otherwise,
                                 ag_act_t *act_p)
{
    static const struct {
        const char *name;
        ag_act_t act;
    } known[] = {{"silu", AG_ACT_SILU},
                 {"swish", AG_ACT_SILU},
                 {"gelu", AG_ACT_GELU},
                 {"gelu_new", AG_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", AG_ACT_GELU_TANH},
                 {"relu", AG_ACT_RELU}};
    const char *name = ag_json_string(ag_json_get(ag_model_files_config(files), key), NULL);

    if (name == NULL) {
        *act_p = otherwise;
        return AG_OK;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(name, known[i].name) == 0) {
            *act_p = known[i].act;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: activation \"%s\" is not known (known: silu, gelu, gelu_new, "
                   "gelu_pytorch_tanh, relu)",
                   ag_model_files_path(files), name);
}
