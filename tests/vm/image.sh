#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the disk of a Debian 13 as clouds have it, unless it exists; prints the directory that has
# it (root.raw) and the kernel that boots it (vmlinuz, initrd).
#
#   image.sh CACHE_DIRECTORY
#
# Packages come from the Debian mirror that this host's apt is set to, through apt's proxy.
set -euo pipefail
umask 022

suite=trixie
packages=(
  linux-image-cloud-amd64 initramfs-tools systemd-sysv dbus openssh-server sudo python3
  cloud-init netplan.io systemd-resolved apparmor iproute2 nftables e2fsprogs ca-certificates
)

cache=${1:?usage: image.sh CACHE_DIRECTORY}
hash=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
image=$cache/$hash
mkdir -p "$cache"
exec 9>"$cache/image.lock"
flock 9
if [ ! -d "$image" ]; then
  rm -rf "$cache"/build.*
  build=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$build"' EXIT
  tree=$build/tree
  # shellcheck source=/dev/null
  host_suite=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt's own placeholders
  mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Identifier: Packages' 'Component: main' |
    awk -v suite="$host_suite" '$1 == suite { print $2; exit }')
  proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy="$proxy"
  unshare --mount --propagation private --pid --fork --kill-child \
    mmdebstrap --mode=root --variant=important --include="$(IFS=,; printf '%s' "${packages[*]}")" \
    "$suite" "$tree" ${mirror:+"$mirror"} >&2

  # As in Debian's own images for clouds: netplan writes for networkd, and nothing else is there.
  chroot "$tree" dpkg --purge ifupdown >&2
  systemctl --root="$tree" enable --quiet systemd-networkd.service systemd-resolved.service >&2
  ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"

  # Made by each machine for itself, by cloud-init and at its first boot.
  rm -f "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/dbus/machine-id"
  : >"$tree/etc/hostname"
  : >"$tree/etc/machine-id"
  echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$tree/etc/fstab"
  # The guest reaches no mirror.
  systemctl --root="$tree" mask --quiet apt-daily.timer apt-daily-upgrade.timer >&2

  cp "$tree"/boot/vmlinuz-* "$build/vmlinuz"
  cp "$tree"/boot/initrd.img-* "$build/initrd"
  mke2fs -q -t ext4 -L root -d "$tree" "$build/root.raw" 12G >&2
  rm -rf "$tree"
  sync --file-system "$build"
  mv "$build" "$image"
fi
printf '%s\n' "$image"
