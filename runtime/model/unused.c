#include "runtime/model/unused.h"

#include <stdlib.h>

static void mark(const ag_model_t *model, const ag_model_tensor_t *tensor, bool *used)
{
    size_t n;

    if (tensor != NULL) {
        used[tensor - ag_model_files_tensors(model->files, &n)] = true;
    }
    if (tensor != NULL && tensor->scales != 0 && tensor->dtype != AG_MXFP4) {
        used[tensor->scales - 1] = true;
    }
}

static void mark_role(const ag_model_t *model, ag_role_t role, bool *used)
{
    for (uint32_t layer = 0; layer < model->spec->n_layers; layer++) {
        mark(model, ag_family_find(model->family, model->files, role, layer, 0).tensor, used);
    }
}

ag_status_t ag_unused_find(const ag_model_t *model, const ag_params_t *const *params,
                           size_t n_params, ag_array_t *names_p)
{
    size_t n_tensors;
    const ag_model_tensor_t *tensors = ag_model_files_tensors(model->files, &n_tensors);
    bool *used = calloc(n_tensors + 1, sizeof(*used));
    ag_status_t status = AG_OK;

    *names_p = AG_ARRAY(const char *);
    if (used == NULL) {
        return ag_fail_nomem("looking for unused tensors", n_tensors);
    }
    for (size_t p = 0; p < n_params; p++) {
        for (size_t i = 0; i < params[p]->items.n_items; i++) {
            mark(model, AG_ITEMS(&params[p]->items, ag_param_t)[i].tensor, used);
        }
    }
    mark_role(model, AG_ROLE_HEAD, used);
    mark_role(model, AG_ROLE_ROPE_FACTORS, used);
    mark_role(model, AG_ROLE_ROPE_FACTORS_LONG, used);
    mark_role(model, AG_ROLE_COMPUTED, used);
    for (size_t i = 0; i < n_tensors && status == AG_OK; i++) {
        status = used[i] ? AG_OK : ag_array_append(names_p, &tensors[i].name, 1);
    }
    free(used);
    return status;
}
