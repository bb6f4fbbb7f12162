/* What each rank takes, held against what it may take; and where that is not enough, what would do.
 */
#pragma once

#include "launch/session.h"

enum { AG_TRACE_EVENTS = 1 << 18 }; /* of a rank; some hundred per token */

/** Events that a rank keeps: for --trace many, for the last step of a report some; else none. */
size_t ag_session_trace_events(const ag_session_t *session);

/** All of a rank's memory, the process and the tokenizer included. */
ag_memory_t ag_session_memory(const ag_session_t *session, uint32_t rank);

/** What a rank may take: what the plan says, else its share of what this machine leaves. */
uint64_t ag_session_budget(const ag_session_t *session, uint32_t rank);

/**
 * Hold a rank's memory against its budget.
 * @return AG_OK; AG_ERR_BUDGET: says the largest parts, and of the options those that would do,
 *         each tried with every rank.
 */
ag_status_t ag_session_check_budget(const ag_session_t *session, uint32_t rank);

/**
 * The same for every rank of the plan; one that was given no budget is not known here.
 * @return AG_OK, AG_ERR_BUDGET.
 */
ag_status_t ag_session_check_budgets(const ag_session_t *session);
