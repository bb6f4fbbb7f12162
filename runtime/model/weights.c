#include "runtime/model/weights.h"

#include <stdio.h>
#include <string.h>

#include "runtime/model/transform.h"

/* A list that grows until memory runs out. */
typedef struct listing {
    ag_array_t *weights;
    uint32_t layer, expert;
    ag_status_t status;
} listing_t;

static void add(listing_t *listing, ag_role_t role, uint64_t rows, uint64_t cols)
{
    ag_weight_t weight = {.role = role,
                          .layer = listing->layer,
                          .expert = listing->expert,
                          .rows = rows,
                          .cols = cols};

    if (listing->status == AG_OK) {
        listing->status = ag_array_append(listing->weights, &weight, 1);
    }
}

static void add_vector(listing_t *listing, bool present, ag_role_t role, uint64_t n)
{
    if (present) {
        add(listing, role, 0, n);
    }
}

/* What makes queries, keys and values of latent vectors. */
static void add_latents(listing_t *listing, const ag_spec_t *spec, const ag_layer_spec_t *kind)
{
    uint32_t rotary = kind->rope.rotary;

    if (kind->q_rank > 0) {
        add(listing, AG_ROLE_Q_A, kind->q_rank, spec->hidden);
        add(listing, AG_ROLE_Q_A_NORM, 0, kind->q_rank);
    }
    add(listing, kind->q_rank > 0 ? AG_ROLE_Q_B : AG_ROLE_Q,
        (uint64_t)kind->n_heads * kind->head_dim, kind->q_rank > 0 ? kind->q_rank : spec->hidden);
    add(listing, AG_ROLE_KV_A, kind->kv_rank + rotary, spec->hidden);
    add(listing, AG_ROLE_KV_A_NORM, 0, kind->kv_rank);
    add(listing, AG_ROLE_K_B, (uint64_t)kind->n_heads * (kind->head_dim - rotary), kind->kv_rank);
    add(listing, AG_ROLE_V_B, (uint64_t)kind->n_heads * ag_layer_value_dim(kind), kind->kv_rank);
    add(listing, AG_ROLE_O, spec->hidden, (uint64_t)kind->n_heads * ag_layer_value_dim(kind));
}

static void add_attention(listing_t *listing, const ag_spec_t *spec, const ag_layer_spec_t *kind)
{
    uint64_t q_rows = (uint64_t)kind->n_heads * kind->head_dim;
    uint64_t kv_rows = (uint64_t)kind->n_kv_heads * kind->head_dim;
    bool has_norms = kind->qk_norm != AG_QK_NORM_NONE, by_head = kind->qk_norm == AG_QK_NORM_HEADS;

    add_vector(listing, has_norms, AG_ROLE_Q_NORM, by_head ? kind->head_dim : q_rows);
    add_vector(listing, has_norms, AG_ROLE_K_NORM, by_head ? kind->head_dim : kv_rows);
    add(listing, AG_ROLE_Q, q_rows, spec->hidden);
    add_vector(listing, kind->q_bias, AG_ROLE_Q_BIAS, q_rows);
    add(listing, AG_ROLE_K, kv_rows, spec->hidden);
    add_vector(listing, kind->k_bias, AG_ROLE_K_BIAS, kv_rows);
    add(listing, AG_ROLE_V, kv_rows, spec->hidden);
    add_vector(listing, kind->v_bias, AG_ROLE_V_BIAS, kv_rows);
    add(listing, AG_ROLE_O, spec->hidden, q_rows);
    add_vector(listing, kind->o_bias, AG_ROLE_O_BIAS, spec->hidden);
    add_vector(listing, kind->sinks, AG_ROLE_SINKS, kind->n_heads);
}

static void add_ffn(listing_t *listing, const ag_spec_t *spec, const ag_layer_spec_t *kind)
{
    if (kind->ffn_is_gated) {
        add(listing, AG_ROLE_GATE, kind->ffn_width, spec->hidden);
        add_vector(listing, kind->ffn_bias, AG_ROLE_GATE_BIAS, kind->ffn_width);
    }
    add(listing, AG_ROLE_UP, kind->ffn_width, spec->hidden);
    add_vector(listing, kind->ffn_bias, AG_ROLE_UP_BIAS, kind->ffn_width);
    add(listing, AG_ROLE_DOWN, spec->hidden, kind->ffn_width);
    add_vector(listing, kind->ffn_bias, AG_ROLE_DOWN_BIAS, spec->hidden);
}

static void add_experts(listing_t *listing, const ag_spec_t *spec, const ag_layer_spec_t *kind)
{
    uint32_t n = kind->route.n_experts;

    add(listing, AG_ROLE_ROUTER, n, spec->hidden);
    add_vector(listing, kind->router_bias, AG_ROLE_ROUTER_BIAS, n);
    add_vector(listing, kind->route_preference, AG_ROLE_ROUTE_PREFERENCE, n);
    for (uint32_t expert = 0; expert < n; expert++) {
        listing->expert = expert;
        add(listing, AG_ROLE_EXPERT_GATE, kind->ffn_width, spec->hidden);
        add_vector(listing, kind->ffn_bias, AG_ROLE_EXPERT_GATE_BIAS, kind->ffn_width);
        add(listing, AG_ROLE_EXPERT_UP, kind->ffn_width, spec->hidden);
        add_vector(listing, kind->ffn_bias, AG_ROLE_EXPERT_UP_BIAS, kind->ffn_width);
        add(listing, AG_ROLE_EXPERT_DOWN, spec->hidden, kind->ffn_width);
        add_vector(listing, kind->ffn_bias, AG_ROLE_EXPERT_DOWN_BIAS, spec->hidden);
    }
    listing->expert = 0;
    if (kind->shared_width > 0) {
        add(listing, AG_ROLE_SHARED_GATE, kind->shared_width, spec->hidden);
        add(listing, AG_ROLE_SHARED_UP, kind->shared_width, spec->hidden);
        add(listing, AG_ROLE_SHARED_DOWN, spec->hidden, kind->shared_width);
    }
    if (kind->shared_is_gated) {
        add(listing, AG_ROLE_SHARED_SCALE, 1, spec->hidden);
    }
}

ag_status_t ag_weights_list(const ag_spec_t *spec, ag_array_t *weights)
{
    listing_t listing = {.weights = weights, .status = AG_OK};

    add(&listing, AG_ROLE_EMBED, spec->vocab, spec->hidden);
    if (spec->n_positions > 0) {
        add(&listing, AG_ROLE_POSITIONS, spec->n_positions, spec->hidden);
    }
    for (uint32_t layer = 0; layer < spec->n_layers; layer++) {
        const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);

        listing.layer = layer;
        add_vector(&listing, kind->norms_before, AG_ROLE_ATTN_NORM, spec->hidden);
        add_vector(&listing, kind->norms_before && spec->norm_bias, AG_ROLE_ATTN_NORM_BIAS,
                   spec->hidden);
        (kind->kv_rank > 0 ? add_latents : add_attention)(&listing, spec, kind);
        add_vector(&listing, kind->norms_after, AG_ROLE_ATTN_POST_NORM, spec->hidden);
        add_vector(&listing, kind->norms_before, AG_ROLE_FFN_NORM, spec->hidden);
        add_vector(&listing, kind->norms_before && spec->norm_bias, AG_ROLE_FFN_NORM_BIAS,
                   spec->hidden);
        if (kind->route.n_experts > 0) {
            add_experts(&listing, spec, kind);
        } else {
            add_ffn(&listing, spec, kind);
        }
        add_vector(&listing, kind->norms_after, AG_ROLE_FFN_POST_NORM, spec->hidden);
    }
    listing.layer = 0;
    add(&listing, AG_ROLE_FINAL_NORM, 0, spec->hidden);
    add_vector(&listing, spec->norm_bias, AG_ROLE_FINAL_NORM_BIAS, spec->hidden);
    if (!spec->tied) {
        add(&listing, AG_ROLE_HEAD, spec->vocab, spec->hidden);
    }
    return listing.status;
}

static bool is_second(ag_stack_t stack)
{
    return stack == AG_STACK_SECOND_HALF || stack == AG_STACK_ODD;
}

/* How many of the roles that share a tensor come before one, and how many rows, or elements, they
 * and all have. */
static void place_in_fused(const ag_spec_t *spec, ag_stack_t stack, const ag_weight_t *weight,
                           ag_weight_form_t *form)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec, weight->layer);
    uint64_t q = (uint64_t)kind->n_heads * kind->head_dim;
    uint64_t kv = (uint64_t)kind->n_kv_heads * kind->head_dim;
    uint64_t n = weight->rows > 0 ? weight->rows : weight->cols;

    if (stack == AG_STACK_QKV) {
        form->index = weight->role == AG_ROLE_Q || weight->role == AG_ROLE_Q_BIAS   ? 0
                      : weight->role == AG_ROLE_K || weight->role == AG_ROLE_K_BIAS ? 1
                                                                                    : 2;
        form->first = form->index == 0 ? 0 : form->index == 1 ? q : q + kv;
        form->n = q + 2 * kv;
    } else if (stack == AG_STACK_HEAD_KEYS || stack == AG_STACK_HEAD_VALUES) {
        form->heads =
            (ag_head_rows_t){.n_heads = kind->n_heads,
                             .n = {kind->head_dim - kind->rope.rotary, ag_layer_value_dim(kind)}};
        form->index = stack == AG_STACK_HEAD_VALUES;
        form->first = form->index * (uint64_t)kind->n_heads * form->heads.n[0];
        form->n = (uint64_t)kind->n_heads * (form->heads.n[0] + form->heads.n[1]);
    } else {
        form->index = is_second(stack);
        form->first = form->index * n;
        form->n = 2 * n;
    }
}

static bool is_of_expert(ag_role_t role)
{
    return role >= AG_ROLE_EXPERT_GATE && role <= AG_ROLE_EXPERT_DOWN_BIAS;
}

ag_weight_form_t ag_weight_form(const ag_spec_t *spec, const ag_weight_t *weight, ag_stack_t stack,
                                ag_transform_t transform)
{
    bool is_vector = weight->rows == 0, of_experts = is_of_expert(weight->role);
    ag_weight_form_t form = {.n = is_vector ? weight->cols : weight->rows};
    uint32_t n_heads = ag_spec_layer(spec, weight->layer)->n_heads;
    uint64_t rows;

    if (stack == AG_STACK_HEADS) {
        bool is_turned = transform == AG_TRANSFORM_TURN_HEADS;

        form.n_dims = 3;
        form.dims[0] = n_heads;
        form.dims[is_turned ? 2 : 1] = weight->rows / n_heads;
        form.dims[is_turned ? 1 : 2] = weight->cols;
        return form;
    }
    if (stack != AG_STACK_NONE && stack != AG_STACK_EXPERTS) {
        place_in_fused(spec, stack, weight, &form);
    }
    rows = form.n;
    if (stack != AG_STACK_NONE && of_experts) {
        form.dims[form.n_dims++] = ag_spec_layer(spec, weight->layer)->route.n_experts;
    }
    form.dims[form.n_dims++] = rows;
    if (!is_vector) {
        form.dims[form.n_dims++] = weight->cols;
    }
    if (transform == AG_TRANSFORM_TRANSPOSE && !is_vector) {
        form.dims[form.n_dims - 2] = weight->cols;
        form.dims[form.n_dims - 1] = rows;
    }
    form.is_fused = form.n != (is_vector ? weight->cols : weight->rows) && !of_experts;
    return form;
}

static ag_status_t check_shape(const ag_model_t *model, const ag_found_tensor_t *found,
                               const ag_weight_t *weight)
{
    const ag_model_tensor_t *tensor = found->tensor;
    ag_weight_form_t form = ag_weight_form(model->spec, weight, found->stack, found->transform);
    bool same;
    char have[96], want[96];

    if (weight->rows == 1 && found->stack == AG_STACK_NONE && tensor->n_dims == 1) {
        form = (ag_weight_form_t){.n_dims = 1, .dims = {weight->cols}}; /* a matrix of one row */
    }
    if (found->stack == AG_STACK_HEADS && tensor->n_dims == 2) { /* heads not told apart */
        form = (ag_weight_form_t){.n_dims = 2, .dims = {form.dims[0] * form.dims[1], form.dims[2]}};
    }
    same = tensor->n_dims == form.n_dims;
    for (uint32_t i = 0; i < form.n_dims && same; i++) {
        same = tensor->dims[i] == form.dims[i];
    }
    if (same) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: tensor %s has the shape %s, the settings ask for %s: they are of another "
                   "model than the weights, or of an architecture that is not known here",
                   ag_model_files_path(model->files), tensor->name,
                   ag_shape_text(tensor->n_dims, tensor->dims, have, sizeof(have)),
                   ag_shape_text(form.n_dims, form.dims, want, sizeof(want)));
}

/* Of experts' matrices that are transposed, columns stand one after the other. */
static void place_transposed(const ag_found_tensor_t *found, const ag_weight_t *weight,
                             ag_place_in_file_t *place)
{
    place->row_elements = found->tensor->dims[found->tensor->n_dims - 1];
    if (!is_of_expert(weight->role)) {
        return;
    }
    place->first_col = weight->expert * weight->cols;
    place->first_row = is_second(found->stack) ? weight->rows : 0;
    place->turns = found->stack >= AG_STACK_EVEN ? weight->rows : 0;
}

/* Rows of an expert's two matrices that take turns are rows of twice the columns. */
static ag_place_in_file_t find_place(const ag_found_tensor_t *found, const ag_weight_t *weight)
{
    bool vector = weight->rows == 0, by_turns = found->stack >= AG_STACK_EVEN;
    bool second = is_second(found->stack);
    uint64_t rows = vector && !by_turns ? 1 : vector ? weight->cols : weight->rows;
    ag_place_in_file_t place = {.tensor = found->tensor,
                                .transform = found->transform,
                                .row_elements = weight->cols,
                                .is_column =
                                    vector && (by_turns || ag_transform_moves(found->transform))};

    place.row_elements = place.is_column ? 1 : place.row_elements;
    if (by_turns) {
        place.row_elements *= 2;
        place.first_col = second ? place.row_elements / 2 : 0;
        place.first_row = weight->expert * rows;
    } else if (found->stack == AG_STACK_EXPERTS) {
        place.first_row = weight->expert * rows;
    } else if (found->stack != AG_STACK_NONE && found->stack != AG_STACK_HEADS) {
        place.first_row = (2 * (uint64_t)weight->expert + second) * rows;
    }
    return place;
}

ag_status_t ag_weight_find(const ag_model_t *model, const ag_weight_t *weight,
                           ag_place_in_file_t *place_p)
{
    ag_found_tensor_t found =
        ag_family_find(model->family, model->files, weight->role, weight->layer, weight->expert);
    ag_weight_form_t form;
    ag_status_t status;

    if (found.name[0] == '\0') {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s has no name for role %d in such files",
                       ag_model_files_path(model->files), model->family->name, (int)weight->role);
    }
    status = ag_model_files_require(model->files, found.name, &found.tensor);
    if (status == AG_OK) {
        status = check_shape(model, &found, weight);
    }
    if (status != AG_OK) {
        return status;
    }
    *place_p = find_place(&found, weight);
    form = ag_weight_form(model->spec, weight, found.stack, found.transform);
    if (form.is_fused && weight->rows == 0) {
        place_p->first_row = 0;
        place_p->first_col = form.first;
    } else if (form.is_fused) {
        place_p->first_row = form.first;
        place_p->heads = form.heads;
    }
    if (found.transform == AG_TRANSFORM_TURN_HEADS) {
        place_p->row_elements = form.dims[2];
    }
    if (found.transform == AG_TRANSFORM_TRANSPOSE) {
        place_transposed(&found, weight, place_p);
    }
    return AG_OK;
}

ag_status_t ag_weight_name(const ag_model_t *model, const ag_weight_t *weight,
                           char name[AG_TENSOR_NAME_BYTES])
{
    const ag_name_row_t *row = ag_family_row(model->family, weight->role, false);
    ag_weight_form_t form;
    size_t n_chars;

    if (row == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s has no name in Hugging Face folders for role %d",
                       model->family->name, (int)weight->role);
    }
    ag_family_name(row->hf, weight->layer, weight->expert, name);
    form = ag_weight_form(model->spec, weight, row->stack, ag_family_transform(row, false));
    n_chars = strlen(name);
    if (form.is_fused) {
        snprintf(name + n_chars, AG_TENSOR_NAME_BYTES - n_chars, "#%u", form.index);
    } else if (row->stack != AG_STACK_NONE) { /* of experts' */
        snprintf(name + n_chars, AG_TENSOR_NAME_BYTES - n_chars, "#%u",
                 row->stack == AG_STACK_EXPERTS ? weight->expert : 2 * weight->expert + form.index);
    }
    return AG_OK;
}
