/* What Unicode says of characters, and its normalization forms. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_unicode_form {
    AG_UNICODE_NFC,
    AG_UNICODE_NFD,
    AG_UNICODE_NFKC,
    AG_UNICODE_NFKD,
} ag_unicode_form_t;

/** True where the form of this text is itself, as is seen at a glance; false says nothing. */
bool ag_unicode_is_formed(ag_unicode_form_t form, const char *text, size_t n_bytes);

/**
 * Append the form of valid UTF-8 (Unicode Standard Annex 15). n log n in runs of marks.
 * @param codes  int32_t: room for its code points, kept from text to text.
 */
ag_status_t ag_unicode_form(ag_unicode_form_t form, const char *text, size_t n_bytes,
                            ag_array_t *codes, ag_array_t *formed);

/** Append valid UTF-8 in lower case, character by character. */
ag_status_t ag_unicode_lower(const char *text, size_t n_bytes, ag_array_t *lower);

/** Bytes of the white space (the property White_Space) that stands at text; 0: none does. */
size_t ag_unicode_space_at(const char *text, size_t n_bytes);

/** Bytes of the white space that ends at text + end, not reaching before begin; 0: none does. */
size_t ag_unicode_space_before(const char *text, size_t begin, size_t end);

/** Is the character that begins, or ends, a text one of words, as the crate regex has \w? */
bool ag_unicode_begins_with_word(const char *text, size_t n_bytes);
bool ag_unicode_ends_with_word(const char *text, size_t n_bytes);

/** Bytes of the character at a place in valid UTF-8. */
static inline size_t ag_unicode_length(const char *text)
{
    unsigned char lead = (unsigned char)text[0];

    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}
