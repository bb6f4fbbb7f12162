/* UTF-8 as text from strangers needs it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

/** True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool ag_utf8_valid(const char *bytes, size_t n_bytes);

/**
 * Length of the well-formed sequence at bytes, 0 when there is none. When there is none,
 * *bad_bytes_p is the length of the maximal ill-formed subpart (>= 1) that one U+FFFD replaces
 * (Unicode 15, section 3.9); *short_p says that more bytes could still complete it.
 */
size_t ag_utf8_sequence(const char *bytes, size_t n_bytes, size_t *bad_bytes_p, bool *short_p);

/**
 * Replace each maximal ill-formed subpart by U+FFFD.
 * @param text_p  out: free() it; NUL-terminated, n_text_p bytes (3 x n_bytes at most).
 * @param n_replaced_p  out: how many were replaced; may be NULL.
 */
ag_status_t ag_utf8_repair(const char *bytes, size_t n_bytes, char **text_p, size_t *n_text_p,
                           size_t *n_replaced_p);
