/* A tokenizer as the files of a Hugging Face folder. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/export.h"
#include "runtime/text/gguf_tokens_priv.h"
#include "runtime/text/tokenizer_priv.h"

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

static ag_json_t *text_json(const char *text)
{
    return ag_json_new_string(text, strlen(text));
}

static void set_text(ag_json_t *json, const char *key, const char *text)
{
    ag_json_set(json, key, text_json(text));
}

static void set_null(ag_json_t *json, const char *key)
{
    ag_json_set(json, key, ag_json_new_real(0.0 / 0.0)); /* what is not finite is null */
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
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
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

static ag_json_t *make_model(const tokens_t *tokens)
{
    static const char *const nulls[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                        "end_of_word_suffix"};
    ag_json_t *model = ag_json_new_object(), *vocabulary = make_vocabulary(tokens);

    set_text(model, "type", "BPE");
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        set_null(model, nulls[i]);
    }
    ag_json_set(model, "fuse_unk", ag_json_new_bool(false));
    ag_json_set(model, "byte_fallback", ag_json_new_bool(false));
    ag_json_set(model, "ignore_merges", ag_json_new_bool(tokens->tokenizer->ignore_merges));
    ag_json_set(model, "merges", make_merges(tokens, vocabulary));
    ag_json_set(model, "vocab", vocabulary);
    return model;
}

static ag_json_t *make_byte_level(bool use_regex)
{
    ag_json_t *json = ag_json_new_object();

    set_text(json, "type", "ByteLevel");
    ag_json_set(json, "add_prefix_space", ag_json_new_bool(false));
    ag_json_set(json, "trim_offsets", ag_json_new_bool(true));
    ag_json_set(json, "use_regex", ag_json_new_bool(use_regex));
    return json;
}

/* A Split for each rule, then bytes. */
static ag_json_t *make_pre_tokenizer(const ag_pre_tokenizer_t *pre)
{
    ag_json_t *sequence = ag_json_new_object(), *steps = ag_json_new_array();

    for (size_t i = 0; i < pre->n_rules; i++) {
        const ag_split_rule_t *rule = &pre->rules[i];
        ag_json_t *split = ag_json_new_object(), *pattern = ag_json_new_object();

        set_text(split, "type", "Split");
        set_text(pattern, rule->literal ? "String" : "Regex", rule->pattern);
        ag_json_set(split, "pattern", pattern);
        set_text(split, "behavior", ag_cut_name(rule->cut));
        ag_json_set(split, "invert", ag_json_new_bool(rule->invert));
        ag_json_append(steps, split);
    }
    ag_json_append(steps, make_byte_level(false));
    set_text(sequence, "type", "Sequence");
    ag_json_set(sequence, "pretokenizers", steps);
    return sequence;
}

static ag_json_t *token_text(const tokens_t *tokens, int64_t id)
{
    ag_gguf_value_t text = ag_gguf_item(tokens->texts, (size_t)id);

    return ag_json_new_string(text.as.string.bytes, text.as.string.n_bytes);
}

static ag_json_t *make_part(const char *kind, ag_json_t *id, int type_id)
{
    ag_json_t *part = ag_json_new_object(), *inner = ag_json_new_object();

    ag_json_set(inner, "id", id);
    ag_json_set(inner, "type_id", ag_json_new_integer(type_id));
    ag_json_set(part, kind, inner);
    return part;
}

/* The BOS before a text. */
static ag_json_t *make_template(const tokens_t *tokens, int32_t bos)
{
    ag_json_t *json = ag_json_new_object(), *single = ag_json_new_array();
    ag_json_t *pair = ag_json_new_array(), *special = ag_json_new_object();
    ag_json_t *token = ag_json_new_object(), *ids = ag_json_new_array();
    ag_json_t *texts = ag_json_new_array(), *text = token_text(tokens, bos);
    const char *name = ag_json_string(text, NULL);

    for (int i = 0; i < 2; i++) { /* a pair is one after the other */
        ag_json_append(pair, make_part("SpecialToken", token_text(tokens, bos), i));
        ag_json_append(pair, make_part("Sequence", text_json(i == 0 ? "A" : "B"), i));
    }
    ag_json_append(single, make_part("SpecialToken", token_text(tokens, bos), 0));
    ag_json_append(single, make_part("Sequence", text_json("A"), 0));
    ag_json_append(ids, ag_json_new_integer(bos));
    ag_json_append(texts, token_text(tokens, bos));
    ag_json_set(token, "id", token_text(tokens, bos));
    ag_json_set(token, "ids", ids);
    ag_json_set(token, "tokens", texts);
    ag_json_set(special, name != NULL ? name : "", token);
    ag_json_destroy(text);
    set_text(json, "type", "TemplateProcessing");
    ag_json_set(json, "single", single);
    ag_json_set(json, "pair", pair);
    ag_json_set(json, "special_tokens", special);
    return json;
}

static ag_json_t *make_tokenizer(const tokens_t *tokens)
{
    ag_json_t *json = ag_json_new_object();
    int32_t bos = ag_tokenizer_bos(tokens->tokenizer);

    set_text(json, "version", "1.0");
    set_null(json, "truncation");
    set_null(json, "padding");
    ag_json_set(json, "added_tokens", make_added(tokens));
    set_null(json, "normalizer");
    ag_json_set(json, "pre_tokenizer", make_pre_tokenizer(tokens->tokenizer->pre));
    if (bos >= 0) {
        ag_json_set(json, "post_processor", make_template(tokens, bos));
    } else {
        set_null(json, "post_processor");
    }
    ag_json_set(json, "decoder", make_byte_level(true));
    ag_json_set(json, "model", make_model(tokens));
    return json;
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
    const char *chat = ag_tokenizer_chat_template(tokens->tokenizer);

    set_text(json, "tokenizer_class", "PreTrainedTokenizerFast");
    ag_json_set(json, "clean_up_tokenization_spaces", ag_json_new_bool(false));
    for (int i = 0; i < N_SPECIALS; i++) {
        int64_t id = id_at(tokens->gguf, specials[i].gguf);

        if (id >= 0) {
            ag_json_set(json, specials[i].text, token_text(tokens, id));
        }
    }
    if (chat != NULL) {
        set_text(json, "chat_template", chat);
    }
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

/* What ends an answer: the end of a text, and that of a turn. */
static ag_json_t *make_generation(const ag_model_files_t *files)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    int64_t eos = id_at(gguf, "tokenizer.ggml.eos_token_id");
    int64_t eot = id_at(gguf, "tokenizer.ggml.eot_token_id");
    ag_json_t *json = ag_json_new_object(), *ends = ag_json_new_array();

    ag_tokenizer_to_config(files, json);
    if (eot >= 0 && eot != eos) {
        if (eos >= 0) {
            ag_json_append(ends, ag_json_new_integer(eos));
        }
        ag_json_append(ends, ag_json_new_integer(eot));
        ag_json_set(json, "eos_token_id", ends);
    } else {
        ag_json_destroy(ends);
    }
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
    if (status == AG_OK && (*tokenizer_p)->pre == NULL) {
        ag_tokenizer_close(*tokenizer_p);
        status =
            ag_fail(AG_ERR_UNSUPPORTED, "%s: such a tokenizer is not written as tokenizer.json",
                    ag_gguf_path(gguf));
    }
    return status;
}

ag_status_t ag_tokenizer_to_json(const ag_model_files_t *files, ag_json_t **json_p)
{
    ag_tokenizer_t *tokenizer;
    tokens_t tokens;
    ag_status_t status = open_tokens(files, &tokens, &tokenizer);

    if (status == AG_OK) {
        *json_p = make_tokenizer(&tokens);
        ag_tokenizer_close(tokenizer);
    }
    return status;
}

static ag_status_t write_gguf_tokenizer(const ag_model_files_t *files, ag_folder_t *folder)
{
    ag_tokenizer_t *tokenizer;
    tokens_t tokens;
    ag_status_t status = open_tokens(files, &tokens, &tokenizer);

    if (status != AG_OK) {
        return status;
    }
    status = ag_folder_add_json(folder, "tokenizer.json", make_tokenizer(&tokens));
    if (status == AG_OK) {
        status = ag_folder_add_json(folder, "tokenizer_config.json", make_config(&tokens));
    }
    if (status == AG_OK) {
        status = ag_folder_add_json(folder, "generation_config.json", make_generation(files));
    }
    ag_tokenizer_close(tokenizer);
    return status;
}

ag_status_t ag_tokenizer_to_folder(const ag_model_files_t *files, ag_folder_t *folder)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    ag_status_t status = AG_OK;

    if (gguf != NULL) {
        return ag_gguf_get(gguf, "tokenizer.ggml.tokens") != NULL
                   ? write_gguf_tokenizer(files, folder)
                   : AG_OK;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && status == AG_OK; i++) {
        status = copy_file(ag_model_files_path(files), names[i], folder);
    }
    return status;
}
