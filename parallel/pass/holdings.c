#include "parallel/pass/holdings_priv.h"

#include <stdlib.h>

static int by_tensor_then_rank(const void *a, const void *b)
{
    const ag_holding_t *x = a, *y = b;

    if (x->tensor != y->tensor) {
        return (uintptr_t)x->tensor < (uintptr_t)y->tensor ? -1 : 1;
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (x->param > y->param) - (x->param < y->param);
}

ag_holding_t ag_holding_of(const ag_build_t *build, uint32_t rank, uint32_t param)
{
    const ag_params_t *params = &build->ranks[rank].params;
    const ag_param_t *of = &AG_ITEMS(&params->items, ag_param_t)[param];
    const ag_graph_param_t *held = &ag_params_held(params)[param];
    ag_holding_t holding = {.tensor = of->tensor,
                            .rank = rank,
                            .param = param,
                            .is_part = of->grads_are_parts,
                            .spans = of->spans_replicas};

    if (of->is_column) {
        holding.begin = of->row_begin;
        holding.end = of->row_begin + held->cols;
        holding.across_begin = of->col_begin;
        holding.across = 1;
    } else if (of->tensor->n_dims == 1) {
        holding.begin = of->col_begin;
        holding.end = of->col_begin + held->cols;
        holding.across = 1;
    } else {
        holding.begin = of->row_begin;
        holding.end = of->row_begin + held->rows;
        holding.across_begin = of->col_begin;
        holding.across = held->cols;
    }
    return holding;
}

ag_status_t ag_holdings_init(const ag_build_t *build, ag_holdings_t *holdings_p)
{
    ag_holdings_t holdings = {0};
    size_t n = 0;

    for (uint32_t r = 0; r < build->n_ranks; r++) {
        n += build->ranks[r].params.items.n_items;
    }
    holdings.items = calloc(n + 1, sizeof(*holdings.items));
    if (holdings.items == NULL) {
        return ag_fail_nomem("listing weights", n * sizeof(*holdings.items));
    }
    for (uint32_t r = 0; r < build->n_ranks; r++) {
        for (uint32_t i = 0; i < build->ranks[r].params.items.n_items; i++) {
            holdings.items[holdings.n++] = ag_holding_of(build, r, i);
        }
    }
    qsort(holdings.items, holdings.n, sizeof(*holdings.items), by_tensor_then_rank);
    *holdings_p = holdings;
    return AG_OK;
}

void ag_holdings_fini(ag_holdings_t *holdings)
{
    free(holdings->items);
    *holdings = (ag_holdings_t){0};
}

const ag_holding_t *ag_holdings_find(const ag_holdings_t *holdings, const ag_model_tensor_t *tensor,
                                     size_t *n_p)
{
    size_t low = 0, high = holdings->n, end;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if ((uintptr_t)holdings->items[middle].tensor < (uintptr_t)tensor) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (end = low; end < holdings->n && holdings->items[end].tensor == tensor; end++) {
    }
    *n_p = end - low;
    return holdings->items + low;
}

bool ag_holdings_meet(const ag_build_t *build, const ag_holding_t *a, const ag_holding_t *b)
{
    return a->tensor == b->tensor && a->across_begin == b->across_begin && a->across == b->across &&
           (a->spans || build->ranks[a->rank].place.replica == build->ranks[b->rank].place.replica);
}

const ag_holding_t *ag_holdings_find_around(const ag_build_t *build, const ag_holdings_t *holdings,
                                            const ag_holding_t *of, uint32_t rank)
{
    size_t n;
    const ag_holding_t *others = ag_holdings_find(holdings, of->tensor, &n);

    for (size_t i = 0; i < n; i++) {
        if (others[i].rank == rank && ag_holdings_meet(build, &others[i], of) &&
            others[i].begin <= of->begin && others[i].end >= of->end) {
            return &others[i];
        }
    }
    return NULL;
}
