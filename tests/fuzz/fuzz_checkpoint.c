/*
 * Manifests of checkpoints. The checksum in the first line, which no fuzzer guesses, is put right
 * first; what is taken must lie in its files, be found again, and come back from its own text.
 */
#define _GNU_SOURCE /* memmem */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"

#include "parallel/run/checkpoint_priv.h"
#include "runtime/base/xxh64.h"

enum { SUM_CHARS = 16 };

static void mend_sum(char *text, size_t n_bytes)
{
    static const char key[] = "\"sum\": \"";
    char *line_end = memchr(text, '\n', n_bytes), *at, sum[SUM_CHARS + 1];

    if (line_end == NULL) {
        return;
    }
    at = memmem(text, (size_t)(line_end - text), key, sizeof(key) - 1);
    if (at != NULL && line_end - at > (ptrdiff_t)(sizeof(key) + SUM_CHARS)) {
        snprintf(sum, sizeof(sum), "%016" PRIx64,
                 ag_xxh64(line_end + 1, n_bytes - (size_t)(line_end + 1 - text)));
        memcpy(at + sizeof(key) - 1, sum, SUM_CHARS);
    }
}

static void use_tensor(const ag_manifest_t *manifest, size_t index)
{
    const ag_stored_tensor_t *tensor = &AG_ITEMS(&manifest->tensors, ag_stored_tensor_t)[index];
    ag_rect_t whole = {{0, tensor->rows}, {0, tensor->cols}};
    ag_array_t parts = AG_ARRAY(ag_piece_part_t);
    uint64_t n_floats = 0;

    if (ag_pieces_find(manifest, index, &whole, &parts) == AG_OK) {
        for (size_t i = 0; i < parts.n_items; i++) {
            const ag_piece_part_t *part = &AG_ITEMS(&parts, ag_piece_part_t)[i];
            const ag_piece_t *piece = &AG_ITEMS(&manifest->pieces, ag_piece_t)[part->piece];
            const ag_stored_file_t *file =
                &AG_ITEMS(&manifest->files, ag_stored_file_t)[piece->file];

            expect(piece->rect.rows.begin <= part->rect.rows.begin &&
                   part->rect.rows.end <= piece->rect.rows.end &&
                   piece->rect.cols.begin <= part->rect.cols.begin &&
                   part->rect.cols.end <= piece->rect.cols.end);
            expect(piece->offset_bytes + ag_rect_floats(&piece->rect) * sizeof(float) <=
                   file->bytes);
            n_floats += ag_rect_floats(&part->rect);
        }
        expect(n_floats == tensor->rows * tensor->cols);
    }
    ag_array_fini(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char *text = malloc(n_bytes + 1), *again, *last;
    ag_manifest_t manifest, back;

    expect(text != NULL);
    memcpy(text, bytes, n_bytes);
    mend_sum(text, n_bytes);
    if (ag_manifest_parse(text, n_bytes, "manifest", &manifest) == AG_OK) {
        for (size_t i = 0; i < manifest.tensors.n_items; i++) {
            use_tensor(&manifest, i);
        }
        expect(ag_manifest_text(&manifest, &again) == AG_OK);
        expect(ag_manifest_parse(again, strlen(again), "again", &back) == AG_OK);
        expect(ag_manifest_text(&back, &last) == AG_OK && strcmp(again, last) == 0);
        ag_manifest_fini(&back);
        ag_manifest_fini(&manifest);
        free(again);
        free(last);
    } else {
        for (const char *at = ag_error(); *at != '\0'; at++) {
            expect((unsigned char)*at >= ' ');
        }
    }
    free(text);
    return 0;
}
