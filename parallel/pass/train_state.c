/* What a training program's ranks hold: weights in buckets of gradients, and what micro-batches on
 * their way leave for their gradients. */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"

static ag_status_t add_buffer(ag_train_t *train, uint32_t rank, const char *name,
                              uint64_t unit_bytes, ag_size_counter_t counter, uint32_t *buffer_p)
{
    return ag_program_add_buffer(train->program, rank, name, unit_bytes, counter, buffer_p);
}

static bool is_last(const ag_train_t *train, uint32_t rank)
{
    return train->build->ranks[rank].place.stage + 1 == train->build->plan->n_stages;
}

ag_status_t ag_train_emit(const ag_train_t *train, uint32_t rank, const ag_part_t *part, uint32_t x,
                          uint32_t x_out, ag_graph_t *graph)
{
    const ag_train_rank_t *of = &train->ranks[rank];
    ag_block_t block = {.model = train->build->model,
                        .shard = &train->build->ranks[rank].shard,
                        .params = &train->build->ranks[rank].params,
                        .x = (int32_t)x,
                        .partial = (int32_t)of->partial,
                        .logits = (int32_t)of->logits,
                        .trains = true,
                        .rounds = ag_plan_rounds(train->build->plan),
                        .x_out = (int32_t)x_out,
                        .context_tokens = train->build->plan->context_tokens,
                        .last_layer = of->last_layer,
                        .statistics = (int32_t)of->statistics,
                        .loss = (int32_t)of->loss,
                        .routes = (int32_t)of->experts.routes,
                        .n_sent = (int32_t)of->experts.n_sent,
                        .sent = (int32_t)of->sent,
                        .n_received = (int32_t)of->n_received,
                        .received = (int32_t)of->experts.received,
                        .results = (int32_t)of->work,
                        .returned = (int32_t)of->experts.returned};

    return ag_expand_emit(&block, part, of->pending, graph);
}

/* Which weights' gradients lie together. */
typedef enum bucket_kind {
    BUCKET_PLAIN,
    BUCKET_SPANNING, /* ranks of several replicas share them out */
    BUCKET_COMMON,   /* ranks of a stage have them whole, each for work of its own: complete when
                        these have summed them up, at the step's end. Layers without them are
                        summed over replicas as soon as their last micro-batch is through. */
} bucket_kind_t;

static bucket_kind_t kind_of(const ag_params_t *params, uint32_t number)
{
    const ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[number];

    return param->spans_replicas ? BUCKET_SPANNING
           : param->is_common    ? BUCKET_COMMON
                                 : BUCKET_PLAIN;
}

static uint64_t bytes_of(const ag_params_t *params, uint32_t number)
{
    const ag_param_t *items = AG_ITEMS(&params->items, ag_param_t);

    return (number + 1 < params->items.n_items ? items[number + 1].offset_bytes : params->bytes) -
           items[number].offset_bytes;
}

/* Of a bucket's floats, those that this rank changes: all, or its replica's share. */
static ag_status_t find_own(const ag_train_t *train, uint32_t rank, bucket_kind_t kind, uint64_t n,
                            ag_range_t *own_p)
{
    uint32_t replica = train->build->ranks[rank].place.replica;
    uint64_t floats[AG_MOST_REPLICAS];
    ag_status_t status;

    *own_p = (ag_range_t){0, n};
    if (!ag_plan_shares_update(train->build->plan) || kind == BUCKET_SPANNING) {
        return AG_OK;
    }
    status = ag_plan_share_floats(train->build->plan, n, floats);
    for (uint32_t i = 0; i < replica && status == AG_OK; i++) {
        own_p->begin += floats[i];
    }
    own_p->end = own_p->begin + (status == AG_OK ? floats[replica] : 0);
    return status;
}

/* Where floats [first, first + n) of a bucket meet what this rank changes of it, from first on. */
static void place_own(const ag_range_t *own, uint64_t first, uint64_t n, ag_graph_param_t *held)
{
    held->own_begin = own->begin < first ? 0 : own->begin - first < n ? own->begin - first : n;
    held->own_end = own->end < first ? 0 : own->end - first < n ? own->end - first : n;
}

/* Those of a kind among parameters [first, end) of a rank. */
static ag_status_t add_bucket(ag_train_t *train, uint32_t rank, ag_range_t of, bucket_kind_t kind,
                              const char *name)
{
    ag_params_t *params = &train->build->ranks[rank].params;
    uint32_t n = 0, buffer;
    uint64_t n_bytes = 0;
    ag_range_t own;
    ag_status_t status;

    for (uint32_t i = (uint32_t)of.begin; i < of.end; i++) {
        n += kind_of(params, i) == kind;
        n_bytes += kind_of(params, i) == kind ? bytes_of(params, i) : 0;
    }
    if (n == 0) {
        return AG_OK;
    }
    status = add_buffer(train, rank, name, n_bytes, AG_SIZE_ONE, &buffer);
    if (status == AG_OK) {
        status = find_own(train, rank, kind, n_bytes / sizeof(float), &own);
    }
    n_bytes = 0;
    for (uint32_t i = (uint32_t)of.begin; i < of.end && status == AG_OK; i++) {
        ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[i];
        ag_graph_param_t *held = &AG_ITEMS(&params->held, ag_graph_param_t)[i];

        if (kind_of(params, i) == kind) {
            param->grad_buffer = buffer;
            param->grad_begin_bytes = n_bytes;
            place_own(&own, n_bytes / sizeof(float), held->rows * held->cols, held);
            n_bytes += bytes_of(params, i);
        }
    }
    return status == AG_OK ? ag_array_append(&train->ranks[rank].buckets, &buffer, 1) : status;
}

/* Emit parts for their weights alone: those not met before make a bucket, and one of their own
 * those that ranks of several replicas share out. Of layers' are left those that all have in
 * common. */
static ag_status_t add_weights(ag_train_t *train, uint32_t rank, const ag_part_t *parts, size_t n,
                               const char *name)
{
    const ag_params_t *params = &train->build->ranks[rank].params;
    ag_range_t added = {params->items.n_items, 0};
    ag_status_t status = AG_OK;
    char other[24];
    ag_graph_t graph;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        ag_graph_init(&graph);
        status = ag_train_emit(train, rank, &parts[i], 0, 0, &graph);
        ag_graph_fini(&graph);
    }
    added.end = params->items.n_items;
    snprintf(other, sizeof(other), "%s.e", name);
    if (status == AG_OK) {
        status = add_bucket(train, rank, added, BUCKET_PLAIN, name);
    }
    return status == AG_OK ? add_bucket(train, rank, added, BUCKET_SPANNING, other) : status;
}

static ag_status_t add_buckets(ag_train_t *train, uint32_t rank, const ag_train_chunk_t *chunk)
{
    const ag_params_t *params = &train->build->ranks[rank].params;
    ag_range_t of_layers;
    ag_status_t status = AG_OK;
    char name[24];

    if (chunk->first) {
        status = add_weights(train, rank, &(ag_part_t){AG_PART_EMBED, 0}, 1, "g.embed");
    }
    of_layers.begin = params->items.n_items;
    for (uint32_t layer = chunk->layers.begin; layer < chunk->layers.end && status == AG_OK;
         layer++) {
        bool is_spread = ag_train_is_spread(train, rank, layer);
        /* experts come last: those that replicas share out have a bucket of their own */
        const ag_part_t parts[] = {{AG_PART_ATTN, layer},
                                   {AG_PART_ATTN_ADD, layer},
                                   {AG_PART_FFN_ADD, layer},
                                   {is_spread ? AG_PART_ROUTE : AG_PART_FFN, layer},
                                   {AG_PART_EXPERTS, layer}};

        snprintf(name, sizeof(name), "g%u", layer);
        status = add_weights(train, rank, parts, is_spread ? 5 : 4, name);
    }
    of_layers.end = params->items.n_items;
    snprintf(name, sizeof(name), "g.common%u", chunk->number);
    if (status == AG_OK) {
        status = add_bucket(train, rank, of_layers, BUCKET_COMMON, name);
    }
    return status == AG_OK && chunk->last
               ? add_weights(train, rank, &(ag_part_t){AG_PART_HEAD, 0}, 1, "g.head")
               : status;
}

/* Of the residual stream, what a rank keeps that shares its rows out. */
static uint64_t kept_bytes(const ag_train_t *train, uint32_t rank)
{
    return ag_shard_most_rows(&train->build->ranks[rank].shard,
                              train->program->bounds[AG_SIZE_TOKENS]) *
           train->build->model->spec->hidden * sizeof(float);
}

/* Of one rank, but for its buckets. */
static ag_status_t add_buffers(ag_train_t *train, uint32_t rank)
{
    const ag_spec_t *spec = train->build->model->spec;
    const ag_shard_t *shard = &train->build->ranks[rank].shard;
    ag_train_rank_t *of = &train->ranks[rank];
    uint64_t row = spec->hidden * sizeof(float);
    bool last = is_last(train, rank), again = train->again, passes = ag_train_passes(train, rank);
    bool norms = false, shares = of->shares_rows;

    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        norms |= spec->layer_kinds[i].norms_after;
    }
    const struct {
        const char *name;
        uint64_t unit_bytes;
        ag_size_counter_t counter;
        bool wanted;
        uint32_t *buffer_p;
    } buffers[] = {
        {"totals", AG_N_TOTALS * sizeof(float), AG_SIZE_ONE, true, &of->totals},
        {"loss", sizeof(double), AG_SIZE_ONE, true, &of->loss},
        {"p", row, AG_SIZE_TOKENS, true, &of->p},
        {"dn", row, AG_SIZE_TOKENS, true, &of->dn},
        {"dp", row, AG_SIZE_TOKENS, norms, &of->dpartial},
        {"pa", row, AG_SIZE_TOKENS, norms && again, &of->partial_again[0]},
        {"pf", row, AG_SIZE_TOKENS, norms && again, &of->partial_again[1]},
        {"logits",
         (shard->vocab_end - shard->vocab_begin) *
             ag_element_bytes(ag_plan_rounds(train->build->plan)),
         AG_SIZE_OUTPUTS, last, &of->logits},
        {"statistics", AG_LOSS_STATISTICS * shard->n_stage_ranks * sizeof(float), AG_SIZE_OUTPUTS,
         last, &of->statistics},
        {"n0", row, AG_SIZE_TOKENS, shares, &of->normed[0]},
        {"n1", row, AG_SIZE_TOKENS, shares, &of->normed[1]},
        {"dhead", row, AG_SIZE_OUTPUTS, last, &of->dhead},
        {"xa", row, AG_SIZE_TOKENS, passes, &of->stream[0]},
        {"xf", row, AG_SIZE_TOKENS, passes, &of->stream[1]},
        {"xf", shares ? kept_bytes(train, rank) : row, shares ? AG_SIZE_ONE : AG_SIZE_TOKENS, again,
         &of->x_again},
        {"ka", 0, AG_SIZE_ONE, again, &of->kept_again[0]},
        {"kf", 0, AG_SIZE_ONE, again, &of->kept_again[1]},
    };
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < sizeof(buffers) / sizeof(*buffers) && status == AG_OK; i++) {
        if (buffers[i].wanted) {
            status = add_buffer(train, rank, buffers[i].name, buffers[i].unit_bytes,
                                buffers[i].counter, buffers[i].buffer_p);
        }
    }
    return status;
}

ag_status_t ag_train_add_row_buffer(ag_train_t *train, uint32_t rank, const char *prefix,
                                    uint32_t number, uint32_t *buffer_p)
{
    char name[48];

    snprintf(name, sizeof(name), "%s%u", prefix, number);
    return add_buffer(train, rank, name, train->build->model->spec->hidden * sizeof(float),
                      AG_SIZE_TOKENS, buffer_p);
}

ag_status_t ag_train_add_kept_rows(ag_train_t *train, uint32_t rank, const char *prefix,
                                   uint32_t number, uint32_t *buffer_p)
{
    char name[48];

    if (!train->ranks[rank].shares_rows) {
        return ag_train_add_row_buffer(train, rank, prefix, number, buffer_p);
    }
    snprintf(name, sizeof(name), "%s%u", prefix, number);
    return add_buffer(train, rank, name, kept_bytes(train, rank), AG_SIZE_ONE, buffer_p);
}

/* What a chunk hands on, and the gradients that come and go; its buckets. */
static ag_status_t init_chunk(ag_train_t *train, uint32_t rank, uint32_t number)
{
    const ag_plan_t *plan = train->build->plan;
    uint32_t chunk = number * plan->n_stages + train->build->ranks[rank].place.stage;
    ag_train_chunk_t *of = &train->ranks[rank].chunks[number];
    ag_status_t status = AG_OK;

    *of = (ag_train_chunk_t){.number = (uint16_t)chunk,
                             .first = chunk == 0,
                             .last = chunk + 1 == ag_plan_chunks(plan) * plan->n_stages,
                             .layers = ag_plan_layers(plan, chunk),
                             .slots = AG_ARRAY(ag_train_slot_t),
                             .handed = AG_ARRAY(ag_train_handed_t),
                             .inputs = AG_ARRAY(uint32_t)};
    for (uint32_t i = 0; i < 2 && status == AG_OK; i++) {
        status = ag_train_add_row_buffer(train, rank, "dx", 2 * number + i, &of->dx[i]);
        if (status == AG_OK && !of->last) {
            status = ag_train_add_row_buffer(train, rank, "out", 2 * number + i, &of->out[i]);
        }
    }
    return status == AG_OK ? add_buckets(train, rank, of) : status;
}

static bool shares_rows(const ag_train_t *train, uint32_t rank)
{
    const ag_place_t *place = &train->build->ranks[rank].place;
    const ag_plan_t *plan = train->build->plan;

    return ag_plan_shares_rows(plan, &plan->stages[place->stage].replicas[place->replica]);
}

static ag_status_t init_rank(ag_train_t *train, uint32_t rank)
{
    ag_train_rank_t *of = &train->ranks[rank];
    uint32_t n = ag_plan_chunks(train->build->plan);
    ag_status_t status;

    *of = (ag_train_rank_t){
        .rank = rank,
        .buckets = AG_ARRAY(uint32_t),
        .experts = {AG_NO_BUFFER, AG_NO_BUFFER, AG_NO_BUFFER, AG_NO_BUFFER, AG_NO_BUFFER}};
    of->shares_rows = shares_rows(train, rank);
    ag_train_forget_norms(of);
    of->chunks = calloc(n, sizeof(*of->chunks));
    if (of->chunks == NULL) {
        return ag_fail_nomem("expanding a program", n * sizeof(*of->chunks));
    }
    of->n_chunks = n;
    status = add_buffers(train, rank);
    if (status == AG_OK) {
        status = ag_train_add_exchanged(train, rank);
    }
    for (uint32_t i = 0; i < n && status == AG_OK; i++) {
        status = init_chunk(train, rank, i);
    }
    return status;
}

ag_status_t ag_train_init(ag_program_t *program, ag_build_t *build, bool evaluates,
                          ag_train_t *train_p)
{
    ag_train_t train = {.program = program,
                        .build = build,
                        .evaluates = evaluates,
                        .again = evaluates || build->plan->train.recompute,
                        .ranks = calloc((size_t)build->n_ranks + 1, sizeof(*train.ranks))};
    ag_status_t status = train.ranks == NULL ? ag_fail_nomem("expanding a program",
                                                             build->n_ranks * sizeof(*train.ranks))
                                             : AG_OK;

    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        status = init_rank(&train, r);
    }
    if (status == AG_OK) {
        status = ag_holdings_init(build, &train.holdings);
    }
    if (status != AG_OK) {
        ag_train_fini(&train);
        return status;
    }
    *train_p = train;
    return AG_OK;
}

static void fini_chunk(ag_train_chunk_t *chunk)
{
    for (size_t i = 0; i < chunk->slots.n_items; i++) {
        ag_train_free_slot(&AG_ITEMS(&chunk->slots, ag_train_slot_t)[i]);
    }
    for (size_t i = 0; i < chunk->handed.n_items; i++) {
        free(AG_ITEMS(&chunk->handed, ag_train_handed_t)[i].buffers);
    }
    ag_array_fini(&chunk->slots);
    ag_array_fini(&chunk->handed);
    ag_array_fini(&chunk->inputs);
}

void ag_train_fini(ag_train_t *train)
{
    for (uint32_t r = 0; train->ranks != NULL && r < train->build->n_ranks; r++) {
        ag_train_rank_t *of = &train->ranks[r];

        for (uint32_t c = 0; c < of->n_chunks; c++) {
            fini_chunk(&of->chunks[c]);
        }
        free(of->chunks);
        ag_array_fini(&of->buckets);
    }
    ag_holdings_fini(&train->holdings);
    free(train->ranks);
    *train = (ag_train_t){0};
}
