#include "runtime/file/names_priv.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"

enum { FIRST_SLOTS = 64 };

struct ag_name_slot {
    const char *name; /* NULL: free */
    uint64_t hash;
    size_t index;
};

/* FNV-1a (Fowler, Noll, Vo), 64 bits. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    }
    return hash;
}

/* The slot that holds the name, or the free one where it belongs; some slot is always free. */
static struct ag_name_slot *slot_of(const ag_names_t *names, const char *name, uint64_t hash)
{
    size_t i = (size_t)hash & (names->n_slots - 1);

    while (names->slots[i].name != NULL &&
           (names->slots[i].hash != hash || strcmp(names->slots[i].name, name) != 0)) {
        i = (i + 1) & (names->n_slots - 1);
    }
    return &names->slots[i];
}

static ag_status_t grow(ag_names_t *names)
{
    ag_names_t larger = {.n_slots = names->n_slots == 0 ? FIRST_SLOTS : 2 * names->n_slots,
                         .n_names = names->n_names};

    larger.slots = calloc(larger.n_slots, sizeof(*larger.slots));
    if (larger.slots == NULL) {
        return ag_fail_nomem("a table of names", larger.n_slots * sizeof(*larger.slots));
    }
    for (size_t i = 0; i < names->n_slots; i++) {
        const struct ag_name_slot *slot = &names->slots[i];

        if (slot->name != NULL) {
            *slot_of(&larger, slot->name, slot->hash) = *slot;
        }
    }
    free(names->slots);
    *names = larger;
    return AG_OK;
}

ag_status_t ag_names_add(ag_names_t *names, const char *name, size_t index)
{
    uint64_t hash = hash_name(name);

    if (2 * (names->n_names + 1) > names->n_slots) {
        ag_status_t status = grow(names);

        if (status != AG_OK) {
            return status;
        }
    }
    *slot_of(names, name, hash) = (struct ag_name_slot){.name = name, .hash = hash, .index = index};
    names->n_names++;
    return AG_OK;
}

size_t ag_names_find(const ag_names_t *names, const char *name)
{
    const struct ag_name_slot *slot;

    if (names->n_slots == 0) {
        return AG_NAME_ABSENT;
    }
    slot = slot_of(names, name, hash_name(name));
    return slot->name == NULL ? AG_NAME_ABSENT : slot->index;
}

void ag_names_fini(ag_names_t *names)
{
    free(names->slots);
    *names = (ag_names_t){0};
}

bool ag_name_usable(const char *bytes, size_t n_bytes)
{
    if (n_bytes == 0 || n_bytes > AG_NAME_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        if ((unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7f) {
            return false;
        }
    }
    return ag_utf8_valid(bytes, n_bytes);
}
