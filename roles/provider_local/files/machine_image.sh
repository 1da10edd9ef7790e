#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the image that local machines start from, unless it exists, and prints its name.
#
#   machine_image.sh CACHE_DIRECTORY
#
# The tag is a hash of this script and of machine/, so a change of either gives a new image.
# CACHE_DIRECTORY keeps the root file system (<hash>.tar) and Debian's packages (debs/): an image
# that podman lost is imported again in seconds, without a network.
# Packages come from the Debian mirror that this host's apt is set to, through apt's proxy.
set -euo pipefail
umask 022

suite=bookworm
packages=(
  systemd systemd-sysv dbus python3 libnss-myhostname netbase openssh-server ca-certificates
  iproute2 iptables nftables ipset conntrack ethtool socat kmod iputils-ping procps
  mount util-linux curl squashfs-tools e2fsprogs libseccomp2
)
# Units with nothing to do in a container, or that would only cost time at boot.
masked=(
  getty@tty1.service console-getty.service getty-static.service
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer
  e2scrub_all.timer e2scrub_reap.service systemd-firstboot.service
  dev-hugepages.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
  sys-fs-fuse-connections.mount systemd-remount-fs.service systemd-modules-load.service
  systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount # the kernel's, shared with the host
)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

content_hash() {
  (cd "$here" && {
    cat machine_image.sh
    find machine -type f | LC_ALL=C sort | while read -r file; do
      printf '%s\n' "$file"
      cat "$file"
    done
  }) | sha256sum | cut -c1-16
}

# The mirror of $suite in apt's configuration; nothing when this host is not of that suite.
apt_mirror() {
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Identifier: Packages' 'Component: main' \
    2>/dev/null | awk -v suite="$suite" '$1 == suite { print $2; exit }'
}

apt_proxy() {
  local proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
  printf '%s' "$proxy"
}

# Runs in its own mount and process namespaces: an interrupted build leaves no mount and no process.
build_tree() {
  local tree=$1 proxy
  proxy=$(apt_proxy)
  [ -z "$proxy" ] || export http_proxy="$proxy"
  mkdir -p "$cache/debs"
  # shellcheck disable=SC2046 # no mirror: no argument, debootstrap has a default
  unshare --mount --propagation private --pid --fork --kill-child \
    debootstrap --variant=minbase --cache-dir="$cache/debs" \
    --include="$(IFS=,; printf '%s' "${packages[*]}")" "$suite" "$tree" $(apt_mirror) >&2

  # Made by each machine for itself.
  rm -f "$tree"/etc/ssh/ssh_host_* "$tree"/var/lib/dbus/machine-id "$tree"/etc/resolv.conf \
    "$tree"/etc/hostname
  : >"$tree/etc/machine-id"
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* \
    "$tree"/usr/share/doc/* "$tree"/usr/share/man/* "$tree"/usr/share/locale/*
  # Most of these settings are the kernel's, shared with the host: not ours to change.
  rm -f "$tree"/etc/sysctl.d/* "$tree"/usr/lib/sysctl.d/* "$tree/etc/sysctl.conf"
  cp -r --no-preserve=mode "$here/machine/." "$tree/"
  chmod 0755 "$tree"/usr/local/sbin/*
  systemctl --root="$tree" mask "${masked[@]}" >&2
  systemctl --root="$tree" enable kubewright-machine-keys kubewright-machine-ready \
    kubewright-machine-network >&2
}

cache=${1:?usage: machine_image.sh CACHE_DIRECTORY}
hash=$(content_hash)
image=localhost/kubewright-machine:$hash
if podman image exists "$image"; then
  printf '%s\n' "$image"
  exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if ! podman image exists "$image"; then # another run may have made it meanwhile
  rm -rf "$cache"/build.* "$cache"/*.tar.new
  if [ ! -s "$cache/$hash.tar" ]; then
    tree=$(mktemp -d "$cache/build.XXXXXX")
    chmod 755 "$tree"
    build_tree "$tree"
    tar --create --numeric-owner --xattrs --directory "$tree" --file "$cache/$hash.tar.new" .
    sync "$cache/$hash.tar.new"
    mv "$cache/$hash.tar.new" "$cache/$hash.tar"
    rm -rf "$tree"
  fi
  podman import --change 'CMD ["/sbin/init"]' "$cache/$hash.tar" "$image" >&2
fi
printf '%s\n' "$image"
