/* A tokenizer as GGUF metadata: tokenizer.* (ggml's docs/gguf.md, llama.cpp's conversion/base.py).
 */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/text/chat.h"
#include "runtime/text/export.h"
#include "runtime/text/export_chat_priv.h"
#include "runtime/text/export_priv.h"
#include "runtime/text/gguf_tokens_priv.h"

/* A folder's tokenizer on its way to metadata. */
typedef struct folder {
    const ag_model_files_t *files;
    const ag_tokenizer_t *tokenizer; /* opened from the same: it was found in order */
    ag_json_t *json, *config;        /* tokenizer.json, tokenizer_config.json or NULL */
    const char **texts;              /* (n_vocab) of each id; NULL: unused */
    size_t *n_bytes;
    uint8_t *types; /* (n_vocab) AG_GGUF_TOKEN_* */
    uint32_t n_vocab;
    ag_spacing_t spacing; /* of pieces */
    ag_gguf_metadata_t *metadata;
} folder_t;

static ag_status_t keep(folder_t *folder, const ag_json_t *id, const char *text, size_t n_bytes,
                        uint8_t type)
{
    int64_t number = ag_json_integer(id, -1); /* opening the tokenizer has looked at it */

    if (number < 0 || number >= folder->n_vocab) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: the tokenizer's token %lld is none of the model's vocabulary of %u",
                       ag_model_files_path(folder->files), (long long)number, folder->n_vocab);
    }
    folder->texts[number] = text;
    folder->n_bytes[number] = n_bytes;
    folder->types[number] = type;
    return AG_OK;
}

static ag_status_t keep_word(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    return keep(arg, value, key, key_bytes, AG_GGUF_TOKEN_WORD);
}

/* Is an added token looked for in text that was changed, where GGUF files' are not? Of pieces they
 * are, unless a space comes before a text. */
static bool is_late(const folder_t *folder, const ag_json_t *token)
{
    return ag_json_bool(ag_json_get(token, "normalized"), false) &&
           folder->tokenizer->normalizer != NULL &&
           (folder->tokenizer->model == AG_MODEL_BYTES || folder->spacing.adds_space);
}

/* GGUF has one kind of added token; what looks at what stands beside it does so no more. */
static void warn_of_strips(const folder_t *folder, const ag_json_t *added)
{
    const char *first = "";
    size_t n = 0, n_first = 0;

    for (size_t i = 0; i < ag_json_size(added); i++) {
        const ag_json_t *token = ag_json_at(added, i);

        if (ag_json_bool(ag_json_get(token, "lstrip"), false) ||
            ag_json_bool(ag_json_get(token, "rstrip"), false) ||
            ag_json_bool(ag_json_get(token, "single_word"), false) || is_late(folder, token)) {
            first = n++ == 0 ? ag_json_string(ag_json_get(token, "content"), &n_first) : first;
        }
    }
    if (n > 0) {
        ag_log(
            AG_LOG_WARNING,
            "%zu added tokens, the first %s, swallow the white space beside them, must be words, "
            "or are normalized, which GGUF files cannot say: there they do not",
            n, ag_quote(first, n_first).text);
    }
}

/* Spaces for the marks that stand for them. */
static ag_status_t append_plain(const char *text, size_t n, ag_array_t *plain)
{
    size_t n_space = strlen(AG_METASPACE);
    ag_status_t status = AG_OK;

    for (size_t at = 0; at < n && status == AG_OK;) {
        bool is_space = at + n_space <= n && memcmp(text + at, AG_METASPACE, n_space) == 0;

        status = ag_array_append(plain, is_space ? " " : text + at, 1);
        at += is_space ? n_space : 1;
    }
    return status;
}

/* Is an added token that has marks for spaces found where a text has such marks alone? What is not
 * normalized is, unless merges make the same of spaces. */
static ag_status_t is_of_marks(const folder_t *folder, const ag_json_t *token, bool *is_p)
{
    size_t n = 0;
    const char *text = ag_json_string(ag_json_get(token, "content"), &n);
    ag_array_t plain = AG_ARRAY(char), ids = AG_ARRAY(int32_t);
    ag_status_t status = AG_OK;

    *is_p = false;
    if (folder->tokenizer->model != AG_MODEL_BYTES &&
        memmem(text, n, AG_METASPACE, strlen(AG_METASPACE)) != NULL &&
        !ag_json_bool(ag_json_get(token, "normalized"), false) &&
        !ag_json_bool(ag_json_get(token, "special"), false)) {
        status = append_plain(text, n, &plain);
        if (status == AG_OK) {
            status = ag_tokenizer_encode(folder->tokenizer, plain.items, plain.n_items,
                                         AG_TOKEN_CONTINUES, &ids, NULL);
        }
        status = status == AG_ERR_UNSUPPORTED ? AG_OK : status; /* spaces that it does not know */
        *is_p = ids.n_items != 1 ||
                AG_ITEMS(&ids, int32_t)[0] != ag_json_integer(ag_json_get(token, "id"), -1);
    }
    ag_array_fini(&plain);
    ag_array_fini(&ids);
    return status;
}

static ag_status_t warn_of_marks(const folder_t *folder, const ag_json_t *added)
{
    const char *first = "";
    size_t n = 0, n_first = 0;

    for (size_t i = 0; i < ag_json_size(added); i++) {
        const ag_json_t *token = ag_json_at(added, i);
        bool is;
        ag_status_t status = is_of_marks(folder, token, &is);

        if (status != AG_OK) {
            return status;
        }
        if (is) {
            first = n++ == 0 ? ag_json_string(ag_json_get(token, "content"), &n_first) : first;
        }
    }
    if (n > 0) {
        ag_log(AG_LOG_WARNING,
               "%zu added tokens, the first %s, stand for marks of spaces (U+2581) that a text "
               "itself has, not for its spaces; in GGUF files they stand for both: ids of a text "
               "with such spaces may differ from this tokenizer's",
               n, ag_quote(first, n_first).text);
    }
    return AG_OK;
}

/* A list of words and scores, whose ids are their places. */
static ag_status_t keep_list(folder_t *folder, const ag_json_t *vocabulary)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < ag_json_size(vocabulary) && status == AG_OK; i++) {
        ag_json_t *id = ag_json_new_integer((int64_t)i);
        size_t n = 0;
        const char *text = ag_json_string(ag_json_at(ag_json_at(vocabulary, i), 0), &n);

        status = keep(folder, id, text, n, AG_GGUF_TOKEN_WORD);
        ag_json_destroy(id);
    }
    return status;
}

/* The types of tokens that stand for bytes and for what is unknown. */
static void mark_others(folder_t *folder)
{
    const ag_tokenizer_t *tokenizer = folder->tokenizer;

    for (int byte = 0; byte < 256 && tokenizer->model != AG_MODEL_BYTES; byte++) {
        if (tokenizer->byte_ids[byte] < folder->n_vocab) {
            folder->types[tokenizer->byte_ids[byte]] = AG_GGUF_TOKEN_BYTE;
        }
    }
    if (tokenizer->model != AG_MODEL_BYTES && tokenizer->unknown < folder->n_vocab) {
        folder->types[tokenizer->unknown] = AG_GGUF_TOKEN_UNKNOWN;
    }
}

static ag_status_t collect(folder_t *folder)
{
    const ag_json_t *added = ag_json_get(folder->json, "added_tokens");
    const ag_json_t *vocabulary = ag_json_path(folder->json, "model.vocab");
    ag_status_t status = ag_json_kind(vocabulary) == AG_JSON_ARRAY
                             ? keep_list(folder, vocabulary)
                             : ag_json_each(vocabulary, keep_word, folder);

    for (size_t i = 0; i < ag_json_size(added) && status == AG_OK; i++) {
        const ag_json_t *token = ag_json_at(added, i);
        size_t n = 0;
        const char *text = ag_json_string(ag_json_get(token, "content"), &n);

        status =
            keep(folder, ag_json_get(token, "id"), text, n,
                 ag_json_bool(ag_json_get(token, "special"), false) ? AG_GGUF_TOKEN_CONTROL
                                                                    : AG_GGUF_TOKEN_USER_DEFINED);
    }
    if (status == AG_OK) {
        mark_others(folder);
        warn_of_strips(folder, added);
        status = warn_of_marks(folder, added);
    }
    return status;
}

/* What a user defined stands in a text before spaces are rewritten, and is written so. */
static void add_text(const folder_t *folder, uint32_t id)
{
    ag_array_t plain = AG_ARRAY(char);
    ag_status_t status;

    if (folder->types[id] != AG_GGUF_TOKEN_USER_DEFINED ||
        folder->tokenizer->model == AG_MODEL_BYTES) {
        ag_gguf_add_string(folder->metadata, folder->texts[id], folder->n_bytes[id]);
        return;
    }
    status = append_plain(folder->texts[id], folder->n_bytes[id], &plain);
    ag_gguf_add_string(folder->metadata, plain.items, plain.n_items);
    folder->metadata->status = status != AG_OK ? status : folder->metadata->status;
    ag_array_fini(&plain);
}

static void put_tokens(const folder_t *folder)
{
    ag_gguf_put_array(folder->metadata, "tokenizer.ggml.tokens", AG_GGUF_STRING, folder->n_vocab);
    for (uint32_t id = 0; id < folder->n_vocab; id++) {
        char unused[32];

        if (folder->texts[id] != NULL) {
            add_text(folder, id);
        } else {
            snprintf(unused, sizeof(unused), "[PAD%u]", id);
            ag_gguf_add_string(folder->metadata, unused, strlen(unused));
        }
    }
    ag_gguf_put_array(folder->metadata, "tokenizer.ggml.token_type", AG_GGUF_I32, folder->n_vocab);
    for (uint32_t id = 0; id < folder->n_vocab; id++) {
        ag_gguf_add_i32(folder->metadata,
                        folder->texts[id] != NULL ? folder->types[id] : AG_GGUF_TOKEN_UNUSED);
    }
}

/* A merge as "a b", whichever way the file has it. @return false: it is a heading of the list. */
static bool merge_text(const ag_json_t *merge, ag_array_t *text)
{
    size_t n_left = 0, n_right = 0;
    const char *left = ag_json_string(merge, &n_left), *right;

    text->n_items = 0;
    if (left != NULL) {
        return strncmp(left, "#version", 8) != 0 && ag_array_append(text, left, n_left) == AG_OK;
    }
    left = ag_json_string(ag_json_at(merge, 0), &n_left);
    right = ag_json_string(ag_json_at(merge, 1), &n_right);
    return ag_array_append(text, left, n_left) == AG_OK && ag_array_append(text, " ", 1) == AG_OK &&
           ag_array_append(text, right, n_right) == AG_OK;
}

static void put_merges(const folder_t *folder)
{
    const ag_json_t *merges = ag_json_path(folder->json, "model.merges");
    ag_array_t text = AG_ARRAY(char);
    size_t n = 0;

    for (size_t i = 0; i < ag_json_size(merges); i++) {
        n += merge_text(ag_json_at(merges, i), &text);
    }
    ag_gguf_put_array(folder->metadata, "tokenizer.ggml.merges", AG_GGUF_STRING, n);
    for (size_t i = 0; i < ag_json_size(merges); i++) {
        if (merge_text(ag_json_at(merges, i), &text)) {
            ag_gguf_add_string(folder->metadata, text.items, text.n_items);
            n--;
        }
    }
    if (n != 0) { /* memory ran out in one of both passes */
        folder->metadata->status = ag_fail_nomem("converting a tokenizer", text.n_items);
    }
    ag_array_fini(&text);
}

/* The first of one id or a list that is not this one; -1: none. */
static int64_t id_but(const ag_json_t *ids, int64_t but)
{
    bool is_list = ag_json_kind(ids) == AG_JSON_ARRAY;

    for (size_t i = 0; i < (is_list ? ag_json_size(ids) : 1); i++) {
        int64_t id = ag_json_integer(is_list ? ag_json_at(ids, i) : ids, -1);

        if (id >= 0 && id != but) {
            return id;
        }
    }
    return -1;
}

/* The id that tokenizer_config.json names by its text, or the configs by number. */
static int64_t special_id(const folder_t *folder, const char *text_key, const char *id_key)
{
    int64_t id = ag_token_id_of(folder->tokenizer, ag_json_get(folder->config, text_key));

    if (id < 0) {
        id = id_but(ag_json_get(ag_model_files_config(folder->files), id_key), -1);
    }
    if (id < 0) {
        id = id_but(ag_json_get(ag_model_files_generation_config(folder->files), id_key), -1);
    }
    return id;
}

static void put_id(const folder_t *folder, const char *key, int64_t id)
{
    if (id >= 0 && id < folder->n_vocab) {
        ag_gguf_put_u32(folder->metadata, key, (uint32_t)id);
    }
}

/* Tokens that end an answer. */
typedef struct ends {
    int64_t ids[AG_GGUF_N_ENDS];
    size_t n, n_more; /* listed here; beyond those that have a place */
} ends_t;

static void add_end(const folder_t *folder, int64_t id, ends_t *ends)
{
    bool known = id < 0 || id >= folder->n_vocab;

    for (size_t i = 0; i < ends->n; i++) {
        known |= ends->ids[i] == id;
    }
    if (!known && ends->n < AG_GGUF_N_ENDS) {
        ends->ids[ends->n++] = id;
    } else if (!known) {
        ends->n_more++;
    }
}

/* One id or a list. */
static void add_ends(const folder_t *folder, const ag_json_t *ids, ends_t *ends)
{
    bool is_list = ag_json_kind(ids) == AG_JSON_ARRAY;

    for (size_t i = 0; i < (is_list ? ag_json_size(ids) : 1); i++) {
        add_end(folder, ag_json_integer(is_list ? ag_json_at(ids, i) : ids, -1), ends);
    }
}

/* What ends a text, what the chat template puts behind an answer, and what the configs name. */
static void put_ends(const folder_t *folder, int64_t eos)
{
    static const char *const keys[AG_GGUF_N_ENDS] = AG_GGUF_ENDS;
    ends_t ends = {.n = 0};
    ag_chat_t *chat;

    add_end(folder, eos, &ends);
    if (ag_chat_open(folder->tokenizer, NULL, &chat) == AG_OK) {
        add_end(folder, ag_chat_end(chat), &ends);
        ag_chat_close(chat);
    }
    add_ends(folder, ag_json_get(ag_model_files_generation_config(folder->files), "eos_token_id"),
             &ends);
    add_ends(folder, ag_json_get(ag_model_files_config(folder->files), "eos_token_id"), &ends);
    for (size_t i = 0; i < ends.n; i++) {
        put_id(folder, keys[i], ends.ids[i]);
    }
    if (ends.n_more > 0) {
        ag_log(AG_LOG_WARNING,
               "generation_config.json has more tokens that end an answer than the %d for which "
               "GGUF files have places: %zu more",
               AG_GGUF_N_ENDS, ends.n_more);
    }
}

static void put_special(const folder_t *folder)
{
    int32_t before = ag_tokenizer_bos(folder->tokenizer);
    int32_t after = ag_tokenizer_after(folder->tokenizer);
    int64_t eos = after >= 0 ? after : special_id(folder, "eos_token", "eos_token_id");

    put_id(folder, "tokenizer.ggml.bos_token_id",
           before >= 0 ? before : special_id(folder, "bos_token", "bos_token_id"));
    put_ends(folder, eos);
    put_id(folder, "tokenizer.ggml.unknown_token_id",
           folder->tokenizer->unknown != AG_NO_ID
               ? (int64_t)folder->tokenizer->unknown
               : ag_token_id_of(folder->tokenizer, ag_json_get(folder->config, "unk_token")));
    put_id(folder, "tokenizer.ggml.padding_token_id",
           special_id(folder, "pad_token", "pad_token_id"));
    ag_gguf_put_bool(folder->metadata, "tokenizer.ggml.add_bos_token", before >= 0);
    ag_gguf_put_bool(folder->metadata, "tokenizer.ggml.add_eos_token", after >= 0);
}

static ag_status_t put_gpt2(folder_t *folder)
{
    const ag_pre_tokenizer_t *pre = folder->tokenizer->pre;
    ag_status_t status;

    if (pre == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s/tokenizer.json: GGUF files have no name for such a pre-tokenizer",
                       ag_model_files_path(folder->files));
    }
    status = collect(folder);
    if (status == AG_OK) {
        ag_gguf_put_string(folder->metadata, "tokenizer.ggml.model", "gpt2", strlen("gpt2"));
        ag_gguf_put_string(folder->metadata, "tokenizer.ggml.pre", pre->name, strlen(pre->name));
        put_tokens(folder);
        put_merges(folder);
    }
    return status;
}

/* @param scores  (n_vocab) */
static ag_status_t find_scores(const folder_t *folder, float *scores)
{
    const ag_tokenizer_t *tokenizer = folder->tokenizer;
    uint32_t n = ag_tokenizer_size(tokenizer);
    bool *is_word = calloc(n > 0 ? n : 1, sizeof(*is_word));
    ag_status_t status = AG_OK;

    if (is_word == NULL) {
        return ag_fail_nomem("converting a tokenizer", n);
    }
    for (uint32_t id = 0; id < n; id++) {
        is_word[id] = folder->types[id] == AG_GGUF_TOKEN_WORD && folder->texts[id] != NULL;
    }
    if (tokenizer->model == AG_MODEL_MERGES) {
        status = ag_merges_to_scores(tokenizer, is_word, scores);
    }
    for (uint32_t id = 0; id < n && tokenizer->model == AG_MODEL_UNIGRAM; id++) {
        scores[id] =
            id < tokenizer->scores.n_items ? (float)AG_ITEMS(&tokenizer->scores, double)[id] : 0.0f;
    }
    free(is_word);
    return status;
}

static void put_map(const folder_t *folder, const ag_normal_step_t *map)
{
    ag_gguf_value_t value = {
        .kind = AG_GGUF_ARRAY,
        .as.array = {.kind = AG_GGUF_U8, .n = map->n_content, .first = map->content}};

    ag_gguf_put_value(folder->metadata, "tokenizer.ggml.precompiled_charsmap", &value);
}

/* SentencePiece's models. */
static ag_status_t put_pieces(folder_t *folder)
{
    const char *model = folder->tokenizer->model == AG_MODEL_UNIGRAM ? "t5" : "llama";
    float *scores = calloc((size_t)folder->n_vocab + 1, sizeof(*scores));
    ag_gguf_metadata_t *metadata = folder->metadata;
    ag_spacing_t *spacing = &folder->spacing;
    ag_status_t status;

    if (scores == NULL) {
        return ag_fail_nomem("converting a tokenizer", folder->n_vocab * sizeof(*scores));
    }
    status = ag_spacing_of(folder->tokenizer, ag_model_files_path(folder->files), spacing);
    if (status == AG_OK) {
        status = collect(folder);
    }
    if (status == AG_OK) {
        status = find_scores(folder, scores);
    }
    if (status == AG_OK) {
        ag_gguf_put_string(metadata, "tokenizer.ggml.model", model, strlen(model));
        ag_gguf_put_string(metadata, "tokenizer.ggml.pre", "default", strlen("default"));
        put_tokens(folder);
        ag_gguf_put_array(metadata, "tokenizer.ggml.scores", AG_GGUF_F32, folder->n_vocab);
        for (uint32_t id = 0; id < folder->n_vocab; id++) {
            ag_gguf_add_f32(metadata, scores[id]);
        }
        ag_gguf_put_bool(metadata, "tokenizer.ggml.add_space_prefix", spacing->adds_space);
        ag_gguf_put_bool(metadata, "tokenizer.ggml.remove_extra_whitespaces",
                         spacing->removes_extra);
    }
    if (status == AG_OK && spacing->map != NULL) {
        put_map(folder, spacing->map);
    }
    free(scores);
    return status;
}

static ag_status_t put_all(folder_t *folder)
{
    ag_status_t status =
        folder->tokenizer->model == AG_MODEL_BYTES ? put_gpt2(folder) : put_pieces(folder);

    if (status != AG_OK) {
        return status;
    }
    put_special(folder);
    ag_export_chat_to_gguf(folder->config, ag_tokenizer_chat_template(folder->tokenizer),
                           folder->metadata);
    return folder->metadata->status;
}

static ag_status_t read_jsons(folder_t *folder)
{
    char path[4400];
    ag_status_t status;

    snprintf(path, sizeof(path), "%s/tokenizer.json", ag_model_files_path(folder->files));
    status = ag_json_read(path, &folder->json);
    snprintf(path, sizeof(path), "%s/tokenizer_config.json", ag_model_files_path(folder->files));
    return status == AG_OK && access(path, F_OK) == 0 ? ag_json_read(path, &folder->config)
                                                      : status;
}

static ag_status_t convert_folder(const ag_model_files_t *files, uint32_t n_vocab,
                                  ag_gguf_metadata_t *metadata)
{
    folder_t folder = {.files = files,
                       .texts = calloc((size_t)n_vocab + 1, sizeof(*folder.texts)),
                       .n_bytes = calloc((size_t)n_vocab + 1, sizeof(*folder.n_bytes)),
                       .types = calloc((size_t)n_vocab + 1, sizeof(*folder.types)),
                       .n_vocab = n_vocab,
                       .metadata = metadata};
    ag_tokenizer_t *tokenizer = NULL;
    ag_status_t status = ag_tokenizer_open(files, &tokenizer);

    if (folder.texts == NULL || folder.n_bytes == NULL || folder.types == NULL) {
        status = ag_fail_nomem("converting a tokenizer", n_vocab * sizeof(*folder.texts));
    }
    if (status == AG_OK) {
        folder.tokenizer = tokenizer;
        status = read_jsons(&folder);
    }
    if (status == AG_OK) {
        status = put_all(&folder);
    }
    ag_tokenizer_close(tokenizer);
    ag_json_destroy(folder.json);
    ag_json_destroy(folder.config);
    free(folder.texts);
    free(folder.n_bytes);
    free(folder.types);
    return status;
}

static bool has_file(const ag_model_files_t *files, const char *name)
{
    char path[4400];

    snprintf(path, sizeof(path), "%s/%s", ag_model_files_path(files), name);
    return access(path, F_OK) == 0;
}

ag_status_t ag_tokenizer_to_gguf(const ag_model_files_t *files, uint32_t n_vocab,
                                 ag_gguf_metadata_t *metadata)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *value;
    const char *key;

    if (gguf == NULL && !has_file(files, "tokenizer.json") && !has_file(files, "tokenizer.model")) {
        ag_gguf_put_string(metadata, "tokenizer.ggml.model", "none", strlen("none"));
        return metadata->status;
    }
    if (gguf == NULL) {
        return convert_folder(files, n_vocab, metadata);
    }
    for (size_t i = 0; (value = ag_gguf_entry(gguf, i, &key)) != NULL; i++) {
        if (strncmp(key, "tokenizer.", strlen("tokenizer.")) == 0) {
            ag_gguf_put_value(metadata, key, value);
        }
    }
    return metadata->status;
}
