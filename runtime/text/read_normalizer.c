/* The normalizer of a tokenizer.json. */
#include <string.h>

#include "runtime/text/read_steps_priv.h"

static ag_status_t add_step(ag_steps_t *steps, const ag_normal_step_t *step)
{
    if (steps->n_normal == AG_MOST_NORMAL_STEPS) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: a normalizer of more steps than any known",
                       steps->path);
    }
    steps->normal[steps->n_normal++] = *step;
    return AG_OK;
}

/* What needs nothing but its name. */
static ag_status_t read_plain(ag_steps_t *steps, const ag_json_t *json)
{
    static const struct {
        const char *name;
        ag_normal_kind_t kind;
    } kinds[] = {{"NFC", AG_NORMAL_NFC},
                 {"NFD", AG_NORMAL_NFD},
                 {"NFKC", AG_NORMAL_NFKC},
                 {"NFKD", AG_NORMAL_NFKD},
                 {"Lowercase", AG_NORMAL_LOWERCASE}};
    const char *type = ag_json_string(ag_json_get(json, "type"), NULL);
    size_t i = 0;

    while (strcmp(kinds[i].name, type) != 0) { /* the table of types has found it */
        i++;
    }
    return add_step(steps, &(ag_normal_step_t){.kind = kinds[i].kind});
}

static ag_status_t read_strip(ag_steps_t *steps, const ag_json_t *json)
{
    return add_step(
        steps, &(ag_normal_step_t){.kind = AG_NORMAL_STRIP,
                                   .left = ag_json_bool(ag_json_get(json, "strip_left"), true),
                                   .right = ag_json_bool(ag_json_get(json, "strip_right"), true)});
}

static ag_status_t read_replace(ag_steps_t *steps, const ag_json_t *json)
{
    const ag_json_t *literal = ag_json_path(json, "pattern.String");
    ag_normal_step_t step = {.kind = AG_NORMAL_REPLACE, .literal = literal != NULL};
    size_t n_pattern = 0;

    step.pattern =
        ag_json_string(literal != NULL ? literal : ag_json_path(json, "pattern.Regex"), &n_pattern);
    step.content = ag_json_string(ag_json_get(json, "content"), &step.n_content);
    return step.pattern != NULL && n_pattern > 0 && strlen(step.pattern) == n_pattern &&
                   step.content != NULL
               ? add_step(steps, &step)
               : ag_fail(AG_ERR_UNSUPPORTED,
                         "%s: a normalizer Replace whose pattern or content is not known",
                         steps->path);
}

static ag_status_t read_prepend(ag_steps_t *steps, const ag_json_t *json)
{
    ag_normal_step_t step = {.kind = AG_NORMAL_PREPEND};

    step.content = ag_json_string(ag_json_get(json, "prepend"), &step.n_content);
    return step.content != NULL
               ? add_step(steps, &step)
               : ag_fail(AG_ERR_FORMAT, "%s: a normalizer Prepend without a text", steps->path);
}

/* @return the six bits of a letter of base64, -1: it is none. */
static int bits_of(char c)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(letters, c) : NULL;

    return at != NULL ? (int)(at - letters) : -1;
}

static ag_status_t read_map(ag_steps_t *steps, const ag_json_t *json)
{
    size_t n_text = 0;
    const char *text = ag_json_string(ag_json_get(json, "precompiled_charsmap"), &n_text);
    ag_status_t status = AG_OK;
    uint32_t bits = 0, n_bits = 0;

    if (text == NULL || steps->map.n_items > 0) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: a normalizer Precompiled %s", steps->path,
                       text == NULL ? "without its map" : "beside another");
    }
    for (size_t i = 0; i < n_text && bits_of(text[i]) >= 0 && status == AG_OK; i++) {
        bits = bits << 6 | (uint32_t)bits_of(text[i]);
        n_bits += 6;
        if (n_bits >= 8) {
            char byte = (char)(bits >> (n_bits - 8));

            n_bits -= 8;
            status = ag_array_append(&steps->map, &byte, 1);
        }
    }
    return status == AG_OK && steps->map.n_items > 0
               ? add_step(steps, &(ag_normal_step_t){.kind = AG_NORMAL_CHARSMAP_BY_CHAR,
                                                     .content = steps->map.items,
                                                     .n_content = steps->map.n_items})
               : status;
}

ag_status_t ag_steps_read_normalizer(ag_steps_t *steps, const ag_json_t *json)
{
    static const ag_step_type_t types[] = {
        {"NFC", read_plain},       {"NFD", read_plain},       {"NFKC", read_plain},
        {"NFKD", read_plain},      {"Lowercase", read_plain}, {"Strip", read_strip},
        {"Replace", read_replace}, {"Prepend", read_prepend}, {"Precompiled", read_map},
    };

    return ag_step_read(steps, json, "normalizer", "normalizers", types,
                        sizeof(types) / sizeof(types[0]));
}
