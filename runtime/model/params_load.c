/*
 * Weights from their files to where they are multiplied by, all threads of the team at once:
 *
 *     for each slice
 *         my share of its rows: those that LINEAR gives this thread
 *             for each piece that stays in L2: read it, pack its groups to their place
 *
 * It moves every byte three times: from the page cache to the piece, from the piece to its group,
 * and the group to memory, whose pages so lie with the thread that will read them. No thread waits
 * for another. What is written does not depend on how many there are.
 *
 * Where the host may not write there, groups are packed beside the piece, and copied; for that the
 * device is called by one thread after the other.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/params.h"
#include "runtime/model/transform.h"
#include "runtime/model/weights.h"

/* Threads' pieces do not share a page. */
enum { READ_BYTES = 256 << 10, PAGE_BYTES = 4096, ERROR_BYTES = 2048 };

typedef struct load {
    ag_params_t *params;
    const ag_model_t *model;
    const ag_cancel_t *cancel;
    ag_device_t *device;
    pthread_mutex_t calls; /* of the device: one thread at a time */
    unsigned char *base;
    unsigned char *staging; /* (n_threads, piece_bytes + packed_bytes) */
    uint64_t piece_bytes, packed_bytes;
    atomic_bool has_failed; /* the others may stop */
    ag_status_t status;     /* of the thread that failed first, with its record */
    char error[ERROR_BYTES];
} load_t;

/* What a thread loads of a slice. */
typedef struct part {
    const ag_param_t *param;
    const ag_graph_param_t *held;
    const ag_packing_info_t *packing;
    uint64_t n_rows, n_cols; /* of the slice */
    uint64_t begin, end;     /* rows of the slice that are this thread's: whole groups */
    uint64_t together;       /* rows that must be read together */
    uint64_t first_row;      /* of the slice, in the file's tensor */
    uint64_t row_bytes;      /* read of each row */
    uint64_t skip_bytes;     /* of each row before what is read */
    uint64_t file_row_bytes;
    ag_dtype_t dtype;    /* of a piece's rows */
    uint64_t room_bytes; /* at the piece's end, for reading it */
} part_t;

/* Rows that must be read together: whole heads where a transform moves rows, whole groups. */
static uint64_t rows_together(const ag_param_t *param, const ag_graph_param_t *held)
{
    uint64_t head = ag_transform_rows(param->transform, param->head_dim);
    uint64_t group = ag_packing_info(held->packing)->group_rows, rows = head;

    while (rows % group != 0) {
        rows += head;
    }
    return rows;
}

static ag_turned_t turned_of(const part_t *part)
{
    return (ag_turned_t){.tensor = part->param->tensor,
                         .heads = part->param->heads,
                         .head_rows = part->param->turned_rows,
                         .n_cols = part->n_cols};
}

static part_t make_part(const ag_param_t *param, const ag_graph_param_t *held)
{
    const ag_model_tensor_t *tensor = param->tensor;
    bool column = param->is_column;
    part_t part = {
        .param = param,
        .held = held,
        .packing = ag_packing_info(held->packing),
        .n_rows = column ? held->cols : held->rows,
        .n_cols = column ? 1 : held->cols,
        .together = rows_together(param, held),
        .first_row = param->row_begin,
        .skip_bytes = ag_dtype_bytes(tensor->dtype, param->col_begin),
        .file_row_bytes = ag_dtype_bytes(tensor->dtype, param->row_elements),
        .dtype = tensor->dtype,
    };

    if (param->turned_rows > 0) {
        ag_turned_t turned = turned_of(&part);

        part.dtype = held->dtype;
        part.room_bytes = ag_turned_room_bytes(&turned);
    }
    part.row_bytes = ag_dtype_bytes(part.dtype, part.n_cols);
    return part;
}

/* How many rows of the slice a piece holds: heads and groups whole. */
static uint64_t rows_of_piece(const part_t *part, uint64_t piece_bytes)
{
    return (piece_bytes - part->room_bytes) / part->row_bytes / part->together * part->together;
}

/* The same of a tensor whose rows are the slice's columns: a few elements of each. */
static ag_status_t read_transposed(const load_t *load, const part_t *part, uint64_t row,
                                   uint64_t n_rows, unsigned char *piece)
{
    enum { LINE_BYTES = 4096 };
    const ag_model_tensor_t *tensor = part->param->tensor;
    uint64_t turns = part->param->turns, stride = turns > 0 ? 2 : 1;
    uint64_t element = ag_dtype_bytes(tensor->dtype, 1), most = LINE_BYTES / element / stride;
    unsigned char line[LINE_BYTES];

    for (uint64_t begin = 0; begin < n_rows; begin += most) {
        uint64_t n = n_rows - begin < most ? n_rows - begin : most;
        uint64_t first = ag_place_turned(part->first_row + row + begin, turns);

        for (uint64_t c = 0; c < part->n_cols; c++) {
            uint64_t at = (part->param->col_begin + c) * part->file_row_bytes + first * element;
            ag_status_t status = ag_model_files_read(load->model->files, tensor, at,
                                                     ((n - 1) * stride + 1) * element, line);

            if (status != AG_OK) {
                return status;
            }
            for (uint64_t i = 0; i < n; i++) {
                memcpy(piece + (begin + i) * part->row_bytes + c * element,
                       line + i * stride * element, element);
            }
        }
    }
    return AG_OK;
}

/* Read n_rows from row `row` of the slice on, densely. */
static ag_status_t read_rows(const load_t *load, const part_t *part, uint64_t row, uint64_t n_rows,
                             unsigned char *piece)
{
    bool dense = part->row_bytes == part->file_row_bytes && part->param->heads.n_heads == 0;
    uint64_t n_reads = dense ? 1 : n_rows;
    uint64_t n_bytes = dense ? n_rows * part->row_bytes : part->row_bytes;

    if (part->param->transform == AG_TRANSFORM_TRANSPOSE) {
        return read_transposed(load, part, row, n_rows, piece);
    }
    if (part->param->turned_rows > 0) {
        ag_turned_t turned = turned_of(part);

        return ag_turned_read(load->model->files, &turned, part->dtype, part->first_row + row,
                              n_rows, piece + load->piece_bytes - part->room_bytes, piece);
    }
    for (uint64_t i = 0; i < n_reads; i++) {
        uint64_t at = ag_head_rows_load(&part->param->heads, part->first_row + row + i);
        ag_status_t status = ag_model_files_read(load->model->files, part->param->tensor,
                                                 at * part->file_row_bytes + part->skip_bytes,
                                                 n_bytes, piece + i * part->row_bytes);

        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

static uint64_t group_bytes_of(const part_t *part)
{
    return part->packing->group_bytes(part->held->dtype, part->n_cols);
}

/* Pack rows [begin, end) of the slice, in whole groups, out of a piece that starts at row `row`. */
static void pack_rows(const part_t *part, uint64_t row, const unsigned char *piece, uint64_t begin,
                      uint64_t end, unsigned char *dst)
{
    const ag_packing_info_t *packing = part->packing;
    ag_dtype_t dtype = part->held->dtype;
    const ag_dtype_info_t *from = ag_dtype_info(part->dtype);
    uint64_t group_bytes = group_bytes_of(part);
    float offset = ag_transform_offset(part->param->transform);

    for (uint64_t i = begin; i < end; i += packing->group_rows, dst += group_bytes) {
        const unsigned char *rows[AG_PACKING_MAX_ROWS] = {NULL};

        for (uint64_t r = 0; r < packing->group_rows && i + r < end; r++) {
            uint64_t source = ag_transform_load(part->param->transform, part->param->head_dim,
                                                part->first_row + i + r);

            rows[r] = piece + (source - part->first_row - row) * part->row_bytes;
        }
        if (dtype == part->dtype) {
            packing->pack(dtype, rows, part->n_cols, dst);
        } else {
            from->unpack(rows[0], (float *)(void *)dst, part->n_cols / from->block_elements);
        }
        for (uint64_t k = 0; offset != 0 && k < part->n_cols; k++) { /* vectors are float32 */
            ((float *)(void *)dst)[k] += offset;
        }
    }
}

/* To their place, by way of `packed` where the host may not write there. */
static ag_status_t store_rows(load_t *load, const part_t *part, uint64_t row,
                              const unsigned char *piece, uint64_t begin, uint64_t end,
                              unsigned char *packed)
{
    uint64_t group_rows = part->packing->group_rows, group_bytes = group_bytes_of(part);
    uint64_t n_groups = (end - begin + group_rows - 1) / group_rows;
    unsigned char *dst = load->base + part->param->offset_bytes + begin / group_rows * group_bytes;
    ag_status_t status;

    if (ag_device_is_host(load->device)) {
        pack_rows(part, row, piece, begin, end, dst);
        return AG_OK;
    }
    memset(packed, 0, n_groups * group_bytes); /* rows that a group lacks are not written */
    pack_rows(part, row, piece, begin, end, packed);
    pthread_mutex_lock(&load->calls);
    status = load->device->ops->copy_in(load->device, 0, dst, packed, n_groups * group_bytes);
    if (status == AG_OK) {
        status = ag_device_finish(load->device, 0);
    }
    pthread_mutex_unlock(&load->calls);
    return status;
}

/* Pieces are cut at the same rows for every thread, so that heads stay whole; what of a piece is
 * another thread's is read and left. */
static ag_status_t load_part(load_t *load, const part_t *part, unsigned char *piece)
{
    uint64_t together = part->together, n_rows;
    uint64_t most = rows_of_piece(part, load->piece_bytes);

    for (uint64_t row = part->begin / together * together; row < part->end; row += n_rows) {
        uint64_t end = (part->end + together - 1) / together * together;
        ag_status_t status;

        end = end < part->n_rows ? end : part->n_rows;
        n_rows = end - row < most ? end - row : most;
        status = ag_cancel_is_asked(load->cancel)
                     ? ag_fail(AG_ERR_INTERRUPTED, "interrupted while loading weights")
                     : read_rows(load, part, row, n_rows, piece);
        if (status == AG_OK) {
            status = store_rows(load, part, row, piece, row > part->begin ? row : part->begin,
                                row + n_rows < part->end ? row + n_rows : part->end,
                                piece + load->piece_bytes);
        }
        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

/* One thread's share of everything. */
static void load_shares(void *arg, const ag_worker_t *worker)
{
    load_t *load = arg;
    size_t n_params = load->params->items.n_items;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_params && status == AG_OK && !atomic_load(&load->has_failed); i++) {
        part_t part = make_part(&AG_ITEMS(&load->params->items, ag_param_t)[i],
                                &ag_params_held(load->params)[i]);

        if (part.n_cols > 0) {
            ag_worker_share(worker, part.n_rows, part.packing->share_rows, &part.begin, &part.end);
            status = load_part(load, &part,
                               load->staging +
                                   worker->thread * (load->piece_bytes + load->packed_bytes));
        }
    }
    if (status != AG_OK && !atomic_exchange(&load->has_failed, true)) {
        load->status = status;
        snprintf(load->error, sizeof(load->error), "%s", ag_error());
    }
}

static uint64_t piece_bytes(const ag_params_t *params)
{
    uint64_t bytes = READ_BYTES;

    for (size_t i = 0; i < params->items.n_items; i++) {
        part_t part =
            make_part(&AG_ITEMS(&params->items, ag_param_t)[i], &ag_params_held(params)[i]);
        uint64_t least = part.together * part.row_bytes + part.room_bytes;

        bytes = least > bytes ? least : bytes;
    }
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* Of the groups that a piece becomes. */
static uint64_t packed_bytes(const ag_params_t *params, bool staged)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < params->items.n_items && staged; i++) {
        part_t part =
            make_part(&AG_ITEMS(&params->items, ag_param_t)[i], &ag_params_held(params)[i]);
        uint64_t rows = part.n_cols > 0 ? rows_of_piece(&part, piece_bytes(params)) : 0;
        uint64_t most = rows / part.packing->group_rows * group_bytes_of(&part);

        bytes = most > bytes ? most : bytes;
    }
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

uint64_t ag_params_load_bytes(const ag_params_t *params, unsigned n_threads, bool staged)
{
    return n_threads * (piece_bytes(params) + packed_bytes(params, staged));
}

ag_status_t ag_params_load(ag_params_t *params, const ag_model_t *model, ag_team_t *team,
                           const ag_cancel_t *cancel, ag_device_t *device, unsigned char *base)
{
    bool staged = !ag_device_is_host(device);
    uint64_t n_bytes = ag_params_load_bytes(params, ag_team_size(team), staged);
    load_t load = {.params = params,
                   .model = model,
                   .cancel = cancel,
                   .device = device,
                   .calls = PTHREAD_MUTEX_INITIALIZER,
                   .base = base,
                   .staging = aligned_alloc(PAGE_BYTES, n_bytes),
                   .piece_bytes = piece_bytes(params),
                   .packed_bytes = packed_bytes(params, staged)};

    if (load.staging == NULL) {
        return ag_fail_nomem("loading weights", n_bytes);
    }
    ag_team_run(team, load_shares, &load);
    free(load.staging);
    if (load.status != AG_OK) {
        return ag_fail(load.status, "%s", load.error);
    }
    for (size_t i = 0; i < params->items.n_items; i++) {
        AG_ITEMS(&params->held, ag_graph_param_t)
        [i].data = base + AG_ITEMS(&params->items, ag_param_t)[i].offset_bytes;
    }
    return AG_OK;
}
