#pragma once

#include "parallel/program/check.h"
#include "parallel/program/order.h"

/** Run all ranks, rendezvous only: AG_ERR_INVALID with the lines that wait, or that disagree. */
ag_status_t ag_check_rendezvous(const ag_program_t *program);

/** Uses of one buffer are ordered; with placed, so are uses of buffers that share bytes. */
ag_status_t ag_check_memory(const ag_program_t *program, uint32_t rank, bool placed);
