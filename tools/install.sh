#!/usr/bin/env bash
# Brings what the project needs onto a Debian 12: packages, a Python environment in .venv, and the
# collection linked into it. Does nothing where all of that is there already.
#
#   tools/install.sh       what all targets of make need
#   tools/install.sh vm    what `make vm` needs besides: virtual machines
set -euo pipefail
cd "$(dirname "$0")/.."

# Building images: a C compiler, seccomp's headers, squashfs, skopeo for registries (tests start one). Machines on this host: podman and its network, debootstrap.
packages=(
    python3-venv gcc libc6-dev libseccomp-dev squashfs-tools zstd jq openssh-client e2fsprogs
    podman runc containerd netavark aardvark-dns containernetworking-plugins iptables nftables
    debootstrap dpkg-dev shellcheck libfaketime skopeo docker-registry
)
vm_packages=(qemu-system-x86 qemu-utils mmdebstrap debian-archive-keyring xorriso nftables iproute2)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

phase() {
    printf '%s %4ds  %s\n' "$(date +%H:%M:%S)" "$((SECONDS - started))" "$1" >&2
}

install_packages() { # PACKAGE...
    local missing=() package
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    started=$SECONDS
    # The package's own service would listen on all addresses; masked, it is not started.
    case " ${missing[*]} " in *" docker-registry "*)
        [ -L /etc/systemd/system/docker-registry.service ] ||
            as_root ln -s /dev/null /etc/systemd/system/docker-registry.service ;;
    esac
    as_root apt-get update --quiet=2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >&2
    phase "packages installed: ${missing[*]}"
}

# Prints where uv is: in the cache, for all checkouts, complete or not there.
installed_uv() {
    local cache="${KUBEWRIGHT_CACHE_DIR:-$HOME/.cache/kubewright}/uv"
    if [ ! -x "$cache/bin/uv" ]; then
        local new
        mkdir -p "$(dirname "$cache")"
        new=$(mktemp -d "$cache.XXXXXX")
        .venv/bin/pip install --quiet --target "$new" uv >&2
        mv --no-target-directory "$new" "$cache" 2>/dev/null || rm -rf "$new"
    fi
    echo "$cache/bin/uv"
}

install_environment() {
    local wanted
    wanted=$(sha256sum orchestrator/pyproject.toml tools/install.sh | sha256sum | cut -d' ' -f1)
    [ "$(cat .venv/installed 2>/dev/null || true)" != "$wanted" ] || return 0
    started=$SECONDS
    python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
    [ -x .venv/bin/python ] || python3 -m venv .venv
    # Some versions of hatchling copy the collection into an editable environment too: pip must not
    # write through our link, and the link takes the copy's place.
    local collection=.venv/share/kubewright/ansible_collections/kubewright/cluster
    [ ! -L "$collection" ] || rm "$collection"
    # uv takes seconds where pip takes two minutes. It does not read pip's index from pip's variable.
    [ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
    local uv packages
    uv=$(installed_uv)
    ln -sf "$uv" .venv/bin/uv
    packages=(pip install --quiet --python .venv/bin/python --editable 'orchestrator[dev]')
    # What an earlier checkout has brought is taken as it is: without a network, too.
    "$uv" --offline "${packages[@]}" 2>/dev/null || "$uv" "${packages[@]}"
    rm -rf "$collection"
    mkdir -p "$(dirname "$collection")"
    ln -s "$PWD" "$collection"
    echo "$wanted" > .venv/installed
    phase "Python environment in .venv"
}

case ${1:-} in
    '')
        install_packages "${packages[@]}"
        install_environment ;;
    vm) install_packages "${vm_packages[@]}" ;;
    *) echo "usage: tools/install.sh [vm]" >&2; exit 2 ;;
esac
