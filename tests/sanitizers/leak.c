/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Must be caught: memory that nobody has the address of at the end. */
#include <stdlib.h>

int main(void)
{
	char *volatile lost = malloc(1000);
	lost[0] = 1;
	lost = NULL;
	return lost != NULL;
}
