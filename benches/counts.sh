#!/usr/bin/env bash
# Counts the instructions of the hot loops and compares them with counts.toml.
#
#   benches/counts.sh            prints the counts
#   benches/counts.sh --check    fails when one is more than the tolerance off
#   benches/counts.sh --update   writes the table
#
# A count is one round's: so many rounds and one more are counted, and their
# difference is left, without setup and start. `--check` also plants a
# regression, twice the rounds, and fails when that goes unnoticed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/../scripts/lib.sh"

table=$root/benches/counts.toml
measured=$(mktemp)
trap 'rm -f "$measured"' EXIT

main() {
    if [ "$(uname -m)" != x86_64 ]; then
        echo "counts.toml has counts for x86_64 only: nothing to compare here"
        return
    fi
    need_packages valgrind
    need_rust
    build
    case ${1-} in
        '') count_all && cat "$measured" ;;
        --check)
            count_all
            compare "$measured" || give_up "if the change is worth it: benches/counts.sh --update"
            check_planted_regression
            ;;
        --update) count_all && write_table ;;
        *) give_up "usage: benches/counts.sh [--check | --update]" ;;
    esac
}

build() {
    (cd "$root" && cargo build --quiet --release --locked -p twinlock-benches --bin hot_loop)
    hot_loop=${CARGO_TARGET_DIR:-$root/target}/release/hot_loop
}

# Of all cases, the counts of one round.
count_all() {
    local cases
    mapfile -t cases < <("$hot_loop")
    count_each 1 "${cases[@]}"
}

# count_each ROUNDS CASE...: writes "case = instructions" lines.
count_each() {
    local rounds=$1 case
    shift
    for case in "$@"; do
        echo "$case = $(($(count "$case" $((rounds + 1))) - $(count "$case" 1)))"
    done >"$measured"
}

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$hot_loop" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}

# compare FILE: a line for each case, and failure if one is off.
compare() {
    awk -F' *= *' '
        NR == FNR && $1 == "tolerance_percent" { tolerance = $2 }
        NR == FNR { expected[$1] = $2; next }
        !($1 in expected) { print $1 " is not in the table"; failed = 1; next }
        {
            off = 100 * ($2 / expected[$1] - 1)
            seen[$1] = 1
            verdict = off > tolerance || off < -tolerance ? "OFF" : "ok"
            if (verdict == "OFF") failed = 1
            printf "%-24s %12d %+7.2f %%  %s\n", $1, $2, off, verdict
        }
        END { exit failed }
    ' "$table" "$1"
}

check_planted_regression() {
    count_each 2 header-parse
    if compare "$measured" >/dev/null; then
        give_up "twice the work of header-parse went unnoticed: the guard is broken"
    fi
    echo "a planted regression is found"
}

write_table() {
    {
        sed '/^\[instructions\]/q' "$table"
        cat "$measured"
    } >"$table.new"
    mv "$table.new" "$table"
}

main "$@"
