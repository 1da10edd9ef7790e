# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The system volume: what there is, what is to be done. For volume, _check, _drift and _reset."""
