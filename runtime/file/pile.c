#include "runtime/file/pile_priv.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, OWN_CHUNK_BYTES = CHUNK_BYTES / 4 };

struct ag_pile_chunk {
    struct ag_pile_chunk *next;
    size_t used_bytes;
    size_t bytes;
    alignas(max_align_t) unsigned char data[];
};

/* A large item gets a chunk of its own, behind the head, so that the head goes on being filled. */
static ag_status_t add_chunk(ag_pile_t *pile, size_t n_bytes, struct ag_pile_chunk **chunk_p)
{
    bool own = n_bytes > OWN_CHUNK_BYTES;
    size_t bytes = own ? n_bytes : CHUNK_BYTES;
    struct ag_pile_chunk **link = own && pile->head != NULL ? &pile->head->next : &pile->head;
    struct ag_pile_chunk *chunk = malloc(sizeof(*chunk) + bytes);

    if (chunk == NULL) {
        return ag_fail_nomem(pile->path, sizeof(*chunk) + bytes);
    }
    *chunk = (struct ag_pile_chunk){.next = *link, .bytes = bytes};
    *link = chunk;
    *chunk_p = chunk;
    return AG_OK;
}

ag_status_t ag_pile_take(ag_pile_t *pile, size_t n_bytes, bool aligned, void *bytes_p)
{
    size_t align = aligned ? alignof(max_align_t) : 1;
    struct ag_pile_chunk *chunk = pile->head;
    size_t begin = chunk == NULL ? 0 : (chunk->used_bytes + align - 1) / align * align;
    unsigned char *bytes;

    if (n_bytes > pile->left_bytes) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: damaged: its header asks for more memory than any model's header needs",
                       pile->path);
    }
    if (chunk == NULL || begin > chunk->bytes || n_bytes > chunk->bytes - begin) {
        ag_status_t status = add_chunk(pile, n_bytes, &chunk);

        if (status != AG_OK) {
            return status;
        }
        begin = 0;
    }
    bytes = chunk->data + begin;
    chunk->used_bytes = begin + n_bytes;
    pile->left_bytes -= n_bytes;
    memcpy(bytes_p, &bytes, sizeof(bytes));
    return AG_OK;
}

ag_status_t ag_pile_text(ag_pile_t *pile, const char *bytes, size_t n_bytes, const char **text_p)
{
    char *text = NULL;
    ag_status_t status = ag_pile_take(pile, n_bytes + 1, false, &text);

    if (status != AG_OK) {
        return status;
    }
    memcpy(text, bytes, n_bytes);
    text[n_bytes] = '\0';
    *text_p = text;
    return AG_OK;
}

void ag_pile_fini(ag_pile_t *pile)
{
    while (pile->head != NULL) {
        struct ag_pile_chunk *next = pile->head->next;

        free(pile->head);
        pile->head = next;
    }
}
