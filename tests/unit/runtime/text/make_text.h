/* Tokenizers made from files that the tests write. JSON is written with ' in place of ". */
#pragma once

#include "runtime/text/tokenizer_priv.h"

/* A model that is a folder, or a GGUF file, without weights. */
typedef struct made {
    char folder[32];
    ag_model_files_t *files;
    ag_tokenizer_t *tokenizer;
} made_t;

/* ByteLevel alone, no expression, no space in front. */
#define PRE_BYTES "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}"

void folder_begin(made_t *made); /* config.json is {} until it is written */
void file_write(const made_t *made, const char *name, const void *bytes, size_t n_bytes);
void folder_write(const made_t *made, const char *name, const char *json);
void folder_copy(const made_t *made, const char *name, const char *path); /* of a JSON file */
ag_status_t folder_open(made_t *made); /* everything stays to be closed by made_close() */

/** A folder with this tokenizer.json, opened. */
void made_open(made_t *made, const char *json);
void made_close(made_t *made);

/** Encoding the text gives these ids, as in "3 1 4". */
void expect_ids(const ag_tokenizer_t *tokenizer, const char *text, unsigned flags, const char *ids);

/** Opening fails so, and the error holds these words. */
void expect_refused(const char *json, ag_status_t status, const char *words);

/** An ag_word_fn_t whose argument is an array of chars: the words of a text, with | between. */
ag_status_t join_word(void *arg, const char *bytes, size_t n_bytes);

/* GGUF metadata, one entry after the other. */
typedef struct gguf_text {
    ag_array_t bytes; /* char */
    uint64_t n_entries;
} gguf_text_t;

void gguf_string(gguf_text_t *gguf, const char *key, const char *bytes, size_t n_bytes);
void gguf_integer(gguf_text_t *gguf, const char *key, ag_gguf_kind_t kind, uint64_t value);
void gguf_strings(gguf_text_t *gguf, const char *key, const char *const *texts, size_t n);
void gguf_integers(gguf_text_t *gguf, const char *key, const int32_t *values, size_t n);

void gguf_floats(gguf_text_t *gguf, const char *key, const float *values, size_t n);

/** Write and open it; the metadata is released. */
ag_status_t gguf_open(made_t *made, gguf_text_t *gguf);
