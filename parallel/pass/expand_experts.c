/*
 * Of a layer whose experts several ranks hold, in training:
 *
 *     forward    route, experts, combine
 *     backward   combine_b, experts_b, route_b, ffn_nb
 *
 * Pass expert puts exchanges between them: on the way back gradients of results go where the rows
 * went, and those of the rows come back. A segment's first uses are what is exchanged.
 */
#include <stdio.h>

#include "parallel/pass/expand_priv.h"

bool ag_train_is_spread(const ag_train_t *train, uint32_t rank, uint32_t layer)
{
    return ag_block_is_spread(
        &(ag_block_t){.model = train->build->model, .shard = &train->build->ranks[rank].shard},
        layer);
}

typedef struct wanted_buffer {
    const char *name;
    uint64_t unit_bytes;
    ag_size_counter_t counter;
    uint32_t *buffer_p;
} wanted_buffer_t;

static ag_status_t add_buffers(ag_train_t *train, uint32_t rank, const char *end,
                               const wanted_buffer_t *wanted, size_t n)
{
    ag_status_t status = AG_OK;
    char name[24];

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        snprintf(name, sizeof(name), "%s%s", wanted[i].name, end);
        status = ag_program_add_buffer(train->program, rank, name, wanted[i].unit_bytes,
                                       wanted[i].counter, wanted[i].buffer_p);
    }
    return status;
}

ag_status_t ag_train_add_experts(ag_train_t *train, uint32_t rank, const char *name,
                                 ag_train_experts_t *experts)
{
    const ag_spec_t *spec = train->build->model->spec;
    uint64_t row = spec->hidden * sizeof(float);
    const wanted_buffer_t wanted[] = {
        {"r", ag_route_width(ag_spec_experts(spec).n_used) * sizeof(float), AG_SIZE_TOKENS,
         &experts->routes},
        {"n", train->build->ranks[rank].shard.experts.n_places * sizeof(uint32_t), AG_SIZE_ONE,
         &experts->n_sent},
        {"in", row, AG_SIZE_RECEIVED, &experts->received},
        {"back", row, AG_SIZE_SENT, &experts->returned},
        {"ke", 0, AG_SIZE_ONE, &experts->kept},
    };

    return add_buffers(train, rank, name, wanted, sizeof(wanted) / sizeof(wanted[0]));
}

ag_status_t ag_train_add_exchanged(ag_train_t *train, uint32_t rank)
{
    const ag_spec_t *spec = train->build->model->spec;
    const ag_expert_shard_t *experts = &train->build->ranks[rank].shard.experts;
    ag_train_rank_t *of = &train->ranks[rank];
    uint64_t row = spec->hidden * sizeof(float);
    const wanted_buffer_t wanted[] = {
        {"sent", row, AG_SIZE_SENT, &of->sent},
        {"work", row, AG_SIZE_RECEIVED, &of->work},
        {"n_received", (uint64_t)experts->n_ranks * experts->n_held * sizeof(uint32_t), AG_SIZE_ONE,
         &of->n_received},
        {"droutes", ag_spec_experts(spec).n_used * sizeof(float), AG_SIZE_TOKENS, &of->droutes},
    };
    ag_status_t status;

    if (experts->n_ranks < 2) {
        return AG_OK;
    }
    status = add_buffers(train, rank, "", wanted, sizeof(wanted) / sizeof(wanted[0]));
    return status == AG_OK && train->again
               ? ag_train_add_experts(train, rank, ".again", &of->experts_again)
               : status;
}

/* What emitting one of the parts reads of its rank. */
static void begin_part(const ag_train_spread_t *spread)
{
    spread->rank->experts = *spread->experts;
    spread->rank->partial = spread->partial;
    spread->rank->pending = spread->pending;
}

/* Emit a part, and its gradients. */
static ag_status_t differentiate(const ag_train_spread_t *spread, ag_part_kind_t kind,
                                 ag_train_graphs_t *graphs)
{
    ag_train_rank_t *rank = spread->rank;
    const ag_train_experts_t *experts = spread->experts;
    int32_t dx = (int32_t)spread->dx, sent = (int32_t)rank->sent, work = (int32_t)rank->work;
    int32_t routes = (int32_t)experts->routes, droutes = (int32_t)rank->droutes;
    const ag_backward_grad_t of_route[] = {
        ag_train_input_grad(spread->train, spread->layer, spread->x, spread->dx, rank->dn),
        {(int32_t)spread->before, dx, false},
        {(int32_t)spread->partial, (int32_t)spread->dpartial, true},
        {sent, sent, true},
        {routes, droutes, true}};
    const ag_backward_grad_t behind_norm[] = {
        {(int32_t)spread->normed, (int32_t)rank->dn, false},
        {(int32_t)spread->partial, (int32_t)spread->dpartial, true},
        {sent, sent, true},
        {routes, droutes, true}};
    const ag_backward_grad_t of_experts[] = {{work, work, true},
                                             {(int32_t)experts->received, work, false}};
    const ag_backward_grad_t of_combine[] = {
        {(int32_t)spread->partial, (int32_t)spread->dpartial, true},
        {(int32_t)experts->returned, sent, false},
        {routes, droutes, false}};
    bool is_route = kind == AG_PART_ROUTE, is_experts = kind == AG_PART_EXPERTS;
    bool is_cut = is_route && spread->normed != AG_NO_BUFFER;
    ag_backward_opts_t opts = {.grads = is_cut       ? behind_norm
                                        : is_route   ? of_route
                                        : is_experts ? of_experts
                                                     : of_combine,
                               .n_grads = is_cut       ? 4
                                          : is_route   ? 5
                                          : is_experts ? 2
                                                       : 3,
                               .cut_buffer = AG_INTERNAL};
    ag_train_keeper_t keeper = {spread->train, rank};
    ag_part_t part = {kind, spread->layer};
    ag_status_t status = ag_train_graphs_init(graphs);

    ag_train_bind(&keeper, &opts);
    rank->kept_buffer = is_route ? spread->kept : experts->kept;
    rank->kept_bytes = 0;
    begin_part(spread);
    if (status == AG_OK) {
        status = ag_train_emit(spread->train, rank->rank, &part, spread->before, spread->x,
                               graphs->forward);
    }
    if (status == AG_OK && is_cut) {
        status = ag_train_cut(spread->train, spread->normed, &graphs->forward, NULL);
    }
    if (status != AG_OK) {
        return status;
    }
    return is_route && !is_cut
               ? ag_train_differentiate(spread->train, spread->layer, spread->dx, rank->dn, &opts,
                                        graphs)
               : ag_graph_backward(graphs->forward, &opts, graphs->first, graphs->second);
}

static ag_status_t add(const ag_train_spread_t *spread, ag_part_kind_t kind, ag_graph_t **graph,
                       uint32_t sum, const ag_use_t *uses, uint32_t n_uses)
{
    ag_part_t part = {kind, spread->layer};
    ag_graph_t *added = *graph;

    *graph = NULL;
    return ag_train_add_using(spread->train, spread->rank->rank, &part, added, sum, uses, n_uses);
}

/* @param combines  what the part leaves in p is read. */
static ag_status_t forward_part(const ag_train_spread_t *spread, ag_part_kind_t kind, bool keeps,
                                bool combines, const ag_use_t *uses, uint32_t n_uses)
{
    ag_part_t part = {kind, spread->layer};
    ag_train_graphs_t graphs = {0};
    ag_status_t status;

    if (keeps) {
        status = differentiate(spread, kind, &graphs);
    } else {
        begin_part(spread);
        status = ag_expand_graph(&graphs.forward);
        if (status == AG_OK) {
            status = ag_train_emit(spread->train, spread->rank->rank, &part, spread->before,
                                   spread->x, graphs.forward);
        }
        if (status == AG_OK && kind == AG_PART_ROUTE && spread->normed != AG_NO_BUFFER) {
            status = ag_train_cut(spread->train, spread->normed, &graphs.forward, NULL);
        }
    }
    if (status == AG_OK && !combines) {
        status = ag_graph_drop(graphs.forward, (int32_t)spread->rank->partial);
    }
    if (status == AG_OK) {
        status = add(spread, kind, &graphs.forward, AG_NO_BUFFER, uses, n_uses);
    }
    ag_train_graphs_fini(spread->train, &graphs);
    return status;
}

ag_status_t ag_train_spread_forward(const ag_train_spread_t *spread, bool keeps, bool combines)
{
    const ag_train_rank_t *rank = spread->rank;
    const ag_train_experts_t *experts = spread->experts;
    const uint32_t r = AG_USE_READ, w = AG_USE_WRITE;
    bool has_share = spread->train->build->ranks[rank->rank].shard.n_stage_ranks > 1;
    bool has_shared =
        ag_spec_layer(spread->train->build->model->spec, spread->layer)->shared_width > 0;
    uint32_t partial =
        has_shared ? r | w | (has_share ? AG_USE_PARTIAL : 0) : w | (has_share ? AG_USE_SHARE : 0);
    const ag_use_t of_route[] = {{rank->sent, w}, {experts->n_sent, w}};
    const ag_use_t of_experts[] = {{rank->n_received, r}, {experts->received, r}, {rank->work, w}};
    const ag_use_t of_combine[] = {{experts->returned, r}, {spread->partial, partial}};
    ag_status_t status = forward_part(spread, AG_PART_ROUTE, keeps, combines, of_route, 2);

    if (status == AG_OK) {
        status = forward_part(spread, AG_PART_EXPERTS, keeps, combines, of_experts, 3);
    }
    return status == AG_OK && combines
               ? forward_part(spread, AG_PART_COMBINE, keeps, true, of_combine, 2)
               : status;
}

ag_status_t ag_train_spread_backward(const ag_train_spread_t *spread)
{
    const ag_train_rank_t *rank = spread->rank;
    const uint32_t r = AG_USE_READ, w = AG_USE_WRITE;
    bool is_cut = spread->normed != AG_NO_BUFFER;
    /* a rank combines, and so takes gradients of, its own rows */
    const ag_use_t of_combine[] = {
        {rank->sent, w}, {spread->experts->n_sent, r}, {spread->dx, r | AG_USE_SHARE}};
    const ag_use_t of_experts[] = {{rank->n_received, r}, {rank->work, r | w}};
    const ag_use_t of_route[] = {{rank->sent, r}};
    const struct {
        ag_part_kind_t forward, back;
        uint32_t sum;
        const ag_use_t *uses;
        uint32_t n_uses;
    } parts[] = {{AG_PART_COMBINE, AG_PART_COMBINE_B, AG_NO_BUFFER, of_combine, is_cut ? 3 : 2},
                 {AG_PART_EXPERTS, AG_PART_EXPERTS_B, AG_NO_BUFFER, of_experts, 2},
                 {AG_PART_ROUTE, AG_PART_ROUTE_B, rank->dn, of_route, 1}};
    ag_status_t status = AG_OK;

    for (int i = 0; i < 3 && status == AG_OK; i++) {
        ag_train_graphs_t graphs = {0};

        status = differentiate(spread, parts[i].forward, &graphs);
        if (status == AG_OK) {
            status = add(spread, parts[i].back, &graphs.first, parts[i].sum, parts[i].uses,
                         parts[i].n_uses);
        }
        if (status == AG_OK && parts[i].forward == AG_PART_ROUTE && !is_cut) {
            status = add(spread, AG_PART_FFN_NORM_B, &graphs.second, AG_NO_BUFFER, NULL, 0);
        }
        ag_train_graphs_fini(spread->train, &graphs);
    }
    return status;
}
