/* Parts of the model in a training program: forward, again, and their gradients. */
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"

void ag_train_graphs_fini(const ag_train_t *train, ag_train_graphs_t *graphs)
{
    ag_graph_t *all[] = {graphs->forward, graphs->first, graphs->second, graphs->weights};

    for (int i = 0; i < 4; i++) {
        if (all[i] != NULL) {
            train->program->free_inside(all[i]);
        }
    }
}

ag_status_t ag_train_graphs_init(ag_train_graphs_t *graphs)
{
    ag_status_t status = ag_expand_graph(&graphs->forward);

    if (status == AG_OK) {
        status = ag_expand_graph(&graphs->first);
    }
    if (status == AG_OK) {
        status = ag_expand_graph(&graphs->second);
    }
    return status == AG_OK ? ag_expand_graph(&graphs->weights) : status;
}

bool ag_train_splits(const ag_train_t *train)
{
    return train->build->plan->train.split_backward && !train->evaluates;
}

uint32_t ag_train_n_parts(const ag_train_item_t *item)
{
    return 2 * (item->chunk->layers.end - item->chunk->layers.begin);
}

bool ag_train_norms_after(const ag_train_t *train, uint32_t layer)
{
    return ag_spec_layer(train->build->model->spec, layer)->norms_after;
}

ag_backward_grad_t ag_train_input_grad(const ag_train_t *train, uint32_t layer, uint32_t x,
                                       uint32_t dx, uint32_t dn)
{
    bool normed = ag_spec_layer(train->build->model->spec, layer)->norms_before;

    return (ag_backward_grad_t){(int32_t)x, (int32_t)(normed ? dx : dn), normed};
}

/* dx += dn */
static ag_status_t add_input_grad(const ag_train_t *train, uint32_t dx, uint32_t dn,
                                  ag_graph_t *graph)
{
    uint32_t hidden = train->build->model->spec->hidden;
    int32_t sum = ag_graph_value(graph, AG_COUNT_TOKENS, hidden, (int32_t)dx);
    int32_t added = ag_graph_value(graph, AG_COUNT_TOKENS, hidden, (int32_t)dn);

    if (sum < 0 || added < 0) {
        return ag_fail_nomem("writing gradients", sizeof(ag_value_t));
    }
    return ag_graph_add(graph,
                        &(ag_node_t){.kind = AG_NODE_ADD,
                                     .in = {sum, added},
                                     .out = sum,
                                     .weight = AG_NO_PARAM,
                                     .bias = AG_NO_PARAM},
                        NULL);
}

ag_status_t ag_train_begin_at_zero(const ag_train_t *train, uint32_t dn, ag_graph_t *graph)
{
    uint32_t hidden = train->build->model->spec->hidden;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        int32_t out = AG_ITEMS(&graph->nodes, ag_node_t)[i].out;

        if (out != AG_NO_VALUE && AG_ITEMS(&graph->values, ag_value_t)[out].buffer == (int32_t)dn) {
            return AG_OK;
        }
    }
    return ag_graph_add(
        graph,
        &(ag_node_t){.kind = AG_NODE_ZERO,
                     .out = ag_graph_value(graph, AG_COUNT_TOKENS, hidden, (int32_t)dn),
                     .weight = AG_NO_PARAM,
                     .bias = AG_NO_PARAM},
        NULL);
}

ag_status_t ag_train_differentiate(const ag_train_t *train, uint32_t layer, uint32_t dx,
                                   uint32_t dn, ag_backward_opts_t *opts, ag_train_graphs_t *graphs)
{
    bool normed = ag_spec_layer(train->build->model->spec, layer)->norms_before;
    ag_status_t status;

    opts->cut_buffer = normed ? (int32_t)dn : AG_INTERNAL;
    status = ag_graph_backward(graphs->forward, opts, graphs->first, graphs->second);
    if (status == AG_OK && !normed) {
        status = ag_train_begin_at_zero(train, dn, graphs->first);
    }
    return status == AG_OK && !normed ? add_input_grad(train, dx, dn, graphs->second) : status;
}

/* Of a chunk's parts, attention and feed-forward part of each layer in turn. */
ag_part_t ag_train_part_of(const ag_train_item_t *item, uint32_t number)
{
    return (ag_part_t){number % 2 == 0 ? AG_PART_ATTN : AG_PART_FFN,
                       item->chunk->layers.begin + number / 2};
}

/* What a part's norm reads: the residual stream, with p added where there is any. */
uint32_t ag_train_x_of(const ag_train_item_t *item, uint32_t number)
{
    return number == 0 && !item->rank->shares_rows ? item->slot->input : item->slot->x[number];
}

/* Does a part add, first of all, what the one before it made? Else a part between them does. */
static bool is_pending(const ag_train_item_t *item, uint32_t number)
{
    return number > 0 &&
           !ag_train_norms_after(item->train, ag_train_part_of(item, number - 1).layer) &&
           !ag_train_norms_after(item->train, ag_train_part_of(item, number).layer);
}

static bool is_added_apart(const ag_train_item_t *item, uint32_t number)
{
    return number + 1 < ag_train_n_parts(item)
               ? !is_pending(item, number + 1)
               : ag_train_norms_after(item->train, ag_train_part_of(item, number).layer);
}

ag_status_t ag_train_add_graph(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t layer,
                               ag_graph_t **graph, uint32_t sum)
{
    ag_part_t part = {kind, layer};
    ag_graph_t *added = *graph;

    *graph = NULL;
    return ag_train_add(item->train, item->rank->rank, &part, added, sum);
}

bool ag_train_computes_again(const ag_train_item_t *item)
{
    return item->train->again;
}

/* What a layer's part keeps lies each time where it lay the first time.
 * @param pending  p has yet to be added to what the part reads. */
static ag_status_t differentiate(const ag_train_item_t *item, uint32_t number, bool pending,
                                 ag_train_graphs_t *graphs)
{
    ag_part_t part = ag_train_part_of(item, number);
    uint32_t x = ag_train_x_of(item, number), dn = item->rank->dn,
             before = pending ? ag_train_x_of(item, number - 1) : x,
             dpartial =
                 ag_train_norms_after(item->train, part.layer) ? item->rank->dpartial : item->dx;
    const ag_backward_grad_t grads[] = {
        ag_train_input_grad(item->train, part.layer, x, item->dx, dn),
        {(int32_t)before, (int32_t)item->dx, false},
        {(int32_t)item->slot->partial[number], (int32_t)dpartial, true}};
    ag_backward_opts_t opts = {.grads = grads, .n_grads = 3};
    ag_train_keeper_t keeper = {item->train, item->rank};
    ag_status_t status = ag_train_graphs_init(graphs);

    ag_train_bind(&keeper, &opts);
    item->rank->kept_buffer = item->slot->kept[number];
    item->rank->kept_bytes = 0;
    item->rank->partial = item->slot->partial[number];
    item->rank->pending = pending;
    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, before, x, graphs->forward);
    }
    return status == AG_OK
               ? ag_train_differentiate(item->train, part.layer, item->dx, dn, &opts, graphs)
               : status;
}

bool ag_train_find_spread(const ag_train_item_t *item, uint32_t number, ag_train_spread_t *spread)
{
    ag_part_t part = ag_train_part_of(item, number);

    if (part.kind != AG_PART_FFN ||
        !ag_train_is_spread(item->train, item->rank->rank, part.layer)) {
        return false;
    }
    *spread = (ag_train_spread_t){
        .train = item->train,
        .rank = item->rank,
        .experts = &item->slot->experts[number / 2],
        .layer = part.layer,
        .before = ag_train_x_of(item, is_pending(item, number) ? number - 1 : number),
        .x = ag_train_x_of(item, number),
        .dx = item->dx,
        .partial = item->slot->partial[number],
        .dpartial = ag_train_norms_after(item->train, part.layer) ? item->rank->dpartial : item->dx,
        .pending = is_pending(item, number),
        .kept = item->slot->kept[number],
        .normed = AG_NO_BUFFER};
    return true;
}

/* What a part adds to the residual stream that its maker read. */
static ag_status_t emit_adding(const ag_train_item_t *item, uint32_t number, uint32_t *x_out_p,
                               ag_graph_t *graph)
{
    ag_part_t of = ag_train_part_of(item, number);
    ag_part_t part = {of.kind == AG_PART_ATTN ? AG_PART_ATTN_ADD : AG_PART_FFN_ADD, of.layer};
    bool last = number + 1 == ag_train_n_parts(item);

    *x_out_p = last ? item->slot->output : ag_train_x_of(item, number + 1);
    item->rank->partial = item->slot->partial[number];
    return ag_train_emit(item->train, item->rank->rank, &part, ag_train_x_of(item, number),
                         *x_out_p, graph);
}

static ag_status_t add_apart(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t of = ag_train_part_of(item, number);
    ag_train_graphs_t graphs = {0};
    uint32_t x_out;
    ag_status_t status = ag_expand_graph(&graphs.forward);

    if (status == AG_OK) {
        status = emit_adding(item, number, &x_out, graphs.forward);
    }
    if (status == AG_OK) {
        status =
            ag_train_add_graph(item, of.kind == AG_PART_ATTN ? AG_PART_ATTN_ADD : AG_PART_FFN_ADD,
                               of.layer, &graphs.forward, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* Of what was normed and added, from the residual stream's gradient, which it leaves as it is. */
static ag_status_t backward_add(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t of = ag_train_part_of(item, number);
    ag_backward_grad_t grads[] = {
        {AG_INTERNAL, (int32_t)item->dx, true},
        {(int32_t)ag_train_x_of(item, number), (int32_t)item->dx, false},
        {(int32_t)item->slot->partial[number], (int32_t)item->rank->dpartial, false}};
    ag_backward_opts_t opts = {.grads = grads, .n_grads = 3, .cut_buffer = AG_INTERNAL};
    ag_train_keeper_t keeper = {item->train, item->rank};
    ag_train_graphs_t graphs = {0};
    uint32_t x_out = 0;
    ag_status_t status = ag_train_graphs_init(&graphs);

    ag_train_bind(&keeper, &opts);
    if (status == AG_OK) {
        status = emit_adding(item, number, &x_out, graphs.forward);
    }
    grads[0].buffer = (int32_t)x_out;
    if (status == AG_OK) {
        status = ag_graph_backward(graphs.forward, &opts, graphs.first, graphs.second);
    }
    if (status == AG_OK) {
        status = ag_train_add_graph(
            item, of.kind == AG_PART_ATTN ? AG_PART_ATTN_ADD_B : AG_PART_FFN_ADD_B, of.layer,
            &graphs.first, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

static ag_status_t make_part(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    ag_train_spread_t spread;
    bool pending = is_pending(item, number);
    uint32_t x = ag_train_x_of(item, number),
             before = pending ? ag_train_x_of(item, number - 1) : x;
    ag_train_graphs_t graphs = {0};
    ag_status_t status;

    if (item->rank->shares_rows) {
        return ag_train_forward_rows(item, number, false);
    }
    if (ag_train_find_spread(item, number, &spread)) {
        return ag_train_spread_forward(&spread, !ag_train_computes_again(item), true);
    }
    if (ag_train_computes_again(item)) {
        item->rank->partial = item->slot->partial[number];
        item->rank->pending = pending;
        status = ag_expand_graph(&graphs.forward);
        if (status == AG_OK) {
            status = ag_train_emit(item->train, item->rank->rank, &part, before, x, graphs.forward);
        }
    } else {
        status = differentiate(item, number, pending, &graphs);
    }
    if (status == AG_OK) {
        status =
            ag_train_add_graph(item, part.kind, part.layer, &graphs.forward, item->rank->partial);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

ag_status_t ag_train_forward_part(const ag_train_item_t *item, uint32_t number)
{
    ag_status_t status = make_part(item, number);

    return status == AG_OK && is_added_apart(item, number) ? add_apart(item, number) : status;
}

/* A part once more, from what was kept of the layer: attention reads that itself, and nobody reads
 * what the feed-forward part makes but a norm behind it. */
static ag_status_t forward_again(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    bool is_ffn = part.kind == AG_PART_FFN;
    bool is_dropped = is_ffn && !ag_train_norms_after(item->train, part.layer);
    ag_train_graphs_t graphs = {0};
    ag_train_spread_t spread;
    ag_status_t status;

    if (item->rank->shares_rows) {
        return ag_train_forward_rows(item, number, true);
    }
    if (ag_train_find_spread(item, number, &spread)) {
        return ag_train_spread_forward(&spread, true, !is_dropped);
    }
    status = differentiate(item, number, is_ffn && is_pending(item, number), &graphs);
    if (status == AG_OK && is_dropped) {
        status = ag_graph_drop(graphs.forward, (int32_t)item->rank->partial);
    }
    if (status == AG_OK) {
        status = ag_train_add_graph(item, part.kind, part.layer, &graphs.forward,
                                    is_dropped ? AG_NO_BUFFER : item->rank->partial);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status == AG_OK && !is_ffn && is_added_apart(item, number) ? add_apart(item, number)
                                                                      : status;
}

/* Bytes of what a part hands on. */
static ag_status_t hand_on(void *arg, ag_counter_t counter, uint64_t row_bytes, int32_t *buffer_p,
                           uint64_t *begin_bytes_p)
{
    const ag_train_item_t *item = arg;
    ag_train_rank_t *of = item->rank;

    ag_train_reserve(item->train, of->rank, of->handed_buffer,
                     row_bytes * item->train->program->bounds[counter], &of->handed_bytes, buffer_p,
                     begin_bytes_p);
    return AG_OK;
}

/* What is the slot's stays until the weights' item. */
static bool changes(void *arg, int32_t buffer)
{
    const ag_train_item_t *item = arg;
    const ag_train_slot_t *slot = item->slot;
    bool stays = buffer == (int32_t)slot->input;

    for (uint32_t i = 0; i < ag_train_n_parts(item); i++) {
        stays |= buffer == (int32_t)slot->kept[i] ||
                 (!ag_train_passes(item->train, item->rank->rank) &&
                  (i > 0 || item->rank->shares_rows) && buffer == (int32_t)slot->x[i]);
    }
    return !stays;
}

ag_status_t ag_train_split(const ag_train_item_t *item, uint32_t number, ag_train_graphs_t *graphs)
{
    ag_train_item_t arg = *item;
    const ag_train_handed_t *handed =
        &AG_ITEMS(&item->chunk->handed, ag_train_handed_t)[item->slot->handed];

    item->rank->handed_buffer = handed->buffers[number];
    item->rank->handed_bytes = 0;
    return ag_graph_split_weights(
        graphs->first, &(ag_split_opts_t){.hand_on = hand_on, .changes = changes, .arg = &arg},
        graphs->weights);
}

ag_status_t ag_train_weights_part(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    ag_train_graphs_t graphs = {0};
    ag_train_spread_t spread;
    ag_status_t status;

    if (ag_train_find_spread(item, number, &spread)) {
        return AG_OK; /* between exchanges its gradients are taken together */
    }
    if (item->rank->shares_rows) {
        status = ag_train_weights_rows(item, number, &graphs);
    } else {
        status = differentiate(item, number, is_pending(item, number), &graphs);
        status = status == AG_OK ? ag_train_split(item, number, &graphs) : status;
    }
    if (status == AG_OK) {
        status =
            ag_train_add_graph(item, part.kind == AG_PART_ATTN ? AG_PART_ATTN_W : AG_PART_FFN_W,
                               part.layer, &graphs.weights, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

static ag_status_t backward_part(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    bool is_attn = part.kind == AG_PART_ATTN;
    bool pending = is_pending(item, number) && (!is_attn || !ag_train_computes_again(item));
    ag_train_graphs_t graphs = {0};
    ag_train_spread_t spread;
    ag_status_t status;

    if (item->rank->shares_rows) {
        return ag_train_backward_rows(item, number);
    }
    if (ag_train_norms_after(item->train, part.layer)) {
        status = backward_add(item, number);
        if (status != AG_OK) {
            return status;
        }
    }
    if (ag_train_find_spread(item, number, &spread)) {
        return ag_train_spread_backward(&spread);
    }
    status = differentiate(item, number, pending, &graphs);
    if (status == AG_OK && ag_train_splits(item->train)) {
        status = ag_train_split(item, number, &graphs);
    }
    if (status == AG_OK) {
        status = ag_train_add_graph(item, is_attn ? AG_PART_ATTN_B : AG_PART_FFN_B, part.layer,
                                    &graphs.first, item->rank->dn);
    }
    if (status == AG_OK) {
        status = ag_train_add_graph(item, is_attn ? AG_PART_ATTN_NORM_B : AG_PART_FFN_NORM_B,
                                    part.layer, &graphs.second, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* @param number  of the layer's first part. */
ag_status_t ag_train_backward_layer(const ag_train_item_t *item, uint32_t number)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < 2 && ag_train_computes_again(item) && status == AG_OK; i++) {
        status = forward_again(item, number + i);
    }
    for (uint32_t i = 2; i > 0 && status == AG_OK; i--) {
        status = backward_part(item, number + i - 1);
    }
    return status;
}

/* A part that is no layer's. */
ag_status_t ag_train_simple_part(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t x,
                                 uint32_t x_out, uint32_t sum)
{
    ag_part_t part = {kind, 0};
    ag_train_graphs_t graphs = {0};
    ag_status_t status = ag_expand_graph(&graphs.forward);

    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, x, x_out, graphs.forward);
    }
    if (status == AG_OK && kind == AG_PART_ADD && item->rank->shares_rows) {
        ag_graph_t *graph = graphs.forward;

        graphs.forward = NULL;
        status = ag_train_add_rows(item->train, item->rank->rank, &part, graph);
    } else if (status == AG_OK) {
        status = ag_train_add_graph(item, kind, 0, &graphs.forward, sum);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* Of the head and of the embedding table. */
static ag_status_t end_backward(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t x,
                                const ag_backward_grad_t *grads, uint32_t n_grads,
                                int32_t cut_buffer)
{
    ag_backward_opts_t opts = {.grads = grads, .n_grads = n_grads, .cut_buffer = cut_buffer};
    ag_train_keeper_t keeper = {item->train, item->rank};
    bool is_head = kind == AG_PART_HEAD;
    ag_part_t part = {kind, 0};
    ag_train_graphs_t graphs = {0};
    ag_status_t status = ag_train_graphs_init(&graphs);

    ag_train_bind(&keeper, &opts);
    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, x, x, graphs.forward);
    }
    if (status == AG_OK) {
        status = ag_graph_backward(graphs.forward, &opts, graphs.first, graphs.second);
    }
    if (status == AG_OK) {
        status = ag_train_add_graph(item, is_head ? AG_PART_HEAD_B : AG_PART_EMBED_B, 0,
                                    &graphs.first, is_head ? item->rank->dhead : AG_NO_BUFFER);
    }
    if (status == AG_OK && is_head) {
        status = ag_train_add_graph(item, AG_PART_HEAD_NORM_B, 0, &graphs.second, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

ag_status_t ag_train_head_parts(const ag_train_item_t *item)
{
    const ag_train_rank_t *rank = item->rank;
    uint32_t x = item->slot->output;
    const ag_backward_grad_t grads[] = {{(int32_t)x, (int32_t)item->dx, false},
                                        {(int32_t)rank->logits, (int32_t)rank->logits, true}};
    ag_status_t status = ag_train_simple_part(item, AG_PART_HEAD, x, x, rank->statistics);

    if (status == AG_OK) {
        status = ag_train_simple_part(item, AG_PART_LOSS, x, x, AG_NO_BUFFER);
    }
    return status == AG_OK && !item->train->evaluates
               ? end_backward(item, AG_PART_HEAD, x, grads, 2, (int32_t)rank->dhead)
               : status;
}

ag_status_t ag_train_embed_backward(const ag_train_item_t *item)
{
    const ag_backward_grad_t grad = {(int32_t)item->slot->input, (int32_t)item->dx, true};

    return end_backward(item, AG_PART_EMBED, item->slot->input, &grad, 1, AG_INTERNAL);
}
