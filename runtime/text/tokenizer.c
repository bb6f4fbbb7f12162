#include "runtime/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
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
    tokenizer->added = AG_ARRAY(ag_added_t);
    tokenizer->merges = AG_ARRAY(ag_merge_t);
    tokenizer->bos = tokenizer->eos = -1;
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
        ag_array_fini(&tokenizer->merges);
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

static uint64_t array_bytes(const ag_array_t *array)
{
    return (uint64_t)array->capacity * array->item_bytes;
}

uint64_t ag_tokenizer_bytes(const ag_tokenizer_t *tokenizer)
{
    return sizeof(*tokenizer) + array_bytes(&tokenizer->pieces) + array_bytes(&tokenizer->bytes) +
           array_bytes(&tokenizer->added) + array_bytes(&tokenizer->merges) +
           (tokenizer->n_pairs + tokenizer->n_words) * sizeof(uint32_t) +
           ag_splitter_bytes(tokenizer->splitter) +
           (tokenizer->chat_template != NULL ? strlen(tokenizer->chat_template) + 1 : 0);
}

int32_t ag_tokenizer_bos(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->bos;
}

int32_t ag_tokenizer_eos(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->eos;
}

static uint64_t hash_array(uint64_t hash, const ag_array_t *array)
{
    hash = ag_hash_bytes(hash, &array->n_items, sizeof(array->n_items));
    return ag_hash_bytes(hash, array->items, array->n_items * array->item_bytes);
}

uint64_t ag_tokenizer_fingerprint(const ag_tokenizer_t *tokenizer)
{
    const int32_t words[] = {tokenizer->bos, tokenizer->eos, tokenizer->ignore_merges,
                             tokenizer->add_prefix_space};
    const char *template = tokenizer->chat_template != NULL ? tokenizer->chat_template : "";
    uint64_t splitter = ag_splitter_fingerprint(tokenizer->splitter);
    uint64_t hash = AG_HASH_SEED;

    _Static_assert(sizeof(ag_piece_t) == 12 && sizeof(ag_added_t) == 12 && sizeof(ag_merge_t) == 12,
                   "hashed as they stand: no padding");
    hash = hash_array(hash, &tokenizer->pieces);
    hash = hash_array(hash, &tokenizer->bytes);
    hash = hash_array(hash, &tokenizer->added);
    hash = hash_array(hash, &tokenizer->merges);
    hash = ag_hash_bytes(hash, words, sizeof(words));
    hash = ag_hash_bytes(hash, &splitter, sizeof(splitter));
    return ag_hash_mix(ag_hash_bytes(hash, template, strlen(template)));
}

bool ag_tokenizer_is_end(const ag_tokenizer_t *tokenizer, int32_t id)
{
    return id >= 0 && (uint32_t)id < ag_tokenizer_size(tokenizer) &&
           (ag_piece_at(tokenizer, (uint32_t)id)->flags & AG_PIECE_END);
}

const char *ag_tokenizer_chat_template(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->chat_template;
}

/* What one call of encode needs, kept from word to word. */
typedef struct encoding {
    ag_bpe_t bpe;
    ag_array_t prefixed;   /* char */
    const char *continued; /* no space is put before what begins here; NULL: nowhere */
    ag_array_t *ids;
} encoding_t;

static ag_status_t encode_word(void *arg, const char *bytes, size_t n_bytes)
{
    encoding_t *encoding = arg;

    return ag_bpe_encode(&encoding->bpe, bytes, n_bytes, encoding->ids);
}

/* Between added tokens: a space goes before it where the tokenizer wants one; words; merging. */
static ag_status_t encode_between(const ag_tokenizer_t *tokenizer, void *arg, const char *text,
                                  size_t n_bytes, ag_array_t *ids)
{
    encoding_t *encoding = arg;
    ag_status_t status = AG_OK;

    if (tokenizer->add_prefix_space && text[0] != ' ' && text != encoding->continued) {
        encoding->prefixed.n_items = 0;
        status = ag_array_append(&encoding->prefixed, " ", 1);
        if (status == AG_OK) {
            status = ag_array_append(&encoding->prefixed, text, n_bytes);
        }
        text = encoding->prefixed.items;
        n_bytes++;
    }
    encoding->ids = ids;
    return status == AG_OK
               ? ag_splitter_split(tokenizer->splitter, text, n_bytes, encode_word, encoding)
               : status;
}

ag_status_t ag_tokenizer_encode(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                unsigned flags, ag_array_t *ids, uint64_t *most_bytes_p)
{
    encoding_t encoding = {.prefixed = AG_ARRAY(char)};
    char *repaired = NULL;
    uint64_t used;
    ag_status_t status = AG_OK;

    if (n_bytes == 0) {
        return AG_OK; /* the text may be NULL */
    }
    ag_bpe_init(&encoding.bpe, tokenizer);
    if (!ag_utf8_valid(text, n_bytes)) {
        status = ag_utf8_repair(text, n_bytes, &repaired, &n_bytes, NULL);
        text = repaired;
    }
    if (status == AG_OK) {
        encoding.continued = flags & AG_TOKEN_CONTINUES ? text : NULL;
        status = ag_added_cut(tokenizer, text, n_bytes, flags, encode_between, &encoding, ids);
    }
    used =
        ag_bpe_bytes(&encoding.bpe) + encoding.prefixed.n_items + (repaired != NULL ? n_bytes : 0);
    if (most_bytes_p != NULL && used > *most_bytes_p) {
        *most_bytes_p = used;
    }
    free(repaired);
    ag_array_fini(&encoding.prefixed);
    ag_bpe_fini(&encoding.bpe);
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
    if (piece->n_bytes == 0 || ((piece->flags & AG_PIECE_SPECIAL) && !(flags & AG_TOKEN_SPECIAL))) {
        return "";
    }
    *n_bytes_p = piece->n_bytes;
    return ag_piece_bytes(tokenizer, piece);
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
