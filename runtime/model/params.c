#include "runtime/model/params.h"

#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20, ALIGN_BYTES = 64 };

void ag_params_init(ag_params_t *params, bool exact)
{
    *params = (ag_params_t){
        .items = AG_ARRAY(ag_param_t), .held = AG_ARRAY(ag_graph_param_t), .exact = exact};
}

void ag_params_fini(ag_params_t *params)
{
    ag_array_fini(&params->items);
    ag_array_fini(&params->held);
}

static ag_status_t find_tensor(const ag_model_t *model, ag_role_t role, uint32_t layer,
                               ag_param_t *param)
{
    bool gguf = ag_model_files_gguf(model->files) != NULL;
    char name[128];

    if (ag_family_tensor_name(model->family, gguf, role, layer, name, &param->transform) == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s has no name for role %d in such files",
                       ag_model_files_path(model->files), model->family->name, (int)role);
    }
    return ag_model_files_require(model->files, name, &param->tensor);
}

static ag_status_t check_shape(const ag_model_t *model, const ag_model_tensor_t *tensor,
                               const ag_slice_t *slice)
{
    bool vector = slice->rows == 0;
    uint64_t wanted[2] = {vector ? slice->cols : slice->rows, slice->cols};
    uint32_t n_wanted = vector ? 1 : 2;
    char have[96], want[96];

    if (tensor->n_dims == n_wanted && tensor->dims[0] == wanted[0] &&
        (vector || tensor->dims[1] == wanted[1])) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: tensor %s has the shape %s, the settings ask for %s: they are of another "
                   "model than the weights, or of an architecture that is not known here",
                   ag_model_files_path(model->files), tensor->name,
                   ag_shape_text(tensor->n_dims, tensor->dims, have, sizeof(have)),
                   ag_shape_text(n_wanted, wanted, want, sizeof(want)));
}

static ag_status_t check_blocks(const ag_model_t *model, const ag_model_tensor_t *tensor,
                                const ag_slice_t *slice)
{
    uint32_t block = ag_dtype_info(tensor->dtype)->block_elements;

    if (slice->rows == 0 && block > 1) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: vector %s is encoded in blocks",
                       ag_model_files_path(model->files), tensor->name);
    }
    if (slice->cols % block != 0 || slice->col_begin % block != 0 || slice->col_end % block != 0) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: columns %llu to %llu of tensor %s cut through its blocks of %u",
                       ag_model_files_path(model->files), (unsigned long long)slice->col_begin,
                       (unsigned long long)slice->col_end, tensor->name, block);
    }
    return AG_OK;
}

static bool same_slice(const ag_param_t *param, const ag_graph_param_t *held,
                       const ag_param_t *other, const ag_graph_param_t *other_held)
{
    return param->tensor == other->tensor && param->row_begin == other->row_begin &&
           param->col_begin == other->col_begin && held->rows == other_held->rows &&
           held->cols == other_held->cols;
}

/* One slice after the other; how a slice is held may change until the last has been asked for. */
static void place_params(ag_params_t *params)
{
    params->bytes = 0;
    for (size_t i = 0; i < params->items.n_items; i++) {
        const ag_graph_param_t *held = &AG_ITEMS(&params->held, ag_graph_param_t)[i];

        AG_ITEMS(&params->items, ag_param_t)[i].offset_bytes = params->bytes;
        params->bytes += ag_packing_bytes(held->packing, held->dtype, held->rows, held->cols);
        params->bytes = (params->bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    }
}

static ag_status_t append_param(ag_params_t *params, ag_param_t *param,
                                const ag_graph_param_t *held, int32_t *param_p)
{
    ag_status_t status;

    for (size_t i = 0; i < params->items.n_items; i++) {
        ag_graph_param_t *other = &AG_ITEMS(&params->held, ag_graph_param_t)[i];

        if (same_slice(&AG_ITEMS(&params->items, ag_param_t)[i], other, param, held)) {
            *param_p = (int32_t)i;
            if (held->packing != AG_PACKING_ROWS && other->packing != held->packing) {
                other->packing = held->packing;
                place_params(params);
            }
            return AG_OK;
        }
    }
    status = ag_array_append(&params->items, param, 1);
    if (status == AG_OK) {
        status = ag_array_append(&params->held, held, 1);
    }
    if (status == AG_OK) {
        *param_p = (int32_t)params->items.n_items - 1;
        place_params(params);
    }
    return status;
}

ag_status_t ag_params_add(ag_params_t *params, const ag_model_t *model, ag_role_t role,
                          uint32_t layer, const ag_slice_t *slice, int32_t *param_p)
{
    ag_param_t param = {.row_begin = slice->row_begin, .col_begin = slice->col_begin};
    ag_graph_param_t held = {.cols = slice->col_end - slice->col_begin};
    const ag_dtype_info_t *info;
    ag_status_t status;

    status = find_tensor(model, role, layer, &param);
    if (status == AG_OK) {
        status = check_shape(model, param.tensor, slice);
    }
    if (status == AG_OK) {
        status = check_blocks(model, param.tensor, slice);
    }
    if (status != AG_OK) {
        return status;
    }
    info = ag_dtype_info(param.tensor->dtype);
    param.head_dim = ag_spec_layer(model->spec, layer)->head_dim;
    held.rows = slice->rows == 0 ? 1 : slice->row_end - slice->row_begin;
    held.dtype = params->exact || slice->rows == 0 ? AG_F32 : param.tensor->dtype;
    held.packing = params->exact || slice->rows == 0 || slice->is_looked_up
                       ? AG_PACKING_ROWS
                       : ag_packing_choose(held.dtype, held.cols);
    held.file_bytes = held.rows * (held.cols / info->block_elements * info->block_bytes);
    return append_param(params, &param, &held, param_p);
}

/* The row of the file that becomes row r of the tensor. */
static uint64_t source_row(const ag_param_t *param, uint64_t r)
{
    uint64_t head = r / param->head_dim, within = r % param->head_dim;
    uint64_t half = param->head_dim / 2;

    if (param->transform == AG_TRANSFORM_NONE) {
        return r;
    }
    return head * param->head_dim + 2 * (within % half) + within / half;
}

/* A piece of a slice on its way: rows of the file, read densely. */
typedef struct piece {
    uint64_t first_row, n_rows;
    uint64_t row_bytes;  /* read of each row */
    uint64_t skip_bytes; /* of each row before what is read */
    uint64_t file_row_bytes;
    unsigned char *bytes;
} piece_t;

static ag_status_t read_piece(const ag_model_t *model, const ag_param_t *param,
                              const piece_t *piece)
{
    if (piece->row_bytes == piece->file_row_bytes) {
        return ag_model_files_read(model->files, param->tensor, piece->first_row * piece->row_bytes,
                                   piece->n_rows * piece->row_bytes, piece->bytes);
    }
    for (uint64_t i = 0; i < piece->n_rows; i++) {
        ag_status_t status =
            ag_model_files_read(model->files, param->tensor,
                                (piece->first_row + i) * piece->file_row_bytes + piece->skip_bytes,
                                piece->row_bytes, piece->bytes + i * piece->row_bytes);

        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

static void store_piece(const ag_param_t *param, const ag_graph_param_t *held, uint64_t n_cols,
                        const piece_t *piece, unsigned char *dst)
{
    const ag_dtype_info_t *from = ag_dtype_info(param->tensor->dtype);
    const ag_packing_info_t *packing = ag_packing_info(held->packing);
    uint64_t group_bytes = packing->group_bytes(held->dtype, n_cols);

    for (uint64_t i = 0; i < piece->n_rows; i += packing->group_rows, dst += group_bytes) {
        const unsigned char *rows[AG_PACKING_MAX_ROWS] = {NULL};

        for (uint64_t r = 0; r < packing->group_rows && i + r < piece->n_rows; r++) {
            uint64_t source = source_row(param, piece->first_row + i + r) - piece->first_row;

            rows[r] = piece->bytes + source * piece->row_bytes;
        }
        if (held->dtype == param->tensor->dtype) {
            packing->pack(held->dtype, rows, n_cols, dst);
        } else {
            from->unpack(rows[0], (float *)(void *)dst, n_cols / from->block_elements);
        }
    }
}

/* Rows that must be read together: whole heads where a transform moves rows, whole groups. */
static uint64_t rows_together(const ag_param_t *param, const ag_graph_param_t *held)
{
    uint64_t head = param->transform == AG_TRANSFORM_NONE ? 1 : param->head_dim;
    uint64_t group = ag_packing_info(held->packing)->group_rows, rows = head;

    while (rows % group != 0) {
        rows += head;
    }
    return rows;
}

static ag_status_t load_param(const ag_model_t *model, const ag_param_t *param,
                              const ag_graph_param_t *held, unsigned char *staging,
                              unsigned char *dst)
{
    const ag_model_tensor_t *tensor = param->tensor;
    bool vector = tensor->n_dims == 1;
    /* a vector's elements are rows of one column */
    uint64_t n_rows = vector ? held->cols : held->rows;
    uint64_t n_cols = vector ? 1 : held->cols;
    uint64_t first_row = vector ? param->col_begin : param->row_begin;
    uint64_t file_cols = vector ? 1 : tensor->dims[1];
    uint64_t align = rows_together(param, held);
    const ag_packing_info_t *packing = ag_packing_info(held->packing);
    uint64_t group_bytes = packing->group_bytes(held->dtype, n_cols);
    piece_t piece = {
        .row_bytes = ag_dtype_bytes(tensor->dtype, n_cols),
        .skip_bytes = vector ? 0 : ag_dtype_bytes(tensor->dtype, param->col_begin),
        .file_row_bytes = ag_dtype_bytes(tensor->dtype, file_cols),
        .bytes = staging,
    };
    uint64_t rows_at_once;

    if (n_rows == 0 || n_cols == 0) {
        return AG_OK;
    }
    rows_at_once = READ_BYTES / piece.row_bytes / align * align;
    rows_at_once = rows_at_once > 0 ? rows_at_once : align;
    for (uint64_t done = 0; done < n_rows; done += piece.n_rows) {
        ag_status_t status;

        piece.first_row = first_row + done;
        piece.n_rows = n_rows - done < rows_at_once ? n_rows - done : rows_at_once;
        status = read_piece(model, param, &piece);
        if (status != AG_OK) {
            return status;
        }
        store_piece(param, held, n_cols, &piece, dst + done / packing->group_rows * group_bytes);
    }
    return AG_OK;
}

uint64_t ag_params_load_bytes(const ag_params_t *params)
{
    uint64_t bytes = READ_BYTES;

    for (size_t i = 0; i < params->items.n_items; i++) {
        const ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[i];
        const ag_graph_param_t *held = &AG_ITEMS(&params->held, ag_graph_param_t)[i];
        uint64_t n_rows = rows_together(param, held);
        uint64_t n_cols = param->tensor->n_dims == 1 ? 1 : held->cols;
        uint64_t piece_bytes = n_rows * ag_dtype_bytes(param->tensor->dtype, n_cols);

        bytes = piece_bytes > bytes ? piece_bytes : bytes;
    }
    return bytes;
}

ag_status_t ag_params_load(ag_params_t *params, const ag_model_t *model, unsigned char *base)
{
    unsigned char *staging = malloc(ag_params_load_bytes(params));
    ag_status_t status = AG_OK;

    if (staging == NULL) {
        return ag_fail_nomem("loading weights", ag_params_load_bytes(params));
    }
    for (size_t i = 0; status == AG_OK && i < params->items.n_items; i++) {
        const ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[i];
        ag_graph_param_t *held = &AG_ITEMS(&params->held, ag_graph_param_t)[i];

        held->data = base + param->offset_bytes;
        status = load_param(model, param, held, staging, base + param->offset_bytes);
    }
    free(staging);
    return status;
}
