/*
 * One rank's file. Its pieces are written in order while training goes on; who would overwrite one
 * that is not taken yet copies it first. So what is written is what was there when the checkpoint
 * began, and an update waits for a copy in memory, not for the disk.
 */
#define _GNU_SOURCE /* MAP_NORESERVE */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "parallel/run/checkpoint_priv.h"
#include "runtime/base/xxh64.h"

enum { PAGE_BYTES = 4096, MOST_TRIES = 1000 };

static uint64_t piece_bytes(const ag_own_piece_t *piece)
{
    return piece->n_rows * piece->n_cols * sizeof(float);
}

static void copy_piece(const ag_own_piece_t *piece, void *dst)
{
    char *at = dst;

    if (piece->stride == piece->n_cols) {
        memcpy(dst, piece->data, piece_bytes(piece));
        return;
    }
    for (uint64_t r = 0; r < piece->n_rows; r++) {
        memcpy(at, piece->data + r * piece->stride, piece->n_cols * sizeof(float));
        at += piece->n_cols * sizeof(float);
    }
}

static int by_begin(const void *a, const void *b)
{
    const ag_own_span_t *x = a, *y = b;

    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Places among the copies, places in memory. */
static void lay_out(ag_writer_t *writer)
{
    uintptr_t most_end = 0;

    for (size_t i = 0; i < writer->n_pieces; i++) {
        ag_own_piece_t *piece = &writer->pieces[i];
        uint64_t n_span = (piece->n_rows - 1) * piece->stride + piece->n_cols;

        piece->copy_offset = writer->copies_bytes;
        writer->copies_bytes += (piece_bytes(piece) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        writer->file_bytes += piece_bytes(piece);
        writer->spans[i] = (ag_own_span_t){
            .begin = (uintptr_t)piece->data, .end = (uintptr_t)(piece->data + n_span), .piece = i};
        atomic_init(&piece->take, AG_TAKE_DONE);
    }
    qsort(writer->spans, writer->n_pieces, sizeof(*writer->spans), by_begin);
    for (size_t i = 0; i < writer->n_pieces; i++) {
        most_end = writer->spans[i].end > most_end ? writer->spans[i].end : most_end;
        writer->spans[i].most_end = most_end;
    }
}

static ag_status_t map_copies(ag_writer_t *writer)
{
    if (writer->copies_bytes == 0) {
        return AG_OK;
    }
    writer->copies = mmap(NULL, writer->copies_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (writer->copies == MAP_FAILED) {
        writer->copies = NULL;
        return ag_fail_nomem("the copies of a checkpoint", writer->copies_bytes);
    }
    /* an update waits for its copies, and these for their pages: fewer and larger where it can be
     */
    madvise(writer->copies, writer->copies_bytes, MADV_HUGEPAGE);
    return AG_OK;
}

ag_status_t ag_writer_init(ag_writer_t *writer, ag_own_piece_t *pieces, size_t n_pieces,
                           uint64_t most_copied_bytes)
{
    ag_status_t status;

    writer->pieces = pieces;
    writer->n_pieces = n_pieces;
    writer->fd = -1;
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->changed, NULL);
    writer->spans = calloc(n_pieces + 1, sizeof(*writer->spans));
    writer->buffer = malloc(AG_PIECE_BYTES);
    if (writer->spans == NULL || writer->buffer == NULL) {
        status = ag_fail_nomem("writing checkpoints", AG_PIECE_BYTES);
        goto fini;
    }
    lay_out(writer);
    writer->most_copied_bytes = most_copied_bytes == 0 || most_copied_bytes > writer->copies_bytes
                                    ? writer->copies_bytes
                                    : most_copied_bytes;
    status = map_copies(writer);
    if (status != AG_OK) {
        goto fini;
    }
    return AG_OK;

fini:
    ag_writer_fini(writer);
    return status;
}

void ag_writer_fini(ag_writer_t *writer)
{
    if (writer->copies != NULL) {
        munmap(writer->copies, writer->copies_bytes);
    }
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer->buffer);
    free(writer->spans);
    free(writer->pieces);
}

void ag_writer_begin(ag_writer_t *writer, const char *folder)
{
    snprintf(writer->folder, sizeof(writer->folder), "%s", folder);
    writer->path[0] = writer->name[0] = '\0';
    writer->number = 0;
    writer->n_written = 0;
    writer->status = AG_PENDING;
    writer->copied_bytes = 0;
    for (size_t i = 0; i < writer->n_pieces; i++) {
        writer->pieces[i].is_copied = false;
        atomic_store(&writer->pieces[i].take, AG_TAKE_NEEDED);
    }
    atomic_store(&writer->n_needed, writer->n_pieces);
}

/* The mutex is held. */
static void set_taken(ag_writer_t *writer, ag_own_piece_t *piece)
{
    atomic_store(&piece->take, AG_TAKE_DONE);
    atomic_fetch_sub(&writer->n_needed, 1);
    pthread_cond_broadcast(&writer->changed);
}

void ag_writer_give_up(ag_writer_t *writer)
{
    pthread_mutex_lock(&writer->mutex);
    for (size_t i = 0; i < writer->n_pieces; i++) {
        if (atomic_load(&writer->pieces[i].take) == AG_TAKE_NEEDED) {
            set_taken(writer, &writer->pieces[i]);
        }
    }
    pthread_mutex_unlock(&writer->mutex);
}

/* ---- who would overwrite ---- */

/* The mutex is held. Another has changed something, or the only thread does so itself. */
static void wait_for_change(ag_writer_t *writer)
{
    if (writer->is_stepped) {
        pthread_mutex_unlock(&writer->mutex);
        (void)ag_writer_step(writer); /* tells its failure again */
        pthread_mutex_lock(&writer->mutex);
    } else {
        pthread_cond_wait(&writer->changed, &writer->mutex);
    }
}

static void copy_aside(ag_writer_t *writer, ag_own_piece_t *piece)
{
    uint64_t bytes = piece_bytes(piece);

    if (atomic_load_explicit(&piece->take, memory_order_acquire) == AG_TAKE_DONE) {
        return;
    }
    pthread_mutex_lock(&writer->mutex);
    while (atomic_load(&piece->take) != AG_TAKE_DONE) {
        if (atomic_load(&piece->take) == AG_TAKE_BUSY ||
            writer->copied_bytes + bytes > writer->most_copied_bytes) {
            wait_for_change(writer);
            continue;
        }
        atomic_store(&piece->take, AG_TAKE_BUSY);
        writer->copied_bytes += bytes;
        piece->is_copied = true;
        pthread_mutex_unlock(&writer->mutex);
        copy_piece(piece, writer->copies + piece->copy_offset);
        pthread_mutex_lock(&writer->mutex);
        set_taken(writer, piece);
    }
    pthread_mutex_unlock(&writer->mutex);
}

void ag_writer_before_write(ag_writer_t *writer, const float *data, uint64_t n)
{
    uintptr_t begin = (uintptr_t)data, end = (uintptr_t)(data + n);
    size_t low = 0, high = writer->n_pieces;

    if (atomic_load_explicit(&writer->n_needed, memory_order_acquire) == 0) {
        return;
    }
    while (low < high) { /* spans that begin before the end */
        size_t middle = low + (high - low) / 2;

        if (writer->spans[middle].begin < end) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (size_t i = low; i-- > 0 && writer->spans[i].most_end > begin;) {
        if (writer->spans[i].end > begin) {
            copy_aside(writer, &writer->pieces[writer->spans[i].piece]);
        }
    }
}

/* ---- who writes ---- */

/*
 * A file of a name that no other attempt has used: what is there may be a complete checkpoint's.
 * The folder may go between two steps, when another rank gives up an attempt that came before.
 */
static ag_status_t open_file(ag_writer_t *writer)
{
    ag_status_t status = AG_OK;

    for (int n_tries = 0; status == AG_OK && writer->fd < 0; n_tries++) {
        ag_rank_file(writer->rank, writer->number, writer->name);
        snprintf(writer->path, sizeof(writer->path), "%.*s/%s",
                 AG_PATH_BYTES - AG_RANK_FILE_BYTES - 2, writer->folder, writer->name);
        status = ag_disk_make_folders(&writer->disk, writer->folder);
        if (status != AG_OK) {
            break;
        }
        status = ag_disk_create(&writer->disk, writer->path, writer->file_bytes, &writer->fd);
        if (status != AG_OK && n_tries < MOST_TRIES && (errno == EEXIST || errno == ENOENT)) {
            writer->number += errno == EEXIST;
            status = AG_OK;
        }
    }
    if (status != AG_OK) {
        writer->path[0] = '\0'; /* it is not ours to remove */
    }
    return status;
}

/* @return its bytes: of the copy, or taken now. */
static const void *take_piece(ag_writer_t *writer, ag_own_piece_t *piece)
{
    pthread_mutex_lock(&writer->mutex);
    while (atomic_load(&piece->take) == AG_TAKE_BUSY) {
        pthread_cond_wait(&writer->changed, &writer->mutex);
    }
    if (atomic_load(&piece->take) == AG_TAKE_NEEDED) {
        atomic_store(&piece->take, AG_TAKE_BUSY);
        pthread_mutex_unlock(&writer->mutex);
        copy_piece(piece, writer->buffer);
        pthread_mutex_lock(&writer->mutex);
        set_taken(writer, piece);
    }
    pthread_mutex_unlock(&writer->mutex);
    return piece->is_copied ? (const void *)(writer->copies + piece->copy_offset)
                            : (const void *)writer->buffer;
}

/* The memory of a copy is another's. */
static void release_copy(ag_writer_t *writer, ag_own_piece_t *piece)
{
    if (!piece->is_copied) {
        return;
    }
    if (writer->most_copied_bytes < writer->copies_bytes) { /* its pages too */
        madvise(writer->copies + piece->copy_offset, piece_bytes(piece), MADV_DONTNEED);
    }
    pthread_mutex_lock(&writer->mutex);
    writer->copied_bytes -= piece_bytes(piece);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
}

static ag_status_t write_next(ag_writer_t *writer)
{
    ag_own_piece_t *piece = &writer->pieces[writer->n_written];
    const void *bytes = take_piece(writer, piece);
    ag_status_t status;

    piece->sum = ag_xxh64(bytes, piece_bytes(piece));
    status = ag_disk_write(&writer->disk, writer->fd, writer->path, bytes, piece_bytes(piece));
    release_copy(writer, piece);
    writer->n_written++;
    return status;
}

static ag_status_t close_file(ag_writer_t *writer)
{
    ag_status_t status = ag_disk_sync(&writer->disk, writer->fd, writer->path);

    if (close(writer->fd) != 0 && status == AG_OK) {
        status = ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
    }
    writer->fd = -1;
    return status == AG_OK ? ag_disk_sync_folder(&writer->disk, writer->folder) : status;
}

ag_status_t ag_writer_step(void *arg)
{
    ag_writer_t *writer = arg;
    ag_status_t status;

    if (writer->status != AG_PENDING) {
        return writer->status == AG_OK ? AG_OK : ag_fail(writer->status, "%s", writer->error);
    }
    if (writer->name[0] == '\0') {
        status = open_file(writer);
    } else if (writer->n_written < writer->n_pieces) {
        status = write_next(writer);
    } else {
        status = close_file(writer);
        writer->status = status;
    }
    if (status != AG_OK) {
        writer->status = status;
        snprintf(writer->error, sizeof(writer->error), "%s", ag_error());
        ag_writer_give_up(writer);
    }
    return writer->status;
}

void ag_writer_discard(ag_writer_t *writer)
{
    if (writer->fd >= 0) {
        close(writer->fd);
        writer->fd = -1;
    }
    if (writer->path[0] != '\0') {
        ag_disk_remove(&writer->disk, writer->path);
    }
    ag_disk_remove(&writer->disk, writer->folder);
}
