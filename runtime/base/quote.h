/* What strangers wrote, in an error of one line. */
#pragma once

#include <stddef.h>

/* The beginning of a text from a file, fit to stand in an error: no control characters. */
typedef struct ag_quote {
    char text[201];
} ag_quote_t;

ag_quote_t ag_quote(const char *bytes, size_t n_bytes);

/** The same of a whole string; NULL is an empty one. */
ag_quote_t ag_quote_string(const char *text);
