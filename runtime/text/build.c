/* From texts of tokens to compact tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer_priv.h"

enum { MOST_FEW = 1024 };

/*
 * A text in the byte alphabet, the last in the pool, becomes the bytes it stands for; a word that
 * stands for none can never be made. The text of an added token stays in the pool beside them.
 */
static ag_status_t resolve_bytes(ag_tokenizer_t *tokenizer, const char *text, ag_piece_t *piece)
{
    ag_array_t *pool = &tokenizer->bytes;
    bool added = piece->flags & AG_PIECE_ADDED;
    size_t at = added ? pool->n_items : piece->offset, n = 0;
    ag_status_t status;
    char *bytes;

    status = added ? ag_array_append(pool, text, piece->n_bytes) : AG_OK;
    if (status != AG_OK) {
        return status;
    }
    bytes = AG_ITEMS(pool, char) + at;
    if (!ag_alphabet_bytes(text, piece->n_bytes, bytes, &n)) {
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
    piece->key = piece->offset;
    piece->n_key = piece->flags & AG_PIECE_WORD ? piece->n_bytes : 0;
    return AG_OK;
}

/* A text as it is decoded, which is appended to the pool where that is another. */
static ag_status_t decode_text(ag_tokenizer_t *tokenizer, const char *text, ag_piece_t *piece)
{
    const ag_decoder_t *decoder = &tokenizer->decoder;
    size_t n_from = strlen(decoder->from), n_to = strlen(decoder->to), done = 0;
    bool may_name = decoder->has_bytes || (piece->flags & AG_PIECE_BYTE);
    int byte = may_name ? ag_byte_named(text, piece->n_bytes) : -1;
    ag_array_t *pool = &tokenizer->bytes;
    size_t begin = pool->n_items, n_bytes = piece->n_bytes;
    ag_status_t status = AG_OK;

    if (byte >= 0) {
        char one = (char)byte;

        status = ag_array_append(pool, &one, 1);
        piece->offset = (uint32_t)begin;
        piece->n_bytes = 1;
        return status;
    }
    for (size_t at = 0; n_from > 0 && at + n_from <= n_bytes && status == AG_OK;) {
        if (memcmp(text + at, decoder->from, n_from) != 0) {
            at++;
            continue;
        }
        status = ag_array_append(pool, text + done, at - done);
        if (status == AG_OK) {
            status = ag_array_append(pool, decoder->to, n_to);
        }
        done = at += n_from;
    }
    if (status == AG_OK && done > 0) {
        status = ag_array_append(pool, text + done, n_bytes - done);
        piece->offset = (uint32_t)begin;
        piece->n_bytes = (uint32_t)(pool->n_items - begin);
    }
    return status;
}

ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token)
{
    enum { MOST_COPIES = 2 + 16 }; /* as text and as decoded, where each byte may become 16 */
    uint32_t id = (uint32_t)tokenizer->pieces.n_items;
    ag_piece_t piece = {.offset = (uint32_t)tokenizer->bytes.n_items, .flags = token->flags};
    ag_added_t added = {.id = id, .offset = piece.offset};
    ag_status_t status;

    if (token->n_bytes > (UINT32_MAX - tokenizer->bytes.n_items) / MOST_COPIES || id >= INT32_MAX) {
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
    if (piece.n_bytes == 0) {
        piece.flags &= ~(unsigned)AG_PIECE_WORD;
    } else if (status == AG_OK && tokenizer->model != AG_MODEL_BYTES) {
        piece.key = piece.offset;
        piece.n_key = piece.flags & AG_PIECE_WORD ? piece.n_bytes : 0;
        status = decode_text(tokenizer, token->text, &piece);
    } else if (status == AG_OK && (piece.flags & (AG_PIECE_WORD | AG_PIECE_BYTE))) {
        status = resolve_bytes(tokenizer, token->text, &piece);
    }
    if (piece.n_key > tokenizer->longest) {
        tokenizer->longest = piece.n_key;
    }
    return status == AG_OK ? ag_array_append(&tokenizer->pieces, &piece, 1) : status;
}

/* A late token is decoded as it was normalized (tokenizers 0.23). */
static ag_status_t decode_late(ag_tokenizer_t *tokenizer, uint32_t id, const char *text,
                               size_t n_bytes)
{
    ag_piece_t *piece = &AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id];
    size_t at = tokenizer->bytes.n_items, n;
    ag_status_t status = ag_array_append(&tokenizer->bytes, text, n_bytes);

    if (status != AG_OK) {
        return status;
    }
    piece->offset = (uint32_t)at;
    piece->n_bytes = (uint32_t)n_bytes;
    if (tokenizer->model != AG_MODEL_BYTES) {
        return decode_text(tokenizer, text, piece);
    }
    if (ag_alphabet_bytes(text, n_bytes, AG_ITEMS(&tokenizer->bytes, char) + at, &n)) {
        piece->n_bytes = (uint32_t)n;
    } else {
        memcpy(AG_ITEMS(&tokenizer->bytes, char) + at, text, n_bytes);
    }
    return AG_OK;
}

/* A trie of the early or the late added tokens, as they stand in text. */
static ag_status_t find_added(ag_tokenizer_t *tokenizer, unsigned late, ag_trie_t *trie)
{
    ag_array_t texts = AG_ARRAY(ag_trie_text_t), keys = AG_ARRAY(char);
    ag_normalized_t normalized = AG_NORMALIZED;
    ag_status_t status = AG_OK;
    size_t at = 0;

    for (size_t i = 0; i < tokenizer->added.n_items && status == AG_OK; i++) {
        const ag_added_t *added = &AG_ITEMS(&tokenizer->added, ag_added_t)[i];
        ag_trie_text_t text = {.value = added->id};

        if ((ag_piece_at(tokenizer, added->id)->flags & AG_PIECE_LATE) != late) {
            continue;
        }
        status = ag_normalize(late ? tokenizer->normalizer : NULL, ag_added_bytes(tokenizer, added),
                              added->n_bytes, false, &normalized);
        if (status == AG_OK && normalized.n_bytes > 0) {
            text.n_bytes = normalized.n_bytes;
            status = ag_array_append(&keys, normalized.text, normalized.n_bytes);
        }
        if (status == AG_OK && normalized.n_bytes > 0) {
            status = ag_array_append(&texts, &text, 1);
        }
        if (status == AG_OK && normalized.text != ag_added_bytes(tokenizer, added)) {
            status = decode_late(tokenizer, added->id, normalized.text, normalized.n_bytes);
        }
    }
    for (size_t i = 0; i < texts.n_items; i++) {
        ag_trie_text_t *text = &AG_ITEMS(&texts, ag_trie_text_t)[i];

        text->bytes = AG_ITEMS(&keys, char) + at;
        at += text->n_bytes;
    }
    if (status == AG_OK) {
        status = ag_trie_build(trie, texts.items, texts.n_items);
    }
    ag_normalized_fini(&normalized);
    ag_array_fini(&texts);
    ag_array_fini(&keys);
    return status;
}

/* Slots for n items, two thirds full at most. */
ag_status_t ag_build_slots(size_t n, uint32_t **slots_p, size_t *n_slots_p)
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
size_t ag_word_home(const ag_tokenizer_t *tokenizer, const char *key, size_t n_key)
{
    return ag_hash_mix(ag_hash_bytes(AG_HASH_SEED, key, n_key)) & (tokenizer->n_words - 1);
}

size_t ag_word_slot(const ag_tokenizer_t *tokenizer, size_t home, const char *key, size_t n_key)
{
    for (size_t at = home;; at = (at + 1) & (tokenizer->n_words - 1)) {
        uint32_t id = tokenizer->words[at];
        const ag_piece_t *piece;

        if (id == AG_NO_ID) {
            return at;
        }
        piece = ag_piece_at(tokenizer, id);
        if (piece->n_key == n_key && memcmp(ag_piece_key(tokenizer, piece), key, n_key) == 0) {
            return at;
        }
    }
}

uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *key, size_t n_key)
{
    size_t home = ag_word_home(tokenizer, key, n_key);

    return n_key == 0 ? AG_NO_ID : tokenizer->words[ag_word_slot(tokenizer, home, key, n_key)];
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
            ag_word_home(tokenizer, ag_piece_key(tokenizer, &pieces[id]), pieces[id].n_key);
        __builtin_prefetch(&tokenizer->words[homes[id - begin]], 1);
    }
    for (uint32_t id = begin; id < end; id++) {
        size_t at;

        if (!(pieces[id].flags & AG_PIECE_WORD)) {
            continue;
        }
        at = ag_word_slot(tokenizer, homes[id - begin], ag_piece_key(tokenizer, &pieces[id]),
                          pieces[id].n_key);
        if (tokenizer->words[at] == AG_NO_ID) {
            tokenizer->words[at] = id;
        } else {
            pieces[id].flags |= AG_PIECE_TWIN;
        }
    }
}

/* Where the bytes of a text without words go. */
static void find_bytes(ag_tokenizer_t *tokenizer)
{
    char name[8];

    for (int byte = 0; byte < 256; byte++) {
        if (tokenizer->model == AG_MODEL_BYTES) {
            tokenizer->byte_ids[byte] = ag_word_id(tokenizer, &(char){(char)byte}, 1);
        } else if (tokenizer->falls_back) {
            snprintf(name, sizeof(name), "<0x%02X>", byte);
            tokenizer->byte_ids[byte] = ag_word_id(tokenizer, name, 6);
        }
    }
}

/*
 * Merging is done word by word where no word can be made across a space: a metaspace is a word, so
 * that what comes before it is complete, and no word has it behind the byte that it stands behind.
 */
static void find_bridges(ag_tokenizer_t *tokenizer)
{
    size_t n = strlen(AG_METASPACE);

    tokenizer->cuts_at_spaces =
        (tokenizer->model == AG_MODEL_MERGES || tokenizer->model == AG_MODEL_SCORES) &&
        !tokenizer->ignore_merges && ag_word_id(tokenizer, AG_METASPACE, n) != AG_NO_ID;
    for (uint32_t id = 0; tokenizer->cuts_at_spaces && id < tokenizer->pieces.n_items; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        const char *key = ag_piece_key(tokenizer, piece);

        for (uint32_t at = 1; at + n <= piece->n_key; at++) {
            if (memcmp(key + at, AG_METASPACE, n) == 0) {
                tokenizer->bridges[(unsigned char)key[at - 1]] = true;
            }
        }
    }
}

/* Unigram's words, to be looked for at a place all at once. */
static ag_status_t make_trie(ag_tokenizer_t *tokenizer)
{
    ag_array_t texts = AG_ARRAY(ag_trie_text_t);
    ag_status_t status = AG_OK;

    for (uint32_t id = 0; id < tokenizer->pieces.n_items && status == AG_OK; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        ag_trie_text_t text = {
            .bytes = ag_piece_key(tokenizer, piece), .n_bytes = piece->n_key, .value = id};

        status = piece->n_key > 0 ? ag_array_append(&texts, &text, 1) : AG_OK;
    }
    if (status == AG_OK) {
        status = ag_trie_build(&tokenizer->trie, texts.items, texts.n_items);
    }
    ag_array_fini(&texts);
    return status;
}

ag_status_t ag_build_words(ag_tokenizer_t *tokenizer, size_t n_merges)
{
    uint32_t n_tokens = (uint32_t)tokenizer->pieces.n_items;
    ag_status_t status = ag_build_slots(n_tokens, &tokenizer->words, &tokenizer->n_words);

    if (status == AG_OK) {
        status = ag_build_slots(n_merges, &tokenizer->pairs, &tokenizer->n_pairs);
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
    find_bytes(tokenizer);
    find_bridges(tokenizer);
    status = find_added(tokenizer, 0, &tokenizer->early);
    if (status == AG_OK) {
        status = find_added(tokenizer, AG_PIECE_LATE, &tokenizer->late);
    }
    return status == AG_OK && tokenizer->model == AG_MODEL_UNIGRAM ? make_trie(tokenizer) : status;
}

/* The word of a text in the alphabet. */
static uint32_t alphabet_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    char few[MOST_FEW], *bytes = n_bytes <= MOST_FEW ? few : malloc(n_bytes);
    uint32_t id = AG_NO_ID;
    size_t n;

    if (bytes != NULL && ag_alphabet_bytes(text, n_bytes, bytes, &n)) {
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
    return tokenizer->model == AG_MODEL_BYTES ? alphabet_id(tokenizer, text, n_bytes)
                                              : ag_word_id(tokenizer, text, n_bytes);
}

void ag_build_end(ag_tokenizer_t *tokenizer, int64_t id)
{
    if (id >= 0 && id < (int64_t)ag_tokenizer_size(tokenizer)) {
        AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id].flags |= AG_PIECE_END;
    }
}
