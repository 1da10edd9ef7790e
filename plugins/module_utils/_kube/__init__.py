# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Kubernetes on a node: API, Node, kubeadm, kubelet, etcd, pod network. For modules and _drift."""
