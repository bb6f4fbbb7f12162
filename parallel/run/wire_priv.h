/*
 * Steps on their way along the ranks: rank 0 tells those of its own stage and the first rank of the
 * next stage, which tells those of its stage and goes on. Nothing blocks: a step goes with the
 * activations, while the ranks compute.
 */
#pragma once

#include "comm/net.h"
#include "parallel/plan/plan.h"
#include "runtime/kernel/step.h"

typedef struct ag_wire_head {
    uint64_t counts[AG_N_COUNTERS]; /* all zero: stop */
    uint32_t table_stride;
    uint32_t n_ints; /* of the arrays that follow */
    bool trains;     /* then there are targets, and this is the update */
    ag_update_t update;
} ag_wire_head_t;

/* A step, held as long as it is in flight. */
typedef struct ag_wire_slot {
    ag_wire_head_t head;
    int32_t *ints;           /* (n_ints) the step's arrays */
    ag_step_t step;          /* of these */
    ag_net_request_t *sends; /* (2 * n_children) */
    uint32_t n_sends;        /* not complete */
} ag_wire_slot_t;

typedef struct ag_wire {
    ag_net_t *net;
    int parent; /* whom steps come from; -1: rank 0 makes them */
    int *children;
    uint32_t n_children;
    ag_wire_slot_t *slots; /* (n_slots) step i in i mod n_slots */
    uint32_t n_slots;
    size_t n_ints; /* of a slot */
    uint64_t n_steps;
    enum { AG_WIRE_IDLE, AG_WIRE_HEAD, AG_WIRE_INTS } receiving;
    ag_net_request_t request;
} ag_wire_t;

/** Ints that a step of these bounds takes on the wire, at most. */
size_t ag_wire_ints(const ag_plan_t *plan, const uint64_t *bounds);

/** Bytes that ag_wire_init() takes on a rank. */
uint64_t ag_wire_bytes(const ag_plan_t *plan, uint32_t rank, size_t n_ints);

/** @param n_ints  of the largest step. */
ag_status_t ag_wire_init(ag_net_t *net, const ag_plan_t *plan, size_t n_ints, ag_wire_t *wire_p);
void ag_wire_fini(ag_wire_t *wire);

/** Blocks of the cache that a sequence of the step uses, at most. */
uint32_t ag_wire_blocks(const ag_step_t *step);

/** May the next step's slot be written to? AG_PENDING: what it holds is still being sent. */
ag_status_t ag_wire_is_free(ag_wire_t *wire);

/**
 * Rank 0: the next step, copied into its slot, which is free. Of block tables as much as is used.
 * @param step  that some class holds; NULL: there is none any more.
 */
ag_status_t ag_wire_post(ag_wire_t *wire, const ag_step_t *step);

/**
 * Other ranks: receive the next step into its slot, which is free, and send it on.
 * @param stop_p  out: there is none any more.
 * @return AG_OK: it has come; AG_PENDING; AG_ERR_PEER.
 */
ag_status_t ag_wire_poll(ag_wire_t *wire, bool *stop_p);

/** The step that came, or was posted, last; stays until its slot is written to again. */
const ag_step_t *ag_wire_step(const ag_wire_t *wire);

/** That step's arrays, in one piece. @param n_p  out: how many ints. */
const int32_t *ag_wire_step_ints(const ag_wire_t *wire, size_t *n_p);

/** Let a step's arrays be those of a copy of the ints that they are among. */
void ag_wire_move_step(ag_step_t *step, const int32_t *from, const int32_t *to);

/** Everything that was posted has been sent. */
ag_status_t ag_wire_is_sent(ag_wire_t *wire);
