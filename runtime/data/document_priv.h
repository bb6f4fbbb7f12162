/* What becomes of one text or line: its ids, and which of them are learned. */
#pragma once

#include "runtime/text/chat.h"

/* The top bit of an id in memory and in cache files: there is no loss on it. */
#define AG_DATA_NO_LOSS INT32_MIN

enum { AG_DOC_SAMPLE = 1 /* is cut where it is too long for a row, not split */ };

/* A document among ids that follow each other. Stands so in cache files. */
typedef struct ag_data_doc {
    uint64_t begin; /* its first id */
    uint32_t
        first_target; /* of its ids from 1 on, the first with a loss; UINT32_MAX: none before */
    uint32_t flags;
} ag_data_doc_t;

/* How documents are made: immutable, shared by threads. */
typedef struct ag_doc_rules {
    const ag_tokenizer_t *tokenizer;
    const ag_chat_t *chat;    /* NULL: there is none, */
    const char *chat_trouble; /* for this reason */
    ag_status_t chat_status;
    uint32_t vocab_size;
} ag_doc_rules_t;

/* What one thread makes, and the room that it needs for it. */
typedef struct ag_doc_output {
    ag_array_t ids;            /* int32_t */
    ag_array_t docs;           /* ag_data_doc_t, from the first of `ids` */
    uint64_t n_replaced;       /* places that were no UTF-8 */
    ag_array_t text, messages; /* scratch, */
    ag_chat_text_t dialogue;   /* too */
} ag_doc_output_t;

void ag_doc_output_init(ag_doc_output_t *output);
void ag_doc_output_fini(ag_doc_output_t *output);

/** Part of a text: ids, no document. @param continues  it is not the first part. @param what names
 * it in errors. */
ag_status_t ag_doc_text(const ag_doc_rules_t *rules, const char *what, const char *bytes,
                        size_t n_bytes, bool continues, ag_doc_output_t *output);

/** One line of JSON: a document, or nothing where it is blank. @param line from 1. */
ag_status_t ag_doc_line(const ag_doc_rules_t *rules, const char *path, uint64_t line,
                        const char *bytes, size_t n_bytes, ag_doc_output_t *output);

static inline int32_t ag_data_id(int32_t id)
{
    return id & ~AG_DATA_NO_LOSS;
}
