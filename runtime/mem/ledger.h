/*
 * The ledger: every byte of weights, buffers and caches is an entry before it is taken. The plan,
 * --dry-run, the out-of-budget error and the metrics read it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct ag_ledger ag_ledger_t;

typedef struct ag_ledger_entry {
    char part[48]; /* "weights", "kv cache", … */
    uint64_t bytes;
} ag_ledger_entry_t;

/** @param budget_bytes  0 = no budget. */
ag_status_t ag_ledger_create(uint64_t budget_bytes, ag_ledger_t **ledger_p);
void ag_ledger_destroy(ag_ledger_t *ledger);

/**
 * Enter bytes under a part's name (entries of one name are summed).
 * @return AG_OK; AG_ERR_BUDGET names the budget, what was asked for and the three largest parts,
 * and leaves the ledger as it was; AG_ERR_NOMEM.
 */
ag_status_t ag_ledger_take(ag_ledger_t *ledger, const char *part, uint64_t bytes);

/** Undo a take. */
void ag_ledger_give(ag_ledger_t *ledger, const char *part, uint64_t bytes);

uint64_t ag_ledger_total(const ag_ledger_t *ledger);
uint64_t ag_ledger_budget(const ag_ledger_t *ledger);

/** The entries, largest first; valid until the next take or give. */
const ag_ledger_entry_t *ag_ledger_entries(const ag_ledger_t *ledger, size_t *n_entries_p);
