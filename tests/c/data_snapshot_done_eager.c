/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DONE is no earlier than the snapshot with EAGER either. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_DONE, SNAPSEND_EAGER, false);
	return 0;
}
