/*
 * 8-bit floats whose scales are a tensor of their own: of blocks of 128 x 128 (DeepSeek-V3), of
 * rows, or one for all. They are read as blocks of 128 that carry their scale, so that nobody else
 * knows of two tensors:
 *
 *     for each block of the range: its scale, 128 bytes as they stand in the file
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file/input_priv.h"
#include "runtime/file/model_files_priv.h"

enum { SIDE = 128, BLOCK_BYTES = sizeof(float) + SIDE };

/* What is put behind a tensor's name; either is multiplied by. */
static const char *const suffixes[] = {"_scale_inv", "_scale"};
enum { N_SUFFIXES = sizeof(suffixes) / sizeof(suffixes[0]) };

/* How scales are laid over a weight's rows and blocks of columns. */
typedef struct grid {
    uint64_t rows_each; /* rows of the weight for a row of scales */
    uint64_t rows, columns;
} grid_t;

static uint64_t blocks_of(uint64_t n)
{
    return n / SIDE + (n % SIDE != 0);
}

static grid_t grid_of(const ag_model_tensor_t *weight, const ag_model_tensor_t *scales)
{
    grid_t grid = {.rows = 1, .columns = 1};

    if (scales->n_dims > 0) {
        grid.rows = scales->dims[0];
    }
    if (scales->n_dims > 1) {
        grid.columns = scales->dims[1];
    }
    grid.rows_each = grid.rows == weight->dims[0] ? 1 : grid.rows == 1 ? weight->dims[0] : SIDE;
    return grid;
}

static ag_status_t check_grid(const ag_model_files_t *files, const ag_model_tensor_t *weight,
                              const ag_model_tensor_t *scales)
{
    grid_t grid = grid_of(weight, scales);
    bool is_one = grid.rows == 1 && grid.columns == 1;
    bool is_rows = grid.rows == weight->dims[0] && grid.columns == 1;
    bool is_blocks = weight->n_dims == 2 && grid.rows == blocks_of(weight->dims[0]) &&
                     grid.columns == blocks_of(weight->dims[1]);
    char shape[64], weight_shape[64];

    if (weight->n_dims != 2 || scales->n_dims > 2 || !(is_one || is_rows || is_blocks)) {
        return ag_fail(
            AG_ERR_FORMAT,
            "%s: tensor '%s' has the shape %s, which is neither a scale for all of '%s' "
            "%s, nor for its rows, nor for blocks of %d x %d",
            files->path, scales->name,
            ag_shape_text(scales->n_dims, scales->dims, shape, sizeof(shape)), weight->name,
            ag_shape_text(weight->n_dims, weight->dims, weight_shape, sizeof(weight_shape)), SIDE,
            SIDE);
    }
    if (ag_dtype_info(scales->dtype)->block_elements != 1 || scales->dtype == AG_F8_E4M3) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: scales '%s' are of type %s; f32, bf16 and f16 do",
                       files->path, scales->name, ag_dtype_info(scales->dtype)->name);
    }
    if (weight->dims[1] % SIDE != 0) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: tensor '%s' has scales and rows of %llu, which are not whole blocks "
                       "of %d",
                       files->path, weight->name, (unsigned long long)weight->dims[1], SIDE);
    }
    return AG_OK;
}

/* Scales of a type that is not known were left out: without them values would be wrong. */
static ag_status_t check_left_out(const ag_model_files_t *files, const char *name)
{
    const ag_model_shard_t *shards = AG_ITEMS(&files->shards, const ag_model_shard_t);

    for (size_t i = 0; i < files->shards.n_items; i++) {
        const ag_safetensors_left_out_t *left_out = ag_model_shard_left_out(&shards[i], name);

        if (left_out != NULL) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "%s: scales '%s' are of type %s; F32, BF16 and F16 "
                           "do",
                           files->path, name, left_out->type);
        }
    }
    return AG_OK;
}

static ag_status_t attach(ag_model_files_t *files, ag_model_tensor_t *weight)
{
    const ag_model_tensor_t *tensors = AG_ITEMS(&files->tensors, const ag_model_tensor_t);
    ag_status_t status = AG_OK;

    for (int i = 0; i < N_SUFFIXES && status == AG_OK && weight->scales == 0; i++) {
        char name[AG_NAME_MAX_BYTES + 16];
        const ag_model_tensor_t *scales;

        snprintf(name, sizeof(name), "%s%s", weight->name, suffixes[i]);
        scales = ag_model_files_find(files, name);
        status = scales == NULL ? check_left_out(files, name) : check_grid(files, weight, scales);
        if (status == AG_OK && scales != NULL) {
            weight->scales = 1 + (uint32_t)(scales - tensors);
            weight->dtype = AG_F8_E4M3_128;
            weight->bytes = weight->bytes / SIDE * BLOCK_BYTES;
        }
    }
    return status;
}

ag_status_t ag_scaled_attach(ag_model_files_t *files)
{
    bool is_quantized = ag_json_get(files->config, "quantization_config") != NULL;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < files->tensors.n_items && status == AG_OK; i++) {
        ag_model_tensor_t *tensor = &AG_ITEMS(&files->tensors, ag_model_tensor_t)[i];

        status = tensor->dtype == AG_F8_E4M3 ? attach(files, tensor) : AG_OK;
        if (status == AG_OK && tensor->dtype == AG_F8_E4M3 && is_quantized) {
            status = ag_fail(AG_ERR_FORMAT,
                             "%s: tensor '%s' has no scales beside it (%s%s), though config.json "
                             "says that it is quantized: get the files again",
                             files->path, tensor->name, tensor->name, suffixes[0]);
        }
    }
    return status;
}

/* Rows [begin, end) of the scales, as floats; free() them. */
static ag_status_t read_scales(const ag_model_files_t *files, const ag_model_tensor_t *scales,
                               const grid_t *grid, uint64_t begin, uint64_t end, float **values_p)
{
    const ag_dtype_info_t *info = ag_dtype_info(scales->dtype);
    uint64_t n = (end - begin) * grid->columns;
    float *values = malloc(n * sizeof(float)); /* no type has elements that are larger */
    unsigned char *bytes = malloc(n * info->block_bytes);
    ag_status_t status;

    if (values == NULL || bytes == NULL) {
        status = ag_fail_nomem(scales->name, n * sizeof(float));
    } else {
        status = ag_model_files_read(files, scales, begin * grid->columns * info->block_bytes,
                                     n * info->block_bytes, bytes);
    }
    if (status == AG_OK) {
        info->unpack(bytes, values, n);
        *values_p = values;
    } else {
        free(values);
    }
    free(bytes);
    return status;
}

ag_status_t ag_scaled_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                           uint64_t begin, uint64_t n, void *dst)
{
    const ag_model_shard_t *shard = &AG_ITEMS(&files->shards, ag_model_shard_t)[tensor->file];
    const ag_model_tensor_t *scales =
        &AG_ITEMS(&files->tensors, const ag_model_tensor_t)[tensor->scales - 1];
    grid_t grid = grid_of(tensor, scales);
    uint64_t row_blocks = tensor->dims[1] / SIDE, first = begin / BLOCK_BYTES;
    uint64_t n_blocks = n / BLOCK_BYTES, first_scales;
    unsigned char *blocks = dst, *raw = blocks + n_blocks * sizeof(float);
    float *values = NULL;
    ag_status_t status;

    if (begin % BLOCK_BYTES != 0 || n % BLOCK_BYTES != 0) {
        return ag_fail(AG_ERR_INVALID, "reading %s: tensor '%s' is read in whole blocks of %zu",
                       shard->path, tensor->name, (size_t)BLOCK_BYTES);
    }
    if (n_blocks == 0) {
        return AG_OK;
    }
    first_scales = first / row_blocks / grid.rows_each;
    status = read_scales(files, scales, &grid, first_scales,
                         (first + n_blocks - 1) / row_blocks / grid.rows_each + 1, &values);
    if (status == AG_OK) { /* at the end, from where each block goes to its place before it */
        status = ag_file_pread(shard->fd, shard->path, tensor->name,
                               tensor->offset_bytes + first * SIDE, n_blocks * SIDE, raw);
    }
    for (uint64_t i = 0; i < n_blocks && status == AG_OK; i++, blocks += BLOCK_BYTES) {
        uint64_t row = (first + i) / row_blocks / grid.rows_each - first_scales;
        uint64_t column = grid.columns == 1 ? 0 : (first + i) % row_blocks;

        memcpy(blocks, &values[row * grid.columns + column], sizeof(float));
        memmove(blocks + sizeof(float), raw + i * SIDE, SIDE);
    }
    free(values);
    return status;
}
