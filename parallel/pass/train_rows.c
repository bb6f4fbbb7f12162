/*
 * Where ranks of a layer share the rows of the residual stream out (Korthikanti et al. 2022,
 * "Reducing Activation Recomputation in Large Transformer Models", sequence parallelism), what
 * stands between two sums over them, norms and residual additions, is a segment of its own that
 * works on this rank's rows, and so are its gradients. Of a layer:
 *
 *     forward    attn_n, attn, ffn_n, ffn         x and p of this rank's rows, n and what reads it
 * of all backward   attn_n, ffn_b, ffn_nb, ffn_n (of the layer before), attn_b, attn_nb
 *
 * What a norm made is not kept: it is made again while the gradients before it are taken, so that
 * it comes to all ranks behind their arithmetic. Pass tensor puts the sums and gathers between.
 */
#include "parallel/pass/expand_priv.h"

void ag_train_forget_norms(ag_train_rank_t *rank)
{
    rank->normed_part[0] = rank->normed_part[1] = AG_NO_BUFFER;
}

/* Where what a part's norm makes stands; AG_NO_BUFFER: nowhere. */
static uint32_t find_normed(const ag_train_rank_t *rank, uint32_t number)
{
    for (int i = 0; i < 2; i++) {
        if (rank->normed_part[i] == number) {
            return rank->normed[i];
        }
    }
    return AG_NO_BUFFER;
}

/* Where it is to stand from now on. */
static uint32_t take_normed(ag_train_rank_t *rank, uint32_t number)
{
    rank->last_normed = 1 - rank->last_normed;
    rank->normed_part[rank->last_normed] = number;
    return rank->normed[rank->last_normed];
}

ag_status_t ag_train_cut(const ag_train_t *train, uint32_t normed, ag_graph_t **graph,
                         ag_graph_t *rows)
{
    ag_train_graphs_t cut = {0};
    ag_status_t status = ag_expand_graph(&cut.first);

    if (status == AG_OK) {
        status = ag_expand_graph(&cut.second);
    }
    if (status == AG_OK) {
        status =
            ag_graph_cut_rows(*graph, (int32_t)normed, rows != NULL ? rows : cut.second, cut.first);
    }
    if (status == AG_OK) {
        cut.forward = *graph;
        *graph = cut.first;
        cut.first = NULL;
    }
    ag_train_graphs_fini(train, &cut);
    return status;
}

/* The first part of a chunk takes its rows of the input. */
static ag_status_t take_rows(const ag_train_item_t *item, ag_graph_t *graph)
{
    uint32_t hidden = item->train->build->model->spec->hidden;
    ag_node_t copy = {
        .kind = AG_NODE_COLUMNS,
        .in = {ag_graph_value(graph, AG_COUNT_TOKENS, hidden, (int32_t)item->slot->input),
               AG_NO_VALUE},
        .out = ag_graph_value(graph, AG_COUNT_TOKENS, hidden, (int32_t)ag_train_x_of(item, 0)),
        .weight = AG_NO_PARAM,
        .bias = AG_NO_PARAM};

    return copy.in[0] < 0 || copy.out < 0 ? ag_fail_nomem("expanding a program", sizeof(ag_value_t))
                                          : ag_graph_add(graph, &copy, NULL);
}

/* A part, cut behind its norm.
 * @param makes_x  the norm's input is made too: the part before is added, or the chunk's input
 *                 taken. @param rest_p  out: what is behind; NULL on failure. */
static ag_status_t cut_part(const ag_train_item_t *item, uint32_t number, bool makes_x,
                            uint32_t normed, ag_graph_t *rows, ag_graph_t **rest_p)
{
    ag_part_t part = ag_train_part_of(item, number);
    bool adds = makes_x && number > 0;
    uint32_t x = ag_train_x_of(item, number), before = adds ? ag_train_x_of(item, number - 1) : x;
    ag_train_spread_t spread;
    ag_train_graphs_t graphs = {0};
    ag_status_t status = ag_expand_graph(&graphs.forward);

    part.kind = ag_train_find_spread(item, number, &spread) ? AG_PART_ROUTE : part.kind;
    item->rank->partial = item->slot->partial[number];
    item->rank->pending = adds;
    item->rank->experts = item->slot->experts[number / 2];
    if (status == AG_OK && makes_x && number == 0) {
        status = take_rows(item, graphs.forward);
    }
    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, before, x, graphs.forward);
    }
    if (status == AG_OK) {
        status = ag_train_cut(item->train, normed, &graphs.forward, rows);
    }
    if (status == AG_OK) {
        *rest_p = graphs.forward;
        graphs.forward = NULL;
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* The gradients of what is behind a part's norm, and of the norm; what they read is kept. */
static ag_status_t differentiate(const ag_train_item_t *item, uint32_t number, uint32_t normed,
                                 ag_train_graphs_t *rest, ag_train_graphs_t *rows)
{
    int32_t dx = (int32_t)item->dx, dn = (int32_t)item->rank->dn, n = (int32_t)normed;
    int32_t p = (int32_t)item->slot->partial[number];
    uint32_t before = ag_train_x_of(item, number > 0 ? number - 1 : 0);
    const ag_backward_grad_t of_rest[] = {{n, dn, false}, {p, dx, true}};
    const ag_backward_grad_t of_rows[] = {{n, dn, true},
                                          {(int32_t)ag_train_x_of(item, number), dx, true},
                                          {(int32_t)before, dx, false},
                                          {p, dx, true}};
    ag_backward_opts_t opts = {.grads = of_rest, .n_grads = 2, .cut_buffer = AG_INTERNAL};
    ag_train_keeper_t keeper = {item->train, item->rank};
    ag_train_spread_t spread;
    ag_status_t status = AG_OK;

    ag_train_bind(&keeper, &opts);
    item->rank->kept_buffer = item->slot->kept[number];
    item->rank->kept_bytes = 0;
    if (!ag_train_find_spread(item, number, &spread)) { /* else that has its gradients */
        status = ag_graph_backward(rest->forward, &opts, rest->first, rest->second);
        status = status == AG_OK ? ag_train_begin_at_zero(item->train, item->rank->dn, rest->first)
                                 : status;
    }
    opts.grads = of_rows;
    opts.n_grads = sizeof(of_rows) / sizeof(*of_rows);
    return status == AG_OK ? ag_graph_backward(rows->forward, &opts, rows->first, rows->second)
                           : status;
}

/* @param rest, rows  of graphs there is one each, forward, and where they are wanted their
 * gradients in first. */
static ag_status_t emit(const ag_train_item_t *item, uint32_t number, bool makes_x, bool grads,
                        uint32_t normed, ag_train_graphs_t *rest, ag_train_graphs_t *rows)
{
    ag_status_t status = ag_train_graphs_init(rows);

    if (status == AG_OK) {
        status = cut_part(item, number, makes_x, normed, rows->forward, &rest->forward);
    }
    if (status == AG_OK) {
        status = ag_expand_graph(&rest->first);
    }
    if (status == AG_OK) {
        status = ag_expand_graph(&rest->second);
    }
    if (status == AG_OK) {
        status = ag_expand_graph(&rest->weights);
    }
    return status == AG_OK && grads ? differentiate(item, number, normed, rest, rows) : status;
}

static ag_status_t add_rows(const ag_train_item_t *item, ag_part_kind_t kind, uint32_t layer,
                            ag_graph_t **graph)
{
    ag_part_t part = {kind, layer};
    ag_graph_t *added = *graph;

    *graph = NULL;
    return ag_train_add_rows(item->train, item->rank->rank, &part, added);
}

static ag_part_kind_t norm_of(const ag_part_t *part)
{
    return part->kind == AG_PART_ATTN ? AG_PART_ATTN_NORM : AG_PART_FFN_NORM;
}

ag_status_t ag_train_forward_rows(const ag_train_item_t *item, uint32_t number, bool again)
{
    ag_part_t part = ag_train_part_of(item, number);
    bool is_ffn = part.kind == AG_PART_FFN, keeps = again || !ag_train_computes_again(item);
    bool is_last = again && is_ffn; /* nobody reads what it makes */
    uint32_t normed = take_normed(item->rank, number);
    ag_train_graphs_t rest = {0}, rows = {0};
    ag_train_spread_t spread;
    ag_status_t status = emit(item, number, !again || is_ffn, keeps, normed, &rest, &rows);

    if (status == AG_OK) {
        status = add_rows(item, norm_of(&part), part.layer, &rows.forward);
    }
    if (status == AG_OK && ag_train_find_spread(item, number, &spread)) {
        spread.normed = normed;
        status = ag_train_spread_forward(&spread, keeps, !is_last);
    } else if (status == AG_OK) {
        if (is_last) {
            status = ag_graph_drop(rest.forward, (int32_t)item->slot->partial[number]);
        }
        if (status == AG_OK) {
            status = ag_train_add_graph(item, part.kind, part.layer, &rest.forward,
                                        is_last ? AG_NO_BUFFER : item->slot->partial[number]);
        }
    }
    ag_train_graphs_fini(item->train, &rest);
    ag_train_graphs_fini(item->train, &rows);
    return status;
}

/* What a part's norm made, once more, unless it stands somewhere. */
static ag_status_t norm_again(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    ag_train_graphs_t graphs = {0}, rest = {0};
    ag_status_t status;

    if (find_normed(item->rank, number) != AG_NO_BUFFER) {
        return AG_OK;
    }
    status = ag_train_graphs_init(&graphs);
    if (status == AG_OK) {
        status = cut_part(item, number, true, take_normed(item->rank, number), graphs.first,
                          &rest.forward);
    }
    if (status == AG_OK) {
        status = ag_graph_append_after(graphs.forward, graphs.first,
                                       (int32_t)ag_train_x_of(item, number));
    }
    if (status == AG_OK) {
        status = add_rows(item, norm_of(&part), part.layer, &graphs.forward);
    }
    ag_train_graphs_fini(item->train, &graphs);
    ag_train_graphs_fini(item->train, &rest);
    return status;
}

/* The part whose gradients are next has its norm's output on the way; but for one whose input is
 * yet to be computed again. */
static ag_status_t norms_again(const ag_train_item_t *item, uint32_t number)
{
    bool has_next = number > 0 && (number % 2 == 1 || !ag_train_computes_again(item));
    ag_status_t status = norm_again(item, number);

    return status == AG_OK && has_next ? norm_again(item, number - 1) : status;
}

ag_status_t ag_train_backward_rows(const ag_train_item_t *item, uint32_t number)
{
    ag_part_t part = ag_train_part_of(item, number);
    bool is_attn = part.kind == AG_PART_ATTN;
    ag_train_graphs_t rest = {0}, rows = {0};
    ag_train_spread_t spread;
    uint32_t normed;
    ag_status_t status = norms_again(item, number);

    normed = find_normed(item->rank, number);
    if (status == AG_OK) {
        status = emit(item, number, number > 0 && (!is_attn || !ag_train_computes_again(item)),
                      true, normed, &rest, &rows);
    }
    if (status == AG_OK && ag_train_find_spread(item, number, &spread)) {
        spread.normed = normed;
        status = ag_train_spread_backward(&spread);
    } else if (status == AG_OK) {
        status = ag_train_splits(item->train) ? ag_train_split(item, number, &rest) : AG_OK;
    }
    if (status == AG_OK && rest.first != NULL && !ag_train_find_spread(item, number, &spread)) {
        status = ag_train_add_graph(item, is_attn ? AG_PART_ATTN_B : AG_PART_FFN_B, part.layer,
                                    &rest.first, item->rank->dn);
    }
    if (status == AG_OK) {
        status = add_rows(item, is_attn ? AG_PART_ATTN_NORM_B : AG_PART_FFN_NORM_B, part.layer,
                          &rows.first);
    }
    ag_train_graphs_fini(item->train, &rest);
    ag_train_graphs_fini(item->train, &rows);
    return status;
}

/* What a norm made is among what is handed on: where it stood does not matter any more. */
ag_status_t ag_train_weights_rows(const ag_train_item_t *item, uint32_t number,
                                  ag_train_graphs_t *graphs)
{
    ag_train_graphs_t rows = {0};
    ag_status_t status = emit(item, number, number > 0, true, item->rank->normed[0], graphs, &rows);

    ag_train_graphs_fini(item->train, &rows);
    return status == AG_OK ? ag_train_split(item, number, graphs) : status;
}
