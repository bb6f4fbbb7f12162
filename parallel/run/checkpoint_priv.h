/* The parts of checkpoints: what is where (manifest, pieces), the disk, one rank's writing. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "parallel/run/checkpoint.h"
#include "runtime/base/array.h"

enum {
    AG_PIECE_BYTES = 4 << 20,       /* that are written; larger pieces are read too, up to */
    AG_MOST_PIECE_BYTES = 64 << 20, /* this */
    AG_MANIFEST_VERSION = 1,
    AG_RANK_FILE_BYTES = 40, /* of a file's name */
    AG_DISK_BLOCK_BYTES = 4096,
    AG_PATH_BYTES = 4096,
    AG_MOST_DIR_BYTES = AG_PATH_BYTES - 128,
    AG_MOST_SPEC_HASH = 128, /* characters */
    AG_SAVE_ERROR_BYTES = 1024,
};

#define AG_MOST_FLOATS ((uint64_t)1 << 60) /* of a tensor: its bytes fit 63 bits */

#define AG_MANIFEST_NAME "manifest.json"

/* ---- checkpoint_manifest.c: what a checkpoint holds ---- */

typedef struct ag_rect {
    ag_range_t rows, cols;
} ag_rect_t;

static inline uint64_t ag_rect_floats(const ag_rect_t *rect)
{
    return (rect->rows.end - rect->rows.begin) * (rect->cols.end - rect->cols.begin);
}

/* A rectangle of a tensor as one run of floats in a file, row by row. */
typedef struct ag_piece {
    uint32_t tensor, file; /* their indices */
    ag_rect_t rect;
    uint64_t offset_bytes; /* in the file */
    uint64_t sum;          /* ag_xxh64() of its bytes */
} ag_piece_t;

typedef struct ag_stored_file {
    char name[AG_RANK_FILE_BYTES];
    uint64_t bytes;
} ag_stored_file_t;

typedef struct ag_manifest {
    uint64_t step;
    char *spec_hash;
    ag_json_t *state;       /* an object */
    ag_array_t files;       /* ag_stored_file_t: those that a run writes, one per rank */
    ag_array_t tensors;     /* ag_stored_tensor_t, by name; the names are the manifest's */
    ag_array_t pieces;      /* ag_piece_t, those of a tensor together, in order of the tensors */
    ag_array_t first_piece; /* size_t: (n_tensors + 1) */
} ag_manifest_t;

void ag_manifest_init(ag_manifest_t *manifest);
void ag_manifest_fini(ag_manifest_t *manifest);

/** Append a tensor, whose pieces are those appended from now on. @param name  copied. */
ag_status_t ag_manifest_add_tensor(ag_manifest_t *manifest, const char *name, uint64_t rows,
                                   uint64_t cols);

/** As a file's text; its first line has the version and the checksum of the others. */
ag_status_t ag_manifest_text(const ag_manifest_t *manifest, char **text_p);

/**
 * @param what  the file's path, for errors.
 * @return AG_OK; AG_ERR_FORMAT; AG_ERR_UNSUPPORTED (a newer version); AG_ERR_NOMEM.
 */
ag_status_t ag_manifest_parse(const char *text, size_t n_bytes, const char *what,
                              ag_manifest_t *manifest_p);

/* ---- checkpoint_pieces.c: who gives what ---- */

/* A slice of a tensor on a rank. */
typedef struct ag_held {
    char name[AG_SAVED_NAME_BYTES]; /* zeros behind it */
    uint64_t rows, cols;
    ag_rect_t rect;
    uint32_t rank;
    uint32_t tensor, slice; /* their indices in the rank's list */
} ag_held_t;

/**
 * Choose who writes what: tensors, pieces with their offsets, and files without names.
 * @param held     (n_held) sorted by name.
 * @param sources  out: size_t, appended: for each piece the index of what it is a part of.
 * @return AG_OK; AG_ERR_INVALID; AG_ERR_NOMEM.
 */
ag_status_t ag_pieces_share(const ag_held_t *held, size_t n_held, uint32_t n_ranks,
                            ag_manifest_t *manifest, ag_array_t *sources);

/* What of a piece is wanted. */
typedef struct ag_piece_part {
    size_t piece;
    ag_rect_t rect;
} ag_piece_part_t;

/** Find a rectangle of a tensor. @param parts  ag_piece_part_t, appended. */
ag_status_t ag_pieces_find(const ag_manifest_t *manifest, size_t tensor, const ag_rect_t *wanted,
                           ag_array_t *parts);

/* ---- checkpoint_held.c: what all ranks hold ---- */

/** This rank's slices. @param held  ag_held_t, appended. */
ag_status_t ag_held_list(const ag_saved_tensor_t *tensors, size_t n_tensors, uint32_t rank,
                         ag_array_t *held);

/** By name, rank and slice. */
void ag_held_sort(ag_array_t *held);

/** Own slices become those of all ranks, by name, rank and slice; the same everywhere. */
ag_status_t ag_held_gather(ag_net_t *net, const ag_idle_t *idle, ag_array_t *held);

/* ---- checkpoint_disk.c ---- */

typedef struct ag_disk {
    int (*fault)(void *arg, const char *path); /* see ag_saver_opts_t */
    void *arg;
} ag_disk_t;

ag_status_t ag_disk_make_folders(const ag_disk_t *disk, const char *path);
/** A new file; errno is EEXIST where there is one. @param bytes  room is made for them. */
ag_status_t ag_disk_create(const ag_disk_t *disk, const char *path, uint64_t bytes, int *fd_p);
ag_status_t ag_disk_write(const ag_disk_t *disk, int fd, const char *path, const void *data,
                          size_t n_bytes);
/**
 * What is written from now on goes past the page cache, as long as the file system can: neither a
 * copy nor the cache's memory is the price, which training would pay. Data, lengths and the place
 * in the file are multiples of AG_DISK_BLOCK_BYTES then.
 */
void ag_disk_begin_direct(int fd);
void ag_disk_end_direct(int fd);
ag_status_t ag_disk_sync(const ag_disk_t *disk, int fd, const char *path);
ag_status_t ag_disk_sync_folder(const ag_disk_t *disk, const char *path);
ag_status_t ag_disk_rename(const ag_disk_t *disk, const char *from, const char *to);
/** What cannot be removed stays. */
void ag_disk_remove(const ag_disk_t *disk, const char *path);

void ag_step_folder(const char *dir, uint64_t step, char path[AG_PATH_BYTES]);
/** @param number  of the attempts at this step that left files, from 0. */
void ag_rank_file(uint32_t rank, uint32_t number, char name[AG_RANK_FILE_BYTES]);

/** Steps that have a manifest. @param steps  uint64_t, appended in order. AG_OK without a dir. */
ag_status_t ag_steps_complete(const char *dir, ag_array_t *steps);

/**
 * Remove files of other steps than those given, and of `current` those that are not named.
 * @param rank   whose files: a rank's own, or of rank 0 everybody's, with the manifests.
 * @param steps  (n_steps) complete ones, `current` or not.
 * @param files  (n_files) of the step `current`.
 */
void ag_steps_sweep(const ag_disk_t *disk, const char *dir, uint32_t rank, const uint64_t *steps,
                    size_t n_steps, uint64_t current, const ag_stored_file_t *files,
                    size_t n_files);

/* ---- checkpoint_chore.c: work beside the caller's ---- */

typedef struct ag_chore {
    ag_status_t (*step)(void *arg); /* AG_PENDING: to be called again */
    void *arg;
    bool is_stepped; /* by ag_chore_test(), not by a thread */
    bool is_under_way;
    pthread_t thread;
    atomic_bool is_cancelled, is_done;
    ag_status_t status;
    char error[AG_SAVE_ERROR_BYTES];
} ag_chore_t;

ag_status_t ag_chore_start(ag_chore_t *chore);
/** AG_PENDING, or how it ended, with its record. */
ag_status_t ag_chore_test(ag_chore_t *chore);
/** Leave it after the step that it is in. */
void ag_chore_cancel(ag_chore_t *chore);

/* ---- checkpoint_copies.c: the data as it was, while it is overwritten ---- */

/* Data is copied in blocks: small enough to be in a core's cache when it is changed. */
enum { AG_BLOCK_BYTES = 64 << 10 };

/* What a block of a piece is, before it is written. */
typedef enum ag_take {
    AG_TAKE_NEEDED,
    AG_TAKE_BUSY,   /* who would overwrite it copies it */
    AG_TAKE_COPIED, /* by who would overwrite it */
    AG_TAKE_DONE,   /* the writer has it */
} ag_take_t;

typedef struct ag_own_piece {
    const float *data; /* (n_rows, n_cols), rows `stride` floats apart */
    uint64_t n_rows, n_cols, stride;
    uint64_t offset_bytes; /* in the file */
    size_t first_block;
    uint64_t sum; /* out */
} ag_own_piece_t;

uint64_t ag_own_piece_floats(const ag_own_piece_t *piece);

/** Memory of copies of all that a file has: in whole blocks of the disk, which are pages. */
uint64_t ag_image_bytes(uint64_t file_bytes);

/* Pieces by where their data lies. */
typedef struct ag_own_span {
    uintptr_t begin, end;
    uintptr_t most_end; /* of this span and all before it */
    size_t piece;
} ag_own_span_t;

typedef struct ag_copies {
    ag_own_piece_t *pieces; /* (n_pieces) in the file's order */
    ag_own_span_t *spans;   /* (n_pieces) by begin */
    size_t n_pieces, n_blocks;
    atomic_uchar *takes;         /* (n_blocks) ag_take_t, piece by piece */
    atomic_size_t n_needed;      /* blocks that nobody has yet */
    uint64_t file_bytes;         /* of all pieces, one behind the other */
    unsigned char *memory;       /* (bytes) mapped: what becomes the file */
    uint64_t bytes, most_bytes;  /* of these may be in use by copies */
    _Atomic uint64_t used_bytes; /* of blocks that are copied and not written */
    pthread_mutex_t mutex;
    pthread_cond_t changed;  /* the writer has taken blocks, or given room back */
    void (*step)(void *arg); /* who waits writes; NULL: another thread does */
    void *arg;
    unsigned char block[AG_BLOCK_BYTES]; /* the writer's, which it is to see whether it has */
} ag_copies_t;

/**
 * @param copies  zeroed, but for step and arg; to be ended also after a failure.
 * @param pieces  (n_pieces) taken over, also on failure.
 * @param most_bytes  of copies at a time; 0 = as many as there are.
 */
ag_status_t ag_copies_init(ag_copies_t *copies, ag_own_piece_t *pieces, size_t n_pieces,
                           uint64_t most_bytes);
void ag_copies_fini(ag_copies_t *copies);

/** From now on the data is needed as it is. */
void ag_copies_begin(ag_copies_t *copies);
/** Nothing is needed any more. */
void ag_copies_give_up(ag_copies_t *copies);
void ag_copies_before_write(ag_copies_t *copies, const float *data, uint64_t n);

/** Is there memory for copies of everything? */
bool ag_copies_have_room(const ag_copies_t *copies);

/** The writer, once for each piece: from now on it is in memory as it was, at its offset. */
void ag_copies_take(ag_copies_t *copies, size_t piece);
/**
 * The writer, in the pieces' order: the room that copies of it had is others'.
 * @param begin_bytes, end_bytes  of memory that nobody reads any more: whole pages.
 */
void ag_copies_release(ag_copies_t *copies, size_t piece, uint64_t begin_bytes, uint64_t end_bytes);

/* ---- checkpoint_writer.c: one rank's file, of the data as it was ---- */

typedef struct ag_writer {
    ag_disk_t disk;
    uint32_t rank;
    bool is_stepped;
    ag_copies_t copies;

    /* of the checkpoint under way */
    char folder[AG_PATH_BYTES], path[AG_PATH_BYTES];
    char name[AG_RANK_FILE_BYTES];
    uint32_t number;           /* in the file's name */
    int fd;                    /* -1: not open */
    size_t n_taken, n_written; /* pieces */
    uint64_t written_bytes;    /* whole blocks of the disk */
    ag_status_t status;        /* AG_PENDING while there is something to be done */
    char error[AG_SAVE_ERROR_BYTES];
} ag_writer_t;

/** As ag_copies_init(). */
ag_status_t ag_writer_init(ag_writer_t *writer, ag_own_piece_t *pieces, size_t n_pieces,
                           uint64_t most_copied_bytes);
void ag_writer_fini(ag_writer_t *writer);

/** From now on the data is needed as it is. @param folder  where to; made by the first step. */
void ag_writer_begin(ag_writer_t *writer, const char *folder);
/** One piece, taken or written: an ag_chore_t's step. AG_OK: the file is on the disk, and the
 * folder knows it. */
ag_status_t ag_writer_step(void *writer);
/** Remove the file, and the folder where nothing else is in it. */
void ag_writer_discard(ag_writer_t *writer);
