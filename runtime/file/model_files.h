/*
 * A model on disk, whatever its form: a GGUF file or a Hugging Face folder. One directory of
 * tensors, one way to ask for a setting, one way to read a range.
 */
#pragma once

#include "runtime/base/json.h"
#include "runtime/file/gguf.h"

typedef struct ag_model_files ag_model_files_t;

typedef struct ag_model_tensor {
    const char *name;
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS]; /* outermost first */
    uint32_t file;              /* which of the model's files */
    uint32_t scales;            /* 1 + which of the tensors holds them, of AG_F8_E4M3_128; of
                                   AG_MXFP4 in folders, 1 + which of their scales; else 0 */
    uint64_t offset_bytes;      /* from the start of that file */
    uint64_t bytes;             /* of its type, with scales */
} ag_model_tensor_t;

/**
 * Open a GGUF file (or any part of one that was split, NAME-00001-of-00003.gguf: the others stand
 * beside it), a config.json alone (ag_model_files_make()), or a folder (config.json;
 * model.safetensors, or model.safetensors.index.json and the files it names, or every
 * model*.safetensors). Only headers are read.
 * @return AG_OK; AG_ERR_IO (missing: says what was looked for), AG_ERR_FORMAT, AG_ERR_UNSUPPORTED.
 */
ag_status_t ag_model_files_open(const char *path, ag_model_files_t **files_p);
void ag_model_files_close(ag_model_files_t *files);

/** Was it opened as a config.json alone, beside which a tokenizer may lie? Then it has no tensors
 * yet. */
bool ag_model_files_are_made(const ag_model_files_t *files);

/**
 * Add a tensor that no file has: float32, mean + deviation x a normal variate by the number of each
 * element, drawn when it is read.
 * @param name    copied.
 * @param stream  of the random numbers; each tensor's own.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_FORMAT (its name is known).
 */
ag_status_t ag_model_files_make(ag_model_files_t *files, const char *name, uint32_t n_dims,
                                const uint64_t *dims, float mean, float deviation, uint32_t stream);

/** Draw other values for the tensors that no file has [0]; before any is read. */
void ag_model_files_seed(ag_model_files_t *files, uint64_t seed);

/** The folder, or the file. */
const char *ag_model_files_path(const ag_model_files_t *files);
const ag_gguf_t *ag_model_files_gguf(const ag_model_files_t *files);   /* NULL: a folder */
const ag_json_t *ag_model_files_config(const ag_model_files_t *files); /* NULL: a GGUF file */

/** generation_config.json of a folder; NULL when there is none. */
const ag_json_t *ag_model_files_generation_config(const ag_model_files_t *files);

const ag_model_tensor_t *ag_model_files_tensors(const ag_model_files_t *files, size_t *n_p);

/** Look a tensor up by its name; NULL when absent. */
const ag_model_tensor_t *ag_model_files_find(const ag_model_files_t *files, const char *name);

/**
 * Look a tensor up that the model cannot do without.
 * @return AG_OK; AG_ERR_FORMAT (absent); AG_ERR_UNSUPPORTED (there, but of a type that no dtype
 *         holds: lists the known ones).
 */
ag_status_t ag_model_files_require(const ag_model_files_t *files, const char *name,
                                   const ag_model_tensor_t **tensor_p);

/**
 * pread bytes [begin, begin + n) of a tensor, whole blocks of its type. Thread-safe.
 * @return AG_OK; AG_ERR_IO with file, tensor and offset (a short read is one).
 */
ag_status_t ag_model_files_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                                uint64_t begin, uint64_t n, void *dst);
