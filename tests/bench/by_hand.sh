#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bar: three control planes and two workers made with kubeadm, as a competent administrator's
# own script would, on the machines and from the system images that Kubewright uses.
#
#   tests/bench/by_hand.sh           make it, and remove it
#   tests/bench/by_hand.sh remove    remove what a killed one left
#
# Needs root and a host that `make up` has prepared: podman, the machine image, and the system images
# in $KUBEWRIGHT_CACHE_DIR (default ~/.cache/kubewright). Prints to stdout
#
#   phase <name> <seconds>       machines prepare init network control_planes workers ready
#   total <seconds>              from the first machine's creation to 5 nodes Ready and DNS available
#
# and everything else to stderr. Whatever happens, machines, volumes and the network are removed.
set -euo pipefail

cluster=kwhand
version=${KUBERNETES_VERSION:-1.37.2}
control_planes=("$cluster-1" "$cluster-2" "$cluster-3")
workers=("$cluster-4" "$cluster-5")
nodes=("${control_planes[@]}" "${workers[@]}")
api=api.$cluster.internal:7443
pod_cidr=10.244.0.0/16
subnet=10.87.0.0/24
gateway=10.87.0.1
leases=10.87.0.128/25 # where podman puts a machine before it takes its own address
token=abcdef.0123456789abcdef # of this cluster alone, which lives for two minutes
certificate_key=$(printf '%064d' 7)
ignored=SystemVerification,Swap,NumCPU,Mem,FileContent--proc-sys-net-bridge-bridge-nf-call-iptables

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${KUBEWRIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kubewright}
work=$(mktemp -d)

say() { printf '%s\n' "$*" >&2; }

now() { date +%s.%N; }

seconds_since() { awk -v now="$(now)" -v then="$1" 'BEGIN { printf "%.1f", now - then }'; }

phase() { # NAME COMMAND...: run it and print how long it took
  local name=$1 begun
  shift
  begun=$(now)
  say "== $name"
  "$@" >&2
  echo "phase $name $(seconds_since "$begun")"
}

remove_machines() {
  podman rm --force --ignore --time 0 "${nodes[@]}" >&2
  podman volume rm --force "${nodes[@]/%/-var}" >&2 || true # says so when there is none
  podman network rm --force "$cluster" >&2 || true
}

finish() {
  local status=$?
  trap - EXIT
  say "== remove"
  remove_machines
  rm -rf "$work"
  exit "$status"
}

on() { # NODE COMMAND...
  local node=$1
  shift
  podman exec "$node" "$@"
}

script() { # NODE [ARGUMENT...]: run the script on stdin there
  local node=$1
  shift
  podman exec -i "$node" bash -euo pipefail -s -- "$@"
}

kubectl() { # on the first node, by its administrator's credentials
  on "${nodes[0]}" /opt/kubewright/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"
}

on_all() { # FUNCTION NODE...: at once on all; each node's output with its name; fails if one fails
  local function=$1 node failed=0
  local -A pids=()
  shift
  for node in "$@"; do
    "$function" "$node" >"$work/$node.log" 2>&1 &
    pids[$node]=$!
  done
  for node in "$@"; do
    if ! wait "${pids[$node]}"; then
      failed=1
      say "$function failed on $node:"
      tail -n 30 "$work/$node.log" >&2
    fi
  done
  return "$failed"
}

address() { echo "10.87.0.1${1##*-}"; } # NODE: 10.87.0.11 and so on

image_of_role() { # ROLE: the path of the newest system image
  python3 - "$cache/images" "$version" "$1" <<'PYTHON'
import json, pathlib, sys

directory, version, role = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
index = json.loads((directory / "index.json").read_text())
entries = index["images"] if isinstance(index, dict) else index
found = [e for e in entries if e["kubernetes"] == version and e["role"] == role]
if not found:
    sys.exit(f"No system image of Kubernetes {version} for {role}. Make it: kubewright image build {version}")
newest = max(found, key=lambda e: (e["revision"], e["built_at"]))
print(directory / newest["file"])
PYTHON
}

create_machine() { # NODE
  podman --runtime runc run --detach --name "$1" --hostname "$1" --network "$cluster" \
    --privileged --systemd=false --cgroupns=private --no-hosts --stop-signal SIGRTMIN+3 \
    --dns "$gateway" --dns-search . --dns-opt timeout:1 --pids-limit -1 \
    --env container=podman --env KUBEWRIGHT_ADDRESS="$(address "$1")/24" \
    --env KUBEWRIGHT_GATEWAY="$gateway" --volume "$1-var:/var:exec,suid,dev" \
    --tmpfs /run:rw,exec,mode=755 --tmpfs /run/lock --tmpfs /tmp:rw,exec,mode=1777 \
    --ulimit nofile=20000:20000 --ulimit nproc=15000:15000 "$machine_image"
  for _ in $(seq 300); do
    case $(podman exec "$1" systemctl is-system-running 2>/dev/null || true) in
      running) return ;;
      degraded)
        podman exec "$1" systemctl --failed
        return 1
        ;;
    esac
    sleep 0.1
  done
  echo "systemd did not come up within 30 seconds"
  return 1
}

create_machines() {
  podman network create --internal --disable-dns --subnet "$subnet" --gateway "$gateway" \
    --ip-range "$leases" "$cluster"
  on_all create_machine "${nodes[@]}"
}

# Runtime, balancer and container images: nothing here waits for another node.
prepare_node() { # NODE
  local image=$worker_image servers='' node
  [[ " ${control_planes[*]} " != *" $1 "* ]] || image=$control_plane_image
  for node in "${control_planes[@]}"; do
    servers+="    server $node $(address "$node"):6443"$'\n'
  done
  podman exec -i "$1" sh -c 'cat >/var/lib/system.squashfs' <"$image"
  script "$1" "$servers" <"$work/prepare"
}

cat >"$work/prepare" <<'PREPARE'
mkdir -p /opt/kubewright /opt/cni/bin /etc/containerd /etc/balancer /etc/cni/net.d
for i in $(seq 0 63); do [ -b /dev/loop$i ] || mknod /dev/loop$i b 7 $i; done
mount -t squashfs -o loop,ro /var/lib/system.squashfs /opt/kubewright
sysctl -qw net.ipv4.ip_forward=1
echo '127.0.0.1 api.kwhand.internal' >>/etc/hosts

cat >/etc/containerd/config.toml <<'END'
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "registry.k8s.io/pause:3.10.2"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/opt/cni/bin", "/opt/kubewright/cni/bin"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "/opt/kubewright/bin/runc"
SystemdCgroup = false
END
cat >/etc/systemd/system/containerd.service <<'END'
[Service]
Type=notify
Environment=PATH=/opt/kubewright/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/opt/kubewright/bin/containerd
Delegate=yes
KillMode=process
Restart=always
LimitNOFILE=20000
END
cat >/etc/systemd/system/kubelet.service <<'END'
[Service]
Environment=PATH=/opt/kubewright/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/opt/kubewright/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/balancer.service <<'END'
[Service]
Type=notify
RootDirectory=/opt/kubewright/lb
MountAPIVFS=yes
BindReadOnlyPaths=/etc/balancer:/etc/haproxy
ExecStart=/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg
Restart=always
END
cat >/etc/balancer/haproxy.cfg <<END
defaults
    mode tcp
    option redispatch 1
    timeout connect 1s
    timeout check 1s
    timeout client 1h
    timeout server 1h
frontend api
    bind 127.0.0.1:7443
    default_backend control_plane
backend control_plane
    option httpchk GET /readyz
    default-server inter 500ms fall 2 check check-ssl verify none on-marked-down shutdown-sessions
$1
END
systemctl daemon-reload
systemctl --quiet enable kubelet
systemctl start containerd balancer
for archive in /opt/kubewright/images/*.tar; do
  /opt/kubewright/bin/ctr -n k8s.io images import --local "$archive" >/dev/null
done
PREPARE

initialise() {
  local first=${nodes[0]}
  script "$first" <<END
cat >/root/kubeadm.yaml <<'YAML'
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $token}]
certificateKey: "$certificate_key"
nodeRegistration:
  imagePullPolicy: Never
  ignorePreflightErrors: [${ignored//,/, }]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v$version
controlPlaneEndpoint: $api
encryptionAlgorithm: ECDSA-P256
networking: {podSubnet: $pod_cidr}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
oomScoreAdj: 0
conntrack: {maxPerCore: 0}
YAML
PATH=/opt/kubewright/bin:\$PATH timeout 240 kubeadm init --config /root/kubeadm.yaml --upload-certs
END
  ca_hash=$(on "$first" openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt |
    openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)
}

network() { # flannel, as its project's own manifest has it
  podman exec -i "${nodes[0]}" /opt/kubewright/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - <<END
apiVersion: v1
kind: Namespace
metadata:
  name: kube-flannel
  labels: {pod-security.kubernetes.io/enforce: privileged}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: flannel, namespace: kube-flannel}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get]}
  - {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{kind: ServiceAccount, name: flannel, namespace: kube-flannel}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: flannel, namespace: kube-flannel}
data:
  cni-conf.json: |
    {"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
      {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
      {"type": "portmap", "capabilities": {"portMappings": true}}]}
  net-conf.json: |
    {"Network": "$pod_cidr", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: flannel, namespace: kube-flannel}
spec:
  selector: {matchLabels: {app: flannel}}
  template:
    metadata: {labels: {app: flannel}}
    spec:
      hostNetwork: true
      serviceAccountName: flannel
      priorityClassName: system-node-critical
      tolerations: [{operator: Exists, effect: NoSchedule}]
      initContainers:
        - name: configure
          image: ghcr.io/flannel-io/flannel:v0.28.10
          command: [cp, -f, /etc/kube-flannel/cni-conf.json, /etc/cni/net.d/10-flannel.conflist]
          volumeMounts:
            - {name: cni, mountPath: /etc/cni/net.d}
            - {name: configuration, mountPath: /etc/kube-flannel}
      containers:
        - name: flannel
          image: ghcr.io/flannel-io/flannel:v0.28.10
          command: [/opt/bin/flanneld, --ip-masq, --kube-subnet-mgr]
          securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
          volumeMounts:
            - {name: run, mountPath: /run/flannel}
            - {name: configuration, mountPath: /etc/kube-flannel}
            - {name: xtables-lock, mountPath: /run/xtables.lock}
      volumes:
        - {name: run, hostPath: {path: /run/flannel}}
        - {name: cni, hostPath: {path: /etc/cni/net.d}}
        - {name: configuration, configMap: {name: flannel}}
        - {name: xtables-lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
END
}

join() { # NODE [FLAG...]
  local node=$1
  shift
  on "$node" env PATH=/opt/kubewright/bin:/usr/sbin:/usr/bin:/sbin:/bin timeout 240 \
    kubeadm join "$api" --token "$token" --discovery-token-ca-cert-hash "sha256:$ca_hash" \
    --ignore-preflight-errors "$ignored" "$@"
}

join_control_planes() { # one after another: etcd takes one learner at a time
  local node
  for node in "${control_planes[@]:1}"; do
    join "$node" --control-plane --certificate-key "$certificate_key"
  done
}

join_workers() { on_all join "${workers[@]}"; }

registered() { # within a minute: kubeadm join ends before its kubelet has made the Node
  for _ in $(seq 300); do
    [ "$(kubectl get nodes --no-headers | wc -l)" -lt ${#nodes[@]} ] || return 0
    sleep 0.2
  done
  echo "not all of ${nodes[*]} have registered within a minute"
  return 1
}

ready() {
  registered
  kubectl wait --for=condition=Ready node --all --timeout=180s
  kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=180s
  [ "$(kubectl get nodes --no-headers | grep -cw Ready)" -eq ${#nodes[@]} ]
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ "${1:-}" != remove ] || exit 0 # which removes

machine_image=$(bash "$repository/roles/provider_local/files/machine_image.sh" "$cache/machine")
control_plane_image=$(image_of_role control_plane)
worker_image=$(image_of_role worker)
say "== remove what an earlier run left"
remove_machines

started=$(now)
phase machines create_machines
phase prepare on_all prepare_node "${nodes[@]}"
phase init initialise
phase network network
phase control_planes join_control_planes
phase workers join_workers
phase ready ready
echo "total $(seconds_since "$started")"
kubectl get nodes -o wide >&2
