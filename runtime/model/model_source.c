/* A model's own files as the source of its weights. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model/export.h"
#include "runtime/model/turned.h"

static ag_dtype_t dtype_in_files(void *arg, const ag_weight_t *weight)
{
    const ag_model_t *model = arg;
    ag_found_tensor_t found =
        ag_family_find(model->family, model->files, weight->role, weight->layer, weight->expert);

    if (found.tensor == NULL || ag_transform_offset(found.transform) != 0) {
        return AG_F32; /* reading it will say that it is missing; other values need their bits */
    }
    if (found.transform == AG_TRANSFORM_TURN_HEADS) { /* what is encoded along them is decoded */
        return ag_turned_dtype(found.tensor,
                               ag_dtype_info(found.tensor->dtype)->block_elements > 1);
    }
    return found.tensor->dtype;
}

/* Elements of a vector that stand otherwise in the file. */
static ag_status_t read_moved_vector(const ag_model_t *model, const ag_place_in_file_t *place,
                                     uint32_t head_dim, uint64_t n, unsigned char *dst)
{
    uint64_t bytes = ag_dtype_bytes(place->tensor->dtype, 1);
    uint64_t row_bytes = place->row_elements * bytes;
    unsigned char *whole = malloc(n * row_bytes);
    ag_status_t status;

    if (whole == NULL) {
        return ag_fail_nomem(place->tensor->name, n * row_bytes);
    }
    status = ag_model_files_read(model->files, place->tensor, place->first_row * row_bytes,
                                 n * row_bytes, whole);
    for (uint64_t i = 0; i < n && status == AG_OK; i++) {
        memcpy(dst + i * bytes,
               whole + ag_transform_load(place->transform, head_dim, i) * row_bytes +
                   place->first_col * bytes,
               bytes);
    }
    free(whole);
    return status;
}

/* A vector whose values are others in the file. */
static ag_status_t read_other_vector(const ag_model_t *model, const ag_place_in_file_t *place,
                                     uint64_t n, float *dst)
{
    const ag_dtype_info_t *info = ag_dtype_info(place->tensor->dtype);
    uint64_t n_bytes = ag_dtype_bytes(place->tensor->dtype, n);
    unsigned char *whole = malloc(n_bytes);
    ag_status_t status;

    if (whole == NULL) {
        return ag_fail_nomem(place->tensor->name, n_bytes);
    }
    status = ag_model_files_read(model->files, place->tensor, 0, n_bytes, whole);
    if (status == AG_OK) {
        info->unpack(whole, dst, n / info->block_elements);
    }
    for (uint64_t i = 0; i < n && status == AG_OK; i++) {
        dst[i] += ag_transform_offset(place->transform);
    }
    free(whole);
    return status;
}

/* Rows of a weight that are columns of the file's tensor. */
static ag_status_t read_transposed(const ag_model_t *model, const ag_place_in_file_t *place,
                                   uint64_t begin, uint64_t n, uint64_t n_cols, unsigned char *rows)
{
    uint64_t element = ag_dtype_bytes(place->tensor->dtype, 1);
    uint64_t first = ag_place_turned(place->first_row + begin, place->turns);
    uint64_t stride = place->turns > 0 ? 2 : 1, n_bytes = ((n - 1) * stride + 1) * element;
    unsigned char *line = malloc(n_bytes);
    ag_status_t status = line != NULL ? AG_OK : ag_fail_nomem(place->tensor->name, n_bytes);

    for (uint64_t c = 0; c < n_cols && status == AG_OK; c++) {
        uint64_t at = ((place->first_col + c) * place->row_elements + first) * element;

        status = ag_model_files_read(model->files, place->tensor, at, n_bytes, line);
        for (uint64_t i = 0; i < n && status == AG_OK; i++) {
            memcpy(rows + (i * n_cols + c) * element, line + i * stride * element, element);
        }
    }
    free(line);
    return status;
}

/* Rows of heads that stand turned there. */
static ag_status_t read_turned(const ag_model_t *model, const ag_weight_t *weight,
                               const ag_place_in_file_t *place, uint64_t begin, uint64_t n,
                               unsigned char *rows)
{
    ag_turned_t turned = {
        .tensor = place->tensor, .head_rows = place->row_elements, .n_cols = weight->cols};
    ag_dtype_t dtype = dtype_in_files((void *)(uintptr_t)model, weight);
    uint64_t n_bytes = ag_turned_room_bytes(&turned);
    unsigned char *room = aligned_alloc(64, n_bytes);
    ag_status_t status;

    if (room == NULL) {
        return ag_fail_nomem(place->tensor->name, n_bytes);
    }
    status = ag_turned_read(model->files, &turned, dtype, begin, n, room, rows);
    free(room);
    return status;
}

static ag_status_t read_from_files(void *arg, const ag_weight_t *weight, uint64_t begin, uint64_t n,
                                   void *rows)
{
    const ag_model_t *model = arg;
    uint32_t head_dim = ag_spec_layer(model->spec, weight->layer)->head_dim;
    ag_place_in_file_t place;
    uint64_t row_bytes, file_row_bytes, skip_bytes;
    ag_status_t status = ag_weight_find(model, weight, &place);

    if (status != AG_OK) {
        return status;
    }
    if ((place.transform == AG_TRANSFORM_TURN_HEADS ? place.row_elements : weight->cols) %
            ag_dtype_info(place.tensor->dtype)->block_elements !=
        0) {
        return ag_fail(AG_ERR_FORMAT, "%s: rows of tensor %s are no whole blocks of its type",
                       ag_model_files_path(model->files), place.tensor->name);
    }
    if (place.transform == AG_TRANSFORM_TURN_HEADS) {
        return read_turned(model, weight, &place, begin, n, rows);
    }
    row_bytes = ag_dtype_bytes(place.tensor->dtype, weight->cols);
    file_row_bytes = ag_dtype_bytes(place.tensor->dtype, place.row_elements);
    skip_bytes = ag_dtype_bytes(place.tensor->dtype, place.first_col);
    if (place.is_column) {
        return read_moved_vector(model, &place, head_dim, weight->cols, rows);
    }
    if (place.transform == AG_TRANSFORM_NONE && place.heads.n_heads == 0 &&
        row_bytes == file_row_bytes) {
        return ag_model_files_read(model->files, place.tensor,
                                   (place.first_row + begin) * row_bytes + skip_bytes,
                                   n * row_bytes, rows);
    }
    if (place.transform == AG_TRANSFORM_TRANSPOSE) {
        return read_transposed(model, &place, begin, n, weight->cols, rows);
    }
    if (place.transform != AG_TRANSFORM_NONE && !ag_transform_moves(place.transform)) {
        return read_other_vector(model, &place, weight->cols, rows);
    }
    for (uint64_t i = 0; i < n && status == AG_OK; i++) {
        uint64_t row = ag_transform_load(place.transform, head_dim, place.first_row + begin + i);

        row = ag_head_rows_load(&place.heads, row);
        status = ag_model_files_read(model->files, place.tensor, row * file_row_bytes + skip_bytes,
                                     row_bytes, (unsigned char *)rows + i * row_bytes);
    }
    return status;
}

ag_weight_source_t ag_model_source(const ag_model_t *model)
{
    return (ag_weight_source_t){
        .arg = (void *)(uintptr_t)model, .dtype = dtype_in_files, .read = read_from_files};
}
