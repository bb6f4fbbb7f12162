/* Merges: from their texts to a table of ranks. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/text/tokenizer_priv.h"

enum { MOST_FEW = 1024 };

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
        sought[i].home = ag_word_home(tokenizer, sought[i].bytes, sought[i].n_bytes);
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
            __builtin_prefetch(ag_piece_key(tokenizer, ag_piece_at(tokenizer, sought[i].id)));
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = ag_word_slot(tokenizer, sought[i].home, sought[i].bytes, sought[i].n_bytes);

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
            piece->n_key == n_bytes &&
            memcmp(ag_piece_key(tokenizer, piece), bytes, n_bytes) == 0) {
            return next;
        }
    }
    return ag_word_id(tokenizer, bytes, n_bytes);
}

/* Room for n_bytes: `few` where they fit, else memory to be freed; NULL where there is none. */
static char *take_room(char few[MOST_FEW], size_t n_bytes)
{
    return n_bytes <= MOST_FEW ? few : malloc(n_bytes);
}

/* The key of a word of this text; false: it has none. @param key  room for n_bytes. */
static bool to_key(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes, char *key,
                   size_t *n_key_p)
{
    if (tokenizer->model == AG_MODEL_BYTES) {
        return ag_alphabet_bytes(text, n_bytes, key, n_key_p);
    }
    memcpy(key, text, n_bytes);
    *n_key_p = n_bytes;
    return true;
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
        if (to_key(tokenizer, texts[i].left, texts[i].n_left, bytes, &left->n_bytes)) {
            bytes += left->n_bytes;
            right->bytes = bytes;
            if (to_key(tokenizer, texts[i].right, texts[i].n_right, bytes, &right->n_bytes)) {
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
