#include "runtime/model/params.h"

#include "runtime/model/weights.h"

enum { ALIGN_BYTES = 64 };

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

static ag_status_t check_blocks(const ag_model_t *model, const ag_param_t *param,
                                const ag_slice_t *slice)
{
    const ag_model_tensor_t *tensor = param->tensor;
    uint32_t block = ag_dtype_info(tensor->dtype)->block_elements;

    if (param->turned_rows > 0) {
        return param->turned_rows % block == 0
                   ? AG_OK
                   : ag_fail(AG_ERR_FORMAT, "%s: rows of tensor %s are no whole blocks of its type",
                             ag_model_files_path(model->files), tensor->name);
    }

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
           param->col_begin == other->col_begin && param->turned_rows == other->turned_rows &&
           held->rows == other_held->rows && held->cols == other_held->cols;
}

/* One slice after the other, from `first` on; params->bytes is where it begins. */
static void place_params(ag_params_t *params, size_t first)
{
    for (size_t i = first; i < params->items.n_items; i++) {
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
                params->bytes = AG_ITEMS(&params->items, ag_param_t)[i].offset_bytes;
                place_params(params, i);
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
        place_params(params, params->items.n_items - 1);
    }
    return status;
}

/* Which heads change rows and columns on their way: those that do in the tensor or in the slice,
 * but not in both. */
static uint64_t turned_rows(const ag_model_t *model, const ag_place_in_file_t *place,
                            uint32_t layer, const ag_slice_t *slice)
{
    if ((place->transform == AG_TRANSFORM_TURN_HEADS) == (slice->n_turned > 0)) {
        return 0;
    }
    return slice->rows / ag_spec_layer(model->spec, layer)->n_heads;
}

static ag_dtype_t held_dtype(const ag_params_t *params, const ag_param_t *param,
                             const ag_slice_t *slice)
{
    if (params->exact || slice->rows == 0) {
        return AG_F32;
    }
    return param->turned_rows > 0 ? ag_turned_dtype(param->tensor, false) : param->tensor->dtype;
}

ag_status_t ag_params_add(ag_params_t *params, const ag_model_t *model, ag_role_t role,
                          uint32_t layer, const ag_slice_t *slice, int32_t *param_p)
{
    ag_param_t param = {.grads_are_parts = slice->grads_are_parts,
                        .spans_replicas = slice->spans_replicas,
                        .is_common = slice->is_common};
    ag_graph_param_t held = {.cols = slice->col_end - slice->col_begin};
    ag_weight_t weight = {.role = role,
                          .layer = layer,
                          .expert = slice->expert,
                          .rows = slice->rows,
                          .cols = slice->cols};
    ag_place_in_file_t place;
    const ag_dtype_info_t *info;
    ag_status_t status;

    if (slice->n_turned > 0) {
        weight.rows = slice->n_turned * slice->cols;
        weight.cols = slice->rows / slice->n_turned;
    }
    status = ag_weight_find(model, &weight, &place);
    if (status != AG_OK) {
        return status;
    }
    param.tensor = place.tensor;
    param.transform =
        place.transform == AG_TRANSFORM_TURN_HEADS ? AG_TRANSFORM_NONE : place.transform;
    param.heads = place.heads;
    param.turned_rows = turned_rows(model, &place, layer, slice);
    status = check_blocks(model, &param, slice);
    if (status != AG_OK) {
        return status;
    }
    param.row_elements = place.row_elements;
    param.turns = place.turns;
    param.is_column = place.is_column;
    param.row_begin = place.first_row + (place.is_column ? slice->col_begin : slice->row_begin);
    param.col_begin = place.first_col + (place.is_column ? 0 : slice->col_begin);
    info = ag_dtype_info(param.tensor->dtype);
    param.head_dim = ag_spec_layer(model->spec, layer)->head_dim;
    held.rows = slice->rows == 0 ? 1 : slice->row_end - slice->row_begin;
    held.dtype = held_dtype(params, &param, slice);
    held.packing = params->exact || slice->rows == 0 || slice->is_looked_up
                       ? AG_PACKING_ROWS
                       : ag_packing_choose(held.dtype, held.cols);
    held.file_bytes = held.rows * held.cols / info->block_elements * info->block_bytes;
    return append_param(params, &param, &held, param_p);
}
