/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same with a header and a trailer around the range. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_DONE, 0, true);
	return 0;
}
