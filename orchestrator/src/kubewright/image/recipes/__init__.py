# SPDX-License-Identifier: Apache-2.0
"""How a part is made: one module for each recipe that the catalogue names."""
