/* A tokenizer from a Hugging Face folder: tokenizer.json, tokenizer_config.json,
 * generation_config.json. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/text/read_steps_priv.h"

typedef struct reading {
    ag_tokenizer_t *tokenizer;
    char path[4096]; /* of tokenizer.json */
    const ag_json_t *json;
    ag_array_t texts; /* ag_token_text_t by id */
    size_t most_ids;  /* what the file's size can justify */
    ag_steps_t steps;
} reading_t;

static ag_status_t fail_here(const reading_t *reading, const char *what)
{
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s", reading->path, what);
}

static ag_status_t keep_text(reading_t *reading, int64_t id, const ag_token_text_t *token)
{
    unsigned was_word;

    if (id < 0 || (uint64_t)id >= reading->most_ids) {
        return ag_fail(AG_ERR_FORMAT, "%s: a token has the id %lld, which makes no sense",
                       reading->path, (long long)id);
    }
    if ((size_t)id >= reading->texts.n_items) {
        ag_status_t status =
            ag_array_append(&reading->texts, NULL, (size_t)id + 1 - reading->texts.n_items);

        if (status != AG_OK) {
            return status;
        }
    }
    was_word = AG_ITEMS(&reading->texts, ag_token_text_t)[id].flags & AG_PIECE_WORD;
    AG_ITEMS(&reading->texts, ag_token_text_t)[id] = *token;
    AG_ITEMS(&reading->texts, ag_token_text_t)[id].flags |= was_word;
    return AG_OK;
}

static ag_status_t keep_word(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    return keep_text(arg, ag_json_integer(value, -1),
                     &(ag_token_text_t){.text = key, .n_bytes = key_bytes, .flags = AG_PIECE_WORD});
}

static ag_status_t keep_added(reading_t *reading, const ag_json_t *token)
{
    static const struct {
        const char *key;
        unsigned flag;
    } marks[] = {{"special", AG_PIECE_SPECIAL},
                 {"normalized", AG_PIECE_LATE},
                 {"lstrip", AG_PIECE_L_STRIP},
                 {"rstrip", AG_PIECE_R_STRIP},
                 {"single_word", AG_PIECE_ALONE}};
    /* of bytes: where the whole text is of the alphabet, it is decoded as such */
    ag_token_text_t text = {.flags = AG_PIECE_ADDED | AG_PIECE_BYTE};

    text.text = ag_json_string(ag_json_get(token, "content"), &text.n_bytes);
    if (text.text == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: an added token has no content", reading->path);
    }
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        if (ag_json_bool(ag_json_get(token, marks[i].key), false)) {
            text.flags |= marks[i].flag;
        }
    }
    return keep_text(reading, ag_json_integer(ag_json_get(token, "id"), -1), &text);
}

/* The model's words are kept; added tokens come to them, and all are built. */
static ag_status_t build_tokens(reading_t *reading)
{
    const ag_json_t *added = ag_json_get(reading->json, "added_tokens");
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < ag_json_size(added) && status == AG_OK; i++) {
        status = keep_added(reading, ag_json_at(added, i));
    }
    for (size_t i = 0; i < reading->texts.n_items && status == AG_OK; i++) {
        status = ag_build_token(reading->tokenizer, &AG_ITEMS(&reading->texts, ag_token_text_t)[i]);
    }
    return status;
}

static void justify_ids(reading_t *reading, const ag_json_t *vocabulary)
{
    const ag_json_t *added = ag_json_get(reading->json, "added_tokens");

    reading->most_ids = 65536 + 2 * (ag_json_size(vocabulary) + ag_json_size(added));
}

/* Is the text a word of the file's vocabulary, though it may be none that bytes can become? */
static bool is_listed(const ag_json_t *vocabulary, const char *left, size_t n_left,
                      const char *right, size_t n_right)
{
    ag_array_t text = AG_ARRAY(char);
    bool listed = ag_array_append(&text, left, n_left) == AG_OK &&
                  ag_array_append(&text, right, n_right) == AG_OK &&
                  ag_array_append(&text, "", 1) == AG_OK &&
                  ag_json_get(vocabulary, text.items) != NULL;

    ag_array_fini(&text);
    return listed;
}

/* A merge of words outside of the byte alphabet is in order; it can never be made. */
static bool is_idle(const ag_json_t *vocabulary, const ag_merge_text_t *merge)
{
    return is_listed(vocabulary, merge->left, merge->n_left, "", 0) &&
           is_listed(vocabulary, "", 0, merge->right, merge->n_right) &&
           is_listed(vocabulary, merge->left, merge->n_left, merge->right, merge->n_right);
}

static ag_status_t read_merge(reading_t *reading, const ag_json_t *vocabulary,
                              const ag_json_t *merge, size_t number)
{
    ag_merge_text_t parts = {.last_counts = true}; /* as in Hugging Face's table of pairs */
    size_t n_text;
    const char *text = ag_json_string(merge, &n_text), *space;
    bool known = false;
    ag_status_t status = AG_OK;

    if (text != NULL && strncmp(text, "#version", 8) == 0) {
        return AG_OK; /* the first line of the merges.txt that it came from */
    }
    if (text != NULL) { /* "a b" */
        space = n_text > 1 ? memchr(text + 1, ' ', n_text - 1) : NULL;
        if (space != NULL) {
            parts.left = text;
            parts.n_left = (size_t)(space - text);
            parts.right = space + 1;
            parts.n_right = n_text - parts.n_left - 1;
        }
    } else { /* ["a", "b"] */
        parts.left = ag_json_string(ag_json_at(merge, 0), &parts.n_left);
        parts.right = ag_json_string(ag_json_at(merge, 1), &parts.n_right);
    }
    if (parts.left != NULL && parts.right != NULL) {
        status = ag_build_merges(reading->tokenizer, &parts, 1, &known);
        known = known || is_idle(vocabulary, &parts);
    }
    return status != AG_OK || known
               ? status
               : ag_fail(AG_ERR_FORMAT, "%s: merge %zu is not two tokens that make a third",
                         reading->path, number);
}

static bool has_text(const ag_json_t *model, const char *key)
{
    const char *text = ag_json_string(ag_json_get(model, key), NULL);

    return text != NULL && *text != '\0';
}

/* Another version's keys may mean something else; a file without one is older than the key. */
static ag_status_t check_version(const reading_t *reading)
{
    const ag_json_t *version = ag_json_get(reading->json, "version");
    const char *text = ag_json_string(version, NULL);

    return version == NULL || (text != NULL && strcmp(text, "1.0") == 0)
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "%s: its version \"%s\" is not known (known: 1.0)",
                         reading->path, ag_quote_string(text).text);
}

/* Merges left out at random (Provilkov 2020), which Hugging Face's tokenizers do wherever the file
 * says so, a prompt too; here a text has the same ids always. */
static ag_status_t check_dropout(const reading_t *reading, const ag_json_t *model)
{
    const ag_json_t *dropout = ag_json_get(model, "dropout");
    double share = ag_json_number(dropout, -1);

    if (ag_json_kind(dropout) == AG_JSON_NONE || ag_json_kind(dropout) == AG_JSON_NULL) {
        return AG_OK;
    }
    if (!(share >= 0 && share <= 1)) {
        return ag_fail(AG_ERR_FORMAT, "%s: model.dropout is not a number from 0 to 1",
                       reading->path);
    }
    if (share > 0) {
        ag_log(AG_LOG_WARNING,
               "%s: model.dropout is %g, which is not applied: no merge is left out at random, and "
               "a text has the same ids always",
               reading->path, share);
    }
    return AG_OK;
}

/* What stands for a character, or a byte, that has no token. */
static void read_unknown(reading_t *reading, const ag_json_t *model)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    size_t n_bytes;
    const char *text = ag_json_string(ag_json_get(model, "unk_token"), &n_bytes);

    tokenizer->unknown = text != NULL ? ag_text_id(tokenizer, text, n_bytes) : AG_NO_ID;
    tokenizer->fuses_unknown = ag_json_bool(ag_json_get(model, "fuse_unk"), false);
}

/* What GGUF files call rules and normalizer, where they can. */
static const ag_pre_tokenizer_t *find_pre(const ag_steps_t *steps, bool ignore_merges)
{
    bool composes = steps->n_normal == 1 && steps->normal[0].kind == AG_NORMAL_NFC;

    return steps->n_normal == 0 || composes
               ? ag_pre_tokenizer_of(steps->rules, steps->n_rules, ignore_merges, composes)
               : NULL;
}

static ag_status_t read_bpe(reading_t *reading, const ag_json_t *model)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    const ag_json_t *merges = ag_json_get(model, "merges");
    const ag_json_t *vocabulary = ag_json_get(model, "vocab");
    bool of_bytes = reading->steps.is_byte_level;
    ag_status_t status;

    tokenizer->model = of_bytes ? AG_MODEL_BYTES : AG_MODEL_MERGES;
    tokenizer->falls_back = ag_json_bool(ag_json_get(model, "byte_fallback"), false);
    tokenizer->ignore_merges = ag_json_bool(ag_json_get(model, "ignore_merges"), false);
    if (has_text(model, "continuing_subword_prefix") || has_text(model, "end_of_word_suffix")) {
        return fail_here(reading, "BPE with a prefix or suffix of words, which is not known");
    }
    if (of_bytes && tokenizer->falls_back) {
        return fail_here(reading, "BPE over bytes that falls back to bytes, which is not known");
    }
    if (ag_json_kind(vocabulary) != AG_JSON_OBJECT || ag_json_kind(merges) != AG_JSON_ARRAY) {
        return ag_fail(AG_ERR_FORMAT, "%s: model.%s is missing or not %s", reading->path,
                       ag_json_kind(vocabulary) != AG_JSON_OBJECT ? "vocab" : "merges",
                       ag_json_kind(vocabulary) != AG_JSON_OBJECT ? "an object" : "a list");
    }
    justify_ids(reading, vocabulary);
    status = check_dropout(reading, model);
    if (status == AG_OK) {
        status = ag_json_each(vocabulary, keep_word, reading);
    }
    if (status == AG_OK) {
        status = build_tokens(reading);
    }
    if (status == AG_OK) {
        status = ag_build_words(tokenizer, ag_json_size(merges));
    }
    for (size_t i = 0; i < ag_json_size(merges) && status == AG_OK; i++) {
        status = read_merge(reading, vocabulary, ag_json_at(merges, i), i);
    }
    tokenizer->pre = of_bytes ? find_pre(&reading->steps, tokenizer->ignore_merges) : NULL;
    if (status == AG_OK) {
        read_unknown(reading, model);
    }
    return status;
}

/* A word and its score. */
static ag_status_t keep_scored(reading_t *reading, const ag_json_t *pair, size_t id)
{
    ag_token_text_t token = {.flags = AG_PIECE_WORD};
    double score = ag_json_number(ag_json_at(pair, 1), NAN);
    ag_status_t status;

    token.text = ag_json_string(ag_json_at(pair, 0), &token.n_bytes);
    if (token.text == NULL || !isfinite(score)) {
        return ag_fail(AG_ERR_FORMAT, "%s: entry %zu of model.vocab is not a text and its score",
                       reading->path, id);
    }
    status = keep_text(reading, (int64_t)id, &token);
    return status == AG_OK ? ag_array_append(&reading->tokenizer->scores, &score, 1) : status;
}

static ag_status_t read_unigram(reading_t *reading, const ag_json_t *model)
{
    enum { PENALTY = 10 }; /* of what is unknown, below the worst score */
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    const ag_json_t *vocabulary = ag_json_get(model, "vocab");
    int64_t unknown = ag_json_integer(ag_json_get(model, "unk_id"), -1);
    ag_status_t status = AG_OK;

    if (reading->steps.is_byte_level) {
        return fail_here(reading, "Unigram over bytes, which is not known");
    }
    if (ag_json_kind(vocabulary) != AG_JSON_ARRAY || ag_json_size(vocabulary) == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: model.vocab is missing or not a list", reading->path);
    }
    tokenizer->model = AG_MODEL_UNIGRAM;
    tokenizer->falls_back = ag_json_bool(ag_json_get(model, "byte_fallback"), false);
    tokenizer->fuses_unknown = true;
    justify_ids(reading, vocabulary);
    for (size_t i = 0; i < ag_json_size(vocabulary) && status == AG_OK; i++) {
        status = keep_scored(reading, ag_json_at(vocabulary, i), i);
    }
    if (status == AG_OK) {
        status = build_tokens(reading);
    }
    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < tokenizer->scores.n_items; i++) {
        double score = AG_ITEMS(&tokenizer->scores, double)[i];

        tokenizer->unknown_score =
            i == 0 || score < tokenizer->unknown_score ? score : tokenizer->unknown_score;
    }
    tokenizer->unknown_score -= PENALTY;
    if (unknown >= 0 && unknown < (int64_t)tokenizer->scores.n_items) {
        tokenizer->unknown = (uint32_t)unknown;
    }
    return ag_build_words(tokenizer, 0);
}

static ag_status_t read_model(reading_t *reading)
{
    static const struct {
        const char *type;
        ag_status_t (*read)(reading_t *reading, const ag_json_t *model);
    } models[] = {{"BPE", read_bpe}, {"Unigram", read_unigram}};
    const ag_json_t *model = ag_json_get(reading->json, "model");
    const char *type = ag_json_string(ag_json_get(model, "type"), NULL);

    if (ag_json_get(model, "type") == NULL) {
        return read_bpe(reading, model); /* GPT-2's own file is older than the key */
    }
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]) && type != NULL; i++) {
        if (strcmp(models[i].type, type) == 0) {
            return models[i].read(reading, model);
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "%s: the tokenizer's model \"%s\" is not known (known: BPE, Unigram)",
                   reading->path, ag_quote_string(type).text);
}

/* What stands beside the model. */
static ag_status_t read_steps(reading_t *reading)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    ag_steps_t *steps = &reading->steps;
    ag_status_t status = ag_steps_read(reading->json, steps);

    if (status != AG_OK) {
        return status;
    }
    status = ag_splitter_create(steps->rules, steps->n_rules, &tokenizer->splitter);
    if (status != AG_OK) {
        return ag_fail_context(status, "%s", reading->path);
    }
    tokenizer->decoder = steps->decoder;
    return steps->n_normal > 0 ? ag_normalizer_create(reading->path, steps->normal, steps->n_normal,
                                                      &tokenizer->normalizer)
                               : AG_OK;
}

int32_t ag_token_id_of(const ag_tokenizer_t *tokenizer, const ag_json_t *token)
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

/* An id that the tokenizer knows, or -1. */
static int32_t known_id(const ag_tokenizer_t *tokenizer, int64_t id)
{
    return id >= 0 && id < (int64_t)ag_tokenizer_size(tokenizer) ? (int32_t)id : -1;
}

/* One id, or a list of them. */
static void add_ends(ag_tokenizer_t *tokenizer, const ag_json_t *ids)
{
    bool is_list = ag_json_kind(ids) == AG_JSON_ARRAY;
    size_t n = is_list ? ag_json_size(ids) : 1;

    for (size_t i = 0; i < n; i++) {
        int64_t id = ag_json_integer(is_list ? ag_json_at(ids, i) : ids, -1);

        ag_build_end(tokenizer, id);
        if (tokenizer->eos < 0 && id >= 0 && id < (int64_t)ag_tokenizer_size(tokenizer)) {
            tokenizer->eos = (int32_t)id;
        }
    }
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
    FILE *file;

    snprintf(path, sizeof(path), "%s/chat_template.jinja", ag_model_files_path(files));
    file = fopen(path, "r");
    if (file == NULL) {
        return errno == ENOENT ? AG_OK
                               : ag_fail(AG_ERR_IO, "opening %s: %s", path, strerror(errno));
    }
    if (getdelim(&text, &capacity, '\0', file) >= 0) {
        tokenizer->chat_template = text;
        fclose(file);
        return AG_OK;
    }
    free(text);
    if (!feof(file)) {
        int error = errno;

        fclose(file);
        return ag_fail(AG_ERR_IO, "reading %s: %s", path, strerror(error));
    }
    fclose(file);
    return AG_OK; /* empty */
}

static ag_status_t read_config(const ag_model_files_t *files, reading_t *reading)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    const ag_json_t *generation = ag_model_files_generation_config(files);
    ag_json_t *mine = NULL;
    char path[4096];
    ag_status_t status = AG_OK;

    snprintf(path, sizeof(path), "%s/tokenizer_config.json", ag_model_files_path(files));
    if (access(path, F_OK) == 0) {
        status = ag_json_read(path, &mine);
    }
    if (status != AG_OK) {
        return status;
    }
    tokenizer->bos = known_id(tokenizer, reading->steps.bos);
    tokenizer->after = known_id(tokenizer, reading->steps.after);
    tokenizer->named_bos = ag_token_id_of(tokenizer, ag_json_get(mine, "bos_token"));
    tokenizer->eos = ag_token_id_of(tokenizer, ag_json_get(mine, "eos_token"));
    tokenizer->named_eos = tokenizer->eos;
    ag_build_end(tokenizer, tokenizer->eos);
    add_ends(tokenizer, ag_json_get(ag_model_files_config(files), "eos_token_id"));
    add_ends(tokenizer, ag_json_get(generation, "eos_token_id"));
    status = read_template_file(files, tokenizer);
    if (status == AG_OK && tokenizer->chat_template == NULL) {
        status = keep_template(tokenizer, ag_json_get(mine, "chat_template"));
    }
    ag_json_destroy(mine);
    return status;
}

/* SentencePiece's own file is not read; who has no other is told of the way out. */
static ag_status_t check_there(const ag_model_files_t *files, const char *path)
{
    char other[4400];

    snprintf(other, sizeof(other), "%s/tokenizer.model", ag_model_files_path(files));
    return access(path, F_OK) != 0 && access(other, F_OK) == 0
               ? ag_fail(AG_ERR_UNSUPPORTED,
                         "%s is missing, and tokenizer.model is not read: AutoTokenizer of "
                         "transformers writes the one from the other (save_pretrained)",
                         path)
               : AG_OK;
}

ag_status_t ag_tokenizer_read_folder(const ag_model_files_t *files, ag_tokenizer_t *tokenizer)
{
    reading_t reading = {.tokenizer = tokenizer, .texts = AG_ARRAY(ag_token_text_t)};
    ag_json_t *json;
    ag_status_t status;

    snprintf(reading.path, sizeof(reading.path), "%s/tokenizer.json", ag_model_files_path(files));
    status = check_there(files, reading.path);
    if (status == AG_OK) {
        status = ag_json_read(reading.path, &json);
    }
    if (status != AG_OK) {
        return status;
    }
    reading.json = json;
    reading.steps.path = reading.path;
    status = check_version(&reading);
    if (status == AG_OK) {
        status = read_steps(&reading);
    }
    if (status == AG_OK) {
        status = read_model(&reading);
    }
    if (status == AG_OK) {
        status = read_config(files, &reading);
    }
    ag_array_fini(&reading.texts);
    ag_steps_fini(&reading.steps);
    ag_json_destroy(json);
    return status;
}
