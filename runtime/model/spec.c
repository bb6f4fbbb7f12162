/* From a model's files to its spec. */
#include "runtime/model/spec.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/quote.h"
#include "runtime/model/settings_priv.h"

/* Beyond these a file is damaged, not large. */
enum { MAX_EXPERTS = 4096 };
enum { MAX_HIDDEN = 1 << 20, MAX_HEADS = 1 << 16, MAX_VOCAB = 1 << 24, MAX_FFN = 1 << 24 };

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
    s->ffn_width = s->ffn_width > 0 || s->hidden > MAX_HIDDEN ? s->ffn_width : 4 * s->hidden;
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
    if (s->value_dim > 0 && s->value_dim != s->head_dim && s->kv_rank == 0) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: values of %u dimensions beside keys of %u", path,
                       s->value_dim, s->head_dim);
    }
    if (s->n_experts > MAX_EXPERTS ||
        (s->n_experts > 0 && (s->n_experts_used == 0 || s->n_experts_used > s->n_experts))) {
        return ag_fail(AG_ERR_FORMAT, "%s: %u of %u experts for a token make no sense", path,
                       s->n_experts_used, s->n_experts);
    }
    if (s->expert_width > MAX_FFN || s->shared_width > MAX_FFN) {
        return ag_fail(AG_ERR_FORMAT, "%s: experts of a width of %u and %u make no sense", path,
                       s->expert_width, s->shared_width);
    }
    if (s->norm_eps < 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: what its norms add to a mean square is %g, below zero",
                       path, s->norm_eps);
    }
    return AG_OK;
}

/* Routers that adjust() has completed. */
static ag_status_t check_routes(const ag_model_files_t *files, const ag_spec_t *spec)
{
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        const ag_route_t *route = &spec->layer_kinds[i].route;
        uint32_t n = route->n_groups, size = n > 0 ? route->n_experts / n : 0;

        if (route->n_experts > 0 && !(route->scale > 0 && isfinite(route->scale))) {
            return ag_fail(AG_ERR_FORMAT, "%s: experts' weights times %g make no sense",
                           ag_model_files_path(files), (double)route->scale);
        }
        if (n > 0 && (n * size != route->n_experts || route->n_groups_used == 0 ||
                      route->n_groups_used > n || size < (route->group_of_two ? 2u : 1u) ||
                      route->n_used > route->n_groups_used * size)) {
            return ag_fail(AG_ERR_FORMAT,
                           "%s: %u of %u experts, from %u of %u groups, make no sense",
                           ag_model_files_path(files), route->n_used, route->n_experts,
                           route->n_groups_used, n);
        }
    }
    return AG_OK;
}

enum { SAMPLED_TENSORS = 16, SAMPLE_BYTES = 256 };

/*
 * What weights there are and some of what is in them, whatever order or files they stand in: ranks
 * with two encodings of one model would cut it differently, with two fine-tunings mix them.
 */
static ag_status_t hash_tensors(const ag_model_files_t *files, uint64_t *hash_p)
{
    size_t n_tensors;
    const ag_model_tensor_t *tensors = ag_model_files_tensors(files, &n_tensors);
    uint64_t sum = 0;

    for (size_t i = 0; i < n_tensors; i++) {
        const ag_model_tensor_t *tensor = &tensors[i];
        uint64_t name = ag_hash_bytes(AG_HASH_SEED, tensor->name, strlen(tensor->name));
        uint64_t hash = ag_hash_bytes(name, &tensor->dtype, sizeof(tensor->dtype));
        uint64_t block = ag_dtype_info(tensor->dtype)->block_bytes,
                 n_blocks = tensor->bytes / block;
        uint64_t n = n_blocks < SAMPLE_BYTES / block ? n_blocks : SAMPLE_BYTES / block;
        unsigned char sample[SAMPLE_BYTES];

        hash = ag_hash_bytes(hash, tensor->dims, tensor->n_dims * sizeof(tensor->dims[0]));
        if (ag_hash_mix(name) % (n_tensors / SAMPLED_TENSORS + 1) == 0) {
            ag_status_t status =
                ag_model_files_read(files, tensor, (n_blocks - n) / 2 * block, n * block, sample);

            if (status != AG_OK) {
                return status;
            }
            hash = ag_hash_bytes(hash, sample, n * block);
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
    if (spec->norm_bias || spec->n_positions > 0) { /* models without keep the hash that they had */
        HASH(spec->norm_bias);
        HASH(spec->n_positions);
    }
    HASH(spec->tied);
    if (spec->logit_cap > 0) {
        HASH(spec->logit_cap);
    }
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        const ag_layer_spec_t *layer = &spec->layer_kinds[i];

        HASH(layer->rope_magnitude);
        hash = ag_hash_bytes(hash, layer->inverse_freq, layer->rope.rotary / 2 * sizeof(float));
        if (layer->rope.kind == AG_ROPE_LONG) {
            HASH(layer->rope.original_context_tokens);
            hash = ag_hash_bytes(hash, layer->rope_factors, layer->rope.rotary * sizeof(float));
        }
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
        if (!layer->ffn_is_gated) { /* models without keep the hash that they had */
            HASH(layer->ffn_is_gated);
        }
        if (layer->norms_after || layer->qk_norm != AG_QK_NORM_NONE) {
            HASH(layer->norms_before);
            HASH(layer->norms_after);
            HASH(layer->qk_norm);
        }
        if (layer->window_tokens > 0 || layer->score_cap > 0 || layer->sinks) {
            HASH(layer->window_tokens); /* models without keep the hash that they had */
            HASH(layer->score_cap);
            HASH(layer->sinks);
        }
        if (layer->kv_rank > 0) {
            HASH(layer->kv_rank);
            HASH(layer->q_rank);
            HASH(layer->value_dim);
            HASH(layer->rope_by_turns);
            if (layer->latent_norm_eps != spec->norm_eps) {
                HASH(layer->latent_norm_eps);
            }
        }
        if (layer->route.n_experts > 0) { /* likewise */
            HASH(layer->route.n_experts);
            HASH(layer->route.n_used);
            HASH(layer->route.score);
            HASH(layer->route.sums_to_1);
            HASH(layer->route.scale);
            HASH(layer->route.n_groups);
            HASH(layer->route.n_groups_used);
            HASH(layer->route.group_of_two);
            HASH(layer->router_bias);
            HASH(layer->route_preference);
            HASH(layer->shared_width);
            HASH(layer->shared_is_gated);
            HASH(layer->ffn_limit);
            HASH(layer->ffn_up_offset);
        }
    }
    hash = ag_hash_bytes(hash, spec->kind_of_layer, spec->n_layers);
#undef HASH
    status = hash_tensors(files, &hash);
    snprintf(spec->hash, sizeof(spec->hash), "%016" PRIx64, hash);
    return status;
}

static ag_status_t find_mark(const ag_model_files_t *files, const ag_family_t *family,
                             bool *marked_p)
{
    char key[64] = "";
    double least = 1, value = 0; /* a mark may say how much it is */
    ag_status_t status;

    *marked_p = true;
    if (ag_model_files_gguf(files) == NULL || family->gguf_mark == NULL) {
        return AG_OK;
    }
    sscanf(family->gguf_mark, "%63[^=]=%lf", key, &least);
    status = ag_gguf_number(files, family->gguf_arch, key, AG_SETTING_REAL, &value);
    *marked_p = value >= least;
    return status;
}

static ag_status_t find_family(const ag_model_files_t *files, const ag_family_t **family_p)
{
    char known[512] = "";
    ag_setting_text_t name;
    ag_status_t status = ag_setting_text(files, "model_type", "general.architecture", &name);
    bool gguf = ag_model_files_gguf(files) != NULL;

    for (size_t i = 0; ag_families[i] != NULL && status == AG_OK; i++) {
        const char *theirs = gguf ? ag_families[i]->gguf_arch : ag_families[i]->hf_model_type;
        size_t n_chars = strlen(known);

        if (name.is_there && strcmp(name.room, theirs) == 0) {
            bool marked;

            status = find_mark(files, ag_families[i], &marked);
            if (status != AG_OK || marked) {
                *family_p = ag_families[i];
                return status;
            }
        }
        if (!gguf || ag_families[i]->gguf_mark == NULL) { /* a marked one shares another's name */
            snprintf(known + n_chars, sizeof(known) - n_chars, "%s%s", n_chars > 0 ? ", " : "",
                     theirs);
        }
    }
    if (status != AG_OK) {
        return status;
    }
    if (!name.is_there) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s is missing, so its architecture is not known",
                       ag_model_files_path(files), gguf ? "general.architecture" : "model_type");
    }
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not known (known: %s)",
                   ag_model_files_path(files), ag_quote_string(name.room).text, known);
}

ag_status_t ag_spec_load(const ag_model_files_t *files, ag_spec_t **spec_p,
                         const ag_family_t **family_p)
{
    const ag_family_t *family = NULL;
    ag_settings_t settings = {.rope = {.base = 10000.0, .truncates = true}};
    ag_spec_t *spec;
    double causal = true;
    ag_status_t status = find_family(files, &family);

    if (status == AG_OK && ag_model_files_gguf(files) != NULL) {
        status =
            ag_gguf_number(files, family->gguf_arch, "attention.causal", AG_SETTING_BOOL, &causal);
    }
    if (status == AG_OK && causal == 0) {
        status = ag_fail(AG_ERR_UNSUPPORTED,
                         "%s: attention that looks ahead (attention.causal is false) is not known",
                         ag_model_files_path(files));
    }
    if (status == AG_OK) {
        status = ag_rope_check_groups(files);
    }
    if (status == AG_OK) {
        status = ag_settings_read(files, family, family->keys, &settings);
    }
    if (status == AG_OK) {
        status = ag_settings_read(files, family, ag_rope_keys, &settings);
    }
    if (status == AG_OK) {
        status = ag_settings_check_known(files, family);
    }
    if (status == AG_OK) {
        status = complete_settings(files, family, &settings);
    }
    if (status == AG_OK) {
        status = ag_settings_read_rope(files, family, &settings);
    }
    if (status != AG_OK) {
        return status;
    }
    spec = calloc(1, sizeof(*spec));
    if (spec == NULL) {
        return ag_fail_nomem("reading a model's settings", sizeof(*spec));
    }
    ag_settings_to_spec(&settings, spec);
    snprintf(spec->family, sizeof(spec->family), "%s", family->name);
    spec->kind_of_layer = calloc(spec->n_layers, 1);
    status = spec->kind_of_layer == NULL ? ag_fail_nomem("reading settings", spec->n_layers)
                                         : family->adjust(files, &settings, spec);
    for (uint32_t i = 0; i < spec->n_layer_kinds && status == AG_OK; i++) {
        status = ag_rope_load(files, family, &spec->layer_kinds[i]);
    }
    if (status == AG_OK) {
        status = check_routes(files, spec);
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

        most.n = kind->route.n_experts > most.n ? kind->route.n_experts : most.n;
        most.n_used = kind->route.n_used > most.n_used ? kind->route.n_used : most.n_used;
    }
    return most;
}

void ag_spec_attend(const ag_spec_t *spec, uint64_t position, uint64_t n, ag_attended_t *attended)
{
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        uint64_t window = spec->layer_kinds[i].window_tokens, whole = n; /* rows that see all */

        if (window > 0) {
            uint64_t before = position < window ? window - position : 0;

            whole = before < n ? before : n;
        }
        attended->pairs[i] += whole * position + whole * (whole + 1) / 2 + (n - whole) * window;
    }
}

void ag_spec_destroy(ag_spec_t *spec)
{
    if (spec != NULL) {
        for (uint32_t i = 0; i < AG_MAX_LAYER_KINDS; i++) {
            free(spec->layer_kinds[i].inverse_freq);
            free(spec->layer_kinds[i].rope_factors);
        }
        free(spec->kind_of_layer);
        free(spec);
    }
}
