"""All 75 classes of attack, in order."""

from itertools import chain

import attacks_on_host_reader
import attacks_on_integrity
import attacks_on_kernel
import attacks_on_network
import attacks_on_resources
import attacks_on_secrets
import attacks_on_survival

GROUPS = {
    "resources": attacks_on_resources.ATTACKS,
    "survival": attacks_on_survival.ATTACKS,
    "secrets": attacks_on_secrets.ATTACKS,
    "network": attacks_on_network.ATTACKS,
    "kernel": attacks_on_kernel.ATTACKS,
    "host reader": attacks_on_host_reader.ATTACKS,
    "integrity": attacks_on_integrity.ATTACKS,
}
ATTACKS = tuple(chain.from_iterable(GROUPS.values()))
