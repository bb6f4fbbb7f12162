/*
 * Who gives what. Between two rows at which no holder begins or ends, who holds a column is the
 * same in all rows: there a tensor is cut along one axis, and ag_reshard_plan() has the copies.
 */
#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint_priv.h"

enum { PIECE_FLOATS = AG_PIECE_BYTES / sizeof(float) };

/* Where data can come from. */
typedef struct source {
    ag_rect_t rect;
    uint32_t id;
    uint64_t load; /* what its rank gives already */
} source_t;

/* Working room. */
typedef struct cover {
    ag_array_t sources; /* source_t: all of a tensor */
    ag_array_t cuts;    /* uint64_t: rows where holders begin or end, with the first and the last */
    ag_array_t active;  /* source_t: those that hold the rows between two cuts */
    ag_array_t ids;     /* uint32_t: the active ones as a layout */
    ag_array_t ranges;  /* ag_range_t */
    ag_array_t copies;  /* ag_reshard_copy_t */
} cover_t;

static void init_cover(cover_t *cover)
{
    *cover = (cover_t){AG_ARRAY(source_t), AG_ARRAY(uint64_t),   AG_ARRAY(source_t),
                       AG_ARRAY(uint32_t), AG_ARRAY(ag_range_t), AG_ARRAY(ag_reshard_copy_t)};
}

static void fini_cover(cover_t *cover)
{
    ag_array_fini(&cover->sources);
    ag_array_fini(&cover->cuts);
    ag_array_fini(&cover->active);
    ag_array_fini(&cover->ids);
    ag_array_fini(&cover->ranges);
    ag_array_fini(&cover->copies);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static int by_load(const void *a, const void *b)
{
    const source_t *x = a, *y = b;

    if (x->load != y->load) {
        return x->load < y->load ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static ag_status_t cut_rows(cover_t *cover, ag_range_t rows)
{
    const source_t *sources = cover->sources.items;
    ag_status_t status;
    uint64_t *cuts;
    size_t n = 0;

    cover->cuts.n_items = 0;
    status = ag_array_append(&cover->cuts, (uint64_t[]){rows.begin, rows.end}, 2);
    for (size_t i = 0; i < cover->sources.n_items && status == AG_OK; i++) {
        uint64_t ends[2] = {sources[i].rect.rows.begin, sources[i].rect.rows.end};

        for (int k = 0; k < 2 && status == AG_OK; k++) {
            if (ends[k] > rows.begin && ends[k] < rows.end) {
                status = ag_array_append(&cover->cuts, &ends[k], 1);
            }
        }
    }
    if (status != AG_OK) {
        return status;
    }
    cuts = cover->cuts.items;
    qsort(cuts, cover->cuts.n_items, sizeof(*cuts), by_value);
    for (size_t i = 0; i < cover->cuts.n_items; i++) {
        if (n == 0 || cuts[i] != cuts[n - 1]) {
            cuts[n++] = cuts[i];
        }
    }
    cover->cuts.n_items = n;
    return AG_OK;
}

/* Those that hold rows between two cuts hold them all. */
static ag_status_t activate(cover_t *cover, uint64_t row)
{
    const source_t *sources = cover->sources.items;
    ag_status_t status = AG_OK;

    cover->active.n_items = 0;
    for (size_t i = 0; i < cover->sources.n_items && status == AG_OK; i++) {
        if (sources[i].rect.rows.begin <= row && row < sources[i].rect.rows.end) {
            status = ag_array_append(&cover->active, &sources[i], 1);
        }
    }
    return status;
}

/* Copies of columns out of the active ones; of several the first is preferred. */
static ag_status_t cover_columns(cover_t *cover, uint64_t extent, ag_range_t cols)
{
    const source_t *active = cover->active.items;
    ag_layout_t from = {.extent = extent, .n_ranks = (uint32_t)cover->active.n_items};
    ag_layout_t to = {
        .extent = extent, .n_ranks = 1, .ranks = &(uint32_t){UINT32_MAX}, .ranges = &cols};
    ag_status_t status = AG_OK;

    cover->ids.n_items = cover->ranges.n_items = cover->copies.n_items = 0;
    for (size_t i = 0; i < cover->active.n_items && status == AG_OK; i++) {
        status = ag_array_append(&cover->ids, &active[i].id, 1);
        status =
            status == AG_OK ? ag_array_append(&cover->ranges, &active[i].rect.cols, 1) : status;
    }
    if (status != AG_OK) {
        return status;
    }
    from.ranks = cover->ids.items;
    from.ranges = cover->ranges.items;
    return ag_reshard_plan(&from, &to, &cover->copies);
}

/* ---- writing ---- */

typedef struct share {
    cover_t cover;
    const ag_held_t *held;
    uint64_t *loads; /* (n_ranks) bytes that a rank writes */
    ag_manifest_t *manifest;
    ag_array_t *sources;
} share_t;

/* Who writes least comes first. */
static void order_active(share_t *share)
{
    source_t *active = share->cover.active.items;

    for (size_t i = 0; i < share->cover.active.n_items; i++) {
        active[i].load = share->loads[share->held[active[i].id].rank];
    }
    qsort(active, share->cover.active.n_items, sizeof(*active), by_load);
}

static ag_status_t share_block(share_t *share, uint32_t tensor, const ag_rect_t *block)
{
    const ag_stored_tensor_t *t = &AG_ITEMS(&share->manifest->tensors, ag_stored_tensor_t)[tensor];
    ag_status_t status;

    order_active(share);
    status = cover_columns(&share->cover, t->cols, block->cols);
    if (status == AG_ERR_INVALID) {
        return ag_fail(status, "saving %s: no rank holds all of its row %llu", t->name,
                       (unsigned long long)block->rows.begin);
    }
    for (size_t i = 0; i < share->cover.copies.n_items && status == AG_OK; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&share->cover.copies, ag_reshard_copy_t)[i];
        size_t source = copy->from_rank;
        ag_piece_t piece = {
            .tensor = tensor, .file = share->held[source].rank, .rect = {block->rows, copy->range}};

        piece.offset_bytes = share->loads[piece.file];
        share->loads[piece.file] += ag_rect_floats(&piece.rect) * sizeof(float);
        status = ag_array_append(&share->manifest->pieces, &piece, 1);
        status = status == AG_OK ? ag_array_append(share->sources, &source, 1) : status;
    }
    return status;
}

/* Rows that the same ranks hold, in blocks of which nobody writes more than a piece. */
static ag_status_t share_band(share_t *share, uint32_t tensor, ag_range_t rows, uint64_t n_cols)
{
    const source_t *active;
    uint64_t widest = 1, high, wide;
    ag_status_t status = activate(&share->cover, rows.begin);

    active = share->cover.active.items;
    for (size_t i = 0; i < share->cover.active.n_items; i++) {
        uint64_t width = active[i].rect.cols.end - active[i].rect.cols.begin;

        widest = width > widest ? width : widest;
    }
    high = widest < PIECE_FLOATS ? PIECE_FLOATS / widest : 1;
    wide = widest <= PIECE_FLOATS ? n_cols : PIECE_FLOATS;
    for (uint64_t r = rows.begin; r < rows.end; r += high) {
        for (uint64_t c = 0; c < n_cols && status == AG_OK; c += wide) {
            ag_rect_t block = {{r, r + high < rows.end ? r + high : rows.end},
                               {c, c + wide < n_cols ? c + wide : n_cols}};

            status = share_block(share, tensor, &block);
        }
    }
    return status;
}

/* @param held  (n) of one tensor. */
static ag_status_t share_tensor(share_t *share, const ag_held_t *held, size_t n)
{
    cover_t *cover = &share->cover;
    uint32_t tensor = (uint32_t)share->manifest->tensors.n_items;
    ag_status_t status =
        ag_manifest_add_tensor(share->manifest, held->name, held->rows, held->cols);

    cover->sources.n_items = 0;
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        source_t source = {held[i].rect, (uint32_t)(held + i - share->held), 0};

        if (held[i].rows != held->rows || held[i].cols != held->cols) {
            return ag_fail(AG_ERR_INVALID,
                           "saving %s: it is %llu x %llu on rank %u, %llu x %llu "
                           "on rank %u",
                           held->name, (unsigned long long)held->rows,
                           (unsigned long long)held->cols, held->rank,
                           (unsigned long long)held[i].rows, (unsigned long long)held[i].cols,
                           held[i].rank);
        }
        status = ag_array_append(&cover->sources, &source, 1);
    }
    status = status == AG_OK ? cut_rows(cover, (ag_range_t){0, held->rows}) : status;
    for (size_t i = 0; i + 1 < cover->cuts.n_items && status == AG_OK; i++) {
        const uint64_t *cuts = cover->cuts.items;

        status = share_band(share, tensor, (ag_range_t){cuts[i], cuts[i + 1]}, held->cols);
    }
    return status;
}

ag_status_t ag_pieces_share(const ag_held_t *held, size_t n_held, uint32_t n_ranks,
                            ag_manifest_t *manifest, ag_array_t *sources)
{
    share_t share = {.held = held, .manifest = manifest, .sources = sources};
    ag_status_t status = AG_OK;

    share.loads = calloc(n_ranks, sizeof(*share.loads));
    if (share.loads == NULL) {
        return ag_fail_nomem("sharing out a checkpoint", n_ranks * sizeof(*share.loads));
    }
    init_cover(&share.cover);
    for (size_t i = 0, n; i < n_held && status == AG_OK; i += n) {
        for (n = 1; i + n < n_held && strcmp(held[i].name, held[i + n].name) == 0; n++) {
        }
        status = share_tensor(&share, &held[i], n);
    }
    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        ag_stored_file_t file = {.bytes = share.loads[r]};

        status = ag_array_append(&manifest->files, &file, 1);
    }
    fini_cover(&share.cover);
    free(share.loads);
    return status;
}

/* ---- reading ---- */

static bool meet(ag_range_t a, ag_range_t b)
{
    return a.begin < b.end && b.begin < a.end;
}

/* The pieces that meet a rectangle. */
static ag_status_t list_pieces(cover_t *cover, const ag_manifest_t *manifest, size_t tensor,
                               const ag_rect_t *wanted)
{
    const size_t *first = manifest->first_piece.items;
    ag_status_t status = AG_OK;

    for (size_t i = first[tensor]; i < first[tensor + 1] && status == AG_OK; i++) {
        const ag_piece_t *piece = &AG_ITEMS(&manifest->pieces, ag_piece_t)[i];
        source_t source = {piece->rect, (uint32_t)i, 0};

        if (meet(piece->rect.rows, wanted->rows) && meet(piece->rect.cols, wanted->cols)) {
            status = ag_array_append(&cover->sources, &source, 1);
        }
    }
    return status;
}

static ag_status_t find_band(cover_t *cover, const ag_stored_tensor_t *tensor, ag_range_t rows,
                             ag_range_t cols, ag_array_t *parts)
{
    ag_status_t status = activate(cover, rows.begin);

    status = status == AG_OK ? cover_columns(cover, tensor->cols, cols) : status;
    if (status == AG_ERR_INVALID) {
        return ag_fail(AG_ERR_FORMAT, "no piece has all of row %llu of %s",
                       (unsigned long long)rows.begin, tensor->name);
    }
    for (size_t i = 0; i < cover->copies.n_items && status == AG_OK; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&cover->copies, ag_reshard_copy_t)[i];
        ag_piece_part_t part = {copy->from_rank, {rows, copy->range}};

        status = ag_array_append(parts, &part, 1);
    }
    return status;
}

ag_status_t ag_pieces_find(const ag_manifest_t *manifest, size_t tensor, const ag_rect_t *wanted,
                           ag_array_t *parts)
{
    const ag_stored_tensor_t *t = &AG_ITEMS(&manifest->tensors, ag_stored_tensor_t)[tensor];
    ag_status_t status;
    cover_t cover;

    init_cover(&cover);
    status = list_pieces(&cover, manifest, tensor, wanted);
    status = status == AG_OK ? cut_rows(&cover, wanted->rows) : status;
    for (size_t i = 0; i + 1 < cover.cuts.n_items && status == AG_OK; i++) {
        const uint64_t *cuts = cover.cuts.items;

        status = find_band(&cover, t, (ag_range_t){cuts[i], cuts[i + 1]}, wanted->cols, parts);
    }
    fini_cover(&cover);
    return status;
}
