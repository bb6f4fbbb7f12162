/* Cutting a text into words (split.c), and the pre-tokenizers that GGUF files name (known.c). */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_cut {
    AG_CUT_ISOLATED,      /* matches are words, and so is what lies between them */
    AG_CUT_REMOVED,       /* matches are dropped */
    AG_CUT_CONTIGUOUS,    /* neighbouring matches are one word */
    AG_CUT_WITH_PREVIOUS, /* a match ends the word before it */
    AG_CUT_WITH_NEXT,     /* a match begins the word after it */
} ag_cut_t;               /* Hugging Face's SplitDelimiterBehavior */

typedef enum ag_rule_kind {
    AG_RULE_CUT,       /* at an expression */
    AG_RULE_PREFIX,    /* the pattern comes before a word that does not begin with it */
    AG_RULE_METASPACE, /* spaces become the pattern, which comes before a word, too, and begins
                          words */
} ag_rule_kind_t;

typedef enum ag_prepend {
    AG_PREPEND_ALWAYS,
    AG_PREPEND_FIRST, /* before the text's first word alone */
    AG_PREPEND_NEVER,
} ag_prepend_t; /* Hugging Face's PrependScheme */

typedef struct ag_split_rule {
    ag_rule_kind_t kind;
    const char *pattern;  /* Oniguruma's syntax, as Hugging Face's tokenizers have it */
    bool literal;         /* CUT: no expression: the text itself */
    bool invert;          /* CUT: what lies between matches counts as match */
    bool whole;           /* METASPACE: words are not cut */
    ag_cut_t cut;         /* CUT */
    ag_prepend_t prepend; /* METASPACE */
} ag_split_rule_t;

enum { AG_MOST_SPLIT_RULES = 16 };

/* Rules, applied one after the other. */
typedef struct ag_splitter ag_splitter_t;

/** @param rules (n) copied. @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED (an expression that
 * means nothing here). */
ag_status_t ag_splitter_create(const ag_split_rule_t *rules, size_t n_rules,
                               ag_splitter_t **splitter_p);
void ag_splitter_destroy(ag_splitter_t *splitter);
size_t ag_splitter_bytes(const ag_splitter_t *splitter);
const ag_split_rule_t *ag_splitter_rules(const ag_splitter_t *splitter, size_t *n_p);

/** Bytes that cutting a text takes, at the most. */
uint64_t ag_splitter_room_bytes(const ag_splitter_t *splitter, size_t n_bytes);

/** Of its rules. */
uint64_t ag_splitter_fingerprint(const ag_splitter_t *splitter);

/** What becomes of a word. @return what is not AG_OK ends the cutting, and is its status. */
typedef ag_status_t (*ag_word_fn_t)(void *arg, const char *bytes, size_t n_bytes);

enum {
    AG_SPLIT_FIRST = 1,     /* flag: the text is the beginning of the whole */
    AG_SPLIT_CONTINUES = 2, /* and the whole goes on from another: nothing comes before it */
};

/** Cut valid UTF-8: fn is called for the words in order, none empty, one after the other: nothing
 * of the text is held. */
ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              unsigned flags, ag_word_fn_t fn, void *arg);

/** GPT-2's expression. */
extern const char ag_pattern_gpt2[];

/* A pre-tokenizer that GGUF files name. */
typedef struct ag_pre_tokenizer {
    const char *name;
    const ag_split_rule_t *rules;
    size_t n_rules;
    bool ignore_merges, adds_bos; /* what the name implies, where the file does not say */
    bool composes;                /* the text is brought to NFC first */
} ag_pre_tokenizer_t;

/** By name; @return AG_OK, AG_ERR_UNSUPPORTED: lists the known ones. */
ag_status_t ag_pre_tokenizer_find(const char *path, const char *name, size_t n_bytes,
                                  const ag_pre_tokenizer_t **pre_p);

/** The one that cuts by these rules; NULL: GGUF files have no name for it. */
const ag_pre_tokenizer_t *ag_pre_tokenizer_of(const ag_split_rule_t *rules, size_t n_rules,
                                              bool ignore_merges, bool composes);

/** As tokenizer.json spells them. */
const char *ag_cut_name(ag_cut_t cut);
bool ag_cut_of(const char *name, ag_cut_t *cut_p); /* false: none has this name */
const char *ag_prepend_name(ag_prepend_t prepend);
bool ag_prepend_of(const char *name, ag_prepend_t *prepend_p);
