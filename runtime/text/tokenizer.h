/* Tokenizers: text to ids and back. Immutable after opening; safe to share between threads. */
#pragma once

#include "runtime/base/array.h"
#include "runtime/file/model_files.h"

typedef struct ag_tokenizer ag_tokenizer_t;

enum {
    AG_TOKEN_SPECIAL = 1,   /* flag of encode: special tokens in the text are recognised;
                               flag of decode: special tokens are shown */
    AG_TOKEN_CONTINUES = 2, /* the text goes on from another, so that the space that some tokenizers
                               put before a text is not put before this one, nor taken from it */
};

/**
 * The tokenizer of a model: GGUF metadata (tokenizer.ggml.*) or a folder's tokenizer.json and
 * tokenizer_config.json.
 * @return AG_OK; AG_ERR_UNSUPPORTED (another algorithm or pre-tokenizer; lists the known),
 *         AG_ERR_FORMAT, AG_ERR_IO (also where there is none).
 */
ag_status_t ag_tokenizer_open(const ag_model_files_t *files, ag_tokenizer_t **tokenizer_p);

/** Is it a GGUF file that says of no tokenizer, or that it has none (as is made of a folder without
 * one)? */
bool ag_tokenizer_is_left_out(const ag_model_files_t *files);

void ag_tokenizer_close(ag_tokenizer_t *tokenizer);

/** Number of ids the tokenizer knows (a model's vocabulary may be larger). */
uint32_t ag_tokenizer_size(const ag_tokenizer_t *tokenizer);

/** Bytes that its tables take. */
uint64_t ag_tokenizer_bytes(const ag_tokenizer_t *tokenizer);

/** The id put before every text; -1 where the tokenizer adds none. */
int32_t ag_tokenizer_bos(const ag_tokenizer_t *tokenizer);

/** The id put after every text; -1 where the tokenizer adds none. */
int32_t ag_tokenizer_after(const ag_tokenizer_t *tokenizer);

/** The id that ends a text: eos_token of the tokenizer, else the first that the model names; -1
 * where there is none. */
int32_t ag_tokenizer_eos(const ag_tokenizer_t *tokenizer);

/** Of all that ids depend on, and of the chat template: the same for the same tokenizer, whatever
 * files it came from may be called. */
uint64_t ag_tokenizer_fingerprint(const ag_tokenizer_t *tokenizer);

/** True for an end token: eos, eot, and generation_config's list. */
bool ag_tokenizer_is_end(const ag_tokenizer_t *tokenizer, int32_t id);

/**
 * Append the ids of a text; no BOS. Any bytes: invalid UTF-8 is read as U+FFFD.
 * @param ids  int32_t items.
 * @param most_bytes_p  raised to the bytes that this took beside text and ids, for as long as it
 *                      lasted; NULL: not asked for. Few, unless the text has a word that is long.
 */
ag_status_t ag_tokenizer_encode(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                                unsigned flags, ag_array_t *ids, uint64_t *most_bytes_p);

/* Bytes begin .. end - 1 of a text. */
typedef struct ag_text_span {
    size_t begin, end;
} ag_text_span_t;

/* Parts of a text that are what they say: no special token stands in them, nor begins or ends
 * there. */
typedef struct ag_text_literals {
    const ag_text_span_t *spans; /* (n_spans) in order, none empty */
    size_t n_spans;
    size_t origin; /* where the text that is encoded begins, as the spans count */
} ag_text_literals_t;

/**
 * The same, where others' words stand in the text.
 * @param literals  NULL: there are none. With some, the text is valid UTF-8.
 * @return as ag_tokenizer_encode().
 */
ag_status_t ag_tokenizer_encode_around(const ag_tokenizer_t *tokenizer, const char *text,
                                       size_t n_bytes, unsigned flags,
                                       const ag_text_literals_t *literals, ag_array_t *ids,
                                       uint64_t *most_bytes_p);

/**
 * The bytes of one token, as they stand in decoded text; zero bytes for a special token without
 * AG_TOKEN_SPECIAL and for ids beyond the tokenizer. Borrowed from the tokenizer.
 */
const char *ag_tokenizer_piece(const ag_tokenizer_t *tokenizer, int32_t id, unsigned flags,
                               size_t *n_bytes_p);

/**
 * Append the bytes of n ids (char items); they need not be valid UTF-8. Where the tokenizer puts a
 * space before a text, it is taken from this one's beginning, unless it continues another.
 */
ag_status_t ag_tokenizer_decode(const ag_tokenizer_t *tokenizer, const int32_t *ids, size_t n,
                                unsigned flags, ag_array_t *bytes);

/** The model's chat template; NULL when it has none. */
const char *ag_tokenizer_chat_template(const ag_tokenizer_t *tokenizer);
