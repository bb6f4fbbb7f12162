/*
 * 4-bit floats as transformers stores them (gpt-oss): NAME_blocks (..., blocks, 16) with two values
 * a byte, and NAME_scales (..., blocks) with an exponent for each block of 32. Of both becomes one
 * tensor NAME, in blocks as GGUF files have them, so that nobody else knows of two:
 *
 *     here and there  a byte of exponent, then 16 bytes
 *     file            byte j has values 2j and 2j + 1, the low half first
 *     block           byte j has values j and j + 16
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file/input_priv.h"
#include "runtime/file/model_files_priv.h"

enum { BLOCK_VALUES = 32, RAW_BYTES = 16, BLOCK_BYTES = 1 + RAW_BYTES };

/* A tensor of bytes, which no dtype holds, in one of a model's files. */
typedef struct raw {
    const ag_safetensors_left_out_t *tensor;
    uint32_t file;
} raw_t;

static raw_t find_raw(const ag_model_files_t *files, const char *name)
{
    for (uint32_t file = 0; file < files->shards.n_items; file++) {
        const ag_model_shard_t *shard = &AG_ITEMS(&files->shards, const ag_model_shard_t)[file];
        const ag_safetensors_left_out_t *tensor = ag_model_shard_left_out(shard, name);

        if (tensor != NULL) {
            return (raw_t){tensor, file};
        }
    }
    return (raw_t){0};
}

static ag_status_t check_shapes(const ag_model_files_t *files, const ag_safetensors_left_out_t *raw,
                                const ag_safetensors_left_out_t *scales)
{
    bool same = raw->n_dims >= 3 && raw->n_dims <= AG_MAX_DIMS &&
                raw->dims[raw->n_dims - 1] == RAW_BYTES && strcmp(scales->type, "U8") == 0 &&
                scales->n_dims == raw->n_dims - 1;
    char have[64], want[64];

    for (uint32_t d = 0; same && d < scales->n_dims; d++) {
        same = scales->dims[d] == raw->dims[d];
    }
    if (same && raw->dims[raw->n_dims - 2] <= UINT64_MAX / BLOCK_VALUES) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: tensors '%s' %s and '%s' %s are no blocks of %d bytes and a scale for each",
                   files->path, raw->name,
                   ag_shape_text(raw->n_dims, raw->dims, have, sizeof(have)), scales->name,
                   ag_shape_text(scales->n_dims, scales->dims, want, sizeof(want)), RAW_BYTES);
}

static ag_status_t join(ag_model_files_t *files, const ag_safetensors_left_out_t *raw,
                        uint32_t file)
{
    size_t n_stem = strlen(raw->name) - strlen("_blocks");
    char name[AG_NAME_MAX_BYTES + 16];
    ag_model_tensor_t tensor = {.dtype = AG_MXFP4,
                                .n_dims = raw->n_dims - 1,
                                .file = file,
                                .offset_bytes = raw->offset_bytes,
                                .bytes = raw->bytes / RAW_BYTES * BLOCK_BYTES};
    ag_nibble_scales_t place;
    raw_t scales;
    ag_status_t status;

    snprintf(name, sizeof(name), "%.*s_scales", (int)n_stem, raw->name);
    scales = find_raw(files, name);
    if (scales.tensor == NULL) {
        return ag_fail(AG_ERR_FORMAT, "%s: tensor '%s' has no scales: '%s' is missing", files->path,
                       raw->name, name);
    }
    status = check_shapes(files, raw, scales.tensor);
    if (status != AG_OK) {
        return status;
    }
    memcpy(tensor.dims, raw->dims, tensor.n_dims * sizeof(tensor.dims[0]));
    tensor.dims[tensor.n_dims - 1] *= BLOCK_VALUES;
    place = (ag_nibble_scales_t){scales.file, scales.tensor->offset_bytes};
    status = ag_array_append(&files->nibble_scales, &place, 1);
    tensor.scales = (uint32_t)files->nibble_scales.n_items;
    if (status == AG_OK) {
        status = ag_pile_text(&files->pile, raw->name, n_stem, &tensor.name);
    }
    return status == AG_OK ? ag_model_files_add_tensor(files, &tensor) : status;
}

static bool is_blocks(const ag_safetensors_left_out_t *tensor)
{
    static const char ending[] = "_blocks";
    size_t n = strlen(tensor->name), n_ending = sizeof(ending) - 1;

    return strcmp(tensor->type, "U8") == 0 && n > n_ending &&
           strcmp(tensor->name + n - n_ending, ending) == 0;
}

ag_status_t ag_mxfp4_join(ag_model_files_t *files)
{
    ag_status_t status = AG_OK;

    for (uint32_t file = 0; file < files->shards.n_items && status == AG_OK; file++) {
        const ag_model_shard_t *shard = &AG_ITEMS(&files->shards, const ag_model_shard_t)[file];
        size_t n;
        const ag_safetensors_left_out_t *raw = ag_safetensors_left_out(shard->safetensors, &n);

        for (size_t i = 0; i < n && status == AG_OK; i++) {
            status = is_blocks(&raw[i]) ? join(files, &raw[i], file) : AG_OK;
        }
    }
    return status;
}

static unsigned nibble(const unsigned char *bytes, int i)
{
    return bytes[i / 2] >> (i % 2 * 4) & 15;
}

ag_status_t ag_mxfp4_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                          uint64_t begin, uint64_t n, void *dst)
{
    const ag_model_shard_t *shards = AG_ITEMS(&files->shards, ag_model_shard_t);
    const ag_model_shard_t *shard = &shards[tensor->file];
    const ag_nibble_scales_t *place =
        &AG_ITEMS(&files->nibble_scales, ag_nibble_scales_t)[tensor->scales - 1];
    const ag_model_shard_t *beside = &shards[place->file];
    uint64_t first = begin / BLOCK_BYTES, n_blocks = n / BLOCK_BYTES;
    unsigned char *blocks = dst, *raw = blocks + n_blocks; /* each goes to its place before it */
    unsigned char *scales = malloc(n_blocks + 1);
    ag_status_t status;

    if (scales == NULL) {
        return ag_fail_nomem(tensor->name, n_blocks);
    }
    if (begin % BLOCK_BYTES != 0 || n % BLOCK_BYTES != 0) {
        status = ag_fail(AG_ERR_INVALID, "reading %s: tensor '%s' is read in whole blocks of %d",
                         shard->path, tensor->name, BLOCK_BYTES);
    } else {
        status = ag_file_pread(beside->fd, beside->path, tensor->name, place->offset_bytes + first,
                               n_blocks, scales);
    }
    if (status == AG_OK) {
        status = ag_file_pread(shard->fd, shard->path, tensor->name,
                               tensor->offset_bytes + first * RAW_BYTES, n_blocks * RAW_BYTES, raw);
    }
    for (uint64_t i = 0; i < n_blocks && status == AG_OK; i++, blocks += BLOCK_BYTES) {
        unsigned char as_stored[RAW_BYTES];

        memcpy(as_stored, raw + i * RAW_BYTES, RAW_BYTES);
        blocks[0] = scales[i];
        for (int j = 0; j < RAW_BYTES; j++) {
            blocks[1 + j] =
                (unsigned char)(nibble(as_stored, j) | nibble(as_stored, j + RAW_BYTES) << 4);
        }
    }
    free(scales);
    return status;
}
