/* A tokenizer from a Hugging Face folder: tokenizer.json, tokenizer_config.json,
 * generation_config.json. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/tokenizer_priv.h"

typedef struct reading {
    ag_tokenizer_t *tokenizer;
    char path[4096]; /* of tokenizer.json */
    const ag_json_t *json;
    ag_array_t texts; /* ag_token_text_t by id */
    size_t id;
} reading_t;

static ag_status_t fail_here(const reading_t *reading, const char *what)
{
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s", reading->path, what);
}

static bool is_type(const ag_json_t *json, const char *type)
{
    const char *found = ag_json_string(ag_json_get(json, "type"), NULL);

    return found != NULL && strcmp(found, type) == 0;
}

static ag_status_t keep_text(reading_t *reading, int64_t id, const ag_token_text_t *token)
{
    enum { MOST_IDS = 1 << 24 };

    if (id < 0 || id >= MOST_IDS) {
        return ag_fail(AG_ERR_FORMAT, "%s: id %lld of a token makes no sense", reading->path,
                       (long long)id);
    }
    if ((size_t)id >= reading->texts.n_items) {
        ag_status_t status =
            ag_array_append(&reading->texts, NULL, (size_t)id + 1 - reading->texts.n_items);

        if (status != AG_OK) {
            return status;
        }
    }
    AG_ITEMS(&reading->texts, ag_token_text_t)[id] = *token;
    return AG_OK;
}

static ag_status_t keep_word(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    return keep_text(arg, ag_json_integer(value, -1),
                     &(ag_token_text_t){.text = key, .n_bytes = key_bytes});
}

static ag_status_t keep_added(reading_t *reading)
{
    const ag_json_t *added = ag_json_get(reading->json, "added_tokens");
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < ag_json_size(added) && status == AG_OK; i++) {
        const ag_json_t *token = ag_json_at(added, i);
        ag_token_text_t text = {.added = true,
                                .special = ag_json_bool(ag_json_get(token, "special"), false)};

        text.text = ag_json_string(ag_json_get(token, "content"), &text.n_bytes);
        text.strips = (ag_json_bool(ag_json_get(token, "lstrip"), false) ? AG_STRIP_LEFT : 0) |
                      (ag_json_bool(ag_json_get(token, "rstrip"), false) ? AG_STRIP_RIGHT : 0);
        if (text.text == NULL) {
            return ag_fail(AG_ERR_FORMAT, "%s: added token %zu has no content", reading->path, i);
        }
        status = keep_text(reading, ag_json_integer(ag_json_get(token, "id"), -1), &text);
    }
    return status;
}

static ag_status_t read_merge(reading_t *reading, const ag_json_t *merge, uint32_t rank)
{
    size_t n_left, n_right, n_text;
    const char *text = ag_json_string(merge, &n_text), *left, *right, *space;

    if (text != NULL) { /* "a b" */
        space = n_text > 1 ? memchr(text + 1, ' ', n_text - 1) : NULL;
        left = space != NULL ? text : NULL;
        n_left = space != NULL ? (size_t)(space - text) : 0;
        right = space != NULL ? space + 1 : NULL;
        n_right = n_text - n_left - 1;
    } else { /* ["a", "b"] */
        left = ag_json_string(ag_json_at(merge, 0), &n_left);
        right = ag_json_string(ag_json_at(merge, 1), &n_right);
    }
    if (left == NULL || right == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: merge %u is not two tokens", reading->path, rank);
    }
    return ag_build_merge(reading->tokenizer, left, n_left, right, n_right, rank);
}

static ag_status_t read_model(reading_t *reading)
{
    const ag_json_t *model = ag_json_get(reading->json, "model");
    const ag_json_t *merges = ag_json_get(model, "merges");
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    ag_status_t status;

    if (!is_type(model, "BPE") || ag_json_bool(ag_json_get(model, "byte_fallback"), false)) {
        return fail_here(reading, "the tokenizer's model is not known (known: BPE over bytes)");
    }
    status = ag_json_each(ag_json_get(model, "vocab"), keep_word, reading);
    if (status == AG_OK) {
        status = keep_added(reading);
    }
    for (size_t i = 0; i < reading->texts.n_items && status == AG_OK; i++) {
        ag_token_text_t *text = &AG_ITEMS(&reading->texts, ag_token_text_t)[i];

        text->text = text->text != NULL ? text->text : "";
        status = ag_build_token(tokenizer, text);
    }
    if (status == AG_OK) {
        status = ag_build_tables(tokenizer, ag_json_size(merges));
    }
    for (size_t i = 0; i < ag_json_size(merges) && status == AG_OK; i++) {
        status = read_merge(reading, ag_json_at(merges, i), (uint32_t)i);
    }
    tokenizer->ignore_merges = ag_json_bool(ag_json_get(model, "ignore_merges"), false);
    return status;
}

/* One pre-tokenizer: the patterns it cuts with are appended. @param patterns  const char * items.
 */
static ag_status_t read_pre_tokenizer(reading_t *reading, const ag_json_t *pre,
                                      ag_array_t *patterns)
{
    const char *pattern = NULL, *behavior;
    ag_status_t status = AG_OK;

    if (is_type(pre, "Sequence")) {
        const ag_json_t *members = ag_json_get(pre, "pretokenizers");

        for (size_t i = 0; i < ag_json_size(members) && status == AG_OK; i++) {
            if (is_type(ag_json_at(members, i), "Sequence")) {
                return fail_here(reading, "a pre-tokenizer within a pre-tokenizer's sequence");
            }
            status = read_pre_tokenizer(reading, ag_json_at(members, i), patterns);
        }
        return status;
    }
    if (is_type(pre, "ByteLevel")) {
        reading->tokenizer->add_prefix_space |=
            ag_json_bool(ag_json_get(pre, "add_prefix_space"), true);
        pattern = ag_json_bool(ag_json_get(pre, "use_regex"), true) ? ag_pattern_gpt2 : NULL;
    } else if (is_type(pre, "Digits") &&
               ag_json_bool(ag_json_get(pre, "individual_digits"), false)) {
        pattern = ag_pattern_digits;
    } else if (is_type(pre, "Split")) {
        pattern = ag_json_string(ag_json_path(pre, "pattern.Regex"), NULL);
        behavior = ag_json_string(ag_json_get(pre, "behavior"), NULL);
        if (pattern == NULL || behavior == NULL || strcmp(behavior, "Isolated") != 0 ||
            ag_json_bool(ag_json_get(pre, "invert"), false)) {
            return fail_here(reading, "a pre-tokenizer Split that is not by an expression whose "
                                      "matches are isolated");
        }
    } else {
        return fail_here(reading, "a pre-tokenizer that is not known (known: ByteLevel, Digits "
                                  "alone, Split by an expression, a Sequence of these)");
    }
    return pattern != NULL ? ag_array_append(patterns, &pattern, 1) : AG_OK;
}

static ag_status_t read_splitter(reading_t *reading)
{
    const ag_json_t *pre = ag_json_get(reading->json, "pre_tokenizer");
    const ag_json_t *normalizer = ag_json_get(reading->json, "normalizer");
    ag_array_t patterns = AG_ARRAY(const char *);
    ag_status_t status;

    if (ag_json_kind(normalizer) > AG_JSON_NULL) {
        return fail_here(reading, "a normalizer, of which none is known");
    }
    status = read_pre_tokenizer(reading, pre, &patterns);
    if (status == AG_OK) {
        status = ag_splitter_create(AG_ITEMS(&patterns, const char *), patterns.n_items,
                                    &reading->tokenizer->splitter);
    }
    ag_array_fini(&patterns);
    return status;
}

/* The id of a special token that stands as a string, or as an object with its content. */
static int32_t id_of(const ag_tokenizer_t *tokenizer, const ag_json_t *token)
{
    size_t n_bytes;
    const char *text = ag_json_string(token, &n_bytes);
    uint32_t id;

    if (text == NULL) {
        text = ag_json_string(ag_json_get(token, "content"), &n_bytes);
    }
    id = text != NULL ? ag_text_id(tokenizer, text, n_bytes) : AG_NO_ID;
    return id == AG_NO_ID ? -1 : (int32_t)id;
}

/* The token that a template puts before a single text; -1: none. */
static int32_t template_bos(const ag_tokenizer_t *tokenizer, const ag_json_t *processor)
{
    const ag_json_t *first = ag_json_at(ag_json_get(processor, "single"), 0);
    const ag_json_t *members = ag_json_get(processor, "processors");
    int32_t bos = -1;

    if (is_type(processor, "TemplateProcessing")) {
        return id_of(tokenizer, ag_json_path(first, "SpecialToken.id"));
    }
    for (size_t i = 0; i < ag_json_size(members) && bos < 0; i++) {
        if (is_type(ag_json_at(members, i), "TemplateProcessing")) {
            bos = template_bos(tokenizer, ag_json_at(members, i));
        }
    }
    return bos;
}

static ag_status_t add_ends(ag_tokenizer_t *tokenizer, const ag_json_t *ids)
{
    ag_status_t status = AG_OK;
    int32_t id = (int32_t)ag_json_integer(ids, -1);

    if (ag_json_kind(ids) == AG_JSON_ARRAY) {
        for (size_t i = 0; i < ag_json_size(ids) && status == AG_OK; i++) {
            status = add_ends(tokenizer, ag_json_at(ids, i));
        }
        return status;
    }
    return id >= 0 && !ag_tokenizer_is_end(tokenizer, id)
               ? ag_array_append(&tokenizer->ends, &id, 1)
               : AG_OK;
}

/* A template is a text, or a list of named ones of which "default" counts. */
static ag_status_t keep_template(ag_tokenizer_t *tokenizer, const ag_json_t *chat)
{
    const char *text = ag_json_string(chat, NULL);

    for (size_t i = 0; text == NULL && i < ag_json_size(chat); i++) {
        const char *name = ag_json_string(ag_json_get(ag_json_at(chat, i), "name"), NULL);

        if (name != NULL && strcmp(name, "default") == 0) {
            text = ag_json_string(ag_json_get(ag_json_at(chat, i), "template"), NULL);
        }
    }
    if (text == NULL) {
        return AG_OK;
    }
    tokenizer->chat_template = strdup(text);
    return tokenizer->chat_template != NULL
               ? AG_OK
               : ag_fail_nomem("reading a chat template", strlen(text));
}

/* chat_template.jinja, where there is one, comes before tokenizer_config.json's. */
static ag_status_t read_template_file(const ag_model_files_t *files, ag_tokenizer_t *tokenizer)
{
    char path[4096], *text = NULL;
    size_t capacity = 0;
    ssize_t n_read;
    FILE *file;

    snprintf(path, sizeof(path), "%s/chat_template.jinja", ag_model_files_path(files));
    file = fopen(path, "r");
    if (file == NULL) {
        return AG_OK;
    }
    n_read = getdelim(&text, &capacity, '\0', file);
    fclose(file);
    if (n_read < 0) {
        free(text);
        return AG_OK;
    }
    tokenizer->chat_template = text;
    return AG_OK;
}

static ag_status_t read_config(const ag_model_files_t *files, reading_t *reading)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    const ag_json_t *config = ag_model_files_config(files);
    ag_json_t *mine = NULL;
    char path[4096];
    ag_status_t status;

    snprintf(path, sizeof(path), "%s/tokenizer_config.json", ag_model_files_path(files));
    if (access(path, F_OK) == 0) {
        status = ag_json_read(path, &mine);
        if (status != AG_OK) {
            return status;
        }
    }
    tokenizer->bos = template_bos(tokenizer, ag_json_get(reading->json, "post_processor"));
    if (tokenizer->bos < 0 && ag_json_bool(ag_json_get(mine, "add_bos_token"), false)) {
        tokenizer->bos = id_of(tokenizer, ag_json_get(mine, "bos_token"));
    }
    status = add_ends(tokenizer, ag_json_get(config, "eos_token_id"));
    if (status == AG_OK) {
        status = add_ends(tokenizer,
                          ag_json_get(ag_model_files_generation_config(files), "eos_token_id"));
    }
    if (status == AG_OK) {
        int32_t eos = id_of(tokenizer, ag_json_get(mine, "eos_token"));

        status = eos >= 0 && !ag_tokenizer_is_end(tokenizer, eos)
                     ? ag_array_append(&tokenizer->ends, &eos, 1)
                     : AG_OK;
    }
    if (status == AG_OK) {
        status = read_template_file(files, tokenizer);
    }
    if (status == AG_OK && tokenizer->chat_template == NULL) {
        status = keep_template(tokenizer, ag_json_get(mine, "chat_template"));
    }
    ag_json_destroy(mine);
    return status;
}

ag_status_t ag_tokenizer_read_folder(const ag_model_files_t *files, ag_tokenizer_t *tokenizer)
{
    reading_t reading = {.tokenizer = tokenizer, .texts = AG_ARRAY(ag_token_text_t)};
    ag_json_t *json;
    ag_status_t status;

    snprintf(reading.path, sizeof(reading.path), "%s/tokenizer.json", ag_model_files_path(files));
    status = ag_json_read(reading.path, &json);
    if (status != AG_OK) {
        return status;
    }
    reading.json = json;
    status = read_model(&reading);
    if (status == AG_OK) {
        status = read_splitter(&reading);
    }
    if (status == AG_OK) {
        status = read_config(files, &reading);
    }
    ag_array_fini(&reading.texts);
    ag_json_destroy(json);
    return status;
}
