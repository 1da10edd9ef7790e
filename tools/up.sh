#!/usr/bin/env bash
# The cluster of cluster.yml on this machine, and how to use it.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/kubewright apply --yes

# kubectl of the cluster's own version, out of the system image.
image=$(.venv/bin/kubewright image list --output json | jq --raw-output '[.[] | select(.role == "control_plane")][0].path')
if [ "$(cat .venv/kubectl-from 2>/dev/null || true)" != "$image" ]; then
    unsquashfs -cat "$image" bin/kubectl > .venv/bin/kubectl.new
    chmod 0755 .venv/bin/kubectl.new
    mv .venv/bin/kubectl.new .venv/bin/kubectl
    echo "$image" > .venv/kubectl-from
fi
umask 077
.venv/bin/kubewright kubeconfig > .venv/kubeconfig

printf '\n$ kubectl get nodes\n'
.venv/bin/kubectl --kubeconfig .venv/kubeconfig get nodes --output wide
cat <<'TEXT'

Use it:      export KUBECONFIG=$PWD/.venv/kubeconfig PATH=$PWD/.venv/bin:$PATH
             kubectl get pods --all-namespaces
Look at it:  .venv/bin/kubewright status
Remove it:   make down
TEXT
