/* What makes checkpoints (checkpoint_saver.c), and how one goes on (checkpoint_phases.c). */
#pragma once

#include "parallel/run/checkpoint_priv.h"

/* A rank to rank 0. */
typedef struct ag_save_report {
    int32_t status;
    uint32_t number; /* in its file's name */
    char error[AG_SAVE_ERROR_BYTES];
    uint64_t sums[]; /* of its pieces, in order */
} ag_save_report_t;

/* Rank 0 to the others. */
typedef struct ag_save_verdict {
    int32_t status;
    uint32_t n_kept;
    uint64_t kept[AG_MOST_KEPT]; /* steps */
    char error[AG_SAVE_ERROR_BYTES];
} ag_save_verdict_t;

typedef enum ag_save_phase {
    AG_SAVE_IDLE,
    AG_SAVE_WRITING,    /* this rank's chore writes its file */
    AG_SAVE_REPORTING,  /* rank 0: waits for the others' */
    AG_SAVE_COMPLETING, /* rank 0: its chore writes the manifest */
    AG_SAVE_TELLING,    /* rank 0 tells the verdict; the others wait for it */
} ag_save_phase_t;

/* Messages with one other rank: rank 0 has one for each, the others one, for rank 0. */
typedef struct ag_save_peer {
    int rank;
    ag_save_report_t *report;
    size_t report_bytes;
    ag_net_request_t report_request, verdict_request;
    bool report_pending, verdict_pending;
} ag_save_peer_t;

struct ag_saver {
    ag_net_t *net;
    ag_idle_t idle;
    ag_disk_t disk;
    char dir[AG_PATH_BYTES];
    uint32_t keep;
    uint64_t last_step;
    uint64_t kept[AG_MOST_KEPT]; /* (n_kept) steps of complete ones, in order; rank 0's matter */
    uint32_t n_kept;
    ag_manifest_t manifest;
    ag_writer_t writer;
    bool has_writer;
    ag_chore_t chore;
    ag_save_phase_t phase;
    ag_save_peer_t *peers; /* (n_peers) */
    int n_peers;
    ag_save_verdict_t verdict;
};

static inline ag_piece_t *ag_saver_pieces(ag_saver_t *saver)
{
    return saver->manifest.pieces.items;
}
