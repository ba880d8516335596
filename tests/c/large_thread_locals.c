/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A host with large thread-local variables, which lie on every thread's stack: the ring thread has room beside
 * them. */
#include "data_common.h"

static _Thread_local volatile unsigned char large[4 * MIB];

int main(void)
{
	large[0] = 1;
	exercise_file_system("/tmp");
	return 0;
}
