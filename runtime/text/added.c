/*
 * Added tokens, by the rules of Hugging Face's AddedVocabulary: of those that begin at a place the
 * longest, from left to right.
 */
#include "runtime/text/tokenizer_priv.h"
#include "runtime/text/unicode_priv.h"

/* Does a word character stand beside it? */
static bool is_alone(const char *text, size_t n_bytes, size_t begin, size_t end)
{
    return !ag_unicode_ends_with_word(text, begin) &&
           !ag_unicode_begins_with_word(text + end, n_bytes - end);
}

/*
 * What a special token stands beside: OUTSIDE of literals; INSIDE of one, so that it is text;
 * ACROSS the edge of one, so that it is not there.
 */
typedef enum place { OUTSIDE, INSIDE, ACROSS } place_t;

static place_t place_of(const ag_text_literals_t *literals, size_t begin, size_t end)
{
    size_t low = 0, high = literals != NULL ? literals->n_spans : 0, n = high;
    size_t origin = literals != NULL ? literals->origin : 0;
    const ag_text_span_t *span;

    while (low < high) { /* the first span that ends behind the token's begin */
        size_t middle = low + (high - low) / 2;

        if (literals->spans[middle].end <= origin + begin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    span = low < n ? &literals->spans[low] : NULL;
    if (span == NULL || span->begin >= origin + end) {
        return OUTSIDE;
    }
    return span->begin <= origin + begin && origin + end <= span->end ? INSIDE : ACROSS;
}

ag_status_t ag_added_cut(const ag_tokenizer_t *tokenizer, const ag_trie_t *trie, const char *text,
                         size_t n_bytes, unsigned flags, const ag_text_literals_t *literals,
                         ag_between_fn_t between, void *arg, ag_array_t *ids)
{
    ag_status_t status = AG_OK;
    size_t done = 0, at = 0, length, n;

    for (; at < n_bytes && status == AG_OK; at += length) {
        uint32_t id = AG_NO_ID;
        size_t end = at > done ? at : done;
        unsigned marks;
        place_t place;

        length = ag_trie_longest(trie, text + at, n_bytes - at, &id);
        if (length == 0) {
            length = 1;
            continue;
        }
        marks = ag_piece_at(tokenizer, id)->flags;
        place = marks & AG_PIECE_SPECIAL ? place_of(literals, at, at + length) : OUTSIDE;
        if (place == ACROSS) {
            length = 1;
            continue;
        }
        if (((marks & AG_PIECE_SPECIAL) && !(flags & AG_TOKEN_SPECIAL)) || place == INSIDE ||
            ((marks & AG_PIECE_ALONE) && !is_alone(text, n_bytes, at, at + length))) {
            continue; /* it stays text, and hides what else its text holds */
        }
        while ((marks & AG_PIECE_L_STRIP) && (n = ag_unicode_space_before(text, done, end)) > 0) {
            end -= n;
        }
        status = end > done ? between(arg, text + done, end - done) : AG_OK;
        /* one that would strip begins behind what was stripped before it: nothing may be left */
        if (status == AG_OK && (at + length > done || !(marks & AG_PIECE_L_STRIP))) {
            status = ag_array_append(ids, &id, 1);
        }
        done = at + length;
        while ((marks & AG_PIECE_R_STRIP) &&
               (n = ag_unicode_space_at(text + done, n_bytes - done)) > 0) {
            done += n;
        }
    }
    return status == AG_OK && done < n_bytes ? between(arg, text + done, n_bytes - done) : status;
}
