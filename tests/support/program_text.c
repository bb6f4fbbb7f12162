#include "program_text.h"

#include <stdlib.h>
#include <string.h>

char *program_text(const ag_program_t *program)
{
    char *text = NULL;
    size_t n_bytes;
    FILE *file = open_memstream(&text, &n_bytes);

    if (file == NULL) {
        abort();
    }
    ag_program_print_heading(program, file);
    for (uint32_t r = 0; r < program->n_ranks; r++) {
        ag_program_print_rank(program, r, file);
    }
    if (fclose(file) != 0) {
        abort();
    }
    return text;
}

ag_status_t program_from_text(const char *text, ag_program_t **program_p)
{
    return ag_program_parse(
        &(ag_program_text_t){.name = "text", .at = text, .end = text + strlen(text), .line = 1},
        program_p);
}
