/*
 * Datasets for training and evaluation: files of text, dialogues or ids become rows of seq_length
 * tokens, in an order that depends on the data and the seed alone.
 */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/json.h"
#include "runtime/base/team.h"
#include "runtime/text/chat.h"

typedef struct ag_dataset ag_dataset_t;

typedef enum ag_data_order {
    AG_DATA_ORDER_DEFAULT, /* documents shuffled; ids of .npy files in order */
    AG_DATA_IN_ORDER,
    AG_DATA_SHUFFLED,
} ag_data_order_t;

typedef struct ag_dataset_opts {
    const char *const *paths; /* (n_paths) JSON lines and plain text, or .npy files of ids */
    size_t n_paths;
    const ag_tokenizer_t
        *tokenizer;      /* borrowed until the dataset is closed; NULL: .npy files only */
    ag_chat_opts_t chat; /* of dialogues; the name is borrowed while opening */
    uint32_t vocab_size; /* of the model: ids are below it */
    uint32_t seq_length; /* tokens of a row; 1 or more */
    uint64_t seed;       /* of the order */
    ag_data_order_t order;
    bool train_on_prompt;      /* a loss on every token, not on the answers alone */
    bool are_ids;              /* text is refused */
    const char *cache_dir;     /* where what was tokenized is kept, made if need be; .npy files need
                                  none */
    ag_team_t *team;           /* tokenizes and checks, while opening; NULL = the caller alone */
    const ag_cancel_t *cancel; /* looked at while opening; NULL = never */
} ag_dataset_opts_t;

/**
 * Open files as a dataset. Text is tokenized, once: into a file in cache_dir, which is used again
 * as long as files, tokenizer, chat options and vocabulary are the same, and made again where it is
 * damaged. Any number of processes may do so at once. Where ranks share a folder, one that opens it
 * before the others saves them the work. Of one line of JSON `messages` counts before `prompt` and
 * `completion`, and these before `text`.
 * @param opts  borrowed while opening, but for the tokenizer.
 * @return AG_OK; AG_ERR_INVALID: options, or a tokenizer whose ids are beyond the vocabulary;
 * AG_ERR_FORMAT, with file and line, or element; AG_ERR_UNSUPPORTED: dialogues, and a chat template
 * that is not known; AG_ERR_IO, AG_ERR_NOMEM, AG_ERR_INTERRUPTED.
 */
ag_status_t ag_dataset_open(const ag_dataset_opts_t *opts, ag_dataset_t **dataset_p);
void ag_dataset_close(ag_dataset_t *dataset); /* NULL is allowed */

typedef struct ag_dataset_counts {
    uint64_t documents;      /* texts, dialogues, samples; .npy files */
    uint64_t tokens;         /* of them, with BOS and EOS */
    uint64_t replaced;       /* places that were no UTF-8, read as U+FFFD */
    uint64_t split;          /* texts longer than a row, in several pieces */
    uint64_t cut;            /* samples and dialogues longer than a row, */
    uint64_t cut_tokens;     /* and the tokens that they lost by it */
    uint64_t without_target; /* documents without a token to learn from, left out */
    uint64_t unused_tokens;  /* of .npy files: behind the last whole row */
    uint64_t pieces;         /* documents or parts of them that rows are packed from */
    uint64_t rows;           /* in an epoch */
    uint64_t row_tokens;     /* of rows x seq_length, those used */
    bool from_cache;         /* nothing had to be tokenized */
} ag_dataset_counts_t;

ag_dataset_counts_t ag_dataset_counts(const ag_dataset_t *dataset);

/** Do rows come in an order that the seed chose? */
bool ag_dataset_is_shuffled(const ag_dataset_t *dataset);

/** Memory that the index takes: for the ledger. */
uint64_t ag_dataset_bytes(const ag_dataset_t *dataset);

/* Where training stands in the data: the row that comes next. Plain data, for checkpoints. */
typedef struct ag_data_position {
    uint64_t fingerprint; /* of data, tokenizer, seq_length, seed and order */
    uint64_t epoch;       /* from 0 */
    uint64_t row;         /* in the epoch */
} ag_data_position_t;

/** The first row of the first epoch. */
ag_data_position_t ag_dataset_start(const ag_dataset_t *dataset);

/** The position n_rows further on; epochs follow one another without a gap. */
ag_data_position_t ag_dataset_after(const ag_dataset_t *dataset, ag_data_position_t position,
                                    uint64_t n_rows);

/** Is it a position in this dataset? @return AG_OK, AG_ERR_INVALID. */
ag_status_t ag_dataset_check(const ag_dataset_t *dataset, ag_data_position_t position);

/** As an object of JSON, and back. @return AG_OK, AG_ERR_FORMAT. */
ag_json_t *ag_data_position_json(ag_data_position_t position);
ag_status_t ag_data_position_read(const ag_json_t *json, ag_data_position_t *position_p);

/* Arrays of the caller's, for n rows. */
typedef struct ag_data_rows {
    int32_t *tokens;     /* (rows, seq_length) */
    int32_t *targets;    /* (rows, seq_length) what is to be predicted there; -1: no loss */
    int32_t *positions;  /* (rows, seq_length) from 0 in each document, or piece of one */
    uint32_t *n_tokens;  /* (rows) used; those behind them are padding, a document without a loss */
    uint32_t *n_targets; /* (rows) that are not -1 */
} ag_data_rows_t;

/**
 * Read the n_rows rows from a position on; an evaluation reads those of one epoch, 0 to
 * counts.rows - 1, of a dataset that is in order. Any rows may be read by anyone at any time, so
 * replicas read theirs alone; from any thread.
 * @return AG_OK, AG_ERR_INVALID (a position in other data), AG_ERR_IO, AG_ERR_FORMAT (the file was
 *         changed meanwhile), AG_ERR_NOMEM.
 */
ag_status_t ag_dataset_read(const ag_dataset_t *dataset, ag_data_position_t position,
                            uint64_t n_rows, const ag_data_rows_t *rows);

/**
 * How many targets n_rows rows from a position on have, without reading them into arrays: a rank
 * that reads a part of a global batch divides by the targets of all of it.
 * @return as ag_dataset_read().
 */
ag_status_t ag_dataset_targets(const ag_dataset_t *dataset, ag_data_position_t position,
                               uint64_t n_rows, uint64_t *n_targets_p);

/**
 * Where documents begin in rows that were read, in a row as at its end: attention stays between two
 * of these.
 * @param positions  (n) of one or more rows.
 * @param row_begin  out: (n + 1) ascending, the last is n; as in ag_step_t.
 * @return the number of documents.
 */
size_t ag_data_documents(const int32_t *positions, size_t n, int32_t *row_begin);

/**
 * Append one row as text to be looked at: a line of its own says what each document is; what has no
 * loss stands between AG_DATA_MASK_BEGIN and AG_DATA_MASK_END.
 * @param most  so many documents of it; 0: all.
 * @param text  char items; ids where the dataset has no tokenizer.
 * @return as ag_dataset_read().
 */
ag_status_t ag_dataset_show(const ag_dataset_t *dataset, ag_data_position_t position, size_t most,
                            ag_array_t *text);

#define AG_DATA_MASK_BEGIN "\xe2\x9f\xa6" /* U+27E6 */
#define AG_DATA_MASK_END "\xe2\x9f\xa7"   /* U+27E7 */
