# What the scripts share that make packages and images. Sourced after lib.sh.
# shellcheck shell=bash

# The same commit makes the same package.
set_source_date() {
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null)} ||
        give_up "there is no commit to take the time from: set SOURCE_DATE_EPOCH"
    export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
    umask 022
}

# build_service NAME: sets $binary to the program as users get it.
build_service() {
    need_packages c_compiler
    need_rust
    (cd "$root" && cargo build --release --locked --package "$1") >&2
    # shellcheck disable=SC2034 # for the scripts that source this one
    binary=$(realpath -- "${CARGO_TARGET_DIR:-$root/target}")/release/$1
}

workspace_version() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"
}

# What Debian calls the architecture that a program is for.
elf_architecture() {
    case $(od -An -tx1 -N20 -- "$1" | tr -d ' \n') in
        7f454c46*3e00) echo amd64 ;;
        7f454c46*b700) echo arm64 ;;
        *) give_up "$1 is no program for Linux on amd64 or arm64" ;;
    esac
}
