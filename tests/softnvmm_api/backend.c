/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Opens the library and tells how that went (test_backends.py).
 */
#include "vm.h"

TEST(init)
{
	int ret = nvmm_init();

	printf("%s %s\n", ret == 0 ? "0" : errno == EINVAL ? "EINVAL" : "?",
	    nvmm_soft_problem());
}
