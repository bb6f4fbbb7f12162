/* Chat templates in files of either kind: the model's own, and those of other names beside it. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/export_chat_priv.h"

static const char own_key[] = "tokenizer.chat_template",
                  named_prefix[] = "tokenizer.chat_template.";

enum { MOST_NAMED = 32, NAME_BYTES = 64 };

/* As llama.cpp's conversion writes names: letters, digits, and _ for all else. */
static void plain_name(const char *name, char plain[NAME_BYTES])
{
    size_t n = 0;

    for (; name[n] != '\0' && n + 1 < NAME_BYTES; n++) {
        plain[n] = isalnum((unsigned char)name[n]) ? name[n] : '_';
    }
    plain[n] = '\0';
}

/* A named template that is not the model's own, whose plain name is none of those before. */
static const char *other_template(const ag_json_t *entry, char (*names)[NAME_BYTES], size_t n_names)
{
    const char *name = ag_json_string(ag_json_get(entry, "name"), NULL);
    const char *text = ag_json_string(ag_json_get(entry, "template"), NULL);

    if (name == NULL || *name == '\0' || strcmp(name, "default") == 0 || n_names == MOST_NAMED) {
        return NULL;
    }
    plain_name(name, names[n_names]);
    for (size_t i = 0; i < n_names; i++) {
        if (strcmp(names[i], names[n_names]) == 0) {
            return NULL;
        }
    }
    return text;
}

void ag_export_chat_to_gguf(const ag_json_t *config, const char *own, ag_gguf_metadata_t *metadata)
{
    const ag_json_t *list = ag_json_get(config, "chat_template");
    char names[MOST_NAMED + 1][NAME_BYTES];
    size_t n = 0;

    if (own != NULL) {
        ag_gguf_put_string(metadata, own_key, own, strlen(own));
    }
    for (size_t i = 0; i < ag_json_size(list); i++) {
        const char *text = other_template(ag_json_at(list, i), names, n);
        char key[sizeof(named_prefix) + NAME_BYTES];

        if (text != NULL) {
            snprintf(key, sizeof(key), "%s%s", named_prefix, names[n++]);
            ag_gguf_put_string(metadata, key, text, strlen(text));
        }
    }
    if (n > 0) {
        ag_gguf_put_array(metadata, "tokenizer.chat_templates", AG_GGUF_STRING, n);
        for (size_t i = 0; i < n; i++) {
            ag_gguf_add_string(metadata, names[i], strlen(names[i]));
        }
    }
}

static void append_named(ag_json_t *list, const char *name, const char *text, size_t n_bytes)
{
    ag_json_t *entry = ag_json_new_object();

    ag_json_set(entry, "name", ag_json_new_string(name, strlen(name)));
    ag_json_set(entry, "template", ag_json_new_string(text, n_bytes));
    ag_json_append(list, entry);
}

void ag_export_chat_to_config(const ag_gguf_t *gguf, const char *own, ag_json_t *config)
{
    ag_json_t *list = ag_json_new_array();
    const ag_gguf_value_t *value;
    const char *key;

    if (own != NULL) {
        append_named(list, "default", own, strlen(own));
    }
    for (size_t i = 0; (value = ag_gguf_entry(gguf, i, &key)) != NULL; i++) {
        if (strncmp(key, named_prefix, strlen(named_prefix)) == 0 &&
            value->kind == AG_GGUF_STRING) {
            append_named(list, key + strlen(named_prefix), value->as.string.bytes,
                         value->as.string.n_bytes);
        }
    }
    if (ag_json_size(list) > (own != NULL ? 1 : 0)) {
        ag_json_set(config, "chat_template", list);
        return;
    }
    ag_json_destroy(list);
    if (own != NULL) {
        ag_json_set(config, "chat_template", ag_json_new_string(own, strlen(own)));
    }
}
