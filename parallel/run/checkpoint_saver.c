#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint_saver_priv.h"

enum { DEFAULT_KEEP = 2 };

static ag_status_t check_opts(const ag_saver_opts_t *opts)
{
    if (opts->dir == NULL || opts->dir[0] == '\0' || strlen(opts->dir) > AG_MOST_DIR_BYTES) {
        return ag_fail(AG_ERR_INVALID, "the checkpoints' folder has no path, or too long a one");
    }
    if (opts->spec_hash == NULL || opts->spec_hash[0] == '\0' ||
        strlen(opts->spec_hash) > AG_MOST_SPEC_HASH) {
        return ag_fail(AG_ERR_INVALID, "a checkpoint needs the hash of its model");
    }
    if (opts->keep > AG_MOST_KEPT) {
        return ag_fail(AG_ERR_INVALID, "at most %d checkpoints can be kept, not %u", AG_MOST_KEPT,
                       opts->keep);
    }
    return AG_OK;
}

/* What this rank writes, in its order. @param sources  of each piece, in held. */
static ag_status_t init_writer(ag_saver_t *saver, const ag_saver_opts_t *opts,
                               const ag_saved_tensor_t *tensors, const ag_held_t *held,
                               const size_t *sources)
{
    ag_own_piece_t *own = calloc(saver->manifest.pieces.n_items + 1, sizeof(*own));
    size_t n = 0;
    ag_status_t status;

    if (own == NULL) {
        return ag_fail_nomem("writing checkpoints", saver->manifest.pieces.n_items * sizeof(*own));
    }
    for (size_t i = 0; i < saver->manifest.pieces.n_items; i++) {
        const ag_piece_t *piece = &ag_saver_pieces(saver)[i];
        const ag_held_t *from = &held[sources[i]];
        const ag_saved_slice_t *slice;

        if (piece->file != (uint32_t)saver->net->rank) {
            continue;
        }
        slice = &tensors[from->tensor].slices[from->slice];
        own[n].data = slice->data + (piece->rect.rows.begin - slice->rows.begin) * slice->stride +
                      (piece->rect.cols.begin - slice->cols.begin);
        own[n].n_rows = piece->rect.rows.end - piece->rect.rows.begin;
        own[n].n_cols = piece->rect.cols.end - piece->rect.cols.begin;
        own[n].stride = slice->stride;
        n++;
    }
    saver->writer.disk = saver->disk;
    saver->writer.rank = (uint32_t)saver->net->rank;
    saver->writer.is_stepped = opts->is_stepped;
    status = ag_writer_init(&saver->writer, own, n, opts->snapshot_bytes);
    saver->has_writer = status == AG_OK;
    return status;
}

static ag_status_t init_peers(ag_saver_t *saver)
{
    const ag_net_t *net = saver->net;

    saver->n_peers = net->rank == 0 ? net->n_ranks - 1 : 1;
    saver->peers = calloc((size_t)saver->n_peers + 1, sizeof(*saver->peers));
    for (int i = 0; i < saver->n_peers && saver->peers != NULL; i++) {
        ag_save_peer_t *peer = &saver->peers[i];
        uint32_t writes = (uint32_t)(net->rank == 0 ? i + 1 : net->rank);
        size_t n = 0;

        for (size_t p = 0; p < saver->manifest.pieces.n_items; p++) {
            n += ag_saver_pieces(saver)[p].file == writes;
        }
        peer->rank = net->rank == 0 ? i + 1 : 0;
        peer->report_bytes = sizeof(ag_save_report_t) + n * sizeof(uint64_t);
        peer->report = calloc(1, peer->report_bytes);
        if (peer->report == NULL) {
            return ag_fail_nomem("writing checkpoints", peer->report_bytes);
        }
    }
    return saver->peers != NULL ? AG_OK : ag_fail_nomem("writing checkpoints", 0);
}

/* All ranks share out who writes what, alike. @param held  own slices; then those of all. */
static ag_status_t share_out(ag_saver_t *saver, const ag_saver_opts_t *opts,
                             const ag_saved_tensor_t *tensors, ag_array_t *held)
{
    ag_array_t sources = AG_ARRAY(size_t);
    ag_status_t status = ag_held_gather(saver->net, &saver->idle, held);

    if (status != AG_OK) {
        return status;
    }
    status = ag_pieces_share(held->items, held->n_items, (uint32_t)saver->net->n_ranks,
                             &saver->manifest, &sources);
    status =
        status == AG_OK ? init_writer(saver, opts, tensors, held->items, sources.items) : status;
    status = status == AG_OK ? init_peers(saver) : status;
    status = status == AG_OK ? ag_disk_make_folders(&saver->disk, saver->dir) : status;
    ag_array_fini(&sources);
    return ag_agree(saver->net, &saver->idle, status, NULL);
}

/* Remove what incomplete checkpoints have left; only rank 0 can tell which are complete. */
static ag_status_t sweep_leftovers(ag_saver_t *saver, uint64_t from_step)
{
    ag_array_t steps = AG_ARRAY(uint64_t);
    ag_status_t status = saver->net->rank == 0 ? ag_steps_complete(saver->dir, &steps) : AG_OK;
    uint64_t n = steps.n_items;

    status = ag_agree(saver->net, &saver->idle, status, NULL);
    if (status == AG_OK) {
        status = ag_agree_broadcast(saver->net, &saver->idle, 0, &n, sizeof(n));
    }
    if (status == AG_OK && saver->net->rank != 0) {
        status = ag_array_append(&steps, NULL, n);
    }
    status = ag_agree(saver->net, &saver->idle, status, NULL);
    if (status == AG_OK && n > 0) {
        status = ag_agree_broadcast(saver->net, &saver->idle, 0, steps.items, n * sizeof(uint64_t));
    }
    if (status == AG_OK) {
        ag_steps_sweep(&saver->disk, saver->dir, (uint32_t)saver->net->rank, steps.items, n,
                       UINT64_MAX, NULL, 0);
    }
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        uint64_t step = AG_ITEMS(&steps, uint64_t)[i];

        if (step > from_step) {
            break; /* of a run that was left */
        }
        if (saver->n_kept == saver->keep) {
            memmove(saver->kept, saver->kept + 1, --saver->n_kept * sizeof(step));
        }
        saver->kept[saver->n_kept++] = step;
    }
    ag_array_fini(&steps);
    return ag_agree(saver->net, &saver->idle, status, NULL);
}

static ag_status_t init_saver(ag_saver_t *saver, const ag_saver_opts_t *opts)
{
    ag_status_t status = check_opts(opts);

    if (status != AG_OK) {
        return status;
    }
    snprintf(saver->dir, sizeof(saver->dir), "%s", opts->dir);
    saver->keep = opts->keep == 0 ? DEFAULT_KEEP : opts->keep;
    saver->last_step = opts->from_step;
    saver->disk = (ag_disk_t){opts->fault, opts->fault_arg};
    saver->chore.is_stepped = opts->is_stepped;
    saver->manifest.spec_hash = strdup(opts->spec_hash);
    return saver->manifest.spec_hash != NULL ? AG_OK : ag_fail_nomem("writing checkpoints", 0);
}

ag_status_t ag_saver_create(ag_net_t *net, const ag_idle_t *idle, const ag_saver_opts_t *opts,
                            const ag_saved_tensor_t *tensors, size_t n_tensors,
                            ag_saver_t **saver_p)
{
    ag_saver_t *saver = calloc(1, sizeof(*saver));
    ag_array_t held = AG_ARRAY(ag_held_t);
    ag_idle_t none = {0};
    ag_status_t status = saver != NULL ? AG_OK : ag_fail_nomem("writing checkpoints", 0);

    if (saver != NULL) {
        saver->net = net;
        saver->idle = idle != NULL ? *idle : none;
        ag_manifest_init(&saver->manifest);
        status = init_saver(saver, opts);
        status =
            status == AG_OK ? ag_held_list(tensors, n_tensors, (uint32_t)net->rank, &held) : status;
    }
    status = ag_agree(net, idle, status, NULL);
    status = status == AG_OK ? share_out(saver, opts, tensors, &held) : status;
    status = status == AG_OK ? sweep_leftovers(saver, opts->from_step) : status;
    ag_array_fini(&held);
    if (status != AG_OK) {
        ag_saver_destroy(saver);
        return status;
    }
    *saver_p = saver;
    return AG_OK;
}

void ag_saver_destroy(ag_saver_t *saver)
{
    if (saver == NULL) {
        return;
    }
    ag_chore_cancel(&saver->chore);
    if (saver->phase == AG_SAVE_WRITING) {
        ag_writer_discard(&saver->writer);
    }
    for (int i = 0; i < saver->n_peers && saver->peers != NULL; i++) {
        free(saver->peers[i].report);
    }
    free(saver->peers);
    if (saver->has_writer) {
        ag_writer_fini(&saver->writer);
    }
    ag_manifest_fini(&saver->manifest);
    free(saver);
}

uint64_t ag_saver_least_bytes(void)
{
    return AG_PIECE_BYTES + AG_DISK_BLOCK_BYTES;
}

uint64_t ag_saver_bytes(const ag_saver_t *saver)
{
    const ag_copies_t *copies = &saver->writer.copies;

    return ag_copies_have_room(copies) ? copies->bytes
                                       : copies->most_bytes + ag_saver_least_bytes();
}

uint64_t ag_saver_last_step(const ag_saver_t *saver)
{
    return saver->last_step;
}

void ag_saver_tell_last(const ag_saver_t *saver, char *text, size_t n_bytes)
{
    if (saver->last_step > 0) {
        snprintf(text, n_bytes, "the last complete checkpoint is of step %llu",
                 (unsigned long long)saver->last_step);
    } else {
        snprintf(text, n_bytes, "there is no complete checkpoint yet");
    }
}

void ag_saver_before_write(ag_saver_t *saver, const float *data, uint64_t n)
{
    if (saver != NULL) {
        ag_copies_before_write(&saver->writer.copies, data, n);
    }
}
