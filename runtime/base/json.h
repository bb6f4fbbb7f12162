/* JSON values: a thin face over jansson, which is seen nowhere else. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct json_t ag_json_t; /* reference-counted; opaque */

typedef enum ag_json_kind {
    AG_JSON_NONE, /* what a NULL value is */
    AG_JSON_NULL,
    AG_JSON_BOOL,
    AG_JSON_INTEGER,
    AG_JSON_REAL,
    AG_JSON_STRING,
    AG_JSON_ARRAY,
    AG_JSON_OBJECT,
} ag_json_kind_t;

/**
 * Parse one JSON value of any kind; strings may hold NUL, a byte order mark may stand before it.
 * Duplicate keys and trailing text are errors, and so are invalid UTF-8 and half a surrogate pair.
 * @param what  names the source in the error.
 * @param json_p  out: released by ag_json_destroy().
 * @return AG_OK, AG_ERR_FORMAT with line and column.
 */
ag_status_t ag_json_parse(const char *text, size_t n_bytes, const char *what, ag_json_t **json_p);

/** The same, but all numbers become reals: of data whose numbers do not matter, some may be too
 * large for an integer. */
ag_status_t ag_json_parse_reals(const char *text, size_t n_bytes, const char *what,
                                ag_json_t **json_p);

/**
 * Escapes of half a surrogate pair, which no text can hold, become those of U+FFFD; in place.
 * @return how many there were.
 */
size_t ag_json_mend_escapes(char *text, size_t n_bytes);

/** Read and parse a file. @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT. */
ag_status_t ag_json_read(const char *path, ag_json_t **json_p);

void ag_json_destroy(ag_json_t *json); /* NULL is allowed */

ag_json_kind_t ag_json_kind(const ag_json_t *json);

/* Reading; every function takes NULL as a value that is absent. What is returned is borrowed. */
ag_json_t *ag_json_get(const ag_json_t *object, const char *key);       /* NULL: no such key */
ag_json_t *ag_json_path(const ag_json_t *object, const char *path);     /* keys joined by '.' */
size_t ag_json_size(const ag_json_t *array_or_object);                  /* 0 for others */
ag_json_t *ag_json_at(const ag_json_t *array, size_t index);            /* NULL: beyond the end */
const char *ag_json_string(const ag_json_t *string, size_t *n_bytes_p); /* NULL: not a string */
int64_t ag_json_integer(const ag_json_t *json, int64_t otherwise);      /* also a whole real */
double ag_json_number(const ag_json_t *json, double otherwise);
bool ag_json_bool(const ag_json_t *json, bool otherwise);

/** Call fn for each member in file order; stops at the first status that is not AG_OK and returns
 * it. */
typedef ag_status_t (*ag_json_member_fn_t)(void *arg, const char *key, size_t key_bytes,
                                           const ag_json_t *value);
ag_status_t ag_json_each(const ag_json_t *object, ag_json_member_fn_t fn, void *arg);

/*
 * Making. Values passed in are taken over. Where memory runs out a value is NULL, and left out of
 * what it is put into. ag_json_new_string replaces invalid UTF-8 by U+FFFD.
 */
ag_json_t *ag_json_new_object(void);
ag_json_t *ag_json_new_array(void);
ag_json_t *ag_json_new_integer(int64_t value);
ag_json_t *ag_json_new_real(double value); /* not finite: null */
ag_json_t *ag_json_new_bool(bool value);
ag_json_t *ag_json_new_null(void);
ag_json_t *ag_json_new_string(const char *bytes, size_t n_bytes);
void ag_json_set(ag_json_t *object, const char *key, ag_json_t *value);
void ag_json_append(ag_json_t *array, ag_json_t *value);
/** Take a member out; NULL: there is none. Released by ag_json_destroy(). */
ag_json_t *ag_json_take(ag_json_t *object, const char *key);

typedef enum ag_json_style { AG_JSON_LINE, AG_JSON_INDENTED, AG_JSON_CANONICAL } ag_json_style_t;

/** Serialise. CANONICAL: sorted keys, no spaces. @param text_p out: free() it. @return AG_OK,
 * AG_ERR_NOMEM. */
ag_status_t ag_json_text(const ag_json_t *json, ag_json_style_t style, char **text_p);
