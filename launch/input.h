/* What the commands read besides the model: whole files, and lines of JSON. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "runtime/base/array.h"
#include "runtime/base/json.h"

/* Memory that the user's input takes. */
typedef struct ag_input_bytes {
    uint64_t held_bytes; /* while the model runs */
    uint64_t most_bytes; /* at one time, while it was read */
} ag_input_bytes_t;

/** Right now so much is held of what stays, and so much of what is only needed to read it. */
void ag_input_count(ag_input_bytes_t *input, uint64_t held_bytes, uint64_t passing_bytes);

/**
 * A whole file, NUL-terminated.
 * @param bytes_p  out: free() it.
 * @return AG_OK; AG_ERR_IO; AG_ERR_INVALID: larger than any text that is meant; AG_ERR_INTERRUPTED;
 *         AG_ERR_NOMEM.
 */
ag_status_t ag_read_whole_file(const char *path, char **bytes_p, size_t *n_bytes_p);

/* A file of one JSON value a line. What is not valid UTF-8, or half a surrogate pair, is read as
 * U+FFFD, with a warning that names the line. */
typedef struct ag_lines {
    FILE *file;
    const char *path; /* NULL: standard input */
    ag_array_t line;  /* char */
    size_t longest;   /* bytes, of the lines read so far */
    size_t number;    /* of the line read last, from 1 */
    char what[4200];  /* where that is, for errors */
} ag_lines_t;

/** @param path  borrowed; NULL: standard input. */
ag_status_t ag_lines_open(const char *path, ag_lines_t *lines);

/**
 * The next line.
 * @param json_p  out: NULL behind the last line; else the caller's.
 * @return as ag_read_whole_file(); AG_ERR_FORMAT: an empty line, or not JSON.
 */
ag_status_t ag_lines_next(ag_lines_t *lines, ag_json_t **json_p);

/** Bytes that reading the last line took, at most, where what was made of it takes so many. */
uint64_t ag_lines_bytes(const ag_lines_t *lines, uint64_t made_bytes);

void ag_lines_close(ag_lines_t *lines);

/** Say that a text is not valid UTF-8, where it is not. */
void ag_warn_utf8(const char *what, const char *text, size_t n_bytes);
