/* Chat templates, written to files of either kind. */
#pragma once

#include "runtime/base/json.h"
#include "runtime/file/gguf.h"
#include "runtime/file/gguf_metadata.h"

/**
 * tokenizer.chat_template, and tokenizer.chat_template.NAME for others.
 * @param config  tokenizer_config.json: its list, if it has one. @param own  NULL: there is none.
 */
void ag_export_chat_to_gguf(const ag_json_t *config, const char *own, ag_gguf_metadata_t *metadata);

/** chat_template of tokenizer_config.json: a text, or a list of named ones. */
void ag_export_chat_to_config(const ag_gguf_t *gguf, const char *own, ag_json_t *config);
