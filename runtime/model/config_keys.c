/* Keys of config.json that no family's table reads: those of which one value is known, those
 * without effect on arithmetic, and the rest, which a user is told. */
#include <stdio.h>
#include <string.h>

#include "runtime/model/settings_priv.h"
#include "runtime/model/unused.h"

/* Each is refused with another value, but of families that read it. Absent and null are known. */
static const struct {
    const char *path;
    double value;
    ag_setting_kind_t kind;
} known[] = {
    {"is_causal", true, AG_SETTING_BOOL},
    {"use_bidirectional_attention", false, AG_SETTING_BOOL},
    {"partial_rotary_factor", 1, AG_SETTING_REAL},
    {"rope_parameters.partial_rotary_factor", 1, AG_SETTING_REAL},
    {"scale_attn_weights", true, AG_SETTING_BOOL},
    {"scale_attn_by_inverse_layer_idx", false, AG_SETTING_BOOL},
    {"add_cross_attention", false, AG_SETTING_BOOL},
    {"alibi", false, AG_SETTING_BOOL},
    {"clip_qkv", 0, AG_SETTING_REAL},
    {"swiglu_alpha", 1.702, AG_SETTING_REAL},
    {"lm_head_bias", false, AG_SETTING_BOOL},
    {"moe_layer_freq", 1, AG_SETTING_REAL},
};

/* What families read elsewhere than by a row, and what changes no answer, or says twice what
 * other keys or the weights say (a bias that nobody reads is a tensor that is not used). A '*'
 * stands for anything. */
static const char *const harmless[] = {
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "head_dim",
    "attention_bias",
    "mlp_bias",
    "router_aux_loss_coef",
    "is_llama_config",
    "rope_interleaved",
    "transformers.js_*",
    "full_attn_mod",
    "interpolate_factor",
    "initial_context_length",
    "experts_per_token",
    "*softmax_in_fp32",
    "norm_type",
    "mlp_type",
    "layer_norm_epsilon",
    "model_type",
    "layer_types",
    "mlp_only_layers",
    "topk_method",
    "quantization_config",
    "rope_scaling",
    "rope_parameters",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "*_version",
    "_name_or_path",
    "_attn_implementation*",
    "attn_implementation",
    "_commit_hash",
    "_sliding_window_pattern",
    "use_cache",
    "cache_*",
    "*bos_token_id",
    "*eos_token_id",
    "*pad_token_id",
    "*sep_token_id",
    "*cls_token_id",
    "*unk_token_id",
    "*_start_token_id",
    "*_token_index",
    "tokenizer_class",
    "initializer_*",
    "*_dropout",
    "*_pdrop",
    "dropout*",
    "*_aux_loss*",
    "aux_loss_*",
    "router_z_loss*",
    "router_jitter_noise",
    "output_*",
    "return_*",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "summary_*",
    "is_decoder",
    "is_encoder_decoder",
    "tie_encoder_decoder",
    "chunk_size_feed_forward",
    "pruned_heads",
    "torchscript",
    "use_bfloat16",
    "prefix",
    "n_ctx",
    "pretraining_tp",
    "ep_size",
    "seq_aux",
    "scoring_func",
    "num_nextn_predict_layers",
    "num_mtp_layers",
    "qk_head_dim",
    "reorder_and_upcast_attn",
    "gradient_checkpointing",
    "use_flash_attn*",
    "use_mrope",
    "max_sequence_length",
    "max_length",
    "min_length",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
    "repetition_penalty",
    "unsloth_*",
    "bos_token",
    "eos_token",
    "pad_token",
    "model_max_length",
    "original_max_position_embeddings",
    "rope_scaling.finetuned",
    "rope_scaling.partial_rotary_factor",
    "rope_parameters.finetuned",
    "rope_parameters.full_attention",
    "rope_parameters.sliding_attention",
    "rope_*.type",
    "rope_*.rope_type",
    "rope_*.rope_theta",
    "rope_*.short_factor",
    "rope_*.long_factor",
};

/* At most one '*' stands in a pattern. */
static bool fits(const char *pattern, const char *key)
{
    const char *star = strchr(pattern, '*');
    size_t n_key = strlen(key), n_before, n_after;

    if (star == NULL) {
        return strcmp(pattern, key) == 0;
    }
    n_before = (size_t)(star - pattern);
    n_after = strlen(star + 1);
    return n_key >= n_before + n_after && strncmp(pattern, key, n_before) == 0 &&
           strcmp(star + 1, key + n_key - n_after) == 0;
}

/* Is a key one of the alternatives of a row? */
static bool is_read(const ag_key_row_t *keys, const char *key)
{
    size_t n_key = strlen(key);

    for (const ag_key_row_t *row = keys; row->hf != NULL || row->gguf != NULL; row++) {
        for (const char *paths = row->hf; paths != NULL && *paths != '\0';) {
            size_t n = strcspn(paths, "|");

            if (n == n_key && strncmp(paths, key, n) == 0) {
                return true;
            }
            paths += n + (paths[n] == '|');
        }
    }
    return false;
}

ag_status_t ag_settings_check_known(const ag_model_files_t *files, const ag_family_t *family)
{
    const ag_json_t *config = ag_model_files_config(files);

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && config != NULL; i++) {
        char path[AG_PATH_BYTES];
        double value = known[i].value;
        ag_status_t status;

        if (is_read(family->keys, known[i].path)) {
            continue;
        }
        ag_rope_setting_path(config, known[i].path, strlen(known[i].path), path);
        status = ag_setting_number(files, path, known[i].kind, &value);
        if (status != AG_OK) {
            return status;
        }
        if (value != known[i].value && known[i].kind == AG_SETTING_BOOL) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "%s: config.json: %s is %s: what that changes is not known here",
                           ag_model_files_path(files), path, value != 0 ? "true" : "false");
        }
        if (value != known[i].value) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "%s: config.json: %s is %g: what that changes is not known here",
                           ag_model_files_path(files), path, value);
        }
    }
    return AG_OK;
}

/* What ag_json_each() hands on. */
typedef struct search {
    const ag_family_t *family;
    const char *group; /* the members are of; NULL: of config.json */
    ag_array_t *names;
} search_t;

static bool is_known(const ag_family_t *family, const char *path)
{
    bool found = is_read(family->keys, path) || is_read(ag_rope_keys, path) ||
                 strcmp(path, family->hf_act) == 0;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++) {
        found = strcmp(known[i].path, path) == 0;
    }
    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]) && !found; i++) {
        found = fits(harmless[i], path);
    }
    return found;
}

static ag_status_t look_at(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    const search_t *search = arg;
    ag_setting_name_t name;

    (void)key_bytes;
    snprintf(name.text, sizeof(name.text), "%s%s%s", search->group != NULL ? search->group : "",
             search->group != NULL ? "." : "", key);
    if (ag_json_kind(value) == AG_JSON_NULL || is_known(search->family, name.text)) {
        return AG_OK;
    }
    return ag_array_append(search->names, &name, 1);
}

ag_status_t ag_unused_settings(const ag_model_t *model, ag_array_t *names_p)
{
    static const char *const groups[] = {"rope_scaling", "rope_parameters"};
    const ag_json_t *config = ag_model_files_config(model->files);
    search_t search = {.family = model->family, .names = names_p};
    ag_status_t status;

    *names_p = AG_ARRAY(ag_setting_name_t);
    if (config == NULL) {
        return AG_OK;
    }
    status = ag_json_each(config, look_at, &search);
    for (int i = 0; i < 2 && status == AG_OK; i++) {
        const ag_json_t *group = ag_json_get(config, groups[i]);

        search.group = groups[i];
        status = group != NULL ? ag_json_each(group, look_at, &search) : AG_OK;
    }
    return status;
}
