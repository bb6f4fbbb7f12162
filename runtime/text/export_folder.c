/* A tokenizer as the files of a Hugging Face folder. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/chat.h"
#include "runtime/text/export.h"
#include "runtime/text/export_chat_priv.h"
#include "runtime/text/export_priv.h"
#include "runtime/text/gguf_tokens_priv.h"

/* What belongs to a tokenizer or to generation, as transformers writes it. */
static const char *const names[] = {"tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "tokenizer.model",
                                    "chat_template.jinja",
                                    "chat_template.json",
                                    "generation_config.json"};

static ag_status_t copy_bytes(FILE *file, const char *path, ag_aside_t *aside)
{
    char bytes[65536];
    ag_status_t status = AG_OK;
    size_t n;

    while (status == AG_OK && (n = fread(bytes, 1, sizeof(bytes), file)) > 0) {
        status = ag_aside_write(aside, bytes, n);
    }
    if (status == AG_OK && ferror(file)) {
        status = ag_fail(AG_ERR_IO, "reading %s: %s", path, strerror(errno));
    }
    return status == AG_OK ? ag_aside_seal(aside) : status;
}

static ag_status_t copy_file(const char *from, const char *name, ag_folder_t *folder)
{
    char path[4400];
    ag_aside_t *aside;
    FILE *file;
    ag_status_t status;

    snprintf(path, sizeof(path), "%s/%s", from, name);
    file = fopen(path, "rb");
    if (file == NULL) {
        return errno == ENOENT || errno == ENOTDIR /* the model is a config.json alone */
                   ? AG_OK
                   : ag_fail(AG_ERR_IO, "opening %s: %s", path, strerror(errno));
    }
    status = ag_folder_add(folder, name, &aside);
    if (status == AG_OK) {
        status = copy_bytes(file, path, aside);
    }
    fclose(file);
    return status;
}

/* A GGUF file's tokenizer on its way to JSON. */
typedef struct tokens {
    const ag_gguf_t *gguf;
    const ag_tokenizer_t *tokenizer; /* the same, opened: it was found in order */
    const ag_gguf_value_t *texts, *types, *merges;
} tokens_t;

static int64_t type_of(const tokens_t *tokens, size_t id)
{
    return tokens->types != NULL ? ag_gguf_item(tokens->types, id).as.integer : AG_GGUF_TOKEN_WORD;
}

static bool is_special(int64_t type)
{
    return type == AG_GGUF_TOKEN_CONTROL || type == AG_GGUF_TOKEN_UNKNOWN;
}

/* Every token but unused ones; of two that are alike the first. */
static ag_json_t *make_vocabulary(const tokens_t *tokens)
{
    ag_json_t *vocabulary = ag_json_new_object();

    for (size_t id = 0; id < tokens->texts->as.array.n; id++) {
        ag_gguf_value_t text = ag_gguf_item(tokens->texts, id);

        if (type_of(tokens, id) != AG_GGUF_TOKEN_UNUSED &&
            strlen(text.as.string.bytes) == text.as.string.n_bytes &&
            ag_json_get(vocabulary, text.as.string.bytes) == NULL) {
            ag_json_set(vocabulary, text.as.string.bytes, ag_json_new_integer((int64_t)id));
        }
    }
    return vocabulary;
}

static ag_json_t *make_added(const tokens_t *tokens)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    ag_json_t *added = ag_json_new_array();

    for (size_t id = 0; id < tokens->texts->as.array.n; id++) {
        int64_t type = type_of(tokens, id);
        ag_gguf_value_t text = ag_gguf_item(tokens->texts, id);
        ag_json_t *token;

        if (!is_special(type) && type != AG_GGUF_TOKEN_USER_DEFINED) {
            continue;
        }
        token = ag_json_new_object();
        ag_json_set(token, "id", ag_json_new_integer((int64_t)id));
        ag_json_set(token, "content",
                    ag_json_new_string(text.as.string.bytes, text.as.string.n_bytes));
        for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
            ag_json_set(token, flags[i], ag_json_new_bool(false));
        }
        ag_json_set(
            token, "normalized",
            ag_json_new_bool(ag_piece_at(tokens->tokenizer, (uint32_t)id)->flags & AG_PIECE_LATE));
        ag_json_set(token, "special", ag_json_new_bool(is_special(type)));
        ag_json_append(added, token);
    }
    return added;
}

static bool is_in(const ag_json_t *vocabulary, const char *bytes, size_t n, char *room)
{
    memcpy(room, bytes, n);
    room[n] = '\0';
    return ag_json_get(vocabulary, room) != NULL;
}

/* Hugging Face's readers refuse a merge that makes no token, which llama.cpp passes over, and take
 * the last of two that are alike, where llama.cpp takes the first. */
static bool is_useful(const ag_json_t *vocabulary, const ag_gguf_value_t *merge, ag_json_t *seen)
{
    const char *bytes = merge->as.string.bytes;
    size_t n = merge->as.string.n_bytes;
    const char *space = n > 1 ? memchr(bytes + 1, ' ', n - 1) : NULL;
    char *room = malloc(n + 1);
    bool useful = room != NULL && space != NULL && strlen(bytes) == n &&
                  ag_json_get(seen, bytes) == NULL &&
                  is_in(vocabulary, bytes, (size_t)(space - bytes), room) &&
                  is_in(vocabulary, space + 1, n - (size_t)(space - bytes) - 1, room);

    if (useful) {
        memcpy(room, bytes, (size_t)(space - bytes));
        memcpy(room + (space - bytes), space + 1, n - (size_t)(space - bytes)); /* and the NUL */
        useful = ag_json_get(vocabulary, room) != NULL;
        ag_json_set(seen, bytes, ag_json_new_bool(true));
    }
    free(room);
    return useful;
}

static ag_json_t *make_merges(const tokens_t *tokens, const ag_json_t *vocabulary)
{
    ag_json_t *merges = ag_json_new_array(), *seen = ag_json_new_object();

    for (size_t i = 0; i < tokens->merges->as.array.n; i++) {
        ag_gguf_value_t merge = ag_gguf_item(tokens->merges, i);

        if (is_useful(vocabulary, &merge, seen)) {
            ag_json_append(merges,
                           ag_json_new_string(merge.as.string.bytes, merge.as.string.n_bytes));
        }
    }
    ag_json_destroy(seen);
    return merges;
}

static ag_json_t *token_text(const tokens_t *tokens, int64_t id)
{
    ag_gguf_value_t text = ag_gguf_item(tokens->texts, (size_t)id);

    return ag_json_new_string(text.as.string.bytes, text.as.string.n_bytes);
}

static ag_status_t make_bpe(const tokens_t *tokens, ag_json_t *model)
{
    static const char *const nulls[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix"};
    const ag_tokenizer_t *tokenizer = tokens->tokenizer;
    ag_json_t *vocabulary = make_vocabulary(tokens), *merges = NULL;
    bool of_bytes = tokenizer->model == AG_MODEL_BYTES, has_bytes = false;
    ag_status_t status = AG_OK;

    if (of_bytes) {
        merges = make_merges(tokens, vocabulary);
    } else {
        status = ag_merges_to_json(tokenizer, &merges);
    }
    for (int byte = 0; byte < 256; byte++) {
        has_bytes = has_bytes || (!of_bytes && tokenizer->byte_ids[byte] != AG_NO_ID);
    }
    ag_json_set_text(model, "type", "BPE");
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        ag_json_set_null(model, nulls[i]);
    }
    if (tokenizer->unknown != AG_NO_ID) {
        ag_json_set(model, "unk_token", token_text(tokens, tokenizer->unknown));
    }
    ag_json_set(model, "fuse_unk", ag_json_new_bool(tokenizer->fuses_unknown));
    ag_json_set(model, "byte_fallback", ag_json_new_bool(has_bytes));
    ag_json_set(model, "ignore_merges", ag_json_new_bool(tokenizer->ignore_merges));
    ag_json_set(model, "merges", merges);
    ag_json_set(model, "vocab", vocabulary);
    return status;
}

/* Every id has a place in the list; what is no word is no better than the worst of them, since
 * Hugging Face's Unigram takes it for one. */
static ag_status_t make_unigram(const tokens_t *tokens, ag_json_t *model)
{
    const ag_tokenizer_t *tokenizer = tokens->tokenizer;
    const double *scores = AG_ITEMS(&tokenizer->scores, double);
    ag_json_t *vocabulary = ag_json_new_array();
    bool has_bytes = false;

    for (uint32_t id = 0; id < tokenizer->pieces.n_items; id++) {
        bool is_word = ag_piece_at(tokenizer, id)->n_key > 0;
        ag_json_t *pair = ag_json_new_array();

        has_bytes = has_bytes || (ag_piece_at(tokenizer, id)->flags & AG_PIECE_BYTE);
        ag_json_append(pair, token_text(tokens, id));
        ag_json_append(pair,
                       ag_json_new_real(is_word ? scores[id] : tokenizer->unknown_score + 10));
        ag_json_append(vocabulary, pair);
    }
    ag_json_set_text(model, "type", "Unigram");
    if (tokenizer->unknown != AG_NO_ID) {
        ag_json_set(model, "unk_id", ag_json_new_integer(tokenizer->unknown));
    } else {
        ag_json_set_null(model, "unk_id");
    }
    ag_json_set(model, "vocab", vocabulary);
    ag_json_set(model, "byte_fallback", ag_json_new_bool(has_bytes));
    return AG_OK;
}

static ag_json_t *id_text(const tokens_t *tokens, int32_t id)
{
    return id >= 0 ? token_text(tokens, id) : NULL;
}

static ag_status_t make_tokenizer(const tokens_t *tokens, ag_json_t **json_p)
{
    const ag_tokenizer_t *tokenizer = tokens->tokenizer;
    ag_json_t *json = ag_json_new_object(), *model = ag_json_new_object();
    ag_status_t status = tokenizer->model == AG_MODEL_UNIGRAM ? make_unigram(tokens, model)
                                                              : make_bpe(tokens, model);

    ag_json_set_text(json, "version", "1.0");
    ag_json_set_null(json, "truncation");
    ag_json_set_null(json, "padding");
    ag_json_set(json, "added_tokens", make_added(tokens));
    ag_json_set(json, "normalizer", ag_normalizer_to_json(tokenizer));
    ag_json_set(json, "pre_tokenizer", ag_pre_tokenizer_to_json(tokenizer));
    ag_json_set(json, "post_processor",
                ag_template_to_json(tokenizer, id_text(tokens, tokenizer->bos),
                                    id_text(tokens, tokenizer->after)));
    ag_json_set(json, "decoder", ag_decoder_to_json(tokenizer));
    ag_json_set(json, "model", model);
    if (status != AG_OK) {
        ag_json_destroy(json);
        return status;
    }
    *json_p = json;
    return AG_OK;
}

/* The id that a key names, -1 where it is none of the vocabulary. */
static int64_t id_at(const ag_gguf_t *gguf, const char *key)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);
    const ag_gguf_value_t *texts = ag_gguf_get(gguf, "tokenizer.ggml.tokens");
    bool whole = value != NULL && value->kind != AG_GGUF_STRING && value->kind != AG_GGUF_ARRAY &&
                 value->kind != AG_GGUF_F32 && value->kind != AG_GGUF_F64;

    return whole && texts != NULL && texts->kind == AG_GGUF_ARRAY && value->as.integer >= 0 &&
                   value->as.integer < (int64_t)texts->as.array.n
               ? value->as.integer
               : -1;
}

static const struct {
    const char *gguf, *text, *id; /* in GGUF files, in tokenizer_config.json, in config.json */
} specials[] = {
    {"tokenizer.ggml.bos_token_id", "bos_token", "bos_token_id"},
    {"tokenizer.ggml.eos_token_id", "eos_token", "eos_token_id"},
    {"tokenizer.ggml.unknown_token_id", "unk_token", NULL},
    {"tokenizer.ggml.padding_token_id", "pad_token", "pad_token_id"},
};

enum { N_SPECIALS = sizeof(specials) / sizeof(specials[0]) };

static ag_json_t *make_config(const tokens_t *tokens)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set_text(json, "tokenizer_class", "PreTrainedTokenizerFast");
    ag_json_set(json, "clean_up_tokenization_spaces", ag_json_new_bool(false));
    for (int i = 0; i < N_SPECIALS; i++) {
        int64_t id = id_at(tokens->gguf, specials[i].gguf);

        if (id >= 0) {
            ag_json_set(json, specials[i].text, token_text(tokens, id));
        }
    }
    ag_export_chat_to_config(tokens->gguf, ag_tokenizer_chat_template(tokens->tokenizer), json);
    return json;
}

void ag_tokenizer_to_config(const ag_model_files_t *files, ag_json_t *config)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);

    for (int i = 0; i < N_SPECIALS && gguf != NULL; i++) {
        int64_t id = id_at(gguf, specials[i].gguf);

        if (id >= 0 && specials[i].id != NULL) {
            ag_json_set(config, specials[i].id, ag_json_new_integer(id));
        }
    }
}

static void add_end(ag_json_t *ends, int64_t id)
{
    bool known = id < 0;

    for (size_t i = 0; i < ag_json_size(ends); i++) {
        known |= ag_json_integer(ag_json_at(ends, i), -1) == id;
    }
    if (!known) {
        ag_json_append(ends, ag_json_new_integer(id));
    }
}

/* What ends an answer: what the file says, and what the chat template puts behind one. */
static ag_json_t *make_generation(const ag_model_files_t *files, const ag_tokenizer_t *tokenizer)
{
    static const char *const keys[AG_GGUF_N_ENDS] = AG_GGUF_ENDS;
    ag_json_t *json = ag_json_new_object(), *ends = ag_json_new_array();
    ag_chat_t *chat;

    ag_tokenizer_to_config(files, json);
    for (int i = 0; i < AG_GGUF_N_ENDS; i++) {
        add_end(ends, id_at(ag_model_files_gguf(files), keys[i]));
    }
    if (ag_chat_open(tokenizer, NULL, &chat) == AG_OK) {
        add_end(ends, ag_chat_end(chat));
        ag_chat_close(chat);
    }
    if (ag_json_size(ends) > 1) {
        ag_json_set(json, "eos_token_id", ends);
        return json;
    }
    if (ag_json_size(ends) == 1) {
        ag_json_set(json, "eos_token_id",
                    ag_json_new_integer(ag_json_integer(ag_json_at(ends, 0), -1)));
    }
    ag_json_destroy(ends);
    return json;
}

/* @param tokenizer_p  out: to be closed; it holds the chat template. */
static ag_status_t open_tokens(const ag_model_files_t *files, tokens_t *tokens,
                               ag_tokenizer_t **tokenizer_p)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    ag_status_t status = ag_tokenizer_open(files, tokenizer_p);

    if (status == AG_OK) {
        *tokens = (tokens_t){.gguf = gguf,
                             .tokenizer = *tokenizer_p,
                             .texts = ag_gguf_get(gguf, "tokenizer.ggml.tokens"),
                             .types = ag_gguf_get(gguf, "tokenizer.ggml.token_type"),
                             .merges = ag_gguf_get(gguf, "tokenizer.ggml.merges")};
    }
    return status;
}

ag_status_t ag_tokenizer_to_json(const ag_model_files_t *files, ag_json_t **json_p)
{
    ag_tokenizer_t *tokenizer;
    tokens_t tokens;
    ag_status_t status = open_tokens(files, &tokens, &tokenizer);

    if (status == AG_OK) {
        status = make_tokenizer(&tokens, json_p);
        ag_tokenizer_close(tokenizer);
    }
    return status;
}

static ag_status_t write_gguf_tokenizer(const ag_model_files_t *files, ag_folder_t *folder)
{
    ag_tokenizer_t *tokenizer;
    ag_json_t *json = NULL;
    tokens_t tokens;
    ag_status_t status = open_tokens(files, &tokens, &tokenizer);

    if (status != AG_OK) {
        return status;
    }
    status = make_tokenizer(&tokens, &json);
    if (status == AG_OK) {
        status = ag_folder_add_json(folder, "tokenizer.json", json);
    }
    if (status == AG_OK) {
        status = ag_folder_add_json(folder, "tokenizer_config.json", make_config(&tokens));
    }
    if (status == AG_OK) {
        status =
            ag_folder_add_json(folder, "generation_config.json", make_generation(files, tokenizer));
    }
    ag_tokenizer_close(tokenizer);
    return status;
}

ag_status_t ag_tokenizer_to_folder(const ag_model_files_t *files, ag_folder_t *folder)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    ag_status_t status = AG_OK;

    if (gguf != NULL) {
        return ag_tokenizer_is_left_out(files) ? AG_OK : write_gguf_tokenizer(files, folder);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && status == AG_OK; i++) {
        status = copy_file(ag_model_files_path(files), names[i], folder);
    }
    return status;
}
