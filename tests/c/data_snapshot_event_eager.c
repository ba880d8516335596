/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* SNAPSHOT with EAGER, which comes before the peer has read. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_EVENT, SNAPSEND_EAGER, true);
	return 0;
}
