#include "launch/cores.h"

void ag_cores_pick(const int *own, uint32_t n_own, uint32_t before, uint32_t n, int *cores)
{
    for (uint32_t i = 0; i < n; i++) {
        cores[i] = own[(before + i) % n_own];
    }
}
