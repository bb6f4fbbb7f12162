/* A model, or what was made of it, into files that other programs read. */
#pragma once

#include "runtime/model/export.h"

/**
 * Write a Hugging Face folder: config.json, model.safetensors (or several with an index), the
 * tokenizer's files. All take their names at the end, config.json last; other files that stand in
 * the folder stay.
 * @param model   what it is, and the files that its tokenizer is taken from.
 * @param source  its weights; NULL: the model's own files.
 * @param opts    gguf is not looked at; borrowed.
 * @return AG_OK, AG_ERR_IO, AG_ERR_NOMEM, AG_ERR_INTERRUPTED; AG_ERR_UNSUPPORTED: such files cannot
 *         say what the model is; AG_ERR_FORMAT: a value that the type cannot hold.
 */
ag_status_t ag_export_hf(const ag_model_t *model, const ag_weight_source_t *source,
                         const ag_export_opts_t *opts, const char *dir);

/** The same as a GGUF file, with all that llama.cpp needs. */
ag_status_t ag_export_gguf(const ag_model_t *model, const ag_weight_source_t *source,
                           const ag_export_opts_t *opts, const char *file);
