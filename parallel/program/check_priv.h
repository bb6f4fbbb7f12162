#pragma once

#include "parallel/program/check.h"
#include "parallel/program/order.h"

/** Groups have ranks that are there, each once, and a channel of their own. */
ag_status_t ag_check_groups(const ag_program_t *program);

/** A rank's numbers stand for what is there; the checks below rely on it, and on the groups'. */
ag_status_t ag_check_form(const ag_program_t *program, uint32_t rank);

/** What ranks of several replicas do together each of them does equally often; forms are sound. */
ag_status_t ag_check_replicas(const ag_program_t *program, const ag_plan_t *plan);

/* What a micro-batch of training goes through in a chunk. */
typedef struct ag_check_course {
    const ag_plan_t *plan;
    uint32_t chunk, stage;
    bool evaluates; /* forward alone */
    bool adds;      /* what a part of a layer makes is added by a part of its own */
} ag_check_course_t;

/** The parts of the model in their order. @param parts  ag_part_t, appended. */
ag_status_t ag_check_list_parts(const ag_check_course_t *course, ag_array_t *parts);

/** A training program's parts of the model, each micro-batch forward and back. */
ag_status_t ag_check_train_parts(const ag_program_t *program, const ag_plan_t *plan, uint32_t rank);

/** What a rank's buffers hold, whole, a part of a sum or a share, is what is read of them; forms
 * are sound. */
ag_status_t ag_check_contents(const ag_program_t *program, uint32_t rank, ag_check_stage_t stage);

/** Hand each part of a rank's segments over, in program order, until one is refused: it is out of
 * its turn. @return AG_OK; AG_ERR_INVALID with that line. */
ag_status_t ag_check_each_part(const ag_program_t *program, uint32_t rank,
                               bool (*take)(void *arg, const ag_op_t *op, const ag_part_t *part),
                               void *arg);

/** AG_ERR_INVALID: what, and the line at fault, an operation's or a buffer's. */
ag_status_t ag_check_fail_at(const ag_program_t *program, uint32_t rank, uint32_t op,
                             const char *what);
ag_status_t ag_check_fail_buffer(const ag_buffer_t *buffer, uint32_t rank, const char *what);

/** Run all ranks, rendezvous only: AG_ERR_INVALID with the lines that wait, or that disagree. */
ag_status_t ag_check_rendezvous(const ag_program_t *program);

/** Uses of one buffer are ordered; with placed, so are uses of buffers that share bytes. */
ag_status_t ag_check_memory(const ag_program_t *program, uint32_t rank, bool placed);
