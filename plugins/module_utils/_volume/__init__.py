# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The system volume: its state, and how to change it. For volume, _check, _drift and _reset."""
