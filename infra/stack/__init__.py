"""The cloud side, described by one template and applied through API calls: see infra/provision.py."""
