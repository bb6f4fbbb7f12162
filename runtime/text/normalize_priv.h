/* What becomes of a text before it is cut into words: Hugging Face's normalizers, in order. */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_normal_kind {
    AG_NORMAL_NFC, /* the first four in the order of ag_unicode_form_t */
    AG_NORMAL_NFD,
    AG_NORMAL_NFKC,
    AG_NORMAL_NFKD,
    AG_NORMAL_LOWERCASE,
    AG_NORMAL_STRIP,            /* white space at the ends goes */
    AG_NORMAL_REPLACE,          /* each match of the pattern becomes the content */
    AG_NORMAL_PREPEND,          /* the content comes before a text that is not empty */
    AG_NORMAL_CHARSMAP,         /* SentencePiece's precompiled map, the longest match at a place */
    AG_NORMAL_CHARSMAP_BY_CHAR, /* the same map as Hugging Face's Precompiled reads it */
} ag_normal_kind_t;

typedef struct ag_normal_step {
    ag_normal_kind_t kind;
    bool literal;        /* REPLACE: the pattern is the text itself */
    bool left, right;    /* STRIP: which ends */
    const char *pattern; /* REPLACE: Oniguruma's syntax */
    const char *content; /* REPLACE, PREPEND; the bytes of a map */
    size_t n_content;
} ag_normal_step_t;

typedef struct ag_normalizer ag_normalizer_t;

enum { AG_MOST_NORMAL_STEPS = 16 };

/** As tokenizer.json has it. */
const char *ag_normal_kind_name(ag_normal_kind_t kind);

/**
 * @param path   the file that has the steps, which errors name; copied.
 * @param steps  (n) copied.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_FORMAT (a map), AG_ERR_UNSUPPORTED: an expression that is not
 * known or may match where there is no text, more content than any known step has.
 */
ag_status_t ag_normalizer_create(const char *path, const ag_normal_step_t *steps, size_t n,
                                 ag_normalizer_t **normalizer_p);
void ag_normalizer_destroy(ag_normalizer_t *normalizer); /* NULL is allowed */

/** The steps that it takes. */
const ag_normal_step_t *ag_normalizer_steps(const ag_normalizer_t *normalizer, size_t *n_p);
size_t ag_normalizer_bytes(const ag_normalizer_t *normalizer);
uint64_t ag_normalizer_fingerprint(const ag_normalizer_t *normalizer);

/* A text on its way, and what room that takes. */
typedef struct ag_normalized {
    const char *text; /* the text itself, or one of rooms */
    size_t n_bytes;
    ag_array_t rooms[2]; /* char */
    ag_array_t codes;    /* int32_t */
} ag_normalized_t;

#define AG_NORMALIZED                                                                              \
    ((ag_normalized_t){.rooms = {AG_ARRAY(char), AG_ARRAY(char)}, .codes = AG_ARRAY(int32_t)})
void ag_normalized_fini(ag_normalized_t *normalized);
uint64_t ag_normalized_bytes(const ag_normalized_t *normalized);

/**
 * @param normalizer  NULL: the text stays as it is.
 * @param continues   the text goes on from another: nothing comes before it.
 * @param normalized  in: rooms, kept from text to text; out: valid UTF-8.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED: an expression gives up on this text, or the text
 * grows more than a normalizer can mean.
 */
ag_status_t ag_normalize(const ag_normalizer_t *normalizer, const char *text, size_t n_bytes,
                         bool continues, ag_normalized_t *normalized);
