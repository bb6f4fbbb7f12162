/* The parts of the model that a micro-batch goes through in a chunk, in their order: forward, and
 * back. Whether a layer has experts the plan does not say: the parts of some that ranks share out
 * are listed. */
#include "parallel/program/check_priv.h"

typedef struct list {
    ag_array_t *parts;
    ag_layers_t layers;
    bool again;  /* a layer is computed again before its gradients */
    bool splits; /* gradients of weights come behind all */
    bool adds;   /* what a part makes is added by a part of its own */
    bool shares; /* norms are of the ranks' shares of the rows, each a part of its own */
    ag_status_t status;
} list_t;

static void add(list_t *list, ag_part_kind_t kind, uint32_t layer)
{
    if (list->status == AG_OK) {
        list->status = ag_array_append(list->parts, &(ag_part_t){kind, layer}, 1);
    }
}

static void add_norm(list_t *list, ag_part_kind_t kind, uint32_t layer)
{
    if (list->shares) {
        add(list, kind, layer);
    }
}

static void add_apart(list_t *list, ag_part_kind_t kind, uint32_t layer)
{
    if (list->adds) {
        add(list, kind, layer);
    }
}

/* Up to the experts. */
static void add_forward(list_t *list, uint32_t layer)
{
    add_norm(list, AG_PART_ATTN_NORM, layer);
    add(list, AG_PART_ATTN, layer);
    add_apart(list, AG_PART_ATTN_ADD, layer);
    add_norm(list, AG_PART_FFN_NORM, layer);
    add(list, AG_PART_ROUTE, layer);
    add(list, AG_PART_EXPERTS, layer);
}

/* A norm is made again while the gradients before it are taken, unless all of the layer was; what
 * experts made is read again by a norm behind them alone. */
static void add_backward(list_t *list, uint32_t layer)
{
    if (list->again) {
        add_forward(list, layer);
        add_apart(list, AG_PART_COMBINE, layer);
    } else {
        add_norm(list, AG_PART_ATTN_NORM, layer);
    }
    add_apart(list, AG_PART_FFN_ADD_B, layer);
    add(list, AG_PART_COMBINE_B, layer);
    add(list, AG_PART_EXPERTS_B, layer);
    add(list, AG_PART_ROUTE_B, layer);
    add(list, AG_PART_FFN_NORM_B, layer);
    add_apart(list, AG_PART_ATTN_ADD_B, layer);
    if (!list->again && layer > list->layers.begin) {
        add_norm(list, AG_PART_FFN_NORM, layer - 1);
    }
    add(list, AG_PART_ATTN_B, layer);
    add(list, AG_PART_ATTN_NORM_B, layer);
}

/* All from the head on. */
static void add_way_back(list_t *list, bool first, bool last)
{
    if (last) {
        add(list, AG_PART_HEAD_B, 0);
        add(list, AG_PART_HEAD_NORM_B, 0);
    }
    if (!list->again) {
        add_norm(list, AG_PART_FFN_NORM, list->layers.end - 1);
    }
    for (uint32_t layer = list->layers.end; layer > list->layers.begin; layer--) {
        add_backward(list, layer - 1);
    }
    if (first) {
        add(list, AG_PART_EMBED_B, 0);
    }
    for (uint32_t layer = list->layers.end; list->splits && layer > list->layers.begin; layer--) {
        add(list, AG_PART_FFN_W, layer - 1);
        add(list, AG_PART_ATTN_W, layer - 1);
    }
}

ag_status_t ag_check_list_parts(const ag_check_course_t *course, ag_array_t *parts)
{
    const ag_plan_t *plan = course->plan;
    bool first = course->chunk == 0;
    bool last = course->chunk + 1 == ag_plan_chunks(plan) * plan->n_stages;
    list_t list = {.parts = parts,
                   .layers = ag_plan_layers(plan, course->chunk),
                   .again = plan->train.recompute,
                   .splits = plan->train.split_backward,
                   .adds = course->adds,
                   .shares = ag_plan_shares_rows(plan, &plan->stages[course->stage].replicas[0]),
                   .status = AG_OK};

    if (first) {
        add(&list, AG_PART_EMBED, 0);
    }
    for (uint32_t layer = list.layers.begin; layer < list.layers.end; layer++) {
        add_forward(&list, layer);
        add(&list, AG_PART_COMBINE, layer);
        add_apart(&list, AG_PART_FFN_ADD, layer);
    }
    if (!list.adds) {
        add(&list, AG_PART_ADD, 0);
    }
    if (last) {
        add(&list, AG_PART_HEAD, 0);
        add(&list, AG_PART_LOSS, 0);
    }
    if (!course->evaluates) {
        add_way_back(&list, first, last);
    }
    return list.status;
}
