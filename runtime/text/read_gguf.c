/* A tokenizer from GGUF metadata: tokenizer.ggml.* (ggml's docs/gguf.md). */
#include <float.h>
#include <math.h>
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

static const ag_gguf_value_t *get_array(const ag_gguf_t *gguf, const char *key,
                                        bool (*is_kind)(ag_gguf_kind_t kind))
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);

    return value != NULL && value->kind == AG_GGUF_ARRAY && is_kind(value->as.array.kind) ? value
                                                                                          : NULL;
}

static bool is_string(ag_gguf_kind_t kind)
{
    return kind == AG_GGUF_STRING;
}

static bool is_real(ag_gguf_kind_t kind)
{
    return kind == AG_GGUF_F32 || kind == AG_GGUF_F64;
}

/* What a key says; `otherwise` where it says nothing. */
static bool get_bool(const ag_gguf_t *gguf, const char *key, bool otherwise)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);

    return value != NULL && is_integer(value->kind) ? value->as.integer != 0 : otherwise;
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

/*
 * Of bytes: as in llama.cpp an added token stands for its text, not for the bytes that a word's
 * text means.
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

/*
 * What a token of a type is. SentencePiece's user-defined pieces are found in normalized text; but
 * where a space is put before each text, llama.cpp puts one behind them, too, and so they must be
 * found before. Those of Unigram, which SentencePiece only weighs, llama.cpp cuts out as well, as
 * Hugging Face does with the added tokens that they come from.
 */
static unsigned flags_of(const ag_tokenizer_t *tokenizer, const ag_gguf_value_t *text, int64_t type)
{
    bool of_bytes = tokenizer->model == AG_MODEL_BYTES;
    unsigned added = of_bytes ? added_flags(text) : (unsigned)AG_PIECE_ADDED;

    switch (type) {
    case AG_GGUF_TOKEN_CONTROL:
    case AG_GGUF_TOKEN_UNKNOWN:
        return added | AG_PIECE_SPECIAL;
    case AG_GGUF_TOKEN_USER_DEFINED:
        added |= tokenizer->model == AG_MODEL_UNIGRAM ? (unsigned)AG_PIECE_WORD : 0;
        return of_bytes || tokenizer->decoder.n_strip > 0 ? added : added | AG_PIECE_LATE;
    case AG_GGUF_TOKEN_BYTE:
        return of_bytes ? AG_PIECE_WORD : AG_PIECE_BYTE;
    default:
        return AG_PIECE_WORD;
    }
}

static ag_status_t read_tokens(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *tokens = get_array(gguf, "tokenizer.ggml.tokens", is_string);
    const ag_gguf_value_t *types = get_array(gguf, "tokenizer.ggml.token_type", is_integer);
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
        int64_t type = types != NULL ? ag_gguf_item(types, i).as.integer
                       : ag_byte_named(text.as.string.bytes, text.as.string.n_bytes) >= 0
                           ? AG_GGUF_TOKEN_BYTE
                           : AG_GGUF_TOKEN_WORD;
        ag_token_text_t token = {.text = text.as.string.bytes,
                                 .n_bytes = text.as.string.n_bytes,
                                 .flags = flags_of(tokenizer, &text, type)};

        if (type == AG_GGUF_TOKEN_UNUSED) {
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
    const ag_gguf_value_t *merges = get_array(gguf, "tokenizer.ggml.merges", is_string);
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
    if (status == AG_OK && (*pre_p)->composes) {
        status =
            ag_normalizer_create(ag_gguf_path(gguf), &(ag_normal_step_t){.kind = AG_NORMAL_NFC}, 1,
                                 &tokenizer->normalizer);
    }
    return status;
}

/* @param adds_bos, adds_after  where the file does not say. */
static ag_status_t read_special(const ag_gguf_t *gguf, bool adds_bos, bool adds_after,
                                ag_tokenizer_t *tokenizer)
{
    static const char *const ends[AG_GGUF_N_ENDS] = AG_GGUF_ENDS;
    const ag_gguf_value_t *chat = ag_gguf_get(gguf, "tokenizer.chat_template");

    tokenizer->named_bos = get_id(gguf, "tokenizer.ggml.bos_token_id", tokenizer);
    tokenizer->eos = tokenizer->named_eos = get_id(gguf, ends[0], tokenizer);
    for (int i = 0; i < AG_GGUF_N_ENDS; i++) {
        ag_build_end(tokenizer, get_id(gguf, ends[i], tokenizer));
    }
    if (get_bool(gguf, "tokenizer.ggml.add_bos_token", adds_bos)) {
        tokenizer->bos = tokenizer->named_bos;
    }
    if (get_bool(gguf, "tokenizer.ggml.add_eos_token", adds_after)) {
        tokenizer->after = tokenizer->eos;
    }
    if (chat != NULL && chat->kind == AG_GGUF_STRING) {
        tokenizer->chat_template = strndup(chat->as.string.bytes, chat->as.string.n_bytes);
        return tokenizer->chat_template != NULL
                   ? AG_OK
                   : ag_fail_nomem("reading a chat template", chat->as.string.n_bytes);
    }
    return AG_OK;
}

static ag_status_t read_gpt2(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_pre_tokenizer_t *pre;
    ag_status_t status;

    tokenizer->model = AG_MODEL_BYTES;
    status = read_tokens(gguf, tokenizer);
    if (status == AG_OK) {
        status = read_splitter(gguf, tokenizer, &pre);
    }
    if (status == AG_OK) {
        status = read_merges(gguf, tokenizer);
    }
    return status == AG_OK ? read_special(gguf, pre->adds_bos, false, tokenizer) : status;
}

/* SentencePiece's normalizer: its map, white space, a space in front, and how spaces are written.
 */
static ag_status_t read_normalizer(const ag_gguf_t *gguf, bool adds_space,
                                   ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *map = ag_gguf_get(gguf, "tokenizer.ggml.precompiled_charsmap");
    bool removes = get_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", false);
    ag_normal_step_t steps[6];
    size_t n = 0;

    if (map != NULL) {
        if (map->kind != AG_GGUF_ARRAY ||
            (map->as.array.kind != AG_GGUF_U8 && map->as.array.kind != AG_GGUF_I8)) {
            return ag_fail(AG_ERR_FORMAT,
                           "%s: tokenizer.ggml.precompiled_charsmap is no list of bytes",
                           ag_gguf_path(gguf));
        }
        if (map->as.array.n > 0) {
            steps[n++] = (ag_normal_step_t){.kind = AG_NORMAL_CHARSMAP,
                                            .content = map->as.array.first,
                                            .n_content = map->as.array.n};
        }
    }
    if (removes) {
        steps[n++] =
            (ag_normal_step_t){.kind = AG_NORMAL_REPLACE, .pattern = "\\A +", .content = ""};
        steps[n++] = (ag_normal_step_t){
            .kind = AG_NORMAL_REPLACE, .pattern = " {2,}", .content = " ", .n_content = 1};
    }
    if (adds_space) {
        steps[n++] = (ag_normal_step_t){
            .kind = AG_NORMAL_PREPEND, .content = AG_METASPACE, .n_content = strlen(AG_METASPACE)};
    }
    steps[n++] = (ag_normal_step_t){.kind = AG_NORMAL_REPLACE,
                                    .literal = true,
                                    .pattern = " ",
                                    .content = AG_METASPACE,
                                    .n_content = strlen(AG_METASPACE)};
    if (removes) { /* those that the text itself has, too */
        steps[n++] = (ag_normal_step_t){.kind = AG_NORMAL_REPLACE,
                                        .pattern = "(?<!" AG_METASPACE ")(?:" AG_METASPACE ")+\\z",
                                        .content = ""};
    }
    return ag_normalizer_create(ag_gguf_path(gguf), steps, n, &tokenizer->normalizer);
}

static ag_status_t read_scores(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *scores = get_array(gguf, "tokenizer.ggml.scores", is_real);
    ag_status_t status = AG_OK;

    if (scores == NULL || scores->as.array.n != tokenizer->pieces.n_items) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: tokenizer.ggml.scores is missing, or no list of %zu numbers, one for "
                       "each of tokenizer.ggml.tokens",
                       ag_gguf_path(gguf), tokenizer->pieces.n_items);
    }
    for (size_t i = 0; i < scores->as.array.n && status == AG_OK; i++) {
        double score = ag_gguf_item(scores, i).as.real;

        status = isfinite(score)
                     ? ag_array_append(&tokenizer->scores, &score, 1)
                     : ag_fail(AG_ERR_FORMAT, "%s: entry %zu of tokenizer.ggml.scores is no number",
                               ag_gguf_path(gguf), i);
    }
    return status;
}

/*
 * Unigram's scores of what stands for itself: the unknown is worse than any word, and what a user
 * defined, where normalizing makes it, better than nearly all (SentencePiece's unigram_model.cc).
 */
static void weigh(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *types = get_array(gguf, "tokenizer.ggml.token_type", is_integer);
    double *scores = AG_ITEMS(&tokenizer->scores, double), least = FLT_MAX, most = FLT_MIN;
    size_t n = tokenizer->scores.n_items;

    for (size_t i = 0; i < n; i++) {
        if (types == NULL || ag_gguf_item(types, i).as.integer == AG_GGUF_TOKEN_WORD) {
            least = scores[i] < least ? scores[i] : least;
            most = scores[i] > most ? scores[i] : most;
        }
    }
    for (size_t i = 0; i < n && types != NULL; i++) {
        if (ag_gguf_item(types, i).as.integer == AG_GGUF_TOKEN_USER_DEFINED) {
            scores[i] =
                (double)((float)ag_piece_at(tokenizer, (uint32_t)i)->n_key * (float)most) - 0.1;
        }
    }
    tokenizer->unknown_score = (float)least - 10.0f;
}

/* The tokens of bytes, by their names. */
static void find_byte_tokens(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    const ag_gguf_value_t *tokens = get_array(gguf, "tokenizer.ggml.tokens", is_string);

    for (uint32_t id = 0; id < tokenizer->pieces.n_items; id++) {
        ag_gguf_value_t text = ag_gguf_item(tokens, id);
        int byte = ag_piece_at(tokenizer, id)->flags & AG_PIECE_BYTE
                       ? ag_byte_named(text.as.string.bytes, text.as.string.n_bytes)
                       : -1;

        if (byte >= 0 && tokenizer->byte_ids[byte] == AG_NO_ID) {
            tokenizer->byte_ids[byte] = id;
        }
    }
}

/* Where a file does not say it, as llama.cpp has it. */
typedef struct implied {
    bool adds_bos, adds_after, adds_space;
} implied_t;

/* What SentencePiece's two models have in common; `implied`: what the file need not say. */
static ag_status_t read_pieces(const ag_gguf_t *gguf, ag_model_kind_t model, implied_t implied,
                               ag_tokenizer_t *tokenizer)
{
    bool adds_space = get_bool(gguf, "tokenizer.ggml.add_space_prefix", implied.adds_space);
    int32_t unknown;
    ag_status_t status;

    tokenizer->model = model;
    tokenizer->decoder =
        (ag_decoder_t){.from = AG_METASPACE, .to = " ", .n_strip = adds_space ? 1 : 0};
    tokenizer->fuses_unknown = true;
    tokenizer->sums_floats = true;
    status = ag_splitter_create(NULL, 0, &tokenizer->splitter);
    if (status == AG_OK) {
        status = read_normalizer(gguf, adds_space, tokenizer);
    }
    if (status == AG_OK) {
        status = read_tokens(gguf, tokenizer);
    }
    if (status == AG_OK) {
        status = read_scores(gguf, tokenizer);
    }
    if (status != AG_OK) {
        return status;
    }
    if (model == AG_MODEL_UNIGRAM) {
        weigh(gguf, tokenizer);
    }
    find_byte_tokens(gguf, tokenizer);
    unknown = get_id(gguf, "tokenizer.ggml.unknown_token_id", tokenizer);
    tokenizer->unknown = unknown >= 0 ? (uint32_t)unknown : AG_NO_ID;
    status = ag_build_words(tokenizer, 0);
    return status == AG_OK ? read_special(gguf, implied.adds_bos, implied.adds_after, tokenizer)
                           : status;
}

static ag_status_t read_llama(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    return read_pieces(gguf, AG_MODEL_SCORES, (implied_t){.adds_bos = true, .adds_space = true},
                       tokenizer);
}

static ag_status_t read_t5(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer)
{
    return read_pieces(gguf, AG_MODEL_UNIGRAM, (implied_t){.adds_after = true}, tokenizer);
}

bool ag_tokenizer_is_left_out(const ag_model_files_t *files)
{
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *model = gguf != NULL ? ag_gguf_get(gguf, "tokenizer.ggml.model") : NULL;

    return gguf != NULL && (is_text(model, "none") ||
                            (model == NULL && ag_gguf_get(gguf, "tokenizer.ggml.tokens") == NULL));
}

ag_status_t ag_tokenizer_read_gguf(const ag_model_files_t *files, ag_tokenizer_t *tokenizer)
{
    static const struct {
        const char *name;
        ag_status_t (*read)(const ag_gguf_t *gguf, ag_tokenizer_t *tokenizer);
    } models[] = {{"gpt2", read_gpt2}, {"llama", read_llama}, {"t5", read_t5}};
    const ag_gguf_t *gguf = ag_model_files_gguf(files);
    const ag_gguf_value_t *model = ag_gguf_get(gguf, "tokenizer.ggml.model");
    bool named = model != NULL && model->kind == AG_GGUF_STRING;

    if (ag_tokenizer_is_left_out(files)) {
        return ag_fail(AG_ERR_IO,
                       "%s: the file has no tokenizer: give token ids, or take a file "
                       "that has one",
                       ag_gguf_path(gguf));
    }
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        if (is_text(model, models[i].name)) {
            return models[i].read(gguf, tokenizer);
        }
    }
    return ag_fail(
        AG_ERR_UNSUPPORTED,
        "%s: tokenizer \"%s\" is not known (known: gpt2, which is byte-level BPE; "
        "llama, which is SentencePiece's BPE; t5, which is its Unigram)",
        ag_gguf_path(gguf),
        ag_quote(named ? model->as.string.bytes : "", named ? model->as.string.n_bytes : 0).text);
}
