/* What families with experts share. */
#include "runtime/model/family_priv.h"

uint32_t ag_family_dense_kind(ag_spec_t *spec, uint32_t ffn_width)
{
    ag_layer_spec_t *kind = &spec->layer_kinds[spec->n_layer_kinds];

    *kind = spec->layer_kinds[0];
    kind->route = (ag_route_t){0};
    kind->router_bias = kind->route_preference = kind->shared_is_gated = false;
    kind->shared_width = 0;
    kind->ffn_width = ffn_width;
    return spec->n_layer_kinds++;
}

/* As transformers asks: not among those listed, and one of each `step` layers. */
static bool has_experts(const ag_json_t *listed, uint32_t layer, uint32_t step)
{
    for (size_t i = 0; i < ag_json_size(listed); i++) {
        if (ag_json_integer(ag_json_at(listed, i), -1) == (int64_t)layer) {
            return false;
        }
    }
    return (layer + 1) % step == 0;
}

/* mlp_only_layers of config.json. @param listed_p  out: NULL: absent. */
static ag_status_t read_listed(const ag_model_files_t *files, const ag_json_t **listed_p)
{
    ag_status_t status = ag_setting_list(files, "mlp_only_layers", listed_p);

    for (size_t i = 0; i < ag_json_size(*listed_p) && status == AG_OK; i++) {
        if (ag_json_integer(ag_json_at(*listed_p, i), -1) < 0) {
            status = ag_fail(AG_ERR_FORMAT,
                             "%s: config.json: mlp_only_layers[%zu] is not the number of a layer",
                             ag_model_files_path(files), i);
        }
    }
    return status;
}

ag_status_t ag_family_find_dense(const ag_model_files_t *files, const ag_settings_t *settings,
                                 ag_spec_t *spec)
{
    const ag_json_t *listed;
    uint32_t kind = 0, n_dense = 0;
    ag_status_t status = read_listed(files, &listed);

    if (status != AG_OK) {
        return status;
    }
    if (spec->layer_kinds[0].route.n_experts == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: it has 0 experts, which makes no sense",
                       ag_model_files_path(files));
    }
    if (settings->sparse_step == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: a decoder_sparse_step of 0 makes no sense",
                       ag_model_files_path(files));
    }
    for (uint32_t layer = 0; layer < spec->n_layers; layer++) {
        if (!has_experts(listed, layer, settings->sparse_step)) {
            kind = kind > 0 ? kind : ag_family_dense_kind(spec, settings->ffn_width);
            spec->kind_of_layer[layer] = (uint8_t)kind;
            n_dense++;
        }
    }
    return n_dense < spec->n_layers
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "%s: none of its layers has experts",
                         ag_model_files_path(files));
}

ag_status_t ag_family_restore_experts(const ag_spec_t *spec, bool gguf, bool sums_to_1,
                                      ag_settings_t *settings)
{
    const ag_layer_spec_t *dense = &spec->layer_kinds[0];

    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        dense = spec->layer_kinds[i].route.n_experts == 0 ? &spec->layer_kinds[i] : dense;
    }
    if (gguf && dense->route.n_experts == 0) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model has layers without experts, which GGUF files "
                                           "of its architecture cannot say");
    }
    if (gguf && spec->layer_kinds[0].route.sums_to_1 != sums_to_1) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the weights of the model's experts are %snormalised; in a GGUF file of its "
                       "architecture they would %sbe",
                       sums_to_1 ? "not " : "", sums_to_1 ? "" : "not ");
    }
    settings->expert_width = spec->layer_kinds[0].ffn_width;
    settings->ffn_width = dense->ffn_width;
    return AG_OK;
}
