#include "comm/net.h"

void ag_net_close(ag_net_t *net)
{
    if (net != NULL) {
        net->ops->close(net);
    }
}
