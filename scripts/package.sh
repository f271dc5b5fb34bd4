# What the scripts share that make Debian packages of services. Sourced after lib.sh
# and release.sh, by a script that says what is in the package:
#
#   name          the program, the package, the unit and the user
#   packaging     where its files are
#   documents     pages of docs/, an array
#   examples      files of $packaging, an array
#   description   as Debian has it
# shellcheck shell=bash disable=SC2154

maintainer='The Twinlock authors <maintainers@example.org>'
binary=
folder=$root/target/packages

main() {
    arguments "$@"
    need_packages binutils dpkg_dev venv
    set_source_date
    [ -n "$binary" ] || build_service "$name"
    version=$(workspace_version)
    architecture=$(elf_architecture "$binary")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tree=$work/tree
    fill_tree
    fill_control
    build_package
}

arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --binary) binary=$(realpath -- "${2:?--binary needs a file}") && shift ;;
            -*) sed -n '4,8s/^# \{0,1\}//p' "$0" && exit 2 ;;
            *) folder=$1 ;;
        esac
        shift
    done
}

fill_tree() {
    local doc=usr/share/doc/$name file
    put 755 "$binary" "usr/bin/$name"
    strip --strip-unneeded --remove-section=.comment "$tree/usr/bin/$name"
    put 644 "$packaging/$name.service" "usr/lib/systemd/system/$name.service"
    put 644 "$packaging/sysusers.conf" "usr/lib/sysusers.d/$name.conf"
    put 644 "$packaging/tmpfiles.conf" "usr/lib/tmpfiles.d/$name.conf"
    put 644 "$packaging/config.toml" "etc/$name/config.toml"
    put 644 "$packaging/logrotate.conf" "etc/logrotate.d/$name"
    for file in "${documents[@]}"; do
        put 644 "$root/docs/$file" "$doc/$file"
    done
    for file in "${examples[@]}"; do
        put 644 "$packaging/$file" "$doc/examples/$file"
    done
    put 644 "$packaging/debian/lintian-overrides" "usr/share/lintian/overrides/$name"
    "$root/scripts/sbom" --package "$name" >"$work/sbom.cdx.json"
    put 644 "$work/sbom.cdx.json" "$doc/sbom.cdx.json"
    "$root/scripts/sbom" --package "$name" --notices >"$work/notices"
    put_gzipped "$work/notices" "$doc/third-party-licenses.txt.gz"
    changelog >"$work/changelog"
    put_gzipped "$work/changelog" "$doc/changelog.gz"
    put_gzipped "$root/CHANGELOG.md" "$doc/CHANGELOG.md.gz"
    put_gzipped "$packaging/$name.8" "usr/share/man/man8/$name.8.gz"
    copyright >"$work/copyright"
    put 644 "$work/copyright" "$doc/copyright"
}

put() { install -D -m "$1" "$2" "$tree/$3"; }

put_gzipped() {
    gzip -9n <"$1" >"$work/gzipped"
    put 644 "$work/gzipped" "$2"
}

# In the form that Debian's tools read; people read CHANGELOG.md.
changelog() {
    printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' \
        "$name" "$version" "$maintainer" "$(date --utc --date="@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %T +0000')"
}

# With the text of the licence, as the format has it: indented, no empty lines.
copyright() {
    sed 's/^$/./; s/^/ /' "$root/LICENSE-MIT" >"$work/mit"
    sed -e "/^@MIT@$/{r $work/mit" -e 'd}' "$packaging/debian/copyright"
}

fill_control() {
    local script
    mkdir -m 755 "$tree/DEBIAN"
    for script in postinst prerm postrm; do
        put 755 "$packaging/debian/$script" DEBIAN/$script
    done
    printf '/%s\n' "etc/logrotate.d/$name" "etc/$name/config.toml" >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find etc usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    control >"$tree/DEBIAN/control"
}

control() {
    cat <<END
Package: $name
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Depends: $(libraries), systemd
Section: net
Priority: optional
Homepage: https://example.org/twinlock/twinlock
Description: $description
END
}

# The packages of the shared libraries that it is linked with.
libraries() {
    mkdir -p "$work/debian"
    printf 'Source: twinlock\n\nPackage: %s\nArchitecture: any\n' "$name" >"$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O -e"$tree/usr/bin/$name" 2>"$work/log") | sed -n 's/^shlibs:Depends=//p' |
        grep . || { cat "$work/log" >&2 && give_up "dpkg-shlibdeps found no libraries of $binary"; }
}

# Threads change how xz cuts its blocks.
build_package() {
    chmod 644 "$tree"/DEBIAN/{conffiles,control,md5sums}
    mkdir -p "$folder"
    local file
    file=$folder/${name}_${version}_$architecture.deb
    find "$tree" -print0 | xargs -0 touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
    DPKG_DEB_THREADS_MAX=1 dpkg-deb --root-owner-group -Zxz --build "$tree" "$file" >/dev/null
    echo "$file"
}
