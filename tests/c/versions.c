/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* engine: one */
/* The library says the version that its header says, in each of its ways. */
#include "common.h"

int main(void)
{
	char text[64];
	CHECK_UEQ(SNAPSEND_VERSION,
		  SNAPSEND_VERSION_MAJOR << 16 | SNAPSEND_VERSION_MINOR << 8 | SNAPSEND_VERSION_PATCH);
	CHECK_UNE(SNAPSEND_VERSION, 0);
	CHECK_UEQ(snapsend_version(), SNAPSEND_VERSION);
	snprintf(text, sizeof text, "%u.%u.%u", (unsigned)SNAPSEND_VERSION_MAJOR, (unsigned)SNAPSEND_VERSION_MINOR,
		 (unsigned)SNAPSEND_VERSION_PATCH);
	const char *said = snapsend_version_string();
	CHECK(said != NULL);
	/* A suffix (1.2.3-dev) may follow. */
	CHECK(strncmp(said, text, strlen(text)) == 0 && strchr("-+", said[strlen(text)]) != NULL);
	CHECK(snapsend_version_string() == said); /* constant: nobody frees it */

	/* The macros are constants for the preprocessor. */
#if SNAPSEND_VERSION < 1 || SNAPSEND_VERSION_MAJOR > 255
	fail("macros");
#endif
	snapsend_t *ctx = create_ctx();
	struct snapsend_info info;
	CHECK_EQ(snapsend_get_info(ctx, &info, sizeof info), 0);
	CHECK_UEQ(info.version, SNAPSEND_VERSION);
	destroy_ctx(ctx);
	return 0;
}
