# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Units of systemd as a node should have them. For node_services, and whoever starts some."""
