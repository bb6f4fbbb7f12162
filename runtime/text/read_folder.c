/* A tokenizer from a Hugging Face folder: tokenizer.json, tokenizer_config.json,
 * generation_config.json. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/tokenizer_priv.h"

enum { MOST_RULES = 16 };

typedef struct reading {
    ag_tokenizer_t *tokenizer;
    char path[4096]; /* of tokenizer.json */
    const ag_json_t *json;
    ag_array_t texts; /* ag_token_text_t by id */
    size_t most_ids;  /* what the file's size can justify */
    ag_split_rule_t rules[MOST_RULES];
    size_t n_rules;
    bool is_byte_level; /* the pre-tokenizer's last step is ByteLevel */
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
                 {"rstrip", AG_PIECE_R_STRIP}};
    ag_token_text_t text = {.flags = AG_PIECE_ADDED};

    text.text = ag_json_string(ag_json_get(token, "content"), &text.n_bytes);
    if (text.text == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: an added token has no content", reading->path);
    }
    if (ag_json_bool(ag_json_get(token, "single_word"), false)) {
        return fail_here(reading, "an added token that must be a single word, which is not known");
    }
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        if (ag_json_bool(ag_json_get(token, marks[i].key), false)) {
            text.flags |= marks[i].flag;
        }
    }
    return keep_text(reading, ag_json_integer(ag_json_get(token, "id"), -1), &text);
}

static ag_status_t read_tokens(reading_t *reading, const ag_json_t *vocabulary)
{
    const ag_json_t *added = ag_json_get(reading->json, "added_tokens");
    ag_status_t status;

    reading->most_ids = 65536 + 2 * (ag_json_size(vocabulary) + ag_json_size(added));
    status = ag_json_each(vocabulary, keep_word, reading);
    for (size_t i = 0; i < ag_json_size(added) && status == AG_OK; i++) {
        status = keep_added(reading, ag_json_at(added, i));
    }
    for (size_t i = 0; i < reading->texts.n_items && status == AG_OK; i++) {
        status = ag_build_token(reading->tokenizer, &AG_ITEMS(&reading->texts, ag_token_text_t)[i]);
    }
    return status;
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

/* A byte that has no token becomes the unknown token, where there is one. */
static ag_status_t read_unknown(reading_t *reading, const ag_json_t *model)
{
    ag_tokenizer_t *tokenizer = reading->tokenizer;
    size_t n_bytes;
    const char *text = ag_json_string(ag_json_get(model, "unk_token"), &n_bytes);
    uint32_t unknown = text != NULL ? ag_text_id(tokenizer, text, n_bytes) : AG_NO_ID;

    for (int byte = 0; byte < 256 && unknown != AG_NO_ID; byte++) {
        if (tokenizer->byte_ids[byte] == AG_NO_ID &&
            ag_json_bool(ag_json_get(model, "fuse_unk"), false)) {
            return fail_here(reading, "unknown tokens that are fused, which is not known");
        }
        if (tokenizer->byte_ids[byte] == AG_NO_ID) {
            tokenizer->byte_ids[byte] = unknown;
        }
    }
    return AG_OK;
}

static bool has_text(const ag_json_t *model, const char *key)
{
    const char *text = ag_json_string(ag_json_get(model, key), NULL);

    return text != NULL && *text != '\0';
}

static ag_status_t read_model(reading_t *reading)
{
    const ag_json_t *model = ag_json_get(reading->json, "model");
    const ag_json_t *merges = ag_json_get(model, "merges");
    const ag_json_t *vocabulary = ag_json_get(model, "vocab");
    /* GPT-2's own file is older than the key "type" */
    bool is_bpe = is_type(model, "BPE") || ag_json_get(model, "type") == NULL;
    ag_status_t status;

    if (!is_bpe || ag_json_bool(ag_json_get(model, "byte_fallback"), false) ||
        has_text(model, "continuing_subword_prefix") || has_text(model, "end_of_word_suffix")) {
        return fail_here(reading, "the tokenizer's model is not known (known: BPE over bytes, "
                                  "without fallback, prefix and suffix)");
    }
    if (ag_json_kind(vocabulary) != AG_JSON_OBJECT || ag_json_kind(merges) != AG_JSON_ARRAY) {
        return ag_fail(AG_ERR_FORMAT, "%s: model.%s is missing or not %s", reading->path,
                       ag_json_kind(vocabulary) != AG_JSON_OBJECT ? "vocab" : "merges",
                       ag_json_kind(vocabulary) != AG_JSON_OBJECT ? "an object" : "a list");
    }
    status = read_tokens(reading, vocabulary);
    if (status == AG_OK) {
        status = ag_build_words(reading->tokenizer, ag_json_size(merges));
    }
    for (size_t i = 0; i < ag_json_size(merges) && status == AG_OK; i++) {
        status = read_merge(reading, vocabulary, ag_json_at(merges, i), i);
    }
    reading->tokenizer->ignore_merges = ag_json_bool(ag_json_get(model, "ignore_merges"), false);
    reading->tokenizer->pre =
        ag_pre_tokenizer_of(reading->rules, reading->n_rules, reading->tokenizer->ignore_merges);
    return status == AG_OK ? read_unknown(reading, model) : status;
}

static ag_status_t add_rule(reading_t *reading, const ag_split_rule_t *rule)
{
    if (reading->n_rules == MOST_RULES) {
        return fail_here(reading, "a pre-tokenizer of more steps than any known");
    }
    reading->rules[reading->n_rules++] = *rule;
    return AG_OK;
}

static ag_status_t read_split(reading_t *reading, const ag_json_t *pre)
{
    const ag_json_t *literal = ag_json_path(pre, "pattern.String");
    const char *behavior = ag_json_string(ag_json_get(pre, "behavior"), NULL);
    size_t n_bytes;
    ag_split_rule_t rule = {.literal = literal != NULL,
                            .invert = ag_json_bool(ag_json_get(pre, "invert"), false)};

    rule.pattern =
        ag_json_string(literal != NULL ? literal : ag_json_path(pre, "pattern.Regex"), &n_bytes);
    if (rule.pattern != NULL && n_bytes > 0 && strlen(rule.pattern) == n_bytes &&
        behavior != NULL && ag_cut_of(behavior, &rule.cut)) {
        return add_rule(reading, &rule);
    }
    return fail_here(reading, "a pre-tokenizer Split whose pattern or behavior is not known");
}

/* One pre-tokenizer: the rules it cuts by are added. */
static ag_status_t read_pre_tokenizer(reading_t *reading, const ag_json_t *pre)
{
    if (reading->is_byte_level) {
        return fail_here(reading, "a pre-tokenizer that works on bytes already mapped (known: "
                                  "ByteLevel as the last step)");
    }
    if (is_type(pre, "Split")) {
        return read_split(reading, pre);
    }
    if (is_type(pre, "Digits")) {
        bool each = ag_json_bool(ag_json_get(pre, "individual_digits"), false);

        return add_rule(reading, &(ag_split_rule_t){.pattern = each ? "\\p{N}" : "\\p{N}+"});
    }
    if (!is_type(pre, "ByteLevel")) {
        return fail_here(reading, "a pre-tokenizer that is not known (known: Split, Digits, "
                                  "ByteLevel, a Sequence of these)");
    }
    reading->is_byte_level = true;
    reading->tokenizer->add_prefix_space = ag_json_bool(ag_json_get(pre, "add_prefix_space"), true);
    if (reading->tokenizer->add_prefix_space && reading->n_rules > 0) {
        return fail_here(reading, "a space put before each word of an earlier pre-tokenizer, which "
                                  "is not known");
    }
    return ag_json_bool(ag_json_get(pre, "use_regex"), true)
               ? add_rule(reading, &(ag_split_rule_t){.pattern = ag_pattern_gpt2})
               : AG_OK;
}

static ag_status_t read_splitter(reading_t *reading)
{
    const ag_json_t *pre = ag_json_get(reading->json, "pre_tokenizer");
    const ag_json_t *members = ag_json_get(pre, "pretokenizers");
    ag_status_t status = AG_OK;

    if (ag_json_kind(ag_json_get(reading->json, "normalizer")) > AG_JSON_NULL) {
        return fail_here(reading, "a normalizer, of which none is known");
    }
    if (!is_type(pre, "Sequence")) {
        status = read_pre_tokenizer(reading, pre);
    }
    for (size_t i = 0; i < ag_json_size(members) && status == AG_OK; i++) {
        status = read_pre_tokenizer(reading, ag_json_at(members, i));
    }
    if (status == AG_OK && !reading->is_byte_level) {
        return fail_here(reading, "no pre-tokenizer ByteLevel (known: BPE over bytes)");
    }
    if (status != AG_OK) {
        return status;
    }
    status = ag_splitter_create(reading->rules, reading->n_rules, &reading->tokenizer->splitter);
    return status == AG_OK ? AG_OK : ag_fail_context(status, "%s", reading->path);
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

/*
 * The token that a template puts before a single text; -1: none. Nothing else says so: where there
 * is a tokenizer.json, transformers 5 drops add_bos_token and add_eos_token of
 * tokenizer_config.json (PreTrainedTokenizerBase._from_pretrained), whatever tokenizer_class is.
 */
static int32_t template_bos(const ag_tokenizer_t *tokenizer, const ag_json_t *processor)
{
    const ag_json_t *members = ag_json_get(processor, "processors");
    const ag_json_t *first = ag_json_at(ag_json_get(processor, "single"), 0);
    const char *name = ag_json_string(ag_json_path(first, "SpecialToken.id"), NULL);
    int64_t bos = -1;

    if (is_type(processor, "TemplateProcessing") && name != NULL) {
        const ag_json_t *token = ag_json_get(ag_json_get(processor, "special_tokens"), name);

        bos = ag_json_integer(ag_json_at(ag_json_get(token, "ids"), 0), -1);
    }
    for (size_t i = 0; i < ag_json_size(members) && bos < 0; i++) {
        bos = template_bos(tokenizer, ag_json_at(members, i));
    }
    return bos >= 0 && bos < (int64_t)ag_tokenizer_size(tokenizer) ? (int32_t)bos : -1;
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
    tokenizer->bos = template_bos(tokenizer, ag_json_get(reading->json, "post_processor"));
    tokenizer->eos = ag_token_id_of(tokenizer, ag_json_get(mine, "eos_token"));
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
    status = read_splitter(&reading);
    if (status == AG_OK) {
        status = read_model(&reading);
    }
    if (status == AG_OK) {
        status = read_config(files, &reading);
    }
    ag_array_fini(&reading.texts);
    ag_json_destroy(json);
    return status;
}
