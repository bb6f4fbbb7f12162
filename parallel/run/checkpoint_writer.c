/*
 * One rank's file. Its pieces are taken and written in order while training goes on; who would
 * overwrite what is not taken yet copies it first (checkpoint_copies.c). So what is written is what
 * was there when the checkpoint began, and an update waits for a copy in memory, not for the disk.
 * Where there is room for all, the writer takes all before it writes anything: what it has copied
 * while cores were idle no update has to. It is written from where the copies lie.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parallel/run/checkpoint_priv.h"
#include "runtime/base/xxh64.h"

enum { MOST_TRIES = 1000 };

static uint64_t piece_bytes(const ag_own_piece_t *piece)
{
    return ag_own_piece_floats(piece) * sizeof(float);
}

static void step_again(void *writer)
{
    (void)ag_writer_step(writer); /* tells its failure again */
}

ag_status_t ag_writer_init(ag_writer_t *writer, ag_own_piece_t *pieces, size_t n_pieces,
                           uint64_t most_copied_bytes)
{
    ag_status_t status;

    writer->fd = -1;
    writer->copies.step = writer->is_stepped ? step_again : NULL;
    writer->copies.arg = writer;
    status = ag_copies_init(&writer->copies, pieces, n_pieces, most_copied_bytes);
    if (status != AG_OK) {
        ag_writer_fini(writer);
    }
    return status;
}

void ag_writer_fini(ag_writer_t *writer)
{
    ag_copies_fini(&writer->copies);
}

void ag_writer_begin(ag_writer_t *writer, const char *folder)
{
    snprintf(writer->folder, sizeof(writer->folder), "%s", folder);
    writer->path[0] = writer->name[0] = '\0';
    writer->number = 0;
    writer->n_taken = writer->n_written = 0;
    writer->written_bytes = 0;
    writer->status = AG_PENDING;
    ag_copies_begin(&writer->copies);
}

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
        status =
            ag_disk_create(&writer->disk, writer->path, writer->copies.file_bytes, &writer->fd);
        if (status != AG_OK && n_tries < MOST_TRIES && (errno == EEXIST || errno == ENOENT)) {
            writer->number += errno == EEXIST;
            status = AG_OK;
        }
    }
    if (status != AG_OK) {
        writer->path[0] = '\0'; /* it is not ours to remove */
        return status;
    }
    ag_disk_begin_direct(writer->fd);
    return AG_OK;
}

/* With room for one piece alone it is taken when all before it are written. */
static bool takes_next(const ag_writer_t *writer)
{
    return writer->n_taken < writer->copies.n_pieces &&
           (writer->n_taken == writer->n_written || ag_copies_have_room(&writer->copies));
}

/* A piece, in whole blocks of the disk: what is left goes with the next one. */
static ag_status_t write_next(ag_writer_t *writer)
{
    ag_own_piece_t *piece = &writer->copies.pieces[writer->n_written];
    uint64_t begin = writer->written_bytes, end = piece->offset_bytes + piece_bytes(piece);
    ag_status_t status;

    end -= end % AG_DISK_BLOCK_BYTES;
    piece->sum = ag_xxh64(writer->copies.memory + piece->offset_bytes, piece_bytes(piece));
    status = ag_disk_write(&writer->disk, writer->fd, writer->path, writer->copies.memory + begin,
                           end - begin);
    ag_copies_release(&writer->copies, writer->n_written, begin, end);
    writer->written_bytes = end;
    writer->n_written++;
    return status;
}

static ag_status_t close_file(ag_writer_t *writer)
{
    ag_status_t status;

    ag_disk_end_direct(writer->fd);
    status = ag_disk_write(&writer->disk, writer->fd, writer->path,
                           writer->copies.memory + writer->written_bytes,
                           writer->copies.file_bytes - writer->written_bytes);
    if (status == AG_OK) {
        status = ag_disk_sync(&writer->disk, writer->fd, writer->path);
    }
    if (close(writer->fd) != 0 && status == AG_OK) {
        status = ag_fail(AG_ERR_IO, "writing %s: %s", writer->path, strerror(errno));
    }
    writer->fd = -1;
    return status == AG_OK ? ag_disk_sync_folder(&writer->disk, writer->folder) : status;
}

ag_status_t ag_writer_step(void *arg)
{
    ag_writer_t *writer = arg;
    ag_status_t status = AG_OK;

    if (writer->status != AG_PENDING) {
        return writer->status == AG_OK ? AG_OK : ag_fail(writer->status, "%s", writer->error);
    }
    if (takes_next(writer)) {
        ag_copies_take(&writer->copies, writer->n_taken++);
    } else if (writer->name[0] == '\0') {
        status = open_file(writer);
    } else if (writer->n_written < writer->copies.n_pieces) {
        status = write_next(writer);
    } else {
        status = close_file(writer);
        writer->status = status;
    }
    if (status != AG_OK) {
        writer->status = status;
        snprintf(writer->error, sizeof(writer->error), "%s", ag_error());
        ag_copies_give_up(&writer->copies);
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
