#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# QEMU runs this with the name of the interface that it has made.
exec ip link set "$1" master kwvm0 up
