/*
 * The checker: proves that a program runs to its end on every timing and that what it computes does
 * not depend on it. What is wrong is told in lines of the program.
 */
#pragma once

#include "parallel/program/program.h"

typedef enum ag_check_stage {
    AG_CHECK_EXPANDED,  /* every part of the model once, in order; what several replicas do together
                           each does equally often */
    AG_CHECK_SUMMED,    /* and: partial sums are summed before they are read, and once */
    AG_CHECK_EXCHANGED, /* and: every buffer is written before it is read, each rank's rows of one
                           come to all before any reads them */
    AG_CHECK_LINKED,    /* and: no deadlock, ranks agree, uses of a buffer are ordered */
    AG_CHECK_PLACED,    /* and: buffers that share bytes are never in use together */
} ag_check_stage_t;

/**
 * @param plan      what must be computed where.
 * @param after     names the pass in the error.
 * @return AG_OK, AG_ERR_INVALID with the lines at fault.
 */
ag_status_t ag_program_check(const ag_program_t *program, const ag_plan_t *plan,
                             ag_check_stage_t stage, const char *after);
