/*
 * A checkpoint from its beginning to its end: each rank writes its file beside training; what it
 * wrote it reports to rank 0; when all have, rank 0 completes the checkpoint, and tells the others.
 * Messages are posted and tested: nobody waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "parallel/run/checkpoint_saver_priv.h"
#include "runtime/base/log.h"

static const long REST_NS = 200000;

/* ---- completing, on rank 0 ---- */

static void set_verdict(ag_saver_t *saver, ag_status_t status, const char *error)
{
    saver->verdict.status = status;
    snprintf(saver->verdict.error, sizeof(saver->verdict.error), "%s", error);
}

/* Files' names and pieces' checksums, of all ranks. */
static void fill_manifest(ag_saver_t *saver)
{
    ag_stored_file_t *files = saver->manifest.files.items;
    size_t own = 0;

    snprintf(files[0].name, sizeof(files[0].name), "%s", saver->writer.name);
    for (int i = 0; i < saver->n_peers; i++) {
        ag_rank_file((uint32_t)saver->peers[i].rank, saver->peers[i].report->number,
                     files[i + 1].name);
    }
    for (int i = -1; i < saver->n_peers; i++) {
        size_t n = 0;

        for (size_t p = 0; p < saver->manifest.pieces.n_items; p++) {
            if (ag_saver_pieces(saver)[p].file == (uint32_t)(i + 1)) {
                ag_saver_pieces(saver)[p].sum = i < 0 ? saver->writer.copies.pieces[own++].sum
                                                      : saver->peers[i].report->sums[n++];
            }
        }
    }
}

static ag_status_t write_aside(ag_saver_t *saver, const char *path, const char *text)
{
    ag_status_t status, closed = AG_OK;
    int fd;

    ag_disk_remove(&saver->disk, path);
    status = ag_disk_create(&saver->disk, path, 0, &fd);
    if (status != AG_OK) {
        return status;
    }
    status = ag_disk_write(&saver->disk, fd, path, text, strlen(text));
    status = status == AG_OK ? ag_disk_sync(&saver->disk, fd, path) : status;
    if (close(fd) != 0) {
        closed = ag_fail(AG_ERR_IO, "writing %s failed", path);
    }
    status = status == AG_OK ? closed : status;
    if (status != AG_OK) {
        ag_disk_remove(&saver->disk, path);
    }
    return status;
}

/* This step is the last of the kept ones; those beyond their number go. */
static void keep_step(ag_saver_t *saver)
{
    uint64_t step = saver->manifest.step;

    while (saver->n_kept > 0 && saver->kept[saver->n_kept - 1] >= step) {
        saver->n_kept--;
    }
    if (saver->n_kept == saver->keep) {
        memmove(saver->kept, saver->kept + 1, (saver->n_kept - 1) * sizeof(step));
        saver->n_kept--;
    }
    saver->kept[saver->n_kept++] = step;
    saver->verdict.n_kept = saver->n_kept;
    memcpy(saver->verdict.kept, saver->kept, sizeof(saver->kept));
}

/* An ag_chore_t's step: the checkpoint becomes complete by the rename. */
static ag_status_t complete(void *arg)
{
    ag_saver_t *saver = arg;
    char aside[AG_PATH_BYTES + 32], path[AG_PATH_BYTES + 32], *text = NULL;
    ag_status_t status;

    fill_manifest(saver);
    snprintf(path, sizeof(path), "%s/" AG_MANIFEST_NAME, saver->writer.folder);
    snprintf(aside, sizeof(aside), "%s/" AG_MANIFEST_NAME ".tmp", saver->writer.folder);
    status = ag_manifest_text(&saver->manifest, &text);
    status = status == AG_OK ? write_aside(saver, aside, text) : status;
    free(text);
    status = status == AG_OK ? ag_disk_sync_folder(&saver->disk, saver->writer.folder) : status;
    status = status == AG_OK ? ag_disk_sync_folder(&saver->disk, saver->dir) : status;
    if (status == AG_OK) {
        status = ag_disk_rename(&saver->disk, aside, path);
        if (status != AG_OK) {
            ag_disk_remove(&saver->disk, aside);
        }
    }
    if (status != AG_OK) {
        return status;
    }
    /* from here on it is complete, whatever follows */
    if (ag_disk_sync_folder(&saver->disk, saver->writer.folder) != AG_OK) {
        ag_log(AG_LOG_WARNING, "%s", ag_error());
    }
    keep_step(saver);
    ag_steps_sweep(&saver->disk, saver->dir, 0, saver->kept, saver->n_kept, saver->manifest.step,
                   saver->manifest.files.items, saver->manifest.files.n_items);
    return AG_OK;
}

/* ---- from phase to phase ---- */

ag_status_t ag_saver_begin(ag_saver_t *saver, uint64_t step, ag_json_t *state)
{
    char folder[AG_PATH_BYTES];
    ag_status_t status = AG_OK;

    if (saver->phase != AG_SAVE_IDLE || step > INT64_MAX) {
        ag_json_destroy(state);
        return ag_fail(AG_ERR_INVALID, "a checkpoint of step %llu cannot be begun: %s",
                       (unsigned long long)step,
                       step > INT64_MAX ? "there is no such step" : "another is under way");
    }
    ag_json_destroy(saver->manifest.state);
    saver->manifest.state = state != NULL ? state : ag_json_new_object();
    saver->manifest.step = step;
    saver->verdict = (ag_save_verdict_t){0};
    ag_step_folder(saver->dir, step, folder);
    ag_writer_begin(&saver->writer, folder);
    for (int i = 0; i < saver->n_peers && status == AG_OK; i++) {
        ag_save_peer_t *peer = &saver->peers[i];

        if (saver->net->rank == 0) {
            status = ag_net_post_recv(saver->net, peer->rank, AG_CHANNEL_SAVE, peer->report,
                                      peer->report_bytes, &peer->report_request);
            peer->report_pending = true;
        } else {
            status = ag_net_post_recv(saver->net, peer->rank, AG_CHANNEL_SAVE, &saver->verdict,
                                      sizeof(saver->verdict), &peer->verdict_request);
            peer->verdict_pending = true;
        }
    }
    saver->chore.step = ag_writer_step;
    saver->chore.arg = &saver->writer;
    status = status == AG_OK ? ag_chore_start(&saver->chore) : status;
    if (status != AG_OK) {
        ag_copies_give_up(&saver->writer.copies);
        return status;
    }
    saver->phase = AG_SAVE_WRITING;
    return AG_OK;
}

/* This rank's file is written, or it could not be. */
static ag_status_t report(ag_saver_t *saver, ag_status_t written)
{
    ag_save_report_t *own = saver->n_peers > 0 ? saver->peers[0].report : NULL;

    saver->phase = AG_SAVE_REPORTING;
    if (written != AG_OK && saver->n_peers > 0) {
        (void)ag_fail_context(written, "rank %d", saver->net->rank);
    }
    if (saver->net->rank == 0) {
        set_verdict(saver, written, written == AG_OK ? "" : ag_error());
        return AG_OK;
    }
    own->status = written;
    own->number = saver->writer.number;
    snprintf(own->error, sizeof(own->error), "%s", written == AG_OK ? "" : ag_error());
    for (size_t i = 0; i < saver->writer.copies.n_pieces; i++) {
        own->sums[i] = saver->writer.copies.pieces[i].sum;
    }
    saver->peers[0].report_pending = true;
    return ag_net_post_send(saver->net, 0, AG_CHANNEL_SAVE, own, saver->peers[0].report_bytes,
                            &saver->peers[0].report_request);
}

/* @param pending  of the peers: report_pending or verdict_pending. */
static ag_status_t test_one(ag_saver_t *saver, ag_net_request_t *request, bool *pending)
{
    ag_status_t status = *pending ? ag_net_test(saver->net, request) : AG_OK;

    *pending = status == AG_PENDING;
    return status;
}

static ag_status_t test_reports(ag_saver_t *saver)
{
    ag_status_t all = AG_OK;

    for (int i = 0; i < saver->n_peers; i++) {
        ag_status_t status =
            test_one(saver, &saver->peers[i].report_request, &saver->peers[i].report_pending);

        if (status < 0) {
            return status;
        }
        all = status == AG_PENDING ? status : all;
    }
    return all;
}

static ag_status_t test_verdicts(ag_saver_t *saver)
{
    ag_status_t all = AG_OK;

    for (int i = 0; i < saver->n_peers; i++) {
        ag_status_t status =
            test_one(saver, &saver->peers[i].verdict_request, &saver->peers[i].verdict_pending);

        if (status < 0) {
            return status;
        }
        all = status == AG_PENDING ? status : all;
    }
    return all;
}

/* Rank 0 has the verdict. */
static ag_status_t tell(ag_saver_t *saver)
{
    ag_status_t status = AG_OK;

    saver->phase = AG_SAVE_TELLING;
    for (int i = 0; i < saver->n_peers && status == AG_OK; i++) {
        ag_save_peer_t *peer = &saver->peers[i];

        status = ag_net_post_send(saver->net, peer->rank, AG_CHANNEL_SAVE, &saver->verdict,
                                  sizeof(saver->verdict), &peer->verdict_request);
        peer->verdict_pending = status == AG_OK;
    }
    return status;
}

/* All have reported: rank 0 completes it, or tells who failed; the others wait for that. */
static ag_status_t judge(ag_saver_t *saver)
{
    ag_save_verdict_t *verdict = &saver->verdict;

    if (saver->net->rank != 0) {
        saver->phase = AG_SAVE_TELLING;
        return AG_OK;
    }
    for (int i = 0; i < saver->n_peers && verdict->status == AG_OK; i++) {
        const ag_save_report_t *theirs = saver->peers[i].report;

        if (theirs->status != AG_OK) {
            verdict->status = theirs->status;
            snprintf(verdict->error, sizeof(verdict->error), "%s", theirs->error);
        }
    }
    if (verdict->status != AG_OK) {
        return tell(saver);
    }
    saver->chore.step = complete;
    saver->chore.arg = saver;
    saver->phase = AG_SAVE_COMPLETING;
    return ag_chore_start(&saver->chore);
}

/* All know the verdict. */
static ag_status_t conclude(ag_saver_t *saver)
{
    const ag_save_verdict_t *verdict = &saver->verdict;

    saver->phase = AG_SAVE_IDLE;
    if (verdict->status != AG_OK) {
        ag_writer_discard(&saver->writer);
        return ag_fail((ag_status_t)verdict->status, "%s", verdict->error);
    }
    saver->last_step = saver->manifest.step;
    if (saver->net->rank != 0) {
        ag_stored_file_t own = {.bytes = saver->writer.copies.file_bytes};

        memcpy(own.name, saver->writer.name, sizeof(own.name));
        ag_steps_sweep(&saver->disk, saver->dir, (uint32_t)saver->net->rank, verdict->kept,
                       verdict->n_kept, saver->manifest.step, &own, 1);
    }
    return AG_OK;
}

/* One phase further. @return AG_PENDING: not yet; AG_OK: it was left; else the net failed. */
static ag_status_t go_on(ag_saver_t *saver)
{
    ag_status_t status;

    switch (saver->phase) {
    case AG_SAVE_WRITING:
        status = ag_chore_test(&saver->chore);
        return status == AG_PENDING ? status : report(saver, status);
    case AG_SAVE_REPORTING:
        status = test_reports(saver);
        return status == AG_OK ? judge(saver) : status;
    case AG_SAVE_COMPLETING:
        status = ag_chore_test(&saver->chore);
        if (status == AG_PENDING) {
            return status;
        }
        set_verdict(saver, status, status == AG_OK ? "" : ag_error());
        return tell(saver);
    case AG_SAVE_TELLING:
        status = test_verdicts(saver);
        return status == AG_OK ? conclude(saver) : status;
    case AG_SAVE_IDLE:
        break;
    }
    return AG_OK;
}

ag_status_t ag_saver_test(ag_saver_t *saver)
{
    ag_status_t status = AG_OK;

    while (saver->phase != AG_SAVE_IDLE && status == AG_OK) {
        status = go_on(saver);
    }
    if (status < 0 && saver->phase != AG_SAVE_IDLE) { /* the net: nobody knows what became of it */
        ag_chore_cancel(&saver->chore);
        ag_copies_give_up(&saver->writer.copies);
        saver->phase = AG_SAVE_IDLE;
    }
    return status;
}

ag_status_t ag_saver_wait(ag_saver_t *saver)
{
    ag_status_t status;

    while ((status = ag_saver_test(saver)) == AG_PENDING) {
        if (saver->chore.is_under_way && saver->chore.is_stepped) {
            continue; /* there is work that only this rank does */
        }
        if (saver->idle.fn != NULL) {
            saver->idle.fn(saver->idle.arg);
        } else {
            nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
        }
    }
    return status;
}
