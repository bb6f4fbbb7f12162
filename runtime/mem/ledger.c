#include "runtime/mem/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"

struct ag_ledger {
    uint64_t budget_bytes, total_bytes;
    ag_array_t entries; /* ag_ledger_entry_t, largest first */
};

ag_status_t ag_ledger_create(uint64_t budget_bytes, ag_ledger_t **ledger_p)
{
    ag_ledger_t *ledger = calloc(1, sizeof(*ledger));

    if (ledger == NULL) {
        return ag_fail_nomem("making a ledger", sizeof(*ledger));
    }
    ledger->budget_bytes = budget_bytes;
    ledger->entries = AG_ARRAY(ag_ledger_entry_t);
    *ledger_p = ledger;
    return AG_OK;
}

void ag_ledger_destroy(ag_ledger_t *ledger)
{
    if (ledger != NULL) {
        ag_array_fini(&ledger->entries);
        free(ledger);
    }
}

static int by_bytes(const void *a, const void *b)
{
    const ag_ledger_entry_t *x = a, *y = b;

    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return strcmp(x->part, y->part);
}

static void sort_entries(ag_ledger_t *ledger)
{
    if (ledger->entries.n_items > 1) {
        qsort(ledger->entries.items, ledger->entries.n_items, sizeof(ag_ledger_entry_t), by_bytes);
    }
}

static ag_ledger_entry_t *find_entry(const ag_ledger_t *ledger, const char *part)
{
    for (size_t i = 0; i < ledger->entries.n_items; i++) {
        ag_ledger_entry_t *entry = &AG_ITEMS(&ledger->entries, ag_ledger_entry_t)[i];

        if (strncmp(entry->part, part, sizeof(entry->part) - 1) == 0) { /* names are cut to fit */
            return entry;
        }
    }
    return NULL;
}

static ag_status_t fail_budget(const ag_ledger_t *ledger, const char *part, uint64_t bytes)
{
    char parts[256] = "";

    for (size_t i = 0; i < ledger->entries.n_items && i < 3; i++) {
        const ag_ledger_entry_t *entry = &AG_ITEMS(&ledger->entries, ag_ledger_entry_t)[i];
        size_t n_chars = strlen(parts);

        snprintf(parts + n_chars, sizeof(parts) - n_chars, "%s%s %.1f MiB", i > 0 ? ", " : "",
                 entry->part, (double)entry->bytes / 1048576.0);
    }
    return ag_fail(AG_ERR_BUDGET,
                   "%.1f MiB for %s go beyond the budget of %.1f MiB, of which are taken: %s",
                   (double)bytes / 1048576.0, part, (double)ledger->budget_bytes / 1048576.0,
                   parts[0] == '\0' ? "nothing" : parts);
}

ag_status_t ag_ledger_take(ag_ledger_t *ledger, const char *part, uint64_t bytes)
{
    ag_ledger_entry_t entry = {.bytes = bytes}, *known;
    ag_status_t status = AG_OK;

    if (bytes > UINT64_MAX - ledger->total_bytes ||
        (ledger->budget_bytes > 0 && ledger->total_bytes + bytes > ledger->budget_bytes)) {
        return fail_budget(ledger, part, bytes);
    }
    snprintf(entry.part, sizeof(entry.part), "%s", part);
    known = find_entry(ledger, entry.part);
    if (known != NULL) {
        known->bytes += bytes;
    } else {
        status = ag_array_append(&ledger->entries, &entry, 1);
    }
    if (status == AG_OK) {
        ledger->total_bytes += bytes;
        sort_entries(ledger);
    }
    return status;
}

void ag_ledger_give(ag_ledger_t *ledger, const char *part, uint64_t bytes)
{
    ag_ledger_entry_t *known = find_entry(ledger, part);

    if (known != NULL) {
        bytes = bytes < known->bytes ? bytes : known->bytes;
        known->bytes -= bytes;
        ledger->total_bytes -= bytes;
        sort_entries(ledger);
    }
}

uint64_t ag_ledger_total(const ag_ledger_t *ledger)
{
    return ledger->total_bytes;
}

uint64_t ag_ledger_budget(const ag_ledger_t *ledger)
{
    return ledger->budget_bytes;
}

const ag_ledger_entry_t *ag_ledger_entries(const ag_ledger_t *ledger, size_t *n_entries_p)
{
    *n_entries_p = ledger->entries.n_items;
    return AG_ITEMS(&ledger->entries, ag_ledger_entry_t);
}
