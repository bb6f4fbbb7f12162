/* Which rank holds which rectangle of each tensor, and how they come to rank 0. */
#include "parallel/run/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint_priv.h"
#include "parallel/run/job_priv.h"

/* A rectangle of a tensor, which lies densely in a rank's memory. */
typedef struct holding {
    uint32_t rank, param;  /* of that rank's */
    ag_range_t rows, cols; /* of the tensor */
    ag_range_t read;       /* rows that rank 0 takes from here: those that no rank before has */
    uint64_t offset;       /* floats from where the parameter begins, or what is its own of it */
} holding_t;

typedef struct entry {
    size_t first, own,
        end; /* holdings: of weights, then what ranks have moments and gradients of */
} entry_t;

struct ag_catalog {
    const ag_build_t *build;
    ag_job_t *job;       /* NULL: nothing is read */
    ag_array_t tensors;  /* ag_catalog_tensor_t */
    ag_array_t entries;  /* entry_t, same index */
    ag_array_t holdings; /* holding_t */
    ag_array_t slices;   /* ag_saved_slice_t, of saved */
    ag_array_t saved;    /* ag_saved_tensor_t */
    ag_array_t names;    /* char[AG_SAVED_NAME_BYTES] of saved */
    ag_array_t room;     /* float: a message */
    size_t last;         /* tensor that was looked for */
};

/* What rank 0 asks another rank for. */
typedef struct request {
    uint32_t kind; /* AG_N_STATE_KINDS: nothing any more */
    uint32_t pad;
    uint64_t holding, begin, end; /* rows of the tensor */
} request_t;

static const ag_params_t *params_of(const ag_catalog_t *catalog, uint32_t rank)
{
    return &catalog->build->ranks[rank].params;
}

static holding_t *holdings_of(const ag_catalog_t *catalog)
{
    return AG_ITEMS(&catalog->holdings, holding_t);
}

/* Rows that ranks before have, with the same columns, are theirs to read. */
static void choose_read(const ag_catalog_t *catalog, size_t first, holding_t *holding)
{
    holding->read = holding->rows;
    for (size_t i = first; i < catalog->holdings.n_items; i++) {
        const holding_t *other = &holdings_of(catalog)[i];

        if (other->cols.begin == holding->cols.begin && other->cols.end == holding->cols.end &&
            other->rows.begin <= holding->read.begin && other->rows.end > holding->read.begin) {
            holding->read.begin =
                other->rows.end < holding->rows.end ? other->rows.end : holding->rows.end;
        }
    }
}

/* Does a parameter have some of a tensor? Then the rectangle. */
static bool find_rectangle(const ag_catalog_t *catalog, uint32_t rank, uint32_t param,
                           const ag_catalog_tensor_t *tensor, const ag_place_in_file_t *place,
                           holding_t *holding)
{
    const ag_params_t *params = params_of(catalog, rank);
    const ag_param_t *of = &AG_ITEMS(&params->items, ag_param_t)[param];
    const ag_graph_param_t *held = &ag_params_held(params)[param];

    uint64_t row = of->row_begin - place->first_row, col = of->col_begin - place->first_col;

    if (of->tensor != place->tensor || of->row_begin < place->first_row ||
        of->col_begin < place->first_col || held->rows * held->cols == 0) {
        return false;
    }
    if (place->is_column) { /* elements are rows there */
        uint64_t element = row;

        row = col;
        col = element;
    }
    if (row >= tensor->rows || col >= tensor->cols) {
        return false;
    }
    *holding = (holding_t){.rank = rank,
                           .param = param,
                           .rows = {row, row + held->rows},
                           .cols = {col, col + held->cols}};
    return true;
}

static ag_status_t add_holding(ag_catalog_t *catalog, size_t first, holding_t *holding)
{
    choose_read(catalog, first, holding);
    return ag_array_append(&catalog->holdings, holding, 1);
}

/* What the rank's optimizer changes of it: a run of its elements. */
static ag_status_t add_own(ag_catalog_t *catalog, size_t first, const holding_t *whole)
{
    const ag_graph_param_t *held = &ag_params_held(params_of(catalog, whole->rank))[whole->param];
    ag_saved_slice_t slices[AG_FLAT_SLICES];
    float none; /* only the shapes are wanted */
    uint32_t n = ag_flat_slices(whole->rows, whole->cols,
                                (ag_range_t){held->own_begin, held->own_end}, &none, slices);
    holding_t own = *whole;
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < n && status == AG_OK; i++) {
        own.rows = slices[i].rows;
        own.cols = slices[i].cols;
        status = add_holding(catalog, first, &own);
        own.offset += (own.rows.end - own.rows.begin) * (own.cols.end - own.cols.begin);
    }
    return status;
}

/* What all ranks' parameters have of a tensor. @param own  of their moments. */
static ag_status_t add_holdings(ag_catalog_t *catalog, const ag_catalog_tensor_t *tensor,
                                const ag_place_in_file_t *place, bool own)
{
    size_t first = catalog->holdings.n_items;
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < catalog->build->n_ranks; r++) {
        for (uint32_t i = 0; i < params_of(catalog, r)->items.n_items && status == AG_OK; i++) {
            holding_t holding;

            if (find_rectangle(catalog, r, i, tensor, place, &holding)) {
                status =
                    own ? add_own(catalog, first, &holding) : add_holding(catalog, first, &holding);
            }
        }
    }
    return status;
}

static ag_status_t add_tensor(ag_catalog_t *catalog, const ag_weight_t *weight)
{
    const ag_model_t *model = catalog->build->model;
    ag_catalog_tensor_t tensor = {
        .weight = *weight, .rows = weight->rows > 0 ? weight->rows : 1, .cols = weight->cols};
    entry_t entry = {.first = catalog->holdings.n_items};
    ag_place_in_file_t place;
    ag_status_t status = ag_weight_find(model, weight, &place);

    if (status == AG_OK) {
        status = ag_weight_name(model, weight, tensor.name);
    }
    if (status != AG_OK) {
        return status;
    }
    status = add_holdings(catalog, &tensor, &place, false);
    entry.own = catalog->holdings.n_items;
    if (status == AG_OK) {
        status = add_holdings(catalog, &tensor, &place, true);
    }
    entry.end = catalog->holdings.n_items;
    if (status == AG_OK) {
        status = ag_array_append(&catalog->tensors, &tensor, 1);
    }
    return status == AG_OK ? ag_array_append(&catalog->entries, &entry, 1) : status;
}

/* The holdings of one kind. */
static void range_of(const ag_catalog_t *catalog, size_t tensor, ag_state_kind_t kind,
                     size_t *first_p, size_t *end_p)
{
    const entry_t *entry = &AG_ITEMS(&catalog->entries, entry_t)[tensor];

    *first_p = kind == AG_STATE_WEIGHT ? entry->first : entry->own;
    *end_p = kind == AG_STATE_WEIGHT ? entry->own : entry->end;
}

/* Where what this rank has of one of its parameters begins. */
static float *base_of(const ag_catalog_t *catalog, ag_state_kind_t kind, uint32_t param)
{
    const ag_graph_param_t *held = &ag_params_held(params_of(catalog, catalog->job->rank))[param];

    switch (kind) {
    case AG_STATE_WEIGHT:
        return held->trained;
    case AG_STATE_MOMENT_1:
    case AG_STATE_MOMENT_2:
        return held->moments[kind - AG_STATE_MOMENT_1];
    default:
        return (float *)(uintptr_t)ag_job_gradient(catalog->job, param);
    }
}

/* This rank's slices of a tensor, as a saver sees them. */
static ag_status_t add_slices(ag_catalog_t *catalog, size_t tensor, ag_state_kind_t kind)
{
    size_t first, end;
    ag_status_t status = AG_OK;

    range_of(catalog, tensor, kind, &first, &end);
    for (size_t i = first; i < end && status == AG_OK; i++) {
        const holding_t *holding = &holdings_of(catalog)[i];
        ag_saved_slice_t slice = {.rows = holding->rows,
                                  .cols = holding->cols,
                                  .stride = holding->cols.end - holding->cols.begin};

        if (holding->rank == catalog->job->rank) {
            slice.data = base_of(catalog, kind, holding->param) + holding->offset;
            status = ag_array_append(&catalog->slices, &slice, 1);
        }
    }
    return status;
}

static const char *const suffixes[] = {"", ".exp_avg", ".exp_avg_sq"};

enum { N_SAVED = sizeof(suffixes) / sizeof(suffixes[0]) };

static ag_status_t list_saved(ag_catalog_t *catalog)
{
    size_t n = catalog->tensors.n_items;
    ag_status_t status = ag_array_append(&catalog->saved, NULL, N_SAVED * n);

    if (status == AG_OK) {
        status = ag_array_append(&catalog->names, NULL, N_SAVED * n);
    }
    for (size_t i = 0; i < N_SAVED * n && status == AG_OK; i++) {
        const ag_catalog_tensor_t *tensor =
            &AG_ITEMS(&catalog->tensors, ag_catalog_tensor_t)[i / N_SAVED];
        char *name = (char *)catalog->names.items + i * AG_SAVED_NAME_BYTES;
        size_t before = catalog->slices.n_items, n_name = strlen(tensor->name);

        if (n_name + strlen(suffixes[i % N_SAVED]) >= AG_SAVED_NAME_BYTES) {
            return ag_fail(AG_ERR_UNSUPPORTED, "the name %s is too long for a checkpoint",
                           tensor->name);
        }
        memcpy(name, tensor->name, n_name);
        strcpy(name + n_name, suffixes[i % N_SAVED]);
        status = add_slices(catalog, i / N_SAVED, (ag_state_kind_t)(i % N_SAVED));
        AG_ITEMS(&catalog->saved, ag_saved_tensor_t)
        [i] = (ag_saved_tensor_t){.name = name,
                                  .rows = tensor->rows,
                                  .cols = tensor->cols,
                                  .n_slices = (uint32_t)(catalog->slices.n_items - before)};
    }
    for (size_t i = 0, at = 0; i < N_SAVED * n && status == AG_OK; i++) { /* they stay put now */
        ag_saved_tensor_t *saved = &AG_ITEMS(&catalog->saved, ag_saved_tensor_t)[i];

        saved->slices = AG_ITEMS(&catalog->slices, ag_saved_slice_t) + at;
        at += saved->n_slices;
    }
    return status;
}

/* @param job  may be NULL. */
static ag_status_t open_catalog(const ag_build_t *build, ag_job_t *job, ag_catalog_t **catalog_p)
{
    ag_catalog_t *catalog = calloc(1, sizeof(*catalog));
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    ag_status_t status;

    if (catalog == NULL) {
        return ag_fail_nomem("listing tensors", sizeof(*catalog));
    }
    *catalog = (ag_catalog_t){.build = build,
                              .job = job,
                              .tensors = AG_ARRAY(ag_catalog_tensor_t),
                              .entries = AG_ARRAY(entry_t),
                              .holdings = AG_ARRAY(holding_t),
                              .slices = AG_ARRAY(ag_saved_slice_t),
                              .saved = AG_ARRAY(ag_saved_tensor_t),
                              .names = {.item_bytes = AG_SAVED_NAME_BYTES},
                              .room = AG_ARRAY(float)};
    status = ag_weights_list(build->model->spec, &weights);
    for (size_t i = 0; i < weights.n_items && status == AG_OK; i++) {
        status = add_tensor(catalog, &AG_ITEMS(&weights, ag_weight_t)[i]);
    }
    ag_array_fini(&weights);
    if (status == AG_OK && job != NULL) {
        status = list_saved(catalog);
    }
    if (status != AG_OK) {
        ag_catalog_destroy(catalog);
        return status;
    }
    *catalog_p = catalog;
    return AG_OK;
}

ag_status_t ag_catalog_create(ag_job_t *job, ag_catalog_t **catalog_p)
{
    if (!ag_device_is_host(job->opts.device)) { /* its slices are read where they lie */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: what was trained is read out of the CPU's memory alone",
                       job->opts.device->ops->name);
    }
    return open_catalog(job->opts.build, job, catalog_p);
}

/* What all ranks have of one kind of a tensor. */
static ag_status_t add_held(const ag_catalog_t *catalog, size_t tensor, ag_state_kind_t kind,
                            ag_array_t *held)
{
    const ag_catalog_tensor_t *of = &AG_ITEMS(&catalog->tensors, ag_catalog_tensor_t)[tensor];
    ag_held_t item = {.rows = of->rows, .cols = of->cols};
    ag_status_t status = AG_OK;
    size_t first, end;

    snprintf(item.name, sizeof(item.name), "%s%s", of->name, suffixes[kind]);
    range_of(catalog, tensor, kind, &first, &end);
    for (size_t i = first; i < end && status == AG_OK; i++) {
        const holding_t *holding = &holdings_of(catalog)[i];

        item.slice = i > first && holding->rank == item.rank ? item.slice + 1 : 0;
        item.rank = holding->rank;
        item.rect = (ag_rect_t){holding->rows, holding->cols};
        status = ag_array_append(held, &item, 1);
    }
    return status;
}

static ag_status_t count_saved(const ag_array_t *held, ag_build_t *build)
{
    ag_array_t sources = AG_ARRAY(size_t);
    ag_manifest_t manifest;
    ag_status_t status;

    ag_manifest_init(&manifest);
    status = ag_pieces_share(held->items, held->n_items, build->n_ranks, &manifest, &sources);
    for (uint32_t r = 0; r < build->n_ranks; r++) {
        build->ranks[r].saved_bytes = 0;
    }
    for (size_t i = 0; i < manifest.pieces.n_items && status == AG_OK; i++) {
        const ag_piece_t *piece = &AG_ITEMS(&manifest.pieces, ag_piece_t)[i];

        build->ranks[piece->file].saved_bytes += ag_rect_floats(&piece->rect) * sizeof(float);
    }
    for (uint32_t r = 0; r < build->n_ranks; r++) {
        build->ranks[r].saved_bytes = ag_image_bytes(build->ranks[r].saved_bytes);
    }
    ag_array_fini(&sources);
    ag_manifest_fini(&manifest);
    return status;
}

ag_status_t ag_catalog_foretell(ag_build_t *build)
{
    ag_array_t held = AG_ARRAY(ag_held_t);
    ag_catalog_t *catalog;
    ag_status_t status = open_catalog(build, NULL, &catalog);

    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < N_SAVED * catalog->tensors.n_items && status == AG_OK; i++) {
        status = add_held(catalog, i / N_SAVED, (ag_state_kind_t)(i % N_SAVED), &held);
    }
    if (status == AG_OK) {
        ag_held_sort(&held);
        status = count_saved(&held, build);
    }
    ag_array_fini(&held);
    ag_catalog_destroy(catalog);
    return status;
}

void ag_catalog_destroy(ag_catalog_t *catalog)
{
    if (catalog != NULL) {
        ag_array_fini(&catalog->tensors);
        ag_array_fini(&catalog->entries);
        ag_array_fini(&catalog->holdings);
        ag_array_fini(&catalog->slices);
        ag_array_fini(&catalog->saved);
        ag_array_fini(&catalog->names);
        ag_array_fini(&catalog->room);
        free(catalog);
    }
}

ag_job_t *ag_catalog_job(const ag_catalog_t *catalog)
{
    return catalog->job;
}

const ag_catalog_tensor_t *ag_catalog_tensors(const ag_catalog_t *catalog, size_t *n_p)
{
    *n_p = catalog->tensors.n_items;
    return AG_ITEMS(&catalog->tensors, ag_catalog_tensor_t);
}

const ag_saved_tensor_t *ag_catalog_saved(const ag_catalog_t *catalog, size_t *n_p)
{
    *n_p = catalog->saved.n_items;
    return AG_ITEMS(&catalog->saved, ag_saved_tensor_t);
}

static uint64_t width_of(const holding_t *holding)
{
    return holding->cols.end - holding->cols.begin;
}

static ag_status_t take_room(ag_catalog_t *catalog, uint64_t n)
{
    catalog->room.n_items = 0;
    return ag_array_append(&catalog->room, NULL, n);
}

/* Rows of one holding, densely, into the room: from this rank's memory, or by its rank. */
static ag_status_t fetch(ag_catalog_t *catalog, const request_t *request)
{
    const holding_t *holding = &holdings_of(catalog)[request->holding];
    uint64_t n = (request->end - request->begin) * width_of(holding);
    ag_net_t *net = catalog->job->opts.net;
    const ag_idle_t *idle = &catalog->job->opts.idle;
    ag_status_t status = take_room(catalog, n);

    if (status != AG_OK) {
        return status;
    }
    if (holding->rank == catalog->job->rank) {
        memcpy(catalog->room.items,
               base_of(catalog, (ag_state_kind_t)request->kind, holding->param) + holding->offset +
                   (request->begin - holding->rows.begin) * width_of(holding),
               n * sizeof(float));
        return AG_OK;
    }
    status = ag_net_send(net, idle, (int)holding->rank, request, sizeof(*request));
    return status == AG_OK
               ? ag_net_recv(net, idle, (int)holding->rank, catalog->room.items, n * sizeof(float))
               : status;
}

ag_status_t ag_catalog_read(ag_catalog_t *catalog, ag_state_kind_t kind, size_t tensor,
                            uint64_t begin, uint64_t n, float *rows)
{
    uint64_t cols = AG_ITEMS(&catalog->tensors, ag_catalog_tensor_t)[tensor].cols;
    size_t first, end;
    ag_status_t status = AG_OK;

    range_of(catalog, tensor, kind, &first, &end);
    for (size_t i = first; i < end && status == AG_OK; i++) {
        const holding_t *holding = &holdings_of(catalog)[i];
        request_t request = {.kind = kind,
                             .holding = i,
                             .begin = holding->read.begin > begin ? holding->read.begin : begin,
                             .end = holding->read.end < begin + n ? holding->read.end : begin + n};
        uint64_t width = width_of(holding);

        if (request.begin >= request.end) {
            continue;
        }
        status = fetch(catalog, &request);
        for (uint64_t r = request.begin; r < request.end && status == AG_OK; r++) {
            memcpy(rows + (r - begin) * cols + holding->cols.begin,
                   AG_ITEMS(&catalog->room, float) + (r - request.begin) * width,
                   width * sizeof(float));
        }
    }
    return status;
}

ag_status_t ag_catalog_end(ag_catalog_t *catalog)
{
    request_t over = {.kind = AG_N_STATE_KINDS};
    ag_status_t status = AG_OK;

    for (int r = 1; r < catalog->job->opts.net->n_ranks && status == AG_OK; r++) {
        status =
            ag_net_send(catalog->job->opts.net, &catalog->job->opts.idle, r, &over, sizeof(over));
    }
    return status;
}

/* Room that cannot be had here must not leave rank 0 waiting: the job ends. */
ag_status_t ag_catalog_serve(ag_catalog_t *catalog)
{
    ag_net_t *net = catalog->job->opts.net;
    const ag_idle_t *idle = &catalog->job->opts.idle;

    for (;;) {
        request_t request;
        ag_status_t status = ag_net_recv(net, idle, 0, &request, sizeof(request));

        if (status != AG_OK || request.kind == AG_N_STATE_KINDS) {
            return status;
        }
        status = fetch(catalog, &request);
        if (status == AG_OK) {
            status = ag_net_send(net, idle, 0, catalog->room.items,
                                 catalog->room.n_items * sizeof(float));
        }
        if (status != AG_OK) {
            catalog->job->broken = true;
            return status;
        }
    }
}

static size_t find_tensor(ag_catalog_t *catalog, const ag_weight_t *weight)
{
    const ag_catalog_tensor_t *tensors = AG_ITEMS(&catalog->tensors, ag_catalog_tensor_t);
    size_t n = catalog->tensors.n_items, i = catalog->last;

    for (size_t tries = 0; tries < n; tries++, i = (i + 1) % n) {
        if (tensors[i].weight.role == weight->role && tensors[i].weight.layer == weight->layer &&
            tensors[i].weight.expert == weight->expert) {
            break;
        }
    }
    catalog->last = i;
    return i;
}

static ag_status_t read_rows(void *arg, const ag_weight_t *weight, uint64_t begin, uint64_t n,
                             void *rows)
{
    ag_catalog_t *catalog = arg;

    return ag_catalog_read(catalog, AG_STATE_WEIGHT, find_tensor(catalog, weight), begin, n, rows);
}

ag_weight_source_t ag_catalog_source(ag_catalog_t *catalog)
{
    return (ag_weight_source_t){.arg = catalog, .read = read_rows};
}

static ag_status_t read_gradients(void *arg, const ag_weight_t *weight, uint64_t begin, uint64_t n,
                                  void *rows)
{
    ag_catalog_t *catalog = arg;

    return ag_catalog_read(catalog, AG_STATE_GRADIENT, find_tensor(catalog, weight), begin, n,
                           rows);
}

ag_weight_source_t ag_catalog_gradients(ag_catalog_t *catalog)
{
    return (ag_weight_source_t){.arg = catalog, .read = read_gradients};
}
