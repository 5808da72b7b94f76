#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# One night: look at the kernel, run the suite, compare with the night before, keep the
# results, publish the report, say it in a dozen lines.  For cron(8); see docs/nightly.md.
#
# Exit status: 0 nothing got worse, 1 something did, 2 usage, 3 the suite could not
# be run, 4 it ran but could not be compared or published, 5 another one is at it.

usage() {
	cat >&2 <<'EOF'
usage: nightly.sh [-C PROJECT] [-r REPORTS] [-p PUBLISH] [-l LIBNVMM] [-k KEEP]
	[-n WORKERS] [-P PYTHON] [-- PYTEST'S ARGUMENTS]
  -C  the checkout; default: where this script is
  -r  where results are kept, for nightly runs only; default: PROJECT/nightly
  -p  where the report is copied to; default: nowhere
  -l  the libnvmm: a path, system or bundled; default: as for pytest
  -k  how many runs are kept with their records; default: 30
  -n  how many workers; default: auto
  -P  Python; default: PROJECT/.venv/bin/python where it is, else python3
EOF
	exit 2
}

project=$(dirname "$0")/.. reports= publish= library= keep=30 workers=auto python=
while getopts C:r:p:l:k:n:P: option "$@"; do
	case $option in
	C) project=$OPTARG ;;
	r) reports=$OPTARG ;;
	p) publish=$OPTARG ;;
	l) library=$OPTARG ;;
	k) keep=$OPTARG ;;
	n) workers=$OPTARG ;;
	P) python=$OPTARG ;;
	*) usage ;;
	esac
done
arguments=$OPTIND
case $keep in
'' | *[!0-9]* | 0 | 1) echo "nightly: -k: a number of runs, 2 or more" >&2; exit 2 ;;
esac

# Full paths, from where the caller is.
full() {
	case $1 in
	/* | '') printf '%s\n' "$1" ;;
	*) printf '%s\n' "$(pwd)/$1" ;;
	esac
}
publish=$(full "$publish")
reports=$(full "$reports")
case $library in */*) library=$(full "$library") ;; esac
case $python in */*) python=$(full "$python") ;; esac
script=$(full "$0")
[ -d "$project/cases" ] || { echo "nightly: $project: no checkout (cases/)" >&2; exit 2; }
project=$(cd "$project" && pwd) || exit 2
: "${reports:=$project/nightly}"
if [ -z "$python" ]; then
	python=python3
	[ -x "$project/.venv/bin/python" ] && python=$project/.venv/bin/python
fi
command -v "$python" >/dev/null 2>&1 || {
	echo "nightly: no Python ($python): -P" >&2
	exit 3
}
state=$reports/state
mkdir -p "$state" || exit 3

# The lock is the kernel's (flock), which drops it with the last process of the run: a host that
# went down leaves none behind.  Python takes it, and becomes this script again.
if [ "${NVMMCONF_NIGHTLY_LOCKED-}" != "$state" ]; then
	NVMMCONF_NIGHTLY_LOCKED=$state exec "$python" -c '
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
    print(f"nightly: another one is at it: process {owner} ({sys.argv[1]})", file=sys.stderr)
    sys.exit(5)
os.ftruncate(descriptor, 0)
os.write(descriptor, b"%d\n" % os.getpid())
os.set_inheritable(descriptor, True)
os.execv("/bin/sh", ["/bin/sh", *sys.argv[2:]])
' "$state/lock" "$script" "$@"
fi
unset NVMMCONF_NIGHTLY_LOCKED
shift $(expr $arguments - 1)
cd "$project" || exit 3

now=$(date -u +%Y%m%dT%H%M%SZ)
log=$state/$now.log
work=$state/work
rm -rf "$work"
mkdir "$work" || exit 3
trap 'rm -rf "$work"' EXIT
trap 'rm -f "$state/current"; exit 3' HUP INT TERM
nvmmconf() {
	"$python" -m nvmmconf.cli "$@"
}
field() { # a name and what it is
	printf '%-12s %s\n' "$1:" "$2"
}
indented() { # the first $1 lines, as long as a mail likes them
	sed -n "1,$1p" | cut -c 1-200 | sed 's/^/  /'
}
kernel=$(uname -s)' '$(uname -r)' '$(uname -m)
build=$(uname -v | tr -s ' \t\n' ' ' | cut -c 1-100 | sed 's/ *$//')
last=
last_kernel=
if [ -f "$state/last" ]; then
	{ read -r last; read -r last_kernel; } <"$state/last"
fi

# What the night before left, if it did not come to its end.
: >"$work/interrupted"
merged=
for controller in "$reports"/runs/*/controller.jsonl; do
	folder=$(dirname "$controller")
	[ -f "$controller" ] && [ ! -f "$folder/run.jsonl" ] && merged="$merged $(basename "$folder")"
done
if [ -n "$merged" ]; then
	nvmmconf report --reports "$reports" >"$work/merging" 2>&1
	for run in $merged; do
		if nvmmconf results show "$run" --reports "$reports" >"$work/shown" 2>"$work/why"; then
			inflight=$(awk '$2 == "crash" { print $1 }' "$work/shown" | tr '\n' ' ')
			missing=$(awk '$2 == "missing"' "$work/shown" | grep -c .)
			field interrupted "run $run; in ${inflight:-no case }and before $missing others"
		else
			field interrupted "run $run cannot be read: $(tail -n 1 "$work/why")"
		fi
	done >"$work/interrupted"
elif [ -f "$state/current" ]; then
	read -r begun <"$state/current"
	field interrupted "the one begun $begun, before its first case" >"$work/interrupted"
fi

say() { # the first line, then the summary's beginning
	echo "nvmmconf nightly: $1"
	field kernel "$kernel"
	field build "$build"
	[ -n "$last_kernel" ] && [ "$last_kernel" != "$kernel $build" ] &&
		field "last time" "$last_kernel"
	cut -c 1-300 "$work/interrupted"
}
could_not() { # why, a file whose end tells more, the exit status
	say "COULD NOT RUN: $1"
	tail -n 8 "$2" | indented 8
	field log "$log"
	rm -f "$state/current"
	exit "$3"
}

printf '%s, %s\n' "$now" "$kernel" >"$state/current"
set -- "$@" --nvmm-reports="$reports"
if [ -n "$library" ]; then
	set -- "$@" --nvmm-lib="$library"
	nvmmconf doctor --nvmm-lib "$library" >"$log" 2>&1
else
	nvmmconf doctor >"$log" 2>&1
fi || {
	# Each problem with what helps, which is indented below it.
	awk '/^PROBLEM/ { on = 1; print; next } !/^ / { on = 0 } on' "$log" >"$work/problems"
	[ -s "$work/problems" ] || cp "$log" "$work/problems"
	could_not "nvmmconf doctor finds a problem" "$work/problems" 3
}

# ---- the run ----------------------------------------------------------------
ls "$reports/runs" >"$work/before" 2>/dev/null
"$python" -m pytest -p no:cacheprovider -n "$workers" "$@" >>"$log" 2>&1 </dev/null
ended=$?
run=
for file in "$reports"/runs/*/run.jsonl; do
	name=$(basename "$(dirname "$file")")
	[ -f "$file" ] && ! grep -qxF "$name" "$work/before" && run=$name
done
case $ended in
0 | 1) [ -n "$run" ] || could_not "no run came of it" "$log" 3 ;;
*) could_not "pytest ended with $ended" "$log" 3 ;;
esac
printf '%s\n%s\n' "$run" "$kernel $build" >"$work/last" && mv "$work/last" "$state/last"
rm -f "$state/current"

# ---- beside the last one --------------------------------------------------------
status=0 what="nothing got worse"
: >"$work/compared"
if [ -z "$last" ]; then
	compared="the first run: nothing to compare with"
	what="the first run"
else
	nvmmconf compare "$last" "$run" --reports "$reports" >"$work/compared" 2>"$work/why"
	case $? in
	0) ;;
	1) status=1 what=REGRESSION ;;
	*) status=4 what="COULD NOT COMPARE" ; tail -n 1 "$work/why" >"$work/compared" ;;
	esac
	compared=$(tail -n 1 "$work/compared")
fi
nvmmconf results prune --keep "$keep" --reports "$reports" >>"$log" 2>&1

# ---- the report goes out ----------------------------------------------------------
published=
if [ -n "$publish" ]; then
	mark=.nvmmconf-nightly
	if [ -d "$publish" ] && [ ! -f "$publish/$mark" ] && [ -n "$(ls -A "$publish")" ]; then
		published="NOT published: $publish is not empty, and not from here"
	elif rm -rf "$publish.new" "$publish.old" && mkdir -p "$(dirname "$publish")" &&
	    cp -R "$reports/html" "$publish.new" && : >"$publish.new/$mark" &&
	    { [ ! -d "$publish" ] || mv "$publish" "$publish.old"; } &&
	    mv "$publish.new" "$publish"; then
		rm -rf "$publish.old"
		published=$publish/index.html
	else
		published="NOT published: it cannot be copied to $publish"
	fi
	case $published in NOT*) [ $status = 1 ] || status=4 ;; esac
fi
# A log a run that is kept.
ls "$state"/*.log | sort -r | tail -n +$(expr $keep + 1) | while IFS= read -r old; do
	rm -f "$old"
done

result=$(grep '^[0-9,]* cases on [0-9]* target' "$log" | tail -n 1)
case $published in NOT*) what="$what; the report is NOT published" ;; esac
say "$what"
field run "$run"
field result "$result"
field compared "$compared"
# change, case, was, is, message
awk '$1 == "regression" {
	head = $2 ": " $3 " -> " $4 ": "
	$1 = $2 = $3 = $4 = ""
	sub(/^ +/, "")
	print head $0
}' "$work/compared" >"$work/worse"
indented 5 <"$work/worse"
more=$(grep -c . "$work/worse")
[ "$more" -gt 5 ] && echo "  and $(expr $more - 5) more"
field report "${published:-$reports/html/index.html}"
field log "$log"
exit $status
