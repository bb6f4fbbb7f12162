/* Layers with and without a window, in turn. */
#include <string.h>

#include "runtime/model/settings_priv.h"

const char *const ag_layer_type_names[2] = {"full_attention", "sliding_attention"};

bool ag_spec_windows_differ(const ag_spec_t *spec)
{
    bool some = false, all = true;

    for (uint32_t i = 0; i < spec->n_layers; i++) {
        some |= ag_spec_layer(spec, i)->window_tokens > 0;
        all &= ag_spec_layer(spec, i)->window_tokens > 0;
    }
    return some && !all;
}

static uint8_t kind_by_period(uint32_t layer, uint32_t period)
{
    return (layer + 1) % period != 0;
}

static ag_status_t read_types(const ag_model_files_t *files, const ag_json_t *types,
                              ag_spec_t *spec)
{
    if (ag_json_size(types) != spec->n_layers) {
        return ag_fail(AG_ERR_FORMAT, "%s: layer_types names %zu layers, the model has %u",
                       ag_model_files_path(files), ag_json_size(types), spec->n_layers);
    }
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        const char *name = ag_json_string(ag_json_at(types, i), NULL);
        uint8_t kind = 0;

        while (kind < 2 && (name == NULL || strcmp(name, ag_layer_type_names[kind]) != 0)) {
            kind++;
        }
        if (kind == 2) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "%s: layer %u is of the type \"%s\", which is not known (known: %s, %s)",
                           ag_model_files_path(files), i, name != NULL ? name : "",
                           ag_layer_type_names[0], ag_layer_type_names[1]);
        }
        spec->kind_of_layer[i] = kind;
    }
    return AG_OK;
}

ag_status_t ag_family_alternate(const ag_model_files_t *files, const ag_settings_t *settings,
                                uint32_t period, ag_spec_t *spec)
{
    const ag_json_t *types = ag_json_get(ag_model_files_config(files), "layer_types");

    spec->n_layer_kinds = 2;
    spec->layer_kinds[1] = spec->layer_kinds[0];
    spec->layer_kinds[1].window_tokens = settings->window_tokens;
    if (ag_json_kind(types) == AG_JSON_ARRAY) {
        return read_types(files, types, spec);
    }
    period = settings->window_period > 0 ? settings->window_period : period;
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        spec->kind_of_layer[i] = kind_by_period(i, period);
    }
    return AG_OK;
}

ag_status_t ag_family_window_last(const ag_model_files_t *files, const ag_settings_t *settings,
                                  ag_spec_t *spec)
{
    const ag_json_t *types = ag_json_get(ag_model_files_config(files), "layer_types");

    if (!settings->has_window || settings->window_tokens == 0) {
        return AG_OK;
    }
    spec->n_layer_kinds = 2;
    spec->layer_kinds[1] = spec->layer_kinds[0];
    spec->layer_kinds[1].window_tokens = settings->window_tokens;
    if (ag_json_kind(types) == AG_JSON_ARRAY) {
        return read_types(files, types, spec);
    }
    for (uint32_t i = settings->first_window_layer; i < spec->n_layers; i++) {
        spec->kind_of_layer[i] = 1;
    }
    return AG_OK;
}

ag_status_t ag_family_restore_alternate(const ag_spec_t *spec, bool gguf, uint32_t period,
                                        ag_settings_t *settings)
{
    bool regular = true;

    for (uint32_t i = 0; i < spec->n_layers; i++) {
        regular &= spec->kind_of_layer[i] == kind_by_period(i, period);
    }
    settings->window_tokens = spec->layer_kinds[1].window_tokens;
    settings->window_period = regular ? period : 0;
    if (gguf && !regular) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model's layers without a window are others than every %uth, which a "
                       "GGUF file of its architecture cannot say",
                       period);
    }
    return AG_OK;
}
