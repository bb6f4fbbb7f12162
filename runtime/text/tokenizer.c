#include "runtime/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer_priv.h"

ag_status_t ag_tokenizer_open(const ag_model_files_t *files, ag_tokenizer_t **tokenizer_p)
{
    ag_tokenizer_t *tokenizer = calloc(1, sizeof(*tokenizer));
    ag_status_t status;

    if (tokenizer == NULL) {
        return ag_fail_nomem("opening a tokenizer", sizeof(*tokenizer));
    }
    tokenizer->pieces = AG_ARRAY(ag_piece_t);
    tokenizer->bytes = AG_ARRAY(char);
    tokenizer->added = AG_ARRAY(uint32_t);
    tokenizer->ends = AG_ARRAY(int32_t);
    tokenizer->bos = -1;
    status = ag_model_files_gguf(files) != NULL ? ag_tokenizer_read_gguf(files, tokenizer)
                                                : ag_tokenizer_read_folder(files, tokenizer);
    if (status != AG_OK) {
        ag_tokenizer_close(tokenizer);
        return status;
    }
    *tokenizer_p = tokenizer;
    return AG_OK;
}

void ag_tokenizer_close(ag_tokenizer_t *tokenizer)
{
    if (tokenizer != NULL) {
        ag_array_fini(&tokenizer->pieces);
        ag_array_fini(&tokenizer->bytes);
        ag_array_fini(&tokenizer->added);
        ag_array_fini(&tokenizer->ends);
        free(tokenizer->pairs);
        free(tokenizer->words);
        free(tokenizer->chat_template);
        ag_splitter_destroy(tokenizer->splitter);
        free(tokenizer);
    }
}

uint32_t ag_tokenizer_size(const ag_tokenizer_t *tokenizer)
{
    return (uint32_t)tokenizer->pieces.n_items;
}

uint64_t ag_tokenizer_bytes(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->pieces.capacity * sizeof(ag_piece_t) + tokenizer->bytes.capacity +
           tokenizer->n_pairs * sizeof(ag_pair_slot_t) + tokenizer->n_words * sizeof(uint32_t);
}

int32_t ag_tokenizer_bos(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->bos;
}

bool ag_tokenizer_is_end(const ag_tokenizer_t *tokenizer, int32_t id)
{
    for (size_t i = 0; i < tokenizer->ends.n_items; i++) {
        if (AG_ITEMS(&tokenizer->ends, int32_t)[i] == id) {
            return true;
        }
    }
    return false;
}

const char *ag_tokenizer_chat_template(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->chat_template;
}

static ag_status_t encode_words(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                ag_array_t *ids)
{
    ag_array_t words = AG_ARRAY(ag_word_t);
    ag_status_t status = ag_splitter_split(tokenizer->splitter, text, n_bytes, &words);

    for (size_t i = 0; i < words.n_items && status == AG_OK; i++) {
        const ag_word_t *word = &AG_ITEMS(&words, ag_word_t)[i];

        status = ag_bpe_encode(tokenizer, text + word->begin, word->end - word->begin, ids);
    }
    ag_array_fini(&words);
    return status;
}

static ag_status_t encode_plain(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                ag_array_t *ids)
{
    ag_array_t prefixed = AG_ARRAY(char);
    ag_status_t status;

    if (n_bytes == 0) {
        return AG_OK;
    }
    if (!tokenizer->add_prefix_space || text[0] == ' ') {
        return encode_words(tokenizer, text, n_bytes, ids);
    }
    status = ag_array_append(&prefixed, " ", 1);
    if (status == AG_OK) {
        status = ag_array_append(&prefixed, text, n_bytes);
    }
    if (status == AG_OK) {
        status = encode_words(tokenizer, prefixed.items, prefixed.n_items, ids);
    }
    ag_array_fini(&prefixed);
    return status;
}

/* The longest added token that stands at text + at; AG_NO_ID: none. */
static uint32_t added_at(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                         size_t at, unsigned flags)
{
    for (size_t i = 0; i < tokenizer->added.n_items; i++) {
        uint32_t id = AG_ITEMS(&tokenizer->added, uint32_t)[i];
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        const char *bytes = AG_ITEMS(&tokenizer->bytes, char) + piece->offset;

        if (piece->n_bytes <= n_bytes - at && text[at] == bytes[0] &&
            (!piece->special || (flags & AG_TOKEN_SPECIAL)) &&
            memcmp(text + at, bytes, piece->n_bytes) == 0) {
            return id;
        }
    }
    return AG_NO_ID;
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

/* Added tokens cut the text first; what lies between them is cut into words. */
static ag_status_t encode_valid(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                unsigned flags, ag_array_t *ids)
{
    ag_status_t status = AG_OK;
    size_t done = 0, at = 0;

    while (at < n_bytes && status == AG_OK) {
        uint32_t id = added_at(tokenizer, text, n_bytes, at, flags);
        const ag_piece_t *piece;
        size_t end = at;

        if (id == AG_NO_ID) {
            at++;
            continue;
        }
        piece = ag_piece_at(tokenizer, id);
        while ((piece->strips & AG_STRIP_LEFT) && space_before(text, done, end) > 0) {
            end -= space_before(text, done, end);
        }
        status = encode_plain(tokenizer, text + done, end - done, ids);
        if (status == AG_OK) {
            status = ag_array_append(ids, &id, 1);
        }
        at += piece->n_bytes;
        while ((piece->strips & AG_STRIP_RIGHT) && space_at(text + at, n_bytes - at) > 0) {
            at += space_at(text + at, n_bytes - at);
        }
        done = at;
    }
    return status == AG_OK ? encode_plain(tokenizer, text + done, n_bytes - done, ids) : status;
}

ag_status_t ag_tokenizer_encode(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                unsigned flags, ag_array_t *ids)
{
    ag_status_t status;
    char *repaired;
    size_t n_repaired;

    if (ag_utf8_valid(text, n_bytes)) {
        return encode_valid(tokenizer, text, n_bytes, flags, ids);
    }
    status = ag_utf8_repair(text, n_bytes, &repaired, &n_repaired, NULL);
    if (status == AG_OK) {
        status = encode_valid(tokenizer, repaired, n_repaired, flags, ids);
        free(repaired);
    }
    return status;
}

const char *ag_tokenizer_piece(const ag_tokenizer_t *tokenizer, int32_t id, unsigned flags,
                               size_t *n_bytes_p)
{
    const ag_piece_t *piece;

    *n_bytes_p = 0;
    if (id < 0 || (uint32_t)id >= ag_tokenizer_size(tokenizer)) {
        return "";
    }
    piece = ag_piece_at(tokenizer, (uint32_t)id);
    if (piece->n_bytes == 0 || (piece->special && !(flags & AG_TOKEN_SPECIAL))) {
        return "";
    }
    *n_bytes_p = piece->n_bytes;
    return AG_ITEMS(&tokenizer->bytes, char) + piece->offset;
}

ag_status_t ag_tokenizer_decode(const ag_tokenizer_t *tokenizer, const int32_t *ids, size_t n,
                                unsigned flags, ag_array_t *bytes)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        size_t n_bytes;
        const char *piece = ag_tokenizer_piece(tokenizer, ids[i], flags, &n_bytes);

        status = ag_array_append(bytes, piece, n_bytes);
    }
    return status;
}
