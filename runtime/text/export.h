/* A model's tokenizer, chat template and special ids into files of either kind. */
#pragma once

#include "runtime/file/folder.h"
#include "runtime/file/gguf_metadata.h"
#include "runtime/file/model_files.h"

/**
 * The files of a Hugging Face folder: copies of a folder's own, or tokenizer.json,
 * tokenizer_config.json and generation_config.json from what a GGUF file says. A folder without a
 * tokenizer gets none.
 * @return AG_OK, AG_ERR_IO; AG_ERR_FORMAT, AG_ERR_UNSUPPORTED as ag_tokenizer_open().
 */
ag_status_t ag_tokenizer_to_folder(const ag_model_files_t *files, ag_folder_t *folder);

/**
 * tokenizer.json of what a GGUF file says.
 * @param json_p  out: to be destroyed.
 * @return as ag_tokenizer_open().
 */
ag_status_t ag_tokenizer_to_json(const ag_model_files_t *files, ag_json_t **json_p);

/** The special ids that a GGUF file names, as config.json has them; a folder's own has its own. */
void ag_tokenizer_to_config(const ag_model_files_t *files, ag_json_t *config);

/**
 * tokenizer.* of a GGUF file: a copy of another's, or made of a folder's tokenizer.json.
 * @param n_vocab  rows of the embedding table: ids that the tokenizer does not know are unused.
 * @return AG_OK, AG_ERR_IO, AG_ERR_FORMAT; AG_ERR_UNSUPPORTED: GGUF files have no name for its
 *         pre-tokenizer, or as ag_tokenizer_open().
 */
ag_status_t ag_tokenizer_to_gguf(const ag_model_files_t *files, uint32_t n_vocab,
                                 ag_gguf_metadata_t *metadata);
