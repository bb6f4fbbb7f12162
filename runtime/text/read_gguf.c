/* A tokenizer from GGUF metadata: tokenizer.ggml.* (ggml's docs/gguf.md). */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/gguf_tokens_priv.h"
#include "runtime/text/tokenizer_priv.h"

static bool is_text(const ag_gguf_value_t *value, const char *text)
{
    return value != NULL && value->kind == AG_GGUF_STRING &&
           value->as.string.n_bytes == strlen(text) &&
           memcmp(value->as.string.bytes, text, value->as.string.n_bytes) == 0;
}

static bool is_integer(ag_gguf_kind_t kind)
{
    return kind != AG_GGUF_STRING && kind != AG_GGUF_ARRAY && kind != AG_GGUF_F32 &&
           kind != AG_GGUF_F64;
}

static const ag_gguf_value_t *get_array(const ag_gguf_t *gguf, const char *key, bool strings)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);
    ag_gguf_kind_t kind;

    if (value == NULL || value->kind != AG_GGUF_ARRAY) {
        return NULL;
    }
    kind = value->as.array.kind;
    return strings ? (kind == AG_GGUF_STRING ? value : NULL) : is_integer(kind) ? value : NULL;
}

/* As in llama.cpp an added token stands for its text, not for the bytes that a word's text means.
 */
static unsigned added_flags(const ag_gguf_value_t *text)
{
    for (size_t i = 0; i < text->as.string.n_bytes; i++) {
        if ((unsigned char)text->as.string.bytes[i] >= 0x80) {
            return AG_PIECE_ADDED;
        }
    }
    return AG_PIECE_ADDED | AG_PIECE_WORD;
}

static ag_status_t read_tokens(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *tokens = get_array(gguf, "tokenizer.ggml.tokens", true);
    const ag_gguf_value_t *types = get_array(gguf, "tokenizer.ggml.token_type", false);
    ag_status_t status = AG_OK;

    if (tokens == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: tokenizer.ggml.tokens is missing, or no list of strings",
                       ag_gguf_path(gguf));
    }
    if (types == NULL ? ag_gguf_get(gguf, "tokenizer.ggml.token_type") != NULL
                      : types->as.array.n != tokens->as.array.n) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: tokenizer.ggml.token_type is no list of %zu numbers, one for each of "
                       "tokenizer.ggml.tokens",
                       ag_gguf_path(gguf), tokens->as.array.n);
    }
    for (size_t i = 0; i < tokens->as.array.n && status == AG_OK; i++) {
        ag_gguf_value_t text = ag_gguf_item(tokens, i);
        int64_t type = types != NULL ? ag_gguf_item(types, i).as.integer : 1;
        ag_token_text_t token = {.text = text.as.string.bytes,
                                 .n_bytes = text.as.string.n_bytes,
                                 .flags = AG_PIECE_WORD};

        if (type == AG_GGUF_TOKEN_CONTROL || type == AG_GGUF_TOKEN_UNKNOWN) {
            token.flags = added_flags(&text) | AG_PIECE_SPECIAL;
        } else if (type == AG_GGUF_TOKEN_USER_DEFINED) {
            token.flags = added_flags(&text);
        } else if (type == AG_GGUF_TOKEN_UNUSED) {
            token = (ag_token_text_t){.text = NULL};
        }
        status = ag_build_token(tokenizer, &token);
    }
    return status;
}

/* "a b", cut at the first space that is not the first character. */
static bool cut_merge(const ag_gguf_value_t *merge, ag_merge_text_t *text)
{
    const char *bytes = merge->as.string.bytes;
    size_t n_bytes = merge->as.string.n_bytes;
    const char *space = n_bytes > 1 ? memchr(bytes + 1, ' ', n_bytes - 1) : NULL;

    if (space == NULL) {
        return false;
    }
    *text = (ag_merge_text_t){.left = bytes,
                              .n_left = (size_t)(space - bytes),
                              .right = space + 1,
                              .n_right = n_bytes - (size_t)(space - bytes) - 1};
    return true;
}

static ag_status_t read_merges(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *merges = get_array(gguf, "tokenizer.ggml.merges", true);
    ag_status_t status;

    if (merges == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: tokenizer.ggml.merges is missing", ag_gguf_path(gguf));
    }
    status = ag_build_words(tokenizer, merges->as.array.n);
    for (size_t i = 0; i < merges->as.array.n && status == AG_OK;) {
        ag_merge_text_t texts[AG_BUILD_AT_ONCE];
        bool known[AG_BUILD_AT_ONCE]; /* llama.cpp, too, passes over merges that make no token */
        size_t n = 0;

        for (; n < AG_BUILD_AT_ONCE && i < merges->as.array.n; n++, i++) {
            ag_gguf_value_t merge = ag_gguf_item(merges, i);

            if (!cut_merge(&merge, &texts[n])) {
                return ag_fail(AG_ERR_FORMAT, "%s: merge %zu is not two tokens", ag_gguf_path(gguf),
                               i);
            }
        }
        status = ag_build_merges(tokenizer, texts, n, known);
    }
    return status;
}

/* A file that does not name its pre-tokenizer is taken to mean GPT-2's, the model's namesake. */
static ag_status_t read_splitter(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer,
                                 const ag_pre_tokenizer_t **pre_p)
{
    const ag_gguf_value_t *name = ag_gguf_get(gguf, "tokenizer.ggml.pre");
    ag_status_t status;

    if (name != NULL && name->kind != AG_GGUF_STRING) {
        return ag_fail(AG_ERR_FORMAT, "%s: tokenizer.ggml.pre is no string", ag_gguf_path(gguf));
    }
    status = name != NULL ? ag_pre_tokenizer_find(ag_gguf_path(gguf), name->as.string.bytes,
                                                  name->as.string.n_bytes, pre_p)
                          : ag_pre_tokenizer_find(ag_gguf_path(gguf), "gpt-2", 5, pre_p);
    if (status == AG_OK) {
        tokenizer->ignore_merges = (*pre_p)->ignore_merges;
        tokenizer->pre = *pre_p;
        status = ag_splitter_create((*pre_p)->rules, (*pre_p)->n_rules, &tokenizer->splitter);
    }
    return status;
}

/* The id that a key names; -1: none, or none of the vocabulary. */
static int32_t get_id(const ag_gguf_t *gguf, const char *key, const ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);

    return value != NULL && is_integer(value->kind) && value->as.integer >= 0 &&
                   value->as.integer < (int64_t)ag_tokenizer_size(tokenizer)
               ? (int32_t)value->as.integer
               : -1;
}

static ag_status_t read_special(const ag_gguf_t *gguf, const ag_pre_tokenizer_t *pre,
                                ag_tokenizer_t *tokenizer)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    const ag_gguf_value_t *add_bos = ag_gguf_get(gguf, "tokenizer.ggml.add_bos_token");
    const ag_gguf_value_t *chat = ag_gguf_get(gguf, "tokenizer.chat_template");
    ag_status_t status = AG_OK;

    tokenizer->eos = get_id(gguf, ends[0], tokenizer);
    for (int i = 0; i < 2; i++) {
        ag_build_end(tokenizer, get_id(gguf, ends[i], tokenizer));
    }
    if (add_bos != NULL && is_integer(add_bos->kind) ? add_bos->as.integer != 0 : pre->adds_bos) {
        tokenizer->bos = get_id(gguf, "tokenizer.ggml.bos_token_id", tokenizer);
    }
    if (status == AG_OK && chat != NULL && chat->kind == AG_GGUF_STRING) {
        tokenizer->chat_template = strndup(chat->as.string.bytes, chat->as.string.n_bytes);
        status = tokenizer->chat_template != NULL
                     ? AG_OK
                     : ag_fail_nomem("reading a chat template", chat->as.string.n_bytes);
    }
    return status;
}

ag_status_t ag_tokenizer_read_gguf(const ag_model_files_t *files, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *algorithm = ag_gguf_get(gguf, "tokenizer.ggml.model");
    const ag_pre_tokenizer_t *pre;
    ag_status_t status;

    if (!is_text(algorithm, "gpt2")) {
        bool named = algorithm != NULL && algorithm->kind == AG_GGUF_STRING;
        size_t n = named ? algorithm->as.string.n_bytes : 0;

        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: tokenizer \"%s\" is not known (known: gpt2, which "
                       "is byte-level BPE)",
                       ag_gguf_path(gguf),
                       ag_quote(named ? algorithm->as.string.bytes : "", n).text);
    }
    status = read_tokens(gguf, tokenizer);
    if (status == AG_OK) {
        status = read_splitter(gguf, tokenizer, &pre);
    }
    if (status == AG_OK) {
        status = read_merges(gguf, tokenizer);
    }
    return status == AG_OK ? read_special(gguf, pre, tokenizer) : status;
}
