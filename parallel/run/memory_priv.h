#pragma once

#include "parallel/run/job.h"

/** ag_job_kv_blocks() of any plan. */
uint64_t ag_memory_kv_blocks(const ag_plan_t *plan);

/* Each part of a rank's memory, in bytes. */
uint64_t ag_memory_kv(const ag_build_t *build, uint32_t rank);
uint64_t ag_memory_moments(const ag_build_t *build, uint32_t rank);    /* training: the first */
uint64_t ag_memory_slot(const ag_programs_t *programs, uint32_t rank); /* activations of a step */
uint64_t ag_memory_thread_scratch(const ag_programs_t *programs, uint32_t rank);  /* of a thread */
size_t ag_memory_step_ints(const ag_plan_t *plan, const ag_programs_t *programs); /* not bytes */

/* Of messages: what collectives stage; where rows for experts may go by host, all counts of rows
 * of an exchange, and the numbers of all ranks in a slot. */
uint64_t ag_memory_staged(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank);
uint64_t ag_memory_staged_gradients(const ag_build_t *build, const ag_programs_t *programs,
                                    uint32_t rank);
uint64_t ag_memory_all_counts(const ag_programs_t *programs, uint32_t rank);
uint64_t ag_memory_numbers(const ag_programs_t *programs, uint32_t rank);

uint64_t ag_memory_messages(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                            bool staged);

/* Where bytes travel by way of the host: */
uint64_t ag_memory_device_steps(const ag_build_t *build, const ag_programs_t *programs);
uint64_t ag_memory_place(const ag_programs_t *programs, uint32_t rank, uint32_t stream);
uint64_t ag_memory_results(const ag_programs_t *programs, uint32_t rank);
uint64_t ag_memory_begins_ints(const ag_programs_t *programs); /* of half a step's rows */

/** Must the host know numbers of rows that stand in the first buffer of a segment? How many came
 * for the experts that are held here. */
static inline bool ag_op_reads_numbers(const ag_rank_program_t *rank, const ag_op_t *op)
{
    const ag_segment_t *segment = &AG_ITEMS(&rank->segments, ag_segment_t)[op->subject];
    uint32_t kind = AG_ITEMS(&segment->parts, ag_part_t)[0].kind;

    return kind == AG_PART_EXPERTS || kind == AG_PART_EXPERTS_B;
}

/** A buffer's bytes in a stream's place. */
static inline uint64_t ag_memory_placed(uint64_t bytes)
{
    return (bytes + AG_BUFFER_ALIGN_BYTES - 1) / AG_BUFFER_ALIGN_BYTES * AG_BUFFER_ALIGN_BYTES;
}
