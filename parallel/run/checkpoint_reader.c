#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parallel/run/checkpoint_priv.h"
#include "runtime/base/log.h"
#include "runtime/base/xxh64.h"

struct ag_checkpoint {
    char folder[AG_PATH_BYTES];
    ag_manifest_t manifest;
    int fd;        /* of `file`; -1: none is open */
    size_t file;   /* its index */
    size_t piece;  /* that is in the buffer; SIZE_MAX: none */
    float *buffer; /* as large as the largest piece */
};

static const ag_piece_t *pieces_of(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->manifest.pieces.items;
}

static const ag_stored_tensor_t *tensors_of(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->manifest.tensors.items;
}

/* ---- opening ---- */

static ag_status_t read_text(const char *path, char **text_p, size_t *n_bytes_p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    char *text = NULL;
    ag_status_t status = AG_OK;
    ssize_t n = 0;

    if (fd < 0) {
        return ag_fail_open(path);
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = ag_fail(AG_ERR_FORMAT, "%s is no regular file", path);
    } else if ((text = malloc((size_t)info.st_size + 1)) == NULL) {
        status = ag_fail_nomem(path, (unsigned long long)info.st_size);
    } else if ((n = pread(fd, text, (size_t)info.st_size, 0)) != info.st_size) {
        status = ag_fail(AG_ERR_IO, "reading %s: %s", path, n < 0 ? strerror(errno) : "cut off");
    }
    close(fd);
    if (status != AG_OK) {
        free(text);
        return status;
    }
    *text_p = text;
    *n_bytes_p = (size_t)n;
    return AG_OK;
}

static ag_status_t manifest_path(const char *dir, uint64_t step, char path[AG_PATH_BYTES])
{
    size_t n;

    if (strlen(dir) > AG_MOST_DIR_BYTES) {
        return ag_fail(AG_ERR_INVALID, "the checkpoints' folder has too long a path");
    }
    ag_step_folder(dir, step, path);
    n = strlen(path);
    snprintf(path + n, AG_PATH_BYTES - n, "/" AG_MANIFEST_NAME);
    return AG_OK;
}

static ag_status_t read_manifest(const char *dir, uint64_t step, char **text_p, size_t *n_bytes_p)
{
    char path[AG_PATH_BYTES], folder[AG_PATH_BYTES];
    ag_status_t status = manifest_path(dir, step, path);

    if (status != AG_OK) {
        return status;
    }
    ag_step_folder(dir, step, folder);
    if (access(folder, F_OK) == 0 && access(path, F_OK) != 0 && errno == ENOENT) {
        return ag_fail(
            AG_ERR_FORMAT,
            "%s is half-written: it has no " AG_MANIFEST_NAME ", for it was not completed", folder);
    }
    return read_text(path, text_p, n_bytes_p);
}

/* @param text  the manifest's; released here. */
static ag_status_t make_checkpoint(const char *dir, uint64_t step, char *text, size_t n_bytes,
                                   ag_checkpoint_t **checkpoint_p)
{
    ag_checkpoint_t *checkpoint = calloc(1, sizeof(*checkpoint));
    char path[AG_PATH_BYTES];
    ag_status_t status;

    if (checkpoint == NULL) {
        free(text);
        return ag_fail_nomem("reading a checkpoint", sizeof(*checkpoint));
    }
    ag_step_folder(dir, step, checkpoint->folder);
    checkpoint->fd = -1;
    checkpoint->piece = SIZE_MAX;
    status = manifest_path(dir, step, path);
    status =
        status == AG_OK ? ag_manifest_parse(text, n_bytes, path, &checkpoint->manifest) : status;
    free(text);
    if (status != AG_OK) {
        free(checkpoint);
        return status;
    }
    if (checkpoint->manifest.step != step) {
        status = ag_fail(AG_ERR_FORMAT, "%s is of step %llu: its folder was renamed", path,
                         (unsigned long long)checkpoint->manifest.step);
        ag_checkpoint_close(checkpoint);
        return status;
    }
    *checkpoint_p = checkpoint;
    return AG_OK;
}

/* What is there of its files has the right sizes; one that is missing may be on another host. */
static ag_status_t check_sizes(const ag_checkpoint_t *checkpoint)
{
    const ag_stored_file_t *files = checkpoint->manifest.files.items;

    for (size_t i = 0; i < checkpoint->manifest.files.n_items; i++) {
        char path[AG_PATH_BYTES + AG_RANK_FILE_BYTES];
        struct stat info;

        snprintf(path, sizeof(path), "%s/%s", checkpoint->folder, files[i].name);
        if (stat(path, &info) == 0 && (uint64_t)info.st_size != files[i].bytes) {
            return ag_fail(AG_ERR_FORMAT, "%s has %llu bytes, its manifest says %llu: it was %s",
                           path, (unsigned long long)info.st_size,
                           (unsigned long long)files[i].bytes,
                           (uint64_t)info.st_size < files[i].bytes ? "cut off" : "changed");
        }
    }
    return AG_OK;
}

static ag_status_t open_step(const char *dir, uint64_t step, ag_checkpoint_t **checkpoint_p)
{
    char *text;
    size_t n_bytes;
    ag_checkpoint_t *checkpoint;
    ag_status_t status = read_manifest(dir, step, &text, &n_bytes);

    status = status == AG_OK ? make_checkpoint(dir, step, text, n_bytes, &checkpoint) : status;
    if (status != AG_OK) {
        return status;
    }
    status = check_sizes(checkpoint);
    if (status != AG_OK) {
        ag_checkpoint_close(checkpoint);
        return status;
    }
    *checkpoint_p = checkpoint;
    return AG_OK;
}

/* @param below  the last of the steps before this one; UINT64_MAX: of all. */
static ag_status_t open_last(const char *dir, uint64_t below, ag_checkpoint_t **checkpoint_p)
{
    ag_array_t steps = AG_ARRAY(uint64_t);
    ag_status_t status = ag_steps_complete(dir, &steps);

    while (steps.n_items > 0 && AG_ITEMS(&steps, uint64_t)[steps.n_items - 1] >= below) {
        steps.n_items--;
    }
    if (status == AG_OK && steps.n_items == 0 && below < UINT64_MAX) {
        status = ag_fail(AG_ERR_IO,
                         "%s/step-%llu lacks a file, and there is no complete checkpoint before "
                         "it: on several hosts all must share the checkpoints' folder",
                         dir, (unsigned long long)below);
    } else if (status == AG_OK && steps.n_items == 0) {
        status = ag_fail(AG_ERR_IO, "there is no complete checkpoint in %s", dir);
    }
    for (size_t i = steps.n_items; i-- > 0;) {
        status = open_step(dir, AG_ITEMS(&steps, uint64_t)[i], checkpoint_p);
        if ((status != AG_ERR_FORMAT && status != AG_ERR_IO) || i == 0) {
            break;
        }
        ag_log(AG_LOG_WARNING, "%s; trying the checkpoint before it", ag_error());
    }
    ag_array_fini(&steps);
    return status;
}

ag_status_t ag_checkpoint_open(const char *dir, uint64_t step, ag_checkpoint_t **checkpoint_p)
{
    return step == AG_STEP_LAST ? open_last(dir, UINT64_MAX, checkpoint_p)
                                : open_step(dir, step, checkpoint_p);
}

/* What rank 0 tells the others first. */
typedef struct found {
    uint64_t step, n_bytes;
} found_t;

/* Rank 0's text to all. @param text  rank 0's; others get theirs. Released by the caller. */
static ag_status_t spread(ag_net_t *net, const ag_idle_t *idle, found_t *found, char **text_p)
{
    ag_status_t status = ag_agree_broadcast(net, idle, 0, found, sizeof(*found));

    if (status == AG_OK && net->rank != 0) {
        *text_p = malloc(found->n_bytes + 1);
    }
    if (status == AG_OK) {
        status = ag_agree(
            net, idle, *text_p == NULL ? ag_fail_nomem("a manifest", found->n_bytes) : AG_OK, NULL);
    }
    return status == AG_OK ? ag_agree_broadcast(net, idle, 0, *text_p, found->n_bytes) : status;
}

/* Rank 0's choice on all ranks. @param below  as open_last()'s. */
static ag_status_t open_chosen(ag_net_t *net, const ag_idle_t *idle, const char *dir, uint64_t step,
                               uint64_t below, ag_checkpoint_t **checkpoint_p)
{
    ag_checkpoint_t *checkpoint = NULL;
    found_t found = {0};
    char *text = NULL;
    ag_status_t status = AG_OK;

    if (net->rank == 0) {
        status = step == AG_STEP_LAST ? open_last(dir, below, &checkpoint)
                                      : open_step(dir, step, &checkpoint);
        if (status == AG_OK) {
            found.step = checkpoint->manifest.step;
            status = ag_manifest_text(&checkpoint->manifest, &text);
            found.n_bytes = status == AG_OK ? strlen(text) : 0;
        }
    }
    status = ag_agree(net, idle, status, NULL);
    status = status == AG_OK ? spread(net, idle, &found, &text) : status;
    if (status == AG_OK && net->rank != 0) {
        status = make_checkpoint(dir, found.step, text, found.n_bytes, &checkpoint);
        text = NULL;
    }
    free(text);
    status = ag_agree(net, idle, status, NULL);
    if (status != AG_OK) {
        ag_checkpoint_close(checkpoint);
        return status;
    }
    *checkpoint_p = checkpoint;
    return AG_OK;
}

/* The first of its files that no rank has, where each looks on its own host; NULL: none. */
static ag_status_t find_missing(ag_net_t *net, const ag_idle_t *idle,
                                const ag_checkpoint_t *checkpoint, const char **missing_p)
{
    const ag_stored_file_t *files = checkpoint->manifest.files.items;
    size_t n = checkpoint->manifest.files.n_items, n_bytes = n / 8 + 1;
    uint8_t *seen = calloc((size_t)net->n_ranks, n_bytes);
    ag_status_t status =
        ag_agree(net, idle,
                 seen == NULL ? ag_fail_nomem("looking for a checkpoint's files", n) : AG_OK, NULL);

    *missing_p = NULL;
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        char path[AG_PATH_BYTES + AG_RANK_FILE_BYTES];

        snprintf(path, sizeof(path), "%s/%s", checkpoint->folder, files[i].name);
        seen[(size_t)net->rank * n_bytes + i / 8] |=
            (uint8_t)(access(path, F_OK) == 0 ? 1u << i % 8 : 0);
    }
    status = status == AG_OK ? ag_agree_gather(net, idle, seen, n_bytes) : status;
    for (size_t i = 0; i < n && status == AG_OK && *missing_p == NULL; i++) {
        bool found = false;

        for (int r = 0; r < net->n_ranks; r++) {
            found |= seen[(size_t)r * n_bytes + i / 8] >> i % 8 & 1;
        }
        *missing_p = found ? NULL : files[i].name;
    }
    free(seen);
    return status;
}

ag_status_t ag_checkpoint_open_together(ag_net_t *net, const ag_idle_t *idle, const char *dir,
                                        uint64_t step, ag_checkpoint_t **checkpoint_p)
{
    uint64_t below = UINT64_MAX;

    for (;;) {
        ag_checkpoint_t *checkpoint = NULL;
        const char *missing;
        ag_status_t status = open_chosen(net, idle, dir, step, below, &checkpoint);

        if (status != AG_OK) {
            return status;
        }
        status = find_missing(net, idle, checkpoint, &missing);
        if (status != AG_OK) {
            ag_checkpoint_close(checkpoint);
            return status;
        }
        if (missing == NULL || step != AG_STEP_LAST) {
            *checkpoint_p = checkpoint;
            return AG_OK;
        }
        if (net->rank == 0) {
            ag_log(AG_LOG_WARNING, "%s/%s is missing; trying the checkpoint before it",
                   checkpoint->folder, missing);
        }
        below = checkpoint->manifest.step;
        ag_checkpoint_close(checkpoint);
    }
}

void ag_checkpoint_close(ag_checkpoint_t *checkpoint)
{
    if (checkpoint == NULL) {
        return;
    }
    if (checkpoint->fd >= 0) {
        close(checkpoint->fd);
    }
    ag_manifest_fini(&checkpoint->manifest);
    free(checkpoint->buffer);
    free(checkpoint);
}

const char *ag_checkpoint_folder(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->folder;
}

uint64_t ag_checkpoint_step(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->manifest.step;
}

const char *ag_checkpoint_spec_hash(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->manifest.spec_hash;
}

const ag_json_t *ag_checkpoint_state(const ag_checkpoint_t *checkpoint)
{
    return checkpoint->manifest.state;
}

const ag_stored_tensor_t *ag_checkpoint_tensors(const ag_checkpoint_t *checkpoint,
                                                size_t *n_tensors_p)
{
    *n_tensors_p = checkpoint->manifest.tensors.n_items;
    return tensors_of(checkpoint);
}

/* ---- reading tensors ---- */

/* A part of a piece, and where it goes. */
typedef struct want {
    ag_piece_part_t part;
    uint32_t file;
    float *dst; /* of its first element */
    uint64_t stride;
} want_t;

static ag_status_t open_file(ag_checkpoint_t *checkpoint, size_t file, const char *tensor)
{
    const ag_stored_file_t *stored = &AG_ITEMS(&checkpoint->manifest.files, ag_stored_file_t)[file];
    char path[AG_PATH_BYTES + AG_RANK_FILE_BYTES];
    struct stat info;

    if (checkpoint->fd >= 0 && checkpoint->file == file) {
        return AG_OK;
    }
    if (checkpoint->fd >= 0) {
        close(checkpoint->fd);
    }
    snprintf(path, sizeof(path), "%s/%s", checkpoint->folder, stored->name);
    checkpoint->file = file;
    checkpoint->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (checkpoint->fd < 0) {
        return errno == ENOENT
                   ? ag_fail(AG_ERR_IO,
                             "%s is missing, which has tensor %s: on several hosts all must share "
                             "the checkpoints' folder",
                             path, tensor)
                   : ag_fail_open(path);
    }
    if (fstat(checkpoint->fd, &info) != 0 || !S_ISREG(info.st_mode) ||
        (uint64_t)info.st_size != stored->bytes) {
        close(checkpoint->fd);
        checkpoint->fd = -1;
        return ag_fail(AG_ERR_FORMAT,
                       "%s has not the %llu bytes that its manifest says (tensor "
                       "%s): it was cut off or changed",
                       path, (unsigned long long)stored->bytes, tensor);
    }
    return AG_OK;
}

static ag_status_t read_piece(ag_checkpoint_t *checkpoint, size_t index)
{
    const ag_piece_t *piece = &pieces_of(checkpoint)[index];
    const char *tensor = tensors_of(checkpoint)[piece->tensor].name;
    size_t n_bytes = ag_rect_floats(&piece->rect) * sizeof(float), n_read = 0;
    const char *file;
    ag_status_t status;

    if (checkpoint->piece == index) {
        return AG_OK;
    }
    checkpoint->piece = SIZE_MAX;
    status = open_file(checkpoint, piece->file, tensor);
    if (status != AG_OK) {
        return status;
    }
    file = AG_ITEMS(&checkpoint->manifest.files, ag_stored_file_t)[piece->file].name;
    while (n_read < n_bytes) {
        ssize_t n = pread(checkpoint->fd, (char *)checkpoint->buffer + n_read, n_bytes - n_read,
                          (off_t)(piece->offset_bytes + n_read));

        if (n == 0 || (n < 0 && errno != EINTR)) {
            return ag_fail(AG_ERR_IO, "reading %s/%s at byte %llu (tensor %s): %s",
                           checkpoint->folder, file,
                           (unsigned long long)(piece->offset_bytes + n_read), tensor,
                           n == 0 ? "it ends there" : strerror(errno));
        }
        n_read += n > 0 ? (size_t)n : 0;
    }
    if (ag_xxh64(checkpoint->buffer, n_bytes) != piece->sum) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s/%s is damaged in bytes %llu to %llu (tensor %s): their checksum is "
                       "another; remove the folder to go on from the checkpoint before it",
                       checkpoint->folder, file, (unsigned long long)piece->offset_bytes,
                       (unsigned long long)(piece->offset_bytes + n_bytes - 1), tensor);
    }
    checkpoint->piece = index;
    return AG_OK;
}

static void copy_out(const ag_checkpoint_t *checkpoint, const want_t *want)
{
    const ag_rect_t *rect = &want->part.rect,
                    *whole = &pieces_of(checkpoint)[want->part.piece].rect;
    uint64_t width = whole->cols.end - whole->cols.begin;
    const float *src = checkpoint->buffer + (rect->rows.begin - whole->rows.begin) * width +
                       (rect->cols.begin - whole->cols.begin);

    for (uint64_t r = 0; r < rect->rows.end - rect->rows.begin; r++) {
        memcpy(want->dst + r * want->stride, src + r * width,
               (rect->cols.end - rect->cols.begin) * sizeof(float));
    }
}

/* In the order of the files, each piece once. */
static int by_place(const void *a, const void *b)
{
    const want_t *x = a, *y = b;

    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return (x->part.piece > y->part.piece) - (x->part.piece < y->part.piece);
}

static ag_status_t find_slice(const ag_manifest_t *manifest, size_t tensor,
                              const ag_saved_slice_t *slice, ag_array_t *wants)
{
    ag_array_t parts = AG_ARRAY(ag_piece_part_t);
    ag_rect_t rect = {slice->rows, slice->cols};
    ag_status_t status = ag_pieces_find(manifest, tensor, &rect, &parts);

    for (size_t i = 0; i < parts.n_items && status == AG_OK; i++) {
        const ag_piece_part_t *part = &AG_ITEMS(&parts, ag_piece_part_t)[i];
        uint32_t file = AG_ITEMS(&manifest->pieces, ag_piece_t)[part->piece].file;
        want_t want = {*part, file, slice->data, slice->stride};

        want.dst += (part->rect.rows.begin - slice->rows.begin) * slice->stride +
                    (part->rect.cols.begin - slice->cols.begin);
        status = ag_array_append(wants, &want, 1);
    }
    ag_array_fini(&parts);
    return status;
}

static int by_tensor_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const ag_stored_tensor_t *)tensor)->name);
}

static ag_status_t find_tensor(const ag_checkpoint_t *checkpoint, const ag_saved_tensor_t *tensor,
                               ag_array_t *wants)
{
    const ag_manifest_t *manifest = &checkpoint->manifest;
    const ag_stored_tensor_t *stored =
        manifest->tensors.n_items == 0
            ? NULL
            : bsearch(tensor->name, manifest->tensors.items, manifest->tensors.n_items,
                      sizeof(*stored), by_tensor_name);
    ag_status_t status = AG_OK;

    if (stored == NULL) {
        return ag_fail(AG_ERR_INVALID, "%s has no tensor %s", checkpoint->folder, tensor->name);
    }
    if (stored->rows != tensor->rows || stored->cols != tensor->cols) {
        return ag_fail(AG_ERR_INVALID, "tensor %s of %s is %llu x %llu, not %llu x %llu",
                       tensor->name, checkpoint->folder, (unsigned long long)stored->rows,
                       (unsigned long long)stored->cols, (unsigned long long)tensor->rows,
                       (unsigned long long)tensor->cols);
    }
    for (uint32_t i = 0; i < tensor->n_slices && status == AG_OK; i++) {
        status = find_slice(manifest, (size_t)(stored - tensors_of(checkpoint)), &tensor->slices[i],
                            wants);
    }
    return status == AG_ERR_FORMAT ? ag_fail_context(status, "%s", checkpoint->folder) : status;
}

/* Room for the largest piece that is wanted. */
static ag_status_t make_buffer(ag_checkpoint_t *checkpoint)
{
    uint64_t most = 0;

    for (size_t i = 0; i < checkpoint->manifest.pieces.n_items; i++) {
        uint64_t n = ag_rect_floats(&pieces_of(checkpoint)[i].rect);

        most = n > most ? n : most;
    }
    if (checkpoint->buffer == NULL && most > 0) {
        checkpoint->buffer = malloc(most * sizeof(float));
    }
    return checkpoint->buffer != NULL || most == 0
               ? AG_OK
               : ag_fail_nomem("reading a checkpoint", most * sizeof(float));
}

ag_status_t ag_checkpoint_load(ag_checkpoint_t *checkpoint, const ag_saved_tensor_t *tensors,
                               size_t n_tensors)
{
    ag_array_t wants = AG_ARRAY(want_t), held = AG_ARRAY(ag_held_t);
    ag_status_t status = ag_held_list(tensors, n_tensors, 0, &held); /* they are well-formed */

    ag_array_fini(&held);
    status = status == AG_OK ? make_buffer(checkpoint) : status;
    for (size_t i = 0; i < n_tensors && status == AG_OK; i++) {
        status = find_tensor(checkpoint, &tensors[i], &wants);
    }
    if (status == AG_OK && wants.n_items > 0) {
        qsort(wants.items, wants.n_items, sizeof(want_t), by_place);
    }
    for (size_t i = 0; i < wants.n_items && status == AG_OK; i++) {
        const want_t *want = &AG_ITEMS(&wants, want_t)[i];

        status = read_piece(checkpoint, want->part.piece);
        if (status == AG_OK) {
            copy_out(checkpoint, want);
        }
    }
    ag_array_fini(&wants);
    return status;
}

ag_status_t ag_checkpoint_read_rows(ag_checkpoint_t *checkpoint, size_t tensor, ag_range_t rows,
                                    float *dst)
{
    const ag_stored_tensor_t *stored = &tensors_of(checkpoint)[tensor];
    ag_saved_slice_t slice = {
        .rows = rows, .cols = {0, stored->cols}, .data = dst, .stride = stored->cols};

    return ag_checkpoint_load(checkpoint,
                              &(ag_saved_tensor_t){.name = stored->name,
                                                   .rows = stored->rows,
                                                   .cols = stored->cols,
                                                   .n_slices = 1,
                                                   .slices = &slice},
                              1);
}
