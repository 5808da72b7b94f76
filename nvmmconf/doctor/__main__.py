# SPDX-License-Identifier: BSD-2-Clause
"""`python -m nvmmconf.doctor`: the doctor where a package is missing that `nvmmconf` needs."""

import sys

from nvmmconf.doctor.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
