/* What was met, and how often: a table that says what has to be. */
#pragma once

#include "case.h"
#include "comm/transfer.h"

typedef struct tally tally_t;

tally_t *tally_create(void);
void tally_destroy(tally_t *tally);

/** One more of what a row of the table is called. */
void tally_add(tally_t *tally, const char *name, uint64_t n);

/** All that a case's model, plan and programs have. */
ag_status_t tally_case(tally_t *tally, const cluster_case_t *c);

void tally_transfer(tally_t *tally, ag_collective_t collective, ag_algorithm_t algorithm);

/** @return how many rows were met less than `least` times, of those that must be. */
uint32_t tally_print(const tally_t *tally, uint64_t least, FILE *file);
