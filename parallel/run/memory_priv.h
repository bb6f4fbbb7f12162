#pragma once

#include "parallel/run/job.h"

/** ag_job_kv_blocks() of any plan. */
uint64_t ag_memory_kv_blocks(const ag_plan_t *plan);

/* Each part of a rank's memory, in bytes. */
uint64_t ag_memory_kv(const ag_build_t *build, uint32_t rank);
uint64_t ag_memory_slot(const ag_programs_t *programs, uint32_t rank); /* activations of a step */
uint64_t ag_memory_thread_scratch(const ag_programs_t *programs, uint32_t rank);  /* of a thread */
size_t ag_memory_step_ints(const ag_plan_t *plan, const ag_programs_t *programs); /* not bytes */
uint64_t ag_memory_staging(const ag_programs_t *programs, uint32_t rank);
