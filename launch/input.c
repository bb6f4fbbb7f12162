#include "launch/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "launch/session.h"
#include "runtime/base/log.h"
#include "runtime/base/utf8.h"

/* No text for one run is larger; a device or a pipe may never end. */
enum { MOST_MIB = 256 };

void ag_input_count(ag_input_bytes_t *input, uint64_t held_bytes, uint64_t passing_bytes)
{
    uint64_t now = held_bytes + passing_bytes;

    input->held_bytes = held_bytes;
    input->most_bytes = now > input->most_bytes ? now : input->most_bytes;
}

static ag_status_t check_size(const char *what, size_t n_bytes)
{
    return n_bytes <= (size_t)MOST_MIB << 20
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "%s is larger than %d MiB: give it in parts", what,
                         MOST_MIB);
}

/* Why a read ended, if not at the end. */
static ag_status_t check_stream(FILE *file, const char *what)
{
    int error = errno;

    if (ag_session_is_cancelled(NULL)) {
        return ag_fail(AG_ERR_INTERRUPTED, "interrupted while reading %s", what);
    }
    return ferror(file) ? ag_fail(AG_ERR_IO, "reading %s: %s", what, strerror(error)) : AG_OK;
}

ag_status_t ag_read_whole_file(const char *path, char **bytes_p, size_t *n_bytes_p)
{
    FILE *file = fopen(path, "rb");
    ag_array_t bytes = AG_ARRAY(char);
    char block[65536];
    ag_status_t status = AG_OK;
    size_t n = 1;

    if (file == NULL) {
        return ag_fail_open(path);
    }
    while (status == AG_OK && n > 0) {
        n = fread(block, 1, sizeof(block), file);
        status = check_stream(file, path);
        if (status == AG_OK) {
            status = check_size(path, bytes.n_items + n);
        }
        if (status == AG_OK) {
            status = ag_array_append(&bytes, block, n);
        }
    }
    fclose(file);
    if (status == AG_OK) {
        status = ag_array_append(&bytes, "", 1);
    }
    if (status != AG_OK) {
        ag_array_fini(&bytes);
        return status;
    }
    *bytes_p = bytes.items;
    *n_bytes_p = bytes.n_items - 1;
    return AG_OK;
}

ag_status_t ag_lines_open(const char *path, ag_lines_t *lines)
{
    *lines = (ag_lines_t){
        .file = path != NULL ? fopen(path, "rb") : stdin, .path = path, .line = AG_ARRAY(char)};
    return lines->file != NULL ? AG_OK : ag_fail_open(path);
}

/* @param end_p out: there is no further line. */
static ag_status_t read_line(ag_lines_t *lines, bool *end_p)
{
    ag_status_t status = AG_OK;
    int c = 0;

    lines->line.n_items = 0;
    while (status == AG_OK && (c = getc_unlocked(lines->file)) != EOF && c != '\n') {
        status = ag_array_append(&lines->line, &(char){(char)c}, 1);
        if (status == AG_OK) {
            status = check_size(lines->what, lines->line.n_items);
        }
    }
    lines->longest = lines->longest > lines->line.n_items ? lines->longest : lines->line.n_items;
    *end_p = c == EOF && lines->line.n_items == 0;
    return status == AG_OK && c == EOF ? check_stream(lines->file, lines->what) : status;
}

/* What is no text is replaced, and said, as in any other text. */
static ag_status_t mend_line(ag_lines_t *lines)
{
    char *text = lines->line.items;
    size_t n_bytes = lines->line.n_items;

    if (!ag_utf8_valid(text, n_bytes)) {
        char *repaired;
        ag_status_t status;

        ag_warn_utf8(lines->what, text, n_bytes);
        status = ag_utf8_repair(text, n_bytes, &repaired, &n_bytes, NULL);
        if (status != AG_OK) {
            return status;
        }
        ag_array_fini(&lines->line);
        lines->line.items = text = repaired;
        lines->line.n_items = lines->line.capacity = n_bytes;
        lines->longest = lines->longest > 2 * n_bytes ? lines->longest : 2 * n_bytes;
    }
    if (ag_json_mend_escapes(text, n_bytes) > 0) {
        ag_log(AG_LOG_WARNING, "%s has half a surrogate pair: it is read as U+FFFD", lines->what);
    }
    return AG_OK;
}

ag_status_t ag_lines_next(ag_lines_t *lines, ag_json_t **json_p)
{
    const ag_array_t *line = &lines->line;
    ag_status_t status;
    bool end;

    *json_p = NULL;
    snprintf(lines->what, sizeof(lines->what), "%s, line %zu",
             lines->path != NULL ? lines->path : "standard input", ++lines->number);
    status = read_line(lines, &end);
    if (status != AG_OK || end) {
        return status;
    }
    if (line->n_items == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s is empty: each line is one JSON value", lines->what);
    }
    status = mend_line(lines);
    if (status == AG_OK) {
        status = ag_json_parse(line->items, line->n_items, lines->what, json_p);
    }
    return status == AG_ERR_FORMAT ? ag_fail(status, "%s: each line is one JSON value", ag_error())
                                   : status;
}

/* jansson holds a string twice while it parses it, and once after that. */
uint64_t ag_lines_bytes(const ag_lines_t *lines, uint64_t made_bytes)
{
    uint64_t n = lines->line.n_items;

    return lines->longest + n + (made_bytes > n ? made_bytes : n);
}

void ag_lines_close(ag_lines_t *lines)
{
    if (lines->path != NULL && lines->file != NULL) {
        fclose(lines->file);
    }
    ag_array_fini(&lines->line);
}

void ag_warn_utf8(const char *what, const char *text, size_t n_bytes)
{
    if (!ag_utf8_valid(text, n_bytes)) {
        ag_log(AG_LOG_WARNING, "%s is not valid UTF-8: what is not is read as U+FFFD", what);
    }
}
