/*
 * The transfer lists of all ranks, interpreted on sets of contributions: no process, no net. Sends
 * wait for their receives. An element holds which element it is a sum of and how often each rank's
 * is in it.
 */
#pragma once

#include "collectives.h"

typedef struct lists_contents {
    uint64_t index;                      /* of the element brought */
    unsigned char times[AG_DRAWN_RANKS]; /* each rank's is in it */
    bool is_something;                   /* it was brought or written */
    bool is_unread;                      /* since it was written */
} lists_contents_t;

typedef struct lists_rank {
    ag_array_t transfers; /* may be changed before they are run */
    lists_contents_t *areas[AG_N_AREAS];
    uint64_t n[AG_N_AREAS]; /* elements */
    size_t at, phase_end;   /* the phase under way */
    size_t n_pending;       /* its messages */
} lists_rank_t;

typedef struct lists {
    const ag_drawn_t *drawn;
    lists_rank_t ranks[AG_DRAWN_RANKS];
    ag_array_t messages;                                 /* posted, and their other ends not yet */
    uint64_t far_messages, far_elements[AG_DRAWN_RANKS]; /* between hosts; by host, sent to others
                                                          */
} lists_t;

/** The lists of all ranks, as they are made. */
void lists_init(lists_t *lists, const ag_drawn_t *drawn);
void lists_fini(lists_t *lists);

/**
 * Run them to their ends.
 * @return NULL, or what is wrong: a transfer that touches what is not there, reads what nothing
 * wrote, overwrites what nothing read, races with another of its phase, adds what does not belong
 * together or is done for nothing; staging that is not used; messages that do not match; a
 * deadlock; a wrong result.
 */
const char *lists_run(lists_t *lists);
