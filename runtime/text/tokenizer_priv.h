/* Inside a tokenizer: compact tables, the same whatever file they came from. */
#pragma once

#include "runtime/text/tokenizer.h"

typedef struct ag_piece {
    uint32_t offset, n_bytes; /* in the pool of bytes */
    uint8_t added;            /* recognised in text before anything else */
    uint8_t special;          /* and only where special tokens are asked for; not shown */
    uint8_t strips;           /* AG_STRIP_* */
} ag_piece_t;

enum { AG_STRIP_LEFT = 1, AG_STRIP_RIGHT = 2 };

/* A hash table from 64-bit keys to two numbers; open addressing, never shrinks. */
typedef struct ag_pair_slot {
    uint64_t key;      /* left id << 32 | right id */
    uint32_t rank, id; /* id AG_NO_ID: empty */
} ag_pair_slot_t;

enum { AG_NO_ID = 0xffffffffu };

/* The regular expressions that cut text into words, applied one after the other. */
typedef struct ag_splitter ag_splitter_t;

struct ag_tokenizer {
    ag_array_t pieces;      /* ag_piece_t by id */
    ag_array_t bytes;       /* char: the pieces' bytes */
    ag_array_t added;       /* uint32_t ids of added pieces, the longest first */
    uint32_t byte_ids[256]; /* token of a single byte, or AG_NO_ID */
    ag_pair_slot_t *pairs;  /* (n_pairs) merges */
    size_t n_pairs;         /* a power of two */
    uint32_t *words;        /* (n_words) ids by the hash of their bytes, or AG_NO_ID */
    size_t n_words;         /* a power of two */
    ag_splitter_t *splitter;
    bool ignore_merges; /* a word that is a token is that token */
    bool add_prefix_space;
    int32_t bos;
    ag_array_t ends; /* int32_t */
    char *chat_template;
};

static inline const ag_piece_t *ag_piece_at(const ag_tokenizer_t *tokenizer, uint32_t id)
{
    return &AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id];
}

/* Building (build.c). Texts of tokens are in GPT-2's byte alphabet unless added. */
typedef struct ag_token_text {
    const char *text;
    size_t n_bytes;
    bool added, special;
    uint8_t strips;
} ag_token_text_t;

/** Ids must come in order; a gap is a token with no text. */
ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token);

/** After all tokens: the tables to look them up by. */
ag_status_t ag_build_tables(ag_tokenizer_t *tokenizer, size_t n_merges);

/** A merge of two tokens, in the byte alphabet; rank is its number. One whose tokens are missing is
 * dropped. */
ag_status_t ag_build_merge(ag_tokenizer_t *tokenizer, const char *left, size_t n_left,
                           const char *right, size_t n_right, uint32_t rank);

/** The id whose bytes these are, AG_NO_ID where there is none. */
uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes);

/** The id of a text in the byte alphabet, or of an added token's text. */
uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes);

/* Cutting text into words (split.c). */
ag_status_t ag_splitter_create(const char *const *patterns, size_t n_patterns,
                               ag_splitter_t **splitter_p);
void ag_splitter_destroy(ag_splitter_t *splitter);

/**
 * The patterns of a pre-tokenizer by the name a GGUF gives it; NULL: not known.
 * @param ignore_merges_p  out: whether a word that is a token is that token, as such tokenizers
 * have it.
 */
const char *const *ag_splitter_known(const char *name, size_t *n_patterns_p, bool *ignore_merges_p);

/** What the names are, for errors. */
const char *ag_splitter_names(void);

/** GPT-2's expression. */
extern const char ag_pattern_gpt2[];

/** Each numeric character alone. */
extern const char ag_pattern_digits[];

typedef struct ag_word {
    size_t begin, end;
} ag_word_t;

/** Cut valid UTF-8. @param words  ag_word_t items, in order, covering the text. */
ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              ag_array_t *words);

/* Merging (bpe.c). */
ag_status_t ag_bpe_encode(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes,
                          ag_array_t *ids);

/* The two kinds of files. */
ag_status_t ag_tokenizer_read_gguf(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
ag_status_t ag_tokenizer_read_folder(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
