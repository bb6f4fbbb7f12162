/* argosy tokenize: no machine is looked at, nothing but the tokenizer is opened. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"

typedef struct conversion {
    ag_tokenizer_t *tokenizer;
    unsigned flags;
    bool decodes;
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
    ag_status_t status = ag_tokenizer_encode(c->tokenizer, text, n_bytes, c->flags, &ids);

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
    if (ag_json_kind(array) != AG_JSON_ARRAY) {
        return ag_fail(AG_ERR_FORMAT, "%s: a JSON array of ids is expected", what);
    }
    for (size_t i = 0; i < ag_json_size(array); i++) {
        int64_t id = ag_json_integer(ag_json_at(array, i), -1);
        int32_t id32 = (int32_t)id;
        ag_status_t status;

        if (id < 0 || id >= ag_tokenizer_size(c->tokenizer)) {
            return ag_fail(AG_ERR_FORMAT, "%s: entry %zu is no id from 0 to %u", what, i,
                           ag_tokenizer_size(c->tokenizer) - 1);
        }
        status = ag_tokenizer_decode(c->tokenizer, &id32, 1, c->flags, bytes);
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

static ag_status_t convert_whole(const conversion_t *c, const char *text, size_t n_bytes,
                                 const char *what)
{
    ag_array_t bytes = AG_ARRAY(char);
    ag_json_t *json;
    ag_status_t status;

    if (!c->decodes) {
        return encode(c, text, n_bytes);
    }
    status = ag_json_parse(text, n_bytes, what, &json);
    if (status != AG_OK) {
        return status;
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

static ag_status_t convert_line(const conversion_t *c, const char *line, size_t n_bytes,
                                const char *what)
{
    ag_array_t bytes = AG_ARRAY(char);
    ag_json_t *json;
    ag_status_t status = ag_json_parse(line, n_bytes, what, &json);

    if (status != AG_OK) {
        return status;
    }
    if (c->decodes) {
        status = decode(c, json, what, &bytes);
        if (status == AG_OK) {
            status = print_string(&bytes);
        }
    } else {
        size_t n_text;
        const char *text = ag_json_string(json, &n_text);

        status = text != NULL ? encode(c, text, n_text)
                              : ag_fail(AG_ERR_FORMAT, "%s: a JSON string is expected", what);
    }
    ag_json_destroy(json);
    ag_array_fini(&bytes);
    return status;
}

static ag_status_t convert_lines(const conversion_t *c, const char *path)
{
    FILE *file = path != NULL ? fopen(path, "rb") : stdin;
    char *line = NULL, what[4200];
    size_t capacity = 0, number = 1;
    ag_status_t status = AG_OK;
    ssize_t n;

    if (file == NULL) {
        return ag_fail(AG_ERR_IO, "opening %s: %s", path, strerror(errno));
    }
    for (; status == AG_OK && (n = getline(&line, &capacity, file)) >= 0; number++) {
        size_t n_bytes = n > 0 && line[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n;

        snprintf(what, sizeof(what), "%s, line %zu", path != NULL ? path : "standard input",
                 number);
        if (n_bytes > 0) {
            status = convert_line(c, line, n_bytes, what);
        }
    }
    free(line);
    if (status == AG_OK && ferror(file)) {
        status = ag_fail(AG_ERR_IO, "reading %s: %s", path != NULL ? path : "standard input",
                         strerror(errno));
    }
    if (path != NULL) {
        fclose(file);
    }
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

ag_status_t ag_command_tokenize(const ag_options_t *options)
{
    conversion_t c = {.flags = options->no_special ? 0 : AG_TOKEN_SPECIAL,
                      .decodes = options->decode};
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
