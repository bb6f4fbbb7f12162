#include "runtime/text/trie_priv.h"

#include <stdlib.h>
#include <string.h>

/* Texts [begin, end) have the first `depth` bytes in common: those of a node. */
typedef struct range {
    uint32_t begin, end, depth;
} range_t;

static int compare(const void *a, const void *b)
{
    const ag_trie_text_t *x = a, *y = b;
    size_t n = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    int order = memcmp(x->bytes, y->bytes, n);

    if (order != 0) {
        return order;
    }
    return x->n_bytes != y->n_bytes ? (x->n_bytes > y->n_bytes ? 1 : -1)
                                    : (x->value > y->value) - (x->value < y->value);
}

/* A child for each byte that follows. */
static ag_status_t add_children(ag_trie_t *trie, ag_array_t *ranges, size_t parent,
                                const ag_trie_text_t *texts)
{
    range_t range = AG_ITEMS(ranges, range_t)[parent];
    uint32_t at = range.begin;
    ag_status_t status = AG_OK;

    if (texts[at].n_bytes == range.depth) {
        AG_ITEMS(&trie->nodes, ag_trie_node_t)[parent].value = texts[at].value;
    }
    while (at < range.end && texts[at].n_bytes == range.depth) {
        at++;
    }
    AG_ITEMS(&trie->nodes, ag_trie_node_t)[parent].child = (uint32_t)trie->nodes.n_items;
    while (at < range.end && status == AG_OK) {
        unsigned char byte = (unsigned char)texts[at].bytes[range.depth];
        ag_trie_node_t node = {.value = AG_TRIE_NOTHING, .byte = byte};
        range_t child = {.begin = at, .depth = range.depth + 1};

        while (at < range.end && (unsigned char)texts[at].bytes[range.depth] == byte) {
            at++;
        }
        child.end = at;
        status = ag_array_append(&trie->nodes, &node, 1);
        if (status == AG_OK) {
            AG_ITEMS(&trie->nodes, ag_trie_node_t)[parent].n_children++;
            status = ag_array_append(ranges, &child, 1);
        }
    }
    return status;
}

ag_status_t ag_trie_build(ag_trie_t *trie, ag_trie_text_t *texts, size_t n)
{
    ag_array_t ranges = AG_ARRAY(range_t);
    ag_status_t status;

    if (n == 0) {
        return AG_OK;
    }
    qsort(texts, n, sizeof(*texts), compare);
    status = ag_array_append(&trie->nodes, &(ag_trie_node_t){.value = AG_TRIE_NOTHING}, 1);
    if (status == AG_OK) {
        status = ag_array_append(&ranges, &(range_t){.end = (uint32_t)n}, 1);
    }
    for (size_t parent = 0; parent < trie->nodes.n_items && status == AG_OK; parent++) {
        status = add_children(trie, &ranges, parent, texts);
    }
    ag_array_fini(&ranges);
    return status;
}

void ag_trie_fini(ag_trie_t *trie)
{
    ag_array_fini(&trie->nodes);
}
