#include "runtime/base/json.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"

static const char byte_order_mark[] =
    "\xEF\xBB\xBF"; /* RFC 8259, section 8.1: may be passed over */

enum { MARK_BYTES = 3 };

enum { PARSE_FLAGS = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL };

/*
 * jansson quotes the text near the error as it is; ours are one line.
 * @param one_line  the text is: its number would say nothing.
 */
static ag_status_t fail_parse(const char *what, bool one_line, json_error_t *error)
{
    char line[32] = "";

    for (char *at = error->text; *at != '\0'; at++) {
        *at = (unsigned char)*at < ' ' || *at == '\x7f' ? '?' : *at;
    }
    if (!one_line) {
        snprintf(line, sizeof(line), "line %d, ", error->line);
    }
    return ag_fail(AG_ERR_FORMAT, "%s: %scolumn %d: %s", what, line, error->column, error->text);
}

static ag_status_t parse(const char *text, size_t n_bytes, const char *what, size_t flags,
                         ag_json_t **json_p)
{
    size_t n_mark =
        n_bytes >= MARK_BYTES && memcmp(text, byte_order_mark, MARK_BYTES) == 0 ? MARK_BYTES : 0;
    json_error_t error;
    json_t *json = json_loadb(text + n_mark, n_bytes - n_mark, flags, &error);

    if (json == NULL) {
        return fail_parse(what, memchr(text, '\n', n_bytes) == NULL, &error);
    }
    *json_p = json;
    return AG_OK;
}

ag_status_t ag_json_parse(const char *text, size_t n_bytes, const char *what, ag_json_t **json_p)
{
    return parse(text, n_bytes, what, PARSE_FLAGS, json_p);
}

ag_status_t ag_json_parse_reals(const char *text, size_t n_bytes, const char *what,
                                ag_json_t **json_p)
{
    return parse(text, n_bytes, what, PARSE_FLAGS | JSON_DECODE_INT_AS_REAL, json_p);
}

/* The number that an escape \uXXXX stands for; -1: no such escape is at text. */
static int escaped_unit(const char *text, size_t n_bytes)
{
    char digits[5] = "", *end;
    long unit;

    if (n_bytes < 6 || text[0] != '\\' || text[1] != 'u' || !isxdigit((unsigned char)text[2])) {
        return -1;
    }
    memcpy(digits, text + 2, 4);
    unit = strtol(digits, &end, 16);
    return end == digits + 4 ? (int)unit : -1;
}

size_t ag_json_mend_escapes(char *text, size_t n_bytes)
{
    size_t n_mended = 0;

    for (size_t i = 0; i + 1 < n_bytes;) {
        int unit = escaped_unit(text + i, n_bytes - i);
        int next = unit >= 0 ? escaped_unit(text + i + 6, n_bytes - i - 6) : -1;

        if (unit < 0) {
            i += text[i] == '\\' ? 2 : 1;
        } else if (unit >= 0xD800 && unit < 0xDC00 && next >= 0xDC00 && next < 0xE000) {
            i += 12;
        } else {
            if (unit >= 0xD800 && unit < 0xE000) {
                memcpy(text + i, "\\uFFFD", 6);
                n_mended++;
            }
            i += 6;
        }
    }
    return n_mended;
}

typedef struct source {
    FILE *file;
    bool is_begun;
} source_t;

static size_t read_some(void *buffer, size_t n_bytes, void *arg)
{
    source_t *source = arg;
    size_t n = fread(buffer, 1, n_bytes, source->file);

    if (n == 0 && ferror(source->file)) {
        return (size_t)-1;
    }
    if (!source->is_begun && n >= MARK_BYTES && memcmp(buffer, byte_order_mark, MARK_BYTES) == 0) {
        n -= MARK_BYTES;
        memmove(buffer, (char *)buffer + MARK_BYTES, n);
        n += fread((char *)buffer + n, 1, n == 0 ? n_bytes : 0, source->file); /* 0 is the end */
    }
    source->is_begun = true;
    return n;
}

ag_status_t ag_json_read(const char *path, ag_json_t **json_p)
{
    FILE *file = fopen(path, "rb");
    source_t source = {.file = file};
    json_error_t error;
    json_t *json;

    if (file == NULL) {
        return ag_fail_open(path);
    }
    json = json_load_callback(read_some, &source, PARSE_FLAGS, &error);
    if (json == NULL && ferror(file)) {
        fclose(file);
        return ag_fail(AG_ERR_IO, "reading %s: %s", path, strerror(errno));
    }
    fclose(file);
    if (json == NULL) {
        fail_parse(path, false, &error);
        return ag_fail(AG_ERR_FORMAT, "%s: mend it there, or get the file again", ag_error());
    }
    *json_p = json;
    return AG_OK;
}

void ag_json_destroy(ag_json_t *json)
{
    json_decref(json);
}

ag_json_kind_t ag_json_kind(const ag_json_t *json)
{
    if (json == NULL) {
        return AG_JSON_NONE;
    }
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return AG_JSON_OBJECT;
    case JSON_ARRAY:
        return AG_JSON_ARRAY;
    case JSON_STRING:
        return AG_JSON_STRING;
    case JSON_INTEGER:
        return AG_JSON_INTEGER;
    case JSON_REAL:
        return AG_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return AG_JSON_BOOL;
    case JSON_NULL:
        break;
    }
    return AG_JSON_NULL;
}

ag_json_t *ag_json_get(const ag_json_t *object, const char *key)
{
    return json_object_get(object, key);
}

ag_json_t *ag_json_path(const ag_json_t *object, const char *path)
{
    const ag_json_t *at = object;

    while (*path != '\0') {
        const char *end = strchr(path, '.');
        size_t n_chars = end == NULL ? strlen(path) : (size_t)(end - path);
        char key[128];

        if (n_chars >= sizeof(key)) {
            return NULL;
        }
        memcpy(key, path, n_chars);
        key[n_chars] = '\0';
        at = json_object_get(at, key);
        path += n_chars + (end != NULL);
    }
    return (ag_json_t *)at;
}

size_t ag_json_size(const ag_json_t *array_or_object)
{
    return json_is_object(array_or_object) ? json_object_size(array_or_object)
                                           : json_array_size(array_or_object);
}

ag_json_t *ag_json_at(const ag_json_t *array, size_t index)
{
    return json_array_get(array, index);
}

const char *ag_json_string(const ag_json_t *string, size_t *n_bytes_p)
{
    if (n_bytes_p != NULL) {
        *n_bytes_p = json_string_length(string);
    }
    return json_string_value(string);
}

int64_t ag_json_integer(const ag_json_t *json, int64_t otherwise)
{
    double value;

    if (json_is_integer(json)) {
        return json_integer_value(json);
    }
    value = json_real_value(json);
    if (json_is_real(json) && value == floor(value) && fabs(value) < 0x1p63) {
        return (int64_t)value;
    }
    return otherwise;
}

double ag_json_number(const ag_json_t *json, double otherwise)
{
    return json_is_number(json) ? json_number_value(json) : otherwise;
}

bool ag_json_bool(const ag_json_t *json, bool otherwise)
{
    return json_is_boolean(json) ? json_is_true(json) : otherwise;
}

ag_status_t ag_json_each(const ag_json_t *object, ag_json_member_fn_t fn, void *arg)
{
    json_t *members = (json_t *)object; /* jansson's iterators are not const */

    for (void *at = json_object_iter(members); at != NULL;
         at = json_object_iter_next(members, at)) {
        const char *key = json_object_iter_key(at);
        ag_status_t status = fn(arg, key, strlen(key), json_object_iter_value(at));

        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

ag_json_t *ag_json_new_object(void)
{
    return json_object();
}

ag_json_t *ag_json_new_array(void)
{
    return json_array();
}

ag_json_t *ag_json_new_integer(int64_t value)
{
    return json_integer(value);
}

ag_json_t *ag_json_new_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

ag_json_t *ag_json_new_null(void)
{
    return json_null();
}

ag_json_t *ag_json_new_bool(bool value)
{
    return json_boolean(value);
}

ag_json_t *ag_json_new_string(const char *bytes, size_t n_bytes)
{
    json_t *json = json_stringn(bytes, n_bytes);
    char *text;
    size_t n_text;

    if (json != NULL || ag_utf8_repair(bytes, n_bytes, &text, &n_text, NULL) != AG_OK) {
        return json;
    }
    json = json_stringn(text, n_text);
    free(text);
    return json;
}

void ag_json_set(ag_json_t *object, const char *key, ag_json_t *value)
{
    json_object_set_new(object, key, value);
}

void ag_json_append(ag_json_t *array, ag_json_t *value)
{
    json_array_append_new(array, value);
}

ag_json_t *ag_json_take(ag_json_t *object, const char *key)
{
    json_t *value = json_incref(json_object_get(object, key));

    json_object_del(object, key);
    return value;
}

ag_status_t ag_json_text(const ag_json_t *json, ag_json_style_t style, char **text_p)
{
    size_t flags = JSON_ENCODE_ANY;

    flags |= style == AG_JSON_INDENTED    ? JSON_INDENT(2)
             : style == AG_JSON_CANONICAL ? JSON_COMPACT | JSON_SORT_KEYS
                                          : 0;
    *text_p = json == NULL ? NULL : json_dumps(json, flags);
    return *text_p != NULL ? AG_OK : ag_fail_nomem("writing JSON", 0);
}
