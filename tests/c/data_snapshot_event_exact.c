/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SNAPSHOT with EXACT, which comes before any byte goes out. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_EVENT, SNAPSEND_EXACT, false);
	return 0;
}
