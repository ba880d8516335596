/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* run: alone */
/* An idle context costs under 1 MiB of memory: servers of a thousand processes have a thousand of them. */
#include "common.h"

int main(void)
{
	enum { CONTEXTS = 48 };
	snapsend_t *contexts[CONTEXTS];
	destroy_ctx(create_ctx()); /* what is made once */
	long before = rss_kib();
	for (int i = 0; i < CONTEXTS; i++)
		contexts[i] = create_ctx();
	long each = (rss_kib() - before) / CONTEXTS;
	printf("%ld KiB each\n", each);
	CHECK_LT(each, 1024);
	for (int i = 0; i < CONTEXTS; i++)
		destroy_ctx(contexts[i]);
	return 0;
}
