/* BPE by scores as BPE by merges, and the reverse. */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/export_priv.h"
#include "runtime/text/unicode_priv.h"

typedef struct scored {
    double score;
    uint32_t id;
} scored_t;

static int compare_scored(const void *a, const void *b)
{
    const scored_t *x = a, *y = b;

    return x->score != y->score ? (x->score < y->score ? 1 : -1)
                                : (x->id > y->id) - (x->id < y->id);
}

/* Does a key stand for itself where merges are texts with a space between? */
static bool has_space(const char *key, size_t n)
{
    return memchr(key, ' ', n) != NULL;
}

/* "left right" for each cut of a word into two, the longest left first. */
static ag_status_t append_cuts(const ag_tokenizer_t *tokenizer, uint32_t id, ag_array_t *text,
                               ag_json_t *merges)
{
    const ag_piece_t *piece = ag_piece_at(tokenizer, id);
    const char *key = ag_piece_key(tokenizer, piece);
    ag_status_t status = AG_OK;

    for (size_t at = piece->n_key - 1; at > 0 && status == AG_OK; at--) {
        if (((unsigned char)key[at] & 0xc0) == 0x80 || ag_word_id(tokenizer, key, at) == AG_NO_ID ||
            ag_word_id(tokenizer, key + at, piece->n_key - at) == AG_NO_ID) {
            continue;
        }
        text->n_items = 0;
        status = ag_array_append(text, key, at);
        if (status == AG_OK) {
            status = ag_array_append(text, " ", 1);
        }
        if (status == AG_OK) {
            status = ag_array_append(text, key + at, piece->n_key - at);
        }
        if (status == AG_OK) {
            ag_json_append(merges, ag_json_new_string(text->items, text->n_items));
        }
    }
    return status;
}

ag_status_t ag_merges_to_json(const ag_tokenizer_t *tokenizer, ag_json_t **merges_p)
{
    ag_array_t words = AG_ARRAY(scored_t), text = AG_ARRAY(char);
    ag_json_t *merges = ag_json_new_array();
    ag_status_t status = AG_OK;

    for (uint32_t id = 0; id < tokenizer->pieces.n_items && status == AG_OK; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        scored_t word = {.score = AG_ITEMS(&tokenizer->scores, double)[id], .id = id};

        if (piece->n_key > 1 && !(piece->flags & AG_PIECE_TWIN) &&
            !has_space(ag_piece_key(tokenizer, piece), piece->n_key)) {
            status = ag_array_append(&words, &word, 1);
        }
    }
    if (words.n_items > 0) {
        qsort(words.items, words.n_items, sizeof(scored_t), compare_scored);
    }
    for (size_t i = 0; i < words.n_items && status == AG_OK; i++) {
        status = append_cuts(tokenizer, AG_ITEMS(&words, scored_t)[i].id, &text, merges);
    }
    ag_array_fini(&words);
    ag_array_fini(&text);
    if (status != AG_OK) {
        ag_json_destroy(merges);
        return status;
    }
    *merges_p = merges;
    return AG_OK;
}

static ag_status_t refuse(const ag_tokenizer_t *tokenizer, const char *what, uint32_t id)
{
    const ag_piece_t *piece = ag_piece_at(tokenizer, id);

    return ag_fail(AG_ERR_UNSUPPORTED,
                   "GGUF files have scores in place of merges, which cannot say that %s \"%s\"",
                   what, ag_quote(ag_piece_key(tokenizer, piece), piece->n_key).text);
}

/* By scores whatever makes a word is merged to it: so must the merges have every cut of it. */
static ag_status_t check_cuts(const ag_tokenizer_t *tokenizer, const bool *is_word, uint32_t id)
{
    const ag_piece_t *piece = ag_piece_at(tokenizer, id);
    const char *key = ag_piece_key(tokenizer, piece);

    for (size_t at = 1; at < piece->n_key; at++) {
        uint32_t left, right;

        if (((unsigned char)key[at] & 0xc0) == 0x80) {
            continue;
        }
        left = ag_word_id(tokenizer, key, at);
        right = ag_word_id(tokenizer, key + at, piece->n_key - at);
        if (left != AG_NO_ID && right != AG_NO_ID && is_word[left] && is_word[right] &&
            tokenizer->pairs[ag_pair_slot(tokenizer, left, right)] == AG_NO_ID) {
            return refuse(tokenizer, "not every two tokens that make it become", id);
        }
    }
    return AG_OK;
}

ag_status_t ag_merges_to_scores(const ag_tokenizer_t *tokenizer, const bool *is_word, float *scores)
{
    const ag_merge_t *merges = AG_ITEMS(&tokenizer->merges, ag_merge_t);
    uint32_t n = (uint32_t)tokenizer->pieces.n_items, last = AG_NO_ID, order = 0;
    bool *is_made = calloc(n > 0 ? n : 1, sizeof(*is_made));
    ag_status_t status = AG_OK;

    if (is_made == NULL) {
        return ag_fail_nomem("converting a tokenizer", n);
    }
    for (size_t rank = 0; rank < tokenizer->merges.n_items && status == AG_OK; rank++) {
        const ag_merge_t *merge = &merges[rank];
        bool counts = tokenizer->pairs[ag_pair_slot(tokenizer, merge->left, merge->right)] == rank;

        if (!counts || !is_word[merge->left] || !is_word[merge->right] || !is_word[merge->id]) {
            continue;
        }
        if (merge->id != last && is_made[merge->id]) {
            status = refuse(tokenizer, "other merges come between those that make", merge->id);
        }
        if (!is_made[merge->id]) {
            scores[merge->id] = -(float)order++;
        }
        is_made[merge->id] = true;
        last = merge->id;
    }
    for (uint32_t id = 0; id < n && status == AG_OK; id++) {
        if (is_word[id] && ag_piece_at(tokenizer, id)->n_key > 0) {
            status = check_cuts(tokenizer, is_word, id);
        }
        if (!is_made[id] && is_word[id]) {
            scores[id] = -(float)order++; /* of characters: never looked at */
        }
    }
    free(is_made);
    return status;
}
