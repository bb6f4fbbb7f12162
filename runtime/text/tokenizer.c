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
    tokenizer->scores = AG_ARRAY(double);
    tokenizer->early = tokenizer->late = tokenizer->trie = AG_TRIE;
    memset(tokenizer->byte_ids, 0xff, sizeof(tokenizer->byte_ids));
    tokenizer->unknown = AG_NO_ID;
    tokenizer->bos = tokenizer->eos = tokenizer->after = -1;
    tokenizer->named_bos = tokenizer->named_eos = -1;
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
        ag_array_fini(&tokenizer->scores);
        ag_trie_fini(&tokenizer->early);
        ag_trie_fini(&tokenizer->late);
        ag_trie_fini(&tokenizer->trie);
        free(tokenizer->pairs);
        free(tokenizer->words);
        free(tokenizer->chat_template);
        ag_normalizer_destroy(tokenizer->normalizer);
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
           array_bytes(&tokenizer->scores) + array_bytes(&tokenizer->early.nodes) +
           array_bytes(&tokenizer->late.nodes) + array_bytes(&tokenizer->trie.nodes) +
           (tokenizer->n_pairs + tokenizer->n_words) * sizeof(uint32_t) +
           ag_normalizer_bytes(tokenizer->normalizer) + ag_splitter_bytes(tokenizer->splitter) +
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

int32_t ag_tokenizer_after(const ag_tokenizer_t *tokenizer)
{
    return tokenizer->after;
}

static uint64_t hash_array(uint64_t hash, const ag_array_t *array)
{
    hash = ag_hash_bytes(hash, &array->n_items, sizeof(array->n_items));
    return ag_hash_bytes(hash, array->items, array->n_items * array->item_bytes);
}

uint64_t ag_tokenizer_fingerprint(const ag_tokenizer_t *tokenizer)
{
    const ag_decoder_t *decoder = &tokenizer->decoder;
    const int32_t words[] = {(int32_t)tokenizer->model,
                             (int32_t)tokenizer->unknown,
                             tokenizer->fuses_unknown,
                             tokenizer->sums_floats,
                             (int32_t)decoder->n_strip,
                             decoder->drops_first,
                             tokenizer->bos,
                             tokenizer->eos,
                             tokenizer->after,
                             tokenizer->named_bos,
                             tokenizer->named_eos,
                             tokenizer->ignore_merges};
    const char *template = tokenizer->chat_template != NULL ? tokenizer->chat_template : "";
    const uint64_t steps[] = {ag_normalizer_fingerprint(tokenizer->normalizer),
                              ag_splitter_fingerprint(tokenizer->splitter)};
    uint64_t hash = AG_HASH_SEED;

    _Static_assert(sizeof(ag_piece_t) == 20 && sizeof(ag_added_t) == 12 && sizeof(ag_merge_t) == 12,
                   "hashed as they stand: no padding");
    hash = hash_array(hash, &tokenizer->pieces);
    hash = hash_array(hash, &tokenizer->bytes);
    hash = hash_array(hash, &tokenizer->added);
    hash = hash_array(hash, &tokenizer->merges);
    hash = hash_array(hash, &tokenizer->scores);
    hash = ag_hash_bytes(hash, tokenizer->byte_ids, sizeof(tokenizer->byte_ids));
    hash = ag_hash_bytes(hash, words, sizeof(words));
    hash = ag_hash_bytes(hash, steps, sizeof(steps));
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

void ag_encoder_init(ag_encoder_t *encoder, const ag_tokenizer_t *tokenizer)
{
    *encoder = (ag_encoder_t){.tokenizer = tokenizer,
                              .symbols = {.item_bytes = AG_SYMBOL_BYTES},
                              .heap = {.item_bytes = AG_CANDIDATE_BYTES}};
}

void ag_encoder_fini(ag_encoder_t *encoder)
{
    ag_array_fini(&encoder->symbols);
    ag_array_fini(&encoder->heap);
}

uint64_t ag_encoder_bytes(const ag_encoder_t *encoder)
{
    return encoder->most_symbols * AG_SYMBOL_BYTES + encoder->most_candidates * AG_CANDIDATE_BYTES;
}

ag_status_t ag_encode_word(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                           ag_array_t *ids)
{
    static ag_status_t (*const encode[])(ag_encoder_t *, const char *, size_t, ag_array_t *) = {
        [AG_MODEL_BYTES] = ag_bpe_encode,
        [AG_MODEL_MERGES] = ag_bpe_encode,
        [AG_MODEL_SCORES] = ag_bpe_encode,
        [AG_MODEL_UNIGRAM] = ag_unigram_encode,
    };

    return encode[encoder->tokenizer->model](encoder, bytes, n_bytes, ids);
}

/* What one call of encode needs, kept from text to text between added tokens. */
typedef struct encoding {
    const ag_tokenizer_t *tokenizer;
    unsigned flags;
    ag_text_literals_t literals;
    ag_encoder_t encoder;
    ag_normalized_t normalized;
    const char *begin;            /* of the whole text */
    const char *normalized_begin; /* the same, normalized; NULL: it is another part */
    ag_array_t *ids;
} encoding_t;

static ag_status_t encode_word(void *arg, const char *bytes, size_t n_bytes)
{
    encoding_t *encoding = arg;

    return ag_encode_word(&encoding->encoder, bytes, n_bytes, encoding->ids);
}

/* Between all added tokens: words. */
static ag_status_t encode_words(void *arg, const char *text, size_t n_bytes)
{
    encoding_t *encoding = arg;
    bool first = text == encoding->normalized_begin;
    bool continues = first && (encoding->flags & AG_TOKEN_CONTINUES);

    return ag_splitter_split(encoding->tokenizer->splitter, text, n_bytes,
                             (first ? AG_SPLIT_FIRST : 0u) | (continues ? AG_SPLIT_CONTINUES : 0u),
                             encode_word, encoding);
}

/* Between the early added tokens: the late ones are looked for in what is normalized. */
static ag_status_t encode_between(void *arg, const char *text, size_t n_bytes)
{
    encoding_t *encoding = arg;
    const ag_tokenizer_t *tokenizer = encoding->tokenizer;
    ag_normalized_t *normalized = &encoding->normalized;
    ag_text_literals_t literals = encoding->literals; /* none where the text is not as it was */
    bool first = text == encoding->begin;
    ag_status_t status = ag_normalize(tokenizer->normalizer, text, n_bytes,
                                      first && (encoding->flags & AG_TOKEN_CONTINUES), normalized);

    encoding->normalized_begin = first ? normalized->text : NULL;
    literals.origin += (size_t)(text - encoding->begin);
    return status == AG_OK
               ? ag_added_cut(tokenizer, &tokenizer->late, normalized->text, normalized->n_bytes,
                              encoding->flags, &literals, encode_words, encoding, encoding->ids)
               : status;
}

static uint64_t encoding_bytes(const encoding_t *encoding, size_t n_bytes)
{
    return ag_encoder_bytes(&encoding->encoder) + ag_normalized_bytes(&encoding->normalized) +
           ag_splitter_room_bytes(encoding->tokenizer->splitter, n_bytes);
}

static ag_status_t encode_text(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                               unsigned flags, const ag_text_literals_t *literals, ag_array_t *ids,
                               uint64_t *most_bytes_p)
{
    encoding_t encoding = {
        .tokenizer = tokenizer, .flags = flags, .normalized = AG_NORMALIZED, .ids = ids};
    char *repaired = NULL;
    uint64_t used;
    ag_status_t status = AG_OK;

    if (n_bytes == 0) {
        return AG_OK; /* the text may be NULL */
    }
    ag_encoder_init(&encoding.encoder, tokenizer);
    if (!ag_utf8_valid(text, n_bytes)) {
        status = ag_utf8_repair(text, n_bytes, &repaired, &n_bytes, NULL);
        text = repaired;
    }
    if (literals != NULL) {
        encoding.literals = *literals;
    }
    if (status == AG_OK) {
        encoding.begin = text;
        status = ag_added_cut(tokenizer, &tokenizer->early, text, n_bytes, flags, literals,
                              encode_between, &encoding, ids);
    }
    used = encoding_bytes(&encoding, n_bytes) + (repaired != NULL ? n_bytes : 0);
    if (most_bytes_p != NULL && used > *most_bytes_p) {
        *most_bytes_p = used;
    }
    free(repaired);
    ag_normalized_fini(&encoding.normalized);
    ag_encoder_fini(&encoding.encoder);
    return status;
}

ag_status_t ag_tokenizer_encode(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                unsigned flags, ag_array_t *ids, uint64_t *most_bytes_p)
{
    return encode_text(tokenizer, text, n_bytes, flags, NULL, ids, most_bytes_p);
}

/* A place that spans count, in the text that is encoded. */
static size_t place_in(const ag_text_literals_t *literals, size_t place, size_t n_bytes)
{
    place = place > literals->origin ? place - literals->origin : 0;
    return place < n_bytes ? place : n_bytes;
}

ag_status_t ag_tokenizer_encode_around(const ag_tokenizer_t *tokenizer, const char *text,
                                       size_t n_bytes, unsigned flags,
                                       const ag_text_literals_t *literals, ag_array_t *ids,
                                       uint64_t *most_bytes_p)
{
    size_t n_spans = literals != NULL ? literals->n_spans : 0, done = 0;
    ag_status_t status = AG_OK;

    if (tokenizer->normalizer == NULL || tokenizer->late.nodes.n_items == 0) {
        return encode_text(tokenizer, text, n_bytes, flags, literals, ids, most_bytes_p);
    }
    /* where late tokens are found the text is another already: parts are encoded apart */
    for (size_t i = 0; i <= n_spans && status == AG_OK; i++) {
        size_t begin =
            i < n_spans ? place_in(literals, literals->spans[i].begin, n_bytes) : n_bytes;
        size_t end = i < n_spans ? place_in(literals, literals->spans[i].end, n_bytes) : n_bytes;

        status = encode_text(tokenizer, text + done, begin - done,
                             flags | (done > 0 ? AG_TOKEN_CONTINUES : 0), NULL, ids, most_bytes_p);
        if (status == AG_OK) {
            status = encode_text(tokenizer, text + begin, end - begin,
                                 (flags | (begin > 0 ? AG_TOKEN_CONTINUES : 0)) &
                                     ~(unsigned)AG_TOKEN_SPECIAL,
                                 NULL, ids, most_bytes_p);
        }
        done = end;
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
    if (piece->n_bytes == 0 || ((piece->flags & AG_PIECE_SPECIAL) && !(flags & AG_TOKEN_SPECIAL))) {
        return "";
    }
    *n_bytes_p = piece->n_bytes;
    return ag_piece_bytes(tokenizer, piece);
}

/* The first token of a text, without what the decoder drops there. */
static ag_status_t decode_first(const ag_tokenizer_t *tokenizer, int32_t id, const char *piece,
                                size_t n_bytes, ag_array_t *bytes)
{
    const ag_decoder_t *decoder = &tokenizer->decoder;
    const ag_piece_t *whole = ag_piece_at(tokenizer, (uint32_t)id);
    size_t n_from = strlen(decoder->from), n_to = strlen(decoder->to);
    const char *key = ag_piece_key(tokenizer, whole);
    ag_status_t status = AG_OK;

    if (!decoder->drops_first || n_from == 0 || whole->n_key == 0) {
        return ag_array_append(bytes, piece, n_bytes);
    }
    for (size_t at = 0, done = 0; at < whole->n_key && status == AG_OK;) {
        bool is_from = at + n_from <= whole->n_key && memcmp(key + at, decoder->from, n_from) == 0;

        at += is_from ? n_from : 1;
        if (!is_from) {
            status = ag_array_append(bytes, piece + done, 1);
        }
        done += is_from ? n_to : 1;
    }
    return status;
}

/* Spaces at the beginning of a text, as many as the decoder strips. */
static void strip(const ag_decoder_t *decoder, size_t begin, ag_array_t *bytes)
{
    char *text = AG_ITEMS(bytes, char);
    size_t n = 0;

    while (n < decoder->n_strip && begin + n < bytes->n_items && text[begin + n] == ' ') {
        n++;
    }
    if (n > 0) {
        memmove(text + begin, text + begin + n, bytes->n_items - begin - n);
        bytes->n_items -= n;
    }
}

ag_status_t ag_tokenizer_decode(const ag_tokenizer_t *tokenizer, const int32_t *ids, size_t n,
                                unsigned flags, ag_array_t *bytes)
{
    size_t begin = bytes->n_items;
    bool is_first = !(flags & AG_TOKEN_CONTINUES);
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        size_t n_bytes;
        const char *piece = ag_tokenizer_piece(tokenizer, ids[i], flags, &n_bytes);

        status = is_first && n_bytes > 0 ? decode_first(tokenizer, ids[i], piece, n_bytes, bytes)
                                         : ag_array_append(bytes, piece, n_bytes);
        is_first = is_first && n_bytes == 0;
    }
    if (!(flags & AG_TOKEN_CONTINUES)) {
        strip(&tokenizer->decoder, begin, bytes);
    }
    return status;
}
