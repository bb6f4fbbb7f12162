#include "runtime/model/model.h"

#include <stdlib.h>

#include "runtime/model/transform.h"
#include "runtime/model/weights.h"

enum { FFN_UNIT = 32, VOCAB_UNIT = 64 };

/* What weights of a role begin with: norms with 1, biases with 0, others about 0. */
static void choose_beginning(ag_role_t role, float range, float *mean_p, float *deviation_p)
{
    switch (role) {
    case AG_ROLE_ATTN_NORM:
    case AG_ROLE_ATTN_POST_NORM:
    case AG_ROLE_Q_NORM:
    case AG_ROLE_K_NORM:
    case AG_ROLE_FFN_NORM:
    case AG_ROLE_Q_A_NORM:
    case AG_ROLE_KV_A_NORM:
    case AG_ROLE_FFN_POST_NORM:
    case AG_ROLE_FINAL_NORM:
        *mean_p = 1;
        *deviation_p = 0;
        return;
    case AG_ROLE_ATTN_NORM_BIAS:
    case AG_ROLE_FFN_NORM_BIAS:
    case AG_ROLE_FINAL_NORM_BIAS:
    case AG_ROLE_Q_BIAS:
    case AG_ROLE_K_BIAS:
    case AG_ROLE_V_BIAS:
    case AG_ROLE_O_BIAS:
    case AG_ROLE_GATE_BIAS:
    case AG_ROLE_UP_BIAS:
    case AG_ROLE_DOWN_BIAS:
    case AG_ROLE_ROUTER_BIAS:
    case AG_ROLE_ROUTE_PREFERENCE:
    case AG_ROLE_EXPERT_GATE_BIAS:
    case AG_ROLE_EXPERT_UP_BIAS:
    case AG_ROLE_EXPERT_DOWN_BIAS:
        *mean_p = *deviation_p = 0;
        return;
    default:
        *mean_p = 0;
        *deviation_p = range;
    }
}

/* Settings alone: every weight begins as a config's initializer_range says. */
static ag_status_t make_tensors(ag_model_t *model)
{
    const ag_json_t *config = ag_model_files_config(model->files);
    float range = (float)ag_json_number(ag_json_get(config, "initializer_range"), 0.02);
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    ag_status_t status = ag_weights_list(model->spec, &weights);

    for (size_t i = 0; i < weights.n_items && status == AG_OK; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
        const ag_name_row_t *row = ag_family_row(model->family, weight->role, false);
        ag_weight_form_t form;
        char name[AG_TENSOR_NAME_BYTES];
        float mean, deviation;

        if (row == NULL) {
            status = ag_fail(AG_ERR_UNSUPPORTED, "%s: a weight of role %d has no name",
                             model->family->name, (int)weight->role);
            break;
        }
        ag_family_name(row->hf, weight->layer, weight->expert, name);
        choose_beginning(weight->role, range, &mean, &deviation);
        mean -= ag_transform_offset(ag_family_transform(row, false));
        form = ag_weight_form(model->spec, weight, row->stack, ag_family_transform(row, false));
        if (form.index == 0 &&
            (row->stack == AG_STACK_NONE ||
             weight->expert == 0)) { /* else it is part of the first one's tensor */
            status = ag_model_files_make(model->files, name, form.n_dims, form.dims, mean,
                                         deviation, (uint32_t)i);
        }
    }
    ag_array_fini(&weights);
    return status;
}

ag_status_t ag_model_open(const char *path, ag_model_t **model_p)
{
    ag_model_t *model = calloc(1, sizeof(*model));
    ag_status_t status;

    if (model == NULL) {
        return ag_fail_nomem("opening a model", sizeof(*model));
    }
    status = ag_model_files_open(path, &model->files);
    if (status == AG_OK) {
        status = ag_spec_load(model->files, &model->spec, &model->family);
    }
    if (status == AG_OK && ag_model_files_are_made(model->files)) {
        status = make_tensors(model);
    }
    if (status != AG_OK) {
        ag_model_close(model);
        return status;
    }
    *model_p = model;
    return AG_OK;
}

void ag_model_close(ag_model_t *model)
{
    if (model != NULL) {
        ag_spec_destroy(model->spec);
        ag_model_files_close(model->files);
        free(model);
    }
}

static uint32_t greatest_common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Elements in the largest block that any layer's weight of this role is encoded in. */
static uint32_t block_of(const ag_model_t *model, ag_role_t role)
{
    uint32_t elements = 1;

    for (uint32_t layer = 0; layer < model->spec->n_layers; layer++) {
        const ag_model_tensor_t *tensor =
            ag_family_find(model->family, model->files, role, layer, 0).tensor;

        if (tensor != NULL && ag_dtype_info(tensor->dtype)->block_elements > elements) {
            elements = ag_dtype_info(tensor->dtype)->block_elements;
        }
    }
    return elements;
}

ag_status_t ag_model_units(const ag_model_t *model, uint32_t layer_kind, ag_model_units_t *units_p)
{
    uint32_t head_dim = ag_layer_value_dim(&model->spec->layer_kinds[layer_kind]);
    uint32_t o_block = block_of(model, AG_ROLE_O);
    uint32_t down_block = block_of(model, AG_ROLE_DOWN);
    uint32_t shared_block = block_of(model, AG_ROLE_SHARED_DOWN);

    units_p->heads = o_block / greatest_common_divisor(o_block, head_dim);
    units_p->ffn_columns = down_block > FFN_UNIT ? down_block : FFN_UNIT;
    units_p->shared_columns = shared_block > FFN_UNIT ? shared_block : FFN_UNIT;
    units_p->vocab = VOCAB_UNIT;
    return AG_OK;
}

ag_status_t ag_shard_complete(const ag_spec_t *spec, ag_shard_t *shard)
{
    shard->n_layer_kinds = spec->n_layer_kinds;
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        const ag_layer_spec_t *kind = &spec->layer_kinds[i];
        ag_layer_shard_t *layer = &shard->layers[i];
        uint32_t per_kv = kind->n_heads / kind->n_kv_heads;
        uint32_t n_heads = layer->head_end - layer->head_begin;

        layer->kv_begin = layer->head_begin / per_kv;
        layer->kv_end = n_heads > 0 ? (layer->head_end + per_kv - 1) / per_kv : layer->kv_begin;
        layer->kv_head = calloc((size_t)n_heads + 1, sizeof(*layer->kv_head));
        if (layer->kv_head == NULL) {
            ag_shard_fini(shard);
            return ag_fail_nomem("sharing out heads", n_heads * sizeof(*layer->kv_head));
        }
        for (uint32_t h = 0; h < n_heads; h++) {
            layer->kv_head[h] = (layer->head_begin + h) / per_kv - layer->kv_begin;
        }
    }
    return AG_OK;
}

void ag_shard_fini(ag_shard_t *shard)
{
    for (uint32_t i = 0; i < AG_MAX_LAYER_KINDS; i++) {
        free(shard->layers[i].kv_head);
        shard->layers[i].kv_head = NULL;
    }
    free(shard->experts.held);
    free(shard->experts.n_held_of);
    free(shard->experts.place_begin);
    free(shard->experts.places);
    shard->experts = (ag_expert_shard_t){0};
}
