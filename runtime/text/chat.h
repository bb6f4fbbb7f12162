/* Chat templates, recognised from the template's text. What is not recognised is refused. */
#pragma once

#include "runtime/text/tokenizer.h"

typedef struct ag_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t content_bytes;
} ag_chat_message_t;

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
