/* Inside a tokenizer: compact tables, the same whatever file they came from. */
#pragma once

#include "runtime/text/tokenizer.h"

enum { AG_NO_ID = 0xffffffffu };

enum {
    AG_PIECE_WORD = 1,     /* in the vocabulary that merges work on */
    AG_PIECE_ADDED = 2,    /* recognised in text before anything else */
    AG_PIECE_SPECIAL = 4,  /* and that only where special tokens are asked for; not shown */
    AG_PIECE_LATE = 8,     /* looked for between the other added tokens, not beside them */
    AG_PIECE_L_STRIP = 16, /* swallows the white space before it */
    AG_PIECE_R_STRIP = 32, /* and after it */
    AG_PIECE_END = 64,     /* ends an answer */
    AG_PIECE_TWIN = 128, /* a word whose bytes are those of an earlier one, which stands for both */
};

typedef struct ag_piece {
    uint32_t offset, n_bytes; /* in the pool of bytes */
    unsigned flags;           /* AG_PIECE_* */
} ag_piece_t;

/* How an added token stands in text. Its piece has other bytes where it is a word, too, whose text
 * in the byte alphabet means other bytes. */
typedef struct ag_added {
    uint32_t id, offset, n_bytes; /* in the pool of bytes */
} ag_added_t;

typedef struct ag_merge {
    uint32_t left, right, id;
} ag_merge_t;

/* The regular expressions that cut text into words, applied one after the other. */
typedef struct ag_splitter ag_splitter_t;

struct ag_tokenizer {
    ag_array_t pieces;        /* ag_piece_t by id */
    ag_array_t bytes;         /* char: the pieces' bytes */
    ag_array_t added;         /* ag_added_t: by first byte, the longest first */
    uint32_t added_from[257]; /* where those of a first byte begin in `added` */
    uint32_t byte_ids[256];   /* token of a single byte, or AG_NO_ID */
    ag_array_t merges;        /* ag_merge_t by rank */
    uint32_t *pairs;          /* (n_pairs) ranks by the hash of left and right, or AG_NO_ID */
    size_t n_pairs;           /* a power of two */
    uint32_t *words;          /* (n_words) ids of words by the hash of their bytes, or AG_NO_ID */
    size_t n_words;           /* a power of two */
    ag_splitter_t *splitter;
    const struct ag_pre_tokenizer *pre; /* what GGUF files call the splitter; NULL: they cannot */
    bool ignore_merges;                 /* a word that is a token is that token */
    bool add_prefix_space;
    int32_t bos, eos;
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

/* The beginning of a text from a file, fit to stand in an error: no control characters. */
typedef struct ag_quote {
    char text[201];
} ag_quote_t;

ag_quote_t ag_quote(const char *bytes, size_t n_bytes);

/* Building (build.c): every token in order of ids, ag_build_words(), every merge by rank. */
typedef struct ag_token_text {
    const char *text; /* in GPT-2's byte alphabet unless added; NULL: an id without a token */
    size_t n_bytes;
    unsigned flags; /* AG_PIECE_* */
} ag_token_text_t;

/** @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED (more than 4 GiB of text). */
ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token);

/** The tables to look tokens up by. @param n_merges  room for so many. */
ag_status_t ag_build_words(ag_tokenizer_t *tokenizer, size_t n_merges);

typedef struct ag_merge_text {
    const char *left, *right; /* in the byte alphabet */
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

/** The word whose bytes these are, AG_NO_ID where there is none. */
uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes);

/** The added token of this text, else the word that it is in the byte alphabet; or AG_NO_ID. */
uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes);

/** Where the rank of a pair stands in `pairs`, or would. */
size_t ag_pair_slot(const ag_tokenizer_t *tokenizer, uint32_t left, uint32_t right);

/* Added tokens (added.c). */

/** What becomes of a text between added tokens. */
typedef ag_status_t (*ag_between_fn_t)(const ag_tokenizer_t *tokenizer, void *arg, const char *text,
                                       size_t n_bytes, ag_array_t *ids);

/** Cut valid UTF-8 at added tokens: their ids are appended, `between` is called for the rest. */
ag_status_t ag_added_cut(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes,
                         unsigned flags, ag_between_fn_t between, void *arg, ag_array_t *ids);

/* Cutting text into words (split.c). */
typedef enum ag_cut {
    AG_CUT_ISOLATED,      /* matches are words, and so is what lies between them */
    AG_CUT_REMOVED,       /* matches are dropped */
    AG_CUT_CONTIGUOUS,    /* neighbouring matches are one word */
    AG_CUT_WITH_PREVIOUS, /* a match ends the word before it */
    AG_CUT_WITH_NEXT,     /* a match begins the word after it */
} ag_cut_t;               /* Hugging Face's SplitDelimiterBehavior */

typedef struct ag_split_rule {
    const char *pattern; /* Oniguruma's syntax, as Hugging Face's tokenizers have it */
    bool literal;        /* no expression: the text itself */
    bool invert;         /* what lies between matches counts as match */
    ag_cut_t cut;
} ag_split_rule_t;

/** @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED (an expression that means nothing here). */
ag_status_t ag_splitter_create(const ag_split_rule_t *rules, size_t n_rules,
                               ag_splitter_t **splitter_p);
void ag_splitter_destroy(ag_splitter_t *splitter);
size_t ag_splitter_bytes(const ag_splitter_t *splitter);

/** Of its rules. */
uint64_t ag_splitter_fingerprint(const ag_splitter_t *splitter);

/** What becomes of a word. @return what is not AG_OK ends the cutting, and is its status. */
typedef ag_status_t (*ag_word_fn_t)(void *arg, const char *bytes, size_t n_bytes);

/** Cut valid UTF-8: fn is called for the words in order, none empty, one after the other: nothing
 * of the text is held. */
ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              ag_word_fn_t fn, void *arg);

/** GPT-2's expression. */
extern const char ag_pattern_gpt2[];

/* A pre-tokenizer that GGUF files name. */
typedef struct ag_pre_tokenizer {
    const char *name;
    const ag_split_rule_t *rules;
    size_t n_rules;
    bool ignore_merges, adds_bos; /* what the name implies, where the file does not say */
} ag_pre_tokenizer_t;

/** By name; @return AG_OK, AG_ERR_UNSUPPORTED: lists the known ones. */
ag_status_t ag_pre_tokenizer_find(const char *path, const char *name, size_t n_bytes,
                                  const ag_pre_tokenizer_t **pre_p);

/** The one that cuts by these rules; NULL: GGUF files have no name for it. */
const ag_pre_tokenizer_t *ag_pre_tokenizer_of(const ag_split_rule_t *rules, size_t n_rules,
                                              bool ignore_merges);

/** As tokenizer.json spells a behavior. */
const char *ag_cut_name(ag_cut_t cut);
bool ag_cut_of(const char *name, ag_cut_t *cut_p); /* false: none has this name */

/** The id of a special token that stands as a string, or as an object with its content; -1: none.
 */
int32_t ag_token_id_of(const ag_tokenizer_t *tokenizer, const ag_json_t *token);

/**
 * An expression of Oniguruma's (Ruby's syntax) in PCRE2's syntax, NUL-terminated.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED where the two differ in what is not translated.
 */
ag_status_t ag_pattern_translate(const char *pattern, ag_array_t *translated);

/* Merging (bpe.c). */
typedef struct ag_bpe {
    const ag_tokenizer_t *tokenizer;
    ag_array_t symbols, heap; /* kept from word to word */
    size_t most_symbols, most_candidates;
} ag_bpe_t;

void ag_bpe_init(ag_bpe_t *bpe, const ag_tokenizer_t *tokenizer);
void ag_bpe_fini(ag_bpe_t *bpe);

/** Bytes of what it keeps, as far as words so far have used it. */
uint64_t ag_bpe_bytes(const ag_bpe_t *bpe);

/** Append the ids of one word. */
ag_status_t ag_bpe_encode(ag_bpe_t *bpe, const char *bytes, size_t n_bytes, ag_array_t *ids);

/* The two kinds of files. */
ag_status_t ag_tokenizer_read_gguf(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
ag_status_t ag_tokenizer_read_folder(const ag_model_files_t *files, ag_tokenizer_t *tokenizer);
