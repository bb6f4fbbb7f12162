/* Is a case as it should be? */
#pragma once

#include "tally.h"

/* What was compared, over many cases. */
typedef struct figures {
    uint64_t n_cases, n_rows;
    uint64_t n_excused; /* rows whose likeliest token is another, and hardly likelier */
    double worst[2];    /* difference of logits over their bound, by compute mode */
    uint64_t worst_case[2];
} figures_t;

enum { COMPLAINT_BYTES = 2048 };

/**
 * Run a case on one rank, on its plan's, in another order, with a death, and a collective on as
 * many ranks.
 * @param folder     for the model's files.
 * @param complaint  out: what is wrong.
 * @return false where something is.
 */
bool check_case(uint64_t number, const char *folder, tally_t *tally, figures_t *figures,
                FILE *verbose, char complaint[COMPLAINT_BYTES]);

/** Were few enough rows excused? */
bool check_figures(const figures_t *figures, FILE *file);
