/* Chat templates, recognised from the template's text. What is not recognised is refused. */
#pragma once

#include "runtime/text/tokenizer.h"

typedef struct ag_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t content_bytes; /* what is no UTF-8 in it becomes U+FFFD */
} ag_chat_message_t;

/* Does the model think before it answers? For templates with such a switch (enable_thinking). */
typedef enum ag_chat_thinking {
    AG_THINKING_BY_TEMPLATE,
    AG_THINKING_ON,
    AG_THINKING_OFF,
} ag_chat_thinking_t;

typedef struct ag_date {
    unsigned year, month, day; /* from 1; year 0: none */
} ag_date_t;

typedef struct ag_chat_opts {
    const char *name; /* one of ag_chat_names(); NULL: what the model's template is */
    ag_chat_thinking_t thinking;
    const char *effort; /* of reasoning: "low", "medium", "high"; NULL: the template's own */
    ag_date_t date; /* that some templates tell the model; none: 26 July 2024, as Llama 3's have it
                       for those who know no date */
} ag_chat_opts_t;

/* A template that was recognised: for many dialogues. Immutable, may be shared between threads. */
typedef struct ag_chat ag_chat_t;

typedef struct ag_chat_names {
    char text[768];
} ag_chat_names_t;

/** The names of the templates that are known, separated by ", ". */
ag_chat_names_t ag_chat_names(void);

/**
 * @param opts  NULL: all zero.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: the model has no template, or one that is not
 *         known; AG_ERR_INVALID: no template has this name, or there is no such switch.
 */
ag_status_t ag_chat_open(const ag_tokenizer_t *tokenizer, const ag_chat_opts_t *opts,
                         ag_chat_t **chat_p);
void ag_chat_close(ag_chat_t *chat); /* NULL is allowed */

/** As its users name it. */
const char *ag_chat_name(const ag_chat_t *chat);

/** The special token that ends an answer; -1: no such token does. */
int32_t ag_chat_end(const ag_chat_t *chat);

/** Of the options alone: renderings that differ by them have different ones. */
uint64_t ag_chat_opts_fingerprint(const ag_chat_opts_t *opts);

/* A dialogue as text. */
typedef struct ag_chat_text {
    ag_array_t text;     /* char: valid UTF-8 */
    ag_array_t answers;  /* ag_text_span_t: what the assistant says, each with the mark that ends
                            it, from where the beginning of an answer leaves off */
    ag_array_t contents; /* ag_text_span_t: what messages say; the rest are the template's marks */
} ag_chat_text_t;

void ag_chat_text_init(ag_chat_text_t *text);
void ag_chat_text_fini(ag_chat_text_t *text);

/**
 * Render a dialogue as transformers' apply_chat_template does.
 * @param prompt  add_generation_prompt: the beginning of an answer comes last.
 * @param text    what was in it is replaced.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: no message, another role, or an order of roles that
 *         the template refuses.
 */
ag_status_t ag_chat_render(const ag_chat_t *chat, const ag_chat_message_t *messages,
                           size_t n_messages, bool prompt, ag_chat_text_t *text);

/**
 * Append the ids of bytes begin .. end - 1 of a rendered dialogue: its marks are special tokens,
 * which messages cannot say: what looks like one in them is text.
 * @param flags, ids, most_bytes_p  as ag_tokenizer_encode()'s.
 */
ag_status_t ag_chat_encode(const ag_tokenizer_t *tokenizer, const ag_chat_text_t *text,
                           size_t begin, size_t end, unsigned flags, ag_array_t *ids,
                           uint64_t *most_bytes_p);
