/*
 * Added tokens, by the rules of Hugging Face's AddedVocabulary: of those that begin at a place the
 * longest, from left to right; the late ones (normalized) in what the others leave.
 */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

typedef struct cutting {
    const ag_tokenizer_t *tokenizer;
    unsigned flags; /* of encode */
    unsigned late;  /* AG_PIECE_LATE: those are looked for now; 0: the others */
    ag_between_fn_t between;
    void *arg;
    ag_array_t *ids;
} cutting_t;

/* The longest added token that stands at text; NULL: none. */
static const ag_added_t *added_at(const cutting_t *cutting, const char *text, size_t n_bytes)
{
    const ag_tokenizer_t *tokenizer = cutting->tokenizer;
    const uint32_t *from = &tokenizer->added_from[(unsigned char)text[0]];

    for (uint32_t i = from[0]; i < from[1]; i++) {
        const ag_added_t *added = &AG_ITEMS(&tokenizer->added, ag_added_t)[i];
        const ag_piece_t *piece = ag_piece_at(tokenizer, added->id);

        if (added->n_bytes <= n_bytes && (piece->flags & AG_PIECE_LATE) == cutting->late &&
            memcmp(text, ag_added_bytes(tokenizer, added), added->n_bytes) == 0) {
            return added;
        }
    }
    return NULL;
}

/* Bytes of the white space (Unicode's property) that stands at text; 0: none does. */
static size_t space_at(const char *text, size_t n_bytes)
{
    /* beside ASCII's: U+0085 U+00A0 U+1680 U+2000..200A U+2028 U+2029 U+202F U+205F U+3000 */
    static const char *const others[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                         "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                         "\xE2\x81\x9F", "\xE3\x80\x80"};
    const unsigned char *b = (const unsigned char *)text;

    if (n_bytes > 0 && (b[0] == ' ' || (b[0] >= '\t' && b[0] <= '\r'))) {
        return 1;
    }
    if (n_bytes >= 3 && b[0] == 0xE2 && b[1] == 0x80 && b[2] >= 0x80 && b[2] <= 0x8A) {
        return 3;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        size_t n = strlen(others[i]);

        if (n <= n_bytes && memcmp(text, others[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

/* Bytes of the white space that ends at text + end, not reaching before begin; 0: none does. */
static size_t space_before(const char *text, size_t begin, size_t end)
{
    for (size_t n = 1; n <= 3 && n <= end - begin; n++) {
        if (space_at(text + end - n, n) == n) {
            return n;
        }
    }
    return 0;
}

static ag_status_t cut(const cutting_t *cutting, const char *text, size_t n_bytes);

/* Text without added tokens of this kind: the late ones may still stand in it. */
static ag_status_t leave(const cutting_t *cutting, const char *text, size_t n_bytes)
{
    cutting_t late = *cutting;

    if (n_bytes == 0) {
        return AG_OK;
    }
    if (cutting->late) {
        return cutting->between(cutting->tokenizer, cutting->arg, text, n_bytes, cutting->ids);
    }
    late.late = AG_PIECE_LATE;
    return cut(&late, text, n_bytes);
}

static ag_status_t cut(const cutting_t *cutting, const char *text, size_t n_bytes)
{
    ag_status_t status = AG_OK;
    size_t done = 0, at = 0;

    while (at < n_bytes && status == AG_OK) {
        const ag_added_t *added = added_at(cutting, text + at, n_bytes - at);
        const ag_piece_t *piece;
        size_t end = at > done ? at : done;

        if (added == NULL) {
            at++;
            continue;
        }
        piece = ag_piece_at(cutting->tokenizer, added->id);
        at += added->n_bytes;
        if ((piece->flags & AG_PIECE_SPECIAL) && !(cutting->flags & AG_TOKEN_SPECIAL)) {
            continue; /* it stays text, and hides what else its text holds */
        }
        while ((piece->flags & AG_PIECE_L_STRIP) && space_before(text, done, end) > 0) {
            end -= space_before(text, done, end);
        }
        status = leave(cutting, text + done, end - done);
        /* one that would strip begins behind what was stripped before it: nothing may be left */
        if (status == AG_OK && (at > done || !(piece->flags & AG_PIECE_L_STRIP))) {
            status = ag_array_append(cutting->ids, &added->id, 1);
        }
        done = at;
        while ((piece->flags & AG_PIECE_R_STRIP) && space_at(text + done, n_bytes - done) > 0) {
            done += space_at(text + done, n_bytes - done);
        }
    }
    return status == AG_OK ? leave(cutting, text + done, n_bytes - done) : status;
}

ag_status_t ag_added_cut(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                         unsigned flags, ag_between_fn_t between, void *arg, ag_array_t *ids)
{
    cutting_t cutting = {
        .tokenizer = tokenizer, .flags = flags, .between = between, .arg = arg, .ids = ids};

    return cut(&cutting, text, n_bytes);
}
