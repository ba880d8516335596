/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Changed the moment DONE comes, nothing of it arrives changed; sendfile and splice are caught. */
#include "data_common.h"

int main(void)
{
	shot_matrix(WAY_DONE, 0, false);
	return 0;
}
