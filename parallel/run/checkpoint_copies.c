/*
 * What is still needed of the data, block by block. Who is about to overwrite a block copies it
 * first, whichever thread that is: just before it reads and changes it, so that memory is read once
 * for both, and as much as it is about to change and no more. Copies lie as the file will, in
 * memory that is there before the first update waits for them.
 *
 * Who trains never waits for the writer, which may have no core for long: the writer claims nothing
 * while it reads. It copies a block to a place of its own and then says that it has it; where
 * somebody else was faster, what it read may be half overwritten and is thrown away.
 */
#define _GNU_SOURCE /* MAP_NORESERVE */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "parallel/run/checkpoint_priv.h"

enum { BLOCK_FLOATS = AG_BLOCK_BYTES / sizeof(float) };

uint64_t ag_own_piece_floats(const ag_own_piece_t *piece)
{
    return piece->n_rows * piece->n_cols;
}

uint64_t ag_image_bytes(uint64_t file_bytes)
{
    return (file_bytes + AG_DISK_BLOCK_BYTES - 1) / AG_DISK_BLOCK_BYTES * AG_DISK_BLOCK_BYTES;
}

static uint64_t n_blocks_of(const ag_own_piece_t *piece)
{
    return (ag_own_piece_floats(piece) + BLOCK_FLOATS - 1) / BLOCK_FLOATS;
}

/* A block of a piece: elements [begin, end), counted row by row. */
static ag_range_t block_of(const ag_own_piece_t *piece, uint64_t number)
{
    uint64_t begin = number * BLOCK_FLOATS, n = ag_own_piece_floats(piece);

    return (ag_range_t){begin, begin + BLOCK_FLOATS < n ? begin + BLOCK_FLOATS : n};
}

static uint64_t bytes_of(ag_range_t block)
{
    return (block.end - block.begin) * sizeof(float);
}

static atomic_uchar *take_of(ag_copies_t *copies, const ag_own_piece_t *piece, uint64_t number)
{
    return &copies->takes[piece->first_block + number];
}

static unsigned char *place_of(const ag_copies_t *copies, const ag_own_piece_t *piece,
                               ag_range_t block)
{
    return copies->memory + piece->offset_bytes + block.begin * sizeof(float);
}

static void copy_block(const ag_own_piece_t *piece, ag_range_t block, unsigned char *dst)
{
    for (uint64_t at = block.begin; at < block.end;) {
        uint64_t row = at / piece->n_cols, col = at % piece->n_cols;
        uint64_t n = piece->n_cols - col < block.end - at ? piece->n_cols - col : block.end - at;

        memcpy(dst, piece->data + row * piece->stride + col, n * sizeof(float));
        dst += n * sizeof(float);
        at += n;
    }
}

/* ---- made and unmade ---- */

static int by_begin(const void *a, const void *b)
{
    const ag_own_span_t *x = a, *y = b;

    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Places in the file and so among the copies, places in memory. */
static void lay_out(ag_copies_t *copies)
{
    uintptr_t most_end = 0;

    for (size_t i = 0; i < copies->n_pieces; i++) {
        ag_own_piece_t *piece = &copies->pieces[i];
        uint64_t n_span = (piece->n_rows - 1) * piece->stride + piece->n_cols;

        if (piece->stride == piece->n_cols) { /* one long row */
            piece->n_cols = piece->stride = n_span;
            piece->n_rows = 1;
        }
        piece->offset_bytes = copies->file_bytes;
        piece->first_block = copies->n_blocks;
        copies->file_bytes += ag_own_piece_floats(piece) * sizeof(float);
        copies->n_blocks += n_blocks_of(piece);
        copies->spans[i] = (ag_own_span_t){
            .begin = (uintptr_t)piece->data, .end = (uintptr_t)(piece->data + n_span), .piece = i};
    }
    qsort(copies->spans, copies->n_pieces, sizeof(*copies->spans), by_begin);
    for (size_t i = 0; i < copies->n_pieces; i++) {
        most_end = copies->spans[i].end > most_end ? copies->spans[i].end : most_end;
        copies->spans[i].most_end = most_end;
    }
    copies->bytes = ag_image_bytes(copies->file_bytes);
}

bool ag_copies_have_room(const ag_copies_t *copies)
{
    return copies->most_bytes == copies->bytes;
}

/* An update that meets a page for the first time waits until it is cleared: so they are met here,
 * where there is room for all; else they come and go. */
static ag_status_t map_memory(ag_copies_t *copies)
{
    if (copies->bytes == 0) {
        return AG_OK;
    }
    copies->memory = mmap(NULL, copies->bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copies->memory == MAP_FAILED) {
        copies->memory = NULL;
        return ag_fail_nomem("the copies of a checkpoint", copies->bytes);
    }
    if (ag_copies_have_room(copies)) {
        madvise(copies->memory, copies->bytes, MADV_HUGEPAGE);
        for (uint64_t at = 0; at < copies->bytes; at += AG_DISK_BLOCK_BYTES) {
            copies->memory[at] = 0;
        }
    }
    return AG_OK;
}

ag_status_t ag_copies_init(ag_copies_t *copies, ag_own_piece_t *pieces, size_t n_pieces,
                           uint64_t most_bytes)
{
    copies->pieces = pieces;
    copies->n_pieces = n_pieces;
    pthread_mutex_init(&copies->mutex, NULL);
    pthread_cond_init(&copies->changed, NULL);
    copies->spans = calloc(n_pieces + 1, sizeof(*copies->spans));
    if (copies->spans != NULL) {
        lay_out(copies);
        copies->takes = calloc(copies->n_blocks + 1, sizeof(*copies->takes));
    }
    if (copies->takes == NULL) {
        return ag_fail_nomem("writing checkpoints", n_pieces * sizeof(*copies->spans));
    }
    for (size_t i = 0; i < copies->n_blocks; i++) {
        atomic_init(&copies->takes[i], AG_TAKE_DONE);
    }
    copies->most_bytes = most_bytes == 0 || most_bytes > copies->bytes ? copies->bytes : most_bytes;
    return map_memory(copies);
}

void ag_copies_fini(ag_copies_t *copies)
{
    if (copies->memory != NULL) {
        munmap(copies->memory, copies->bytes);
    }
    pthread_cond_destroy(&copies->changed);
    pthread_mutex_destroy(&copies->mutex);
    free((void *)copies->takes);
    free(copies->spans);
    free(copies->pieces);
}

void ag_copies_begin(ag_copies_t *copies)
{
    atomic_store(&copies->used_bytes, 0);
    for (size_t i = 0; i < copies->n_blocks; i++) {
        atomic_store(&copies->takes[i], AG_TAKE_NEEDED);
    }
    atomic_store(&copies->n_needed, copies->n_blocks);
}

/* ---- who would overwrite ---- */

/* Until another thread that trains has copied a block, which takes microseconds. */
static void rest(void)
{
    enum { REST_NS = 10000 };

    nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

static void tell_change(ag_copies_t *copies)
{
    pthread_mutex_lock(&copies->mutex);
    pthread_cond_broadcast(&copies->changed);
    pthread_mutex_unlock(&copies->mutex);
}

void ag_copies_give_up(ag_copies_t *copies)
{
    for (size_t i = 0; i < copies->n_blocks; i++) {
        unsigned char needed = AG_TAKE_NEEDED;

        if (atomic_compare_exchange_strong(&copies->takes[i], &needed, AG_TAKE_DONE)) {
            atomic_fetch_sub(&copies->n_needed, 1);
        }
    }
    tell_change(copies);
}

static bool take_room(ag_copies_t *copies, uint64_t bytes)
{
    uint64_t used = atomic_load(&copies->used_bytes);

    while (used + bytes <= copies->most_bytes) {
        if (atomic_compare_exchange_weak(&copies->used_bytes, &used, used + bytes)) {
            return true;
        }
    }
    return false;
}

/* Until the writer has given room back, or has taken this block itself: it will, sooner or later,
 * so a change that is missed delays, and does not hang. */
static void wait_for_room(ag_copies_t *copies, const atomic_uchar *take, uint64_t bytes)
{
    if (copies->step != NULL) {
        copies->step(copies->arg);
        return;
    }
    pthread_mutex_lock(&copies->mutex);
    if (atomic_load(take) == AG_TAKE_NEEDED &&
        atomic_load(&copies->used_bytes) + bytes > copies->most_bytes) {
        pthread_cond_wait(&copies->changed, &copies->mutex);
    }
    pthread_mutex_unlock(&copies->mutex);
}

/* @return true: the caller is to copy it, and has room. */
static bool claim(ag_copies_t *copies, atomic_uchar *take, uint64_t bytes)
{
    for (;;) {
        unsigned char is = atomic_load_explicit(take, memory_order_acquire);

        if (is == AG_TAKE_COPIED || is == AG_TAKE_DONE) {
            return false;
        }
        if (is == AG_TAKE_BUSY) {
            rest();
        } else if (!take_room(copies, bytes)) {
            wait_for_room(copies, take, bytes);
        } else if (atomic_compare_exchange_strong(take, &is, AG_TAKE_BUSY)) {
            return true;
        } else {
            atomic_fetch_sub(&copies->used_bytes, bytes);
        }
    }
}

/* How many of a piece's elements lie before a place in memory. */
static uint64_t elements_before(const ag_own_piece_t *piece, uintptr_t place)
{
    uint64_t at = place > (uintptr_t)piece->data
                      ? (place - (uintptr_t)piece->data) / sizeof(*piece->data)
                      : 0;
    uint64_t row = at / piece->stride, col = at % piece->stride;

    return row >= piece->n_rows ? ag_own_piece_floats(piece)
                                : row * piece->n_cols + (col < piece->n_cols ? col : piece->n_cols);
}

static void copy_aside(ag_copies_t *copies, const ag_own_piece_t *piece, uintptr_t begin,
                       uintptr_t end)
{
    uint64_t first = elements_before(piece, begin), last = elements_before(piece, end);

    for (uint64_t i = first / BLOCK_FLOATS; first < last && i * BLOCK_FLOATS < last; i++) {
        ag_range_t block = block_of(piece, i);
        atomic_uchar *take = take_of(copies, piece, i);

        if (claim(copies, take, bytes_of(block))) {
            copy_block(piece, block, place_of(copies, piece, block));
            atomic_store_explicit(take, AG_TAKE_COPIED, memory_order_release);
            atomic_fetch_sub(&copies->n_needed, 1);
        }
    }
}

void ag_copies_before_write(ag_copies_t *copies, const float *data, uint64_t n)
{
    uintptr_t begin = (uintptr_t)data, end = (uintptr_t)(data + n);
    size_t low = 0, high = copies->n_pieces;

    if (atomic_load_explicit(&copies->n_needed, memory_order_acquire) == 0) {
        return;
    }
    while (low < high) { /* spans that begin before the end */
        size_t middle = low + (high - low) / 2;

        if (copies->spans[middle].begin < end) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (size_t i = low; i-- > 0 && copies->spans[i].most_end > begin;) {
        if (copies->spans[i].end > begin) {
            copy_aside(copies, &copies->pieces[copies->spans[i].piece], begin, end);
        }
    }
}

/* ---- who writes ---- */

/* A block as it was, unless somebody else took it meanwhile: what was read is valid where, after
 * it was read, the block is still needed (a seqlock's reader, with the claim as the counter). */
static void take_block(ag_copies_t *copies, const ag_own_piece_t *piece, uint64_t number)
{
    atomic_uchar *take = take_of(copies, piece, number);
    ag_range_t block = block_of(piece, number);
    unsigned char is = AG_TAKE_NEEDED;

    if (atomic_load_explicit(take, memory_order_acquire) == AG_TAKE_NEEDED) {
        copy_block(piece, block, copies->block);
        if (atomic_compare_exchange_strong(take, &is, AG_TAKE_DONE)) {
            atomic_fetch_sub(&copies->n_needed, 1);
            memcpy(place_of(copies, piece, block), copies->block, bytes_of(block));
        }
    }
    while (atomic_load_explicit(take, memory_order_acquire) == AG_TAKE_BUSY) {
        rest();
    }
}

void ag_copies_take(ag_copies_t *copies, size_t number)
{
    const ag_own_piece_t *piece = &copies->pieces[number];
    uint64_t n_blocks = n_blocks_of(piece);

    for (uint64_t i = 0; i < n_blocks; i++) {
        take_block(copies, piece, i);
    }
    tell_change(copies);
}

void ag_copies_release(ag_copies_t *copies, size_t number, uint64_t begin_bytes, uint64_t end_bytes)
{
    const ag_own_piece_t *piece = &copies->pieces[number];
    uint64_t n_blocks = n_blocks_of(piece), n_bytes = 0;

    for (uint64_t i = 0; i < n_blocks; i++) {
        bool is_copied = atomic_load(take_of(copies, piece, i)) == AG_TAKE_COPIED;

        n_bytes += is_copied ? bytes_of(block_of(piece, i)) : 0;
    }
    if (!ag_copies_have_room(copies) && begin_bytes < end_bytes) {
        madvise(copies->memory + begin_bytes, end_bytes - begin_bytes, MADV_DONTNEED);
    }
    atomic_fetch_sub(&copies->used_bytes, n_bytes);
    tell_change(copies);
}
