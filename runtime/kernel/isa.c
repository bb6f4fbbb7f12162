#include "runtime/kernel/isa.h"

#include <string.h>

#include "runtime/kernel/isa_priv.h"

/* The best first. */
static const ag_isa_t *const isas[] = {
#if defined(__x86_64__)
    &ag_isa_avx512,
    &ag_isa_avx2,
#endif
    &ag_isa_base,
};

enum { N_ISAS = sizeof(isas) / sizeof(isas[0]) };

const ag_isa_t *ag_isa_best(void)
{
    int i = 0;

    while (!isas[i]->supported()) { /* base always is */
        i++;
    }
    return isas[i];
}

ag_status_t ag_isa_find(const char *name, const ag_isa_t **isa_p)
{
    for (int i = 0; i < N_ISAS; i++) {
        if (strcmp(isas[i]->name, name) != 0) {
            continue;
        }
        if (!isas[i]->supported()) {
            return ag_fail(AG_ERR_UNSUPPORTED, "this machine has no %s instructions; it can run %s",
                           name, ag_isa_best()->name);
        }
        *isa_p = isas[i];
        return AG_OK;
    }
#if defined(__x86_64__)
    return ag_fail(AG_ERR_INVALID, "no instruction set \"%s\" (known: avx512, avx2, base)", name);
#else
    return ag_fail(AG_ERR_INVALID, "no instruction set \"%s\" (known: base)", name);
#endif
}

const char *ag_isa_name(const ag_isa_t *isa)
{
    return isa->name;
}
