/* From texts of tokens and merges to compact tables. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer_priv.h"

enum { MOST_FEW = 1024 };

/*
 * GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are the code
 * points from 256 on, in order (Radford et al. 2019, encoder.py). -1: the code point is none of it.
 */
static int byte_of(uint32_t code)
{
    bool printable = (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff);
    uint32_t rest = code - 256;

    if (printable && code != 0xad) {
        return (int)code;
    }
    if (code < 256 || rest > 67) {
        return -1;
    }
    return rest <= 0x20 ? (int)rest : rest == 67 ? 0xad : (int)(0x7f + rest - 0x21);
}

/*
 * Bytes that a text in the alphabet stands for, n_bytes at most; false where it is not in it. Its
 * code points take one byte or two in UTF-8.
 */
static bool to_bytes(const char *text, size_t n_bytes, char *bytes, size_t *n_p)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char lead = (unsigned char)text[i];
        uint32_t code = lead;
        int byte;

        if (lead >= 0x80) {
            unsigned char next = i + 1 < n_bytes ? (unsigned char)text[++i] : 0;

            if (lead < 0xc2 || lead > 0xdf || (next & 0xc0) != 0x80) {
                return false;
            }
            code = (lead & 31u) << 6 | (next & 63u);
        }
        byte = byte_of(code);
        if (byte < 0) {
            return false;
        }
        bytes[n++] = (char)byte;
    }
    *n_p = n;
    return true;
}

/*
 * A word, whose text is the last in the pool, becomes the bytes it stands for; one that stands for
 * none can never be made. The text of an added token stays in the pool beside them.
 */
static ag_status_t resolve(ag_tokenizer_t *tokenizer, const char *text, ag_piece_t *piece)
{
    ag_array_t *pool = &tokenizer->bytes;
    bool added = piece->flags & AG_PIECE_ADDED;
    size_t at = added ? pool->n_items : piece->offset, n = 0;
    ag_status_t status;
    char *bytes;

    if (piece->n_bytes == 0 || !(piece->flags & AG_PIECE_WORD)) {
        piece->flags &= ~(unsigned)AG_PIECE_WORD;
        return AG_OK;
    }
    status = added ? ag_array_append(pool, text, piece->n_bytes) : AG_OK;
    if (status != AG_OK) {
        return status;
    }
    bytes = AG_ITEMS(pool, char) + at;
    if (!to_bytes(text, piece->n_bytes, bytes, &n)) {
        piece->flags &= ~(unsigned)AG_PIECE_WORD;
        memcpy(bytes, text, piece->n_bytes);
        pool->n_items = added ? at : pool->n_items;
    } else if (added && n == piece->n_bytes && memcmp(text, bytes, n) == 0) {
        pool->n_items = at;
    } else {
        piece->offset = (uint32_t)at;
        piece->n_bytes = (uint32_t)n;
        pool->n_items = at + n;
    }
    return AG_OK;
}

ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token)
{
    uint32_t id = (uint32_t)tokenizer->pieces.n_items;
    ag_piece_t piece = {.offset = (uint32_t)tokenizer->bytes.n_items, .flags = token->flags};
    ag_added_t added = {.id = id, .offset = piece.offset};
    ag_status_t status;

    /* twice: as text and as bytes */
    if (token->n_bytes > (UINT32_MAX - tokenizer->bytes.n_items) / 2 || id >= INT32_MAX) {
        return ag_fail(AG_ERR_UNSUPPORTED, "a vocabulary of more than 4 GiB");
    }
    piece.n_bytes = token->text != NULL ? (uint32_t)token->n_bytes : 0;
    added.n_bytes = piece.n_bytes;
    status = ag_array_append(&tokenizer->bytes, token->text, piece.n_bytes);
    /* what is no UTF-8 never stands in text, and must not cut a character of it */
    if (status == AG_OK && (piece.flags & AG_PIECE_ADDED) && piece.n_bytes > 0 &&
        ag_utf8_valid(token->text, token->n_bytes)) {
        status = ag_array_append(&tokenizer->added, &added, 1);
    }
    if (status == AG_OK) {
        status = resolve(tokenizer, token->text, &piece);
    }
    return status == AG_OK ? ag_array_append(&tokenizer->pieces, &piece, 1) : status;
}

/* By first byte; then the longest first, so that the first that fits at a place is taken. */
static int compare_added(const void *a, const void *b, void *arg)
{
    const ag_added_t *x = a, *y = b;
    unsigned char bx = (unsigned char)ag_added_bytes(arg, x)[0];
    unsigned char by = (unsigned char)ag_added_bytes(arg, y)[0];

    if (bx != by) {
        return bx < by ? -1 : 1;
    }
    return x->n_bytes != y->n_bytes ? (x->n_bytes < y->n_bytes ? 1 : -1)
                                    : (x->id > y->id) - (x->id < y->id);
}

static void sort_added(ag_tokenizer_t *tokenizer)
{
    const ag_added_t *added = tokenizer->added.items;
    size_t n = tokenizer->added.n_items;
    uint32_t at = 0;

    if (n > 0) {
        qsort_r(tokenizer->added.items, n, sizeof(ag_added_t), compare_added, tokenizer);
    }
    for (int byte = 0; byte <= 256; byte++) {
        tokenizer->added_from[byte] = at;
        while (at < n && (unsigned char)ag_added_bytes(tokenizer, &added[at])[0] == byte) {
            at++;
        }
    }
}

/* Slots for n items, two thirds full at most. */
static ag_status_t make_slots(size_t n, uint32_t **slots_p, size_t *n_slots_p)
{
    size_t n_slots = 16;

    while (n_slots < n + n / 2 + 1) {
        n_slots *= 2;
    }
    *slots_p = malloc(n_slots * sizeof(**slots_p));
    if (*slots_p == NULL) {
        return ag_fail_nomem("making a tokenizer", n_slots * sizeof(**slots_p));
    }
    for (size_t i = 0; i < n_slots; i++) {
        (*slots_p)[i] = AG_NO_ID;
    }
    *n_slots_p = n_slots;
    return AG_OK;
}

/* Give back what doubling took too much; where that fails, nothing is lost. */
static void shrink(ag_array_t *array)
{
    void *items =
        array->n_items > 0 ? realloc(array->items, array->n_items * array->item_bytes) : NULL;

    if (items != NULL) {
        array->items = items;
        array->capacity = array->n_items;
    }
}

/* Where the search for a word begins. */
static size_t word_home(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes)
{
    return ag_hash_mix(ag_hash_bytes(AG_HASH_SEED, bytes, n_bytes)) & (tokenizer->n_words - 1);
}

static size_t word_slot(const ag_tokenizer_t *tokenizer, size_t home, const char *bytes,
                        size_t n_bytes)
{
    for (size_t at = home;; at = (at + 1) & (tokenizer->n_words - 1)) {
        uint32_t id = tokenizer->words[at];
        const ag_piece_t *piece;

        if (id == AG_NO_ID) {
            return at;
        }
        piece = ag_piece_at(tokenizer, id);
        if (piece->n_bytes == n_bytes &&
            memcmp(ag_piece_bytes(tokenizer, piece), bytes, n_bytes) == 0) {
            return at;
        }
    }
}

uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes)
{
    size_t home = word_home(tokenizer, bytes, n_bytes);

    return n_bytes == 0 ? AG_NO_ID : tokenizer->words[word_slot(tokenizer, home, bytes, n_bytes)];
}

/* Words [begin, end) to their slots: of twins the first. Slots are far apart: all are fetched
 * first.
 */
static void enter_words(ag_tokenizer_t *tokenizer, uint32_t begin, uint32_t end)
{
    ag_piece_t *pieces = AG_ITEMS(&tokenizer->pieces, ag_piece_t);
    size_t homes[AG_BUILD_AT_ONCE];

    for (uint32_t id = begin; id < end; id++) {
        homes[id - begin] =
            word_home(tokenizer, ag_piece_bytes(tokenizer, &pieces[id]), pieces[id].n_bytes);
        __builtin_prefetch(&tokenizer->words[homes[id - begin]], 1);
    }
    for (uint32_t id = begin; id < end; id++) {
        size_t at;

        if (!(pieces[id].flags & AG_PIECE_WORD)) {
            continue;
        }
        at = word_slot(tokenizer, homes[id - begin], ag_piece_bytes(tokenizer, &pieces[id]),
                       pieces[id].n_bytes);
        if (tokenizer->words[at] == AG_NO_ID) {
            tokenizer->words[at] = id;
        } else {
            pieces[id].flags |= AG_PIECE_TWIN;
        }
    }
}

ag_status_t ag_build_words(ag_tokenizer_t *tokenizer, size_t n_merges)
{
    uint32_t n_tokens = (uint32_t)tokenizer->pieces.n_items;
    ag_status_t status = make_slots(n_tokens, &tokenizer->words, &tokenizer->n_words);

    if (status == AG_OK) {
        status = make_slots(n_merges, &tokenizer->pairs, &tokenizer->n_pairs);
    }
    if (status != AG_OK) {
        return status;
    }
    shrink(&tokenizer->pieces);
    shrink(&tokenizer->bytes);
    for (uint32_t id = 0; id < n_tokens; id += AG_BUILD_AT_ONCE) {
        uint32_t left = n_tokens - id;

        enter_words(tokenizer, id, id + (left < AG_BUILD_AT_ONCE ? left : AG_BUILD_AT_ONCE));
    }
    for (int byte = 0; byte < 256; byte++) {
        tokenizer->byte_ids[byte] = ag_word_id(tokenizer, &(char){(char)byte}, 1);
    }
    sort_added(tokenizer);
    return AG_OK;
}

/* Room for n_bytes: `few` where they fit, else memory to be freed; NULL where there is none. */
static char *take_room(char few[MOST_FEW], size_t n_bytes)
{
    return n_bytes <= MOST_FEW ? few : malloc(n_bytes);
}

/* The word of a text in the alphabet. */
static uint32_t alphabet_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    char few[MOST_FEW], *bytes = take_room(few, n_bytes);
    uint32_t id = AG_NO_ID;
    size_t n;

    if (bytes != NULL && to_bytes(text, n_bytes, bytes, &n)) {
        id = ag_word_id(tokenizer, bytes, n);
    }
    if (bytes != few) {
        free(bytes);
    }
    return id;
}

uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < tokenizer->added.n_items; i++) {
        const ag_added_t *added = &AG_ITEMS(&tokenizer->added, ag_added_t)[i];

        if (added->n_bytes == n_bytes &&
            memcmp(ag_added_bytes(tokenizer, added), text, n_bytes) == 0) {
            return added->id;
        }
    }
    return alphabet_id(tokenizer, text, n_bytes);
}

static size_t pair_home(const ag_tokenizer_t *tokenizer, uint32_t left, uint32_t right)
{
    return ag_hash_mix((uint64_t)left << 32 | right) & (tokenizer->n_pairs - 1);
}

size_t ag_pair_slot(const ag_tokenizer_t *tokenizer, uint32_t left, uint32_t right)
{
    const ag_merge_t *merges = AG_ITEMS(&tokenizer->merges, ag_merge_t);

    for (size_t at = pair_home(tokenizer, left, right);; at = (at + 1) & (tokenizer->n_pairs - 1)) {
        uint32_t rank = tokenizer->pairs[at];

        if (rank == AG_NO_ID || (merges[rank].left == left && merges[rank].right == right)) {
            return at;
        }
    }
}

/* A word that is looked for. */
typedef struct sought {
    const char *bytes;
    size_t n_bytes, home;
    uint32_t id;
} sought_t;

/* Look for many words: what one search waits for is fetched while the others go on. */
static void seek(const ag_tokenizer_t *tokenizer, sought_t *sought, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sought[i].home = word_home(tokenizer, sought[i].bytes, sought[i].n_bytes);
        __builtin_prefetch(&tokenizer->words[sought[i].home]);
    }
    for (size_t i = 0; i < n; i++) {
        sought[i].id = tokenizer->words[sought[i].home];
        if (sought[i].id != AG_NO_ID) {
            __builtin_prefetch(ag_piece_at(tokenizer, sought[i].id));
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (sought[i].id != AG_NO_ID) {
            __builtin_prefetch(ag_piece_bytes(tokenizer, ag_piece_at(tokenizer, sought[i].id)));
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = word_slot(tokenizer, sought[i].home, sought[i].bytes, sought[i].n_bytes);

        sought[i].id = sought[i].n_bytes == 0 ? AG_NO_ID : tokenizer->words[at];
    }
}

/* Merges mostly stand in the order of the words they make: the next word is looked at first. */
static uint32_t joined_id(const ag_tokenizer_t *tokenizer, uint32_t next, const char *bytes,
                          size_t n_bytes)
{
    if (next < tokenizer->pieces.n_items) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, next);

        if ((piece->flags & (AG_PIECE_WORD | AG_PIECE_TWIN)) == AG_PIECE_WORD &&
            piece->n_bytes == n_bytes &&
            memcmp(ag_piece_bytes(tokenizer, piece), bytes, n_bytes) == 0) {
            return next;
        }
    }
    return ag_word_id(tokenizer, bytes, n_bytes);
}

/* The words of merges. @param bytes  room for their texts: the words' bytes. */
static void find_merges(const ag_tokenizer_t *tokenizer, const ag_merge_text_t *texts, size_t n,
                        char *bytes, ag_merge_t *merges)
{
    size_t n_known = tokenizer->merges.n_items;
    uint32_t next = n_known > 0 ? AG_ITEMS(&tokenizer->merges, ag_merge_t)[n_known - 1].id + 1 : 0;
    sought_t sought[2 * AG_BUILD_AT_ONCE] = {0};

    for (size_t i = 0; i < n; i++) {
        sought_t *left = &sought[2 * i], *right = left + 1;

        left->bytes = right->bytes = bytes;
        if (to_bytes(texts[i].left, texts[i].n_left, bytes, &left->n_bytes)) {
            bytes += left->n_bytes;
            right->bytes = bytes;
            if (to_bytes(texts[i].right, texts[i].n_right, bytes, &right->n_bytes)) {
                bytes += right->n_bytes;
            }
        }
    }
    seek(tokenizer, sought, 2 * n);
    for (size_t i = 0; i < n; i++) {
        const sought_t *left = &sought[2 * i], *right = left + 1;

        merges[i] = (ag_merge_t){.left = left->id, .right = right->id, .id = AG_NO_ID};
        if (left->id != AG_NO_ID && right->id != AG_NO_ID) {
            merges[i].id = joined_id(tokenizer, next, left->bytes, left->n_bytes + right->n_bytes);
            next = merges[i].id + 1;
            __builtin_prefetch(&tokenizer->pairs[pair_home(tokenizer, left->id, right->id)], 1);
        }
    }
}

static ag_status_t enter_merge(ag_tokenizer_t *tokenizer, const ag_merge_t *merge, bool last_counts)
{
    size_t at = ag_pair_slot(tokenizer, merge->left, merge->right);
    uint32_t rank = (uint32_t)tokenizer->merges.n_items;
    ag_status_t status;

    if (tokenizer->pairs[at] != AG_NO_ID && !last_counts) {
        return AG_OK;
    }
    status = ag_array_append(&tokenizer->merges, merge, 1);
    if (status == AG_OK) {
        tokenizer->pairs[at] = rank;
    }
    return status;
}

ag_status_t ag_build_merges(ag_tokenizer_t *tokenizer, const ag_merge_text_t *texts, size_t n,
                            bool *known)
{
    ag_merge_t merges[AG_BUILD_AT_ONCE];
    char few[MOST_FEW], *bytes;
    ag_status_t status = AG_OK;
    size_t n_bytes = 0;

    for (size_t i = 0; i < n; i++) {
        n_bytes += texts[i].n_left + texts[i].n_right;
    }
    bytes = take_room(few, n_bytes);
    if (bytes == NULL) {
        return ag_fail_nomem("reading merges", n_bytes);
    }
    find_merges(tokenizer, texts, n, bytes, merges);
    if (bytes != few) {
        free(bytes);
    }
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        known[i] = merges[i].id != AG_NO_ID;
        if (known[i]) {
            status = enter_merge(tokenizer, &merges[i], texts[i].last_counts);
        }
    }
    return status;
}

void ag_build_end(ag_tokenizer_t *tokenizer, int64_t id)
{
    if (id >= 0 && id < (int64_t)ag_tokenizer_size(tokenizer)) {
        AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id].flags |= AG_PIECE_END;
    }
}
