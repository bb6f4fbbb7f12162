#include "runtime/model/export.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/model/export_priv.h"
#include "runtime/model/transform.h"

static ag_dtype_t source_dtype(const ag_weight_source_t *source, const ag_weight_t *weight)
{
    return source->dtype != NULL ? source->dtype(source->arg, weight) : AG_F32;
}

/* What becomes of rows that a type's blocks do not divide: as in llama.cpp, the K types become ones
 * of blocks of 32, and those float16. */
static ag_dtype_t fitting(ag_dtype_t dtype, uint64_t cols)
{
    static const struct {
        ag_dtype_t from, to;
    } falls[] = {{AG_Q4_K, AG_Q5_0}, {AG_Q6_K, AG_Q8_0}};
    ag_dtype_t to = AG_F16;

    if (cols % ag_dtype_info(dtype)->block_elements == 0) {
        return dtype;
    }
    for (size_t i = 0; i < sizeof(falls) / sizeof(falls[0]); i++) {
        to = dtype == falls[i].from ? falls[i].to : to;
    }
    return to == AG_F16 ? to : fitting(to, cols);
}

/* The type that a weight has, where the file can hold it: 8-bit floats of Hugging Face folders
 * become bfloat16 in a GGUF file. */
static ag_dtype_t own_dtype(const ag_export_t *export, const ag_weight_t *weight)
{
    ag_dtype_t dtype = source_dtype(export->source, weight);

    return export->opts.gguf && ag_dtype_info(dtype)->ggml_type < 0 ? AG_BF16 : dtype;
}

static ag_dtype_t choose_dtype(ag_export_t *export, const ag_export_tensor_t *tensor)
{
    const ag_export_opts_t *opts = &export->opts;
    const ag_weight_t *weight = &tensor->weight;
    bool is_turned = tensor->transform == AG_TRANSFORM_TURN_HEADS;
    ag_dtype_t dtype = opts->keeps_types ? own_dtype(export, weight) : opts->dtype;
    ag_dtype_t fits;

    if (is_turned && opts->keeps_types && ag_dtype_info(dtype)->block_elements > 1) {
        dtype = AG_F32; /* its blocks are along what become columns */
    }
    fits = fitting(dtype, is_turned ? tensor->head_dim : weight->cols);

    if (!opts->gguf) {
        return ag_dtype_info(dtype)->safetensors != NULL ? dtype
               : dtype == AG_MXFP4 ? AG_BF16 /* which holds each of its values */
                                   : AG_F32;
    }
    if (weight->rows <= 1 || weight->role == AG_ROLE_ROUTER) {
        return AG_F32;
    }
    if (fits != dtype && export->facts.n_fallen_back++ == 0) {
        export->facts.fallen_to = fits;
        export->facts.fallen_name = tensor->name;
    }
    return fits;
}

static void shape_tensor(const ag_spec_t *spec, ag_export_tensor_t *tensor)
{
    const ag_weight_t *weight = &tensor->weight;
    uint64_t *rows = &tensor->dims[tensor->n_experts > 0];

    if (tensor->stack == AG_STACK_HEADS) {
        ag_weight_form_t form = ag_weight_form(spec, weight, tensor->stack, tensor->transform);

        tensor->n_dims = form.n_dims;
        memcpy(tensor->dims, form.dims, sizeof(form.dims));
        return;
    }
    if (tensor->n_experts > 0) {
        tensor->dims[tensor->n_dims++] = tensor->n_experts;
    }
    if (weight->rows > 0) {
        tensor->dims[tensor->n_dims++] = weight->rows;
    }
    tensor->dims[tensor->n_dims++] = weight->cols;
    for (uint32_t i = 0; i < tensor->n_others; i++) {
        *rows += tensor->others[i].rows > 0 ? tensor->others[i].rows : tensor->others[i].cols;
    }
    if (tensor->transform == AG_TRANSFORM_TRANSPOSE) {
        rows[1] = rows[0];
        rows[0] = weight->cols;
    }
}

/* A weight that shares its tensor with one before it goes behind that. @return it is one */
static bool join_tensor(ag_export_t *export, const char *name, const ag_weight_t *weight)
{
    for (size_t i = export->tensors.n_items; i > 0; i--) {
        ag_export_tensor_t *tensor = &AG_ITEMS(&export->tensors, ag_export_tensor_t)[i - 1];

        if (strcmp(tensor->name, name) == 0 && tensor->n_others < AG_EXPORT_FUSED) {
            tensor->others[tensor->n_others++] = *weight;
            return true;
        }
    }
    return false;
}

static ag_status_t add_tensor(ag_export_t *export, const ag_weight_t *weight)
{
    const ag_family_t *family = export->model->family;
    const ag_layer_spec_t *layer = ag_spec_layer(export->model->spec, weight->layer);
    const ag_name_row_t *row = ag_family_row(family, weight->role, export->opts.gguf);
    ag_export_tensor_t tensor = {.weight = *weight, .head_dim = layer->head_dim};
    ag_weight_form_t form;
    bool is_joint;

    if (export->opts.are_gradients && weight->role == AG_ROLE_ROUTE_PREFERENCE) {
        return AG_OK; /* it chooses, and the loss does not depend on it: it has none */
    }

    if (row == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s has no name in %s for role %d", family->name,
                       export->opts.gguf ? "GGUF files" : "Hugging Face folders",
                       (int)weight->role);
    }
    tensor.by_turns = row->stack >= AG_STACK_EVEN;
    if (row->stack == AG_STACK_EXPERTS || tensor.by_turns) {
        if (weight->expert > 0) {
            return AG_OK; /* the first one's tensor holds it */
        }
        tensor.n_experts = layer->route.n_experts;
    }
    ag_family_name(export->opts.gguf ? row->gguf : row->hf, weight->layer, weight->expert,
                   tensor.name);
    tensor.transform = ag_family_transform(row, export->opts.gguf);
    if (export->opts.are_gradients && ag_transform_offset(tensor.transform) != 0) {
        tensor.transform = AG_TRANSFORM_NONE;
    }
    if (tensor.transform == AG_TRANSFORM_TURN_HEADS) {
        tensor.head_dim = (uint32_t)(weight->rows / layer->n_heads);
    }
    form = ag_weight_form(export->model->spec, weight, row->stack, tensor.transform);
    tensor.stack = row->stack;
    tensor.heads = form.heads;
    is_joint = tensor.by_turns || form.is_fused;
    if (is_joint && join_tensor(export, tensor.name, weight)) {
        return AG_OK;
    }
    return ag_array_append(&export->tensors, &tensor, 1);
}

/* The names do not move any more: the facts may point to one. */
static void complete_tensors(ag_export_t *export)
{
    for (size_t i = 0; i < export->tensors.n_items; i++) {
        ag_export_tensor_t *tensor = &AG_ITEMS(&export->tensors, ag_export_tensor_t)[i];

        if (!ag_export_is_rope(tensor)) {
            tensor->dtype = choose_dtype(export, tensor);
        }
        shape_tensor(export->model->spec, tensor);
        export->facts.bytes += ag_export_tensor_bytes(tensor);
    }
    export->facts.n_tensors = export->tensors.n_items;
}

/* Frequencies that no setting of a GGUF file says are a tensor of it, or two. */
static ag_status_t add_rope_factors(ag_export_t *export)
{
    static const ag_role_t roles[] = {AG_ROLE_ROPE_FACTORS, AG_ROLE_ROPE_FACTORS_LONG};
    const ag_rope_spec_t *rope = &export->model->spec->layer_kinds[0].rope;
    int n = rope->kind == AG_ROPE_LONG ? 2 : 1;
    ag_status_t status;

    if (!export->opts.gguf) {
        return AG_OK;
    }
    if (n == 2 && ag_family_row(export->model->family, AG_ROLE_ROPE_FACTORS_LONG, true) == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model's rope has other factors in long contexts, "
                                           "which a GGUF file of its architecture cannot say");
    }
    status = ag_export_rope_factors(export->model, &export->rope_factors);
    for (int i = 0; i < n && status == AG_OK && export->rope_factors != NULL; i++) {
        status = add_tensor(export, &(ag_weight_t){.role = roles[i], .cols = rope->rotary / 2});
    }
    return status;
}

ag_status_t ag_export_create(const ag_model_t *model, const ag_weight_source_t *source,
                             const ag_export_opts_t *opts, ag_export_t **export_p)
{
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    ag_export_t *export = calloc(1, sizeof(*export));
    ag_status_t status;

    if (export == NULL) {
        return ag_fail_nomem("converting a model", sizeof(*export));
    }
    *export = (ag_export_t){
        .model = model, .source = source, .opts = *opts, .tensors = AG_ARRAY(ag_export_tensor_t)};
    status = ag_weights_list(model->spec, &weights);
    for (size_t i = 0; i < weights.n_items && status == AG_OK; i++) {
        status = add_tensor(export, &AG_ITEMS(&weights, ag_weight_t)[i]);
    }
    if (status == AG_OK) {
        status = add_rope_factors(export);
    }
    ag_array_fini(&weights);
    if (status != AG_OK) {
        ag_export_destroy(export);
        return status;
    }
    complete_tensors(export);
    *export_p = export;
    return AG_OK;
}

void ag_export_destroy(ag_export_t *export)
{
    if (export != NULL) {
        ag_array_fini(&export->tensors);
        free(export->rope_factors);
        free(export);
    }
}

ag_export_facts_t ag_export_facts(const ag_export_t *export)
{
    return export->facts;
}

bool ag_export_is_rope(const ag_export_tensor_t *tensor)
{
    return tensor->weight.role == AG_ROLE_ROPE_FACTORS ||
           tensor->weight.role == AG_ROLE_ROPE_FACTORS_LONG;
}

uint64_t ag_export_tensor_bytes(const ag_export_tensor_t *tensor)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < tensor->n_dims; d++) {
        n *= tensor->dims[d];
    }
    return ag_dtype_bytes(tensor->dtype, n);
}
