/* Layers with and without a window, in turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/settings_priv.h"

const char ag_gguf_pattern_key[] = "attention.sliding_window_pattern";
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

/* @param windowed  out: (n_layers). */
static ag_status_t read_types(const ag_model_files_t *files, const ag_json_t *types,
                              uint32_t n_layers, uint8_t *windowed)
{
    if (ag_json_size(types) != n_layers) {
        return ag_fail(AG_ERR_FORMAT, "%s: layer_types names %zu layers, the model has %u",
                       ag_model_files_path(files), ag_json_size(types), n_layers);
    }
    for (uint32_t i = 0; i < n_layers; i++) {
        const char *name = ag_json_string(ag_json_at(types, i), NULL);
        uint8_t kind = 0;

        while (kind < 2 && (name == NULL || strcmp(name, ag_layer_type_names[kind]) != 0)) {
            kind++;
        }
        if (kind == 2) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "%s: layer %u is of the type \"%s\", which is not known (known: %s, %s)",
                           ag_model_files_path(files), i, ag_quote_string(name).text,
                           ag_layer_type_names[0], ag_layer_type_names[1]);
        }
        windowed[i] = kind;
    }
    return AG_OK;
}

/* The same of a GGUF file, where one was written. */
static ag_status_t read_pattern(const ag_model_files_t *files, const ag_family_t *family,
                                uint32_t n_layers, uint8_t *windowed)
{
    const ag_gguf_value_t *pattern;
    char key[128];

    snprintf(key, sizeof(key), "%s.%s", family->gguf_arch, ag_gguf_pattern_key);
    pattern = ag_gguf_get(ag_model_files_gguf(files), key);
    if (pattern == NULL) {
        memset(windowed, 1, n_layers);
        return AG_OK;
    }
    if (pattern->kind != AG_GGUF_ARRAY || pattern->as.array.kind != AG_GGUF_BOOL ||
        pattern->as.array.n != n_layers) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s does not say of each of %u layers yes or no",
                       ag_model_files_path(files), key, n_layers);
    }
    for (uint32_t i = 0; i < n_layers; i++) {
        windowed[i] = ag_gguf_item(pattern, i).as.integer != 0;
    }
    return AG_OK;
}

ag_status_t ag_family_alternate(const ag_model_files_t *files, const ag_settings_t *settings,
                                uint32_t period, ag_spec_t *spec)
{
    const ag_json_t *types;
    ag_status_t status = ag_setting_list(files, "layer_types", &types);

    spec->n_layer_kinds = 2;
    spec->layer_kinds[1] = spec->layer_kinds[0];
    spec->layer_kinds[1].window_tokens = settings->window_tokens;
    if (status != AG_OK || types != NULL) {
        return status == AG_OK ? read_types(files, types, spec->n_layers, spec->kind_of_layer)
                               : status;
    }
    period = settings->window_period > 0 ? settings->window_period : period;
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        spec->kind_of_layer[i] = kind_by_period(i, period);
    }
    return AG_OK;
}

/* What transformers' configs say where they name no types of layers. */
static bool has_window(ag_windows_t which, uint32_t layer, uint32_t border)
{
    switch (which) {
    case AG_WINDOWS_FROM:
        return layer >= border;
    case AG_WINDOWS_BY_TURNS:
        return layer % 2 == 0 && layer < border;
    default:
        return true;
    }
}

static ag_status_t find_windows(const ag_model_files_t *files, const ag_family_t *family,
                                const ag_settings_t *settings, ag_windows_t which,
                                uint8_t *windowed)
{
    const ag_json_t *types;
    ag_status_t status = ag_setting_list(files, "layer_types", &types);

    if (ag_model_files_gguf(files) != NULL) {
        return read_pattern(files, family, settings->n_layers, windowed);
    }
    if (status != AG_OK || types != NULL) {
        return status == AG_OK ? read_types(files, types, settings->n_layers, windowed) : status;
    }
    for (uint32_t i = 0; i < settings->n_layers; i++) {
        windowed[i] = has_window(which, i, settings->first_window_layer);
    }
    return AG_OK;
}

/* Kinds like theirs with a window, for the layers that have one. */
static ag_status_t add_window_kinds(const ag_model_files_t *files, const uint8_t *windowed,
                                    uint32_t window, ag_spec_t *spec)
{
    uint32_t n_kinds = spec->n_layer_kinds, with_window[AG_MAX_LAYER_KINDS] = {0};

    if (memchr(windowed, 0, spec->n_layers) == NULL) {
        for (uint32_t i = 0; i < n_kinds; i++) {
            spec->layer_kinds[i].window_tokens = window;
        }
        return AG_OK;
    }
    for (uint32_t i = 0; i < spec->n_layers; i++) {
        uint32_t *kind = &with_window[spec->kind_of_layer[i]];

        if (!windowed[i]) {
            continue;
        }
        if (*kind == 0 && spec->n_layer_kinds == AG_MAX_LAYER_KINDS) {
            return ag_fail(AG_ERR_UNSUPPORTED, "%s: its layers are of more than %d kinds",
                           ag_model_files_path(files), AG_MAX_LAYER_KINDS);
        }
        if (*kind == 0) {
            *kind = spec->n_layer_kinds++;
            spec->layer_kinds[*kind] = spec->layer_kinds[spec->kind_of_layer[i]];
            spec->layer_kinds[*kind].window_tokens = window;
        }
        spec->kind_of_layer[i] = (uint8_t)*kind;
    }
    return AG_OK;
}

ag_status_t ag_family_windows(const ag_model_files_t *files, const ag_family_t *family,
                              const ag_settings_t *settings, ag_windows_t which, ag_spec_t *spec)
{
    bool has_some = settings->has_window || ag_model_files_gguf(files) != NULL;
    uint8_t *windowed;
    ag_status_t status;

    if (!has_some || settings->window_tokens == 0) {
        return AG_OK;
    }
    windowed = calloc(spec->n_layers, 1);
    if (windowed == NULL) {
        return ag_fail_nomem("reading settings", spec->n_layers);
    }
    status = find_windows(files, family, settings, which, windowed);
    if (status == AG_OK) {
        status = add_window_kinds(files, windowed, settings->window_tokens, spec);
    }
    free(windowed);
    return status;
}

void ag_family_restore_windows(const ag_spec_t *spec, ag_settings_t *settings)
{
    for (uint32_t i = spec->n_layers; i > 0; i--) {
        uint32_t window = ag_spec_layer(spec, i - 1)->window_tokens;

        if (window > 0) {
            settings->has_window = true;
            settings->window_tokens = window;
            settings->first_window_layer = i - 1;
        }
    }
}

static bool has_period(const ag_spec_t *spec, uint32_t period)
{
    bool regular = true;

    for (uint32_t i = 0; i < spec->n_layers; i++) {
        regular &= spec->kind_of_layer[i] == kind_by_period(i, period);
    }
    return regular;
}

ag_status_t ag_family_restore_alternate(const ag_spec_t *spec, bool gguf, uint32_t period,
                                        ag_settings_t *settings)
{
    uint32_t found = has_period(spec, period) ? period : 0;

    for (uint32_t other = 1; other <= spec->n_layers + 1 && found == 0; other++) {
        found = has_period(spec, other) ? other : 0;
    }
    settings->window_tokens = spec->layer_kinds[1].window_tokens;
    settings->window_period = found;
    if (gguf && found == 0) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model's layers without a window come at no fixed interval, which a "
                       "GGUF file of its architecture cannot say");
    }
    return AG_OK;
}
