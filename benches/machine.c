/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "machine.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

/* As /proc/cpuinfo has it; architectures other than x86 often say nothing there. */
static void find_model(char *model, size_t room)
{
	char line[256];
	FILE *info = fopen("/proc/cpuinfo", "re");

	snprintf(model, room, "unknown");
	while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
		char *value = strstr(line, ": ");

		if (strncmp(line, "model name", 10) != 0 || value == NULL)
			continue;
		value[strcspn(value, ",\n")] = '\0';
		snprintf(model, room, "%s", value + 2);
		break;
	}
	if (info != NULL)
		fclose(info);
}

const char *processor_name(void)
{
	static char name[160];
	char model[128];

	if (name[0] == '\0') {
		find_model(model, sizeof(model));
		snprintf(name, sizeof(name), "%ld x %s", sysconf(_SC_NPROCESSORS_ONLN), model);
	}
	return name;
}

const char *kernel_release(void)
{
	static struct utsname names;

	if (names.release[0] == '\0')
		uname(&names);
	return names.release;
}
