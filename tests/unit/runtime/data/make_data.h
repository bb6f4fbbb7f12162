/* A tokenizer, files of data and a place for caches, in a folder of their own. */
#pragma once

#include "runtime/data/dataset_priv.h"

typedef struct room {
    char folder[64];
    ag_model_files_t *files;
    ag_tokenizer_t *tokenizer;
} room_t;

enum { TINY_VOCAB = 300, TINY_BOS = 1, TINY_EOS = 2 };

#define CHATML                                                                                     \
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "                   \
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"                                      \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/** The tiny tokenizer of the references, whose EOS is </s>. @param chat NULL: without a template.
 * @param bos  <s> is put before texts. */
void room_open(room_t *room, const char *chat, bool bos);
/** A tokenizer.json, or GGUF file, that is there. */
void room_open_file(room_t *room, const char *path);
void room_close(room_t *room);

/** The path of a name in the folder; one of eight static buffers. */
const char *room_path(const room_t *room, const char *name);
const char *room_write(const room_t *room, const char *name, const void *bytes, size_t n_bytes);
/** JSON is written with ' in place of ". */
const char *room_text(const room_t *room, const char *name, const char *text);
const char *room_lines(const room_t *room, const char *name, const char *json);
const char *room_ids(const room_t *room, const char *name, const int32_t *ids, size_t n);
/** How many files the cache has; the path of one of them is left in path (may be NULL). */
size_t room_caches(const room_t *room, char path[512]);

/** Options for one file: rows of seq_length, a cache in the folder. The path is kept. */
ag_dataset_opts_t room_opts(const room_t *room, const char *path, uint32_t seq_length);
ag_dataset_t *open_data(const ag_dataset_opts_t *opts); /* must open */

/** Opening fails so, and the error holds these words. */
void expect_fails(const ag_dataset_opts_t *opts, ag_status_t status, const char *words);

/* Rows, and room for them. */
typedef struct batch {
    ag_data_rows_t rows;
    uint32_t n_rows, seq_length;
} batch_t;

void batch_open(batch_t *batch, uint32_t n_rows, uint32_t seq_length);
/** Targets are counted the other way, too. */
void batch_read(batch_t *batch, const ag_dataset_t *dataset, ag_data_position_t position);
void batch_close(batch_t *batch);
bool batch_equal(const batch_t *one, const batch_t *other);
/** What holds for every row, whatever the data. */
void batch_check(const batch_t *batch, uint32_t vocab_size);

/** The ids of a text, special tokens recognised. Released with ag_array_fini(). */
ag_array_t ids_of(const ag_tokenizer_t *tokenizer, const char *text);
