/* What the commands read besides the model: whole files, and lines of JSON. */
#pragma once

#include <stdio.h>

#include "runtime/base/array.h"
#include "runtime/base/json.h"

/**
 * A whole file, NUL-terminated.
 * @param bytes_p  out: free() it.
 * @return AG_OK; AG_ERR_IO; AG_ERR_INVALID: larger than any text that is meant; AG_ERR_INTERRUPTED;
 *         AG_ERR_NOMEM.
 */
ag_status_t ag_read_whole_file(const char *path, char **bytes_p, size_t *n_bytes_p);

/* A file of one JSON value a line. */
typedef struct ag_lines {
    FILE *file;
    const char *path; /* NULL: standard input */
    ag_array_t line;  /* char */
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

void ag_lines_close(ag_lines_t *lines);

/** Say that a text is not valid UTF-8, where it is not. */
void ag_warn_utf8(const char *what, const char *text, size_t n_bytes);
