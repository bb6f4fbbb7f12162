/* A model's files while they are opened: model_files.c, and a source for each form. */
#pragma once

#include "runtime/base/array.h"
#include "runtime/file/model_files.h"
#include "runtime/file/names_priv.h"
#include "runtime/file/pile_priv.h"
#include "runtime/file/safetensors.h"

#define AG_A_MODEL_IS                                                                              \
    "a model is a GGUF file, or a Hugging Face folder with config.json and model*.safetensors"

/* One file with tensors, of either form. */
typedef struct ag_model_shard {
    const char *name; /* within the folder; the whole path of a GGUF file */
    const char *path;
    ag_safetensors_t *safetensors;
    ag_gguf_t *gguf;
    int fd;
} ag_model_shard_t;

/* Where the scales of a tensor of 4-bit floats are. */
typedef struct ag_nibble_scales {
    uint32_t file;
    uint64_t offset_bytes;
} ag_nibble_scales_t;

struct ag_model_files {
    ag_pile_t pile; /* names and paths */
    const char *path;
    const ag_gguf_t *gguf; /* of the first shard: the metadata */
    ag_json_t *config;
    ag_json_t *generation_config;
    ag_array_t shards;        /* ag_model_shard_t */
    ag_array_t tensors;       /* ag_model_tensor_t */
    ag_array_t nibble_scales; /* ag_nibble_scales_t */
    ag_names_t names;         /* -> tensors */
    bool are_made;
    ag_array_t made; /* ag_made_t, of each tensor, if so */
    uint64_t seed;   /* of what is drawn */
};

/** Open the GGUF file at files->path, and the other parts of a split one. */
ag_status_t ag_model_files_open_gguf(ag_model_files_t *files);

/** Open the folder at files->path. */
ag_status_t ag_model_files_open_folder(ag_model_files_t *files);

/** Read a JSON file of the folder; *json_p stays NULL when there is none. */
ag_status_t ag_model_files_read_json(ag_model_files_t *files, const char *name, ag_json_t **json_p);

/**
 * Add a file with its tensors, opened for reading them; it is closed with `files`, whatever comes
 * later. What the shard has open is taken over, on failure closed.
 * @return AG_OK; AG_ERR_FORMAT: a tensor's name is taken; AG_ERR_IO, AG_ERR_NOMEM.
 */
ag_status_t ag_model_files_add_shard(ag_model_files_t *files, const ag_model_shard_t *shard);

/** Add a tensor whose name lives as long as `files`. @return AG_OK, AG_ERR_FORMAT (there is one of
 * that name), AG_ERR_NOMEM. */
ag_status_t ag_model_files_add_tensor(ag_model_files_t *files, const ag_model_tensor_t *tensor);

/** A tensor that is in the shard but was left out; NULL: it is not there. */
const ag_safetensors_left_out_t *ag_model_shard_left_out(const ag_model_shard_t *shard,
                                                         const char *name);

/** What is not whole can be mended by nobody here: add that to the error. */
ag_status_t ag_model_files_say_get_again(ag_status_t status);

/**
 * Give tensors of 8-bit floats the scales that stand beside them: they become AG_F8_E4M3_128.
 * @return AG_OK; AG_ERR_FORMAT (scales of another shape); AG_ERR_UNSUPPORTED (of a type that is not
 *         known, rows that are not whole blocks of 128).
 */
ag_status_t ag_scaled_attach(ag_model_files_t *files);

/** ag_model_files_read() of such a tensor: whole blocks. */
ag_status_t ag_scaled_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                           uint64_t begin, uint64_t n, void *dst);

/**
 * Make one tensor of 4-bit floats of each two that have its bytes and its scales.
 * @return AG_OK; AG_ERR_FORMAT: one of the two is missing, or of another shape; AG_ERR_NOMEM.
 */
ag_status_t ag_mxfp4_join(ag_model_files_t *files);

/** ag_model_files_read() of such a tensor: whole blocks. */
ag_status_t ag_mxfp4_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                          uint64_t begin, uint64_t n, void *dst);
