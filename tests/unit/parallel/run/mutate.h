/* Programs made wrong, for the tests of the checker. */
#pragma once

#include "parallel/program/program.h"

typedef enum fault {
    EDGE_DROPPED,     /* an operation no longer waits for another */
    OPS_SWAPPED,      /* two operations of a rank change places */
    BUFFER_SHRUNK,    /* fewer bytes than a step may need */
    OFFSET_SHIFTED,   /* a buffer lies elsewhere */
    MESSAGE_SIZE,     /* a message or a sum of another size or counter, its buffer with it or not */
    COLLECTIVE_ORDER, /* two collectives of a rank change places, or one is another group's */
    OP_LOST,
    OP_DOUBLED,
    HALF_CHANGED, /* an operation is of other rows */
    N_FAULTS,
} fault_t;

/**
 * Do one to the program; the same program, fault and seed give the same.
 * @return false where this program has nothing of the kind: it is as it was.
 */
bool mutate(ag_program_t *program, fault_t fault, uint64_t seed);
