/*
 * How long ranks work and wait, were messages nothing but waiting for each other: what a schedule
 * costs by itself, of these stages.
 */
#pragma once

#include "parallel/program/program.h"

typedef struct ag_rank_time {
    double busy_s; /* in segments */
    double end_s;  /* of its last operation */
} ag_rank_time_t;

/**
 * @param program  linked, and checked.
 * @param seconds  that a segment takes on a rank.
 * @param times    out: (ranks)
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: it does not run to its end.
 */
ag_status_t ag_program_time(const ag_program_t *program,
                            double (*seconds)(void *arg, uint32_t rank, const ag_op_t *op),
                            void *arg, ag_rank_time_t *times);
