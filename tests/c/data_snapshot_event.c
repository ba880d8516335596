/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Changed the moment SNAPSHOT comes, nothing of it arrives changed. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_EVENT, 0, false);
	return 0;
}
