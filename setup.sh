#!/bin/sh
# Installs what this project needs on a Debian 12 machine: Debian packages, and Python packages
# into .venv. Says what it does, does only what is missing, starts and enables no service.
set -eu
cd "$(dirname "$0")"

# The lab: its kernel, its tools, and the real servers that run in it.
packages="user-mode-linux kmod mount util-linux iproute2 procps ipvsadm tcpdump systemd dbus
    nginx-light openbsd-inetd inetutils-telnetd telnet login keepalived ldirectord
    logrotate ca-certificates"
python=${PYTHON:-python3}

say() {
    echo "setup: $*"
}

fail() {
    say "$*" >&2
    exit 1
}

missing_packages() {
    command -v "$python" >/dev/null || echo python3
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    for package in $packages; do
        case $package in
        # The two exclude each other, and either does.
        inetutils-telnetd) alternatives='\(inetutils-telnetd\|telnetd-ssl\)' ;;
        *) alternatives=$package ;;
        esac
        echo "$installed" | grep -qx "$alternatives installed" || echo "$package"
    done
}

install_packages() {
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null; then
        as_root=sudo
    else
        fail "as root, run: apt-get install --no-install-recommends $*"
    fi
    # Packages start and enable their services through these programs, and here nothing may listen.
    stubs=$(mktemp -d)
    trap 'rm -rf "$stubs"' EXIT
    for program in invoke-rc.d update-rc.d deb-systemd-invoke deb-systemd-helper update-inetd; do
        printf '#!/bin/sh\nexit 0\n' >"$stubs/$program"
        chmod 755 "$stubs/$program"
    done
    chmod 755 "$stubs"
    say "reading the package lists"
    $as_root apt-get update -qq
    say "installing $*"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Path="$stubs:/usr/sbin:/usr/bin:/sbin:/bin" -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

if command -v dpkg-query >/dev/null; then
    # shellcheck disable=SC2086 # the list is words
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages telnetd-ssl 2>/dev/null || true)
    missing=$(missing_packages)
    # shellcheck disable=SC2086
    [ -z "$missing" ] || install_packages $missing
else
    say "this is no Debian: what the lab needs must be there already: $(echo $packages)"
fi

"$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed, and $python is $("$python" -V 2>&1); set PYTHON to another"

stamp=.venv/up-to-date
if [ ! -x .venv/bin/python ]; then
    say "making .venv"
    "$python" -m venv .venv
fi
if [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml constraints.txt setup.sh -newer "$stamp" 2>/dev/null)" ]; then
    say "installing lvsd and its Python packages into .venv"
    constraints=
    [ ! -e constraints.txt ] || constraints="-c constraints.txt"
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --disable-pip-version-check $constraints -e '.[dev]'
    touch "$stamp"
fi
say "ready"
