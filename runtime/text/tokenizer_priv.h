/* Inside a tokenizer: compact tables, the same whatever file they came from. */
#pragma once

#include "runtime/text/normalize_priv.h"
#include "runtime/base/quote.h"
#include "runtime/text/split_priv.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/trie_priv.h"

#define AG_METASPACE                                                                               \
    "\xe2\x96\x81" /* U+2581, which stands for a space in SentencePiece's pieces                   \
                    */

enum { AG_NO_ID = 0xffffffffu };

enum {
    AG_PIECE_WORD = 1,     /* in the vocabulary that words are made of */
    AG_PIECE_ADDED = 2,    /* recognised in text before anything else */
    AG_PIECE_SPECIAL = 4,  /* and that only where special tokens are asked for; not shown */
    AG_PIECE_LATE = 8,     /* looked for in normalized text, between the other added tokens */
    AG_PIECE_L_STRIP = 16, /* swallows the white space before it */
    AG_PIECE_R_STRIP = 32, /* and after it */
    AG_PIECE_END = 64,     /* ends an answer */
    AG_PIECE_TWIN = 128,   /* a word whose key is that of an earlier one, which stands for both */
    AG_PIECE_ALONE = 256,  /* no word character stands beside it */
    AG_PIECE_BYTE = 512,   /* "<0x41>" is a byte of decoded text; BYTES: a text in the byte
                              alphabet is those bytes though it is no word */
};

typedef struct ag_piece {
    uint32_t offset, n_bytes; /* in the pool of bytes: what it is in decoded text */
    uint32_t key, n_key;      /* what it is in a text that was normalized; of words */
    unsigned flags;           /* AG_PIECE_* */
} ag_piece_t;

/* The text of an added token as its file has it. */
typedef struct ag_added {
    uint32_t id, offset, n_bytes; /* in the pool of bytes */
} ag_added_t;

typedef struct ag_merge {
    uint32_t left, right, id;
} ag_merge_t;

/* How words become ids. */
typedef enum ag_model_kind {
    AG_MODEL_BYTES,   /* bytes are merged by rank (GPT-2) */
    AG_MODEL_MERGES,  /* characters are merged by rank (Hugging Face's BPE) */
    AG_MODEL_SCORES,  /* characters are merged where that makes a word, the best score first
                         (SentencePiece's BPE) */
    AG_MODEL_UNIGRAM, /* the words of the greatest sum of scores (Kudo 2018) */
} ag_model_kind_t;

/* What the texts of tokens become in decoded text. */
typedef struct ag_decoder {
    char from[16], to[16]; /* each `from` becomes `to`; none: empty */
    uint32_t n_strip;      /* spaces that go where a whole text begins with them, at the most */
    bool drops_first;      /* no `from` of the first token is shown (Hugging Face's Metaspace) */
    bool has_bytes;        /* every "<0x41>" is a byte */
} ag_decoder_t;

struct ag_tokenizer {
    ag_model_kind_t model;
    ag_array_t pieces;           /* ag_piece_t by id */
    ag_array_t bytes;            /* char: the pieces' bytes and keys */
    ag_array_t added;            /* ag_added_t by id */
    ag_trie_t early, late;       /* added tokens as they stand in text, and in normalized text */
    uint32_t byte_ids[256];      /* BYTES: the word of a byte; others: what stands for a byte of a
                                    character that is no word; or AG_NO_ID */
    bool falls_back;             /* the words "<0x00>" to "<0xFF>" are these */
    uint32_t unknown;            /* stands for what no word does, or AG_NO_ID */
    bool fuses_unknown;          /* neighbours of that kind are one */
    ag_array_t merges;           /* ag_merge_t by rank */
    uint32_t *pairs;             /* (n_pairs) ranks by the hash of left and right, or AG_NO_ID */
    size_t n_pairs;              /* a power of two */
    uint32_t *words;             /* (n_words) ids of words by the hash of their keys, or AG_NO_ID */
    size_t n_words;              /* a power of two */
    ag_array_t scores;           /* double by id; SCORES, UNIGRAM */
    double unknown_score;        /* UNIGRAM */
    bool sums_floats;            /* UNIGRAM: sums are rounded to float, as SentencePiece's are */
    ag_trie_t trie;              /* UNIGRAM: the words */
    uint32_t longest;            /* bytes of a key */
    bool cuts_at_spaces;         /* no word is made across a metaspace, but for those behind */
    bool bridges[256];           /* bytes that some word has right before a metaspace */
    ag_normalizer_t *normalizer; /* NULL: none */
    ag_splitter_t *splitter;
    const ag_pre_tokenizer_t *pre; /* what GGUF files call normalizer and splitter; NULL: nothing */
    ag_decoder_t decoder;
    bool ignore_merges; /* a word that is a token is that token */
    int32_t bos, eos, after;
    int32_t named_bos, named_eos; /* bos_token and eos_token, put before and behind or not; or -1 */
    char *chat_template;
};

static inline const ag_piece_t *ag_piece_at(const ag_tokenizer_t *tokenizer, uint32_t id)
{
    return &AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id];
}

static inline const char *ag_added_bytes(const ag_tokenizer_t *tokenizer, const ag_added_t *added)
{
    return AG_ITEMS(&tokenizer->bytes, char) + added->offset;
}

static inline const char *ag_piece_bytes(const ag_tokenizer_t *tokenizer, const ag_piece_t *piece)
{
    return AG_ITEMS(&tokenizer->bytes, char) + piece->offset;
}

static inline const char *ag_piece_key(const ag_tokenizer_t *tokenizer, const ag_piece_t *piece)
{
    return AG_ITEMS(&tokenizer->bytes, char) + piece->key;
}

/* Building (build.c): the tokenizer's model, normalizer and decoder; every token in order of ids;
 * ag_build_words(); every merge by rank (merges.c). */
typedef struct ag_token_text {
    const char
        *text; /* BYTES: in GPT-2's byte alphabet unless added; NULL: an id without a token */
    size_t n_bytes;
    unsigned flags; /* AG_PIECE_* */
} ag_token_text_t;

/** @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED (more than 4 GiB of text). */
ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token);

/** The tables to look tokens up by. @param n_merges  room for so many. */
ag_status_t ag_build_words(ag_tokenizer_t *tokenizer, size_t n_merges);

/** Slots for n items, two thirds full at most, each AG_NO_ID. */
ag_status_t ag_build_slots(size_t n, uint32_t **slots_p, size_t *n_slots_p);

typedef struct ag_merge_text {
    const char *left, *right; /* BYTES: in the byte alphabet */
    size_t n_left, n_right;
    bool last_counts; /* a pair that came before has the rank of this one, not its own */
} ag_merge_text_t;

enum { AG_BUILD_AT_ONCE = 32 };

/**
 * Add the next merges, AG_BUILD_AT_ONCE at most: many at once need not wait for memory each.
 * @param known  out: (n) false where one of the two, or both joined, is no word; it is left out
 * then.
 */
ag_status_t ag_build_merges(ag_tokenizer_t *tokenizer, const ag_merge_text_t *texts, size_t n,
                            bool *known);

/** Mark an end token; an id that the tokenizer does not know is passed over. */
void ag_build_end(ag_tokenizer_t *tokenizer, int64_t id);

/** The byte that "<0x41>" names; -1: the text names none. */
int ag_byte_named(const char *text, size_t n_bytes);

/**
 * Bytes that a text in GPT-2's byte alphabet stands for, n_bytes at most; false where it is not in
 * it.
 */
bool ag_alphabet_bytes(const char *text, size_t n_bytes, char *bytes, size_t *n_p);

/** Where a word's search begins in `words`, and where it is or would be. */
size_t ag_word_home(const ag_tokenizer_t *tokenizer, const char *key, size_t n_key);
size_t ag_word_slot(const ag_tokenizer_t *tokenizer, size_t home, const char *key, size_t n_key);

/** The word of this key, AG_NO_ID where there is none. */
uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *key, size_t n_key);

/** The added token of this text, else the word of this text; or AG_NO_ID. */
uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes);

/** Where the rank of a pair stands in `pairs`, or would. */
size_t ag_pair_slot(const ag_tokenizer_t *tokenizer, uint32_t left, uint32_t right);

/* Added tokens (added.c). */

/** What becomes of a text between added tokens. */
typedef ag_status_t (*ag_between_fn_t)(void *arg, const char *text, size_t n_bytes);

/**
 * Cut valid UTF-8 at added tokens: their ids are appended, `between` is called for the rest.
 * @param trie      of the tokenizer: those that are looked for.
 * @param literals  NULL: the text has none.
 */
ag_status_t ag_added_cut(const ag_tokenizer_t *tokenizer, const ag_trie_t *trie, const char *text,
                         size_t n_bytes, unsigned flags, const ag_text_literals_t *literals,
                         ag_between_fn_t between, void *arg, ag_array_t *ids);

/** The id of a special token that stands as a string, or as an object with its content; -1: none.
 */
int32_t ag_token_id_of(const ag_tokenizer_t *tokenizer, const ag_json_t *token);

/* Words to ids (bpe.c, unigram.c). */
typedef struct ag_encoder {
    const ag_tokenizer_t *tokenizer;
    ag_array_t symbols, heap; /* kept from word to word: bpe.c's, or symbols alone: unigram.c's */
    size_t most_symbols, most_candidates;
    const char *text; /* of the word that is merged by scores */
    size_t n_text;
} ag_encoder_t;

void ag_encoder_init(ag_encoder_t *encoder, const ag_tokenizer_t *tokenizer);
void ag_encoder_fini(ag_encoder_t *encoder);

/** Bytes of what it keeps, as far as words so far have used it. */
uint64_t ag_encoder_bytes(const ag_encoder_t *encoder);

/** Append the ids of one word. */
ag_status_t ag_encode_word(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                           ag_array_t *ids);
ag_status_t ag_bpe_encode(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                          ag_array_t *ids);
ag_status_t ag_unigram_encode(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                              ag_array_t *ids);

enum { AG_SYMBOL_BYTES = 16, AG_CANDIDATE_BYTES = 8 };

/* The two kinds of files. */
ag_status_t ag_tokenizer_read_gguf(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
ag_status_t ag_tokenizer_read_folder(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
