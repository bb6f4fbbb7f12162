/* Chat templates, recognised from the template's text. What is not recognised is refused. */
#pragma once

#include "runtime/text/tokenizer.h"

typedef struct ag_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t content_bytes;
} ag_chat_message_t;

/* A template that was recognised: for many dialogues. Immutable, may be shared between threads. */
typedef struct ag_chat ag_chat_t;

/** @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: the model has no template, or one that is not
 * known. */
ag_status_t ag_chat_open(const ag_tokenizer_t *tokenizer, ag_chat_t **chat_p);
void ag_chat_close(ag_chat_t *chat); /* NULL is allowed */

/* Bytes begin .. end - 1 of a rendered dialogue. */
typedef struct ag_chat_span {
    size_t begin, end;
} ag_chat_span_t;

/**
 * Append a whole dialogue, as apply_chat_template(add_generation_prompt=False) renders it.
 * @param text     char items.
 * @param answers  ag_chat_span_t items: what the assistant says, each with the mark that ends it.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: no message, or another role.
 */
ag_status_t ag_chat_dialogue(const ag_chat_t *chat, const ag_chat_message_t *messages,
                             size_t n_messages, ag_array_t *text, ag_array_t *answers);

/**
 * Render a dialogue as transformers' apply_chat_template(add_generation_prompt=True) does, a
 * default system turn included. Special tokens stand in the text, as text.
 * @param n_messages  1 or more.
 * @param text_p  out: free() it.
 * @return AG_OK; AG_ERR_UNSUPPORTED: the model has no template, or one that is not known;
 *         AG_ERR_INVALID: no message, or another role.
 */
ag_status_t ag_chat_render(const ag_tokenizer_t *tokenizer, const ag_chat_message_t *messages,
                           size_t n_messages, char **text_p, size_t *n_bytes_p);
