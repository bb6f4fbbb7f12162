/* Many texts, looked for at once at a place: a node for each of their beginnings. */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

enum { AG_TRIE_NOTHING = 0xffffffffu };

typedef struct ag_trie_node {
    uint32_t value;      /* of the text that ends here, or AG_TRIE_NOTHING */
    uint32_t child;      /* the first of its children, which stand side by side in order of bytes */
    uint16_t n_children; /* 256 at most */
    unsigned char byte;  /* the last of its text */
} ag_trie_node_t;

typedef struct ag_trie {
    ag_array_t nodes; /* ag_trie_node_t; the first is the empty text; none: no text */
} ag_trie_t;

#define AG_TRIE ((ag_trie_t){.nodes = AG_ARRAY(ag_trie_node_t)})

typedef struct ag_trie_text {
    const char *bytes;
    size_t n_bytes; /* not 0 */
    uint32_t value; /* of texts that are alike the least counts */
} ag_trie_text_t;

/** @param texts  (n) are put in order. @return AG_OK, AG_ERR_NOMEM. */
ag_status_t ag_trie_build(ag_trie_t *trie, ag_trie_text_t *texts, size_t n);
void ag_trie_fini(ag_trie_t *trie);

/** From a node by a byte to the next; false: no text goes on so. */
static inline bool ag_trie_step(const ag_trie_t *trie, uint32_t *at, unsigned char byte)
{
    const ag_trie_node_t *nodes = AG_ITEMS(&trie->nodes, ag_trie_node_t);
    uint32_t low = nodes[*at].child, n = nodes[*at].n_children;

    while (n > 1) {
        uint32_t half = n / 2;

        low = nodes[low + half].byte <= byte ? low + half : low;
        n -= half;
    }
    *at = low;
    return n == 1 && nodes[low].byte == byte;
}

/** The longest text that stands at bytes. @return its length, 0: none. */
static inline size_t ag_trie_longest(const ag_trie_t *trie, const char *bytes, size_t n_bytes,
                                     uint32_t *value_p)
{
    uint32_t at = 0;
    size_t longest = 0;

    if (trie->nodes.n_items == 0) {
        return 0;
    }
    for (size_t i = 0; i < n_bytes && ag_trie_step(trie, &at, (unsigned char)bytes[i]); i++) {
        uint32_t value = AG_ITEMS(&trie->nodes, ag_trie_node_t)[at].value;

        if (value != AG_TRIE_NOTHING) {
            longest = i + 1;
            *value_p = value;
        }
    }
    return longest;
}
