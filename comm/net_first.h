/* The first ranks of a net as a net of their own. */
#pragma once

#include "comm/net.h"

/**
 * A view: peers and channels are the net's own, and so is the order of messages. While ranks work
 * on it they use the net itself among each other only between two uses of the view.
 * @param net      borrowed; must outlive the view.
 * @param n_ranks  at most the net's; this rank is below it.
 * @return AG_OK, AG_ERR_INVALID, AG_ERR_NOMEM.
 */
ag_status_t ag_net_first_create(ag_net_t *net, uint32_t n_ranks, ag_net_t **view_p);
