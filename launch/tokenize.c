/* argosy tokenize: no machine is looked at, nothing but the tokenizer is opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/input.h"

typedef struct conversion {
    ag_tokenizer_t *tokenizer;
    unsigned flags;
    bool decodes;
    ag_status_t bad; /* what bad input is: a wrong option, or a wrong file */
} conversion_t;

static ag_status_t print_ids(const ag_array_t *ids)
{
    ag_array_t line = AG_ARRAY(char);
    ag_status_t status = ag_array_append(&line, "[", 1);

    for (size_t i = 0; i < ids->n_items && status == AG_OK; i++) {
        char number[24];
        int n =
            snprintf(number, sizeof(number), "%s%d", i > 0 ? ", " : "", AG_ITEMS(ids, int32_t)[i]);

        status = ag_array_append(&line, number, (size_t)n);
    }
    if (status == AG_OK) {
        status = ag_array_append(&line, "]\n", 2);
    }
    if (status == AG_OK) {
        status = ag_write_out(line.items, line.n_items);
    }
    ag_array_fini(&line);
    return status;
}

static ag_status_t encode(const conversion_t *c, const char *text, size_t n_bytes)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    ag_status_t status = ag_tokenizer_encode(c->tokenizer, text, n_bytes, c->flags, &ids, NULL);

    if (status == AG_OK) {
        status = print_ids(&ids);
    }
    ag_array_fini(&ids);
    return status;
}

/* The bytes that an array of ids stands for. */
static ag_status_t decode(const conversion_t *c, const ag_json_t *array, const char *what,
                          ag_array_t *bytes)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    ag_status_t status = AG_OK;

    if (ag_json_kind(array) != AG_JSON_ARRAY) {
        return ag_fail(c->bad, "%s: a JSON array of ids is expected", what);
    }
    for (size_t i = 0; i < ag_json_size(array) && status == AG_OK; i++) {
        int64_t id = ag_json_integer(ag_json_at(array, i), -1);
        int32_t id32 = (int32_t)id;

        status = id >= 0 && id < ag_tokenizer_size(c->tokenizer)
                     ? ag_array_append(&ids, &id32, 1)
                     : ag_fail(c->bad, "%s: entry %zu is no id from 0 to %u", what, i,
                               ag_tokenizer_size(c->tokenizer) - 1);
    }
    if (status == AG_OK) {
        status = ag_tokenizer_decode(c->tokenizer, ids.items, ids.n_items, c->flags, bytes);
    }
    ag_array_fini(&ids);
    return status;
}

static ag_status_t convert_whole(const conversion_t *c, const char *text, size_t n_bytes,
                                 const char *what)
{
    ag_array_t bytes = AG_ARRAY(char);
    ag_json_t *json;
    ag_status_t status;

    if (!c->decodes) {
        ag_warn_utf8(what, text, n_bytes);
        return encode(c, text, n_bytes);
    }
    if (ag_json_parse(text, n_bytes, what, &json) != AG_OK) {
        return c->bad;
    }
    status = decode(c, json, what, &bytes);
    if (status == AG_OK) {
        status = ag_write_out(bytes.items, bytes.n_items);
    }
    ag_json_destroy(json);
    ag_array_fini(&bytes);
    return status;
}

static ag_status_t print_string(const ag_array_t *bytes)
{
    ag_json_t *json = ag_json_new_string(bytes->n_items > 0 ? bytes->items : "", bytes->n_items);

    return ag_print_json_line(json);
}

static ag_status_t convert_line(const conversion_t *c, const ag_json_t *json, const char *what)
{
    ag_array_t bytes = AG_ARRAY(char);
    const char *text;
    size_t n_text;
    ag_status_t status;

    if (!c->decodes) {
        text = ag_json_string(json, &n_text);
        return text != NULL ? encode(c, text, n_text)
                            : ag_fail(AG_ERR_FORMAT, "%s: a JSON string is expected", what);
    }
    status = decode(c, json, what, &bytes);
    if (status == AG_OK) {
        status = print_string(&bytes);
    }
    ag_array_fini(&bytes);
    return status;
}

static ag_status_t convert_lines(const conversion_t *c, const char *path)
{
    ag_lines_t lines;
    ag_json_t *json = NULL;
    ag_status_t status = ag_lines_open(path, &lines);

    while (status == AG_OK && (status = ag_lines_next(&lines, &json)) == AG_OK && json != NULL) {
        status = convert_line(c, json, lines.what);
        ag_json_destroy(json);
    }
    ag_lines_close(&lines);
    return status;
}

static ag_status_t convert(const conversion_t *c, const ag_options_t *options)
{
    char *bytes;
    size_t n_bytes;
    ag_status_t status;

    if (options->jsonl) {
        return convert_lines(c, options->file);
    }
    if (options->text != NULL) {
        return convert_whole(c, options->text, strlen(options->text), "--text");
    }
    status = ag_read_whole_file(options->file, &bytes, &n_bytes);
    if (status == AG_OK) {
        status = convert_whole(c, bytes, n_bytes, options->file);
        free(bytes);
    }
    return status;
}

ag_status_t ag_command_tokenize(ag_session_t *session)
{
    const ag_options_t *options = session->options;
    conversion_t c = {.flags = options->no_special ? 0 : AG_TOKEN_SPECIAL,
                      .decodes = options->decode,
                      .bad = options->text != NULL ? AG_ERR_INVALID : AG_ERR_FORMAT};
    ag_model_files_t *files;
    ag_status_t status = ag_model_files_open(options->model, &files);

    if (status != AG_OK) {
        return status;
    }
    status = ag_tokenizer_open(files, &c.tokenizer);
    if (status == AG_OK) {
        status = convert(&c, options);
    }
    ag_tokenizer_close(c.tokenizer);
    ag_model_files_close(files);
    return status;
}
